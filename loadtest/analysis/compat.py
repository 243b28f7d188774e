"""One run's rows under the definitions of other tools, so that a figure of theirs can be set beside ours.

The names mean other things there than here (what stops the TTFT, what ends an answer, what is a success), and that
is the point: these files follow the tools, not our CHANGELOG. Percentiles are `numpy.percentile` with its linear
interpolation, as both tools compute them; standard deviations divide by n. Only the measured phase counts: both tools
leave their warm-up out. Their processes time chunks where they read them, ours where the kernel had them. A long run
keeps chunk lists of some rows only; the gaps of the others come from their histograms, within 1 %.

Sources, read at these commits:
    vllm-project/vllm   vllm/benchmarks/serve.py@def9ce85 (calculate_metrics),
                        vllm/benchmarks/lib/endpoint_request_func.py@02cfb534
    ai-dynamo/aiperf    docs/metrics-reference.md@0176f594, src/aiperf/metrics/metric_dicts.py@0fec57a6,
                        src/aiperf/metrics/types/inter_token_latency_metric.py@58dd5dea
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from loadtest.analysis.frames import Floats, to_frame
from loadtest.analysis.metrics import ok, tried
from loadtest.quantiles import midpoint
from loadtest.records import Phase
from loadtest.runfolder import RunFolderError, read_manifest, read_table, require_rows, write_text

_COLUMNS = [
    *("phase", "outcome", "error_kind", "http_status", "stream", "stream_end", "clock_offset_ns"),
    *(
        "sent_ns",
        "first_chunk_ns",
        "first_content_ns",
        "first_visible_ns",
        "last_content_ns",
        "last_choice_ns",
        "done_ns",
    ),
    *("content_chunks", "choice_chunks", "usage_prompt_tokens", "usage_completion_tokens", "counted_tokens"),
    "prompt_tokens_planned",
]
_LISTS = ["chunk_ns", "itl_keys", "itl_counts"]
_CLEAN_ENDS = ("done_marker", "finish_reason", "body_end")
_BROKEN_AFTER_END = ("cut_after_end", "open_after_end")  # fine for us, an exception for their HTTP clients


def write_vllm(run: Path) -> Path:
    """Write RUN/vllm-bench.json, the flat keys of `vllm bench serve --save-result`; return its path."""
    return _write(run / "vllm-bench.json", vllm(*_rows(run)), "a streamed turn")


def write_aiperf(run: Path) -> Path:
    """Write RUN/aiperf.json, metric tags as in aiperf's profile_export_aiperf.json; return its path."""
    return _write(run / "aiperf.json", aiperf(*_rows(run)), "a turn")


WRITERS: dict[str, Callable[[Path], Path]] = {"vllm": write_vllm, "aiperf": write_aiperf}


def vllm(rows: pd.DataFrame, lists: pa.Table) -> dict[str, Any]:
    """What `vllm bench serve` would have saved for the streamed turns (it never asks for anything else).

    A *chunk* is an event with a choice in it, text or not. TTFT = first chunk - start, so that an empty role chunk
    stops it; E2EL = last chunk - start; TPOT = (E2EL - TTFT) / (output tokens - 1), absent below two tokens; ITL are
    the gaps between chunks, pooled. A request is *completed* when a chunk came and the connection did not break: a
    stream that ends early but cleanly is, and so is one with an error object in it. Output tokens are the server's
    usage, else our count in the run's encoding; input tokens the server's, else what was planned. Duration runs from
    the first request to the end of the last one. Where nothing was measured, vLLM says 0, and so does this.

    Two things a row does not hold: a chunk without text in the middle of an answer makes a gap of 0 here, and
    chunks of other miners are not counted.
    """
    streamed = rows["stream"].to_numpy(dtype=bool) & tried(rows)
    if not streamed.any():
        return {}
    broken = rows["error_kind"].isin(_BROKEN_AFTER_END) | ~rows["stream_end"].isin(_CLEAN_ENDS)
    answered = (rows["http_status"] == 200).fillna(False) & (rows["choice_chunks"] > 0)
    done = streamed & (answered & ~broken).to_numpy(dtype=bool)
    good = rows[done]
    usage = _floats(good, "usage_completion_tokens")
    output = np.where(usage > 0, usage, np.nan_to_num(_floats(good, "counted_tokens")))
    told = _floats(good, "usage_prompt_tokens")
    prompt = np.where(np.isnan(told), _floats(good, "prompt_tokens_planned"), told)
    ttft, e2el = _ms(good, "first_chunk_ns", "sent_ns"), _ms(good, "last_choice_ns", "sent_ns")
    several = output > 1
    latencies = {
        "ttft": ttft,
        "tpot": (e2el - ttft)[several] / (output[several] - 1),
        "itl": _vllm_gaps_ms(good, lists.filter(pa.array(done))),
        "e2el": e2el,
    }
    seconds = _duration_s(rows[streamed], "done_ns")
    view: dict[str, Any] = {
        "duration": seconds,
        "completed": len(good),
        "failed": int(streamed.sum()) - len(good),
        "total_input_tokens": int(prompt.sum()),
        "total_output_tokens": int(output.sum()),
        "request_throughput": len(good) / seconds if seconds else 0.0,
        "output_throughput": float(output.sum()) / seconds if seconds else 0.0,
        "total_token_throughput": float(prompt.sum() + output.sum()) / seconds if seconds else 0.0,
    }
    for name, values in latencies.items():
        sample = values if len(values) else np.zeros(1)
        view[f"mean_{name}_ms"] = float(sample.mean())
        view[f"median_{name}_ms"] = float(np.median(sample))
        view[f"std_{name}_ms"] = float(sample.std())
        view[f"p99_{name}_ms"] = float(np.percentile(sample, 99))
    return view


