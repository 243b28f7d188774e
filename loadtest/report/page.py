"""What all our pages share: an engine that escapes everything, the frame (frame.html), and one style sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loadtest.report.wording import Figure, Sentence

_HERE = Path(__file__).parent


def environment() -> Environment:
    """Templates of this folder. Names of nodes and texts of errors come from strangers, so autoescape is on.

    Every `Figure` that is printed carries its exact value; inside a tag's attribute `|plainly` prints it without.
    """
    made = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=marked,
    )
    made.filters |= {"plainly": str, "exact": exact}
    return made


def marked(text: Any) -> Any:
    """`text` with each of its figures as <data value="…">; anything else as it is."""
    if isinstance(text, Sentence):
        return Markup("").join(marked(part) for part in text.parts)
    if isinstance(text, Figure):
        return Markup('<data value="{}">{}</data>').format(exact(text.value), str(text))
    return text


def exact(value: float) -> str:
    """All of a float that is not noise, as JSON would have it."""
    return format(value, ".15g")


def css() -> Markup:
    """The style sheet, to be inlined."""
    return Markup((_HERE / "page.css").read_text(encoding="utf-8"))
