"""From what others store to snapshots: shapes are taken apart, fields are checked, and what is wrong is said.

Shapes: rows (a dict with a node in it), `/leaderboard-by-address`, a board in an envelope with its time, objects keyed
by address or by time, reputation with its lists of timestamps. An instant is told by its size: seconds, ms, us or ns
of Unix time, or ISO text with a zone. All instants of one column of one file must be of one unit.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any, NamedTuple

from loadtest.observe import parse
from loadtest.observe.parse import ParseError, kind_of
from loadtest.observe.stored_json import Found, Unsound
from loadtest.observe.stored_names import INSTANT_NAMES, NODE_NAMES, Fields, field_word, index_of, note_unread
from loadtest.observe.stored_values import FUTURE_S, instant, plain_instant, whole
from loadtest.records import NodeDescription, NodeSnapshot

SERIES = ("reputation", "session-reputation")
SOURCES = ("leaderboard", *SERIES)
AHEAD_S = 300  # a node's own clock may be so much ahead of the snapshot that tells it
DEPTH_MAX = 4
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
_FIELD_OF = index_of(_NAMES)
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
        if isinstance(value, Unsound):
            yield Row(where, None, "", value.mistake)
        elif depth > DEPTH_MAX or not isinstance(value, dict | list):
            yield Row(where, None, "", f"expected rows with a node, got {kind_of(value)}")
        elif isinstance(value, list):
            for number, entry in enumerate(value, start=1):
                yield from self._taken_apart(f"{where}, entry {number}", entry, observed, node, depth + 1)
        else:
            yield from self._object(where, value, observed, node, depth)

    def _object(self, where: str, value: dict[str, Any], observed: Any, node: Any, depth: int) -> Iterator[Told | Row]:
        try:
            told = _fields(value)
        except ValueError as error:
            yield Row(where, None, "", str(error))
            return
        fields = told.values()
        for name in told.passed_over:
            note_unread(self.unread, name)
        if fields.get("observed") not in (None, ""):
            observed = fields["observed"]
        says = any(name in fields for name in _SAID)
        inner = [name for name, entry in value.items() if field_word(name) in _BOARDS and isinstance(entry, list)]
        # An envelope, or an owner with its nodes; beside counters a list of something else is a column not read.
        if any(isinstance(entry, dict | list) for name in inner for entry in value[name]) or (inner and not says):
            self._note_unread(value, but=(*inner, *_OF_ENVELOPE))
            for name in inner:
                at = where if len(inner) == 1 else f"{where}, {name[:60]}"
                yield from self._taken_apart(at, value[name], observed, fields.get("node", node), depth + 1)
        elif "node" in fields or (node is not None and says):
            self._note_unread(value)
            yield Told(where, fields, observed, node)
        else:
            yield from self._by_key(where, value, observed, node, depth)

    def _by_key(self, where: str, value: dict[str, Any], observed: Any, node: Any, depth: int) -> Iterator[Told | Row]:
        """An object keyed by address or by time."""
        members = {name: entry for name, entry in value.items() if isinstance(entry, dict | list)}
        if not members:
            yield Row(where, None, "", "no node in it: a field named " + ", ".join(NODE_NAMES[:2]) + " or a key")
            return
        for name, entry in value.items():
            at = f"{where}, key {name[:60]}"
            if name not in members:
                if plain_instant(name) or name.lower().startswith("0x"):
                    yield Row(at, None, "", f"expected what is known of it, got {kind_of(entry)}")
                else:
                    self._note_unread({name: entry})
            elif plain_instant(name):
                yield from self._taken_apart(at, entry, name, node, depth + 1)
            else:
                yield from self._taken_apart(at, entry, observed, name, depth + 1)

    def _note_unread(self, value: dict[str, Any], but: Container[str] | None = None) -> None:
        """The names that are not read: those that mean nothing to us, or in an envelope all `but` some."""
        for name, entry in value.items():
            word = field_word(str(name))
            known = word in _FIELD_OF or (word in _STAGES and isinstance(entry, dict))
            if but is not None:
                known = name in but or word in but
            if not known:
                note_unread(self.unread, name)

    def _snapshot(self, told: Told) -> NodeSnapshot:
        fields = told.fields
        seen = _address(fields.get("node", told.node))
        observed_ns = self._observed(told.observed)
        lists = {name: fields[name] for name in _LISTS if fields.get(name) is not None}
        counts = {name: whole(fields.get(name), name) for name in _COUNTS if name in fields}
        _require_possible(counts)
        is_series = bool(lists) or any(counts.get(name) is not None for name in _COUNTS_OF_SERIES)
        source = fields.get("source") or ((self._series or "") if is_series else "leaderboard")
        if source not in SOURCES:
            raise ValueError(
                "of which series? give --source reputation or session-reputation"
                if not source
                else f"source: must be one of {', '.join(SOURCES)}, got {str(source)[:40]!r}"
            )
        if lists:
            self._note_unread({name: counts[name] for name in counts if counts[name] is not None}, but=())
            return self._series_row(lists, source, seen, observed_ns)
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
        says = {name: told.fields.get(name) for name in _WORDS}
        says = {name: None if str(value).strip().lower() in _MISSING else value for name, value in says.items()}
        if all(value is None for value in says.values()):
            return None
        for name in ("operator", "hardware"):
            if isinstance(says[name], int) and not isinstance(says[name], bool):
                says[name] = str(says[name])  # hardware 4090
            if not isinstance(says[name], str | None):
                raise ValueError(f"{name}: must be a text, got {kind_of(says[name])}")
        says["level"] = whole(says["level"], "level")
        seen = _address(told.fields.get("node", told.node))
        return parse.description(says, seen, "import", self._observed(told.observed))

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
            observed_ns = self._observed_ns
        else:
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
_SAID = (*_COUNTS, *_LISTS, *_WORDS)
_COUNTS_OF_SERIES = tuple(name for name in _COUNTS if name.endswith(("_all", "_success", "_pending")))
_OF_ENVELOPE = (*NODE_NAMES, *INSTANT_NAMES)
_AGREEING = frozenset({"node", *(f"{stage}_{what}" for stage in _STAGES for what in ("points", "counter"))})
_MISSING = frozenset({"", "nan", "none", "null"})  # as other tools write what is missing


def _fields(value: dict[str, Any]) -> Fields:
    """Nested stages are unfolded. ValueError: told twice and differently, or not to be read."""
    fields = Fields(_FIELD_OF, _AGREEING)
    for name, entry in value.items():
        word = field_word(str(name))
        is_stage = isinstance(entry, dict) and word in _STAGES
        if isinstance(entry, Unsound) and (is_stage or word in _FIELD_OF):
            raise ValueError(entry.mistake)
        if is_stage:
            for inner, told in entry.items():
                fields.tell(f"{name}.{inner}", word + field_word(str(inner)), told)
        else:
            fields.tell(name, word, entry)
    return fields


def _address(told: Any) -> str:
    """As the file writes it. ValueError, ParseError: none, or one that cannot be printed on a line."""
    if isinstance(told, bytes):
        told = told.decode("utf-8", "surrogateescape")
    seen = parse.address_as_seen(told)
    if seen.lower() in _MISSING:
        raise ValueError(f"no node in it ({seen})")
    if not seen.isprintable():
        raise ValueError(f"a node's address with characters that cannot be printed: {seen[:40]!r}")
    return seen


def _require_possible(counts: dict[str, int | None]) -> None:
    """ValueError: more successes than entries, which would be a rate above 100 %."""
    for good, total in _RATES:
        successes, entries = counts.get(good), counts.get(total)
        if successes is not None and entries and successes > entries:
            raise ValueError(f"{good}: {successes:,} of {entries:,} cannot be")


_RATES = [(f"{s}_points", f"{s}_counter") for s in _STAGES] + [(f"{s}_success", f"{s}_all") for s in _STAGES[:2]]
