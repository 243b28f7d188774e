"""A night as Markdown and JUnit: which piece did what, which runs were made, and what the gate says of them."""

from __future__ import annotations

from loadtest.analysis.gate import Judgement
from loadtest.analysis.nights import CONTROL, Night, NightRun
from loadtest.analysis.run_figures import METRIC
from loadtest.report.gate_text import gate_markdown, gate_suite
from loadtest.report.junit import Case, Suite, Verdict
from loadtest.report.markdown import code, draw, plain
from loadtest.report.tables import Cell, Kind, Table, number

SD_HELD = 0.05  # at a run-to-run sd of 5 %, six runs against six see +20 % in 97 of 100 nights (method of the gate)
_WORDS = {
    "pass": ("✅", "PASS"),
    "begun": ("➖", "NO BASELINE YET: collecting"),
    "fail": ("❌", "FAIL"),
    "void": ("⚠️", "VOID: the night proves nothing"),
    "nothing judged": ("⚠️", "NOTHING JUDGED"),
    "failed": ("🛑", "FAILED: the night could not be made"),
}
_STATES: dict[str, Verdict] = {"ok": "pass", "failed": "error", "skipped": "skipped"}


def night_markdown(night: Night, judgement: Judgement | None) -> str:
    """For a pull request or a step summary: the verdict first, the gate's own text after the night's."""
    sign, word = _WORDS[night.word] if night.ended_utc else ("⏳", "NOT OVER, or cut off")
    blocks = [
        f"# {sign} Night {code(night.night)}: {word}",
        f"{code(night.profile)} against {code(night.host)}, control {code(night.control_profile)}; "
        f"{code(night.started_utc)} to {code(night.ended_utc or '?')}, exit code {night.exit_code}.",
        "\n".join(f"- {plain(text)}" for text in headlines(night)),
        draw(_pieces(night)),
        *([f"### Runs of {code(night.night)}", draw(_runs(night)), _reports(night)] if night.runs else []),
        _sd(night),
        gate_markdown(judgement) if judgement is not None else "",
        f"Made by {code(night.command)}. History of all nights: `trend.html`.",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def night_suites(night: Night, judgement: Judgement | None) -> list[Suite]:
    """A case for each piece, one for the night, and the gate's own suite behind them."""
    cases = [Case("night", piece.name, _STATES[piece.state], piece.text) for piece in night.pieces]
    if not night.ended_utc:
        cases.append(Case("night", "the night ended", "error", "it is not over, or was cut off"))
    elif night.word == "failed" and not night.failed_pieces:
        cases.append(Case("night", "the night could be judged", "error", "; ".join(headlines(night))))
    properties = (
        ("night", night.night),
        ("host", night.host),
        ("profile", night.profile),
        ("target_versions", night.target_versions),
        ("exit_code", str(night.exit_code)),
        *((f"run-to-run sd {name}", f"{sd:.4f}") for name, sd in night.run_to_run_sd.items()),
    )
    seconds = sum(piece.seconds for piece in night.pieces)
    suite = Suite("loadtest night", tuple(cases), properties, night.started_utc, seconds)
    return [suite, *([gate_suite(judgement)] if judgement is not None else [])]


def headlines(night: Night) -> list[str]:
    """What a reader has to know before anything else."""
    lines = [f"{piece.name} failed: {piece.text}" for piece in night.failed_pieces]
    if night.word == "begun":
        lines.append("There are too few runs in the baseline to compare with; this night was added to it.")
    return lines + night.sentences


def _pieces(night: Night) -> Table:
    kinds: dict[str, Kind] = {"ok": "text", "failed": "fail", "skipped": "quiet"}
    rows = tuple(
        (
            Cell(piece.name),
            Cell(piece.state, None, kinds[piece.state]),
            number(piece.seconds, f"{piece.seconds:.0f} s"),
            Cell(piece.text, None, "hostile"),
        )
        for piece in night.pieces
    )
    return Table("pieces", "Pieces", ("piece", "state", "took", "what"), (False, False, True, False), rows)


def _runs(night: Night) -> Table:
    rows = tuple(
        (
            Cell(f"{'control' if run.kind == CONTROL else 'run'} {run.number}"),
            number(run.seed, str(run.seed)),
            Cell(run.folder, None, "hostile"),
            Cell("time was over" if run.exit_code is None else str(run.exit_code)),
            Cell("yes" if run.used else "no"),
            Cell(_why(run), None, "hostile"),
        )
        for run in night.runs
    )
    columns = ("which", "seed", "folder", "exit code", "judged by it", "because")
    return Table("night-runs", "Runs", columns, (False, True, False, True, False, False), rows)


def _reports(night: Night) -> str:
    """Links from the night's folder; a run's folder has a name of ours."""
    made = [run for run in night.runs if run.figures is not None]
    return "Reports: " + ", ".join(f"[{run.folder}]({run.folder}/report.html)" for run in made) + "." if made else ""


def _why(run: NightRun) -> str:
    return run.text or (run.figures.result if run.figures is not None else "")


def _sd(night: Night) -> str:
    """How much the runs differ among themselves, which decides what the gate can see."""
    if not night.run_to_run_sd:
        return ""
    told = [f"{METRIC[name].label} {_sd_text(name, sd)}" for name, sd in night.run_to_run_sd.items()]
    wide = [METRIC[n].label for n, sd in night.run_to_run_sd.items() if METRIC[n].scale == "ratio" and sd > SD_HELD]
    text = f"Run-to-run sd of this night: {', '.join(told)}."
    if wide:
        text += f" Above {100 * SD_HELD:g} % the gate is nearly blind to +15 %: {', '.join(wide)}; make runs longer."
    return plain(text)


def _sd_text(name: str, sd: float) -> str:
    return f"{100 * sd:.1f} {'points' if METRIC[name].scale == 'points' else '%'}"
