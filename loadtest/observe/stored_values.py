"""Single values of what others store: counts, and instants of any unit. ValueError says what is wrong."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

FUTURE_S = 60  # clocks of two machines may differ so much
UNITS_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_OLDEST_S, _NEWEST_S = 10**9, 4_102_444_800  # 2001-09-09 to 2100-01-01: units of Unix time do not overlap
_INT64_MAX = 2**63 - 1


def whole(value: Any, name: str) -> int | None:
    """A count of 0 or more; None for nothing told. ValueError: NaN, negative, broken, not a number."""
    if value is None or value == "":
        return None
    number = _number(value, name)
    if number < 0:
        raise ValueError(f"{name}: is negative ({str(value)[:40]})")
    if number != int(number):
        raise ValueError(f"{name}: must be a whole number, got {str(value)[:40]}")
    if number > _INT64_MAX:
        raise ValueError(f"{name}: {str(value)[:40]} is more than 64 bits hold")
    return int(number)


def instant(value: Any, name: str) -> tuple[str, int]:
    """(unit, Unix ns) of an instant, the last nanosecond of its unit where it is a whole number of them."""
    if isinstance(value, datetime):
        return "text", _text_instant(value, name)
    if isinstance(value, str) and ("-" in value.strip()[1:] or ":" in value):
        try:
            return "text", _text_instant(datetime.fromisoformat(value.strip()), name)
        except ValueError as error:
            if "zone" in str(error):
                raise
            raise ValueError(f"{name}: {value[:40]!r} is no instant") from None
    number = _number(value, name)
    for unit, unit_ns in UNITS_NS.items():
        scale = 10**9 // unit_ns
        if _OLDEST_S * scale <= number < _NEWEST_S * scale:
            at_ns = number * unit_ns
            return unit, int(at_ns) + unit_ns - 1 if number == int(number) else math.ceil(at_ns)
    raise ValueError(f"{name}: {str(value)[:40]} is no instant of 2001 to 2099 in s, ms, us or ns")


def _text_instant(at: datetime, name: str) -> int:
    if at.tzinfo is None:
        raise ValueError(f"{name}: {at.isoformat()} has no time zone; write it with one, Z for UTC")
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    whole_second = not at.microsecond
    return (
        (since.days * 86_400 + since.seconds) * 10**9
        + since.microseconds * 1_000
        + (10**9 if whole_second else 1_000)
        - 1
    )


def _number(value: Any, name: str) -> int | Decimal:
    """Exact, whatever it was written as."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float | Decimal | str):
        text = repr(value) if isinstance(value, float) else str(value).strip()
        try:
            number = Decimal(text) if len(text) <= 60 else None
        except ArithmeticError:
            number = None
        if number is not None and number.is_nan():
            raise ValueError(f"{name}: is NaN")
        if number is not None and not number.is_infinite() and (not number or abs(number.adjusted()) < 60):
            return number
    raise ValueError(f"{name}: must be a number, got {str(value)[:40]!r}")


def plain_instant(name: str) -> bool:
    return name.isdecimal() and len(name) in (10, 13, 16, 19)
