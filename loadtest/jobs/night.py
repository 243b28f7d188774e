"""One night: preflight, runs of the target between runs of the control, the gate, history, trend page, baseline.

Each piece ends as ok, failed or skipped, and what is known so far is on disk after each of them, so that a night that
is cut off still says where. Every wait has a deadline: a run's is what its profile offers and a margin.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from loadtest.analysis import gate_baseline
from loadtest.analysis.gate import GateRefused, Judgement, judge, side_of
from loadtest.analysis.nights import (
    CONTROL,
    TARGET,
    HistoryRow,
    Kind,
    Night,
    NightRun,
    Piece,
    PieceState,
    append_history,
    history_rows,
    read_history,
    run_to_run_sd,
)
from loadtest.clock import mono_ns, utc_text, wall_ns
from loadtest.jobs.night_layout import BASELINE, HISTORY, METRICS, TREND
from loadtest.jobs.night_runs import Asked, Interrupted, PieceFailed, attempt, preflight, useless
from loadtest.report.history_metrics import history_metrics
from loadtest.report.junit import render_junit
from loadtest.report.night_text import night_markdown, night_suites
from loadtest.report.trend_page import trend_html
from loadtest.runfolder import RunFolderError, write_text

KINDS: tuple[Kind, Kind] = (TARGET, CONTROL)
_RESULTS = {0: "pass", 3: "its profile's limits were missed, or a ceiling met"}
FAILED_RUNS_MAX = 2  # then the target is gone, or we are


class NightJob:
    """Makes one night in its folder, which is new.

    `check` and `attempt` are what reaches for the network, `draw` makes the trend page from the history.
    """

    def __init__(
        self,
        asked: Asked,
        folder: Path,
        check: Callable[[Asked, Path], str] = preflight,
        attempt: Callable[[Asked, Path, Kind, int], NightRun] = attempt,
        draw: Callable[[Sequence[HistoryRow]], str] = trend_html,
    ) -> None:
        self._asked, self._folder, self._check, self._attempt, self._draw = asked, folder, check, attempt, draw
        self._judgement: Judgement | None = None
        self._spare = asked.spare
        self.night = Night(
            night=folder.name,
            started_utc=utc_text(),
            host=asked.host,
            profile=asked.profile.name,
            control_profile=asked.control_profile.name,
            command=asked.command,
        )

    def make(self) -> Night:
        """Do every piece that can be done; never raises for what fails inside one."""
        self.write()
        try:
            if self._do("preflight", partial(self._check, self._asked, self._folder)) and self._make_runs():
                judged = self._do("gate", self._gate)
            else:
                judged = False
                self._skip("gate", "there are not enough runs")
            self._settle()
            self._do("history", self._history)
            self._do("trend page", self._trend)
            if judged and self.night.word in ("pass", "begun"):
                self._do("baseline", self._update_baseline)
            else:
                self._skip("baseline", "only a night that passes is added")
        except Interrupted:
            pass  # the piece that was interrupted says so
        self._settle()
        self.night.ended_utc = utc_text()
        self.write()
        self._tell_prometheus()
        return self.night

    def write(self) -> None:
        """night.json, night.md and junit.xml as things stand."""
        write_text(self._folder / "night.json", json.dumps(self.night.as_json(), indent=1, allow_nan=False) + "\n")
        write_text(self._folder / "night.md", night_markdown(self.night, self._judgement))
        write_text(self._folder / "junit.xml", render_junit(night_suites(self.night, self._judgement)))

    def _tell_prometheus(self) -> None:
        """For the textfile collector of node_exporter: the night that ended last."""
        runs = {str(kind): self.night.used(kind) for kind in KINDS}
        text = history_metrics(runs, exit_code=self.night.exit_code, finished_s=wall_ns() / 1e9)
        write_text(self._asked.top / METRICS, text)

    # Pieces.

    def _do(self, name: str, step: Callable[[], str]) -> bool:
        """Do one piece and put down how it ended; Interrupted passes through."""
        print(f"night {self.night.night}: {name} ...", file=sys.stderr, flush=True)
        begun_ns = mono_ns()

        def ended(failed: bool, text: str) -> None:
            state: PieceState = "failed" if failed else "ok"
            self.night.pieces.append(Piece(name, state, (mono_ns() - begun_ns) / 1e9, text))
            print(f"night {self.night.night}: {name} {state}{f': {text}' if text else ''}", file=sys.stderr, flush=True)
            self._settle()
            self.write()

        try:
            ended(False, step())
            return True
        except (Interrupted, KeyboardInterrupt):
            ended(True, "interrupted: somebody asked the night to end")
            raise Interrupted from None
        except (PieceFailed, RunFolderError, GateRefused, RuntimeError) as error:
            ended(True, str(error))
        except OSError as error:
            ended(True, f"{error.filename or 'a file'}: {error.strerror or error}")
        except Exception as error:  # a mistake of ours must not cost the night its report
            traceback.print_exc()
            ended(True, f"{type(error).__name__}: {error} (a bug: the traceback is in the log)")
        return False

    def _skip(self, name: str, why: str) -> None:
        self.night.pieces.append(Piece(name, "skipped", 0.0, why))

    def _make_runs(self) -> bool:
        """Target and control in turns; whether there are enough of both to be judged."""
        failed = 0
        for number in range(1, self._asked.runs + 1):
            for kind in KINDS:
                name = f"{'run' if kind == TARGET else 'control'} {number}"
                if failed >= FAILED_RUNS_MAX:
                    self._skip(name, f"{failed} runs could not be made before it")
                elif not self._do(name, partial(self._make_run, kind, number)):
                    failed += 1
        return all(self.night.used(kind) for kind in KINDS)

    def _make_run(self, kind: Kind, number: int) -> str:
        """One run; made again, while there is a spare one, when it is unfit or could not be made."""
        told: list[str] = []
        while True:
            made = self._attempt(self._asked, self._folder, kind, number)
            why = useless(made)
            again = bool(why) and self._spare > 0 and made.exit_code != 2
            # An unfit run with no spare left is judged: it makes the night void, in the open.
            used = made.figures is not None and not again
            self.night.runs.append(replace(made, used=used, text=why))
            if kind == TARGET and used and made.figures is not None and made.figures.target_versions:
                self.night.target_versions = made.figures.target_versions
            if not again:
                text = "; ".join([*told, why or f"{made.folder}: {_RESULTS.get(made.exit_code or 0, '')}"])
                if used:
                    return text
                raise PieceFailed(text)
            self._spare -= 1
            told.append(f"{why}, so it was made again")
            self.write()

    def _gate(self) -> str:
        top, night = self._asked.top / BASELINE, self.night
        known = gate_baseline.read_baseline(top)
        known_control = gate_baseline.read_baseline(top / gate_baseline.CONTROL)
        side = side_of(night.used(TARGET), known, "run")
        control = side_of(night.used(CONTROL), known_control, "control run")
        night.run_to_run_sd = run_to_run_sd(night.used(TARGET))
        self._judgement = judge(side, self._asked.limits, control, asked_baseline=True, beginning=True)
        return f"{self._judgement.word}, {len(side.baseline)} runs in the baseline"

    def _history(self) -> str:
        path = self._asked.top / HISTORY
        before = read_history(path)
        self._tell_new_versions(before)
        rows = append_history(path, history_rows(self.night))
        return f"{len(rows) - len(before)} rows added, {len(rows)} in all"

    def _tell_new_versions(self, before: Sequence[HistoryRow]) -> None:
        told = [row.target_versions for row in before if row.kind == TARGET and row.host == self.night.host]
        if self.night.used(TARGET) and told and told[-1] != self.night.target_versions:
            was, now = (text or "none told" for text in (told[-1], self.night.target_versions))
            self.night.sentences.append(f"The target's version changed since the last night: {was} before, {now} now.")

    def _trend(self) -> str:
        write_text(self._asked.top / TREND, self._draw(read_history(self._asked.top / HISTORY)))
        return ""

    def _update_baseline(self) -> str:
        top = self._asked.top / BASELINE
        forgotten = gate_baseline.add_runs(top, self.night.used(TARGET))
        gate_baseline.add_runs(top / gate_baseline.CONTROL, self.night.used(CONTROL))
        added = len(self.night.used(TARGET))
        return f"{added} runs added" + (f", {len(forgotten)} older ones forgotten" if forgotten else "")

    def _settle(self) -> None:
        """The verdict as things stand: a failed piece outranks what the gate says (DESIGN: 1 before 4 before 3)."""
        night, judgement = self.night, self._judgement
        if night.failed_pieces or judgement is None:
            night.word, night.exit_code = "failed", 1
        else:
            night.word, night.exit_code = judgement.word, judgement.exit_code
