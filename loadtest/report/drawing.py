"""How a picture is drawn and becomes part of a page: style, axes of durations, and SVG text to be inlined.

matplotlib's object interface and SVG backend only, so that no window system and no global figure is touched. Text
stays text. Colours are written as CSS variables, so the page decides about light, dark and paper. The same figure
gives the same bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

INK = {
    "text": "#1c2126",
    "soft": "#5b6570",
    "line": "#c9d0d8",
    "grid": "#e7ebef",
    "paper": "#fefefe",
    "shade": "#f1ede2",
    "blue": "#2166c9",
    "orange": "#cc5500",
    "green": "#1c8457",
    "red": "#c42f3a",
    "violet": "#7350bd",
    "grey": "#a3adb8",
}
_WIDTH = 10.4
SMALL: dict[str, Any] = {"color": INK["soft"], "fontsize": 7.2}


def figure(height: float, gap: float = 0.04) -> Figure:
    """An empty figure of page width; `height` and the `gap` beside panels in inches."""
    empty = Figure(figsize=(_WIDTH, height), layout=ConstrainedLayoutEngine(w_pad=gap))
    FigureCanvasSVG(empty)
    return empty


@contextmanager
def style(salt: str) -> Iterator[None]:
    """Style and determinism of one picture; the ids of two pictures on one page must differ, hence the salt."""
    rules: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": f"loadtest-{salt}",
        "font.family": "DejaVu Sans",
        "font.size": 8.2,
        "text.color": INK["text"],
        "text.parse_math": False,
        "axes.labelcolor": INK["soft"],
        "axes.edgecolor": INK["line"],
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": INK["grid"],
        "grid.linewidth": 0.8,
        "xtick.color": INK["line"],
        "ytick.color": INK["line"],
        "xtick.labelcolor": INK["soft"],
        "ytick.labelcolor": INK["soft"],
        "ytick.major.size": 0,
        "ytick.minor.size": 0,
        "xtick.minor.size": 0,
    }
    with mpl.rc_context(rules):
        yield


def titled(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=8.8, fontweight="bold", color=INK["text"], pad=7)


def legend(axes: Axes, columns: int) -> None:
    """Above the panel, at the right of its title: inside it a line may pass behind."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=columns, frameon=False, borderaxespad=0.2)


def duration_axis(axes: Axes, which: str, values: Sequence[float]) -> None:
    """Linear from zero, or logarithmic when the slow would flatten the fast."""
    known = [v for v in values if math.isfinite(v) and v > 0]
    if known and max(known) > 12 * min(known):
        axes.set_yscale("log")
        axes.set_ylim(min(known) * 0.75, max(known) * 1.35)
    duration_ticks(axes.yaxis if which == "y" else axes.xaxis)


def duration_ticks(axis: Any) -> None:
    if axis.get_scale() == "log":
        low, high = sorted(axis.get_view_interval())
        wide = low <= 0 or high / low > 400
        axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0)))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def _tick(value_ms: float) -> str:
    return "0" if value_ms == 0 else f"{value_ms / 1000:g} s" if abs(value_ms) >= 1000 else f"{value_ms:g} ms"


def latin(text: str) -> str:
    """Letters the drawing font has: matplotlib warns for each that is missing."""
    return "".join(c if (c.isascii() and c.isprintable()) or c == "…" else "?" for c in text)


def svg(drawn: Figure, name: str, titles: dict[str, str] | None = None) -> str:
    """The figure as an inline <svg>: no prologue, no metadata, colours as variables, ids unique on the page."""
    out = io.StringIO()
    drawn.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(
        r"<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL
    )
    text = re.sub(r'<svg [^>]*?(viewBox="[^"]+")[^>]*>', rf'<svg class="{name}" \1 role="img">', text, count=1)
    # Only inside tags: a node may be named like a colour or an id, and its name is text.
    text = re.sub(r"<[^>]*>", lambda tag: _for_page(tag.group()), text)
    for gid, title in (titles or {}).items():
        text = text.replace(f'<g id="{gid}">', f"<g><title>{escape(title)}</title>", 1)
    return re.sub(r"\n\s*", "\n", text)


def _for_page(tag: str) -> str:
    tag = re.sub(r' id="(?!node-)[A-Za-z0-9.]+_\d+"', "", tag)
    tag = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", tag)
    tag = _colours.sub(lambda found: _variables[found.group()], tag)
    tag = re.sub(r"(\d\.\d\d)\d{2,}", r"\1", tag)  # a hundredth of a point is less than a printer's dot
    return tag.replace("xlink:href", "href").replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")


_variables = {colour: f"var(--{name})" for name, colour in INK.items()}
_colours = re.compile("|".join(_variables))
