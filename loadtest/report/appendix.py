"""What a report's appendix says of how the run was made: commands to make it again, and what the targets told."""

from __future__ import annotations

import shlex
from typing import Any

from loadtest.report import wording
from loadtest.report.wording import Summary


def commands(summary: Summary) -> list[str]:
    """Command lines that make the run again and read it; nothing for a summary that does not say how it was made."""
    run = wording.part(summary, "run")
    if not run.get("profile"):
        return []
    again = ["loadtest", "run", "profile.toml", "--host", str(run.get("host") or "http://HOST:PORT")]
    again += ["--workers", str(run.get("workers") or 1), "--seed", str(run.get("seed", 1))]
    options = ["-u", str(run["users"])] if run.get("users") else []
    trace = wording.part(run, "trace")
    if trace:
        options += ["--trace", str(trace.get("file")), "--speed", f"{trace.get('speed', 1):g}"]
        options += ["--trace-rate", f"{trace.get('rate', 1):g}"]
    folder = str(run.get("id"))
    return [
        shlex.join([*again, *(["--", *options] if options else [])]),
        shlex.join(["loadtest", "join", f"runs/{folder}"]),
        shlex.join(["loadtest", "report", f"runs/{folder}"]),
    ]


def infos(summary: Summary) -> list[tuple[str, str]]:
    """Each target's name and what it told of itself, as text to be escaped; what two targets share stands once."""
    told: dict[str, list[str]] = {}
    for target in wording.listed(summary, "run", "targets"):
        text = _text(target.get("info")) if isinstance(target, dict) else ""
        if text:
            told.setdefault(text, []).append(str(target.get("name")))
    return [(", ".join(names), text) for text, names in told.items()]


def _text(info: Any) -> str:
    """`info` is {"path", "text"} or {"path", "error"}; the version, where it has one, stands in its text."""
    if not isinstance(info, dict):
        return ""
    return f"GET {info.get('path')}\n{info.get('text') or info.get('error') or ''}"
