"""Arrivals and shapes: one schedule for any number of workers, the stated process, pinned by a hash."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import asdict
from itertools import chain, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.traffic.arrivals import BLOCK
from loadtest.traffic.conversations import kept_history
from loadtest.traffic.profile import Profile, load_profile, parse_profile
from loadtest.traffic.replay import Trace
from loadtest.traffic.schedule import Arrival, Schedule

TEXT = """
[load]
mode = "open"
arrivals = "poisson"
rate_per_s = 20
duration_s = 300
warmup_s = 10
in_flight_max = 50
[writing]
system_prompt_tokens = 50
history_tokens_max = 700
[[target]]
name = "a"
route = "cortensor"
sessions = [11, 12, 21]
weight = 0.75
[[target]]
name = "b"
route = "openai-chat"
weight = 0.25
stream = false
[[persona]]
name = "quick"
weight = 3
prompt_tokens = { dist = "lognormal", mu = 3.42, sigma = 1.29, min = 2, max = 4096 }
output_tokens = { dist = "uniform", min = 8, max = 300 }
turns = { dist = "lognormal", mu = -0.336, sigma = 1.477, min = 0, max = 50 }
think_s = { dist = "lognormal", mu = 3.8, sigma = 1.0, min = 2, max = 600 }
[[persona]]
name = "agent"
weight = 1
stream_share = 0.5
prompt_tokens = { dist = "normal", mean = 300, sd = 100, min = 1, max = 900 }
output_tokens = { dist = "fixed", value = 20 }
turns = { dist = "fixed", value = 3 }
think_s = { dist = "fixed", value = 1.5 }
"""
MINUTE_US = 60_000_000


def profile(**changes: float | str) -> Profile:
    return parse_profile(TEXT, "x.toml").with_changes(load=changes)


def dues(arrivals: str, rate_per_s: float, count: int, seed: int, **more: float) -> np.ndarray:
    schedule = Schedule(profile(arrivals=arrivals, rate_per_s=rate_per_s, **more), seed)
    stream = schedule.arrivals(1 << 62)
    return np.array([next(stream).due_us for _ in range(count)])


@pytest.mark.parametrize(
    "change",
    [{}, {"arrivals": "gamma", "cv": 2.0}, {"arrivals": "constant"}, {"rate_per_s": 0.1}],
)
@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_the_workers_together_send_exactly_the_schedule(change: dict[str, float | str], workers: int) -> None:
    schedule = Schedule(profile(**change), 4)
    whole = list(schedule.arrivals(3 * MINUTE_US))
    stripes = [list(Schedule(schedule.profile, 4).arrivals(3 * MINUTE_US, k, workers)) for k in range(workers)]
    assert sorted(chain.from_iterable(stripes), key=lambda arrival: arrival.index) == whole
    assert all(arrival.index % workers == k for k, stripe in enumerate(stripes) for arrival in stripe)
    assert [arrival.index for arrival in whole] == list(range(len(whole)))
    assert [arrival.due_us for arrival in whole] == sorted(arrival.due_us for arrival in whole)
    assert len(whole) > (3 * BLOCK if "rate_per_s" not in change else 5), "more than one block, or a sparse one"


@pytest.mark.parametrize("workers", [2, 3, 7])
def test_whoever_sends_an_arrival_sends_the_same_prompts(workers: int) -> None:
    whole = Schedule(profile(), 4)
    for worker in range(workers):
        mine = Schedule(parse_profile(TEXT, "elsewhere/x.toml"), 4)  # as a worker makes it, from the text
        for arrival in islice(mine.arrivals(MINUTE_US, worker, workers), 8):
            shape, theirs = whole.shape(arrival.index), mine.shape(arrival.index)
            assert shape == theirs
            for turn in range(len(shape.turns)):
                assert whole.messages(shape, turn) == mine.messages(theirs, turn)


@given(st.integers(0, 3000), st.integers(1, 9), st.floats(0.5, 2000))
def test_a_horizon_only_cuts(horizon_ms: int, workers: int, rate_per_s: float) -> None:
    schedule = Schedule(profile(rate_per_s=rate_per_s), 8)
    whole = [one for one in schedule.arrivals(3_000_000, workers - 1, workers) if one.due_us < horizon_ms * 1000]
    assert list(schedule.arrivals(horizon_ms * 1000, workers - 1, workers)) == whole


def test_another_seed_is_another_schedule() -> None:
    one, other = Schedule(profile(), 1), Schedule(profile(), 2)
    assert not {a.due_us for a in one.arrivals(MINUTE_US)} & {a.due_us for a in other.arrivals(MINUTE_US)} - {0}
    same = sum(one.shape(i).turns == other.shape(i).turns for i in range(500))
    assert same == 0
    assert one.messages(one.shape(0), 0) != other.messages(other.shape(0), 0)


def test_the_schedule_of_seed_7_is_pinned() -> None:
    """A change here means that every recorded seed now stands for other traffic: say so in the changelog."""
    schedule = Schedule(profile(arrivals="gamma", cv=1.2), 7)
    planned = [asdict(arrival) for arrival in schedule.arrivals(200 * 1_000_000)][:2000]
    assert len(planned) == 2000
    shapes = [
        (shape.persona, shape.target.name, shape.session, shape.stream, [asdict(turn) for turn in shape.turns])
        for shape in map(schedule.shape, range(2000))
    ]
    text = schedule.messages(schedule.shape(17), 0)
    digest = hashlib.sha256(json.dumps([planned, shapes, text]).encode()).hexdigest()
    assert digest[:32] == "723fe108fb1147452358e22ea84c2635", digest


@pytest.mark.parametrize("rate_per_s", [3.0, 40.0, 7.3])
def test_a_constant_rate_is_exact_and_never_drifts(rate_per_s: float) -> None:
    instants = dues("constant", rate_per_s, 5000, seed=1)
    exact = np.arange(5000) * 1e6 / rate_per_s
    assert np.abs(instants - exact).max() <= 1
    if rate_per_s != 7.3:
        count = int(rate_per_s * 100)
        assert len(list(Schedule(profile(arrivals="constant", rate_per_s=rate_per_s), 1).arrivals(10**8))) == count


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("arrivals", "cv"), [("poisson", 1.0), ("gamma", 0.5), ("gamma", 1.2), ("gamma", 2.0)])
def test_rate_and_burstiness_are_the_stated_ones(arrivals: str, cv: float, seed: int) -> None:
    """Within 3.5 standard errors: of the mean gap cv/sqrt(n), of the cv of gamma gaps cv sqrt((1 + cv^2) / 2n)."""
    n = 20_000
    gaps = np.diff(dues(arrivals, 50, n + 1, seed, **({"cv": cv} if arrivals == "gamma" else {})))
    mean_s = gaps.mean() / 1e6
    assert abs(mean_s * 50 - 1) < 3.5 * cv / math.sqrt(n)
    assert abs(gaps.std() / gaps.mean() - cv) < 3.5 * cv * math.sqrt((1 + cv**2) / (2 * n))


def test_gaps_are_independent_across_blocks() -> None:
    gaps = np.diff(dues("poisson", 50, 16 * BLOCK + 1, 1))
    lag = np.corrcoef(gaps[:-BLOCK], gaps[BLOCK:])[0, 1]
    assert abs(lag) < 4 / math.sqrt(len(gaps) - BLOCK)


def test_personas_targets_sessions_and_streaming_follow_their_weights() -> None:
    n = 8000
    shapes = list(map(Schedule(profile(), 3).shape, range(n)))

    def near(observed: int, of: int, share: float) -> bool:
        return abs(observed / of - share) < 4 * math.sqrt(share * (1 - share) / of)

    assert near(sum(s.persona == "quick" for s in shapes), n, 0.75)
    to_a = [s for s in shapes if s.target.name == "a"]
    assert near(len(to_a), n, 0.75)
    sessions = Counter(s.session for s in to_a)
    assert set(sessions) == {"11", "12", "21"} and all(near(count, len(to_a), 1 / 3) for count in sessions.values())
    assert all(s.session is None and not s.stream for s in shapes if s.target.name == "b")
    assert all(s.stream for s in to_a if s.persona == "quick")
    agents = [s for s in to_a if s.persona == "agent"]
    assert near(sum(s.stream for s in agents), len(agents), 0.5)
    # Striping must not pick a session or a target: each worker of three sees the same shares.
    assert all(near(sum(s.target.name == "a" for s in shapes[k::3]), len(shapes[k::3]), 0.75) for k in range(3))


def test_a_shape_holds_integers_within_the_stated_bounds() -> None:
    schedule = Schedule(profile(time_scale=0.1), 3)
    for index in range(1000):
        shape = schedule.shape(index)
        assert shape == schedule.shape(index) and shape.index == index
        assert shape.turns[0].think_us == 0
        quick = shape.persona == "quick"
        assert (1 <= len(shape.turns) <= 50) if quick else len(shape.turns) == 3
        for turn in shape.turns:
            assert {type(value) for value in asdict(turn).values()} == {int}
            assert (2 if quick else 1) <= turn.user_tokens <= (4096 if quick else 900)
            assert turn.output_tokens_max in (range(8, 301) if quick else (20,))
        pauses = [turn.think_us for turn in shape.turns[1:]]
        assert all(200_000 <= us <= 60_000_000 if quick else us == 150_000 for us in pauses)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=30), st.integers(0, 1000))
def test_kept_history_is_the_longest_run_of_latest_turns_that_fits(costs: list[int], tokens_max: int) -> None:
    for turn, (start, kept) in enumerate(kept_history(costs, tokens_max)):
        assert kept == sum(costs[start:turn]) <= tokens_max
        assert start == 0 or sum(costs[start - 1 : turn]) > tokens_max


def test_prompt_tokens_add_up() -> None:
    schedule = Schedule(profile(), 3)
    cut = 0
    for index in range(500):
        turns = schedule.shape(index).turns
        for number, turn in enumerate(turns):
            earlier = [one.user_tokens + one.output_tokens_max for one in turns[:number]]
            while sum(earlier) > 700:
                earlier.pop(0)
                cut += 1
            assert turn.prompt_tokens == 50 + sum(earlier) + turn.user_tokens
    assert cut > 100


def test_planned_turns_are_those_of_the_arrivals_before_the_horizon() -> None:
    schedule = Schedule(profile(), 9)
    counted = sum(len(schedule.shape(arrival.index).turns) for arrival in schedule.arrivals(MINUTE_US))
    assert schedule.planned_turns(MINUTE_US) == counted > 1200
    assert schedule.planned_turns(0) == 0


def test_a_closed_load_has_members_and_no_arrivals() -> None:
    members = load_profile("members")
    schedule = Schedule(members, 1)
    for ask in (lambda: list(schedule.arrivals(10)), lambda: schedule.planned_turns(10)):
        with pytest.raises(ValueError, match="a closed load has no arrivals, its members decide"):
            ask()
    assert all(schedule.shape(i).turns[0].think_us > 0 for i in range(100)), "a member pauses before each conversation"


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="seed must be >= 0, got -1"):
        Schedule(profile(), -1)
    with pytest.raises(ValueError, match=r"worker must be in \[0, 2\), got 2"):
        next(Schedule(profile(), 1).arrivals(10, 2, 2))
    with pytest.raises(ValueError, match="a trace needs an open load"):
        Schedule(load_profile("members"), 1, Trace(due_us=[0], prompt_tokens=[5], output_tokens=[5]))
    traced = parse_profile(TEXT.replace('"poisson"', '"trace"').replace("rate_per_s = 20", ""), "x.toml")
    with pytest.raises(ValueError, match=r'x\.toml: \[load\] arrivals: "trace" needs a trace file, give --trace FILE'):
        Schedule(traced, 1)


@pytest.mark.parametrize("seed", [1, 7, 11])
def test_the_demo_measures_enough(seed: int) -> None:
    """At least 1,000 requests and 200 second turns are due after the warm-up, even if each answer takes 3 s."""
    demo = load_profile("demo")
    schedule = Schedule(demo, seed)
    warmup_us, horizon_us = int(demo.load.warmup_s * 1e6), int(demo.load.duration_s * 1e6)
    assert (demo.load.rate_per_s, warmup_us, horizon_us) == (40, 5_000_000, 35_000_000)
    first = second = 0
    targets: Counter[str] = Counter()
    for arrival in schedule.arrivals(horizon_us):
        if arrival.due_us >= warmup_us:
            shape = schedule.shape(arrival.index)
            first += 1
            targets[shape.target.name] += 1
            second += len(shape.turns) > 1 and arrival.due_us + 3_000_000 + shape.turns[1].think_us < horizon_us
            assert all(turn.output_tokens_max <= 48 for turn in shape.turns)
    assert first >= 1000 and second >= 200
    assert set(targets) == {"cortensor-stream", "cortensor-whole", "openai-chat"} and min(targets.values()) > 200


def test_community_offers_what_its_comments_say() -> None:
    community = load_profile("community")
    schedule = Schedule(community, 1)
    shapes = [schedule.shape(i) for i in range(6000)]
    turns = np.array([len(shape.turns) for shape in shapes])
    alive = community.load.rate_per_s * np.mean(
        [len(shape.turns) * 10 + sum(turn.think_us for turn in shape.turns) / 1e6 for shape in shapes]
    )
    assert 3.5 < turns.mean() < 4.1 and 380 < alive < 480
    assert {shape.session for shape in shapes} == {"11", "12", "21", None}


def test_arrival_is_plain() -> None:
    assert asdict(Arrival(3, 5)) == {"index": 3, "due_us": 5}
