"""A bill that others wrote, into a run folder: one row for each charge of a task, checked line by line.

No router's route tells what a task was charged. Chain explorers and indexers do, in files of their own; the names of
their columns are taken as they are met. Money stays exact: whole numbers in the smallest unit, never floats.

Two equal lines of one file are two charges: that is what a double charge looks like. The same line in another file,
or in a later import, is there already: bills are exported anew with overlaps.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from decimal import Context, Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from loadtest import runfolder
from loadtest.clock import utc_stamp
from loadtest.observe.importing import FolderFull
from loadtest.observe.parse import kind_of
from loadtest.observe.stored_files import Wanted, stored_rows
from loadtest.observe.stored_json import Unsound
from loadtest.observe.stored_names import Fields, field_word, index_of, note_unread
from loadtest.observe.stored_values import FUTURE_S, instant, whole
from loadtest.records import ChargeRecord
from loadtest.runfolder import printable

LINES_MAX = 2_000_000  # of one run folder: each is held
MISTAKES_KEPT = 10_000
DECIMALS_MAX = 36
DIGITS_MAX = 60
_EXACT = Context(prec=DIGITS_MAX + DECIMALS_MAX)  # the usual 28 digits would round large amounts
_NAMES: dict[str, tuple[str, ...]] = {
    "session": ("sessionid", "session", "sessionnumber"),
    "task_id": ("taskid", "task", "tasknumber"),
    "client_reference": ("clientreference", "requestid", "reference"),
    "amount": ("amount", "charge", "cost", "paid", "fee", "price"),
    "charged": ("chargedat", "timestamp", "blocktimestamp", "time", "date"),
    "charge_id": ("chargeid", "transactionhash", "txhash", "transaction", "id"),
    "prompt_tokens": ("prompttokens", "inputtokens"),
    "completion_tokens": ("completiontokens", "outputtokens"),
    "total_tokens": ("totaltokens", "tokens"),
}
_FIELD_OF = index_of(_NAMES)
_WANTED = Wanted("session", frozenset(_NAMES["session"]), frozenset(_NAMES["amount"]))
_LISTS = ("charges", "bill", "data", "rows", "items", "result")


class BillImport:
    """One import of bills. `decimals`: how many digits after the point make the smallest unit (0: told in it)."""

    def __init__(self, run: Path, now_wall_ns: int, decimals: int) -> None:
        if not run.is_dir():
            raise runfolder.RunFolderError(f"{run}: no such folder; give the run folder that the bill is of")
        self._run, self._now_ns, self._decimals = run, now_wall_ns, decimals
        there = runfolder.read_table(run, "charges").to_pylist()
        self._there = Counter(ChargeRecord(**row) for row in there)
        self._held = len(there)
        self._new: list[ChargeRecord] = []
        self.read = self.already = self.mistaken = 0
        self.mistakes: list[str] = []
        self.unread: dict[str, list[str]] = {}

    def add(self, path: Path) -> None:
        """Read one file. StoredFileError when nothing can be read of it, FolderFull when the folder is."""
        units: dict[str, str] = {}
        unread: dict[str, None] = {}
        seen: Counter[ChargeRecord] = Counter()
        before = self.read
        for where, told in self._lines(path, unread):
            self.read += 1
            try:
                line = self._line(told, units, unread)
            except ValueError as error:
                self._mistake(f"{path}, {where}: {error}")
                continue
            seen[line] += 1
            if seen[line] <= self._there[line]:
                self.already += 1
                continue
            if self._held >= LINES_MAX:
                self.read -= 1
                raise FolderFull(
                    f"{path}, {where}: {LINES_MAX:,} lines are the most of one folder; from here on nothing was read"
                )
            self._held += 1
            self._there[line] += 1
            self._new.append(line)
        if self.read == before:
            self.read += 1
            self._mistake(f"{path}: no line of a bill in it")
        if unread:
            self.unread[str(path)] = [printable(name) for name in unread]

    def finish(self) -> dict[str, Any]:
        """Write the lines and the account of the import, which is returned."""
        if self._new:
            part = self._run / "charges" / f"import-{self._now_ns}.parquet"
            runfolder.write_part(part, self._new, ChargeRecord)
        account = {
            "schema_version": 1,
            "kind": "charges",
            "read": self.read,
            "stored": len(self._new),
            "already_there": self.already,
            "mistaken": self.mistaken,
            "mistakes": self.mistakes,
            "mistakes_not_listed": self.mistaken - len(self.mistakes),
            "columns_not_read": self.unread,
            "sessions": len({line.session for line in self._new}),
            "amount": str(sum(int(line.amount) for line in self._new)),
        }
        path = self._run / "imports" / f"{utc_stamp()}-{self._now_ns}.json"
        runfolder.write_text(path, json.dumps(account, indent=1) + "\n")
        return {**account, "account": str(path)}

    def _lines(self, path: Path, unread: dict[str, None]) -> Iterator[tuple[str, Any]]:
        """Place and value of each line; an object around lists of lines is opened."""
        for found in stored_rows(path, _WANTED):
            if found.note:
                unread.setdefault(found.note)
                continue
            if found.mistake:
                self.read += 1
                self._mistake(f"{path}, {found.where}: {found.mistake}")
                continue
            value = found.value
            inner = _lists_of_lines(value)
            if not inner:
                yield found.where, value
                continue
            for name in value:
                if name not in inner:
                    note_unread(unread, name)
            for name, lines in inner.items():
                at = found.where if len(inner) == 1 else f"{found.where}, {name[:60]}"
                yield from ((f"{at}, entry {number}", each) for number, each in enumerate(lines, start=1))

    def _line(self, told: Any, units: dict[str, str], unread: dict[str, None]) -> ChargeRecord:
        if isinstance(told, Unsound):
            raise ValueError(told.mistake)
        if not isinstance(told, dict):
            raise ValueError(f"expected a line of a bill, got {kind_of(told)}")
        chosen = Fields(_FIELD_OF, ())
        for name, entry in told.items():
            word = field_word(str(name))
            if word not in _FIELD_OF:
                note_unread(unread, name)
            chosen.tell(name, word, entry)
        for name in chosen.passed_over:
            note_unread(unread, name)
        fields = chosen.values()
        session, task_id, reference = (
            _name(fields.get(key), key) for key in ("session", "task_id", "client_reference")
        )
        if session is None:
            raise ValueError("no session in it: a column named session_id")
        if task_id is None and reference is None:
            raise ValueError("no task in it: a column named task_id or client_reference")
        return ChargeRecord(
            session=session,
            task_id=task_id,
            client_reference=reference,
            amount=str(smallest_units(fields.get("amount"), self._decimals)),
            charged_wall_ns=self._charged(fields.get("charged"), units),
            charge_id=_name(fields.get("charge_id"), "charge_id") or "",
            prompt_tokens=whole(fields.get("prompt_tokens"), "prompt_tokens"),
            completion_tokens=whole(fields.get("completion_tokens"), "completion_tokens"),
            total_tokens=whole(fields.get("total_tokens"), "total_tokens"),
        )

    def _charged(self, value: Any, units: dict[str, str]) -> int | None:
        if value is None or value == "":
            return None
        unit, at_ns = instant(value, "charged at")
        if unit != units.setdefault("charged", unit):
            raise ValueError(f"charged at: {str(value)[:40]} is in {unit}, the file began in {units['charged']}")
        if at_ns - self._now_ns > FUTURE_S * 10**9:
            raise ValueError(f"charged {(at_ns - self._now_ns) / 1e9:,.0f} s in the future")
        return at_ns

    def _mistake(self, line: str) -> None:
        self.mistaken += 1
        if len(self.mistakes) < MISTAKES_KEPT:
            self.mistakes.append(printable(line[:500]))


def _lists_of_lines(value: Any) -> dict[str, list[Any]]:
    """The lists in an object around them; none in a line, which may have a list of something else in it."""
    if not isinstance(value, dict) or isinstance(value, Unsound):
        return {}
    lists = {n: v for n, v in value.items() if field_word(n) in _LISTS and isinstance(v, list)}
    is_line = any(_FIELD_OF.get(field_word(name), ("",))[0] in ("session", "amount") for name in value)
    has_lines = any(isinstance(entry, dict) for entries in lists.values() for entry in entries)
    return lists if has_lines or not is_line else {}


def smallest_units(value: Any, decimals: int) -> int:
    """An amount as a whole number of the smallest unit, exactly. ValueError: a float, a rest, negative, not a number.

    A float is refused even where it looks whole: 0.1 of anything is not what was paid.
    """
    if value is None or value == "":
        raise ValueError("no amount in it: a column named amount")
    if isinstance(value, bool | float):
        raise ValueError(f"amount: {value!r} is not exact; write amounts as whole numbers or as text")
    try:
        told = Decimal(str(value).strip()) if len(str(value)) <= DIGITS_MAX else None
    except InvalidOperation:
        told = None
    if told is None or not told.is_finite() or (told and abs(told.adjusted()) > DIGITS_MAX):
        raise ValueError(f"amount: must be a number, got {str(value)[:40]!r}")
    amount = told.scaleb(decimals, _EXACT)
    if amount < 0:
        raise ValueError(f"amount: is negative ({str(value)[:40]})")
    if amount != amount.to_integral_value(context=_EXACT):
        raise ValueError(f"amount: {str(value)[:40]} has more than {decimals} digits after the point; give --decimals")
    return int(amount)


def _name(value: Any, field: str) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.strip() and len(value) <= 200:
        return value.strip()
    raise ValueError(f"{field}: must be a name or a whole number, got {str(value)[:40]!r}")
