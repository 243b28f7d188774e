"""Words and numbers that page, Markdown and console share, so that they cannot disagree.

Everything here reads a summary.json (a dict) that may lack any part: what is absent is said to be absent. No
statistic is computed here beyond choosing a unit and sorting; `analysis` computes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

Summary = dict[str, Any]


class Figure(str):
    """A number as it is printed, and the exact one behind it: the page carries both."""

    value: float

    def __new__(cls, text: str, value: float) -> Figure:
        made = super().__new__(cls, text)
        made.value = value
        return made


class Sentence(str):
    """Text whose figures are known apart, in order, so that a page can mark them. Elsewhere it is plain text."""

    parts: tuple[str, ...]

    def __new__(cls, parts: Iterable[str]) -> Sentence:
        flat = tuple(inner for part in parts for inner in (part.parts if isinstance(part, Sentence) else (part,)))
        made = super().__new__(cls, "".join(flat))
        made.parts = flat
        return made


def say(*parts: str) -> Sentence:
    """A sentence of its parts. What is put together by + or in an f-string forgets its figures."""
    return Sentence(parts)


ABSENT = "–"
TOO_SMALL = "n too small"
INTERVAL_N_MAX = 10_000  # from here on a missing interval has another reason than n
PERCENTILES = ("p50", "p95", "p99")
METRICS = {
    "ttft_ms": ("TTFT", "time to first token: first text minus sent"),
    "tpot_ms": ("TPOT", "time per output token after the first, one value per request"),
    "itl_ms": ("ITL", "gaps between chunks, all requests pooled"),
    "e2e_ms": ("E2E", "whole answer: end minus sent"),
}
HARNESS = (
    ("Requests left late by", "send_lag_ms"),
    ("First content is known within", "first_content_bound_ms"),
    ("Any chunk's arrival is known within", "arrival_bound_ms"),
)

# Of each figure of `offered.compared`: its label, its short head in the console, and how many decimals it has.
OFFERED = {
    "rate_per_s": ("first turns per second", "per s", 2),
    "gap_cv": ("CV of their gaps", "gap CV", 2),
    "dispersion_1s": ("dispersion of their counts in 1 s", "disp 1s", 2),
    "dispersion_10s": ("dispersion of their counts in 10 s", "10s", 2),
    "dispersion_60s": ("dispersion of their counts in 60 s", "60s", 2),
    **{f"prompt_tokens_{p}": (f"prompt tokens {p}", f"in {p}" if p == "p50" else p, 0) for p in PERCENTILES},
    **{f"output_tokens_{p}": (f"output tokens {p}", f"out {p}" if p == "p50" else p, 0) for p in PERCENTILES},
}


def part(summary: Summary, *path: str) -> Summary:
    """The object at `path`, or an empty one: a report draws what there is."""
    found: Any = summary
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def listed(summary: Summary, *path: str) -> list[Any]:
    """The list at `path`, or an empty one."""
    found = part(summary, *path[:-1]).get(path[-1])
    return found if isinstance(found, list) else []


def figure(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


class Scale(NamedTuple):
    """How the milliseconds of one column or row are printed: in `unit`, with `places` decimals."""

    unit: str
    divisor: float
    places: int

    def text(self, value_ms: Any) -> str:
        value = figure(value_ms)
        return ABSENT if value is None else Figure(f"{value / self.divisor:,.{self.places}f}", value)


def scale_of(values_ms: Iterable[Any]) -> Scale:
    """The one unit that suits all of `values_ms`: numbers that stand together must compare at a glance."""
    largest = max((abs(v) for v in map(figure, values_ms) if v is not None), default=0.0)
    if largest >= 10_000:
        return Scale("s", 1000.0, 2)
    return Scale("ms", 1.0, 0 if largest >= 1000 else 1 if largest >= 10 else 2)


def duration(value_ms: Any) -> str:
    """One duration with its unit, "842 ms" or "1.42 s"; for sentences, where nothing stands beside it."""
    value = figure(value_ms)
    if value is None:
        return ABSENT
    text = f"{value / 1000:,.2f} s" if abs(value) >= 1000 else f"{value:,.{0 if abs(value) >= 100 else 1}f} ms"
    return Figure(text, value)


def count(value: Any) -> str:
    number = figure(value)
    return ABSENT if number is None else Figure(f"{number:,.0f}", number)


def decimal(value: Any, places: int = 2) -> str:
    number = figure(value)
    return ABSENT if number is None else Figure(f"{number:,.{places}f}", number)


def plain_number(value: Any) -> str:
    """A number that names something, such as a seed: without separators."""
    number = figure(value)
    return ABSENT if number is None else Figure(f"{number:.0f}", number)


def percent(share: Any, places: int = 1) -> str:
    """A share as "99.2 %". What is not all is never rounded up to 100 %."""
    number = figure(share)
    if number is None:
        return ABSENT
    text = f"{100 * number:.{places}f}"
    if number < 1 and float(text) >= 100:
        text = f"{100 - 10**-places:.{places}f}"
    return Figure(f"{text} %", number)


def plural(n: Any, word: str) -> str:
    return say(count(n), f" {word}{'' if n == 1 else 's'}")


def quantile(cell: Summary, name: str, scale: Scale) -> str:
    """A percentile of a Q cell; where it is null, why: beyond the timeout, too few, or nothing measured."""
    if figure(cell.get(name)) is not None:
        return scale.text(cell[name])
    if cell.get(f"{name}_text"):
        return str(cell[f"{name}_text"])
    return TOO_SMALL if cell.get("n") else ABSENT


def interval(cell: Summary, name: str, scale: Scale) -> str:
    """The confidence interval of a percentile, in the unit of its row."""
    bounds = cell.get(f"{name}_interval")
    if isinstance(bounds, list | tuple) and len(bounds) == 2 and figure(bounds[0]) is not None:
        if figure(bounds[1]) is None:  # among the failed
            return say(scale.text(bounds[0]), " or more")
        return say(scale.text(bounds[0]), " to ", scale.text(bounds[1]))
    return TOO_SMALL if 0 < (figure(cell.get("n")) or 0) < INTERVAL_N_MAX else ABSENT


def slo_figure(metric: str, value: Any) -> str:
    """The limit or the observed value of an SLO, in the unit its name ends in."""
    if "_ms" in metric:
        return duration(value)
    return percent(value, 2) if metric.endswith("share") else decimal(value, 3)


def is_fit(summary: Summary) -> bool:
    return part(summary, "fit").get("verdict") == "fit"


def fit_word(summary: Summary) -> str:
    verdict = part(summary, "fit").get("verdict")
    return {"fit": "FIT", "unfit": "UNFIT"}.get(str(verdict), "FITNESS UNKNOWN")


def steady_sentence(summary: Summary) -> str:
    """Whether the run came to a steady state, and why; "" for a summary that does not say."""
    found = part(summary, "steady")
    verdict = found.get("verdict")
    words = {"steady": "Steady", "not steady": "Not steady", "cannot tell": "Whether it was steady cannot be told"}
    return f"{words[verdict]}: {found.get('why')}." if verdict in words else ""


def result_word(summary: Summary) -> str:
    verdict = part(summary, "result").get("verdict")
    return {"pass": "PASS", "fail": "FAIL"}.get(str(verdict), "NO RESULT")


def result_sentence(summary: Summary) -> str:
    """What ended the run before its time, if anything did; how many limits were met, and which were not."""
    stopped_by = part(summary, "result", "stopped_by")
    stopped = stopped_by.get("text")
    what = "early" if stopped_by.get("rule") in ("saturated", "misses") else "by a ceiling"
    slos = [s for s in listed(summary, "result", "slos") if isinstance(s, dict)]
    before = f"Stopped {what}: {stopped}. " if stopped else ""
    return say(before, _limits_sentence(summary, slos), goodput_sentence(summary))


def _limits_sentence(summary: Summary, slos: list[Summary]) -> str:
    if not slos:
        return "The profile states no limits."
    missed = [str(s.get("metric")) for s in slos if s.get("verdict") == "fail"]
    unknown = [str(s.get("metric")) for s in slos if s.get("verdict") not in ("pass", "fail")]
    return say(
        count(part(summary, "result").get("met")),
        " of ",
        plural(len(slos), "limit"),
        " met.",
        f" Missed: {', '.join(missed)}." if missed else "",
        f" Cannot tell: {', '.join(unknown)}." if unknown else "",
    )


def goodput_sentence(summary: Summary) -> str:
    """How much was good by the limits of one request, with a space before it; "" where none were stated."""
    found = part(summary, "goodput")
    limits = {METRICS[name][0]: limit for name, limit in part(found, "limits").items() if name in METRICS}
    if not limits:
        return ""
    named = [piece for name, limit in limits.items() for piece in (", ", f"{name} ", duration(limit))][1:]
    rate = (" Goodput ", decimal(found.get("per_s")), "/s: ", percent(found.get("share")), " of ")
    return say(*rate, plural(found.get("n"), "planned request"), " ended well within ", *named, ".")


def first_line(summary: Summary) -> str:
    """Open or closed and the load, before anything else: the reading of every figure hangs on it."""
    run, offered = part(summary, "run"), part(summary, "offered")
    if run.get("mode") == "closed":
        sent = (" ", decimal(offered.get("requests_per_s_realised")), " requests/s came of it.")
        members = say("Closed load: ", plural(run.get("users"), "member"), ", each waiting for its answer.")
        return say(members, *(sent if figure(offered.get("requests_per_s_realised")) is not None else ()))
    cv = part(offered, "compared", "gap_cv")
    return say(
        "Open load: " if run.get("mode") == "open" else "Load of unknown kind: ",
        decimal(offered.get("rate_per_s_planned")),
        " arrivals/s offered",
        _cv(cv.get("intended")),
        ", ",
        decimal(offered.get("rate_per_s_realised")),
        " realised",
        _cv(offered.get("cv_realised")),
        ".",
    )


def _cv(value: Any) -> str:
    return "" if figure(value) is None else say(" (CV ", decimal(value), ")")


def streams_everywhere(summary: Summary) -> bool:
    """Every target streams. Where one does not, only E2E is known of all requests, and it stands first."""
    targets = [t for t in listed(summary, "run", "targets") if isinstance(t, dict)]
    return all(t.get("stream") for t in targets)


def metrics_of(summary: Summary) -> dict[str, tuple[str, str]]:
    """METRICS in the order of this run: E2E first where a route does not stream."""
    if streams_everywhere(summary):
        return METRICS
    return {"e2e_ms": METRICS["e2e_ms"], **METRICS}


def offered_note(summary: Summary) -> str:
    """What the columns of the offered table are, and who counted the tokens."""
    run, offered = part(summary, "run"), part(summary, "offered")
    plan = "what the rows of the trace say" if offered.get("trace") else "what the plan drew"
    told = (plural(offered.get("prompts_told"), "prompt"), " and ", plural(offered.get("answers_told"), "answer"))
    return say(
        f"Process: the arrival process by formula, in the long run; intended: {plan}; realised: what was sent and "
        f"answered. Prompt tokens are counted in {run.get('encoding') or ABSENT}; a node's own may differ: of ",
        *told,
        " the realised tokens are the server's count. Intended output tokens are the cap.",
    )


def window_text(run: Summary) -> str:
    """The UTC window, the date once."""
    started, ended = (_utc(run.get(k)) for k in ("started_utc", "ended_utc"))
    if started[:10] == ended[:10] and " " in ended:
        ended = ended.partition(" ")[2]
    return f"{started} to {ended} UTC"


def account_sentence(summary: Summary) -> str:
    """planned = sum over outcomes, as an equation."""
    account = part(summary, "account")
    outcomes = part(account, "outcomes")
    planned = count(account.get("planned"))
    if not outcomes:
        return say(planned, " planned; no outcomes are stored.")
    sign = "=" if sum(outcomes.values()) == account.get("planned") else "≠"
    terms = [piece for name, n in by_size(outcomes) for piece in (" + ", count(n), f" {name.replace('_', ' ')}")][1:]
    return say(planned, f" planned {sign} ", *terms)


def by_size(counts: Summary) -> list[tuple[str, int]]:
    """`ok` first, then by count: the order of outcomes everywhere."""
    return sorted(counts.items(), key=lambda item: (item[0] != "ok", -item[1], item[0]))


def ranked_nodes(summary: Summary, metric: str = "e2e_ms_p50") -> list[Summary]:
    """Nodes with enough requests to be compared, the fastest first by `metric`."""
    nodes = [n for n in listed(summary, "nodes") if isinstance(n, dict)]
    known = [n for n in nodes if not n.get("n_too_small") and figure(n.get(metric)) is not None]
    return sorted(known, key=lambda n: (n[metric], str(n.get("node"))))


def short(name: Any, letters: int = 14) -> str:
    """A node's address so that it can be recognised: both ends of it."""
    text = " ".join(str(name).split())
    return text if len(text) <= letters else f"{text[: letters - 5]}…{text[-4:]}"


def _utc(text: Any) -> str:
    return str(text or ABSENT).replace("T", " ").removesuffix("Z").removesuffix("+00:00").partition(".")[0]