def aiperf(rows: pd.DataFrame, lists: pa.Table) -> dict[str, Any]:
    """What `aiperf profile` would have exported. All durations start when the request is sent.

    time_to_first_token = first content; time_to_second_token = second content chunk - first;
    time_to_first_output_token = first content that is not reasoning; request_latency = last content (whole answers:
    the end); decode_duration = request_latency - time_to_first_token; inter_token_latency = decode_duration / (OSL - 1)
    from two tokens on; inter_chunk_latency = gaps between content chunks, pooled; output_token_throughput_per_user =
    1 / inter_token_latency; e2e_output_token_throughput = OSL / request_latency; prefill_throughput_per_user = ISL /
    time_to_first_token; benchmark_duration = first request to last response. OSL and ISL are counted by the client:
    here in the run's encoding, OSL with reasoning and tool calls. A request is valid when it ended well; latencies
    are of valid ones, and only the counts tell of the others. Newer versions of aiperf estimate inter_chunk_latency
    from a sketch; this is exact.
    """
    sent = tried(rows)
    if not sent.any():
        return {}
    odd = rows["error_kind"].isin([*_BROKEN_AFTER_END, "json_for_stream", "sse_for_json"]).to_numpy(dtype=bool)
    valid = sent & ok(rows) & ~odd
    good, kept = rows[valid], lists.filter(pa.array(valid))
    stream = good["stream"].to_numpy(dtype=bool)
    isl, osl = _floats(good, "prompt_tokens_planned"), _floats(good, "counted_tokens")
    ttft = _ms(good, "first_content_ns", "sent_ns")
    latency = np.where(stream, _ms(good, "last_content_ns", "sent_ns"), _ms(good, "done_ns", "sent_ns"))
    with np.errstate(divide="ignore", invalid="ignore"):
        itl = np.where(osl >= 2, (latency - ttft) / (osl - 1), np.nan)
        per_user, prefill, whole = 1e3 / itl, isl / ttft * 1e3, osl / latency * 1e3
    tags = {
        "time_to_first_token": ("ms", ttft),
        "time_to_second_token": ("ms", _second_gap_ms(good, kept)),
        "time_to_first_output_token": ("ms", _ms(good, "first_visible_ns", "sent_ns")),
        "request_latency": ("ms", latency),
        "decode_duration": ("ms", latency - ttft),
        "inter_token_latency": ("ms", itl),
        "inter_chunk_latency": ("ms", _gaps_ms(good, kept)),
        "output_token_throughput_per_user": ("tokens/sec/user", per_user),
        "e2e_output_token_throughput": ("tokens/sec/user", whole),
        "prefill_throughput_per_user": ("tokens/sec/user", prefill),
        "output_sequence_length": ("tokens", osl),
        "input_sequence_length": ("tokens", isl),
    }
    view = {tag: _aiperf_stats(unit, values) for tag, (unit, values) in tags.items() if np.isfinite(values).any()}
    ends = good.assign(end_ns=good["last_content_ns"].where(good["stream"], good["done_ns"]))
    seconds = _duration_s(ends, "end_ns")
    total_osl, total_isl = float(np.nansum(osl)), float(np.nansum(isl))
    totals = {
        "request_count": ("requests", float(len(good))),
        "error_request_count": ("requests", float(sent.sum() - len(good))),
        "total_osl": ("tokens", total_osl),
        "total_isl": ("tokens", total_isl),
        "benchmark_duration": ("sec", seconds),
    }
    if seconds:
        totals["request_throughput"] = ("requests/sec", len(good) / seconds)
        totals["output_token_throughput"] = ("tokens/sec", total_osl / seconds)
        totals["total_token_throughput"] = ("tokens/sec", (total_isl + total_osl) / seconds)
    return view | {tag: {"unit": unit, "avg": value} for tag, (unit, value) in totals.items()}


