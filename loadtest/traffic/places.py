"""Where in a profile's text a field stands: tomllib tells no lines, a user's editor wants them."""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.-]+)\s*\]\]?\s*(#.*)?$")


def line_of(text: str, place: str) -> int:
    """The line, from 1, of a place as `reading` writes it: "[load] rate_per_s", "[[persona]] coder turns.max".

    A field that is not there has the line of its section; a section that is not there has line 1.
    """
    lines = text.splitlines()
    found = re.match(r"(\[\[?)([\w.-]+)\]\]?\s*(.*)", place)
    if not found:
        return _first(lines, range(len(lines)), place.split(" ")[0], 0) + 1
    brackets, section, rest = found.groups()
    blocks = list(_blocks(lines, brackets, section))
    for number, block in enumerate(blocks, start=1):
        label = _label(lines, block, number) if brackets == "[[" else ""
        if rest == label or not label or rest.startswith(f"{label} "):
            return _field(lines, block, section, rest[len(label) :].strip()) + 1
    return blocks[0].start + 1 if blocks else 1


def _blocks(lines: list[str], brackets: str, section: str) -> list[range]:
    """The lines of each section of that name, from its header on, [section.inner] included."""
    headers = [(place, found) for place, line in enumerate(lines) if (found := _HEADER.match(line))]
    blocks = []
    for start, header in headers:
        if (header[1], header[2]) != (brackets, section):
            continue
        later = (place for place, found in headers if place > start and not found[2].startswith(f"{section}."))
        blocks.append(range(start, next(later, len(lines))))
    return blocks


def _label(lines: list[str], block: range, number: int) -> str:
    """How `reading` names a section of a list: by its own name, else by its number."""
    named = (re.match(r"\s*name\s*=\s*([\"'])(.*?)\1", lines[place]) for place in block)
    return next((found[2] for found in named if found), str(number))


def _field(lines: list[str], block: range, section: str, field: str) -> int:
    if not field:
        return block.start
    first, *inner = re.split(r"[. ]", field)
    place = _first(lines, block, first, block.start, section)
    if not inner or place == block.start:
        return place
    # Inside a value: the next line that has the innermost name, as far as the field goes.
    part = re.search(r"\[(\d+)\]", field)
    ends = (at for at in block if at > place and re.match(r"[\w-]+\s*=|\[", lines[at]))
    region = range(place, next(ends, block.stop))
    if section and _HEADER.match(lines[place]):
        region = range(place, block.stop)
    if part:
        entries = [at for at in region for _ in re.finditer(r"\bdist\s*=", lines[at])]
        if lines[place].lstrip().startswith("[") or re.match(r"\s*\w+\s*=\s*\{\s*dist", lines[place]):
            entries = entries[1:]  # the distribution's own comes first
        return entries[int(part[1]) - 1] if int(part[1]) <= len(entries) else place
    named = re.compile(rf"\b{re.escape(inner[-1])}\s*=")
    return next((at for at in region if named.search(lines[at])), place)


def _first(lines: list[str], block: range, name: str, missing: int, section: str = "") -> int:
    """The first line of `block` that gives `name` a value or opens its table."""
    key = rf"\s*[\"']?{re.escape(name)}[\"']?\s*[=.]"
    table = rf"\s*\[\[?\s*{re.escape(f'{section}.{name}' if section else name)}\s*\]"
    return next((at for at in block if re.match(f"{key}|{table}", lines[at])), missing)
