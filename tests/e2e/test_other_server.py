"""A server of OpenAI's API that is not ours: what we send is understood, and what it answers is read and timed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Ended, assert_complete
from nginx import free_port, listens

from loadtest.clock import Deadline
from loadtest.jobs.check import check_target
from loadtest.jobs.verdicts import Level
from loadtest.records import Target
from loadtest.traffic.profile import load_profile

READY_S = 30
WORDS = 30
WORD_GAP_S = 0.01  # of fakellm
CONFIG = f"""
version: 1
rules:
  - name: everything
    respond: {{ content: "{" ".join(["word"] * WORDS)}" }}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """fakellm under uvicorn on loopback: one word per chunk, 10 ms apart."""
    config = tmp_path / "fakellm.yaml"
    config.write_text(CONFIG)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "fakellm.server:app", "--port", str(port), "--log-level", "warning"]
    environment = {**os.environ, "FAKELLM_CONFIG": str(config)}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        deadline = Deadline(READY_S)
        while not listens(port):
            assert process.poll() is None and not deadline.over(), "fakellm does not start"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(timeout=READY_S)


def test_a_run_against_it_is_ok_and_timed(server: str, locust: Callable[..., Ended], tmp_path: Path) -> None:
    head, *_, openai = load_profile("smoke").text.split("[[target]]")
    profile = tmp_path / "other.toml"
    profile.write_text(f"{head}[[target]]{openai}")
    result = locust("--headless", "--profile", str(profile), "-t", "5s", "--host", server)
    assert result.code in (0, 4)  # 4 when this machine was too busy to measure
    assert_complete(result, workers=1)
    rows = [row for row in result.rows().to_pylist() if row["outcome"] != "not_reached"]
    assert rows and {row["outcome"] for row in rows} == {"ok"}
    for row in rows:
        assert row["stream_end"] == "done_marker" and row["finish_reason"] == "stop"
        assert row["content_chunks"] == WORDS
        assert row["sent_ns"] < row["first_content_ns"] < row["last_content_ns"] <= row["done_ns"]
        # It sleeps after every word, so the chunks cannot have come closer together than that on the whole.
        assert row["last_content_ns"] - row["first_content_ns"] > (WORDS - 1) * WORD_GAP_S * 1e9 * 0.9
    assert not all(row["connection_new"] for row in rows), "uvicorn keeps connections"


def test_the_check_of_it(server: str) -> None:
    checked = check_target(Target(name="t", route="openai-chat", url=server, model="default", timeout_s=20.0))
    levels = {row.check: row.level for row in checked.rows}
    passed = {"reach", "key", "answer", "stream", "end marker", "cancel", "body limit", "keep-alive"}
    assert {check for check in levels if levels[check] is Level.PASS} >= passed
    # What it does differently: no list of models, no usage in streams, any key, 500 for a broken body.
    for check in ("info", "usage", "wrong key", "malformed"):
        assert levels[check] is Level.WARN
    assert not checked.failed()
