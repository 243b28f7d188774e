"""Every arrival process and curve against its closed form, and pinned to the microsecond on any processor."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import tracemalloc
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

from loadtest.traffic.arrivals import BLOCK, due_blocks, due_times
from loadtest.traffic.curves import Curve
from loadtest.traffic.load import Load, read_load
from loadtest.traffic.reading import Mistakes, Table

RATE = 50.0
SPREADS: dict[str, dict[str, object]] = {
    "poisson": {"arrivals": "poisson"},
    "gamma, even": {"arrivals": "gamma", "cv": 0.5},
    "gamma, bursts": {"arrivals": "gamma", "burstiness": 0.25},
    "clients": {
        "arrivals": "clients",
        "clients": [{"share": 3, "cv": 2.0}, {"share": 2, "cv": 0.5}, {"share": 1, "cv": 1.0}],
    },
}
CURVES: dict[str, dict[str, object]] = {
    "ramp": {"shape": "ramp", "from": 0, "to": 2, "seconds": 900},
    "ramp down": {"shape": "ramp", "from": 2, "to": 0.1, "seconds": 900},
    "steps": {"shape": "steps", "factors": [0.5, 1, 2, 0.25], "step_s": 300},
    "spike": {"shape": "spike", "at_s": 200, "seconds": 30, "factor": 8},
    "on-off": {"shape": "on-off", "on_s": 40, "off_s": 20},
    "diurnal": {"shape": "diurnal", "period_s": 600, "low": 0.2, "peak_s": 100},
    "points": {"shape": "points", "points": [[0, 0.1], [60, 1], [60, 3], [300, 0], [400, 0], [500, 1]]},
}


def load(**fields: object) -> Load:
    """The [load] section of an open profile; AssertionError for a mistake."""
    mistakes = Mistakes("x.toml")
    given = {"mode": "open", "rate_per_s": RATE, "duration_s": 1200, "warmup_s": 0, "in_flight_max": 9, **fields}
    read = read_load(Table(given, "[load]", mistakes), {})
    assert not mistakes.lines
    return read


def mistakes_of(**fields: object) -> list[str]:
    mistakes = Mistakes("x.toml")
    given = {"mode": "open", "rate_per_s": RATE, "duration_s": 1200, "warmup_s": 0, "in_flight_max": 9, **fields}
    read_load(Table(given, "[load]", mistakes), {})
    return mistakes.lines


def instants_s(one: Load, until_s: float, seed: int = 1) -> np.ndarray:
    return np.array([due_us for _, due_us in due_times(one, seed, round(until_s * 1e6))]) / 1e6


def expected(curve: Curve, at_s: float) -> float:
    """The integral of the factor from 0, by trapezes between all corners: independent of `due_us`."""
    total = sum(piece.seconds for piece in curve.pieces)
    whole = sum((piece.begins + piece.ends) / 2 * piece.seconds for piece in curve.pieces)
    if at_s > total and curve.repeats:
        return whole * (at_s // total) + expected(curve, at_s % total)
    area = 0.0
    for piece in curve.pieces:
        inside = min(piece.seconds, at_s)
        end = piece.begins + (piece.ends - piece.begins) * inside / piece.seconds
        area += (piece.begins + end) / 2 * inside
        at_s -= inside
    return area + at_s * curve.pieces[-1].ends


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("window_s", [1, 10, 60])
def test_the_dispersion_of_counts_is_that_of_the_process(spread: str, window_s: int) -> None:
    """Variance over mean of the counts in windows of w seconds.

    For a stationary renewal process at rate r with gamma gaps it is cv^2 + (1 - cv^4) / (6 r w) (Cox, Renewal Theory,
    4.5: variance of the equilibrium process); for a sum of them the variances add up. The estimate from m windows
    has a relative standard error of sqrt(2 / (m - 1)) at least; 4 of it are allowed, twice as much for bursts, whose
    counts are not normal.
    """
    one = load(**SPREADS[spread])
    windows = 6000 // window_s
    counts = np.bincount((instants_s(one, 6000) // window_s).astype(int), minlength=windows)[1:]
    index = counts.var(ddof=1) / counts.mean()
    stated = sum(c.share * c.cv**2 + (1 - c.cv**4) / (6 * RATE * window_s) for c in one.clients)
    assert abs(counts.mean() / (RATE * window_s) - 1) < 5 * math.sqrt(stated / (RATE * 6000))
    allowed = 4 * math.sqrt(2 / (len(counts) - 1)) * (2 if max(c.cv for c in one.clients) > 1 else 1)
    assert abs(index / stated - 1) < allowed, (index, stated)


@pytest.mark.parametrize("spread", [name for name in SPREADS if name != "clients"])
def test_the_gaps_of_one_client_have_the_stated_variation(spread: str) -> None:
    one = load(**SPREADS[spread])
    gaps = np.diff(instants_s(one, 2000))
    cv = one.clients[0].cv
    assert abs(gaps.std() / gaps.mean() / cv - 1) < 4 * math.sqrt((1 + cv**2) / (2 * len(gaps)))
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 4 / math.sqrt(len(gaps)), "gaps do not depend on each other"


@pytest.mark.parametrize("curve", CURVES)
def test_a_constant_process_follows_its_curve_arrival_by_arrival(curve: str) -> None:
    one = load(arrivals="constant", curve=CURVES[curve])
    times = instants_s(one, 1200)
    assert len(times) > 5000 and (np.diff(times) >= 0).all()
    for number in range(0, len(times), 97):
        # Half a microsecond of rounding, at the rate of that moment.
        assert abs(RATE * expected(one.curve, times[number]) - number) <= RATE * one.curve.peak * 1e-6 + 1e-6
    assert len(times) == math.ceil(RATE * expected(one.curve, 1200) - 1e-6)


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("window_s", [1, 10, 60])
def test_a_poisson_process_follows_its_curve(curve: str, window_s: int) -> None:
    """Pearson's statistic of the counts against the integral of the rate: as many degrees of freedom as windows."""
    one = load(arrivals="poisson", curve=CURVES[curve])
    counts = np.bincount((instants_s(one, 1200) // window_s).astype(int), minlength=1200 // window_s)
    edges = RATE * np.array([expected(one.curve, edge) for edge in range(0, 1201, window_s)])
    due = np.diff(edges)
    assert counts[due < 1e-9].sum() == 0
    used = due >= 3
    statistic = ((counts[used] - due[used]) ** 2 / due[used]).sum()
    m = used.sum()
    assert abs(statistic - m) < 4.5 * math.sqrt(2 * m), (statistic, m)


@given(
    st.lists(st.tuples(st.floats(0, 50), st.floats(0, 5)), min_size=1, max_size=6),
    st.floats(0.5, 500),
    st.floats(0.01, 5),
)
def test_any_curve_gives_ascending_instants_at_its_integral(
    corners: list[tuple[float, float]], rate_per_s: float, last: float
) -> None:
    points = [[0, 1.0], *([at_s, factor] for at_s, factor in sorted(corners)), [60, last]]
    one = load(arrivals="constant", rate_per_s=rate_per_s, curve={"shape": "points", "points": points})
    times = instants_s(one, 70)
    assert (np.diff(times) >= 0).all()
    for number in range(0, len(times), 1 + len(times) // 20):
        assert abs(rate_per_s * expected(one.curve, times[number]) - number) <= rate_per_s * 5 * 2e-6 + 1e-6


def test_a_rate_that_ends_at_zero_ends_the_arrivals() -> None:
    one = load(arrivals="poisson", curve={"shape": "ramp", "from": 2, "to": 0, "seconds": 100})
    times = instants_s(one, 1e6)
    assert abs(len(times) - 100 * RATE) < 5 * math.sqrt(100 * RATE) and times[-1] <= 100


def test_a_curve_can_be_stretched_and_the_rate_scaled() -> None:
    short = load(arrivals="constant", rate_scale=2.0, curve={**CURVES["diurnal"], "time_scale": 0.5})
    assert short.rate_per_s == 2 * RATE and short.peak_per_s == 2 * RATE
    assert short.curve.factor(50) == pytest.approx(1.0) and short.curve.factor(200) == pytest.approx(0.2)
    assert len(instants_s(short, 300)) == pytest.approx(
        len(instants_s(load(arrivals="constant", curve=CURVES["diurnal"]), 600)), abs=1
    )


def test_burstiness_is_vllm_s_shape() -> None:
    assert load(arrivals="gamma", burstiness=0.25).clients == load(arrivals="gamma", cv=2.0).clients
    assert load(arrivals="gamma", burstiness=1.0).clients == load(arrivals="poisson").clients


def test_the_clients_of_a_mix_have_their_shares() -> None:
    one = load(arrivals="clients", clients=[{"share": 3, "cv": 4}, {"share": 1, "cv": 0}])
    assert [client.share for client in one.clients] == [0.75, 0.25]
    times = instants_s(one, 4000)
    # The even client, alone: every 0.08 s, to half a microsecond.
    even = np.isclose(times * 12.5, np.round(times * 12.5), atol=1e-5)
    assert even.sum() >= 4000 * 12.5
    assert abs(len(times) / (4000 * RATE) - 1) < 5 * math.sqrt(0.75 * 16 / (RATE * 4000))


def digest(blocks_each: int) -> str:
    """Of the first arrivals of every process and curve."""
    sha = hashlib.sha256()
    for spread in SPREADS.values():
        for curve in CURVES.values():
            for dues in islice(due_blocks(load(**spread, curve=curve), 7), blocks_each):
                sha.update(json.dumps(dues.tolist()).encode())
    return sha.hexdigest()[:32]


PINNED = "9a6df740ecb6f4a674c728656400b3d6"


def test_ten_thousand_arrivals_are_pinned_on_any_processor() -> None:
    """A change here means that every recorded seed now stands for other traffic: say so in the changelog."""
    assert len(SPREADS) * len(CURVES) * BLOCK > 10_000
    assert digest(1) == PINNED
    features = " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name])
    program = "from test_processes import digest; print(digest(1))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "NPY_DISABLE_CPU_FEATURES": features, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == PINNED, done.stderr


@pytest.mark.parametrize("spread", SPREADS)
def test_memory_does_not_grow_with_the_length_of_a_run(spread: str) -> None:
    blocks = due_blocks(load(**SPREADS[spread], curve=CURVES["diurnal"]), 3)
    for _ in islice(blocks, 20):
        pass
    tracemalloc.start()
    for _ in islice(blocks, 300):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000, "300,000 arrivals in blocks of a thousand"


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("workers", [2, 3, 7])
def test_the_workers_together_send_exactly_the_schedule(spread: str, workers: int) -> None:
    one = load(**SPREADS[spread], curve=CURVES["on-off"])
    whole = list(due_times(one, 4, 100_000_000))
    stripes = [list(due_times(one, 4, 100_000_000, None, worker, workers)) for worker in range(workers)]
    assert sorted(chain.from_iterable(stripes)) == whole
    assert [index for index, _ in whole] == list(range(len(whole))) and len(whole) > 3 * BLOCK


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"rate_per_s": -1}, "rate_per_s: must be > 0, got -1"),
        ({"arrivals": "gamma", "cv": 1, "burstiness": 1}, "cv: says the same as burstiness"),
        ({"arrivals": "gamma", "burstiness": 0}, "burstiness: must be > 0, got 0"),
        ({"arrivals": "poisson", "cv": 1}, 'cv: has no meaning with arrivals = "poisson", remove it'),
        ({"arrivals": "clients"}, "clients: must be a list such as"),
        ({"arrivals": "clients", "clients": [{"share": 0, "cv": 1}]}, "clients[1].share: must be > 0, got 0"),
        ({"arrivals": "trace"}, 'rate_per_s: has no meaning with arrivals = "trace", remove it'),
        ({"curve": 3}, "curve: must be a table such as"),
        ({"curve": {"shape": "sine"}}, "curve.shape: "),
        ({"curve": {"shape": "ramp", "from": 0, "to": 0, "seconds": 9}}, "curve.shape: the rate is 0 at all times"),
        ({"curve": {"shape": "steps", "factors": [], "step_s": 1}}, "curve.factors: must be a list of numbers"),
        ({"curve": {"shape": "points", "points": [[0, 1], [0]]}}, "curve.points: must be a list of [second, factor]"),
        ({"curve": {"shape": "points", "points": [[1, 1]]}}, "curve.points: must begin at second 0"),
        ({"curve": {"shape": "points", "points": [[0, 1], [1, -1]]}}, "curve.points: every factor must be from 0"),
        ({"curve": {"shape": "spike", "at_s": 1, "seconds": 1}}, "curve.factor: is missing"),
        ({"curve": {"shape": "on-off", "on_s": 1, "off_s": 1, "of": 1}}, "curve.of: unknown field, did you mean off"),
    ],
)
def test_a_mistake_is_one_line_with_its_field(fields: dict[str, object], told: str) -> None:
    (line,) = mistakes_of(**fields)
    assert line.startswith("x.toml: [load] " + told), line
