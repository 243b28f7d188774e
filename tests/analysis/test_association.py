"""Association: ranks and their bootstrap, residuals that keep the node, planted links found and none invented."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from played import DEFAULT, Player

from loadtest.analysis.association import association, verdict, wider
from loadtest.analysis.bounds import bonett_wright
from loadtest.analysis.columns import OF_MEASURED, read_turns
from loadtest.analysis.correlation import bootstrap, clustered, mid_ranks, spearman
from loadtest.analysis.frames import Clocks
from loadtest.analysis.join import join_run
from loadtest.analysis.residuals import held, residuals
from loadtest.analysis.snapshots import read_snapshots
from loadtest.records import NodeSnapshot
from loadtest.runfolder import read_manifest
from loadtest.simulator.network import Submitted

from .run_factory import T0_NS, WALL_MINUS_MONO_NS, board, snapshots_of

# Ranks.


def test_spearman_has_a_published_value() -> None:
    """IQ against hours of television, the example of many textbooks: -29/165."""
    iq = np.array([106, 100, 86, 101, 99, 103, 97, 113, 112, 110], dtype=float)
    hours = np.array([7, 27, 2, 50, 28, 29, 20, 12, 6, 17], dtype=float)
    assert spearman(iq, hours) == pytest.approx(-29 / 165)


def test_ties_share_their_rank_and_infinity_is_the_last() -> None:
    assert mid_ranks(np.array([5.0, math.inf, 5.0, 1.0, math.inf])).tolist() == [2.5, 4.5, 2.5, 1.0, 4.5]
    assert math.isnan(spearman(np.array([1.0, 1.0, 1.0]), np.array([1.0, 2.0, 3.0])))


few = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6) | st.just(math.inf)), min_size=5, max_size=12)


@settings(max_examples=60, deadline=None)
@given(few, st.integers(0, 1000))
def test_the_bootstrap_is_that_of_drawn_and_ranked_again(pairs: list[tuple[float, float]], seed: int) -> None:
    x, y = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    n, replicates = len(x), 40
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=replicates)
    by_hand = np.array([spearman(np.repeat(x, times), np.repeat(y, times)) for times in drawn])
    by_hand = by_hand[~np.isnan(by_hand)]
    found = bootstrap(x, y, replicates, seed)
    if len(by_hand) < replicates / 2:
        assert found is None
    else:
        assert found == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])), abs=1e-9)


def test_a_clustered_bootstrap_draws_whole_units() -> None:
    """The same pairs many times over are no more units than once."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 30))
    once = clustered(x, y, np.arange(30))
    often = clustered(np.tile(x, 50), np.tile(y, 50), np.tile(np.arange(30), 50))
    assert once == pytest.approx(often)
    taken_for_units = clustered(np.tile(x, 50), np.tile(y, 50), np.arange(1500))
    assert once is not None and taken_for_units is not None
    assert once[1] - once[0] > 4 * (taken_for_units[1] - taken_for_units[0])


def test_without_a_link_one_interval_in_twenty_leaves_out_zero() -> None:
    alarms = 0
    for seed in range(300):
        x, y = np.random.default_rng(seed).normal(size=(2, 40))
        alarms += verdict(wider(bonett_wright(spearman(x, y), 40), bootstrap(x, y, 200))) == "associated"
    assert 2 <= alarms <= 24  # binomial(300, 0.05) stays below 25 but once in 400


# Residuals.


def test_residuals_leave_the_node_and_nothing_else() -> None:
    """Without noise they are the node's own effect, to the last digits, though lengths and hours differ by node."""
    rng = np.random.default_rng(1)
    node = np.repeat(np.arange(12), 50)
    own = rng.normal(size=12)
    prompt = rng.normal(size=600) + 0.3 * node
    hour = (np.arange(600) % 50) // (4 + node % 5)
    effects = rng.normal(size=20)
    left = residuals(own[node] + 0.7 * prompt + effects[hour], [prompt], node, [hour])
    apart = [left[node == i] for i in range(12)]
    assert max(float(np.ptp(each)) for each in apart) < 1e-6
    means = np.array([each.mean() for each in apart])
    assert (means - own) == pytest.approx(np.full(12, (means - own)[0]), abs=1e-6)


