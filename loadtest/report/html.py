"""The page: one HTML file that needs no network, drawn from a summary.

Autoescape is on for everything but our own style sheet and pictures: names of nodes and texts of errors come from
strangers. A content security policy in the page forbids scripts and every request, should an escape ever be missed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from loadtest.analysis.percentiles import SMALLEST_SAMPLE as SMALLEST
from loadtest.records import NOT_SENT, Outcome
from loadtest.report import appendix, association, cell_tables, page, pictures, tables, wording
from loadtest.report.cold_table import cold
from loadtest.report.wording import METRICS, Summary

_OURS = frozenset({Outcome.LOST, Outcome.CANCELLED, Outcome.DROPPED})  # the harness's doing, not the network's
PROFILE_LETTERS_MAX = 100_000


class Tile(NamedTuple):
    """One headline figure. `value` is None for one that is only bounded, such as "> 120 s"."""

    name: str
    text: str
    unit: str
    value: float | None
    small: tuple[str, ...]


class Drawn(NamedTuple):
    title: str
    caption: str
    svg: Markup


def render_html(summary: Summary, profile_text: str = "") -> str:
    """The whole page. `profile_text` is the TOML the run was made from, for the appendix."""
    fit, steady = wording.is_fit(summary), part(summary, "steady").get("verdict") != "not steady"
    template = page.environment().get_template("template.html")
    return template.render(
        title=f"{wording.fit_word(summary)}, {wording.result_word(summary)}: {part(summary, 'run').get('id', 'run')}",
        css=page.css(),
        mark=_mark(fit, steady),
        run={"id": "", "command": "", "profile": "", **part(summary, "run")},
        first_line=wording.first_line(summary),
        facts=_facts(summary),
        **_verdict(summary),
        steady_sentence=wording.steady_sentence(summary),
        headline=_headline(summary) if fit and steady else [],
        withheld=_withheld(fit, steady),
        **_account(summary),
        pictures=_pictures(summary),
        tables=_tables(summary),
        groups=cell_tables.groups(summary),
        absent=_absent(summary),
        limits=[str(text) for text in wording.listed(summary, "limits")],
        versions=sorted(part(summary, "run", "versions").items()),
        infos=appendix.infos(summary),
        commands=appendix.commands(summary),
        profile_text=profile_text[:PROFILE_LETTERS_MAX],
        words=_words(),
    )


def _mark(fit: bool, steady: bool) -> Markup:
    if not fit:
        return Markup(' <span class="mark">from an unfit run</span>')
    return Markup("") if steady else Markup(' <span class="mark">from a run that was not steady</span>')


def _withheld(fit: bool, steady: bool) -> str:
    if not fit:
        return (
            "Headline figures are withheld: an unfit run proves nothing about the network. The tables below are kept "
            "for finding out what went wrong, and are marked."
        )
    if not steady:
        return (
            "Headline figures and percentiles are withheld: they would be others had the run been shorter or longer. "
            "Pictures and tables of groups show what went on, and are marked."
        )
    return ""


part = wording.part


def _facts(summary: Summary) -> list[tuple[str, str]]:
    run = part(summary, "run")
    targets = [
        f"{t.get('name')}: {t.get('url')} ({', '.join(filter(None, (t.get('route'), t.get('model'), _stream(t))))})"
        for t in wording.listed(run, "targets")
        if isinstance(t, dict)
    ]
    offered_s, warmup_s = (wording.decimal(run.get(name), 0) for name in ("offered_s", "warmup_s"))
    offered = wording.say(offered_s, " s, of which ", warmup_s, " s warm-up")
    facts = [
        ("window", wording.window_text(run)),
        ("offered for", offered),
        ("profile", f"{run.get('profile', '')} {run.get('profile_hash', '')}"),
        ("seed", wording.plain_number(run.get("seed"))),
        ("workers", wording.count(run.get("workers"))),
        ("members" if run.get("mode") == "closed" else "at most in flight", wording.count(run.get("users"))),
        ("texts", f"{run.get('history', wording.ABSENT)} history, {run.get('encoding', wording.ABSENT)}"),
        ("think time", wording.say("× ", wording.decimal(run.get("time_scale")))),
    ]
    return [*facts, ("target" if len(targets) < 2 else "targets", "\n".join(targets) or wording.ABSENT)]


def _stream(target: Summary) -> str:
    return "streamed" if target.get("stream") else "not streamed"


def _verdict(summary: Summary) -> dict[str, Any]:
    word, result = wording.fit_word(summary), wording.result_word(summary)
    reasons = [str(r.get("text")) for r in wording.listed(summary, "fit", "reasons") if isinstance(r, dict)]
    lag = part(summary, "harness", "send_lag_ms").get("p99")
    bound = part(summary, "harness", "first_content_bound_ms").get("p99")
    late = ("At p99 requests left ", wording.duration(lag), " late")
    known = (" and the first content is known within ", wording.duration(bound)) if bound is not None else ()
    sentence = wording.say("No rule was broken. ", *late, *known, ".")
    believed = word == "FIT"
    return {
        "fit_word": word,
        "fit_class": "good" if believed else "warn",
        "fit_sentence": sentence if believed else "No reason is stated.",
        "reasons": reasons,
        "result_word": result if believed or result == "NO RESULT" else f"{result}, not counted",
        "result_class": {"PASS": "good", "FAIL": "bad"}.get(result, "") if believed else "",
        "result_sentence": wording.result_sentence(summary),
    }


def _headline(summary: Summary) -> list[Tile]:
    """The figures a reader quotes; only for a run that is fit. E2E first where a route does not stream."""
    forms = {"ttft_ms": "response", "tpot_ms": "service", "e2e_ms": "response"}
    cells = {m: part(summary, "latency", m, forms[m]) for m in wording.metrics_of(summary) if m in forms}
    tiles = [_percentile_tile(METRICS[m][0], forms[m], cell) for m, cell in cells.items() if cell.get("n")]
    account, offered = part(summary, "account"), part(summary, "offered")
    ok, share = part(account, "outcomes").get("ok"), part(account, "shares").get("ok")
    if share is not None:
        small = wording.say(wording.count(ok), " of ", wording.count(account.get("planned")))
        text = wording.percent(share, 2).removesuffix(" %")
        tiles.append(Tile("ok, of all planned turns", text, "%", share, (small,)))
    peak = wording.figure(offered.get("peak_in_flight"))
    if peak is not None:
        rate = wording.decimal(offered.get("requests_per_s_realised"), 1)
        small = wording.say(wording.count(offered.get("requests_sent")), " requests sent, ", rate, "/s")
        tiles.append(Tile("peak in flight", wording.count(peak), "", peak, (small,)))
    return tiles


def _percentile_tile(name: str, form: str, cell: Summary) -> Tile:
    """p95 with its interval and n, and the median."""
    value = wording.figure(cell.get("p95"))
    several = [v for v in (value, *(cell.get("p95_interval") or ())) if v is not None]
    one_unit = wording.Scale("s", 1000.0, 2) if max(several, default=0) >= 1000 else wording.scale_of(several)
    bounds = wording.interval(cell, "p95", one_unit)
    text = wording.quantile(cell, "p95", one_unit)
    small = (
        wording.say("95 %: ", bounds, f" {one_unit.unit}" if cell.get("p95_interval") else ""),
        wording.say("p50 ", wording.duration(cell.get("p50")), ", n ", wording.count(cell.get("n"))),
    )
    return Tile(f"{name} p95, {form}", str(text), "" if value is None else one_unit.unit, value, small)


def _account(summary: Summary) -> dict[str, Any]:
    account = part(summary, "account")
    outcomes = wording.by_size(part(account, "outcomes"))
    # What failed stands together, apart from what was never sent: the eye adds up neighbours.
    order = {"ok": 0, "failed": 1, "ours": 2, "unsent": 3}
    shares = [
        {"n": n, "tone": _tone(name), "label": f"{name.replace('_', ' ')}: {wording.count(n)}"} for name, n in outcomes
    ]
    measured, warmup, first = (wording.count(account.get(k)) for k in ("measured", "warmup", "first_turns"))
    note = wording.say(
        *(measured, " turns were due in the measured window and ", warmup, " in the warm-up; "),
        *(first, " were first turns."),
    )
    return {
        "account_sentence": wording.account_sentence(summary),
        "account_note": note if account else "",
        "balanced": account.get("balanced") is not False,
        "shares": sorted(shares, key=lambda s: order[s["tone"]]),
    }


def _tone(outcome: str) -> str:
    if outcome == Outcome.OK:
        return "ok"
    return "ours" if outcome in _OURS else "unsent" if outcome in NOT_SENT else "failed"


def _pictures(summary: Summary) -> list[Drawn]:
    drawn = []
    for key, draw in pictures.PICTURES.items():
        svg = draw(summary)
        if svg is not None:
            title, caption = _CAPTIONS[key]
            drawn.append(Drawn(title, wording.say(caption, _caption_more(key, summary)), Markup(svg)))
    return drawn


_CAPTIONS = {
    "load": (
        "Load offered and completed.",
        "Grey is what the schedule asked for, blue what was sent. Where they part, the harness was late.",
    ),
    "time": (
        "Latency over time.",
        "Service time of requests by the second in which they were sent, and the gaps within their answers (ITL).",
    ),
    "ecdf": (
        "Distributions.",
        "Share of requests answered within a time, on a log axis. Where response lies right of service, requests "
        "waited in the harness. A curve that ends below 100 % shows its failures.",
    ),
    "association": (
        "Association.",
        "Each dot is a node: how many times as long as with the median node an answer takes to begin (or to end, where "
        "nothing is streamed), when length, hour, worker and our own load are taken out.",
    ),
    "nodes": ("Node map.", "Each dot is a node; its area is the number of requests it served."),
}


def _caption_more(key: str, summary: Summary) -> str:
    rows, row_s = pictures.rows_per_bin(summary), pictures.row_s(summary)
    if key == "load" and rows * row_s > 1:
        return f" Each point is the mean of {rows * row_s} s."
    if key == "time" and rows > 1:
        return f" Each point is the highest of {rows} figures, each of {row_s} s."
    if key == "time" and row_s > 1:
        return f" Each point is of {row_s} s."
    if key == "nodes":
        nodes, mapped = len(wording.listed(summary, "nodes")), len(pictures.mapped_nodes(summary))
        missing = (" ", wording.plural(nodes - mapped, "node"), " without an answer cannot be drawn.")
        most = (f" The {pictures.DOTS_MAX} busiest of ", wording.count(mapped), " nodes are drawn.")
        return wording.say(*(missing if mapped < nodes else ()), *(most if mapped > pictures.DOTS_MAX else ()))
    return ""


def _tables(summary: Summary) -> dict[str, tables.Table]:
    return {
        "account": tables.account(summary),
        "limits": tables.limits(summary),
        "offered": tables.offered(summary),
        "latency": tables.latency(summary),
        "nodes": cell_tables.nodes(summary),
        "association": association.relations(summary),
        "next_hour": association.next_hour(summary),
        "cold": cold(summary),
        "findings": tables.findings(summary),
        "harness": tables.harness(summary),
        "harness_facts": tables.harness_facts(summary),
        "attribution": tables.attribution(summary),
        "join": tables.join(summary),
    }


def _absent(summary: Summary) -> Sequence[str]:
    """What a reader would look for and not find, each with its reason."""
    sentences = []
    if not part(summary, "latency", "ttft_ms", "service").get("n"):
        sentences.append("TTFT is absent: no answer was streamed, or none brought text.")
    if not wording.listed(summary, "nodes"):
        sentences.append("There is no node table: no request was attributed to a node.")
    return sentences


def _words() -> list[tuple[str, str]]:
    return [
        (
            "service, response",
            "from the instant a request was sent; from the instant it was due. Response includes our own lateness.",
        ),
        *((name, re.sub("^(.)", lambda m: m.group().upper(), meaning) + ".") for name, meaning in METRICS.values()),
        (
            "fit, unfit",
            "whether the run could measure. Pass or fail says whether the network met the profile's limits.",
        ),
        (
            "n too small",
            "fewer values than a percentile takes to be compared: "
            + ", ".join(f"{n:,} for {p}" for p, n in SMALLEST.items())
            + ".",
        ),
        ("later turns", "are due at previous done + think time, so their response shows only our own delay."),
        ("reputation", "share of successes a node had, as last observed before the request was sent."),
    ]
