"""Tables of cells and the association on many turns, beside pandas' own group-by on the same frame.

    python benchmarks/cells.py                     # 10 million turns, 500 nodes
    python benchmarks/cells.py --rows 1000000

Ours: every table of the report (nodes, bands, personas, targets, sessions, prompts, turns, ...) with n, three
percentiles of two metrics, their intervals and the ok share; then residuals and per-node figures of the association.
pandas: p50, p95 and p99 of the same two metrics for the seven groupings, and nothing else. The frame is in memory.
"""

from __future__ import annotations

import argparse
import resource
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPO)]

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from loadtest.analysis import metrics  # noqa: E402
from loadtest.analysis.frames import Clocks  # noqa: E402
from loadtest.analysis.nodes import prompt_bands, tables  # noqa: E402
from loadtest.analysis.residuals import served  # noqa: E402
from loadtest.clock import mono_ns  # noqa: E402

NODES, SESSIONS, HOURS = 500, 40, 24
COLUMNS = ("node", "band", "persona", "target", "session", "prompt", "later")


def made(rows: int) -> pd.DataFrame:
    """A cohort as `columns.read_turns` gives it: categories, nullable integers, floats."""
    rng = np.random.default_rng(1)

    def text(count: int, word: str) -> pd.Categorical:
        codes = rng.integers(0, count, rows, dtype=np.int16)
        return pd.Categorical.from_codes(codes, [f"{word}{i:03d}" for i in range(count)])

    def whole(values: object, kind: str = "int64") -> pd.arrays.IntegerArray:
        numbers = np.asarray(values).astype(kind)
        return pd.arrays.IntegerArray(numbers, np.zeros(rows, dtype=bool), copy=False)

    sent = np.sort(rng.integers(0, HOURS * 3600 * 10**9, rows))
    first = sent + (rng.lognormal(-1, 0.8, rows) * 1e9).astype(np.int64)
    failed = rng.random(rows) < 0.02
    outcomes = pd.Categorical.from_codes(failed.astype(np.int8), ["ok", "server_error"])
    return pd.DataFrame(
        {
            "node": text(NODES, "0x"),
            "session": text(SESSIONS, "s"),
            "persona": text(8, "p"),
            "target": text(2, "t"),
            "outcome": outcomes,
            "error_kind": pd.Categorical.from_codes(np.zeros(rows, np.int8), [""]),
            "stream": np.ones(rows, dtype=bool),
            "turn": whole(rng.integers(0, 4, rows), "int32"),
            "worker": whole(rng.integers(0, 4, rows), "int32"),
            "clock_offset_ns": whole(np.zeros(rows, dtype=np.int64)),
            "sent_ns": whole(sent),
            "first_content_ns": whole(first),
            "last_content_ns": whole(first + 2 * 10**9),
            "done_ns": whole(first + 2 * 10**9),
            "prompt_tokens_planned": whole(rng.integers(1, 6000, rows), "int32"),
            "usage_completion_tokens": whole(rng.integers(2, 500, rows), "int32"),
            "counted_tokens": whole(np.ones(rows), "int32"),
            "content_chunks": whole(np.ones(rows), "int32"),
            **{name: rng.uniform(40, 100, rows) for name in ("reputation", "reputation_session")},
            **{name: rng.uniform(40, 100, rows) for name in ("window_precommit_percent", "window_commit_percent")},
            "level": np.full(rows, np.nan),
        },
        copy=False,
    )


def by_pandas(frame: pd.DataFrame) -> int:
    """The groupings one after the other, as its documentation shows it."""
    short = pd.DataFrame({"ttft": metrics.ttft_ms(frame), "e2e": metrics.e2e_ms(frame)})
    short["band"] = np.digitize(frame["reputation"], [50, 80, 90, 95])
    short["prompt"] = prompt_bands(frame["prompt_tokens_planned"].to_numpy(dtype=np.float64))
    short["later"] = frame["turn"].to_numpy(dtype=np.int64) > 0
    for name in ("node", "persona", "target", "session"):
        short[name] = frame[name]
    cells = 0
    for name in COLUMNS:
        found = short.groupby(name, observed=True)[["ttft", "e2e"]].quantile([0.5, 0.95, 0.99], interpolation="higher")
        cells += len(found)
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    frame = made(parser.parse_args().rows)
    nothing = pd.DataFrame({name: [] for name in ("node", "operator", "hardware", "level")})
    began = mono_ns()
    found = tables(frame, nothing)
    ours = mono_ns() - began
    began = mono_ns()
    residual = served(frame, Clocks(0, 0, 0, {}))
    association = mono_ns() - began
    began = mono_ns()
    cells = by_pandas(frame)
    pandas = mono_ns() - began
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    count = sum(len(rows) for rows in found.values() if isinstance(rows, list))
    print(
        f"{len(frame):,} turns: {count} cells in {ours / 1e9:.1f} s; pandas {cells // 3} cells in {pandas / 1e9:.1f} s"
    )
    print(f"ratio {ours / pandas:.2f}; residuals of {len(residual.at):,} turns in {association / 1e9:.1f} s")
    print(f"peak memory of all three {peak_gb:.1f} GB")


if __name__ == "__main__":
    main()
