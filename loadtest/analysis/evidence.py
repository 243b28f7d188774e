"""What the network checks read: the tables of a run, and the few things several checks derive from them.

A check sees what a person outside the network could have seen: our own requests, what look-ups said of their tasks,
what was polled of nodes and sessions. Instants are Unix ns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from loadtest.analysis.copies import Given, find_copies
from loadtest.analysis.frames import Clocks, to_frame
from loadtest.analysis.snapshots import Snapshots, read_snapshots
from loadtest.analysis.textindex import TextIndex
from loadtest.records import RequestRecord, TaskRecord
from loadtest.runfolder import part_paths, read_manifest, read_part, read_table

SECOND_NS = 1_000_000_000
ROWS_MAX = 300_000  # turns; what more of them would show is smaller than what anybody acts on
COLUMNS = [
    *("worker", "target", "session", "task_id", "client_reference", "outcome", "scheduled_ns", "sent_ns", "done_ns"),
    *("clock_offset_ns", "text_sha256", "usage_prompt_tokens", "usage_completion_tokens", "counted_tokens"),
    "prompt_tokens_planned",
]
IDS_MAX = 10_000_000  # between the first and the last of a session: ids of another kind are not counted


class TaskIds(NamedTuple):
    """The ids of one session that our answers told. The others between them are counted, and not held."""

    first: int
    last: int
    told: frozenset[int]

    @property
    def left_out(self) -> int:
        """How many ids between the first and the last none of our answers told."""
        return self.last - self.first + 1 - len(self.told)

    def leaves_out(self, number: int) -> bool:
        return self.first < number < self.last and number not in self.told


@dataclass(frozen=True)
class Evidence:
    """The tables of one run, as stored, with wall instants in `requests`; `tasks` and `sessions` have list columns."""

    manifest: dict[str, Any]
    requests: pd.DataFrame
    tasks: pd.DataFrame
    snapshots: Snapshots
    sessions: pd.DataFrame
    router: pd.DataFrame
    charges: pd.DataFrame
    clock_bound_ns: int
    is_cut: bool = False  # there were more turns than are looked at

    @classmethod
    def of(cls, run: Path) -> Evidence:
        """Read a run folder; RunFolderError when it is damaged. Of more than ROWS_MAX turns the first ones are read."""
        manifest = read_manifest(run)
        parts: list[pa.Table] = []
        left = ROWS_MAX
        for path in part_paths(run, "requests"):
            part = read_part(path, RequestRecord, COLUMNS)
            parts.append(part.slice(0, left))
            left -= part.num_rows
            if left < 0:
                break
        turns = pa.concat_tables(parts) if parts else read_table(run, "requests", COLUMNS)
        requests = to_frame(turns)
        clocks = Clocks.of(run, manifest, requests)
        return cls(
            manifest,
            requests.assign(
                sent_wall_ns=clocks.wall_ns(requests, "sent_ns"), done_wall_ns=clocks.wall_ns(requests, "done_ns")
            ),
            to_frame(_tasks_of(run, turns) if left < 0 else read_table(run, "tasks")),
            read_snapshots(run),
            to_frame(read_table(run, "sessions")),
            to_frame(read_table(run, "router")),
            to_frame(read_table(run, "charges")),
            int(clocks.bound_ns(requests).max()) if len(requests) else 0,
            left < 0,
        )

    @cached_property
    def router_of(self) -> dict[str, str]:
        """Target to the router behind it: targets with one address share their sessions."""
        host = str(self.manifest.get("host") or "")
        targets = self.manifest.get("targets", [])
        return {str(t.get("name")): str(t.get("url") or host).rstrip("/") for t in targets}

    def routers(self, targets: pd.Series[str]) -> pd.Series[str]:
        """The router behind each target, "" for one that the manifest does not name."""
        return targets.map(self.router_of).fillna("")

    @cached_property
    def own_tasks(self) -> pd.DataFrame:
        """Our tasks that were looked up with success, one row each, in the order in which they were sent.

        Columns: router, session, task_id (Int64), sent_ns, done_ns (Int64), finished_ns (float, NaN: not told),
        looked_up_ns, complete, status (float), assigned and miners (tuples), text_sha256, results (tuple), target,
        request (position in `requests`), known_ns (float): by when it had ended, or all its results were there.
        """
        sent = self.requests.assign(request=np.arange(len(self.requests)))
        sent = sent[sent["sent_wall_ns"].notna()]
        looked = self.tasks[self.tasks["error"] == ""]
        looked = looked.sort_values(["complete", "looked_up_wall_ns"], kind="stable")
        by_id = _matched(sent, looked, ["target", "session", "task_id"], "client_reference")
        rest = sent[~sent["request"].isin(by_id["request"])]
        named = looked[looked["client_reference"] != ""]
        found = pd.concat([by_id, _matched(rest, named, ["target", "client_reference"], "task_id")], ignore_index=True)
        if found.empty:
            return _no_tasks()
        frame = pd.DataFrame(
            {
                "router": self.routers(found["target"]),
                "target": found["target"],
                "session": found["session"],
                "task_id": pd.to_numeric(found["task_id"], errors="coerce"),
                "sent_ns": found["sent_wall_ns"].astype(np.int64),
                "done_ns": found["done_wall_ns"],
                "finished_ns": found["finished_s"].to_numpy(dtype=np.float64, na_value=np.nan) * SECOND_NS,
                "looked_up_ns": found["looked_up_wall_ns"].astype(np.int64),
                "complete": found["complete"].astype(bool),
                "status": found["status"].to_numpy(dtype=np.float64, na_value=np.nan),
                "assigned": [tuple(dict.fromkeys(nodes)) for nodes in found["assigned"]],
                "miners": [tuple(nodes) for nodes in found["miners"]],
                "results": [tuple(texts) for texts in found["result_sha256"]],
                "text_sha256": found["text_sha256"],
                "outcome": found["outcome"],
                "request": found["request"].astype(np.int64),
            }
        )
        looked_up_ns = np.where(frame["complete"], frame["looked_up_ns"], np.nan)
        frame["known_ns"] = np.where(frame["finished_ns"].notna(), frame["finished_ns"], looked_up_ns)
        return frame.sort_values(["sent_ns", "task_id"], kind="stable", ignore_index=True)

    @cached_property
    def told_ids(self) -> dict[tuple[str, str], TaskIds]:
        """By (router, session): the task ids that our answers told."""
        rows = self.requests[self.requests["task_id"].notna() & self.requests["session"].notna()]
        numbers = pd.to_numeric(rows["task_id"], errors="coerce")
        told = {}
        for (router, session), ids in numbers.dropna().groupby([self.routers(rows["target"]), rows["session"]]):
            known = ids.to_numpy(dtype=np.int64)
            first, last = int(known.min()), int(known.max())
            if last - first < IDS_MAX:
                told[str(router), str(session)] = TaskIds(first, last, frozenset(known.tolist()))
        return told

    @cached_property
    def strange_tasks(self) -> pd.DataFrame:
        """Look-ups of ids between those of our tasks, as stored, one row per task, with its `router`."""
        rows = self.tasks[(self.tasks["client_reference"] == "") & (self.tasks["error"] == "")]
        rows = rows.assign(router=self.routers(rows["target"]))
        rows = rows.sort_values(["complete", "looked_up_wall_ns"], kind="stable")
        rows = rows.drop_duplicates(["router", "session", "task_id"], keep="last")
        ids = pd.to_numeric(rows["task_id"], errors="coerce").fillna(-1).astype(np.int64)
        keep = [
            (told := self.told_ids.get((router, session))) is not None and told.leaves_out(number)
            for number, router, session in zip(ids, rows["router"], rows["session"], strict=True)
        ]
        return rows[np.array(keep, dtype=bool)].reset_index(drop=True)

    @cached_property
    def copies(self) -> list[Given]:
        """Those of them that are one of our tasks again."""
        return find_copies(self.own_tasks, self.strange_tasks)

    @cached_property
    def copied(self) -> set[tuple[str, str, str]]:
        """(router, session, task id) of those copies."""
        return {(copy.router, copy.session, copy.task_id) for copy in self.copies}


def _tasks_of(run: Path, turns: pa.Table) -> pa.Table:
    """Of a long run's look-ups those that can be of these turns, and those that are of none of ours."""
    ids, references = (
        TextIndex(turns[name].combine_chunks().unique().drop_null()) for name in ("task_id", "client_reference")
    )
    kept = []
    for path in part_paths(run, "tasks"):
        part = read_part(path, TaskRecord)
        near = (ids.places(part["task_id"]) >= 0) | (references.places(part["client_reference"]) >= 0)
        kept.append(part.filter(pa.array(near | pc.equal(part["client_reference"], "").to_numpy())))
    return pa.concat_tables(kept) if kept else read_table(run, "tasks")


_OF_REQUEST = ["request", "sent_wall_ns", "done_wall_ns", "text_sha256", "outcome"]


def _matched(sent: pd.DataFrame, looked: pd.DataFrame, keys: list[str], other: str) -> pd.DataFrame:
    """Requests with the last look-up of their task, by `keys`; `other` is the look-up's."""
    left = sent[[*_OF_REQUEST, *keys]].dropna(subset=keys).drop_duplicates(keys)
    right = looked.drop_duplicates(keys, keep="last")
    if left.empty or right.empty:  # pandas 3.1 fails inside Arrow when both sides are empty text columns
        return pd.DataFrame({"request": []})
    return left.merge(right, on=keys, validate="1:1")


def _no_tasks() -> pd.DataFrame:
    names = ["router", "target", "session", "task_id", "sent_ns", "done_ns", "finished_ns", "looked_up_ns", "complete"]
    names += ["status", "assigned", "miners", "results", "text_sha256", "outcome", "request", "known_ns"]
    return pd.DataFrame({name: [] for name in names})