def test_a_slow_node_is_not_excused_by_the_load_that_its_slowness_makes() -> None:
    """A node that takes ten times as long holds ten times as many; across nodes the two cannot be told apart."""
    rng = np.random.default_rng(2)
    node = np.repeat([0, 1], 500)
    load = np.log1p(rng.poisson(np.where(node == 1, 10.0, 1.0)))
    latency = np.where(node == 1, math.log(10), 0.0) + 0.1 * load + rng.normal(0, 0.05, 1000)
    left = residuals(latency, [load], node, [])
    assert left[node == 1].mean() - left[node == 0].mean() == pytest.approx(math.log(10), abs=0.05)


def test_a_column_that_never_changes_has_no_slope() -> None:
    y = np.arange(10.0)
    left = residuals(y, [np.full(10, 3.0)], np.zeros(10, dtype=np.int64), [np.zeros(10, dtype=np.int64)])
    assert (left - y) == pytest.approx(np.full(10, left[0] - y[0]))
    assert np.isnan(residuals(np.full(3, np.nan), [y[:3]], np.zeros(3, dtype=np.int64), [])).all()


spans = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 12), st.none() | st.integers(1, 6)), min_size=1, max_size=20
)


@settings(max_examples=150, deadline=None)
@given(spans)
def test_what_a_node_holds_is_counted_as_by_hand(rows: list[tuple[int, int, int | None]]) -> None:
    node = np.array([each for each, _, _ in rows], dtype=np.int64)
    sent = np.array([at for _, at, _ in rows], dtype=float)
    done = np.array([np.nan if lasts is None else at + lasts for _, at, lasts in rows], dtype=float)
    expected = [
        sum(other != i and node[other] == node[i] and sent[other] < sent[i] < done[other] for other in range(len(rows)))
        for i in range(len(rows))
    ]
    assert held(node, sent, done).tolist() == expected


# Whole runs, made.

HOURS = 5


def made(
    seed: int, link: float, fails: float = 0.0, nodes: int = 60, per_node: int = 40, hours: float = 0.5
) -> tuple[pd.DataFrame, list[NodeSnapshot]]:
    """A cohort and its snapshots: log latency falls by `link` per standard deviation of reputation, and failures with
    it by `fails`."""
    rng = np.random.default_rng(seed)
    percent = rng.uniform(60, 99, nodes)
    standard = (percent - percent.mean()) / percent.std()
    n = nodes * per_node
    node = rng.permutation(np.repeat(np.arange(nodes), per_node))
    sent = np.sort(rng.uniform(0, hours * 3600, n))
    prompt = rng.integers(10, 2000, n)
    ttft_s = 0.3 * np.exp(-link * standard[node] + 0.2 * np.log(prompt) + rng.normal(0, 0.6, n))
    failed = rng.random(n) < np.clip(0.1 - fails * standard[node], 0, 1)
    start = T0_NS + np.round(sent * 1e9).astype(np.int64)

    def whole(values: Any) -> pd.Series[int]:
        return pd.Series(np.asarray(values), dtype="Int64")

    names = np.array([f"0x{i:03x}" for i in range(nodes)])
    cohort = pd.DataFrame(
        {
            "node": pd.Categorical(names[node]),
            "outcome": np.where(failed, "server_error", "ok"),
            "error_kind": "",
            "stream": True,
            "worker": whole(rng.integers(0, 2, n)),
            "clock_offset_ns": whole(np.zeros(n, dtype=np.int64)),
            "sent_ns": whole(start),
            "first_content_ns": whole(start + np.round(ttft_s * 1e9).astype(np.int64)),
            "done_ns": whole(start + np.round((ttft_s + 2) * 1e9).astype(np.int64)),
            "prompt_tokens_planned": whole(prompt),
            **{name: whole(rng.integers(5, 300, n)) for name in ("usage_completion_tokens", "counted_tokens")},
            "content_chunks": whole(np.ones(n, dtype=np.int64)),
            "reputation": percent[node],
            "window_precommit_percent": np.nan,
            "reputation_session": np.nan,
            "snapshot_age_s": 10.0,
        }
    )
    snapshots = []
    for at in range(-600, int(hours * 3600) + 601, 600):
        for name, rate in zip(names, percent, strict=True):
            entries = 1000 + (at + 600) // 6
            counts = {"precommit_counter": entries, "precommit_points": round(entries * rate / 100)}
            snapshots.append(board(str(name), at, commit_counter=None, commit_points=None, **counts))
    return cohort, snapshots


