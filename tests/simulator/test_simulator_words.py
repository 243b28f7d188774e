"""The texts of the nodes: repeatable, a token a piece, alike but mostly not equal."""

from __future__ import annotations

from loadtest.simulator.words import SAME_TEXT_SHARE, WORDS, answer_pieces
from loadtest.traffic.tokens import count_tokens, load_encoding


def test_every_word_is_one_token() -> None:
    encoding = load_encoding("cl100k_base")
    for word in WORDS:
        piece = word if word in ("…", "\n") else " " + word
        assert count_tokens(encoding, piece) == 1, word


def test_a_text_is_drawn_again_from_its_names() -> None:
    first = answer_pieces(7, "11", "3", "0xaa", 50)
    answer_pieces.cache_clear()
    assert answer_pieces(7, "11", "3", "0xaa", 50) == first
    assert len(first) == 50
    assert first[0] == first[0].strip()
    assert answer_pieces(8, "11", "3", "0xaa", 50) != first
    assert answer_pieces(7, "11", "4", "0xaa", 50) != first


def test_nodes_differ_in_a_few_words_and_some_not_at_all() -> None:
    equal = changed = 0
    for task in range(400):
        one, other = (answer_pieces(7, "21", str(task), node, 60) for node in ("0xaa", "0xbb"))
        changed += sum(a != b for a, b in zip(one, other, strict=True))
        equal += one == other
    # Two nodes agree when both keep the common text; 400 tasks, so five sigmas are 0.06.
    assert abs(equal / 400 - SAME_TEXT_SHARE**2) < 0.06
    assert 0 < changed / (400 * 60) < 0.2
