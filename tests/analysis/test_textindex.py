"""The index of texts against a dictionary, collisions included."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.analysis import textindex
from loadtest.analysis.textindex import TextIndex

# Prefixes of each other, lengths around the eight bytes of a word, zeros, and what is not ASCII.
texts = st.text(alphabet="ab\0é界", max_size=20) | st.sampled_from(["", "a" * 127, "a" * 128, "a" * 129, "a" * 500])


def by_dictionary(known: list[str], asked: list[str | None]) -> list[int]:
    places = {text: place for place, text in enumerate(known)}
    return [-1 if text is None else places.get(text, -1) for text in asked]


@settings(max_examples=200, deadline=None)
@given(st.lists(texts, unique=True, max_size=12), st.lists(st.none() | texts, max_size=12), st.integers(0, 3))
def test_equals_a_dictionary(known: list[str], asked: list[str | None], cut: int) -> None:
    asked = [*asked, *known]
    index, expected = TextIndex(pa.array(known, pa.string())), by_dictionary(known, asked)
    array = pa.array(asked, pa.string())
    assert index.places(array).tolist() == expected
    assert index.places(array.slice(cut)).tolist() == expected[cut:]
    assert index.places(pa.chunked_array([array.slice(0, cut), array.slice(cut)])).tolist() == expected
    assert index.places(array.dictionary_encode()).tolist() == expected


def test_texts_that_share_all_that_is_hashed_are_told_apart() -> None:
    known = ["a" * 128 + end for end in "xyz"]
    index = TextIndex(pa.array(known))
    assert index.places(pa.array([known[1], "a" * 128 + "w", known[0]])).tolist() == [1, -1, 0]


def test_a_collision_with_a_text_of_the_list_is_no_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textindex, "_hashes", lambda texts: np.zeros(len(texts), dtype=np.int64))
    assert TextIndex(pa.array(["a"])).places(pa.array(["b", "a", None])).tolist() == [-1, 0, -1]


def test_hashes_of_alike_texts_differ() -> None:
    """References and numbers are alike: a hash that told few of them apart would be slow, not wrong."""
    alike = [f"20261125T140000Z-made.{arrival}.{turn}" for arrival in range(20_000) for turn in range(3)]
    numbers = [str(number) for number in range(60_000)]
    for each in (alike, numbers):
        assert len(np.unique(textindex._hashes(pa.array(each)))) == len(each)
