"""The command line: wrong use is one line, and nothing is left behind."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtest.simulator.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nodes", "0"], "must be 1 to 500, got 0"),
        (["--speed", "-1"], "must be 0.01 to 1000, got -1"),
        (["--port", "70000"], "must be 0 to 65535, got 70000"),
        (["--api-key-env", "NO_SUCH_VARIABLE"], "the variable is not set"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_taken_port_is_one_line_and_leaves_no_truth_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port), "--truth", str(tmp_path / "truth.parquet")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"127.0.0.1:{port}" in line
    assert "another --port" in line
    assert not (tmp_path / "truth.parquet").exists()


def test_a_truth_log_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "part-00000.parquet").write_bytes(b"old")
    assert main(["--port", "0", "--truth", str(tmp_path)]) == 1
    assert "exists already" in capsys.readouterr().err


def test_the_port_file_holds_the_port(start: Any, tmp_path: Path) -> None:
    simulator = start("--port-file", str(tmp_path / "port"))
    assert (tmp_path / "port").read_text() == f"{simulator.port}\n"
    assert simulator.stop() == 0


def test_the_serving_process_loads_no_arrow() -> None:
    code = (
        "import sys, loadtest.simulator.__main__, loadtest.simulator.truth; "
        "print([m for m in ('pyarrow', 'pandas', 'numpy', 'gevent', 'locust') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
