"""What the network checks find, how small, and how often they cry wolf: writes docs/detection.md.

    python benchmarks/detection.py               # 300 clean runs, 20 of every fault and size: 25 minutes on 2 cores
    python benchmarks/detection.py --quick       # a tenth of it, printed and not written

Every run is some minutes of load in virtual time (tests/played.py): our own rows and look-ups, what the routes told,
and nothing of the simulator's truth. Seeds are 1, 2, 3, ...; none was chosen.
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

from detected import BLIND, CASES, CLEAN, CLEAN_RUNS, DEPENDABLE, FAULT_RUNS, Case, Clean  # noqa: E402
from played import DEFAULT, play  # noqa: E402

from loadtest.analysis.checks import check  # noqa: E402
from loadtest.analysis.evidence import Evidence  # noqa: E402
from loadtest.analysis.findings import ALPHA, Finding, holm  # noqa: E402

DOCUMENT = REPO / "docs" / "detection.md"


class Job(NamedTuple):
    """One run to play: a seed, and a fault with its plan or a plan without one."""

    of: Case | Clean
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
    runs, faulty_runs = CLEAN_RUNS // part, max(1, FAULT_RUNS // part)
    # A network draws from its seed: with the same seeds the three plans would have the same luck.
    jobs = [Job(plan, k * CLEAN_RUNS + seed) for k, plan in enumerate(CLEAN) for seed in range(1, runs + 1)]
    jobs = [] if arguments.fault else jobs
    jobs += [Job(case, seed) for case in cases for seed in range(1, faulty_runs + 1)]
    results = run_all(jobs, processes)
    clean = [result for result in results if isinstance(result.job.of, Clean)]
    faulty = [result for result in results if isinstance(result.job.of, Case)]
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
        faults = job.of.switches if isinstance(job.of, Case) else ()
        play(Path(folder), job.seed, faults, job.of.plan)
        alone = check(Evidence.of(Path(folder)))
    return Result(job, alone, holm(alone))


def document(clean: Sequence[Result], faulty: Sequence[Result], cases: Sequence[Case]) -> str:
    plan = DEFAULT
    head = f"""# What the network checks find

Made by `python benchmarks/detection.py`; the figures change with it and with nothing else. Each run is
{plan.seconds / 60:g} minutes of load at {plan.rate_per_s:g} requests a second on the simulated network (scenario
`{plan.scenario}`, docs/simulator.md) in virtual time, polled every {plan.poll_s:g} s (nodes: {plan.node_poll_s:g} s),
where nothing else is said; every task is looked up as the observer does it. The checks read the run folder and nothing
of the simulator's truth. What each of them compares, and with what: [checks.md](checks.md). A few faults are also found
over HTTP (`tests/e2e/test_findings_over_http.py`).
"""
    parts = [*false_alarms(clean), *p_values(clean), *detection(faulty, cases), *blind()]
    return "\n".join([head, *parts]) + "\n"


def false_alarms(clean: Sequence[Result]) -> list[str]:
    """How often each check speaks where nothing is wrong, by plan."""
    if not clean:
        return []
    by_plan = [[result for result in clean if result.job.of == plan] for plan in CLEAN]
    lines = [
        "## False alarms",
        "",
        "Runs without a fault, by three plans, so that each check has what it needs in one of them:",
        "",
        *(
            f"- *{plan.name}*, seeds {results[0].job.seed} to {results[-1].job.seed}: {plan.what}."
            for plan, results in zip(CLEAN, by_plan, strict=True)
        ),
        "",
        f"A cell is *alone / reported / told*: in how many runs the check alarms at {100 * ALPHA:g} %, in how many a "
        "report says so after Holm's correction for all checks of the run, and in how many it can tell at all. An "
        "account has no p-value, and is reported whenever it alarms.",
        "",
        f"| check | {' | '.join(plan.name for plan in CLEAN)} |",
        f"|:--|{'--:|' * len(CLEAN)}",
    ]
    for place, finding in enumerate(clean[0].alone):
        cells = [_cell(finding.check, place, results) for results in by_plan]
        lines.append(f"| {finding.check} | {' | '.join(cells)} |")
    told = []
    for plan, results in zip(CLEAN, by_plan, strict=True):
        speaks = [any(f.verdict == "found" and f.check not in plan.right for f in r.corrected) for r in results]
        told.append(f"*{plan.name}* **{sum(speaks)} of {len(results)}**")
    return [*lines, "", f"Clean runs that report anything that is not so: {', '.join(told)}.", ""]


def _cell(name: str, place: int, results: Sequence[Result]) -> str:
    told = sum(result.alone[place].verdict != "cannot tell" for result in results)
    alone, reported = (
        sum(findings[place].verdict == "found" for findings in both)
        for both in ([r.alone for r in results], [r.corrected for r in results])
    )
    plan = results[0].job.of
    if isinstance(plan, Clean) and name in plan.right:
        return f"rightly in {reported}"
    return f"{alone} / {reported} / {told}" if told else "cannot tell"


def p_values(clean: Sequence[Result]) -> list[str]:
    """Whether the p-values of the checks by chance are what they say, over all clean runs."""
    if not clean:
        return []
    lines = [
        "The p-values behind it, all clean runs together. A p-value is right when at most 1 % of them are below 1 %. "
        "*starvation* corrects for its nodes by Bonferroni, and *redundancy* allows a share that a network with room "
        "stays below: both hardly ever come near.",
        "",
        "| check | runs | p < 10 % | p < 1 % | p < 0.1 % | smallest |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    for place, finding in enumerate(clean[0].alone):
        values = [p for result in clean if (p := result.alone[place].p_value) is not None]
        if values:
            below = [sum(p < limit for p in values) / len(values) for limit in (0.1, 0.01, 0.001)]
            shares = " | ".join(f"{100 * share:.1f} %" for share in below)
            lines.append(f"| {finding.check} | {len(values)} | {shares} | {min(values):.2g} |")
    return [*lines, ""]


def detection(faulty: Sequence[Result], cases: Sequence[Case]) -> list[str]:
    lines = [
        "## Faults that are found",
        "",
        f"What may be relied on: a fault as large as in a row with {DEPENDABLE} of {FAULT_RUNS} or more is found "
        f"nearly always ({FAULT_RUNS} of {FAULT_RUNS} is at least 86 % of such runs, with 95 % confidence), and each "
        "fault has such a row; a row with less shows where detection begins.",
        "",
        "*Found* is in how many runs a check named in the fourth column reports it, after the correction; seeds are 1 "
        f"to {FAULT_RUNS} in every row. The last column: other checks that reported something, and in how many runs. "
        "What a seed draws is drawn in every row, so one chance alarm stands in many of them.",
        "",
        "| fault | size | found | by | also |",
        "|:--|:--|--:|:--|:--|",
    ]
    for case in cases:
        results = [result for result in faulty if result.job.of == case]
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
        print(f"\nseed {result.job.seed}, {result.job.of}")
        for f in result.corrected:
            print(f"  {f.check}: {f.verdict} (p {f.p_value}, corrected {f.p_holm}) {f.text}")
            for line in f.evidence:
                print(f"      {line}")


if __name__ == "__main__":
    main()
