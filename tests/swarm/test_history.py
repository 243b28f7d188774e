"""A run's course over time: merging loses nothing, quantiles stay those of the turns, the size is bounded."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from itertools import pairwise

import pytest
from made_rows import made_row
from made_standing import made_standing, made_totals

from loadtest.quantiles import nearest_rank
from loadtest.records import RequestRecord
from loadtest.swarm.history import ALL, COLUMNS, POINTS_MAX, STEP_S_MAX, STEP_S_MIN, History
from loadtest.swarm.reports import Reports
from loadtest.swarm.tally import OTHER, PLACES_MAX, Merged, Tally

MS = 1_000_000


def turn(seq: int, ttft_ms: int, **changes: object) -> RequestRecord:
    whole: dict[str, object] = {
        "scheduled_ns": 0,
        "sent_ns": MS,
        "first_content_ns": MS + ttft_ms * MS,
        "last_content_ns": MS + (ttft_ms + 50) * MS,
        "done_ns": MS + (ttft_ms + 60) * MS,
        "content_chunks": 6,
    }
    return made_row(seq, **(whole | changes))


STEP_S = 3.0
T0_NS = 10**9


class Played:
    """One worker's turns, reported and taken step by step."""

    def __init__(self) -> None:
        self.tally, self.reports, self.history = Tally(), Reports("r", [0], keeps_fresh=True), History()
        self.step = 0

    def take(self, *turns: RequestRecord, began: int = 0, at_s: float | None = None) -> None:
        for record in turns:
            self.tally.began(record)
            self.tally.seen(record)
        for i in range(began):
            self.tally.began(turn(i, 1))
        self.reports.live.take(0, self.tally.delta())
        self.step += 1
        self.reported(0, self.step * STEP_S if at_s is None else at_s)
        self.look()

    def reported(self, worker: int, at_s: float) -> None:
        """A report came at this instant; what it says is in the tally already."""
        self.reports._reported_ns[worker] = T0_NS + int(at_s * 1e9)

    def look(self) -> None:
        totals = made_totals(waiting=self.step, oldest_s=float(self.step % 10))
        self.history.take(made_standing(totals=totals), self.reports, T0_NS)

    def column(self, name: str, key: tuple[str, str] = (ALL, "")) -> list[object]:
        return [row[COLUMNS.index(name)] for row in self.history.since(0, key)]


def test_selections_add_up_and_have_their_own_quantiles() -> None:
    played = Played()
    played.take(
        turn(0, 100, target="a", session="1"),
        turn(1, 300, target="a", session="2"),
        turn(2, 900, target="b", outcome="truncated"),
    )
    played.take(turn(3, 200, target="a", session="1"), began=2)
    history = played.history
    assert history.keys() == [(ALL, ""), ("a", ""), ("a", "1"), ("a", "2"), ("b", ""), ("t", "")]
    assert played.column("offered") == [3, 3] and played.column("completed") == [3, 1]
    assert played.column("in_flight") == [0, 2] and played.column("in_flight", ("t", "")) == [0, 2]
    assert played.column("completed", ("a", "")) == [2, 1] and played.column("completed", ("a", "2")) == [1, 0]
    assert history.failures((ALL, "")) == ["truncated"] and played.column("failures") == [[1], [0]]
    assert history.failures(("a", "")) == [] and played.column("failures", ("a", "")) == [[], []]
    (first, second) = played.column("ttft_ms_p50", ("a", "1"))
    assert first == pytest.approx(100, rel=0.01) and second == pytest.approx(200, rel=0.01)
    assert played.column("ttft_ms_p50", ("b", "")) == [-1, None], "among failed turns; none at all"
    assert played.column("waiting") == [1, 2] and played.column("waiting", ("a", "")) == [None, None]
    assert [row[0] for row in history.since(1, (ALL, ""))] == [2]


def test_a_point_is_one_report_of_each_worker() -> None:
    played = Played()
    played.reports.stripes = [0, 1]
    played.look()
    played.reported(0, -0.5)
    played.look()
    assert played.history.points == [], "before the start nothing is drawn"
    for at_s in (1.0, 4.0, 7.0):
        played.reported(0, at_s)
        played.look()
        played.reported(1, at_s + 1.4)
        played.look()
        played.look()
    assert [point.to_s for point in played.history.points] == pytest.approx([2.4, 5.4, 8.4])
    # A worker that falls silent delays a point, no longer than STEP_S_MAX.
    for at_s in (10.0, 13.0, 16.0):
        played.reported(0, at_s)
        played.look()
    assert [point.to_s for point in played.history.points][3:] == [16.0]
    assert STEP_S_MIN < STEP_S < STEP_S_MAX


def test_hours_are_bounded_and_merged_points_are_those_of_their_turns() -> None:
    rng, played, steps = random.Random(3), Played(), 5 * POINTS_MAX
    ttfts = [[rng.randint(10, 5_000) for _ in range(rng.randint(0, 4))] for _ in range(steps)]
    for n, step in enumerate(ttfts):
        played.take(*(turn(n, ttft_ms, outcome="ok" if ttft_ms < 4_800 else "empty") for ttft_ms in step))
    points = played.history.points
    assert len(points) == POINTS_MAX
    lengths = Counter(point.steps for point in points)
    assert sum(n * count for n, count in lengths.items()) == steps and max(lengths) == 8
    assert points[0].steps == 8 and points[-1].n == steps
    assert points[0].from_s == 0 and all(a.to_s == b.from_s for a, b in pairwise(points))
    flat = [ttft_ms for step in ttfts for ttft_ms in step]
    assert played.history.failures((ALL, "")) == ["empty"]
    failed = [row[0] for row in played.column("failures")]  # type: ignore[index]
    assert sum(failed) == sum(t >= 4_800 for t in flat)
    assert sum(int(str(n)) for n in played.column("completed")) == len(flat)
    at = 0
    for point, p95 in zip(points, played.column("ttft_ms_p95"), strict=True):
        mine = sorted(math.inf if t >= 4_800 else t for step in ttfts[at : at + point.steps] for t in step)
        at += point.steps
        if not mine:
            assert p95 is None
            continue
        exact = nearest_rank(mine, 0.95)
        assert p95 == -1 if math.isinf(exact) else p95 == pytest.approx(exact, rel=0.011)


def test_a_whole_course_is_sent_in_less_than_100_kb() -> None:
    played = Played()
    for n in range(POINTS_MAX + 50):
        played.take(
            *(turn(n, 1000 + n * 7 % 977 + i) for i in range(20)),
            *(turn(n, 5, outcome=outcome) for outcome in ("truncated", "server_error", "rate_limited")),
        )
    size = len(json.dumps(played.history.since(0, (ALL, "")), separators=(",", ":")))
    print(f"{POINTS_MAX} points: {size} bytes")
    assert size < 90_000


def test_sessions_without_end_share_one_name() -> None:
    tally, merged = Tally(), Merged()
    for n in range(3 * PLACES_MAX):
        tally.began(turn(n, 1, target="a", session=str(n)))
        tally.seen(turn(n, 1, target="a", session=str(n)))
    delta = tally.delta()
    merged.take(0, delta)
    assert len(merged.places) == PLACES_MAX + 1 and merged.places["a", OTHER].started == 2 * PLACES_MAX
    assert merged.of("measure", "a")["ttft"].n() == 3 * PLACES_MAX
    assert merged.of("measure", "a", OTHER)["ttft"].n() == 2 * PLACES_MAX
    assert merged.take_fresh() == {}, "kept only when asked for"
