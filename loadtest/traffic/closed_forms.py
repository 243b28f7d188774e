"""What an arrival process gives in the long run, by formula: to set beside what was drawn and what was sent.

Only under a flat curve; None where there is no closed form, or none that holds for so few arrivals.
"""

from __future__ import annotations

import math

from loadtest.traffic.load import Client, Load


def rate_per_s(load: Load) -> float | None:
    """Arrivals per second. None for closed loads, traces and curves that are not flat."""
    factors = {factor for piece in load.curve.pieces for factor in (piece.begins, piece.ends)}
    if not load.clients or not load.rate_per_s or len(factors) > 1:
        return None
    return load.rate_per_s * factors.pop()


def gap_cv(load: Load) -> float | None:
    """Standard deviation over mean of the gaps. Of several clients together only if all are Poisson."""
    if rate_per_s(load) is None:
        return None
    cvs = {client.cv for client in load.clients}
    return cvs.pop() if len(load.clients) == 1 or cvs == {1.0} else None


def dispersion(load: Load, window_s: float) -> float | None:
    """Index of dispersion: variance over mean of the counts in windows of `window_s`. Variances of clients add up."""
    rate = rate_per_s(load)
    if rate is None:
        return None
    variances = [_variance(client, rate * client.share * window_s) for client in load.clients]
    known = [variance for variance in variances if variance is not None]
    return sum(known) / (rate * window_s) if len(known) == len(variances) else None


def _variance(client: Client, mean: float) -> float | None:
    """Of the count in a window in which `mean` arrivals are expected.

    Even arrivals: the floor or the ceiling of the mean. Poisson: the mean. Gamma gaps: the equilibrium renewal
    process, mean cv^2 + (1 - cv^4) / 6 (Cox, Renewal Theory, 4.5), whose rest decays with exp(-mean / cv^2) for bursts
    and with exp(-2 pi^2 cv^2 mean) for gaps that are nearly even: used from where it is below 1 in 1000.
    """
    square = client.cv**2
    if square == 0:
        part = math.modf(round(mean, 9))[0]
        return part * (1 - part)
    if square == 1:
        return mean
    if min(mean / square, 2 * math.pi**2 * square * mean) < 7:
        return None
    return mean * square + (1 - square**2) / 6
