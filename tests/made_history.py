"""Histories of nights with stated changes, for the trend page."""

from __future__ import annotations

from typing import Any

import numpy as np
from made_runs import made_side

from loadtest.analysis.nights import HistoryRow


def history(nights: int, slower_from: int = 99, **changes: Any) -> list[HistoryRow]:
    """Six runs a night at a run-to-run sd of 3 %; from night `slower_from` on TTFT is 20 % longer."""
    draw = np.random.default_rng(7)
    rows = []
    for night in range(nights):
        factors = {"ttft_ms_p50": 1.2, "ttft_ms_p95": 1.2} if night >= slower_from else {}
        fields = {"kind": "target", "host": "http://router:5010", "word": "pass", "exit_code": 0, **changes}
        fields |= {"night": f"2026-11-{night + 1:02d}", "target_versions": f"main={1 + (night >= slower_from)}.0"}
        for number, run in enumerate(made_side(f"n{night}r", 6, draw, 0.03, **factors)):
            plain = {name: getattr(run, name) for name in run.__struct_fields__}
            plain["started_utc"] = f"2026-11-{night + 1:02d}T02:{number:02d}:00Z"
            rows.append(HistoryRow(**{**plain, **fields, **{k: v for k, v in changes.items() if k in fields}}))
    return rows


def with_changes(row: HistoryRow, **changes: Any) -> HistoryRow:
    """The same row with other fields."""
    return HistoryRow(**{**{name: getattr(row, name) for name in row.__struct_fields__}, **changes})
