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
from loadtest.swarm.history import ALL, COLUMNS, POINTS_MAX, STEP_S, History
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


class Played:
    """One worker's turns, reported and taken step by step."""

    def __init__(self) -> None:
        self.tally, self.reports, self.history = Tally(), Reports("r", [0], keeps_fresh=True), History()
        self.step = 0

    def take(self, *turns: RequestRecord, began: int = 0) -> None:
        for record in turns:
            self.tally.began(record)
            self.tally.seen(record)
        for i in range(began):
            self.tally.began(turn(i, 1))
        self.reports.live.take(0, self.tally.delta())
        self.step += 1
        totals = made_totals(waiting=self.step, oldest_s=float(self.step % 10))
        self.history.take(made_standing(elapsed_s=self.step * STEP_S, totals=totals), self.reports)

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
    assert played.column("outcomes") == [{"ok": 2, "truncated": 1}, {"ok": 1}]
    (first, second) = played.column("ttft_ms_p50", ("a", "1"))
    assert first == pytest.approx(100, rel=0.01) and second == pytest.approx(200, rel=0.01)
    assert played.column("ttft_ms_p50", ("b", "")) == [-1, None], "among failed turns; none at all"
    assert played.column("waiting") == [1, 2] and played.column("waiting", ("a", "")) == [None, None]
    assert [row[0] for row in history.since(1, (ALL, ""))] == [2]


def test_before_the_start_nothing_is_drawn() -> None:
    history = History()
    history.take(made_standing(state="starting", elapsed_s=-1.0), Reports("r", [0], keeps_fresh=True))
    assert history.points == []


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
    outcomes: Counter[str] = Counter()
    for told in played.column("outcomes"):
        assert isinstance(told, dict)
        outcomes.update(told)
    flat = [ttft_ms for step in ttfts for ttft_ms in step]
    assert outcomes == {"ok": sum(t < 4_800 for t in flat), "empty": sum(t >= 4_800 for t in flat)}
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
