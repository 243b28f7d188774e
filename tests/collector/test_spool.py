"""The spool's bytes: whole entries or nothing, wherever they are cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_rows import made_row

from loadtest import spool

entries = st.lists(
    st.one_of(
        st.builds(lambda n, t: spool.Started(made_row(n, error_text=t)), st.integers(0, 2**40), st.text(max_size=50)),
        st.builds(lambda n, t: spool.Finished(made_row(n, error_text=t)), st.integers(0, 2**40), st.text(max_size=50)),
        st.builds(spool.Body, st.integers(0, 99), st.integers(0, 99), st.just("empty"), st.binary(max_size=300)),
    ),
    max_size=6,
)


@given(entries)
def test_round_trip(some: list[spool.Entry]) -> None:
    data = b"".join(spool.pack(entry) for entry in some)
    assert list(spool.unpack(data)) == some
    assert spool.whole_entries(data) == len(data)


@given(entries, st.data())
def test_a_cut_leaves_the_entries_before_it(some: list[spool.Entry], data: st.DataObject) -> None:
    packed = [spool.pack(entry) for entry in some]
    whole = b"".join(packed)
    cut = data.draw(st.integers(0, len(whole)))
    length = spool.whole_entries(whole[:cut])
    ends = [sum(map(len, packed[:n])) for n in range(len(packed) + 1)]
    assert length == max(end for end in ends if end <= cut)
    assert list(spool.unpack(whole[:length])) == some[: ends.index(length)]


@given(entries.filter(bool), st.data())
def test_a_flipped_bit_is_never_read_as_a_row(some: list[spool.Entry], data: st.DataObject) -> None:
    whole = bytearray(b"".join(spool.pack(entry) for entry in some))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    length = spool.whole_entries(bytes(whole))
    assert length <= at, "the damaged entry and what follows it are not read"
    assert list(spool.unpack(bytes(whole[:length]))) == some[: len(list(spool.unpack(bytes(whole[:length]))))]
    with pytest.raises(spool.SpoolError):
        list(spool.unpack(bytes(whole)))


def test_reading_goes_on_past_an_entry_larger_than_a_frame(tmp_path: Path) -> None:
    large = spool.pack(spool.Body(0, 1, "empty", b"x" * 5000))
    small = spool.pack(spool.Body(0, 2, "empty", b"y"))
    path = tmp_path / "worker-0-1.spool"
    path.write_bytes(large + small + large[:100])
    assert spool.read_from(path, 0, 1000) == large
    assert spool.read_from(path, len(large), 1000) == small
    assert spool.read_from(path, len(large + small), 1000) == b"", "a torn end is not read"
