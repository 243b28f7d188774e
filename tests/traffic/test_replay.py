"""Replay: every row of a real trace at its instant with its tokens, and one clear line for a bad file."""

from __future__ import annotations

import csv
from decimal import Decimal
from itertools import chain
from pathlib import Path

import msgspec
import pytest

from loadtest.traffic.profile import load_profile, parse_profile
from loadtest.traffic.replay import Trace, TraceError
from loadtest.traffic.schedule import Schedule
from loadtest.traffic.tokens import count_tokens, load_encoding

AZURE = Path(__file__).parents[1] / "data" / "azure_conv_500.csv"
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def azure_rows() -> list[tuple[int, int, int]]:
    """(microseconds of the day, context, generated), by decimal arithmetic on the text; the trace stays in one day."""
    rows = []
    with AZURE.open(newline="") as lines:
        for row in csv.DictReader(lines):
            hours, minutes, seconds = row["TIMESTAMP"].split(" ")[1].split(":")
            micros = int((int(hours) * 3600 + int(minutes) * 60 + Decimal(seconds)) * 1_000_000)
            rows.append((micros, int(row["ContextTokens"]), int(row["GeneratedTokens"])))
    return rows


def test_the_azure_sample_is_read_exactly() -> None:
    rows = azure_rows()
    trace = Trace.load(AZURE)
    assert len(rows) == 500
    assert trace.rows() == [(at - rows[0][0], context, generated) for at, context, generated in rows]
    assert Trace.load(AZURE, limit=7).rows() == trace.rows()[:7]
    assert Trace.load(AZURE, limit=9999).rows() == trace.rows()
    fast = Trace.load(AZURE, speed=10)
    assert all(abs(10 * quick - due) < 10 for quick, due in zip(fast.due_us, trace.due_us, strict=True))


def test_a_trace_travels_in_the_plan_as_it_is() -> None:
    trace = Trace.load(AZURE, limit=20)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(trace), type=Trace) == trace
    assert len(trace) == 20


def test_each_row_is_one_request_of_exactly_its_tokens() -> None:
    trace, encoding = Trace.load(AZURE), load_encoding("cl100k_base")
    schedule = Schedule(load_profile("community"), 3, trace)
    stripes = [list(schedule.arrivals(1 << 62, k, 3)) for k in range(3)]
    arrivals = sorted(chain.from_iterable(stripes), key=lambda arrival: arrival.index)
    assert [(a.index, a.due_us) for a in arrivals] == list(enumerate(trace.due_us))
    contents = set()
    for index, (_, context, generated) in enumerate(trace.rows()):
        shape = schedule.shape(index)
        (turn,) = shape.turns
        assert (turn.user_tokens, turn.prompt_tokens, turn.output_tokens_max) == (context, context, generated)
        ((role, content),) = schedule.messages(shape, 0)
        assert role == "user" and count_tokens(encoding, content) == context
        contents.add(content)
    assert len(contents) == 500
    assert schedule.planned_turns(1 << 62) == 500
    half = sum(due < trace.due_us[250] for due in trace.due_us)
    assert schedule.planned_turns(trace.due_us[250]) == half


def test_long_prompts_are_cut_at_the_stated_cap() -> None:
    text = load_profile("community").text.replace("\n[writing]", "\n[writing]\ntrace_prompt_tokens_max = 100")
    schedule = Schedule(
        parse_profile(text, "x.toml"),
        3,
        Trace(due_us=[0, 1, 1], prompt_tokens=[99, 101, 50_000], output_tokens=[5, 6, 7]),
    )
    assert [schedule.shape(i).turns[0].prompt_tokens for i in range(3)] == [99, 100, 100]
    assert load_profile("community").writing.trace_prompt_tokens_max == 16_384


def test_other_columns_zones_blank_lines_and_a_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "\ufeffmodel,GeneratedTokens,TIMESTAMP,ContextTokens\n"
        "m,5,2024-05-10 00:00:00.009930+00:00,2162\n"
        "\n"
        "m,6,2024-05-10T02:00:01+02:00,7\n",
        encoding="utf-8",
    )
    assert Trace.load(path).rows() == [(0, 2162, 5), (990_070, 7, 6)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "row 1: no column TIMESTAMP, ContextTokens, GeneratedTokens; the header must name"),
        ("TIMESTAMP,ContextTokens,Generated\n", "row 1: no column GeneratedTokens; the header must name"),
        (HEADER, "there is no row that can be replayed, name a trace with at least one"),
        (HEADER + "2023-11-16 18:15:46,3\n", "row 2: has 2 fields, the header has 3"),
        (HEADER + "2023-11-16 18:15:46,3,4\nyesterday,3,4\n", "row 3: TIMESTAMP 'yesterday' is not a date and time"),
        (HEADER + "2023-11-16 18:15:46,3.5,4\n", "row 2: ContextTokens must be a whole number >= 1, got '3.5'"),
        (HEADER + "2023-11-16 18:15:46,0,4\n", "row 2: ContextTokens must be a whole number >= 1, got '0'"),
        (HEADER + "2023-11-16 18:15:46,3,-4\n", "row 2: GeneratedTokens must be a whole number >= 1, got '-4'"),
        (HEADER + "2023-11-16 18:15:46,3,\n", "row 2: GeneratedTokens must be a whole number >= 1, got ''"),
        (
            HEADER + "2023-11-16 18:15:46,3,4\n2023-11-16 18:15:45,3,4\n",
            "row 3: is earlier than the row before, sort the file by time",
        ),
    ],
)
def test_a_bad_file_is_one_line_with_its_row(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TraceError) as caught:
        Trace.load(path)
    assert str(caught.value).startswith(f"{path}: {line}") and "\n" not in str(caught.value)


def test_a_file_that_is_no_text_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"none\.csv: cannot be read \(No such file or directory\), name a trace file"):
        Trace.load(tmp_path / "none.csv")
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\xff\x00")
    with pytest.raises(TraceError, match=r"image\.csv: is not text in UTF-8, name a trace file"):
        Trace.load(tmp_path / "image.csv")
    for speed in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(TraceError, match="speed must be a number > 0"):
            Trace.load(AZURE, speed=speed)
    with pytest.raises(TraceError, match="limit must be >= 1, got 0"):
        Trace.load(AZURE, limit=0)
