"""What the stats backend says of nodes, held against itself: counters, time series, clocks, names.

The leaderboard counts network tasks; `/reputation` lists them. Two sources of one fact must move together. The
leaderboard may be LAG_S behind, so its growth is compared over a time that much shorter (too much) or longer (too
little) than that of the lists. Nothing here is by chance: each finding names the nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from loadtest.analysis.evidence import SECOND_NS, Evidence
from loadtest.analysis.findings import Finding, evidence, no_source, shorten
from loadtest.analysis.frames import Floats, Ints
from loadtest.analysis.pipeline import LAG_S, last_growing
from loadtest.analysis.snapshots import LEADERBOARD, REPUTATION

COUNTERS, RESETS, LISTED = "leaderboard counters", "counter resets", "nodes are listed"
CLOCKS, SPELLING = "node clocks", "address spelling"
CLOCK_S = 30.0  # a timestamp further ahead than this is no question of rounding or of our own clock
# Points as well: a counter of zero is how the backend says "no data", and is not stored.
ONLY_GROWING = ("ping_counter", "precommit_counter", "precommit_points", "commit_points")
LAG_NS = round(LAG_S * SECOND_NS)


class Counter(NamedTuple):
    """One counter of one node as polled: instants (Unix ns, ascending) and values."""

    times: Ints
    values: Floats
    owned: Ints  # of how many rows of its owner each is the sum

    @property
    def falls(self) -> int:
        """How often it went back, and not because a row of its owner went."""
        return int(((np.diff(self.values) < 0) & (np.diff(self.owned) == 0)).sum())

    @property
    def only_grows(self) -> bool:
        return not self.falls and not np.diff(self.owned).any()

    def at(self, instant: int, *, after: bool) -> float | None:
        """The first value at or after an instant, or the last one at or before it."""
        place = int(np.searchsorted(self.times, instant, side="left" if after else "right")) - (not after)
        return float(self.values[place]) if 0 <= place < len(self.times) else None


def counters(source: Evidence) -> list[Finding]:
    """Five findings: counters, resets, listed nodes, clocks, spelling."""
    board = board_column(source, "precommit_counter")
    return [_grow_together(source, board), _resets(source), _listed(source), _clocks(source), _spelling(source)]


def board_column(source: Evidence, name: str) -> dict[str, Counter]:
    """A column of the leaderboard by node, where it was told."""
    board = source.snapshots.of_source(LEADERBOARD)
    values = board.column(name)
    found = {}
    for node, rows in board.rows():
        told = ~np.isnan(values[rows])
        if told.any():
            found[node] = Counter(board.observed_ns[rows][told], values[rows][told], board.owned[rows][told])
    return found


def _grow_together(source: Evidence, board: dict[str, Counter]) -> Finding:
    lists = source.snapshots.of_source(REPUTATION)
    if not board or not lists.nodes:
        missing = "leaderboard" if not board else "/reputation/{address}"
        return no_source(COUNTERS, missing, f"no {missing} was polled")
    totals = lists.column("precommit_all") + lists.column("precommit_pending")
    newest_s = lists.column("effective_s")
    lines, compared, entries = [], 0, 0.0
    for node, counter in board.items():
        rows = lists.rows_of(node)
        if rows is None or rows.stop - rows.start < 2 or not counter.only_grows:
            continue  # a counter that began again is a finding of its own
        growth = _growth(totals[rows], lists.observed_ns[rows], newest_s[rows], counter)
        if growth is None:
            continue
        compared, entries = compared + 1, entries + growth.listed
        if growth.least > growth.listed:
            lines.append(f"{shorten(node)} counts at least {growth.least:.0f} where {growth.listed:.0f} are listed")
        elif growth.most < growth.listed_before:
            lines.append(
                f"{shorten(node)} counts at most {growth.most:.0f} where {growth.listed_before:.0f} are listed"
            )
    if not compared:
        text = f"No node's counter and list were polled for longer than {LAG_S:g} s."
        return Finding(COUNTERS, "cannot tell", text, missing="more snapshots")
    if lines:
        text = f"Counters of {len(lines)} of {compared} nodes do not grow with the lists of the same events."
        share, unit = len(lines) / compared, "share of nodes"
        return Finding(COUNTERS, "found", text, n=compared, effect=share, unit=unit, evidence=evidence(lines))
    smallest = _visible_excess(source, entries / compared)
    text = f"Counters of {compared} nodes grow with the lists of the same events ({entries:.0f}). "
    text += f"A counter that grows {100 * smallest:.0f} % too fast or too slowly would have been seen."
    return Finding(COUNTERS, "consistent", text, n=compared, smallest_effect=smallest, unit="relative excess")


class _Growth(NamedTuple):
    """Entries in the lists; the least the counter grew in that time. The same up to an instant before, and the most."""

    listed: float
    least: float
    listed_before: float
    most: float


def _growth(totals: Floats, times: Ints, newest_s: Floats, counter: Counter) -> _Growth | None:
    """Of one node: the entries, instant and newest entry of each of its lists, against its counter."""
    last = last_growing(totals, newest_s)
    begin, end = int(times[0]), int(times[last])
    first, final = counter.at(begin + LAG_NS, after=True), counter.at(end, after=False)
    before = int(np.searchsorted(times[: last + 1], counter.times[-1] - LAG_NS, side="right")) - 1
    start = counter.at(begin, after=False)
    if first is None or final is None or start is None or before < 1:
        return None
    latest = counter.at(int(times[before]) + LAG_NS, after=True)
    assert latest is not None
    return _Growth(totals[last] - totals[0], final - first, totals[before] - totals[0], latest - start)


def _visible_excess(source: Evidence, entries: float) -> float:
    """How much too fast a counter must grow to leave the time that the lag takes away."""
    times = [each.observed_ns for each in source.snapshots.sources.values()]
    window_s = float(max(each.max() for each in times) - min(each.min() for each in times)) / SECOND_NS
    share = LAG_S / max(window_s - LAG_S, LAG_S)
    return share + 1 / max(entries, 1.0)


def _resets(source: Evidence) -> Finding:
    told = [board_column(source, name) for name in ONLY_GROWING]
    nodes = sorted({node for counters in told for node in counters})
    if not nodes:
        return no_source(RESETS, "leaderboard", "no leaderboard was polled")
    lines = []
    for node in nodes:
        falls = max(counters[node].falls for counters in told if node in counters)
        if falls:
            lines.append(f"{shorten(node)} began again {falls} times")
    return _exact(RESETS, lines, len(nodes), "nodes have counters that began again", "No counter went back")


def _listed(source: Evidence) -> Finding:
    tasks = source.own_tasks
    served = sorted({node for nodes in tasks["assigned"] for node in nodes}) if len(tasks) else []
    listed = {name: set(source.snapshots.of_source(name).nodes) for name in (LEADERBOARD, REPUTATION)}
    if not served or not listed[LEADERBOARD]:
        missing = "leaderboard" if served else "task look-ups"
        return no_source(LISTED, missing, f"no {missing} to compare")
    lines = []
    for node in served:
        absent = [name for name, nodes in listed.items() if nodes and node not in nodes]
        if absent:
            lines.append(f"{shorten(node)} served our tasks and is in no {' and no '.join(absent)}")
    right = "Every node that served us is listed"
    return _exact(LISTED, lines, len(served), "nodes that served us are not listed", right)


def _clocks(source: Evidence) -> Finding:
    worst: dict[str, float] = {}
    for polled in source.snapshots.sources.values():
        told_s = np.fmax(polled.column("effective_s"), polled.column("last_active_s"))
        ahead_s = np.fmax.reduceat(told_s - polled.observed_ns / SECOND_NS, polled.starts[:-1])
        for node, each in zip(polled.nodes, ahead_s.tolist(), strict=True):
            worst[node] = float(np.fmax(worst.get(node, np.nan), each))
    if np.isnan([*worst.values()]).all():
        return no_source(CLOCKS, "timestamps of nodes", "no snapshot told a time")
    lines = [f"{shorten(node)} is {s:.0f} s ahead" for node, s in sorted(worst.items()) if s > CLOCK_S]
    ok = f"No timestamp lies more than {CLOCK_S:g} s in the future. A clock that is behind cannot be told from a node "
    return _exact(CLOCKS, lines, len(worst), "nodes have timestamps from the future", ok + "at rest")


def _spelling(source: Evidence) -> Finding:
    spellings = source.snapshots.spellings
    if not spellings:
        return no_source(SPELLING, "snapshots", "no node was observed")
    lines = [f"{shorten(node)} was written in {count} ways" for node, count in spellings.items() if count > 1]
    text = "nodes change the spelling of their address (we fold the case; not every tool does)"
    return _exact(SPELLING, lines, len(spellings), text, "Every address is always written in one way")


def _exact(check: str, lines: Sequence[str], n: int, wrong: str, right: str) -> Finding:
    """The finding of an account over n nodes: one line for each node that breaks it."""
    if lines:
        text = f"{len(lines)} of {n} {wrong}."
        share = len(lines) / n
        return Finding(check, "found", text, n=n, effect=share, unit="share of nodes", evidence=evidence(lines))
    return Finding(check, "consistent", f"{right} ({n} nodes).", n=n, smallest_effect=1 / n, unit="share of nodes")
