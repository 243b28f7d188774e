"""--save-text: what an answer said, as an entry of the spool, and from there into the run folder."""

from __future__ import annotations

import json
from pathlib import Path

from made_rows import made_row

from loadtest import runfolder, spool
from loadtest.client.answers import Answer, Piece, ToolCall
from loadtest.collector.rows import RowStore, recover
from loadtest.records import AnswerText, RequestRecord
from loadtest.swarm.turns import TEXT_CHARACTERS_MAX, text_of


def record(seq: int) -> RequestRecord:
    return made_row(seq, worker=3)


def answer(text: str = "", reasoning: str = "") -> Answer:
    return Answer(pieces=[Piece(text, reasoning, True, 0)], text=text)


def test_text_reasoning_and_tool_calls_are_kept_apart() -> None:
    said = answer("<think>a</think>b", "r")
    said.tool_calls = {0: ToolCall("id1", "f", ['{"x":', "1}"])}
    kept = text_of(record(7), said, None)
    assert (kept.worker, kept.seq, kept.text, kept.reasoning) == (3, 7, "<think>a</think>b", "r")
    assert json.loads(kept.tool_calls) == [{"id": "id1", "name": "f", "arguments": '{"x":1}'}]
    assert text_of(record(7), answer("a"), None).tool_calls == ""


def test_the_largest_text_fits_into_an_entry() -> None:
    wide = "\U0001f600" * (TEXT_CHARACTERS_MAX + 1)
    said = answer(wide, wide)
    said.tool_calls = {0: ToolCall(wide, wide, [wide])}
    entry = spool.Text(text_of(record(0), said, None))
    assert len(entry.record.text) == len(entry.record.reasoning) == len(entry.record.tool_calls) == TEXT_CHARACTERS_MAX
    packed = spool.pack(entry)
    assert len(packed) < spool.ENTRY_BYTES_MAX
    assert list(spool.unpack(packed)) == [entry]


def test_the_collector_writes_them_beside_the_rows(tmp_path: Path) -> None:
    texts = [AnswerText(worker=3, seq=seq, text=f"héllo {seq}", reasoning="r") for seq in range(3)]
    frame = b"".join(spool.pack(spool.Finished(record(each.seq))) + spool.pack(spool.Text(each)) for each in texts)
    store = RowStore(tmp_path)
    store.take("w.spool", 0, frame)
    store.flush()
    # The collector was started again: it goes on behind the parts that are there.
    again = RowStore(tmp_path)
    again.take("w.spool", 0, spool.pack(spool.Text(texts[0])))
    again.flush()
    assert [path.name for path in runfolder.part_paths(tmp_path, "texts")] == [
        "part-000000.parquet",
        "part-000001.parquet",
    ]
    rows = runfolder.read_table(tmp_path, "texts").to_pylist()
    assert [(row["seq"], row["text"]) for row in rows] == [
        (0, "héllo 0"),
        (1, "héllo 1"),
        (2, "héllo 2"),
        (0, "héllo 0"),
    ]
    assert len(runfolder.read_table(tmp_path, "requests")) == 3


def test_texts_of_a_collector_that_died_are_recovered_once(tmp_path: Path) -> None:
    texts = [AnswerText(worker=3, seq=seq, text="t") for seq in range(2)]
    frames = [spool.pack(spool.Finished(record(each.seq))) + spool.pack(spool.Text(each)) for each in texts]
    store = RowStore(tmp_path)
    store.take("w.spool", 0, frames[0])
    store.flush()
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "w.spool").write_bytes(b"".join(frames))
    assert recover(tmp_path) == 1
    assert sorted(row["seq"] for row in runfolder.read_table(tmp_path, "texts").to_pylist()) == [0, 1]


def test_a_key_that_the_router_repeats_is_struck_out() -> None:
    kept = text_of(record(1), answer("your key is sk-123, keep it"), "sk-123")
    assert kept.text == "your key is <secret>, keep it"
