"""What others call their columns, and the fields of a row by our names.

Several names may tell one thing. Of some fields they must then tell the same. Of others, as of the instants at which a
row was fetched and told, the first in order of preference holds, and the rest are named as not read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

UNREAD_MAX = 50  # names of one file that are listed as not read

# Names of the node and of the instant at which a row was observed, in order of preference, as words.
NODE_NAMES = ("node", "miner", "mineraddress", "nodeaddress", "address")
INSTANT_NAMES = ("observedwallns", "observedat", "fetchedat", "timestamp", "time", "ts")


@lru_cache(maxsize=4_096)
def field_word(name: str) -> str:
    """A column's name without case and punctuation: precommitPoint and precommit_point are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def note_unread(unread: dict[str, None], name: str) -> None:
    """A name that is not read, in order; beyond UNREAD_MAX only that there are more."""
    name = str(name)[:60]
    if name not in unread:
        unread.setdefault(name if len(unread) < UNREAD_MAX else "and more")


def index_of(names: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, int]]:
    """By word the field that it means and its rank, 0 for the one preferred."""
    return {word: (field, rank) for field, words in names.items() for rank, word in enumerate(words)}


class Fields:
    """One row's fields, told name by name. `passed_over` are names that told a field otherwise and do not hold."""

    __slots__ = ("_agreeing", "_best", "_index", "passed_over")

    def __init__(self, index: Mapping[str, tuple[str, int]], agreeing: Collection[str]) -> None:
        self._index, self._agreeing = index, agreeing
        self._best: dict[str, tuple[int, Any, str]] = {}
        self.passed_over: list[str] = []

    def tell(self, name: str, word: str, entry: Any) -> None:
        """ValueError: one name tells it twice and differently, or two names of an agreeing field do."""
        field, rank = self._index.get(word, ("", 0))
        if not field:
            return
        best = self._best.get(field)
        if best is None or best[1] is None or best[1] == "":
            self._best[field] = rank, entry, name
        elif entry is not None and entry != "":
            first, told, before = best
            if not _same(told, entry):
                if rank == first or field in self._agreeing:
                    raise ValueError(
                        f"{field}: told twice, as {str(told)[:40]!r} and as {str(entry)[:40]!r}; which one holds?"
                    )
                self.passed_over.append(before if rank < first else name)
            if rank < first:
                self._best[field] = rank, entry, name

    def values(self) -> dict[str, Any]:
        return {field: entry for field, (_, entry, _) in self._best.items()}


def _same(one: Any, other: Any) -> bool:
    """8 and "8" are, and addresses in another case."""
    return bool(one == other) or str(one).strip().lower() == str(other).strip().lower()
