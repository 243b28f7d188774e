"""The [load] section: how much load, over time, and how its arrivals are spread.

Open load: conversations arrive at `rate_per_s`, times the factor of a curve, spread by a process:

    arrivals = "constant"                    evenly
    arrivals = "poisson"                     gaps of coefficient of variation (CV) 1
    arrivals = "gamma", burstiness = 0.25    vLLM's meaning: the shape of the gaps, 1 is Poisson, below it bursts
    arrivals = "gamma", cv = 2.0             the same said by the CV of the gaps; burstiness = 1 / cv^2
    arrivals = "clients"                     the sum of clients with rates and CVs of their own (ServeGen):
    clients = [{ share = 0.6, cv = 4.0 }, { share = 0.4, cv = 1.0 }]
    arrivals = "trace"                       a file's own instants, given as --trace FILE

    curve = { shape = "ramp", from = 0.1, to = 1, seconds = 300 }        then on at `to`
    curve = { shape = "steps", factors = [0.5, 1, 1.5], step_s = 600 }   the last one stays
    curve = { shape = "spike", at_s = 120, seconds = 30, factor = 8 }
    curve = { shape = "on-off", on_s = 60, off_s = 60, off = 0 }         again and again
    curve = { shape = "diurnal", period_s = 86400, low = 0.2, peak_s = 72000 }
    curve = { shape = "points", points = [[0, 0.1], [60, 1], [60, 2]] }  straight lines, here with a jump

A factor multiplies `rate_per_s`, `rate_scale` (1) the rate as a whole; `time_scale` (1) in a curve multiplies its
seconds: with 1/24 a day takes an hour. A trace is scaled by `--speed` and `--trace-rate`.
Closed load: `members` people, each of whom starts a conversation when the one before has ended.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from loadtest.traffic import curves
from loadtest.traffic.changes import OPEN_ONLY, change_load
from loadtest.traffic.curves import FLAT, Curve
from loadtest.traffic.reading import Table

DURATION_S_MAX = 90 * 86_400.0
RATE_MAX = 100_000.0
FACTOR_MAX = 1_000.0
CLIENTS_MAX = 1_000
POINTS_MAX = 10_000
ARRIVALS = ("constant", "poisson", "gamma", "clients", "trace")
SHAPES = ("ramp", "steps", "spike", "on-off", "diurnal", "points")


@dataclass(frozen=True, slots=True)
class Client:
    """One of many clients: its part of all arrivals, and the CV of its own gaps (0 is even)."""

    share: float
    cv: float


@dataclass(frozen=True, slots=True)
class Load:
    """How much, and for how long. Fields that the mode does not have are 0 (or "" for `arrivals`)."""

    mode: str  # "open" (conversations arrive at a rate) or "closed" (members start the next when one has ended)
    arrivals: str  # open: one of ARRIVALS
    rate_per_s: float  # open: conversations per second over the whole swarm where the curve's factor is 1
    curve: Curve
    clients: tuple[Client, ...]  # whose arrivals are added up; one for all but "clients", none for a trace
    duration_s: float  # arrivals are due in [0, duration_s); the warm-up is inside
    warmup_s: float  # turns scheduled before this instant are the warm-up
    drain_s: float  # how long conversations may still run after duration_s
    time_scale: float  # multiplies every think time
    late_max_s: float  # an arrival overdue by more is dropped, not sent in a burst
    in_flight_max: int  # open: conversations at once over the whole swarm
    members: int  # closed: community members
    workers_lost_max: int  # so many may be lost and the run still be fit; the report shows the hole all the same
    conversations_max: int  # open: no arrival after so many; 0 means no such bound

    @property
    def peak_per_s(self) -> float:
        """The highest rate that the curve reaches, conversations per second."""
        return self.rate_per_s * self.curve.peak


def read_load(table: Table, changes: dict[str, Any]) -> Load:
    """Read [load], with the fields that a command line changed in place of the file's."""
    change_load(table, changes)
    mode = table.choice("mode", ("open", "closed"))
    arrivals, rate_per_s, in_flight_max, members, conversations_max = "", 0.0, 0, 0, 0
    curve = FLAT
    clients: tuple[Client, ...] = ()
    if mode == "open":
        arrivals = table.choice("arrivals", ARRIVALS, "poisson")
        if arrivals != "trace":
            rate_per_s = table.number("rate_per_s", 0, RATE_MAX, above=True)
            rate_per_s *= table.number("rate_scale", 0, 1_000, 1.0, above=True)
            curve = _read_curve(table)
            clients = _read_clients(table, arrivals)
        in_flight_max = table.whole("in_flight_max", 1, 1_000_000)
        conversations_max = table.whole("conversations_max", 0, 1_000_000_000, 0)
    else:
        members = table.whole("members", 1, 1_000_000)
    kind = f'arrivals = "{arrivals}"' if arrivals else 'mode = "closed"'
    for name in (*OPEN_ONLY, "members"):
        if name in table.fields and name not in table.asked:
            table.raw(name)
            table.wrong(name, f"has no meaning with {kind}, remove it")
    duration_s = table.number("duration_s", 0, DURATION_S_MAX, above=True)
    warmup_s = table.number("warmup_s", 0, DURATION_S_MAX)
    if warmup_s >= duration_s > 0:
        table.wrong("warmup_s", f"must be < duration_s ({duration_s:g}), got {warmup_s:g}: nothing would be measured")
    drain_s = table.number("drain_s", 0, 3_600, 30.0)
    time_scale = table.number("time_scale", 0, 100, 1.0)
    late_max_s = table.number("late_max_s", 0, 60, 1.0, above=True)
    workers_lost_max = table.whole("workers_lost_max", 0, 10_000, 0)
    table.close()
    return Load(
        mode=mode,
        arrivals=arrivals,
        rate_per_s=rate_per_s,
        curve=curve,
        clients=clients,
        duration_s=duration_s,
        warmup_s=warmup_s,
        drain_s=drain_s,
        time_scale=time_scale,
        late_max_s=late_max_s,
        in_flight_max=in_flight_max,
        members=members,
        workers_lost_max=workers_lost_max,
        conversations_max=conversations_max,
    )