def of(cohort: pd.DataFrame, snapshots: list[NodeSnapshot]) -> dict[str, Any]:
    clocks = Clocks(T0_NS, WALL_MINUS_MONO_NS, 1000, {})
    return association(cohort, clocks, snapshots_of(snapshots), 1500.0)


def relation(found: dict[str, Any], outcome: str) -> dict[str, Any]:
    return next(r for r in found["relations"] if (r["series"], r["outcome"]) == ("reputation", outcome))


def test_a_planted_association_is_found_with_its_sign() -> None:
    for link, sign, word in ((0.5, -1, "faster"), (-0.5, 1, "slower")):
        found = relation(of(*made(1, link)), "latency")
        assert found["verdict"] == "associated" and math.copysign(1, found["rho"]) == sign
        assert word in found["text"] and found["text"].startswith("Association: ")
        assert found["nodes"] == 60 and found["interval"][0] <= found["rho"] <= found["interval"][1]
    failure = relation(of(*made(1, 0.0, fails=0.08)), "failure")
    assert failure["verdict"] == "associated" and failure["rho"] < 0 and "less failing" in failure["text"]


def test_null_runs_show_none() -> None:
    alarms = {"latency": 0, "failure": 0}
    for seed in range(20):
        found = of(*made(100 + seed, 0.0, nodes=40, per_node=25))
        for outcome in alarms:
            alarms[outcome] += relation(found, outcome)["verdict"] == "associated"
    assert max(alarms.values()) <= 4, alarms  # binomial(20, 0.05): 5 and more in 3 of 1,000


def test_nodes_of_a_few_turns_are_excluded_and_counted() -> None:
    cohort, snapshots = made(1, 0.5)
    few = cohort["node"].isin(["0x000", "0x001"]).to_numpy() & (np.arange(len(cohort)) % 5 > 0)
    found = of(cohort[~few].reset_index(drop=True), snapshots)
    assert found["nodes_few"] == 2 and relation(found, "latency")["nodes"] == 58
    seven = [f"0x{i:03x}" for i in range(7)]
    found = of(cohort[cohort["node"].isin(seven)].reset_index(drop=True), snapshots)
    assert relation(found, "latency")["text"].startswith("Cannot tell: 7 nodes")
    assert found["points"] and relation(found, "latency")["rho"] is None


def test_a_narrow_range_is_warned_of() -> None:
    """Only the better half of the network served: what is left of an association is smaller, and the report says so."""
    cohort, snapshots = made(1, 0.5)
    whole = relation(of(cohort, snapshots), "latency")
    better = cohort[cohort["reputation"] > cohort["reputation"].median()].reset_index(drop=True)
    half = relation(of(better, snapshots), "latency")
    assert not whole["restricted"] and half["restricted"] and half["spread_ratio"] < 0.6
    assert half["nodes_network"] == 60 and half["range_network"][0] < half["range_seen"][0]
    assert abs(half["rho"]) < abs(whole["rho"])


def test_failed_turns_are_slower_than_every_answer() -> None:
    """Left out, a node that fails whenever it is slow would look fast."""
    cohort, snapshots = made(1, 0.0)
    low = cohort["reputation"] < cohort["reputation"].quantile(0.4)
    cohort["outcome"] = np.where(low & (np.arange(len(cohort)) % 10 < 7), "router_timeout", "ok")
    found = relation(of(cohort, snapshots), "latency")
    assert found["verdict"] == "associated" and found["rho"] < 0


