"""Association of reputation with latency and failure as tables, sentences and a picture: what analysis found, drawn."""

from __future__ import annotations

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from loadtest.report import drawing, wording
from loadtest.report.drawing import INK, SMALL
from loadtest.report.tables import Cell, Table, number, objects, quiet
from loadtest.report.wording import ABSENT, Summary

SERIES = {
    "reputation": "lifetime, network tasks",
    "window_precommit_percent": "last hour, network tasks",
    "reputation_session": "user tasks",
}


def relations(summary: Summary) -> Table:
    """Each reputation with latency and with failure."""
    rows = [
        (
            Cell(SERIES.get(str(each.get("series")), ABSENT)),
            Cell(str(each.get("outcome"))),
            *_rho(each),
            number(each.get("nodes"), wording.count(each.get("nodes"))),
            quiet(_range(each.get("range_seen"))),
            quiet(wording.say(_range(each.get("range_network")), " (narrowed)" if each.get("restricted") else "")),
            _finding(each),
        )
        for each in objects(summary, "association", "relations")
    ]
    columns = ("reputation before the send", "with", "rho", "95 %", "nodes", "seen, %", "network, %", "finding")
    numeric = (False, False, True, True, True, True, True, False)
    return Table("association", "Association with reputation", columns, numeric, tuple(rows), note(summary))


def next_hour(summary: Summary) -> Table:
    """What is known now with what the next hour brings."""
    rows = []
    for each in objects(summary, "association", "next_hour"):
        counts = (number(each.get(key), wording.count(each.get(key))) for key in ("nodes", "hours"))
        rows.append((Cell(str(each.get("direction"))), *_rho(each), *counts, _finding(each)))
    columns = ("direction", "rho", "95 %", "nodes", "hours", "finding")
    text = "Ranks within each hour, all hours together; the interval draws whole nodes. Of the two directions neither "
    text += "is a cause by itself: a node that is good stays good for hours."
    return Table(
        "next-hour", "The next hour", columns, (False, True, True, True, True, False), tuple(rows), text if rows else ""
    )


def note(summary: Summary) -> str:
    """How the figures were made and what they cannot show; "" without them."""
    found = wording.part(summary, "association")
    if not objects(summary, "association", "relations"):
        return ""
    name = wording.METRICS.get(str(found.get("latency")), (ABSENT, ""))[0]
    controls = ", ".join(str(each) for each in wording.listed(found, "controls"))
    said = [
        f"The unit is the node. Latency: median of log {name} less what is explained by {controls}; a failed turn is "
        "slower than every answer. Spearman's rho, the wider of Bonett and Wright's interval and of a bootstrap over "
        "nodes. ",
        wording.plural(found.get("nodes_few"), "node"),
        " of fewer than ",
        wording.count(found.get("requests_min")),
        " turns left out. Reputation is older than the turn (by ",
        wording.decimal(found.get("lag_s_p50"), 1),
        " s at the median), never newer. ",
    ]
    if found.get("nodes_left"):
        said += [wording.plural(found["nodes_left"], "node"), " had left the network before the end. "]
    if any(each.get("restricted") for each in objects(summary, "association", "relations")):
        said.append(
            "Narrowed: the nodes that served us differ less in reputation than those of the network, so an association "
            "in the whole network may be stronger than what is seen here. "
        )
    said.append("Association is all that is claimed: work goes to the reputed, and slow answers cost reputation.")
    return wording.say(*said)


def picture(summary: Summary) -> str | None:
    """Latency against reputation by node, what is explained taken out, with the association printed."""
    points = [
        (x, y)
        for each in objects(summary, "association", "points")
        if (x := wording.figure(each.get("reputation"))) is not None
        and (y := wording.figure(each.get("times"))) is not None
        and y > 0
    ]
    if len(points) < 2:
        return None
    with drawing.style("association"):
        figure = drawing.figure(3.2)
        axes = figure.subplots()
        axes.scatter(
            [x for x, _ in points], [y for _, y in points], s=22, color=INK["blue"], alpha=0.6, linewidths=0, zorder=3
        )
        axes.axhline(1.0, color=INK["grey"], lw=0.8, zorder=1)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}\u00d7"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        times = [y for _, y in points]
        axes.set_ylim(min(times) / 1.25, max(times) * 1.25)
        axes.set_xlabel(f"reputation before the send, % ({SERIES.get(_series(summary), ABSENT)})")
        axes.set_ylabel("latency, of the median node")
        drawing.titled(axes, "latency against reputation, by node")
        axes.annotate(
            printed(summary),
            (1, 1),
            xycoords="axes fraction",
            xytext=(0, 7),
            textcoords="offset points",
            ha="right",
            **SMALL,
        )
        return drawing.svg(figure, "association")


def printed(summary: Summary) -> str:
    """The association of what the picture shows: "rho -0.42 (-0.64 to -0.14), 47 nodes"."""
    for each in objects(summary, "association", "relations"):
        if (each.get("series"), each.get("outcome")) == (_series(summary), "latency"):
            rho, interval = (cell.text for cell in _rho(each))
            nodes = wording.plural(each.get("nodes"), "node")
            return f"association: rho {rho} ({interval}), {nodes}" if rho != ABSENT else "association: cannot tell"
    return ""


def _series(summary: Summary) -> str:
    return str(wording.part(summary, "association").get("points_of"))


def _rho(each: Summary) -> tuple[Cell, Cell]:
    rho, bounds = wording.figure(each.get("rho")), each.get("interval")
    interval = ABSENT
    if isinstance(bounds, list) and len(bounds) == 2:
        interval = wording.say(_signed(bounds[0]), " to ", _signed(bounds[1]))
    return number(rho, ABSENT if rho is None else f"{rho:+.2f}"), quiet(interval)


def _signed(value: float) -> str:
    return wording.Figure(f"{value:+.2f}", value)


def _range(bounds: object) -> str:
    if isinstance(bounds, list) and len(bounds) == 2:
        return wording.say(wording.decimal(bounds[0], 1), " to ", wording.decimal(bounds[1], 1))
    return ABSENT


def _finding(each: Summary) -> Cell:
    return Cell(str(each.get("text")))
