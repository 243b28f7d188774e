"""The formulas that reports print beside what was drawn: exact where an exact value is known, absent where none is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from test_processes import load

from loadtest.traffic import closed_forms


def exact_variance(cv: float, mean: float) -> float:
    """Of the count of an equilibrium renewal process with gamma gaps, from the sum over all renewals.

    Var N(w) = m + 2 r int_0^w H - m^2, with H(u) the expected renewals in (0, u] (Cox, Renewal Theory, 4.5).
    """
    shape = 1 / cv**2
    x = mean * shape
    a = shape * np.arange(1, int(mean + 20 * math.sqrt(mean) * max(cv, 1) + 60 * cv**2 + 60))
    term = np.exp(a * math.log(x) - x - np.array([math.lgamma(each + 1) for each in a]))
    reached = np.zeros(len(a))  # the regularised lower incomplete gamma function P(a, x), by its series
    for n in range(1, int(x + 20 * math.sqrt(x)) + 200):
        reached += term
        term = term * x / (a + n)
    edge = np.exp(a * math.log(x) - x - np.array([math.lgamma(each) for each in a]))
    return float(mean + 2 * ((x - a) * reached + edge).sum() / shape - mean**2)


@pytest.mark.parametrize("cv", [0.2, 0.5, 0.8, 1.5, 2.0, 4.0])
def test_the_dispersion_of_gamma_gaps_is_exact_to_one_in_a_thousand_wherever_it_is_told(cv: float) -> None:
    process = load(arrivals="gamma", cv=cv, rate_per_s=1.0)
    told = {mean: closed_forms.dispersion(process, mean) for mean in np.geomspace(0.5, 200, 40)}
    first = min(mean for mean, value in told.items() if value is not None)
    assert first > 0.5 and all(value is not None for mean, value in told.items() if mean >= first)
    for mean in (mean for mean in told if first <= mean < 3 * first):
        assert told[mean] == pytest.approx(exact_variance(cv, mean) / mean, rel=1e-3)


@pytest.mark.parametrize(("window_s", "index"), [(1.0, 0.25 / 2.5), (2.0, 0.0), (10.0, 0.0), (0.1, 0.75)])
def test_even_arrivals_vary_by_one(window_s: float, index: float) -> None:
    """2.5 a second: 2 or 3 of them in a second, 5 in each two seconds, one in every fourth tenth of a second."""
    process = load(arrivals="constant", rate_per_s=2.5)
    assert closed_forms.gap_cv(process) == 0
    assert closed_forms.dispersion(process, window_s) == pytest.approx(index, abs=1e-9)


def test_clients_add_their_variances() -> None:
    mix = load(arrivals="clients", clients=[{"share": 3, "cv": 1}, {"share": 1, "cv": 0}], rate_per_s=10)
    assert closed_forms.gap_cv(mix) is None
    assert closed_forms.dispersion(mix, 1) == pytest.approx((7.5 + 0.25) / 10)
    poisson = load(arrivals="clients", clients=[{"share": 3, "cv": 1}, {"share": 1, "cv": 1}])
    assert (closed_forms.gap_cv(poisson), closed_forms.dispersion(poisson, 1)) == (1, 1)


def test_only_a_flat_curve_has_one_rate() -> None:
    flat = load(curve={"shape": "steps", "factors": [2, 2], "step_s": 10}, rate_per_s=10, rate_scale=0.5)
    assert (closed_forms.rate_per_s(flat), closed_forms.dispersion(flat, 60)) == (10, 1)
    for process in (
        load(curve={"shape": "ramp", "from": 0, "to": 2, "seconds": 90}),
        replace(load(), arrivals="trace", rate_per_s=0.0, clients=()),  # as a trace or a closed load is read
    ):
        told = closed_forms.rate_per_s(process), closed_forms.gap_cv(process), closed_forms.dispersion(process, 1)
        assert told == (None, None, None)