def test_without_anybody_who_served() -> None:
    cohort, snapshots = made(1, 0.5)
    nobody = cohort.assign(node=pd.Categorical([None] * len(cohort), categories=["0x000"]))
    found = of(nobody, snapshots)
    assert found["turns"] == 0 and found["points"] == []
    assert all(r["verdict"] == "cannot tell" for r in [*found["relations"], *found["next_hour"]])
    assert all(r["verdict"] == "cannot tell" for r in of(nobody.iloc[:0], [])["relations"])


# The next hour.


def test_the_next_hour_in_both_directions() -> None:
    found = of(*made(3, 0.5, hours=HOURS, per_node=200))["next_hour"]
    now, failures, back, _ = found
    assert now["verdict"] == "associated" and now["rho"] < 0 and now["hours"] == HOURS - 1
    assert failures["verdict"] == "cannot tell"
    # Reputations do not change here, so a node that is slow now has the low success of the hour after.
    assert back["verdict"] == "associated" and back["rho"] < 0 and back["hours"] >= 2


def test_a_short_run_cannot_tell_the_next_hour() -> None:
    for hours in (0.5, 1.9):
        found = of(*made(3, 0.5, hours=hours, per_node=100))["next_hour"]
        assert [each["verdict"] for each in found] == ["cannot tell"] * 4
        assert all("and 2 are needed" in each["text"] for each in found)


def test_hours_without_a_link_show_none() -> None:
    alarms = 0
    for seed in range(12):
        found = of(*made(200 + seed, 0.0, nodes=30, per_node=80, hours=3.2))["next_hour"]
        alarms += found[0]["verdict"] == "associated"
    assert alarms <= 3


# In virtual time.


class Linked(Player):
    """The simulated network, whose answers to us take a time of our choice: by reliability, or by nothing."""

    link = 0.0

    def _answer(self, submitted: Submitted, now_ns: int, prompt_tokens: int, worker: int) -> dict[str, Any]:
        work = submitted.task.returned
        lost = 0.0 if work is None else 1.0 - work.node.reliability
        first_ns = round(3e8 * math.exp(self.link * lost + self.rng.gauss(0, 0.3)))
        offsets = [first_ns + 10_000_000 * i for i in range(len(submitted.offsets_ns))]
        return super()._answer(replace(submitted, offsets_ns=offsets), now_ns, prompt_tokens, worker)


def simulated(folder: Path, seed: int, link: float) -> dict[str, Any]:
    plan = replace(DEFAULT, seconds=900.0, settle_s=30.0, changes={"nodes": 45, "flaky_share": 0.5})
    player = Linked(folder, seed, (), plan)
    player.link = link
    player.play()
    figures = join_run(folder)
    cohort, manifest = read_turns(folder, OF_MEASURED), read_manifest(folder)
    clocks = Clocks.of(folder, manifest, cohort)
    return association(cohort, clocks, read_snapshots(folder), figures["join"]["tolerance_s"])


def test_in_a_simulated_network_unreliable_nodes_that_are_slow_are_found(tmp_path: Path) -> None:
    found = relation(simulated(tmp_path, 1, 6.0), "latency")
    assert found["verdict"] == "associated" and found["rho"] < -0.4, found["text"]


@pytest.mark.long
def test_in_many_simulated_networks_nothing_is_invented(tmp_path: Path) -> None:
    texts = [relation(simulated(tmp_path / str(seed), seed, 0.0), "latency") for seed in range(1, 16)]
    assert sum(each["verdict"] == "associated" for each in texts) <= 3, [each["text"] for each in texts]
    linked = [relation(simulated(tmp_path / f"l{seed}", seed, 6.0), "latency") for seed in range(1, 6)]
    assert all(each["verdict"] == "associated" and each["rho"] < 0 for each in linked)
