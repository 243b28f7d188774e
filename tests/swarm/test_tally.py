"""Live quantiles: what arrives on the master in numbered deltas is what the rows say, within 1 %."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_rows import made_row

from loadtest.quantiles import RELATIVE_ERROR, LogHistogram, nearest_rank
from loadtest.records import RequestRecord
from loadtest.swarm.tally import Merged, Tally

MS = 1_000_000


def turn(seq: int, ttft_ms: int, *, e2e_ms: int = 0, outcome: str = "ok", **changes: Any) -> RequestRecord:
    """A streamed turn that was scheduled at 0, sent 2 ms later, and gave its first content `ttft_ms` after that."""
    sent = 2 * MS
    return made_row(
        seq,
        **{
            "scheduled_ns": 0,
            "sent_ns": sent,
            "first_content_ns": sent + ttft_ms * MS,
            "last_content_ns": sent + ttft_ms * MS + 90 * MS,
            "done_ns": sent + (e2e_ms or ttft_ms + 100) * MS,
            "usage_completion_tokens": 10,
            "content_chunks": 10,
            "outcome": outcome,
            **changes,
        },
    )


@settings(max_examples=50, deadline=None)
@given(
    ttfts=st.lists(st.integers(1, 100_000), min_size=1, max_size=60),
    failed=st.sets(st.integers(0, 59)),
    cuts=st.sets(st.integers(0, 59)),
    workers=st.integers(1, 3),
)
def test_deltas_of_several_workers_give_the_quantiles_of_all_rows(
    ttfts: list[int], failed: set[int], cuts: set[int], workers: int
) -> None:
    tallies = [Tally() for _ in range(workers)]
    merged = Merged()
    for n, ttft_ms in enumerate(ttfts):
        tallies[n % workers].seen(turn(n, ttft_ms, outcome="truncated" if n in failed else "ok"))
        if n in cuts:
            merged.take(n % workers, tallies[n % workers].delta())
    for worker, tally in enumerate(tallies):
        merged.take(worker, tally.delta())
    assert merged.gaps == 0
    exact = sorted(math.inf if n in failed else float(ttft) for n, ttft in enumerate(ttfts))
    live = merged.of("measure")["ttft"]
    assert live.n() == len(ttfts)
    for q in (0.5, 0.95, 0.99):
        value = live.quantile_ms(q)
        assert value is not None
        if math.isinf(nearest_rank(exact, q)):
            assert math.isinf(value), "a quantile among the failed is longer than anything seen"
        else:
            assert value == pytest.approx(nearest_rank(exact, q), rel=RELATIVE_ERROR * 1.001)


def test_a_delta_that_comes_twice_counts_once_and_one_that_is_missing_is_seen() -> None:
    tally, merged = Tally(), Merged()
    tally.seen(turn(0, 100))
    first = tally.delta()
    assert merged.take(0, first)
    assert not merged.take(0, first)
    assert merged.of("measure")["ttft"].n() == 1
    tally.seen(turn(1, 100))
    tally.delta()  # never arrives
    tally.seen(turn(2, 100))
    assert merged.take(0, tally.delta())
    assert merged.gaps == 1
    assert merged.of("measure")["ttft"].n() == 2
    # Another worker has numbers of its own.
    assert merged.take(1, Tally().delta()) and merged.gaps == 1


def test_each_metric_has_the_definition_of_the_report() -> None:
    tally, merged = Tally(), Merged()
    gaps = LogHistogram()
    gaps.add_all([10 * MS] * 9)
    keys, counts = tuple(gaps.counts), tuple(gaps.counts.values())
    tally.seen(turn(0, 100, e2e_ms=250, itl_keys=keys, itl_counts=counts, first_content_bound_ns=3 * MS))
    # A request that opened its connection began with the first packet, at 1 ms.
    opened = {"connection_new": True, "connecting_ns": MS, "stream": False}
    tally.seen(turn(1, 100, e2e_ms=250, target="other", **opened))
    tally.seen(turn(2, 100, outcome="dropped", sent_ns=None))
    tally.seen(turn(3, 100, outcome="not_reached", sent_ns=None))
    tally.seen(turn(4, 100, e2e_ms=900, phase="warmup"))
    merged.take(0, tally.delta())
    assert merged.targets() == ["other", "t"]
    mine = merged.of("measure", "t")

    def p50(metric: str) -> float | None:
        return mine[metric].quantile_ms(0.5)

    figures = {"ttft": 100, "e2e": 250, "tpot": 10, "itl": 10, "send_lag": 2, "first_content_bound": 3}
    assert {metric: p50(metric) for metric in figures} == pytest.approx(figures, rel=RELATIVE_ERROR)
    assert mine["itl"].n() == 9
    other = merged.of("measure", "other")
    assert other["ttft"].n() == other["tpot"].n() == 0, "it did not ask for a stream"
    assert other["send_lag"].quantile_ms(0.5) == pytest.approx(1, rel=RELATIVE_ERROR)
    assert merged.of("measure")["e2e"].n() == 2, "dropped and not reached turns were not tried, the warm-up is apart"
    assert merged.of("warmup")["e2e"].quantile_ms(1.0) == pytest.approx(900, rel=RELATIVE_ERROR)


def test_tokens_are_the_servers_word_else_ours() -> None:
    tally = Tally()
    tally.seen(turn(0, 1, usage_prompt_tokens=50, usage_completion_tokens=7))
    tally.seen(turn(1, 1, prompt_tokens_planned=20, usage_completion_tokens=0, counted_tokens=5))
    tally.seen(turn(2, 1, prompt_tokens_planned=3, usage_completion_tokens=None, counted_tokens=None, content_chunks=4))
    tally.seen(turn(3, 1, prompt_tokens_planned=999, outcome="dropped", sent_ns=None))
    assert (tally.prompt_tokens, tally.output_tokens) == (73, 16)
