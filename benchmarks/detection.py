"""What the network checks find, how small, and how often they cry wolf: writes docs/detection.md.

    python benchmarks/detection.py               # 100 clean runs, 5 of every fault and size: 4 minutes on 2 cores
    python benchmarks/detection.py --quick       # a tenth of it, printed and not written

Every run is 20 minutes of load in virtual time (tests/played.py): our own rows and look-ups, what the routes told, and
nothing of the simulator's truth. Seeds are 1, 2, 3, ...; none was chosen.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPO), str(REPO / "tests")]

from detected import BLIND, CASES, CLEAN_RUNS, FAULT_RUNS, Case  # noqa: E402
from played import DEFAULT, play  # noqa: E402

from loadtest.analysis.checks import check  # noqa: E402
from loadtest.analysis.evidence import Evidence  # noqa: E402
from loadtest.analysis.findings import ALPHA, Finding, holm  # noqa: E402

DOCUMENT = REPO / "docs" / "detection.md"


class Job(NamedTuple):
    """One run to play: a seed and its faults, with the plan of its case."""

    case: Case | None
    seed: int


class Result(NamedTuple):
    job: Job
    alone: list[Finding]
    corrected: list[Finding]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--fault", help="only this one, with all its findings printed")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    processes = arguments.processes
    part = 10 if arguments.quick or arguments.fault else 1
    cases = [case for case in CASES if arguments.fault in (None, case.fault)]
    clean_runs = 0 if arguments.fault else CLEAN_RUNS // part
    clean = run_all([Job(None, seed) for seed in range(1, clean_runs + 1)], processes)
    runs = max(1, FAULT_RUNS // part)
    faulty = run_all([Job(case, seed) for case in cases for seed in range(1, runs + 1)], processes)
    text = document(clean, faulty, cases)
    print(text)
    if arguments.fault:
        print_findings(faulty)
    elif not arguments.quick:
        DOCUMENT.write_text(text, encoding="utf-8")


def run_all(jobs: Sequence[Job], processes: int) -> list[Result]:
    with ProcessPoolExecutor(max_workers=processes) as pool:
        return list(pool.map(run, jobs))


def run(job: Job) -> Result:
    """Play one run and check it."""
    with tempfile.TemporaryDirectory() as folder:
        faults = () if job.case is None else job.case.switches
        plan = DEFAULT if job.case is None else job.case.plan
        play(Path(folder), job.seed, faults, plan)
        alone = check(Evidence.of(Path(folder)))
    return Result(job, alone, holm(alone))


def document(clean: Sequence[Result], faulty: Sequence[Result], cases: Sequence[Case]) -> str:
    plan = DEFAULT
    head = f"""# What the network checks find

Made by `python benchmarks/detection.py`; the figures change with it and with nothing else. Each run is
{plan.seconds / 60:g} minutes of load at {plan.rate_per_s:g} requests a second on the simulated network (scenario
`{plan.scenario}`, docs/simulator.md) in virtual time, polled every {plan.poll_s:g} s (nodes: {plan.node_poll_s:g} s),
every task looked up as the observer does it. The checks read the run folder and nothing of the simulator's truth. What
each of them compares, and with what: [checks.md](checks.md). A few faults are also found over HTTP
(`tests/e2e/test_findings_over_http.py`).
"""
    return "\n".join([head, *false_alarms(clean), *detection(faulty, cases), *blind()]) + "\n"


def false_alarms(clean: Sequence[Result]) -> list[str]:
    if not clean:
        return []
    checks = [finding.check for finding in clean[0].alone]
    lines = [
        "## False alarms",
        "",
        f"{len(clean)} clean runs, seeds 1 to {len(clean)}. *Alone* is each check at {100 * ALPHA:g} %; *reported* is "
        "what a report says, after Holm's correction for all checks of the run.",
        "",
        "| check | alone | reported | cannot tell |",
        "|:--|--:|--:|--:|",
    ]
    for place, name in enumerate(checks):
        alone = sum(result.alone[place].verdict == "found" for result in clean)
        reported = sum(result.corrected[place].verdict == "found" for result in clean)
        blind = sum(result.corrected[place].verdict == "cannot tell" for result in clean)
        lines.append(f"| {name} | {alone} | {reported} | {blind} |")
    anything = sum(any(f.verdict == "found" for f in result.corrected) for result in clean)
    return [*lines, "", f"Clean runs that report anything: **{anything} of {len(clean)}**.", ""]


def detection(faulty: Sequence[Result], cases: Sequence[Case]) -> list[str]:
    lines = [
        "## Faults that are found",
        "",
        "*Found* is in how many runs a check named in the fourth column reports it, after the correction. The last "
        "column: other checks that reported something, and in how many runs.",
        "",
        "| fault | size | found | by | also |",
        "|:--|:--|--:|:--|:--|",
    ]
    for case in cases:
        results = [result for result in faulty if result.job.case == case]
        reported = Counter(f.check for result in results for f in result.corrected if f.verdict == "found")
        hits = sum(any(f.verdict == "found" and f.check in case.checks for f in result.corrected) for result in results)
        by = ", ".join(f"{name} ({reported[name]})" for name in case.checks)
        also = ", ".join(f"{name} ({n})" for name, n in reported.most_common() if name not in case.checks)
        lines.append(f"| `{case.fault}` | {case.size} | {hits} of {len(results)} | {by} | {also} |")
    return [*lines, ""]


def blind() -> list[str]:
    """The faults that no check can find, those with one reason together."""
    by_reason: dict[str, list[str]] = {}
    for fault, why in BLIND.items():
        by_reason.setdefault(why, []).append(f"`{fault}`")
    lines = ["## Faults that cannot be seen, or not by these checks", ""]
    return [*lines, *(f"- {', '.join(faults)}: {why}." for why, faults in by_reason.items())]


def print_findings(results: Sequence[Result]) -> None:
    for result in results:
        print(f"\nseed {result.job.seed}, {result.job.case}")
        for f in result.corrected:
            print(f"  {f.check}: {f.verdict} (p {f.p_value}, corrected {f.p_holm}) {f.text}")
            for line in f.evidence:
                print(f"      {line}")


if __name__ == "__main__":
    main()