def _rows(run: Path) -> tuple[pd.DataFrame, pa.Table]:
    """The measured turns and, in the same order, their lists (which stay in Arrow)."""
    require_rows(run, read_manifest(run))
    table = read_table(run, "requests", [*_COLUMNS, *_LISTS])
    table = table.filter(pc.equal(table["phase"], Phase.MEASURE.value))
    return to_frame(table.select(_COLUMNS)), table.select(_LISTS)


def _write(path: Path, view: dict[str, Any], needed: str) -> Path:
    if not view:
        raise RunFolderError(
            f"{path.parent}: {path.name} needs {needed} that was sent in the measured phase; there is none"
        )
    write_text(path, json.dumps(view, indent=1, allow_nan=False) + "\n")
    return path


def _floats(rows: pd.DataFrame, name: str) -> Floats:
    values: Floats = rows[name].to_numpy(dtype=np.float64, na_value=np.nan)
    return values


def _ms(rows: pd.DataFrame, later: str, earlier: str) -> Floats:
    values: Floats = (rows[later] - rows[earlier]).to_numpy(dtype=np.float64, na_value=np.nan)
    return values / 1e6


def _duration_s(rows: pd.DataFrame, last: str) -> float:
    """From the first request to the last end, over all workers; 0 when nothing ended."""
    start, end = (rows["sent_ns"] + rows["clock_offset_ns"]).min(), (rows[last] + rows["clock_offset_ns"]).max()
    return 0.0 if pd.isna(start) or pd.isna(end) else float(int(end) - int(start)) / 1e9


def _owners(lists: pa.ChunkedArray) -> tuple[Floats, np.ndarray[Any, Any]]:
    """All chunk times in order, and the row that each belongs to."""
    lengths = pc.list_value_length(lists).to_numpy()
    flat = pc.list_flatten(lists).to_numpy().astype(np.float64)
    return flat, np.repeat(np.arange(len(lengths)), lengths)


def _unlisted(rows: pd.DataFrame, lists: pa.Table) -> np.ndarray[Any, Any]:
    """Rows whose chunk list was not kept."""
    unlisted: np.ndarray[Any, Any] = (
        _floats(rows, "content_chunks") > pc.list_value_length(lists["chunk_ns"]).to_numpy()
    )
    return unlisted


def _gaps_ms(rows: pd.DataFrame, lists: pa.Table) -> Floats:
    """Gaps between chunks with text, pooled: exact where the list was kept, else from the row's histogram."""
    flat, owner = _owners(lists["chunk_ns"])
    told = lists.filter(pa.array(_unlisted(rows, lists)))
    keys, counts = (pc.list_flatten(told[name]).to_numpy() for name in ("itl_keys", "itl_counts"))
    estimated = np.repeat(np.array([midpoint(int(key)) for key in keys], dtype=np.float64), counts)
    return np.concatenate([np.diff(flat)[owner[1:] == owner[:-1]], estimated]) / 1e6


def _second_gap_ms(rows: pd.DataFrame, lists: pa.Table) -> Floats:
    """The first gap of each row; nothing when a list is missing, for those that are kept are the slow ones."""
    if _unlisted(rows, lists).any():
        return np.empty(0)
    flat, owner = _owners(lists["chunk_ns"])
    _, first, sizes = np.unique(owner, return_index=True, return_counts=True)
    first = first[sizes > 1]
    gaps: Floats = (flat[first + 1] - flat[first]) / 1e6
    return gaps


def _vllm_gaps_ms(rows: pd.DataFrame, lists: pa.Table) -> Floats:
    """Gaps between chunks with a choice: those between texts, plus those of chunks without text at either end."""
    content = _floats(rows, "content_chunks")
    some = content > 0
    before = np.where(
        some, _ms(rows, "first_content_ns", "first_chunk_ns"), _ms(rows, "last_choice_ns", "first_chunk_ns")
    )
    after = np.where(some, _ms(rows, "last_choice_ns", "last_content_ns"), 0.0)
    missing = (_floats(rows, "choice_chunks") - np.maximum(content, 1)).astype(np.int64)
    # One chunk without text is the first or the last; the gap at the other end is then 0 (or of something else).
    longer, shorter = np.fmax(before, after), np.fmin(before, after)
    zeros = np.zeros(int(np.maximum(missing - 2, 0).sum()))
    return np.concatenate([_gaps_ms(rows, lists), longer[missing >= 1], shorter[missing >= 2], zeros])


def _aiperf_stats(unit: str, values: Floats) -> dict[str, Any]:
    present = values[np.isfinite(values)]
    levels = (50, 90, 95, 99)
    return {
        "unit": unit,
        "avg": float(present.mean()),
        "min": float(present.min()),
        "max": float(present.max()),
        **{f"p{level}": float(value) for level, value in zip(levels, np.percentile(present, levels), strict=True)},
        "std": float(present.std()),
        "count": len(present),
    }
