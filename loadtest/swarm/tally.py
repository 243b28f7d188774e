"""Live quantiles of the whole swarm: log-bucket histograms that travel as numbered deltas in the workers' reports.

A worker counts every ended turn by target, session and phase under the definitions of the report (CHANGELOG,
Definitions), and each report carries what came since the last one. The master adds the deltas up: one that comes twice
is ignored by its number, and a number that is left out is a gap, which is shown, because from then on the live figures
lack something.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from loadtest.quantiles import LogHistogram
from loadtest.records import NOT_SENT, Outcome, RequestRecord, cancelled_by_member
from loadtest.swarm.otel import TokenCounts

METRICS = ("ttfc", "ttft", "tpot", "itl", "e2e", "send_lag", "first_content_bound")
PLACES_MAX = 24  # pairs of target and session that are told apart, by a worker and on the master
OTHER = "other"  # the session of all further ones

Place: TypeAlias = "tuple[str, str]"  # target, session; "" for a target without one


class Distribution:
    """Values in ns, and how many turns failed instead of giving one: they count as longer than anything seen."""

    __slots__ = ("censored", "values")

    def __init__(self) -> None:
        self.values = LogHistogram()
        self.censored = 0

    def add(self, other: Distribution) -> None:
        self.values.merge(other.values.counts.keys(), other.values.counts.values())
        self.censored += other.censored

    def n(self) -> int:
        return self.values.total() + self.censored

    def quantile_ms(self, q: float) -> float | None:
        """Nearest rank within 1 %; infinite where it falls among the failed, None when there is nothing."""
        seen = self.values.total()
        n = seen + self.censored
        if not n:
            return None
        rank = max(1, math.ceil(q * n * (1 - 1e-12)))
        if rank > seen:
            return math.inf
        value = self.values.quantile(rank / seen)
        assert value is not None
        return value / 1e6


Cell: TypeAlias = "dict[str, Distribution]"  # by metric
Cells: TypeAlias = "dict[tuple[str, str, str], Cell]"  # by (target, session, phase)


class Counts:
    """Turns of one place: sent so far, and how turns ended, those never sent included."""

    __slots__ = ("outcomes", "started")

    def __init__(self) -> None:
        self.started = 0
        self.outcomes: Counter[str] = Counter()

    def add(self, started: int, outcomes: Mapping[str, int]) -> None:
        self.started += started
        self.outcomes.update(outcomes)

    @property
    def offered(self) -> int:
        """Turns that were due: started, or dropped."""
        return self.started + self.outcomes[Outcome.DROPPED]

    @property
    def ended(self) -> int:
        """Turns that were sent and have ended."""
        return sum(n for outcome, n in self.outcomes.items() if outcome not in NOT_SENT)


class Places:
    """Which places are told apart: the first PLACES_MAX that come, so that sessions without end fill no memory."""

    def __init__(self) -> None:
        self._known: set[Place] = set()

    def of(self, target: str, session: str | None) -> Place:
        place = (target, session or "")
        if place not in self._known:
            if len(self._known) >= PLACES_MAX:
                return (target, OTHER)
            self._known.add(place)
        return place


def output_tokens(record: RequestRecord) -> int:
    """The server's usage if above 0, else our count, else the number of content chunks."""
    for tokens in (record.usage_completion_tokens, record.counted_tokens):
        if tokens is not None and tokens > 0:
            return tokens
    return record.content_chunks


def tpot_ns(record: RequestRecord) -> int | None:
    """Time per output token of a good streamed turn, None where there are fewer than two tokens."""
    tokens = output_tokens(record)
    if record.first_content_ns is None or record.last_content_ns is None or tokens < 2:
        return None
    return (record.last_content_ns - record.first_content_ns) // (tokens - 1)


