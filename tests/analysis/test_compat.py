"""Views under other tools' definitions: golden rows, figures computed by hand with the tools' published formulas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loadtest import cli
from loadtest.analysis.compat import write_aiperf, write_vllm
from loadtest.runfolder import RunFolderError

from .run_factory import failed, ns, turn, unsent, write_run

MS = 1_000_000


def chunked(seq: int, at_s: float, chunks_ms: list[float], *, role_ms: float, finish_ms: float, **changes: Any) -> Any:
    """A streamed answer: an empty role chunk, chunks with text, an empty chunk with the finish reason, [DONE]."""
    made = turn(seq, at_s, lag_ms=0.0, ttft_ms=chunks_ms[0], e2e_ms=finish_ms + 5, chunks_ms=chunks_ms)
    sent = made.sent_ns
    assert sent is not None
    fields = {name: getattr(made, name) for name in made.__struct_fields__}
    fields |= {
        "first_chunk_ns": sent + ns(role_ms / 1e3),
        "first_visible_ns": sent + ns(chunks_ms[-1] / 1e3),
        "last_content_ns": sent + ns(chunks_ms[-1] / 1e3),
        "last_choice_ns": sent + ns(finish_ms / 1e3),
        "choice_chunks": len(chunks_ms) + 2,
        "finish_reason": "stop",
    }
    return type(made)(**{**fields, **changes})


# Three requests, sent at 10.0, 10.5 and 11.0 s. Role chunk, text chunks and finish chunk in ms after the send:
#   a   20 | 100 120 160      | 170     4 tokens by usage, 5 by our count, prompt 50 planned, 60 by usage
#   b   30 | 200 230          | 230     2 tokens by our count, no usage, prompt 50
#   c   40 | 300              | 310     1 token by our count, prompt 50
A = chunked(0, 10.0, [100, 120, 160], role_ms=20, finish_ms=170, usage_completion_tokens=4, usage_prompt_tokens=60)
A = type(A)(**{name: getattr(A, name) for name in A.__struct_fields__} | {"counted_tokens": 5})
B = chunked(1, 10.5, [200, 230], role_ms=30, finish_ms=230, counted_tokens=2)
C = chunked(2, 11.0, [300], role_ms=40, finish_ms=310, counted_tokens=1)
# A connection error, a turn that never left, one of the warm-up and one that was not streamed.
REFUSED = failed(3, "connect_error", 11.5, waited_ms=10.0, lag_ms=0.0)
DROPPED = unsent(4, "dropped", 12.0)
WARMUP = chunked(5, 1.0, [100, 900], role_ms=1, finish_ms=2000, phase="warmup")
WHOLE = turn(6, 11.0, lag_ms=0.0, ttft_ms=None, e2e_ms=1000.0, stream=False, stream_end="", counted_tokens=10)


def vllm_of(folder: Path, rows: list[Any]) -> dict[str, float]:
    found: dict[str, float] = json.loads(write_vllm(write_run(folder, rows)).read_text())
    return found


def aiperf_of(folder: Path, rows: list[Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(write_aiperf(write_run(folder, rows)).read_text())
    return found


def test_vllm_golden(tmp_path: Path) -> None:
    found = vllm_of(tmp_path, [A, B, C, REFUSED, DROPPED, WARMUP, WHOLE])
    # From the first send (10.0 s) to the end of the refused one (11.51 s).
    assert found["duration"] == pytest.approx(1.51)
    assert (found["completed"], found["failed"]) == (3, 1)
    assert (found["total_input_tokens"], found["total_output_tokens"]) == (60 + 50 + 50, 4 + 2 + 1)
    assert found["request_throughput"] == pytest.approx(3 / 1.51)
    assert found["output_throughput"] == pytest.approx(7 / 1.51)
    assert found["total_token_throughput"] == pytest.approx(167 / 1.51)
    # TTFT 20, 30, 40: the empty role chunk stops it.
    assert found["mean_ttft_ms"] == pytest.approx(30)
    assert found["median_ttft_ms"] == pytest.approx(30)
    assert found["std_ttft_ms"] == pytest.approx((200 / 3) ** 0.5)
    assert found["p99_ttft_ms"] == pytest.approx(30 + 0.98 * 10)  # rank 0.99 * 2 = 1.98
    # E2EL 170, 230, 310: to the last chunk, not to [DONE].
    assert found["mean_e2el_ms"] == pytest.approx(710 / 3)
    assert found["p99_e2el_ms"] == pytest.approx(230 + 0.98 * 80)
    # TPOT (170-20)/3 = 50, (230-30)/1 = 200; c has one token and none.
    assert found["mean_tpot_ms"] == pytest.approx(125)
    assert found["p99_tpot_ms"] == pytest.approx(50 + 0.99 * 150)
    # ITL: a 80 20 40 10, b 170 30 0, c 260 10, pooled.
    assert found["mean_itl_ms"] == pytest.approx(620 / 9)
    assert found["median_itl_ms"] == pytest.approx(30)
    assert found["p99_itl_ms"] == pytest.approx(170 + 0.92 * 90)  # rank 0.99 * 8 = 7.92


@pytest.mark.parametrize(
    ("changes", "completed"),
    [
        ({}, 1),
        ({"outcome": "truncated", "error_kind": "no_end_marker", "stream_end": "body_end"}, 1),  # a clean early end
        ({"outcome": "stream_error", "error_kind": "error_in_stream", "stream_end": "body_end"}, 1),
        ({"outcome": "truncated", "error_kind": "eof_in_body", "stream_end": "cut"}, 0),
        ({"error_kind": "cut_after_end"}, 0),
        ({"choice_chunks": 0, "stream_end": ""}, 0),  # JSON for a stream
        ({"http_status": 500}, 0),
        ({"http_status": None}, 0),
    ],
)
def test_what_vllm_calls_completed(tmp_path: Path, changes: dict[str, Any], completed: int) -> None:
    row = chunked(0, 10.0, [100, 120], role_ms=20, finish_ms=130, **changes)
    assert vllm_of(tmp_path, [row])["completed"] == completed


def test_vllm_gaps_depend_on_how_many_chunks_had_no_text(tmp_path: Path) -> None:
    # Text at 100 and 120; only a finish chunk, at 150: the role was told with the first text.
    finish = chunked(0, 10.0, [100, 120], role_ms=100, finish_ms=150, choice_chunks=3)
    assert vllm_of(tmp_path, [finish])["mean_itl_ms"] == pytest.approx((20 + 30) / 2)
    # The finish reason came with the last text: no gap but that between the texts.
    none = chunked(0, 10.0, [100, 120], role_ms=100, finish_ms=120, choice_chunks=2)
    assert vllm_of(tmp_path, [none])["mean_itl_ms"] == pytest.approx(20)
    # No text at all: role and finish.
    empty = chunked(0, 10.0, [100], role_ms=20, finish_ms=50, content_chunks=0, chunk_ns=(), choice_chunks=2)
    assert vllm_of(tmp_path, [empty])["mean_itl_ms"] == pytest.approx(30)


def test_vllm_says_zero_where_nothing_was_measured(tmp_path: Path) -> None:
    found = vllm_of(tmp_path, [REFUSED])
    assert (found["completed"], found["failed"], found["mean_ttft_ms"], found["p99_itl_ms"]) == (0, 1, 0.0, 0.0)


def test_aiperf_golden(tmp_path: Path) -> None:
    found = aiperf_of(tmp_path, [A, B, C, REFUSED, DROPPED, WARMUP])
    assert found["request_count"] == {"unit": "requests", "avg": 3.0}
    assert found["error_request_count"]["avg"] == 1
    # First content 100, 200, 300.
    ttft = found["time_to_first_token"]
    assert (ttft["unit"], ttft["count"], ttft["min"], ttft["max"]) == ("ms", 3, 100, 300)
    assert (ttft["avg"], ttft["p50"]) == (pytest.approx(200), pytest.approx(200))
    assert (ttft["p90"], ttft["p95"], ttft["p99"]) == (pytest.approx(280), pytest.approx(290), pytest.approx(298))
    assert ttft["std"] == pytest.approx((20_000 / 3) ** 0.5)
    # Second content minus first: 20, 30; c has one chunk.
    assert (found["time_to_second_token"]["count"], found["time_to_second_token"]["avg"]) == (2, pytest.approx(25))
    # Last content 160, 230, 300; to it, not to the finish chunk.
    assert found["request_latency"]["avg"] == pytest.approx(230)
    assert found["decode_duration"]["avg"] == pytest.approx((60 + 30 + 0) / 3)
    # (160-100)/(5-1) = 15, (230-200)/(2-1) = 30; OSL is our own count, not the server's 4.
    assert (found["inter_token_latency"]["count"], found["inter_token_latency"]["avg"]) == (2, pytest.approx(22.5))
    per_user = found["output_token_throughput_per_user"]
    assert (per_user["unit"], per_user["avg"]) == ("tokens/sec/user", pytest.approx((1000 / 15 + 1000 / 30) / 2))
    assert found["inter_chunk_latency"]["avg"] == pytest.approx((20 + 40 + 30) / 3)
    assert found["prefill_throughput_per_user"]["max"] == pytest.approx(50 / 0.1)
    assert found["e2e_output_token_throughput"]["max"] == pytest.approx(5 / 0.160)
    assert found["time_to_first_output_token"]["avg"] == pytest.approx(230)
    # From the send of a (10.0 s) to the last content of c (11.3 s).
    assert found["benchmark_duration"] == {"unit": "sec", "avg": pytest.approx(1.3)}
    assert found["request_throughput"]["avg"] == pytest.approx(3 / 1.3)
    assert (found["total_osl"]["avg"], found["total_isl"]["avg"]) == (8, 150)
    assert found["output_token_throughput"]["avg"] == pytest.approx(8 / 1.3)
    assert found["total_token_throughput"]["avg"] == pytest.approx(158 / 1.3)


def test_aiperf_takes_whole_answers_but_not_broken_ones(tmp_path: Path) -> None:
    early = chunked(0, 10.0, [100], role_ms=20, finish_ms=130, outcome="truncated", stream_end="body_end")
    found = aiperf_of(tmp_path, [early, WHOLE])
    assert (found["request_count"]["avg"], found["error_request_count"]["avg"]) == (1, 1)
    assert found["request_latency"]["avg"] == pytest.approx(1000)
    assert "time_to_first_token" not in found
    assert "inter_token_latency" not in found


def test_instants_of_several_workers_are_put_on_one_clock(tmp_path: Path) -> None:
    late = chunked(1, 12.0, [100, 120], role_ms=20, finish_ms=130)
    moved = {name: getattr(late, name) for name in late.__struct_fields__} | {
        "worker": 1,
        "clock_offset_ns": 7_000 * MS,
    }
    for name in ("sent_ns", "first_chunk_ns", "first_content_ns", "last_content_ns", "last_choice_ns", "done_ns"):
        moved[name] -= 7_000 * MS
    assert vllm_of(tmp_path, [A, type(late)(**moved)])["duration"] == pytest.approx(2.135)


def test_rows_whose_chunk_lists_were_not_kept_bring_their_histograms(tmp_path: Path) -> None:
    a = type(A)(**{name: getattr(A, name) for name in A.__struct_fields__} | {"chunk_ns": (), "chunk_bound_ns": ()})
    found = vllm_of(tmp_path, [a, B, C])
    # As in the golden test, but 20 and 40 are known to 1 %.
    assert found["mean_itl_ms"] == pytest.approx(620 / 9, abs=0.6 / 9)
    assert found["mean_itl_ms"] != pytest.approx(620 / 9, abs=1e-6)
    view = aiperf_of(tmp_path, [a, B, C])
    assert view["inter_chunk_latency"]["count"] == 3
    assert view["inter_chunk_latency"]["avg"] == pytest.approx(30, rel=0.01)
    # The lists that are kept are those of slow answers: no figure rather than a wrong one.
    assert "time_to_second_token" not in view


@pytest.mark.parametrize("write", [write_vllm, write_aiperf])
def test_nothing_to_look_at_is_one_clear_line(tmp_path: Path, write: Any) -> None:
    with pytest.raises(RunFolderError, match="measured phase; there is none") as caught:
        write(write_run(tmp_path, [DROPPED, WARMUP]))
    assert "\n" not in str(caught.value)


def test_the_command_names_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, [A, B, C])
    assert cli.main(["join", str(tmp_path)]) == 0
    capsys.readouterr()
    assert cli.main(["report", str(tmp_path), "--compat", "vllm", "--compat", "aiperf"]) == 0
    written = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert written == ["report.html", "vllm-bench.json", "aiperf.json"]
    assert all((tmp_path / name).stat().st_size for name in written)
