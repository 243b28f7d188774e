"""What a run's own network check says against nodes, as flags of a contest. A flag is evidence and decides nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from loadtest.analysis.entrants import Entrant, Entrants
from loadtest.analysis.findings import shorten
from loadtest.analysis.pipeline import CLAIMS

SUMMARY = "summary.json"


def flagged_by_run(found: Entrants, run: Path) -> Entrants:
    """`found` with a flag on each node that the joined run `run` found to claim what it did not do.

    The evidence is the finding's own line, which names nodes by the beginning and end of their address: a line that
    fits no node, or several, becomes a note. Without a summary of the run nothing was checked, and a note says so.
    """
    try:
        summary = json.loads((run / SUMMARY).read_text(encoding="utf-8"))
        findings = [each for each in summary["findings"] if each["check"] == CLAIMS]
        lines = [str(line) for each in findings if each["verdict"] == "found" for line in each["evidence"]]
        told = [f"{CLAIMS}: {each['verdict']}" for each in findings]
    except FileNotFoundError:
        return _noted(found, [f"{run}: not joined, so that no check of claims could flag a node"])
    except (OSError, ValueError, KeyError, TypeError):
        return _noted(found, [f"{run / SUMMARY}: no findings in it; run `loadtest join` again"])
    by_name: dict[str, list[Entrant]] = {}
    for one in found.nodes:
        by_name.setdefault(shorten(one.node), []).append(one)
    flags: dict[str, str] = {}
    notes = [f"{run / SUMMARY}: {text}" for text in told]
    for line in lines:
        named = by_name.get(line.split(" ")[0], [])
        if len(named) == 1:
            flags[named[0].node] = f"misreporting: {line} ({run / SUMMARY})"
        else:
            notes.append(f"{run / SUMMARY}: {line}: {len(named)} nodes of the contest have this name, none is flagged")
    nodes = [replace(one, flags=(*one.flags, flags[one.node])) if one.node in flags else one for one in found.nodes]
    return _noted(Entrants(tuple(nodes), found.notes), notes)


def _noted(found: Entrants, notes: Sequence[Any]) -> Entrants:
    return Entrants(found.nodes, (*found.notes, *notes))
