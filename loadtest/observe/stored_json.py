"""JSON files of any size, read piece by piece: arrays, whose elements are the rows, and documents, one after the other.

Never more than one element and one piece of the file is held. An element may have ELEMENT_CHARS_MAX characters, which
is as much as a live answer may have; one that is longer ends the file with a mistake.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TextIO

PIECE_CHARS = 1 << 20
ELEMENT_CHARS_MAX = 32 << 20
_TOO_LONG = f"an element of more than {ELEMENT_CHARS_MAX >> 20} MB; write one node per element"
_SPACE = " \t\r\n\ufeff"
_CUT_CHARS = 16  # a decoder that stops so near the end of what it was given may only lack the rest


class Found(NamedTuple):
    """`where` is the place in the file, as in "row 3"; `mistake` is "" or why there is no value."""

    where: str
    value: Any
    mistake: str = ""
    note: str = ""  # of what is left out by intent; then there is no value either


class Unsound(dict[str, Any]):
    """An object that is not to be read, and why: a name stands twice in it, or a text is none."""

    mistake: str = ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) < len(pairs):
        names = [name for name, _ in pairs]
        name = min(name for name in names if names.count(name) > 1)
        return _unsound(plain, f"{name[:80]!r} is there twice; which one holds?")
    return plain


def _checked_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = _object(pairs)
    if all_text(plain) and all_text(plain.values()):
        return plain
    return _unsound(plain, NOT_TEXT)


def _unsound(plain: dict[str, Any], mistake: str) -> Unsound:
    found = Unsound(plain)
    found.mistake = mistake
    return found


NOT_TEXT = "a text with bytes that are not UTF-8, or with half a character"


def all_text(values: Iterable[Any]) -> bool:
    """Whether every text among the values can be stored. Files are read so that a bad byte is half a character, and
    spoils its own row only."""
    for value in values:
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                return False
    return True


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
_CHECKING = json.JSONDecoder(object_pairs_hook=_checked_object)


class _Buffer:
    """What is read of the file and not yet used. `line` is the line of the first character held."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.text = ""
        self.at = 0
        self.line = 1
        self.ended = False
        self._piece = PIECE_CHARS
        self._decoder = _DECODER

    def more(self) -> bool:
        """Read on; False at the end of the file."""
        piece = self._file.read(self._piece)
        self.ended = not piece
        self.text = self.text[self.at :] + piece
        self.at = 0
        # Texts of a file without either are all sound, and most files have neither.
        self._decoder = _DECODER if self.text.isascii() and "\\u" not in self.text else _CHECKING
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
                value, end = self._decoder.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self.text) - _CUT_CHARS
                if not cut or self.ended:
                    raise ValueError(f"not JSON ({error.msg})") from None
            except RecursionError:
                raise ValueError("not ours: nested too deeply") from None
            except ValueError:
                raise ValueError("not ours: a number of thousands of digits") from None
            else:
                if end - self.at > ELEMENT_CHARS_MAX:
                    raise ValueError(_TOO_LONG)
                # A number near the end of what was read may go on in the next piece: 0, 0. and 0.5 all begin so.
                if end < len(self.text) - _CUT_CHARS or self.ended or not isinstance(value, int | float):
                    self.line += self.text.count("\n", self.at, end)
                    self.at = end
                    return value
            if len(self.text) - self.at > ELEMENT_CHARS_MAX:
                raise ValueError(_TOO_LONG)
            self.more()
            self._piece = min(2 * self._piece, ELEMENT_CHARS_MAX)  # so that a long element is not decoded too often

    def next_line(self, begins: str) -> bool:
        """Go to the next line that begins with one of the characters; without one in what may be held, to the end."""
        while True:
            ends = [end for mark in begins if (end := self.text.find(f"\n{mark}", self.at)) >= 0]
            if ends:
                end = min(ends)
                self.line += self.text.count("\n", self.at, end + 1)
                self.at = end + 1
                return True
            if len(self.text) - self.at > ELEMENT_CHARS_MAX or not self.more():
                self._file, self.text, self.at = io.StringIO(), "", 0
                return False


def json_values(file: TextIO) -> Iterator[Found]:
    """Elements of arrays as "row N" (of a later array with its line), documents as "line N", to the end of the file.

    Where it cannot go on it ends with a mistake that says so.
    """
    buffer = _Buffer(file)
    first = True
    while mark := buffer.skip(_SPACE):
        line = buffer.line
        if mark == "[":
            buffer.at += 1
            yield from _elements(buffer, "" if first else f"line {line}, ")
        else:
            yield from _document(buffer, f"line {line}")
        first = False
    if first:
        yield Found("row 1", None, "the file is empty")


def _document(buffer: _Buffer, where: str) -> Iterator[Found]:
    try:
        yield Found(where, buffer.value())
    except ValueError as error:
        yield _broken(buffer, where, str(error), "{[")


def _elements(buffer: _Buffer, array: str) -> Iterator[Found]:
    """Those of one array. What breaks it is a mistake of its row, and the array ends there."""
    row = 0
    while (mark := buffer.skip(_SPACE)) != "]":
        row += 1
        if not mark or row > 1:
            if mark != ",":
                what = "the array is cut off" if not mark else f"not JSON (expected a comma, got {mark!r})"
                yield _broken(buffer, f"{array}row {row}", what, "[")
                return
            buffer.at += 1
            buffer.skip(_SPACE)
        try:
            yield Found(f"{array}row {row}", buffer.value())
        except ValueError as error:
            yield _broken(buffer, f"{array}row {row}", str(error), "[")
            return
    buffer.at += 1


def _broken(buffer: _Buffer, where: str, what: str, begins: str) -> Found:
    """A mistake after which reading goes on with the next line that begins an array or, in JSON lines, an object."""
    going_on = buffer.next_line(begins)
    return Found(
        where, None, f"{what}; {f'reading goes on at line {buffer.line}' if going_on else 'what follows was not read'}"
    )
