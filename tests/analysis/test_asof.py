"""The core of the as-of join against a loop, to the nanosecond; order and batches change nothing; leakage shows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.analysis.asof import NO_COUNTS, NONE_BEFORE, REASONS, STALE, UNATTRIBUTED, History, Matches
from loadtest.runfolder import RunFolderError

BASE_NS = 1_790_000_000_123_456_789  # beyond 2**53: as floats its neighbours are 256 apart
SEEN = ("0xa", "0xb")
UNSEEN = "0xc"
TOLERANCE_NS = 10

# Steps of 1 ns from few values: ties, equal instants, and ages on both sides of the tolerance are common.
instants = st.integers(0, 25).map(lambda step: BASE_NS + step)
snapshots = st.lists(
    st.tuples(st.sampled_from(SEEN), instants, st.none() | st.floats(0, 100)),
    max_size=25,
    unique_by=lambda row: row[:2],
)
requests = st.lists(
    st.tuples(st.none() | st.sampled_from([*SEEN, UNSEEN, "0xA"]), st.none() | instants, st.integers(0, 3)), max_size=25
)

Snapshot = tuple[str, int, float | None]
Request = tuple[str | None, int | None, int]


def history(rows: list[Snapshot]) -> History:
    values = np.array([math.nan if value is None else value for _, _, value in rows], dtype=float)
    nodes = pa.array([node for node, _, _ in rows], type=pa.string())
    return History.of(nodes, np.array([at for _, at, _ in rows], dtype=np.int64), values, "test snapshots")


def ask(past: History, rows: list[Request], tolerance_s: float = TOLERANCE_NS / 1e9) -> Matches:
    return past.before(
        pa.array([node for node, _, _ in rows], type=pa.string()),
        np.array([at or 0 for _, at, _ in rows], dtype=np.int64),
        np.array([at is not None for _, at, _ in rows], dtype=bool),
        np.array([bound for _, _, bound in rows], dtype=np.int64),
        tolerance_s,
    )


def plain(found: Matches) -> list[tuple[Any, ...]]:
    """(value, observed, age, reason) of each row as plain Python, None for missing."""
    rows = zip(found.value, found.observed_ns, found.seen, found.age_ns, found.reason, strict=True)
    return [
        (None if math.isnan(value) else float(value), *((int(at), int(age)) if seen else (None, None)), REASONS[reason])
        for value, at, seen, age, reason in rows
    ]


def by_loop(past: list[Snapshot], row: Request) -> tuple[Any, ...]:
    node, sent, bound = row
    if node is None:
        before = [each for each in past if False]
    else:
        before = [each for each in past if sent is not None and each[0] == node.lower() and each[1] < sent - bound]
    if not before or sent is None:
        return (None, None, None, UNATTRIBUTED if node is None else NONE_BEFORE)
    _, at, value = max(before, key=lambda each: each[1])
    reason = STALE if sent - at > TOLERANCE_NS else NO_COUNTS if value is None else ""
    return (None if reason else value, at, sent - at, reason)


@settings(max_examples=300, deadline=None)
@given(snapshots, requests)
def test_equals_a_loop(past: list[Snapshot], rows: list[Request]) -> None:
    assert plain(ask(history(past), rows)) == [by_loop(past, row) for row in rows]


@settings(max_examples=100, deadline=None)
@given(snapshots, requests, st.randoms(use_true_random=False), st.integers(1, 7))
def test_neither_order_nor_batches_change_an_answer(
    past: list[Snapshot], rows: list[Request], random: Any, size: int
) -> None:
    expected = plain(ask(history(past), rows))
    order = list(range(len(rows)))
    random.shuffle(order)
    mixed = random.sample(past, len(past))
    shuffled, found = history(mixed), [()] * len(rows)
    for first in range(0, len(order), size):
        batch = order[first : first + size]
        for place, answer in zip(batch, plain(ask(shuffled, [rows[i] for i in batch])), strict=True):
            found[place] = answer
    assert found == expected


def test_the_tolerance_ends_at_its_nanosecond() -> None:
    past = history([("0xa", BASE_NS, 50.0)])
    at, beyond = (plain(ask(past, [("0xa", BASE_NS + TOLERANCE_NS + more, 0)]))[0] for more in (0, 1))
    assert at == (50.0, BASE_NS, TOLERANCE_NS, "")
    assert beyond == (None, BASE_NS, TOLERANCE_NS + 1, STALE)
    for endless in (math.inf, 1e30):
        assert plain(ask(past, [("0xa", BASE_NS + 10**18, 0)], endless))[0][3] == ""


def test_snapshots_from_the_future_change_the_answers() -> None:
    """Leakage: were a later snapshot ever taken, shifting all by one period would change nothing here."""
    period = 100
    past = [("0xa", BASE_NS + period * k, float(k)) for k in range(20)]
    rows: list[Request] = [("0xa", BASE_NS + period * k + 50, 0) for k in range(2, 18)]
    now = ask(history(past), rows, 1.0)
    later = ask(history([(node, at + period, value) for node, at, value in past]), rows, 1.0)
    assert (now.value - later.value == 1.0).all()
    assert (now.observed_ns < np.array([at for _, at, _ in rows])).all()


def test_dictionaries_in_pieces_are_one_column() -> None:
    """A Parquet column read as a dictionary has another one in every row group, and text may be missing in two ways."""
    past = history([("0xA", BASE_NS, 1.0), ("0xb", BASE_NS, 2.0)])
    numbers = pa.array([0, 1, None, 2], type=pa.int32())
    pieces = [
        pa.DictionaryArray.from_arrays(numbers, pa.array(names))
        for names in (["0xb", "0xa", "d"], ["0xc", "0xB", "0xA"])
    ]
    at, sent = np.full(8, BASE_NS + 5), np.ones(8, dtype=bool)
    found = past.before(pa.chunked_array(pieces), at, sent, 0, 1.0)
    reasons = ["", "", UNATTRIBUTED, NONE_BEFORE, NONE_BEFORE, "", UNATTRIBUTED, ""]
    assert [REASONS[code] for code in found.reason] == reasons
    assert found.value[found.reason == 0].tolist() == [2.0, 1.0, 2.0, 1.0]
    holed = pa.DictionaryArray.from_arrays(numbers, pa.array(["0xa", None, "0xB"]))
    found = past.before(holed, at[:4], sent[:4], 0, 1.0)
    assert [REASONS[code] for code in found.reason] == ["", UNATTRIBUTED, UNATTRIBUTED, ""]


def test_more_nodes_than_16_bits() -> None:
    count = 70_000
    names = pa.array([f"0x{i:x}" for i in range(count)])
    past = History.of(names, np.full(count, BASE_NS), np.arange(count, dtype=float), "test snapshots")
    asked = np.array([0, 1, 65_535, 65_536, 69_999])
    found = past.before(names.take(asked), np.full(5, BASE_NS + 1), np.ones(5, dtype=bool), 0, 1.0)
    assert found.value.tolist() == asked.tolist()


def test_two_snapshots_of_one_node_at_one_instant_are_an_error() -> None:
    rows: list[Snapshot] = [("0xa", BASE_NS, 1.0), ("0xb", BASE_NS, 2.0), ("0xa", BASE_NS + 1, 1.0)]
    history(rows)
    with pytest.raises(RunFolderError) as error:
        history([*rows, ("0xA", BASE_NS, 3.0)])
    text = str(error.value)
    assert "\n" not in text and "test snapshots: 1 snapshots repeat" in text and f"node 0xa at {BASE_NS} ns" in text


def test_a_snapshot_of_no_node_is_an_error() -> None:
    with pytest.raises(RunFolderError, match="test snapshots: 1 snapshots name no node"):
        History.of(pa.array(["0xa", None]), np.array([1, 2]), np.array([1.0, 2.0]), "test snapshots")


@pytest.mark.parametrize("instants", [[3, 2, 9], [3, 3, 9]])
def test_rows_that_are_not_sorted_are_never_searched(instants: list[int]) -> None:
    with pytest.raises(AssertionError, match="sorted"):
        History(pa.array(["0xa", "0xb"]), np.array([0, 2, 3]), np.array(instants), np.zeros(3))
