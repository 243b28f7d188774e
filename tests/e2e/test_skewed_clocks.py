"""Workers whose clocks are 300 ms ahead and behind: nothing changes but the offset they measure, within its bound.

All processes run on one machine, so the true offset of a skewed worker is known to the nanosecond: it is the skew that
was injected, and every instant of its rows can be put right exactly and set beside what the harness made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import Ended, assert_complete
from swarms import assert_exact, swarm

from loadtest import runfolder
from loadtest.analysis import join
from loadtest.analysis.accuracy import accuracy
from loadtest.analysis.attribution import attribute
from loadtest.analysis.batches import request_batches
from loadtest.analysis.frames import JOINED_REQUESTS, Clocks, read_joined, to_frame
from loadtest.analysis.looked import lookups_of
from loadtest.analysis.reputation import Reputation
from loadtest.analysis.snapshots import read_snapshots
from loadtest.clock import SKEW_VARIABLE
from loadtest.jobs.demo import SIMULATOR_END_S, start_simulator
from loadtest.processes import end
from loadtest.traffic.profile import load_profile
from loadtest.traffic.schedule import Schedule

pytestmark = pytest.mark.long
SEED = 11
SKEWS_MS = (0, 300, -300)
FAR_MS = 100.0  # a third of the skew: what a busy machine may add, and an uncorrected clock cannot hide in
PROFILE = """
[load]
mode = "open"
arrivals = "poisson"
rate_per_s = 8.0
duration_s = 9.0
warmup_s = 1.0
drain_s = 20.0
time_scale = 0.02
in_flight_max = 300

[writing]
system_prompt_tokens = 20
history_tokens_max = 512

[observe]
poll_s = 0.5
grace_s = 1.0
lookup_share_max = 1.0
lookup_deadline_s = 10.0

[[target]]
name = "stream"
route = "cortensor"
sessions = [11]
timeout_s = 15.0

[[persona]]
name = "quick"
weight = 1.0
locale = "en_US"
prompt_tokens = { dist = "uniform", min = 8, max = 40 }
output_tokens = { dist = "uniform", min = 4, max = 12 }
turns = { dist = "uniform", min = 1, max = 3 }
think_s = { dist = "uniform", min = 5, max = 20 }
"""


@dataclass
class Run:
    """One run, its truth, and by worker number the skew that was injected into it."""

    result: Ended
    truth: Path
    skews_ns: dict[int, int]

    def bounds_ns(self) -> dict[int, int]:
        return {worker["worker"]: worker["clock_bound_ns"] for worker in self.result.manifest()["workers"]}

    def rows(self) -> pd.DataFrame:
        """Rows with `exact_ns`, what truly is to be added for the master's clock, and the stated `bound_ns`."""
        rows = to_frame(pa.concat_tables(request_batches(self.result.run)))
        exact_ns = rows["worker"].map({worker: -skew for worker, skew in self.skews_ns.items()})
        return rows.assign(exact_ns=exact_ns, bound_ns=rows["worker"].map(self.bounds_ns()))


def run(folder: Path, skews_ms: tuple[int, ...]) -> Run:
    folder.mkdir()
    profile = folder / "skewed.toml"
    profile.write_text(PROFILE)
    simulator, url = start_simulator(folder / "port", folder / "truth")
    try:
        with swarm(folder, url, profile) as one:
            one.start_master(len(skews_ms), "--seed", str(SEED), observe=True)
            processes = [one.start_worker(environment={SKEW_VARIABLE: str(skew)}) for skew in skews_ms]
            result = one.end()
    finally:
        end(simulator, SIMULATOR_END_S)
    skew_of = {process.pid: skew * 1_000_000 for process, skew in zip(processes, skews_ms, strict=True)}
    skews_ns = {worker["worker"]: skew_of[worker["pid"]] for worker in result.manifest()["workers"]}
    return Run(result, folder / "truth", skews_ns)


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("clocks") / "skewed", SKEWS_MS)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("clocks") / "straight", (0,) * len(SKEWS_MS))