def _read_clients(table: Table, arrivals: str) -> tuple[Client, ...]:
    if arrivals == "clients":
        return _read_many(table)
    if arrivals != "gamma":
        return (Client(1.0, 0.0 if arrivals == "constant" else 1.0),)
    if "burstiness" in table.fields:
        if "cv" in table.fields:
            table.raw("cv")
            table.wrong("cv", "says the same as burstiness (1 / cv^2), remove one of them")
        burstiness = table.number("burstiness", 0, 1e6, above=True)
        return (Client(1.0, 1 / math.sqrt(burstiness) if burstiness else 1.0),)
    return (Client(1.0, table.number("cv", 0, 20, above=True)),)


def _read_many(table: Table) -> tuple[Client, ...]:
    entries = table.raw("clients")
    meaning = "a list such as [{ share = 0.6, cv = 4.0 }, { share = 0.4, cv = 1.0 }]"
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        table.wrong("clients", f"must be {meaning}")
        return (Client(1.0, 1.0),)
    if len(entries) > CLIENTS_MAX:
        table.wrong("clients", f"must be at most {CLIENTS_MAX}, got {len(entries)}")
        return (Client(1.0, 1.0),)
    read = []
    for place, entry in enumerate(entries, start=1):
        part = Table(entry, table.section, table.mistakes, f"clients[{place}].")
        read.append(Client(part.number("share", 0, 1e9, above=True), part.number("cv", 0, 100)))
        part.close()
    total = sum(client.share for client in read) or 1.0
    return tuple(Client(client.share / total, client.cv) for client in read)


def _read_curve(table: Table) -> Curve:
    fields = table.raw("curve")
    if fields is None:
        return FLAT
    if not isinstance(fields, dict):
        table.wrong("curve", 'must be a table such as { shape = "ramp", from = 0.1, to = 1, seconds = 300 }')
        return FLAT
    part = Table(fields, table.section, table.mistakes, "curve.")
    curve = _read_shape(part).stretched(part.number("time_scale", 0, 1_000, 1.0, above=True))
    part.close()
    if curve.peak <= 0:
        part.wrong("shape", "the rate is 0 at all times, give a factor > 0")
        return FLAT
    return curve


def _read_shape(part: Table) -> Curve:
    def factor(name: str, default: float | None = None) -> float:
        return part.number(name, 0, FACTOR_MAX, default)

    def seconds(name: str) -> float:
        return max(part.number(name, 0, DURATION_S_MAX, above=True), curves.SHORTEST_S)

    shape = part.choice("shape", SHAPES)
    if part.fields.get("shape") not in SHAPES:
        part.asked += part.fields  # what they should be depends on the shape
        return FLAT
    if shape == "ramp":
        return curves.ramp(factor("from"), factor("to"), seconds("seconds"))
    if shape == "steps":
        return curves.steps(_factors(part), seconds("step_s"))
    if shape == "spike":
        return curves.spike(part.number("at_s", 0, DURATION_S_MAX), seconds("seconds"), factor("factor"))
    if shape == "on-off":
        return curves.on_off(seconds("on_s"), seconds("off_s"), factor("off", 0.0))
    if shape == "diurnal":
        peak_s = part.number("peak_s", 0, DURATION_S_MAX)
        return curves.diurnal(seconds("period_s"), part.number("low", 0, 1), peak_s)
    return _points(part)


def _factors(part: Table) -> list[float]:
    given = part.raw("factors")
    numbers = isinstance(given, list) and 0 < len(given) <= POINTS_MAX and all(_is_factor(each) for each in given)
    if not numbers:
        part.wrong("factors", f"must be a list of numbers from 0 to {FACTOR_MAX:g} such as [0.5, 1, 1.5]")
        return [1.0]
    return [float(each) for each in given]


def _points(part: Table) -> Curve:
    given = part.raw("points")
    pairs = isinstance(given, list) and 0 < len(given) <= POINTS_MAX
    if not pairs or not all(isinstance(p, list) and len(p) == 2 and all(map(_is_number, p)) for p in given):
        part.wrong("points", "must be a list of [second, factor] such as [[0, 0.1], [60, 1]]")
        return FLAT
    points = [(float(at_s), float(factor)) for at_s, factor in given]
    times = [at_s for at_s, _ in points]
    if times[0] != 0 or times != sorted(times) or times[-1] > DURATION_S_MAX:
        part.wrong("points", "must begin at second 0 and go on in order of time")
        return FLAT
    if not all(0 <= factor <= FACTOR_MAX for _, factor in points):
        part.wrong("points", f"every factor must be from 0 to {FACTOR_MAX:g}")
        return FLAT
    return curves.through(points)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_factor(value: object) -> bool:
    return _is_number(value) and 0 <= value <= FACTOR_MAX  # type: ignore[operator]
