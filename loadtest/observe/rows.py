"""What the observer reads of a stored request: enough to look its task up, and to count it for the node that served."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """Columns of a RequestRecord, in the order of COLUMNS."""

    client_reference: str
    target: str
    session: str | None
    task_id: str | None
    text_sha256: str | None
    done_ns: int | None
    clock_offset_ns: int
    outcome: str = ""
    error_kind: str = ""
    stream: bool = False
    sent_ns: int | None = None
    first_content_ns: int | None = None
    last_content_ns: int | None = None
    usage_completion_tokens: int | None = None
    counted_tokens: int | None = None
    content_chunks: int = 0
    node_hint: str | None = None

    @property
    def tokens(self) -> int:
        """Output tokens: the server's usage if above 0, else our count, else the number of content chunks."""
        for tokens in (self.usage_completion_tokens, self.counted_tokens):
            if tokens is not None and tokens > 0:
                return tokens
        return self.content_chunks


COLUMNS = list(Row._fields)
