"""Cells: percentiles, intervals and texts of every group at once, against those of one group alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.analysis import metrics
from loadtest.analysis.bounds import bonett_wright, rank_intervals, wilson
from loadtest.analysis.cells import Grouping, Placed, Rows, codes_of
from loadtest.analysis.percentiles import LEVELS, describe
from loadtest.quantiles import rank_interval

from .run_factory import NODE_A, failed, frame, turn

# Intervals.


def test_rank_intervals_are_those_of_one_size_at_a_time() -> None:
    sizes = np.array([*range(0, 400), 999, 1000, 2995, 10_000, 123_456])
    for _, q in (*LEVELS, ("p90", 0.9)):
        low, high = rank_intervals(sizes, q)
        expected = [rank_interval(int(n), q) or (0, 0) for n in sizes]
        assert list(zip(low.tolist(), high.tolist(), strict=True)) == expected


def test_wilson_has_published_values() -> None:
    """Newcombe 1998, table I: 81/263, 15/148, 0/20, 1/29."""
    low, high = wilson(np.array([81, 15, 0, 1]), np.array([263, 148, 20, 29]))
    assert low.tolist() == pytest.approx([0.2553, 0.0624, 0.0, 0.0061], abs=1e-4)
    assert high.tolist() == pytest.approx([0.3662, 0.1605, 0.1611, 0.1718], abs=1e-4)


def test_wilson_of_all_and_of_none() -> None:
    low, high = wilson(np.array([20, 0]), np.array([20, 0]))
    assert (low[0], high[0]) == (pytest.approx(1 - 0.1611, abs=1e-4), 1.0)
    assert np.isnan(low[1]) and np.isnan(high[1])


@pytest.mark.parametrize(
    ("n", "low", "high"), [(20, -0.17, 0.66), (50, 0.02, 0.54), (100, 0.11, 0.47), (200, 0.17, 0.42)]
)
def test_bonett_and_wright_at_rho_03(n: int, low: float, high: float) -> None:
    """The widths that the method page gives."""
    found = bonett_wright(0.3, n)
    assert found is not None and found == pytest.approx((low, high), abs=0.0051)


def test_a_correlation_of_four_pairs_has_no_interval() -> None:
    assert bonett_wright(0.5, 4) is None and bonett_wright(float("nan"), 40) is None


# Quantiles.

values = st.lists(st.floats(0, 100) | st.just(float("inf")) | st.just(float("nan")), max_size=60)


@settings(max_examples=150, deadline=None)
@given(values, st.integers(1, 4), st.randoms(use_true_random=False))
def test_selected_ranks_are_those_of_the_sorted_values(
    given_values: list[float], groups: int, random: np.random.Generator
) -> None:
    array = np.array(given_values, dtype=float)
    codes = np.array([random.randint(-1, groups - 1) for _ in array], dtype=np.int32)  # type: ignore[attr-defined]
    gathered = Placed(Grouping(codes, list("abcd")[:groups])).gathered(array)
    ranks = np.array([[random.randint(0, int(n)) for _ in range(4)] for n in gathered.sizes])  # type: ignore[attr-defined]
    found = gathered.select(ranks)
    for group in range(groups):
        own = np.sort(array[(codes == group) & ~np.isnan(array)])
        assert gathered.sizes[group] == len(own)
        expected = [own[rank - 1] if rank else np.nan for rank in ranks[group]]
        assert np.array_equal(found[group], expected, equal_nan=True)


def test_a_cell_says_what_describe_says(tmp_path: Path) -> None:
    """Of each of two sessions: values, intervals and texts are those of the session's rows alone."""
    rows = [turn(i, e2e_ms=100 + 17 * i % 900, session="s") for i in range(400)]
    rows += [turn(400 + i, e2e_ms=50 + i, session="t") for i in range(150)]
    rows += [failed(600 + i, "client_timeout", waited_ms=120_000 + i, session="t") for i in range(200)]
    whole = frame(tmp_path, rows).assign(node=pd.Series([NODE_A] * 750, dtype="str"))
    cells = Rows(whole).cells(Placed(codes_of(whole["session"])), 300)
    for name, cell in zip(("s", "t"), cells, strict=True):
        own = whole[whole["session"] == name].reset_index(drop=True)
        alone = describe(metrics.e2e_ms(own), metrics.waited_ms(own, "sent_ns"))
        assert cell["e2e_n"] == alone["n"] and cell["requests"] == len(own)
        for level in ("p50", "p95"):
            assert cell[f"e2e_ms_{level}"] == alone[level]
            assert cell[f"e2e_ms_{level}_interval"] == alone[f"{level}_interval"]
            assert cell.get(f"e2e_ms_{level}_text") == alone.get(f"{level}_text")
    assert cells[1]["e2e_ms_p95_text"] == "> 120 s"
    assert cells[1]["ok_share"] == pytest.approx(0.429) and cells[1]["ok_share_interval"] == [0.3778, 0.4809]


@pytest.mark.parametrize(("count", "level"), [(99, "p50"), (299, "p95"), (999, "p99")])
def test_one_value_less_than_a_percentile_takes_is_too_few(tmp_path: Path, count: int, level: str) -> None:
    for n, text in ((count, f"n too small ({count} < {count + 1})"), (count + 1, None)):
        whole = frame(tmp_path / str(n), [turn(i) for i in range(n)]).assign(node=pd.Series([NODE_A] * n, dtype="str"))
        (cell,) = Rows(whole).cells(Placed(Grouping(np.zeros(n, dtype=np.int32), ["all"])), 300)
        assert cell.get(f"e2e_ms_{level}_text") == text
        assert cell[f"e2e_ms_{level}"] == 500  # stays for those who plot it


def test_text_columns_may_be_categories(tmp_path: Path) -> None:
    rows = [turn(i, session="abc"[i % 3], ttft_ms=10 + i) for i in range(30)] + [failed(30, "empty", session="a")]
    plain = frame(tmp_path, rows).assign(node=pd.Series([NODE_A] * 31, dtype="str"))
    text = [name for name in plain if str(plain[name].dtype) == "str"]
    encoded = plain.assign(**{name: plain[name].astype("category") for name in text})
    one, other = (Rows(each).cells(Placed(codes_of(each["session"])), 300) for each in (plain, encoded))
    assert one == other and len(one) == 3
