"""The same fault reads the same, and no secret is in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.client.errortext import LENGTH_MAX, normalise, without_key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("task 17 failed after 3.5 s", "task <n> failed after <n> s"),
        ("node 0xAbC123 gone", "node <hex> gone"),
        ("id 123e4567-e89b-12d3-a456-426614174000", "id <id>"),
        ("req_01HZX7K9Q2M4N6P8R0 lost", "<id> lost"),
        ("connect to 10.0.0.1:5010 failed", "connect to <address> failed"),
        ("Authorization: Bearer abc.def", "Authorization: <secret> <secret>"),
        ("got bearer abc", "got bearer <secret>"),
        ('{"api_key": "hunter2"}', '{"api_key": "<secret>"}'),
        ("?token=abc&x", "?token=<secret>&x"),
        ("key sk-aaaabbbbcccc bad", "key <secret> bad"),
        ("<html><!-- a --><h1>502 Bad\r\n Gateway</h1></html>", "<n> Bad Gateway"),
        ("a < b and c > d", "a < b and c > d"),
        ("my own key", "my own key"),
    ],
)
def test_replaced(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(st.text(max_size=300), st.text(alphabet="abcdef-", min_size=8, max_size=12), st.text(max_size=300))
def test_one_short_line_without_the_secret(before: str, secret: str, after: str) -> None:
    text = normalise(before + secret + after, (secret,))
    assert len(text) <= LENGTH_MAX
    assert secret not in text
    assert "\n" not in text


def test_a_key_is_struck_out_of_raw_bytes() -> None:
    assert without_key(b'\xff{"key":"k-1"} k-1', "k-1") == b'\xff{"key":"<secret>"} <secret>'
    assert without_key(b"as it was", None) == b"as it was"
