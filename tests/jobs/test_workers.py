"""`loadtest workers`: what is printed can be pasted, and --check tells what is wrong with a machine."""

from __future__ import annotations

import shlex
import socket
from pathlib import Path

import pytest

from loadtest.cli import main
from loadtest.jobs import workers
from loadtest.swarm.versions import deciding_versions


def test_the_printed_commands_are_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["workers", "--master", "10.77.0.1", "--count", "4", "--profile", "smoke"]) == 0
    text = capsys.readouterr().out
    lines = [shlex.split(line) for line in text.replace("\\\n", "").splitlines() if line and not line.startswith("#")]
    master = next(words for words in lines if "--master" in words and "--headless" in words)
    assert (
        master[master.index("--expect-workers") + 1] == "4"
        and master[master.index("--master-bind-host") + 1] == "10.77.0.1"
    )
    assert any("--worker" in words and words[-1] == "10.77.0.1" for words in lines)
    assert f"numpy=={deciding_versions()['numpy']}" in text and "LOADTEST_API_KEY" in text
    check = next(words for words in lines if "--check" in words)
    # The printed check passes here in all but the way to the master.
    assert check[check.index("--versions") + 1] == workers.versions_text()


def test_this_machine_is_as_the_master_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(workers, "MASTER_PORT", server.getsockname()[1])
        assert main(["workers", "--check", "--versions", workers.versions_text()]) == 0
    assert capsys.readouterr().out.count("ok  ") == 4


def test_what_is_wrong_is_said_line_by_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(workers, "MASTER_PORT", port)
    versions = workers.versions_text().replace("faker=", "faker=9")
    assert main(["workers", "--check", "--profile", "no-such", "--versions", versions]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert [line.split()[1].rstrip(":") for line in failed] == ["versions", "profile", "master"]
    assert "faker 9" in failed[0] and "is the tunnel up?" in failed[2]


def test_the_locustfile_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["workers", "--locustfile"]) == 0
    assert Path(capsys.readouterr().out.strip()).name == "locustfile.py"