class Tally:
    """A worker's counts since its last report, and the number of that report."""

    def __init__(self) -> None:
        self._seq = 0
        self._cells: Cells = {}
        self._counts: defaultdict[Place, Counts] = defaultdict(Counts)
        self._places = Places()
        self.prompt_tokens = 0  # of all turns that were sent, as the server tells it, else as planned
        self.output_tokens = 0
        self._tokens: dict[tuple[str, str], TokenCounts] = {}  # by target, and "input" or "output"

    def began(self, record: RequestRecord) -> None:
        """Count one turn that is being sent."""
        self._counts[self._places.of(record.target, record.session)].started += 1

    def seen(self, record: RequestRecord) -> None:
        """Count one turn that ended."""
        place = self._places.of(record.target, record.session)
        self._counts[place].outcomes[record.outcome] += 1
        if record.outcome in NOT_SENT:
            return
        key = (*place, record.phase)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = {metric: Distribution() for metric in METRICS}
        if record.sent_ns is not None:
            opened = record.connection_new and record.connecting_ns is not None
            began_ns = record.connecting_ns if opened else record.sent_ns
            assert began_ns is not None
            cell["send_lag"].values.add(began_ns - record.scheduled_ns)
            self._count_tokens(record)
        if record.first_content_bound_ns is not None:
            cell["first_content_bound"].values.add(record.first_content_bound_ns)
        if record.itl_keys:
            cell["itl"].values.merge(record.itl_keys, record.itl_counts)
        good = record.outcome == Outcome.OK
        broken_off = cancelled_by_member(record.outcome, record.error_kind)
        if broken_off:
            if record.stream:
                self._broken_off(record, cell)
            return
        if not good:
            cell["e2e"].censored += 1
        elif record.done_ns is not None and record.sent_ns is not None:
            cell["e2e"].values.add(record.done_ns - record.sent_ns)
        if record.stream:
            self._streamed(record, cell, good)

    def _count_tokens(self, record: RequestRecord) -> None:
        prompt, output = record.usage_prompt_tokens or record.prompt_tokens_planned, output_tokens(record)
        self.prompt_tokens += prompt
        self.output_tokens += output
        for kind, tokens in (("input", prompt), ("output", output)):
            counted = self._tokens.get((record.target, kind))
            if counted is None:
                counted = self._tokens[record.target, kind] = TokenCounts()
            counted.add(tokens)

    def tokens(self) -> list[list[Any]]:
        """Target, kind, requests by the buckets of `otel.TOKEN_BOUNDS` and the sum of tokens, since the start."""
        return [[*key, list(counted.counts), counted.sum] for key, counted in self._tokens.items()]

    def _streamed(self, record: RequestRecord, cell: dict[str, Distribution], good: bool) -> None:
        if not good:
            for metric in ("ttfc", "ttft", "tpot"):
                cell[metric].censored += 1
            return
        if record.first_chunk_ns is not None and record.sent_ns is not None:
            cell["ttfc"].values.add(record.first_chunk_ns - record.sent_ns)
        if record.first_content_ns is not None and record.sent_ns is not None:
            cell["ttft"].values.add(record.first_content_ns - record.sent_ns)
        per_token_ns = tpot_ns(record)
        if per_token_ns is not None:
            cell["tpot"].values.add(per_token_ns)

    def _broken_off(self, record: RequestRecord, cell: dict[str, Distribution]) -> None:
        """What was seen before the member broke off counts; who saw nothing waited in vain."""
        for metric, first_ns in (("ttfc", record.first_chunk_ns), ("ttft", record.first_content_ns)):
            if first_ns is not None and record.sent_ns is not None:
                cell[metric].values.add(first_ns - record.sent_ns)
            elif record.error_kind == "after_s":
                cell[metric].censored += 1

    def delta(self) -> dict[str, Any]:
        """What came since the last call, as plain data for a message; its number is one more than the last one's."""
        self._seq += 1
        cells, self._cells = self._cells, {}
        counts, self._counts = self._counts, defaultdict(Counts)
        packed = [
            [*key, {m: [[*d.values.counts], [*d.values.counts.values()], d.censored] for m, d in cell.items()}]
            for key, cell in cells.items()
        ]
        places = [[*place, told.started, dict(told.outcomes)] for place, told in counts.items()]
        return {"seq": self._seq, "cells": packed, "places": places}


class Merged:
    """The deltas of all workers, added up on the master. `gaps` counts reports that never came.

    With `keeps_fresh` the deltas are kept as well until `take_fresh`, for those who draw a course over time.
    """

    def __init__(self, *, keeps_fresh: bool = False) -> None:
        self.cells: Cells = {}
        self.places: defaultdict[Place, Counts] = defaultdict(Counts)
        self.gaps = 0
        self._last: dict[int, int] = {}
        self._places = Places()
        self._keeps_fresh = keeps_fresh
        self._fresh: Cells = {}

    def take(self, worker: int, delta: Mapping[str, Any]) -> bool:
        """Add one worker's delta; False for one that was here before."""
        last = self._last.get(worker, 0)
        if delta["seq"] <= last:
            return False
        self.gaps += delta["seq"] - last - 1
        self._last[worker] = delta["seq"]
        for target, session, started, outcomes in delta["places"]:
            self.places[self._places.of(target, session)].add(started, outcomes)
        for target, session, phase, cell in delta["cells"]:
            key = (*self._places.of(target, session), phase)
            for cells in (self.cells, self._fresh) if self._keeps_fresh else (self.cells,):
                mine = cells.get(key)
                if mine is None:
                    mine = cells[key] = {metric: Distribution() for metric in METRICS}
                for metric, (keys, counts, censored) in cell.items():
                    mine[metric].values.merge(keys, counts)
                    mine[metric].censored += censored
        return True

    def take_fresh(self) -> Cells:
        """What came since the last call."""
        fresh, self._fresh = self._fresh, {}
        return fresh

    def of(self, phase: str, target: str | None = None, session: str | None = None) -> Cell:
        """The distributions of one phase, of one target or of all together, of one session or of all."""
        return _added(
            cell
            for (t, s, p), cell in self.cells.items()
            if p == phase and target in (None, t) and session in (None, s)
        )

    def targets(self) -> list[str]:
        return sorted({target for target, _, _ in self.cells})


def _added(cells: Iterable[Cell]) -> Cell:
    total = {metric: Distribution() for metric in METRICS}
    for cell in cells:
        for metric, distribution in cell.items():
            total[metric].add(distribution)
    return total
