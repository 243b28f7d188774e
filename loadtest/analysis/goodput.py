"""Goodput: how much of what was offered was good, where good is what the members were promised (DistServe, vLLM).

A request is good when it ended well and each of its metrics keeps its limit. A metric that does not apply (TTFT of an
answer in one piece) is no miss. A failed, dropped or late request is not good; one that its member broke off is not
counted. vllm bench serve counts the good among the completed requests of the whole run; here it is the measured
window, and the failed are in the denominator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from loadtest.analysis import metrics
from loadtest.analysis.frames import Floats

_METRICS: dict[str, Callable[[pd.DataFrame], Floats]] = {
    "ttft_ms": metrics.ttft_ms,
    "tpot_ms": metrics.tpot_ms,
    "e2e_ms": metrics.e2e_ms,
}


def goodput(limits: Mapping[str, float], requests: pd.DataFrame, window_s: float | None) -> dict[str, Any] | None:
    """Good requests among those due in the measured cohort, their share and their number per second of the window.

    None when no limits were stated. Limits in ms: ttft_ms, tpot_ms, e2e_ms.
    """
    if not limits:
        return None
    due = metrics.offered(requests) & ~metrics.broken_off(requests)
    good = due & metrics.ok(requests)
    for name, limit in limits.items():
        value = _METRICS[name](requests)
        good = good & (np.isnan(value) | (value <= limit))
    count, n = int(good.sum()), int(due.sum())
    return {
        "limits": dict(limits),
        "good": count,
        "n": n,
        "share": round(count / n, 6) if n else None,
        "per_s": round(count / window_s, 6) if window_s else None,
    }
