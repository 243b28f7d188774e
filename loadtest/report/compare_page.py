"""The page of a comparison: cautions, pictures, tables; one file that needs no network."""

from __future__ import annotations

from markupsafe import Markup

from loadtest.analysis.comparison import Comparison
from loadtest.report import compare_pictures, page
from loadtest.report.compare_tables import compare_tables, sentences
from loadtest.report.html import Drawn


def compare_html(found: Comparison) -> str:
    """The whole page. Names of runs and targets are escaped; a content security policy forbids every request."""
    drawn = []
    for draw, title, caption in (
        (
            compare_pictures.overlaid_distributions,
            "Distributions.",
            "Share of requests answered within a time, service, on a log axis. A curve that ends below 100 % shows "
            "failures.",
        ),
        (
            compare_pictures.overlaid_courses,
            "Over time.",
            "By the second in which requests were due, from the start of each run.",
        ),
    ):
        svg = draw(found)
        if svg is not None:
            drawn.append(Drawn(title, caption, Markup(svg)))
    template = page.environment().get_template("compare.html")
    return template.render(
        title=_title(found),
        css=page.css(),
        cautions=sentences(found),
        pictures=drawn,
        tables=compare_tables(found),
    )


def _title(found: Comparison) -> str:
    if found.against:
        return f"{len(found.runs)} runs against {len(found.against)}"
    names = [run.figures.run for run in found.runs]
    return " and ".join(names) if len(names) == 2 else f"{len(names)} runs"
