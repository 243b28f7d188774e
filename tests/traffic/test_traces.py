"""The other formats of traces: read to the microsecond, with stated bounds, one clear line for what is wrong."""

from __future__ import annotations

import io
import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.traffic import replay, traces
from loadtest.traffic.profile import load_profile
from loadtest.traffic.replay import Trace, TraceError
from loadtest.traffic.schedule import Schedule
from loadtest.traffic.tokens import count_tokens, load_encoding

BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace"
    path.write_text(text, encoding="utf-8")
    return path


def mooncake(*rows: tuple[float, int, int, list[int]]) -> str:
    names = ("timestamp", "input_length", "output_length", "hash_ids")
    return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)


def test_burstgpt_keeps_its_seconds_and_leaves_failures_out(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        BURST + "5,ChatGPT,472,18,490,Conversation log\n"
        "45.25,ChatGPT,1087,230.0,1317,Conversation log\n"
        "45.25,GPT-4,7,8,15,API log\n"
        "46,ChatGPT,0,0,0,Conversation log\n"
        "118,GPT-4,417,276,693,Conversation log\n",
    )
    trace = Trace.load(path)
    assert trace.rows() == [(0, 472, 18), (40_250_000, 1087, 230), (40_250_000, 7, 8), (113_000_000, 417, 276)]
    assert trace.left_out == 1
    assert Trace.load(path, limit=2, speed=2).due_us == [0, 20_125_000]


def test_mooncake_s_equal_ids_are_equal_text_and_all_tokens_are_exact(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        mooncake((0, 1100, 5, [1, 2, 3]), (0, 1024, 6, [1, 2]), (3052.125, 900, 7, [1, 9]), (3053, 40, 8, [4])),
    )
    trace = Trace.load(path)
    assert trace.due_us == [0, 0, 3_052_125, 3_053_000]
    schedule, encoding = Schedule(load_profile("replay-azure"), 3, trace), load_encoding("cl100k_base")
    texts = []
    for index, prompt_tokens in enumerate(trace.prompt_tokens):
        ((role, text),) = schedule.messages(schedule.shape(index), 0)
        assert role == "user" and count_tokens(encoding, text) == prompt_tokens
        texts.append(text)
    tokens = [encoding.encode_ordinary(text) for text in texts]
    assert tokens[0][:1024] == tokens[1], "two blocks in common"
    assert tokens[2][:512] == tokens[0][:512] and tokens[2][512:544] != tokens[0][512:544]
    assert tokens[3][:8] != tokens[0][:8]


def sharegpt(talks: list[list[str]]) -> str:
    speakers = ("human", "gpt")
    return json.dumps(
        [
            {"id": str(n), "conversations": [{"from": speakers[i % 2], "value": text} for i, text in enumerate(talk)]}
            for n, talk in enumerate(talks)
        ]
    )


def test_sharegpt_s_conversations_arrive_as_the_profile_says_and_say_what_was_said(tmp_path: Path) -> None:
    talks = [["What is a node?", "A computer.", "And a router?", "It routes [many] {things}."], ["Hi", "Hello!"]]
    path = written(tmp_path, sharegpt([*talks, ["nobody answers"]]))
    trace = Trace.load(path)
    assert (len(trace), trace.left_out, trace.end_us) == (2, 1, None)
    schedule, encoding = Schedule(load_profile("community"), 3, trace), load_encoding("cl100k_base")
    plain = Schedule(load_profile("community"), 3)
    arrivals = list(schedule.arrivals(600_000_000))
    assert arrivals == list(plain.arrivals(600_000_000))[:2]
    assert sum(len(list(schedule.arrivals(600_000_000, worker, 3))) for worker in range(3)) == 2
    for arrival, talk in zip(arrivals, talks, strict=True):
        shape = schedule.shape(arrival.index)
        assert len(shape.turns) == len(talk) // 2 == schedule.turns_planned(arrival.index)
        last = len(shape.turns) - 1
        said = schedule.messages(shape, last)
        assert [text for role, text in said if role != "system"] == talk[:-1]
        assert [turn.output_tokens_max for turn in shape.turns] == [count_tokens(encoding, a) for a in talk[1::2]]
        assert sum(count_tokens(encoding, text) for _, text in said) == shape.turns[last].prompt_tokens
    with pytest.raises(ValueError, match="conversations have no instants, choose a profile that has a rate"):
        Schedule(load_profile("replay-azure"), 3, trace)