def test_the_bound_covers_what_is_left_of_the_skew(skewed: Run, straight: Run) -> None:
    for one in (skewed, straight):
        rows = one.rows()
        assert ((rows["clock_offset_ns"] - rows["exact_ns"]).abs() <= rows["bound_ns"]).all()
        for worker in one.result.manifest()["workers"]:
            off_ns = worker["clock_offset_ns"] + one.skews_ns[worker["worker"]]
            assert abs(off_ns) <= worker["clock_bound_ns"] < 50_000_000
    assert sorted(skewed.skews_ns.values()) == [-300_000_000, 0, 300_000_000]


def test_the_same_is_sent_at_the_same_instants(skewed: Run, straight: Run) -> None:
    planned = ["arrival", "turn", "persona", "target", "session", "prompt_tokens_planned", "output_tokens_max"]
    both = []
    for one in (skewed, straight):
        assert_complete(one.result, workers=len(SKEWS_MS))
        assert_exact(one.result)
        rows = one.rows().sort_values(["arrival", "turn"], ignore_index=True)
        assert set(rows["outcome"]) <= {"ok", "not_reached"}
        rows["due_ns"] = rows["scheduled_ns"] + rows["clock_offset_ns"] - one.result.manifest()["t0_ns"]
        both.append(rows)
    pd.testing.assert_frame_equal(both[0][planned], both[1][planned])
    first = [rows[rows["turn"] == 0] for rows in both]
    apart_ns = (first[0]["due_ns"] - first[1]["due_ns"]).abs()
    assert (apart_ns <= 2 * first[0]["bound_ns"] + 2 * first[1]["bound_ns"] + 2).all()

    # The server, whose clock is the master's, is the witness: nobody is 300 ms early or late.
    schedule = Schedule(load_profile(str(skewed.result.runs_dir.parent / "skewed.toml")), SEED)
    due_us = {one.index: one.due_us for one in schedule.arrivals(9_000_000)}
    for one in (skewed, straight):
        rows = with_truth(one)
        rows = rows[rows["turn"] == 0]
        due_ns = rows["arrival"].map(due_us) * 1000 + one.result.manifest()["t0_ns"]
        late_ns = rows["received_ns"] - due_ns
        assert (late_ns >= -2 * rows["bound_ns"]).all()
        assert (late_ns.groupby(rows["worker"]).median() < FAR_MS * 1e6).all()


def with_truth(one: Run) -> pd.DataFrame:
    """Rows that were sent, each beside what the server saw of it, on the master's clock."""
    columns = ["client_reference", "received_ns", "first_written_ns", "returned_node"]
    truth = to_frame(runfolder.read_truth(one.truth).select(columns))
    rows = one.rows()
    sent = rows[rows["sent_ns"].notna()]
    both = sent.merge(truth, on="client_reference", validate="1:1")
    assert len(both) == len(sent) == len(truth) > 100
    return both


def test_no_effect_comes_before_its_cause(skewed: Run) -> None:
    """On the master's clock a request is received after it was sent, and its text is read after it was written."""
    rows = with_truth(skewed)
    sent_ns = rows["sent_ns"] + rows["clock_offset_ns"]
    read_ns = rows["first_content_ns"] + rows["clock_offset_ns"]
    assert (sent_ns - rows["bound_ns"] <= rows["received_ns"]).all()
    assert (read_ns + rows["bound_ns"] >= rows["first_written_ns"]).all()
    # And soon after it, at least once: an offset that is wrong by the skew fails one of the four.
    for late_ns in (rows["received_ns"] - sent_ns, read_ns - rows["first_written_ns"]):
        assert (late_ns.groupby(rows["worker"]).min() < FAR_MS * 1e6).all()


