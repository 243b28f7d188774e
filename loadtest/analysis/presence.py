"""Who is there: pings made against pings due, nodes that fell silent, and how soon tasks stopped going to them."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from loadtest.analysis.counters import board_column
from loadtest.analysis.evidence import SECOND_NS, Evidence
from loadtest.analysis.findings import Finding, evidence, no_source, percent, shorten
from loadtest.analysis.pipeline import LAG_S
from loadtest.analysis.snapshots import LEADERBOARD

UPTIME, CHURN, FAILOVER = "uptime", "churn", "failover"
PING_S = 310.0  # nodes ping just over every five minutes
ALIVE_S = 360.0  # not heard for longer: offline, in the community's monitors
SILENT_S = ALIVE_S + LAG_S
FAILOVER_S = 660.0  # six minutes until a node counts as offline, and the pool oracle's tick of five


class Silence(NamedTuple):
    """A node that was not heard from one instant to another, Unix s; `until_s` is the last poll if it stayed silent."""

    node: str
    from_s: float
    until_s: float


def presence(source: Evidence) -> list[Finding]:
    """Three findings: uptime, churn, failover."""
    silences = _silences(source)
    return [_uptime(source), _churn(source, silences), _failover(source, silences)]


def _uptime(source: Evidence) -> Finding:
    pings = board_column(source, "ping_counter")
    window_s = {node: float(each.times[-1] - each.times[0]) / SECOND_NS for node, each in pings.items()}
    due = {node: int((s - LAG_S) // PING_S) for node, s in window_s.items() if s > LAG_S + PING_S}
    if not due:
        return no_source(UPTIME, "leaderboard over at least two ping periods", "no node was watched for long enough")
    made = {node: pings[node].values[-1] - pings[node].values[0] for node in due}
    reset = [node for node in due if not pings[node].only_grows]
    short = sorted((n for n in due if made[n] < due[n] and n not in reset), key=lambda n: made[n] / due[n])
    lines = [f"{shorten(n)} made {made[n]:.0f} of at least {due[n]} pings" for n in short]
    hours = max(window_s.values()) / 3600
    if short:
        worst = percent(max(0.0, made[short[0]]) / due[short[0]])
        text = f"{len(short)} of {len(due)} nodes were away: the worst made {worst} of its pings in {hours:.1f} h."
        share, unit = len(short) / len(due), "share of nodes"
        return Finding(UPTIME, "found", text, n=len(due), effect=share, unit=unit, evidence=evidence(lines))
    text = f"All {len(due) - len(reset)} nodes made their pings over {hours:.1f} h. An absence of "
    text += f"{(PING_S * 2 + LAG_S) / 60:.0f} minutes would have been seen; a shorter one may fall between two pings."
    return Finding(UPTIME, "consistent", text, n=len(due), smallest_effect=PING_S * 2 + LAG_S, unit="s of absence")


def _silences(source: Evidence) -> list[Silence] | None:
    """Absences by what nodes were last heard of; None: no source."""
    heard = board_column(source, "last_active_s")
    if not heard:
        return None
    found = []
    for node, each in heard.items():
        signs = [*np.unique(each.values).tolist(), float(each.times[-1]) / SECOND_NS]
        found += [Silence(node, a, b) for a, b in pairwise(signs) if b - a > SILENT_S]
    return found


def _churn(source: Evidence, silences: list[Silence] | None) -> Finding:
    if silences is None:
        return no_source(CHURN, "leaderboard (last_active)", "no node told when it was last active")
    nodes = len(source.snapshots.of_source(LEADERBOARD).nodes)
    connected = source.router["connected_miners"].dropna()
    lines = [f"{shorten(s.node)} was silent for {(s.until_s - s.from_s) / 60:.0f} minutes" for s in silences]
    if len(connected):
        lines.append(f"the router had {connected.min()} to {connected.max()} nodes")
    gone = len({silence.node for silence in silences})
    if gone:
        text = f"{gone} of {nodes} nodes were silent for more than {SILENT_S / 60:.0f} minutes, {len(silences)} times."
        share, unit = gone / nodes, "share of nodes"
        return Finding(CHURN, "found", text, n=nodes, effect=share, unit=unit, evidence=evidence(lines))
    text = f"None of {nodes} nodes was silent for more than {SILENT_S / 60:.0f} minutes. A restart that is over before "
    text += "the next ping cannot be seen."
    return Finding(CHURN, "consistent", text, n=nodes, smallest_effect=SILENT_S, unit="s", evidence=evidence(lines))


def _failover(source: Evidence, silences: list[Silence] | None) -> Finding:
    tasks = source.own_tasks
    if silences is None or not len(tasks):
        missing = "leaderboard (last_active)" if silences is None else "task look-ups"
        return no_source(FAILOVER, missing, f"no {missing}")
    if not silences:
        text = "No node went away, so nobody had to take over."
        return Finding(FAILOVER, "cannot tell", text, missing="an absence")
    took = []
    for silence in silences:
        given = [
            sent / SECOND_NS
            for sent, assigned in zip(tasks["sent_ns"], tasks["assigned"], strict=True)
            if silence.node in assigned and silence.from_s < sent / SECOND_NS < silence.until_s
        ]
        took.append((max(given, default=silence.from_s) - silence.from_s, silence, len(given)))
    late = [each for each in took if each[0] > FAILOVER_S + LAG_S]
    lines = [
        f"{shorten(silence.node)} was given {count} tasks while silent, the last after {seconds:.0f} s"
        for seconds, silence, count in sorted(took, reverse=True)
        if count
    ]
    n, worst = len(took), max(seconds for seconds, _, _ in took)
    if late:
        text = f"Tasks went to {len(late)} silent nodes for longer than {FAILOVER_S:g} s, {worst:.0f} s at the most."
        return Finding(FAILOVER, "found", text, n=n, effect=worst, unit="s", evidence=evidence(lines))
    text = f"{n} absences: a silent node got its last task {worst:.0f} s after it was last heard, at the most "
    text += f"({FAILOVER_S:g} s are documented)."
    return Finding(FAILOVER, "consistent", text, n=n, effect=worst, unit="s", evidence=evidence(lines))
