"""JSON files of any size, read piece by piece: an array's elements, or documents one after the other (JSON lines).

Never more than one element and one piece of the file is held. An element may have ELEMENT_CHARS_MAX characters, which
is as much as a live answer may have; one that is longer ends the file with a mistake.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple, TextIO

PIECE_CHARS = 1 << 20
ELEMENT_CHARS_MAX = 32 << 20
_SPACE = " \t\r\n\ufeff"
_CUT_CHARS = 16  # a decoder that stops so near the end of what it was given may only lack the rest


class Found(NamedTuple):
    """`where` is the place in the file, as in "row 3"; `mistake` is "" or why there is no value."""

    where: str
    value: Any
    mistake: str = ""


class Twice(dict[str, Any]):
    """An object in which a name stands twice; `names` are those. Plain dict would keep the last one in silence."""

    names: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) == len(pairs):
        return plain
    names = [name for name, _ in pairs]
    twice = Twice(plain)
    twice.names = tuple(sorted({name for name in names if names.count(name) > 1}))
    return twice


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


class _Buffer:
    """What is read of the file and not yet used. `line` is the line of the first character held."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.text = ""
        self.at = 0
        self.line = 1
        self.ended = False
        self._piece = PIECE_CHARS

    def more(self) -> bool:
        """Read on; False at the end of the file."""
        piece = self._file.read(self._piece)
        self.ended = not piece
        self.text = self.text[self.at :] + piece
        self.at = 0
        return bool(piece)

    def skip(self, characters: str) -> str:
        """Pass over `characters`; returns the next other one, "" at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in characters:
                self.line += self.text[self.at] == "\n"
                self.at += 1
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]

    def value(self) -> Any:
        """The value that begins here. ValueError: no JSON, or longer than ELEMENT_CHARS_MAX."""
        self._piece = PIECE_CHARS
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self.text) - _CUT_CHARS
                if not cut or self.ended:
                    raise ValueError(f"not JSON ({error.msg})") from None
            except RecursionError:
                raise ValueError("not ours: nested too deeply") from None
            else:
                # A number near the end of what was read may go on in the next piece: 0, 0. and 0.5 all begin so.
                if end < len(self.text) - _CUT_CHARS or self.ended or not isinstance(value, int | float):
                    self.line += self.text.count("\n", self.at, end)
                    self.at = end
                    return value
            if len(self.text) - self.at > ELEMENT_CHARS_MAX:
                raise ValueError(f"an element of more than {ELEMENT_CHARS_MAX >> 20} MB; write one node per element")
            self.more()
            self._piece = min(2 * self._piece, ELEMENT_CHARS_MAX)  # so that a long element is not decoded too often

    def next_line(self) -> bool:
        """Go to the next line that begins an object; False when there is none in what may be held."""
        while True:
            end = self.text.find("\n{", self.at)
            if end >= 0:
                self.line += self.text.count("\n", self.at, end + 1)
                self.at = end + 1
                return True
            if len(self.text) - self.at > ELEMENT_CHARS_MAX or not self.more():
                return False


def json_values(file: TextIO) -> Iterator[Found]:
    """Elements of a top-level array as "row N", or documents as "line N". Ends with a mistake where it cannot go on."""
    buffer = _Buffer(file)
    try:
        first = buffer.skip(_SPACE)
        if first == "[":
            buffer.at += 1
            yield from _elements(buffer)
        elif first:
            yield from _documents(buffer)
        else:
            yield Found("row 1", None, "the file is empty")
    except UnicodeDecodeError as error:
        yield Found(f"line {buffer.line}", None, f"not UTF-8 text ({error.reason}); what follows was not read")


def _elements(buffer: _Buffer) -> Iterator[Found]:
    row = 0
    while (mark := buffer.skip(_SPACE)) != "]":
        row += 1
        if not mark or row > 1:
            if mark != ",":
                what = "the array is cut off" if not mark else f"not JSON (expected a comma, got {mark!r})"
                yield Found(f"row {row}", None, f"{what}; what follows was not read")
                return
            buffer.at += 1
            buffer.skip(_SPACE)
        try:
            yield Found(f"row {row}", buffer.value())
        except UnicodeDecodeError:
            raise
        except ValueError as error:
            yield Found(f"row {row}", None, f"{error}; what follows was not read")
            return


def _documents(buffer: _Buffer) -> Iterator[Found]:
    while buffer.skip(_SPACE):
        line = buffer.line
        try:
            yield Found(f"line {line}", buffer.value())
        except UnicodeDecodeError:
            raise
        except ValueError as error:
            going_on = buffer.next_line()
            yield Found(f"line {line}", None, f"{error}{'' if going_on else '; what follows was not read'}")
            if not going_on:
                return
