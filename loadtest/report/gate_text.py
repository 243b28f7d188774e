"""What a gate found, as console text, Markdown and JUnit: one set of sentences and tables behind all three."""

from __future__ import annotations

from collections.abc import Sequence

from loadtest.analysis.gate import Judgement, Side, series_text
from loadtest.analysis.gate_limits import Held
from loadtest.analysis.regression import RUNS_MIN, Compared
from loadtest.report import wording
from loadtest.report.columns import plain_table
from loadtest.report.junit import Case, Suite, Verdict
from loadtest.report.markdown import code, draw, plain
from loadtest.report.shift_tables import figure_text, runs_table, shift_text, shifts_table
from loadtest.report.tables import Cell, Table, number

WORDS = {
    "pass": "PASS",
    "fail": "FAIL",
    "void": "VOID: the night proves nothing",
    "nothing judged": "NOTHING JUDGED: no limits, and too few runs for the baseline",
    "begun": "NOTHING JUDGED: the baseline is being filled",
}
_SIGNS = {"pass": "✅", "fail": "❌", "void": "⚠️", "nothing judged": "➖", "begun": "➖"}


def gate_console(found: Judgement, notes: Sequence[str] = ()) -> str:
    """The gate as plain text: tables first, the verdict last, where a terminal shows it."""
    tables = [plain_table(table) for table in _tables(found)]
    last = "\n".join([f"GATE {WORDS[found.word]} (exit code {found.exit_code})", *sentences(found), *notes])
    return "\n\n".join([*filter(None, tables), _clean(last)]) + "\n"


def gate_markdown(found: Judgement, notes: Sequence[str] = ()) -> str:
    """The gate for a pull request or a step summary: the verdict first."""
    head = found.side.runs[0]
    blocks = [
        f"## {_SIGNS[found.word]} Gate {WORDS[found.word]}: {code(head.profile)}",
        f"{wording.plural(len(found.side.runs), 'run')} of {code(series_text(head))}, exit code {found.exit_code}.",
        "\n".join(f"- {plain(text)}" for text in [*sentences(found), *notes]),
    ]
    for table in _tables(found):
        blocks += [f"### {table.title}", draw(table), plain(table.note)] if table.rows else []
    return "\n\n".join(block for block in blocks if block) + "\n"


def gate_suite(found: Judgement) -> Suite:
    """The gate for CI: a case per run, per limit, per figure of the baseline, for the control and for the verdict.

    In a void night only what made it void is an error; the rest is skipped and says what it said.
    """
    judged = [*_limit_cases(found), *_baseline_cases(found)]
    if found.void:
        judged = [_uncounted(case) for case in judged]
    head = found.side.runs[0]
    properties = {
        "profile": head.profile,
        "profile_hash": head.profile_hash,
        "definitions_version": str(head.definitions_version),
        "runs": ", ".join(run.run for run in found.side.runs),
        "baseline_runs": str(len(found.side.baseline)),
        "target_versions": head.target_versions,
        "exit_code": str(found.exit_code),
    }
    cases = (*_run_cases(found), *judged, *_control_cases(found), _verdict_case(found))
    started = min((run.started_utc for run in found.side.runs), default="")
    return Suite(f"loadtest gate {head.profile}", cases, tuple((k, v) for k, v in properties.items() if v), started)


def sentences(found: Judgement) -> list[str]:
    """Why the verdict is what it is, and what was not judged."""
    lines = [f"{text}." for text in found.void]
    if not found.void:
        lines += [f"Run {run.run} failed by its own profile." for run in found.failed_runs]
        lines += [_held_sentence(each) for each in found.limits if not each.kept]
        lines += [_shift_sentence(each) for each in found.side.compared if each.verdict in ("worse", "missing")]
    better = [each.metric.label for each in found.side.compared if each.verdict == "better"]
    lines += [f"Better than the baseline: {', '.join(better)}."] if better else []
    lines += [*_not_judged(found)]
    return lines or ["Every limit was kept and no figure is worse than the baseline."]


def _tables(found: Judgement) -> list[Table]:
    tables = [runs_table(found.side.runs, "Runs"), _limits_table(found.limits)]
    tables.append(shifts_table(found.side.compared, "Against the baseline", ("baseline", "now")))
    if found.control is not None:
        tables.append(runs_table(found.control.runs, "Control runs"))
        tables.append(shifts_table(found.control.compared, "Control against its baseline", ("baseline", "now")))
    return [table for table in tables if table.rows]


def _limits_table(limits: Sequence[Held]) -> Table:
    rows = []
    for held in limits:
        metric, kind, bound = held.limit
        told = [value for _, value in held.values if value is not None]
        worst = (max(told) if kind == "max" else min(told)) if told else None
        sign = "≤" if kind == "max" else "≥"
        rows.append(
            (
                Cell(metric.label),
                number(bound, f"{sign} {figure_text(metric, bound)}"),
                number(worst, figure_text(metric, worst) if told else wording.ABSENT),
                number(len(held.missed), f"{len(held.missed)} of {len(held.values)}"),
                number(len(held.absent), str(len(held.absent))),
                Cell("kept" if held.kept else "missed", None, "pass" if held.kept else "fail"),
            )
        )
    columns = ("limit", "asked for", "worst run", "runs that missed it", "without the figure", "verdict")
    return Table("limits", "Fixed limits, of every run", columns, (False, *[True] * 4, False), tuple(rows))


