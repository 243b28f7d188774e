"""Numbers on a command line, within their bounds: what argparse calls `type`. A refusal says what may stand."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A whole number from `least` to `most`, both included."""
    bounds = f"{least} or more" if most is None else f"{least} to {most}"

    def whole_number(text: str) -> int:
        value = int(text)
        if value < least or (most is not None and value > most):
            raise ArgumentTypeError(f"must be {bounds}, got {text}")
        return value

    return whole_number


def number(least: float, most: float) -> Callable[[str], float]:
    """A number from `least` to `most`, both included; neither NaN nor infinite."""

    def number(text: str) -> float:  # the name stands in argparse's refusal of what is no number at all
        value = float(text)
        if not least <= value <= most:
            raise ArgumentTypeError(f"must be a number from {least:g} to {most:g}, got {text}")
        return value

    return number


amount = number(0, 1e9)
