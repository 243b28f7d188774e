"""What all our pages share: a template engine that escapes everything, and one style sheet."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_HERE = Path(__file__).parent


def environment() -> Environment:
    """Templates of this folder. Names of nodes and texts of errors come from strangers, so autoescape is on."""
    return Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def css() -> Markup:
    """The style sheet, to be inlined."""
    return Markup((_HERE / "page.css").read_text(encoding="utf-8"))
