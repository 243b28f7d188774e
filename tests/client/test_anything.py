"""Any bytes at all: what atheris looks for with millions of executions, a little of it in every run of the suite."""

from __future__ import annotations

import pytest
from anything import CHECKS
from hypothesis import given
from hypothesis import strategies as st
from streams import STREAMS

WORDS = st.sampled_from(
    [
        *[body for body in STREAMS.values() if body],
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"Content-Length: 3\r\n\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"data: ",
        b'{"choices":[{"text":"a"}]}',
        b'{"choices":[{"delta":{"content":"<think>"}}],"error":',
        b"[DONE]",
        b"event: error",
        b"\n\n",
        b"\r\n",
        b"\r",
        b"\xef\xbb\xbf",
        b"\xff\x00",
    ]
)
ANYTHING = st.builds(
    lambda cuts, parts: bytes([len(cuts)]) + bytes(cuts) + b"".join(parts),
    st.lists(st.integers(0, 255), max_size=12),
    st.lists(WORDS | st.binary(max_size=8), max_size=12),
)


@pytest.mark.parametrize("name", CHECKS)
@given(data=ANYTHING | st.binary(max_size=200))
def test_any_bytes(name: str, data: bytes) -> None:
    CHECKS[name](data)
