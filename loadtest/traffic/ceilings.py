"""Ceilings: what a run may use up and how badly its target may fail before it is stopped. Zero means no ceiling."""

from __future__ import annotations

from dataclasses import dataclass, replace

from loadtest.traffic.reading import Table

COUNT_MAX = 1e15
PRICES = ("price_per_request", "price_per_million_prompt_tokens", "price_per_million_output_tokens")


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The [ceilings] section. Money is in whatever unit the prices are."""

    requests: float = 0.0  # sent
    requests_per_s: float = 0.0  # sent, over the last ten seconds
    tokens: float = 0.0  # prompt and output
    cost: float = 0.0  # at the prices below
    time_s: float = 0.0  # of offering, from the common start
    error_share: float = 0.0  # of the requests that ended within `error_window_s`: the circuit breaker
    error_window_s: float = 30.0
    error_requests_min: float = 20.0  # fewer ended requests in the window say nothing
    price_per_request: float = 0.0
    price_per_million_prompt_tokens: float = 0.0
    price_per_million_output_tokens: float = 0.0

    def cost_of(self, requests: int, prompt_tokens: int, output_tokens: int) -> float:
        per_token = prompt_tokens * self.price_per_million_prompt_tokens
        per_token += output_tokens * self.price_per_million_output_tokens
        return requests * self.price_per_request + per_token / 1e6


class CeilingError(ValueError):
    """A ceiling that makes no sense; one line."""


def read_ceilings(table: Table) -> Ceilings:
    """Read [ceilings]; mistakes are noted in the table."""
    default = Ceilings()
    given = {}
    for name in Ceilings.__slots__:
        high = 1.0 if name == "error_share" else COUNT_MAX
        given[name] = table.number(name, 0, high, getattr(default, name), above=name in table.fields)
    table.close()
    ceilings = Ceilings(**given)
    if mistake := _mistake(ceilings):
        table.wrong("cost", mistake)
    return ceilings


def with_ceilings(ceilings: Ceilings, settings: list[str]) -> Ceilings:
    """Other values from a command line, each NAME=VALUE with the names of the section. Raises CeilingError."""
    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if name not in Ceilings.__slots__:
            raise CeilingError(f"--ceiling {setting}: no such ceiling, choose one of {', '.join(Ceilings.__slots__)}")
        if not 0 < number <= (1.0 if name == "error_share" else COUNT_MAX):
            raise CeilingError(f"--ceiling {setting}: give {name} a number above 0, as in {name}=0.5")
        ceilings = replace(ceilings, **{name: number})
    if mistake := _mistake(ceilings):
        raise CeilingError(f"--ceiling cost: {mistake}")
    return ceilings


def _mistake(ceilings: Ceilings) -> str | None:
    if ceilings.cost and not any(getattr(ceilings, price) for price in PRICES):
        return f"needs a price, state one of {', '.join(PRICES)}"
    return None
