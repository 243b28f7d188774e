"""Numbers on a command line, within their bounds: what argparse calls `type`. A refusal says what may stand."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable

AMOUNT_MAX = 1e9


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A whole number from `least` to `most`, both included."""
    bounds = f"{least} or more" if most is None else f"{least} to {most}"

    def whole_number(text: str) -> int:
        value = int(text)
        if value < least or (most is not None and value > most):
            raise ArgumentTypeError(f"must be {bounds}, got {text}")
        return value

    return whole_number


def amount(text: str) -> float:
    """A number from 0 to below AMOUNT_MAX; neither NaN nor infinite."""
    value = float(text)
    if not 0 <= value < AMOUNT_MAX:
        raise ArgumentTypeError(f"must be a number from 0 to 1e9, got {text}")
    return value
