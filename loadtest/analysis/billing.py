"""Billing: what the router counted against our own count, and what the sessions' balances lost against our tasks.

No price is published, so no sum can be checked against one. What can be checked is that *some* price, per task and
per token, explains every fall of every balance between any two polls: tasks that certainly settled in between cost at
most the fall, those that may have settled at least. A price that does not exist is found by linear programming.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import linprog

from loadtest.analysis import metrics
from loadtest.analysis.charges import charges
from loadtest.analysis.evidence import SECOND_NS, Evidence
from loadtest.analysis.findings import Finding, evidence, no_source, percent, too_few
from loadtest.analysis.frames import Floats

USAGE, BALANCES = "usage", "balances"
ANSWERS_MIN = 50
RESIDUAL_TOKENS, RESIDUAL_SHARE = 5.0, 0.03  # the method's bound of what rounding and templates explain
BETA = (0.8, 1.25)  # usage over our count; beyond it another encoding is likelier than a fault
LAGS_S = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)  # of a charge after the end of its task; the best one is taken
WIDTH_S = 1.0  # how far that lag may vary, to either side
END_S = 45.0  # from the last result to the end of the task: a slow transaction
OTHERS_S = 60.0  # tasks from before the run may settle in its first minute
POLLS_MAX = 24  # of a session, evenly chosen: every pair of them is an account
TASKS_MIN = 50


def billing(source: Evidence) -> list[Finding]:
    """Three findings: usage, balances, charges."""
    return [_usage(source), _balances(source), charges(source)]


def _usage(source: Evidence) -> Finding:
    rows = source.requests[metrics.ok(source.requests)]
    # Usage objects full of zeros are common, and tell nothing.
    told_some = rows["usage_completion_tokens"].fillna(0) > 0
    rows = rows[told_some & (rows["counted_tokens"].fillna(0) > 0)]
    n = len(rows)
    if not n:
        return no_source(USAGE, "usage in the answers", "no answer told its usage")
    if n < ANSWERS_MIN:
        return too_few(USAGE, n, f"{n} answers told their usage, and {ANSWERS_MIN} are needed")
    told = rows["usage_completion_tokens"].to_numpy(dtype=np.float64)
    counted = rows["counted_tokens"].to_numpy(dtype=np.float64)
    ratios = told / counted
    beta = float(np.median(ratios))
    # Another encoding than ours scatters; six times the usual scatter is more than it does.
    scatter = 6 * 1.4826 * float(np.median(np.abs(ratios - beta)))
    residual = told - beta * counted
    allowed = np.maximum(RESIDUAL_TOKENS, (RESIDUAL_SHARE + scatter) * told)
    over, under = residual > allowed, residual < -allowed
    bad = int(over.sum() + under.sum())
    lines = [f"usage is {beta:.3f} times our count (median of {n} answers)"]
    worst = rows.assign(residual=residual)[over | under].sort_values("residual", key=np.abs, ascending=False)
    lines += [
        f"{request.client_reference}: {request.usage_completion_tokens} told, {request.counted_tokens} counted"
        for request in worst.head(20).itertuples()
    ]
    if bad:
        off = percent(float(np.median(np.abs(residual / (beta * counted))[over | under])))
        text = f"{bad} of {n} answers were counted {off} off ({int(over.sum())} too high, {int(under.sum())} too low)."
        return Finding(USAGE, "found", text, n=n, effect=bad / n, unit="share of answers", evidence=evidence(lines))
    if not BETA[0] <= beta <= BETA[1]:
        text = f"Usage is {beta:.2f} times our count throughout: another encoding, or a count that is always wrong."
        return Finding(USAGE, "cannot tell", text, n=n, missing="the nodes' own encoding", evidence=evidence(lines))
    smallest = float(np.median(allowed / told))
    text = f"Usage agrees with our count in all {n} answers; one that is {percent(smallest)} off would have been seen."
    return Finding(
        USAGE, "consistent", text, n=n, smallest_effect=smallest, unit="relative error", evidence=evidence(lines)
    )


# Balances.


class _Account(NamedTuple):
    """One session: polls (Unix s, amount spent since the first) and our tasks: when each ended, at the earliest and at
    the latest, and what it may cost by."""

    name: str
    polls_s: Floats
    spent: Floats
    earliest_s: Floats
    latest_s: Floats
    features: Floats  # one row per task: 1 and kilotokens in the first two columns, or in the last two without a result


class _Fit(NamedTuple):
    """By how much the best price fails, that price (a task, 1000 tokens, both without a result), and its lag."""

    short: float
    price: Floats
    lag_s: float


def _balances(source: Evidence) -> Finding:
    polled = source.sessions.dropna(subset=["balance"])
    if not len(polled):
        missing = "balances of the sessions (GET /api/v1/sessions, field balance)"
        return no_source(BALANCES, missing, "no router told the balance of a session")
    if not len(source.own_tasks):
        return no_source(BALANCES, "task look-ups", "no task was looked up")
    if source.is_cut:
        text = "The run has more turns than the checks look at, so its balances paid for more than was added up."
        return Finding(BALANCES, "cannot tell", text, missing="a shorter run")
    accounts = _accounts(source, polled)
    n = sum(len(account.earliest_s) for account in accounts)
    if n < TASKS_MIN:
        text = "No session's tasks are known to be all ours, so nobody can say what its balance paid for."
        return Finding(BALANCES, "cannot tell", text, n=n, missing="sessions that nobody else uses, all looked up")
    unit = sum(float(account.spent[-1]) for account in accounts) / n
    if not unit > 0:
        text = f"The balances did not change over {n} tasks: nothing is charged."
        return Finding(BALANCES, "cannot tell", text, n=n, missing="charges")
    strict = _fit(accounts, unit, free_failures=True)
    lines = [
        f"session {account.name}: {account.spent[-1] / unit:.1f} average charges for {len(account.earliest_s)} tasks"
        for account in accounts
    ]
    told = f"{strict.price[0]:.6g} a task and {strict.price[1]:.6g} per 1,000 tokens"
    if strict.short < 1e-6:
        text = f"One price explains every fall of {len(accounts)} balances over {n} tasks: {told} would do."
        smallest = _drift(accounts) / n
        return Finding(
            BALANCES, "consistent", text, n=n, smallest_effect=smallest, unit="share of tasks", evidence=evidence(lines)
        )
    loose = _fit(accounts, unit, free_failures=False)
    text = f"No price per task and per token explains the balances: the best one fails by {strict.short:.1f} average "
    text += "charges."
    if loose.short < 1e-6:
        text = "Tasks without any result were charged: only a price for them explains the balances."
        lines.append(f"{loose.price[2]:.6g} and {loose.price[3]:.6g} per 1,000 tokens for one without a result")
    return Finding(BALANCES, "found", text, n=n, effect=strict.short, unit="average charges", evidence=evidence(lines))


def _drift(accounts: Sequence[_Account]) -> float:
    """About how many wrong charges hide behind tasks that may have settled before a poll or after it."""
    unsure = 0.0
    for account in accounts:
        widths = np.minimum(account.latest_s - account.earliest_s, 1e4) + 2 * WIDTH_S
        unsure += 2 * float(widths.sum()) / max(account.polls_s[-1] - account.polls_s[0], 1.0)
    return unsure


def _accounts(source: Evidence, polled: pd.DataFrame) -> list[_Account]:
    """Sessions of which every task in the time looked at is ours, or one of ours again."""
    tasks = source.own_tasks
    tokens = source.requests["usage_completion_tokens"].fillna(source.requests["counted_tokens"])
    strange = source.strange_tasks
    others = {
        (router, session)
        for router, session, task_id, complete in zip(
            strange["router"], strange["session"], strange["task_id"], strange["complete"], strict=True
        )
        if complete and (router, session, str(task_id)) not in source.copied
    }
    looked: dict[Any, int] = strange.groupby(["router", "session"]).size().to_dict() if len(strange) else {}
    polled = polled.assign(router=source.routers(polled["target"]))
    accounts = []
    for (router, session), ours in tasks.groupby(["router", "session"]):
        key = (str(router), str(session))
        told = source.told_ids.get(key)
        unseen = (told.left_out if told is not None else 0) - looked.get(key, 0)
        polls = polled[(polled["router"] == key[0]) & (polled["session"] == key[1])]
        if unseen or key in others or len(polls) < 3 or ours["task_id"].isna().any():
            continue
        account = _account(str(key[1]), ours, polls, tokens.to_numpy(dtype=np.float64, na_value=np.nan))
        if account is not None:
            accounts.append(account)
    return accounts


def _account(name: str, ours: pd.DataFrame, polls: pd.DataFrame, tokens: Floats) -> _Account | None:
    polls = polls.drop_duplicates("observed_wall_ns").sort_values("observed_wall_ns")
    begin = int(ours["sent_ns"].min()) + round(OTHERS_S * SECOND_NS)
    polls = polls[polls["observed_wall_ns"] > begin]
    balances = [int(balance) for balance in polls["balance"]]
    if len(balances) < 3 or any(later > earlier for earlier, later in pairwise(balances)):
        return None  # a deposit: what was spent is not what is gone
    gave = ours["results"].map(len).to_numpy() > 0
    kilotokens = np.nan_to_num(tokens[ours["request"].to_numpy(dtype=np.intp)]) / 1000
    return _Account(
        name,
        polls["observed_wall_ns"].to_numpy(dtype=np.float64) / SECOND_NS,
        np.array([float(balances[0] - balance) for balance in balances]),
        *_ends_s(ours),
        np.column_stack([gave, gave * kilotokens, ~gave, ~gave * kilotokens]).astype(np.float64),
    )


def _ends_s(ours: pd.DataFrame) -> tuple[Floats, Floats]:
    """When each task ended, told in whole seconds. Without it: after its answer, and END_S after all its results."""
    sent, done, finished, known = (
        pd.to_numeric(ours[name]).to_numpy(dtype=np.float64, na_value=np.nan) / SECOND_NS
        for name in ("sent_ns", "done_ns", "finished_ns", "known_ns")
    )
    told = ~np.isnan(finished)
    earliest = np.where(told, finished, np.fmax(sent, done))
    latest = np.where(told, finished + 1, np.nan_to_num(known, nan=np.inf) + END_S)
    return earliest, latest


def _fit(accounts: Sequence[_Account], unit: float, *, free_failures: bool) -> _Fit:
    """The best price over all lags; `free_failures`: a task without a result costs nothing."""
    fits = [_fit_at(accounts, unit, lag_s, free_failures) for lag_s in LAGS_S]
    return min(fits, key=lambda fit: fit.short)


def _fit_at(accounts: Sequence[_Account], unit: float, lag_s: float, free_failures: bool) -> _Fit:
    rows, bounds = [], []
    for account in accounts:
        least, most, spent = _between(account, lag_s)
        rows += [np.column_stack([least, -np.ones(len(least))]), np.column_stack([-most, -np.ones(len(most))])]
        bounds += [spent / unit, -spent / unit]
    failures = (0, 0 if free_failures else None)
    limits = [(0, None), (0, None), failures, failures, (0, None)]
    solved = linprog([0, 0, 0, 0, 1], A_ub=np.vstack(rows), b_ub=np.concatenate(bounds), bounds=limits, method="highs")
    return _Fit(float(solved.x[4]), np.asarray(solved.x[:4]) * unit, lag_s)


def _between(account: _Account, lag_s: float) -> tuple[Floats, Floats, Floats]:
    """For every pair of polls: features of the tasks that certainly settled in between, of all that may have, and the
    amount spent."""
    at = np.unique(np.linspace(0, len(account.polls_s) - 1, POLLS_MAX).astype(np.intp))
    polls_s, spent = account.polls_s[at], account.spent[at]
    earliest, latest = account.earliest_s + lag_s - WIDTH_S, account.latest_s + lag_s + WIDTH_S
    early, late = _cumulated(earliest, account.features, polls_s), _cumulated(latest, account.features, polls_s)
    first, second = np.triu_indices(len(at), k=1)
    least = np.maximum(late[second] - early[first], 0.0)
    return least, early[second] - late[first], spent[second] - spent[first]


def _cumulated(times: Floats, features: Floats, at: Floats) -> Floats:
    """Sum of the features of all times up to each instant."""
    order = np.argsort(times, kind="stable")
    sums = np.vstack([np.zeros(features.shape[1]), np.cumsum(features[order], axis=0)])
    found: Floats = sums[np.searchsorted(times[order], at, side="right")]
    return found