@given(
    st.lists(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5), max_size=8),
    st.integers(1, 40),
)
def test_a_list_read_in_pieces_is_the_list(values: list[Any], size: int) -> None:
    class Pieces(io.StringIO):
        def read(self, most: int | None = -1) -> str:
            return super().read(size)

    text = json.dumps(values, indent=1)
    assert list(traces._elements("t", Pieces(text))) == values
    if values:
        with pytest.raises(TraceError, match="is not a whole JSON list"):
            list(traces._elements("t", Pieces(text[:-1].rstrip())))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (BURST + "x,m,1,1,2,l\n", "row 2: Timestamp must be seconds such as 45 or 45.25, got 'x'"),
        (BURST + "5,m,-1,1,2,l\n", "row 2: Request tokens must be a whole number >= 0, got '-1'"),
        (BURST + "5,m,1,1,2,l\n4,m,1,1,2,l\n", "row 3: is earlier than the row before, sort the file by time"),
        (BURST + "5,m,0,0,0,l\n", "there is no row that can be replayed"),
        ("Timestamp,Request tokens\n1,2\n", "row 1: no column TIMESTAMP, ContextTokens, GeneratedTokens; the header"),
        ('{"timestamp": 0, "input_length": 5}\n', "row 1: Object missing required field `output_length`; a row is"),
        ('{"timestamp": 0, \n', "row 1: Input data was truncated; a row is"),
        ('{"timestamp": -1, "input_length": 5, "output_length": 5}\n', "row 1: timestamp and lengths must be"),
        (mooncake((0, 513, 5, [1])), "row 1: 1 hash_ids of 512 tokens each do not cover 513 tokens"),
        (mooncake((0, 5, 5, [-1])), "row 1: hash_ids must be whole numbers >= 0"),
        (mooncake((5, 5, 5, [1]), (4, 5, 5, [1])), "row 2: is earlier than the row before"),
        (
            mooncake((0, 5, 5, [1])) + '{"timestamp": 0, "input_length": 5, "output_length": 5}\n',
            "some rows have hash_ids and some have none",
        ),
        ("[1]", 'conversation 1: has no list "conversations", as ShareGPT has'),
        ('[{"conversations": []}]', "there is no conversation of a person and a model in it"),
        ('[{"conversations": [', "is not a whole JSON list of conversations"),
        ("[" * 100_000, "is nested too deeply, this is no trace"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_row(tmp_path: Path, text: str, line: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(TraceError) as caught:
        Trace.load(path)
    assert str(caught.value).startswith(f"{path}: {line}"), str(caught.value)
    assert "\n" not in str(caught.value)


class Endless:
    """A file that never ends, and counts what was taken of it."""

    def __init__(self, start: str, again: str) -> None:
        self._file, self._start, self._again = io.StringIO(start), start, again
        self.taken = 0

    def seek(self, _: int) -> None:
        self._file = io.StringIO(self._start)

    def readline(self, most: int) -> str:
        line = self._file.readline(most)
        line = line or (self._again if self._again.endswith("\n") else self._again * most)[:most]
        self.taken += len(line)
        return line

    def read(self, most: int) -> str:
        text = self._file.read(most) or (self._again * most)[:most]
        self.taken += len(text)
        return text


TALK = '{"conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "you"}]}, '


@pytest.mark.parametrize(
    ("start", "again", "line"),
    [
        (BURST, "7,m,3,4,7,l\n", "has more than 3,000 rows, say how many with --limit N"),
        (BURST, "x", "row 2: is longer than 1 MB, this is no trace"),
        ("[", TALK, "of text, say how many with --limit N"),
        ('["', "x", "is not a whole JSON list"),
    ],
)
def test_a_file_without_end_is_not_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch, start: str, again: str, line: str
) -> None:
    monkeypatch.setattr(replay, "ROWS_MAX", 3_000)
    monkeypatch.setattr(replay, "TALK_CHARACTERS_MAX", 1 << 10)
    monkeypatch.setattr(traces, "LINE_CHARACTERS_MAX", 1 << 20)
    monkeypatch.setattr(traces, "READ_CHARACTERS", 1 << 14)
    monkeypatch.setattr(traces, "ELEMENT_CHARACTERS_MAX", 1 << 20)
    file: Any = Endless(start, again)
    with pytest.raises(TraceError, match=line):
        replay._read("endless", file, None, 1.0)
    assert file.taken < 4 << 20
    limited: Any = Endless(start, again)
    if "say how many" in line:
        assert len(replay._read("endless", limited, 10, 1.0)) == 10 and limited.taken < 1 << 16


@given(
    gaps=st.lists(st.integers(0, 10**7), min_size=1, max_size=40), rate=st.sampled_from([0.1, 0.5, 0.75, 1.5, 2.0, 3.3])
)
def test_a_rate_makes_more_or_fewer_rows_in_the_same_time(gaps: list[int], rate: float, tmp_path_factory: Any) -> None:
    instants = [sum(gaps[:row]) for row in range(len(gaps) + 1)]
    rows = [(at_us / 1000, 10 + row, 5, [row]) for row, at_us in enumerate(instants)]
    path = written(tmp_path_factory.mktemp("rate"), mooncake(*rows))
    whole, scaled = Trace.load(path), Trace.load(path, rate=rate)
    assert len(scaled) == math.ceil(Fraction(str(rate)) * len(whole))
    assert scaled.due_us == sorted(scaled.due_us) and scaled.due_us[-1] <= whole.due_us[-1]
    for at_us, prompt_tokens, (block,) in zip(scaled.due_us, scaled.prompt_tokens, scaled.blocks, strict=True):
        row = prompt_tokens - 10  # a copy is its row's, and stands before the next one
        assert block == row and whole.due_us[row] <= at_us <= whole.due_us[min(row + 1, len(gaps))]


def test_twice_the_rate_halves_each_gap(tmp_path: Path) -> None:
    path = written(tmp_path, mooncake(*((at_ms, 9, 9, [1]) for at_ms in (0, 10, 10, 50))))
    assert Trace.load(path, rate=2).due_us == [0, 5_000, 10_000, 10_000, 10_000, 30_000, 50_000, 50_000]
    assert Trace.load(path, rate=0.5).due_us == [0, 10_000]


def test_a_rate_that_cannot_be_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, mooncake((0, 9, 9, [1]), (5, 9, 9, [1])))
    for rate in (0, -1, math.nan, math.inf):
        with pytest.raises(TraceError, match="trace-rate must be a number > 0"):
            Trace.load(path, rate=rate)
    monkeypatch.setattr(replay, "ROWS_MAX", 3)
    with pytest.raises(TraceError, match="4 rows at trace-rate 2, the most are 3; use --limit"):
        Trace.load(path, rate=2)
    talk = '[{"conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "you"}]}]'
    with pytest.raises(TraceError, match="say --request-rate"):
        Trace.load(written(tmp_path, talk), rate=2)