def test_durations_are_those_of_the_server(skewed: Run, straight: Run) -> None:
    """Kernel timestamps are of a clock the worker's own does not agree with; its durations must not show it."""
    rows = with_truth(skewed)
    excess_ns = (rows["first_content_ns"] - rows["sent_ns"]) - (rows["first_written_ns"] - rows["received_ns"])
    assert (excess_ns >= -10_000).all(), "both conversions between clocks are known to a microsecond or so"
    assert (excess_ns.groupby(rows["worker"]).median() < FAR_MS * 1e6).all()
    for one in (skewed, straight):
        for worker in one.result.manifest()["workers"]:
            assert worker["reads_kernel"] >= 0.9 * worker["reads"] > 0
            assert worker["clock_steps"] == 0
        errors = accuracy(one.result.run, one.truth)
        print(one.skews_ns, one.bounds_ns(), errors)
        assert errors["matched"] == len(with_truth(one)) and errors["ttft_ms"]["p50"] < FAR_MS
        assert (errors["bound"]["arrivals"] > 0) == (one is straight), "another machine's arrivals are not judged"


def joined_as(one: Run, offset: str) -> pd.DataFrame:
    """What the join decides when the offset of each row is that of a column, and known without error."""
    rows = one.rows()
    placed = rows.assign(clock_offset_ns=rows[offset])
    manifest = one.result.manifest()
    exactly = {int(worker): 0 for worker in rows["worker"].unique()}
    clocks = Clocks.of(one.result.run, manifest, rows)._replace(worker_bound_ns=exactly)
    stored = pa.concat_tables(request_batches(one.result.run))
    attribution = attribute(stored, lookups_of(runfolder.read_table(one.result.run, "tasks")))
    known = placed.join(join.service_metrics(placed, clocks)).join(attribution.rows)
    tolerance_s = 2 * manifest["observe"]["poll_s"] + manifest["observe"]["grace_s"]
    snapshots = read_snapshots(one.result.run)
    known = known.join(Reputation.of(snapshots).before(known, clocks.bound_ns(rows), tolerance_s))
    return known.astype({name: "str" for name, kind in known.dtypes.items() if kind == "category"})


DECIDED = ["node", "node_source", "snapshot_observed_wall_ns", "reputation", "reputation_reason"]


def test_the_join_decides_as_if_every_clock_were_right(skewed: Run, straight: Run) -> None:
    for one in (skewed, straight):
        joined, exact = read_joined(one.result.run / JOINED_REQUESTS), joined_as(one, "exact_ns")
        # A row that was sent within the bound of a snapshot may be given the one before it, and no other.
        seen_ns = read_snapshots(one.result.run).of_source("leaderboard").observed_ns.astype(np.float64)
        sent_ns = exact["sent_wall_ns"].to_numpy(dtype=np.float64, na_value=np.nan)
        within_ns = 2 * one.rows()["bound_ns"].to_numpy(dtype=np.float64) + 1e6
        near = (np.abs(sent_ns[:, None] - seen_ns[None, :]) <= within_ns[:, None]).any(axis=1)
        assert near.mean() < 0.1
        pd.testing.assert_frame_equal(joined.loc[~near, DECIDED], exact.loc[~near, DECIDED])
        assert joined["snapshot_observed_wall_ns"].notna().sum() > 100

        # The node of a row is the one that served it.
        served = with_truth(one).set_index(["worker", "seq"])["returned_node"].str.lower()
        told = joined.set_index(["worker", "seq"])["node"].dropna()
        assert len(told) > 100 and (told == served.reindex(told.index)).all()

    # What the correction is for: without it, rows of the skewed workers would be given other snapshots.
    rows = skewed.rows()
    uncorrected = Run(skewed.result, skewed.truth, dict.fromkeys(skewed.skews_ns, 0))
    wrong = joined_as(uncorrected, "exact_ns")
    joined = read_joined(skewed.result.run / JOINED_REQUESTS)
    differs = wrong["snapshot_observed_wall_ns"].fillna(0) != joined["snapshot_observed_wall_ns"].fillna(0)
    assert differs[rows["exact_ns"] != 0].sum() > 10
