"""Batches made ahead: the same ones in the same order, and what goes wrong is told to who asked for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from loadtest.analysis.batches import one_ahead
from loadtest.runfolder import RunFolderError


def test_all_come_in_order() -> None:
    assert list(one_ahead(iter(range(1, 50)))) == list(range(1, 50))
    assert list(one_ahead(iter([]))) == []


def test_the_next_is_made_while_one_is_worked_on_and_no_more() -> None:
    made = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number + 1

    ahead = one_ahead(items())
    assert next(ahead) == 1
    assert made[1].wait(10)  # nobody has asked for it yet
    assert not made[2].is_set()
    assert list(ahead) == [2, 3, 4]


def test_an_error_comes_where_its_item_would_have() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise RunFolderError("damaged")

    ahead = one_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(RunFolderError, match="damaged"):
        next(ahead)


def test_who_stops_early_waits_for_nothing_more() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(1, 1000):
            made.append(number)
            yield number

    ahead = one_ahead(items())
    assert next(ahead) == 1
    ahead.close()
    assert len(made) <= 3
