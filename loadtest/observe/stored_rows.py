"""From what others store to snapshots: shapes are taken apart, fields are checked, and what is wrong is said.

Shapes: rows (a dict with a node in it), `/leaderboard-by-address`, a board in an envelope with its time, objects keyed
by address or by time, reputation with its lists of timestamps. An instant is told by its size: seconds, ms, us or ns
of Unix time, or ISO text with a zone. All instants of one column of one file must be of one unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from loadtest.observe import parse
from loadtest.observe.parse import ParseError, kind_of
from loadtest.observe.stored_files import INSTANT_NAMES, NODE_NAMES, field_word
from loadtest.observe.stored_json import Found, Twice
from loadtest.records import NodeDescription, NodeSnapshot

SERIES = ("reputation", "session-reputation")
SOURCES = ("leaderboard", *SERIES)
FUTURE_S = 60  # clocks of two machines may differ so much
AHEAD_S = 300  # a node's own clock may be so much ahead of the snapshot that tells it
DEPTH_MAX = 4
UNITS_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_OLDEST_S, _NEWEST_S = 10**9, 4_102_444_800  # 2001-09-09 to 2100-01-01: units of Unix time do not overlap
_INT64_MAX = 2**63 - 1
_BOARDS = ("leaderboard", "rows", "data", "nodes", "miners", "stats", "snapshot", "snapshots")
_STAGES = ("precommit", "commit", "prepare", "create")

_NAMES: dict[str, tuple[str, ...]] = {
    "node": NODE_NAMES,
    "observed": INSTANT_NAMES,
    "node_id": ("nodeid",),
    "source": ("source",),
    "effective": ("effectives", "effectiveat"),
    "operator": ("operator",),
    "hardware": ("hardware", "hardwareclass"),
    "level": ("level", "currentlevel", "cognitivelevel"),
    "last_active": ("lastactive", "lastactives", "lastactivetimestamp"),
    "ping_counter": ("pingcounter", "ping"),
    **{f"{s}_points": (f"{s}points", f"{s}point") for s in _STAGES},
    **{f"{s}_counter": (f"{s}counter", f"{s}counters") for s in _STAGES},
    **{f"{s}_{what}": (f"{s}{what}",) for s in _STAGES[:2] for what in ("all", "success", "pending")},
    **{f"{s}_{what}s": (f"{s}{what}s",) for s in _STAGES[:2] for what in ("alltimestamp", "successtimestamp")},
}
_FIELD_OF = {word: (field, rank) for field, words in _NAMES.items() for rank, word in enumerate(words)}
_COUNTS = tuple(name for name in _NAMES if name.endswith(("_points", "_counter", "_all", "_success", "_pending")))


class Told(NamedTuple):
    """One row: its place, its fields by our names, and what is known of it from outside."""

    where: str
    fields: dict[str, Any]
    observed: Any  # of the envelope; None when there is none
    node: Any  # the key it stood under


class Row(NamedTuple):
    """A snapshot, or why there is none. `node_id` tells several nodes of one owner apart.

    `described` is what the row says its node is; a row may say that and count nothing.
    """

    where: str
    snapshot: NodeSnapshot | None
    node_id: str
    mistake: str
    described: NodeDescription | None = None


class Reader:
    """Reads what one file holds. `unread` collects the names of columns that mean nothing to us."""

    def __init__(self, now_wall_ns: int, observed_wall_ns: int | None, series: str | None) -> None:
        self._now_ns = now_wall_ns
        self._observed_ns = observed_wall_ns
        self._series = series
        self._units: dict[str, str] = {}
        self.unread: dict[str, None] = {}  # in order

    def rows(self, found: Found) -> Iterator[Row]:
        """Every row of one value of a file."""
        if found.mistake:
            yield Row(found.where, None, "", found.mistake)
            return
        for told in self._taken_apart(found.where, found.value, None, None, 0):
            if isinstance(told, Row):
                yield told
                continue
            try:
                described, counts = self._described(told), [told.fields.get(name) for name in (*_COUNTS, *_LISTS)]
                is_counted = any(value is not None and value != "" for value in counts) or described is None
                snapshot = self._snapshot(told) if is_counted else None
                yield Row(told.where, snapshot, str(told.fields.get("node_id") or ""), "", described)
            except (ValueError, ParseError) as error:
                yield Row(told.where, None, "", str(error))

    def _taken_apart(self, where: str, value: Any, observed: Any, node: Any, depth: int) -> Iterator[Told | Row]:
        if isinstance(value, Twice):
            yield Row(where, None, "", f"{value.names[0][:80]!r} is there twice; which one holds?")
        elif depth > DEPTH_MAX or not isinstance(value, dict | list):
            yield Row(where, None, "", f"expected rows with a node, got {kind_of(value)}")
        elif isinstance(value, list):
            for number, entry in enumerate(value, start=1):
                yield from self._taken_apart(f"{where}, entry {number}", entry, observed, node, depth + 1)
        else:
            yield from self._object(where, value, observed, node, depth)

    def _object(self, where: str, value: dict[str, Any], observed: Any, node: Any, depth: int) -> Iterator[Told | Row]:
        fields = self._fields(value)
        observed = fields.get("observed", observed)
        inner = next((name for name in value if field_word(name) in _BOARDS and isinstance(value[name], list)), None)
        if inner is not None:  # an envelope with its time, or an owner with its nodes
            owner = fields.get("node", node)
            yield from self._taken_apart(where, value[inner], observed, owner, depth + 1)
            return
        if "node" in fields or (node is not None and any(name in fields for name in (*_COUNTS, *_LISTS, *_WORDS))):
            self._note_unread(value)
            yield Told(where, fields, observed, node)
            return
        members = {name: entry for name, entry in value.items() if isinstance(entry, dict | list)}
        if not members:
            yield Row(where, None, "", "no node in it: a field named " + ", ".join(NODE_NAMES[:2]) + " or a key")
        for name, entry in members.items():
            at = f"{where}, key {name[:60]}"
            if _plain_instant(name):
                yield from self._taken_apart(at, entry, name, node, depth + 1)
            else:
                yield from self._taken_apart(at, entry, observed, name, depth + 1)

    def _fields(self, value: dict[str, Any]) -> dict[str, Any]:
        """By our names; of several names for one thing the first in order of preference. Nested stages are unfolded."""
        best: dict[str, tuple[int, Any]] = {}
        for name, entry in value.items():
            word = field_word(str(name))
            if isinstance(entry, dict) and word in _STAGES:
                for inner, told in entry.items():
                    _keep(best, word + field_word(str(inner)), told)
            else:
                _keep(best, word, entry)
        return {field: entry for field, (_, entry) in best.items()}

    def _note_unread(self, value: dict[str, Any]) -> None:
        for name in value:
            word = field_word(str(name))
            if word not in _FIELD_OF and word not in _STAGES and len(self.unread) < 50:
                self.unread.setdefault(str(name)[:60])

    def _snapshot(self, told: Told) -> NodeSnapshot:
        fields = told.fields
        seen = fields.get("node", told.node)
        if isinstance(seen, bytes):
            seen = seen.decode("utf-8", "replace")
        seen = parse.address_as_seen(seen)
        observed_ns = self._observed(told.observed)
        lists = {name: fields[name] for name in _LISTS if fields.get(name) is not None}
        source = fields.get("source") or self._series or ("" if lists else "leaderboard")
        if source not in SOURCES:
            raise ValueError(
                "timestamps of which series? give --source reputation or session-reputation"
                if not source
                else f"source: must be one of {', '.join(SOURCES)}, got {str(source)[:40]!r}"
            )
        if lists:
            return self._series_row(lists, source, seen, observed_ns)
        counts = {name: whole(fields.get(name), name) for name in _COUNTS if name in fields}
        if all(count is None for count in counts.values()):
            raise ValueError("no counter in it: nothing is said of the node")
        return NodeSnapshot(
            source=source,
            node=seen.lower(),
            node_as_seen=seen,
            observed_wall_ns=observed_ns,
            effective_s=self._past("effective", fields.get("effective"), observed_ns),
            last_active_s=self._past("last_active", fields.get("last_active"), observed_ns),
            **{name: count or None if name.endswith("_counter") else count for name, count in counts.items()},
        )

    def _described(self, told: Told) -> NodeDescription | None:
        fields = told.fields
        if all(fields.get(name) in (None, "") for name in _WORDS):
            return None
        seen = parse.address_as_seen(fields.get("node", told.node))
        return parse.description(fields, seen, "import", self._observed(told.observed))

    def _series_row(self, lists: dict[str, Any], source: str, node: str, observed_ns: int) -> NodeSnapshot:
        """Entries younger than 180 s at the time of the snapshot are pending, as for a live answer."""
        body: dict[str, Any] = {}
        for name, values in lists.items():
            stage, _, what = name.partition("_")
            if not isinstance(values, list):
                raise ValueError(f"{stage}.{what[:-10]}_timestamps: must be a list, got {kind_of(values)}")
            seconds = [self._past("timestamps", value, observed_ns) for value in values]
            body.setdefault(stage, {})[f"{what.removesuffix('timestamps')}_timestamps"] = seconds
        return parse.reputation(body, source, node, observed_ns)

    def _observed(self, value: Any) -> int:
        if value is None or value == "":
            if self._observed_ns is None:
                raise ValueError("no time in it, nor in the file: give --observed-at")
            return self._observed_ns
        observed_ns = self._instant("observed", value)
        if observed_ns - self._now_ns > FUTURE_S * 10**9:
            raise ValueError(f"observed {(observed_ns - self._now_ns) / 1e9:,.0f} s in the future")
        return observed_ns

    def _past(self, column: str, value: Any, observed_ns: int) -> int | None:
        """Unix seconds of an instant before the snapshot; None for nothing told, which 0 means too."""
        if value is None or value == "" or value == 0 or value == "0":
            return None
        at_s = self._instant(column, value) // 10**9
        if at_s - observed_ns // 10**9 > AHEAD_S:
            raise ValueError(f"{column}: {at_s - observed_ns // 10**9:,} s after the snapshot that tells it")
        return at_s

    def _instant(self, column: str, value: Any) -> int:
        """Unix nanoseconds: the last one of the unit, since it may have been any, and a join must not look ahead."""
        unit, at_ns = instant(value, column)
        first = self._units.setdefault(column, unit)
        if unit != first:
            raise ValueError(f"{column}: {str(value)[:40]} is in {unit}, the file began in {first}")
        return at_ns


_WORDS = ("operator", "hardware", "level")
_LISTS = tuple(name for name in _NAMES if name.endswith("timestamps"))


def _keep(best: dict[str, tuple[int, Any]], word: str, entry: Any) -> None:
    field, rank = _FIELD_OF.get(word, ("", 0))
    if field and (field not in best or rank < best[field][0]):
        best[field] = rank, entry


def whole(value: Any, name: str) -> int | None:
    """A count of 0 or more; None for nothing told. ValueError: NaN, negative, broken, not a number."""
    if value is None or value == "":
        return None
    number = _number(value, name)
    if number < 0:
        raise ValueError(f"{name}: is negative ({str(value)[:40]})")
    if number != int(number):
        raise ValueError(f"{name}: must be a whole number, got {str(value)[:40]}")
    if number > _INT64_MAX:
        raise ValueError(f"{name}: {str(value)[:40]} is more than 64 bits hold")
    return int(number)


def instant(value: Any, name: str) -> tuple[str, int]:
    """(unit, Unix ns) of an instant, the last nanosecond of its unit where it is a whole number of them."""
    if isinstance(value, datetime):
        return "text", _text_instant(value, name)
    if isinstance(value, str) and ("-" in value.strip()[1:] or ":" in value):
        try:
            return "text", _text_instant(datetime.fromisoformat(value.strip()), name)
        except ValueError as error:
            if "zone" in str(error):
                raise
            raise ValueError(f"{name}: {value[:40]!r} is no instant") from None
    number = _number(value, name)
    for unit, unit_ns in UNITS_NS.items():
        scale = 10**9 // unit_ns
        if _OLDEST_S * scale <= number < _NEWEST_S * scale:
            at_ns = number * unit_ns
            return unit, int(at_ns) + unit_ns - 1 if number == int(number) else math.ceil(at_ns)
    raise ValueError(f"{name}: {str(value)[:40]} is no instant of 2001 to 2099 in s, ms, us or ns")


def _text_instant(at: datetime, name: str) -> int:
    if at.tzinfo is None:
        raise ValueError(f"{name}: {at.isoformat()} has no time zone; end it with Z for UTC")
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    whole_second = not at.microsecond
    return (
        (since.days * 86_400 + since.seconds) * 10**9
        + since.microseconds * 1_000
        + (10**9 if whole_second else 1_000)
        - 1
    )


def _number(value: Any, name: str) -> int | Decimal:
    """Exact, whatever it was written as."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float | Decimal | str):
        text = repr(value) if isinstance(value, float) else str(value).strip()
        try:
            number = Decimal(text) if len(text) <= 60 else None
        except ArithmeticError:
            number = None
        if number is not None and number.is_nan():
            raise ValueError(f"{name}: is NaN")
        if number is not None and not number.is_infinite() and abs(number) < 10**30:
            return number
    raise ValueError(f"{name}: must be a number, got {str(value)[:40]!r}")


def _plain_instant(name: str) -> bool:
    return name.isdecimal() and len(name) in (10, 13, 16, 19)