def _not_judged(found: Judgement) -> list[str]:
    side, lines = found.side, []
    if found.asked_baseline and side.new_series:
        lines.append(f"The baseline has no run of {series_text(side.runs[0])}: a new series.")
    if found.asked_baseline and not side.enough:
        counts = f"{len(side.runs)} runs against {len(side.baseline)} of the baseline, {RUNS_MIN} a side are needed"
        effect = "the limits alone decide the exit code" if found.limits else "nothing was judged"
        lines.append(f"The baseline cannot tell: {counts}; {effect}, and a slower network would not be seen.")
    control = found.control
    if control is not None and not control.unfit and not control.enough:
        lines.append(_control_unknown(control))
    if found.asked_baseline and control is None:
        lines.append("Without --control a slower machine here looks like a slower network.")
    return lines


def _control_unknown(control: Side) -> str:
    counts = f"{len(control.runs)} runs against {len(control.baseline)}"
    return f"Whether the control moved cannot be told: {counts}, {RUNS_MIN} a side are needed."


def _run_cases(found: Judgement) -> list[Case]:
    cases = []
    for run in found.side.runs:
        if run.fit:
            cases.append(Case("gate.runs", f"{run.run} could measure", "pass"))
        else:
            cases.append(Case("gate.runs", f"{run.run} could measure", "error", "unfit", run.unfit_reasons))
        own: Verdict = (
            "skipped" if not run.fit or run.result == "none" else "pass" if run.result == "pass" else "failure"
        )
        message = "not counted, the run is unfit" if not run.fit else f"the run's own verdict is {run.result}"
        cases.append(Case("gate.runs", f"{run.run} met the limits of its profile", own, message))
    return cases


def _limit_cases(found: Judgement) -> list[Case]:
    cases = []
    for held in found.limits:
        metric, kind, bound = held.limit
        name = f"{metric.name} {'at most' if kind == 'max' else 'at least'} {figure_text(metric, bound)}"
        values = "\n".join(f"{run}: {figure_text(metric, v) if v is not None else 'absent'}" for run, v in held.values)
        cases.append(
            Case(
                "gate.limits",
                name,
                "pass" if held.kept else "failure",
                "" if held.kept else _held_sentence(held),
                values,
            )
        )
    return cases


def _baseline_cases(found: Judgement) -> list[Case]:
    verdicts: dict[str, Verdict] = {"worse": "failure", "missing": "failure", "cannot tell": "skipped"}
    cases = []
    for each in found.side.compared:
        verdict = verdicts.get(each.verdict, "pass")
        cases.append(Case("gate.baseline", f"{each.metric.name} is no worse", verdict, _shift_sentence(each)))
    if found.asked_baseline and not cases:
        cases.append(Case("gate.baseline", "no figure is worse", "skipped", " ".join(_not_judged(found))))
    return cases


def _control_cases(found: Judgement) -> list[Case]:
    if found.control is None:
        return []
    name = "the control is fit and has not moved"
    if found.control_faults:
        return [Case("gate.control", name, "error", "; ".join(found.control_faults))]
    if not found.control.enough:
        return [Case("gate.control", name, "skipped", _control_unknown(found.control))]
    return [Case("gate.control", name, "pass")]


def _verdict_case(found: Judgement) -> Case:
    verdicts: dict[str, Verdict] = {"pass": "pass", "fail": "failure", "void": "error"}
    text = "\n".join(sentences(found))
    return Case("gate", "verdict", verdicts.get(found.word, "skipped"), WORDS[found.word], text)


def _uncounted(case: Case) -> Case:
    said = f"it said {case.verdict}" + (f": {case.message}" if case.message else "")
    return case._replace(verdict="skipped", message=f"not counted, the night is void; {said}")


def _held_sentence(held: Held) -> str:
    metric, kind, bound = held.limit
    asked = f"{metric.label} {'at most' if kind == 'max' else 'at least'} {figure_text(metric, bound)}"
    values = dict(held.values)
    missed = [f"{figure_text(metric, values[run])} in {run}" for run in held.missed]
    absent = [f"no such figure in {run}" for run in held.absent]
    return f"{asked}: missed, {', '.join([*missed, *absent])}."


def _shift_sentence(each: Compared) -> str:
    if each.shift is None:
        return f"{each.metric.label}: {each.verdict}, {each.text}."
    levels = f"{figure_text(each.metric, each.before)} to {figure_text(each.metric, each.after)}"
    return f"{each.metric.label}: {each.verdict}, {shift_text(each.metric, each.shift)} ({levels}; {each.text})."


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
