"""The recorder against a real collector process: everything arrives once, whatever happens between."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from made_rows import made_row

from loadtest import runfolder, spool
from loadtest.records import RequestRecord
from loadtest.swarm.recorder import WINDOW_BYTES_MAX, Recorder

ROWS = 6000  # more bytes than the recorder sends ahead


class CollectorProcess:
    def __init__(self, run: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtest.collector", "--run", str(run)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = f"tcp://127.0.0.1:{self._say()['port']}"

    def _say(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said

    def close(self) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        account: dict[str, Any] = self._say()["account"]
        self._process.stdout.close()
        assert self._process.wait(timeout=20) == 0
        return account

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate(timeout=20)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[CollectorProcess]:
    process = CollectorProcess(tmp_path)
    yield process
    process.end()


def row(seq: int) -> RequestRecord:
    return made_row(seq, chunk_ns=tuple(range(200)))


def test_every_row_is_stored_and_the_spool_goes(tmp_path: Path, collector: CollectorProcess) -> None:
    path = tmp_path / "spool" / "worker-0-1.spool"
    recorder = Recorder(path, collector.address)
    for seq in range(ROWS):
        recorder.write(spool.Started(row(seq)))
        recorder.write(spool.Finished(row(seq)))
    assert recorder.finish(30)
    assert not path.exists()
    figures = recorder.figures()
    assert figures["spooled_bytes"] == figures["acknowledged_bytes"] > WINDOW_BYTES_MAX
    account = collector.close()
    assert account["rows"] == ROWS and account["open_rows"] == 0 and account["damaged_frames"] == 0
    seqs = runfolder.read_table(tmp_path, "requests", ["seq"])["seq"].to_pylist()
    assert sorted(seqs) == list(range(ROWS))


def test_without_a_collector_the_rows_stay_in_the_spool(tmp_path: Path) -> None:
    path = tmp_path / "spool" / "worker-0-1.spool"
    recorder = Recorder(path, "tcp://127.0.0.1:9")  # the discard port: nobody answers
    recorder.write(spool.Finished(row(0)))
    assert not recorder.finish(0.3)
    assert list(spool.unpack(path.read_bytes())) == [spool.Finished(row(0))]


def test_a_lost_frame_is_sent_again(tmp_path: Path) -> None:
    """A collector that throws the first frame away and answers the second with the offset it still expects."""
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    recorder = Recorder(tmp_path / "worker-0-1.spool", f"tcp://127.0.0.1:{port}")
    try:
        import gevent

        def next_frame() -> list[bytes]:
            with gevent.Timeout(20):
                while not router.poll(0):
                    gevent.sleep(0.01)
            return router.recv_multipart()

        recorder.write(spool.Finished(row(0)))
        assert int.from_bytes(next_frame()[3], "big") == 0  # lost
        recorder.write(spool.Finished(row(1)))
        sender, _, name, start, _ = next_frame()
        assert int.from_bytes(start, "big") > 0
        router.send_multipart([sender, b"A", name, (0).to_bytes(8, "big")])
        sender, _, name, start, data = next_frame()
        assert int.from_bytes(start, "big") == 0
        assert [entry.record.seq for entry in spool.unpack(data)] == [0, 1]
        router.send_multipart([sender, b"A", name, len(data).to_bytes(8, "big")])
        assert recorder.finish(10)
    finally:
        context.destroy(linger=0)


def test_a_full_disk_is_counted_and_the_spool_stays_readable(tmp_path: Path) -> None:
    """The file-size limit stands in for a full disk: the write is cut in the middle of an entry."""
    code = f"""
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, "..")
from test_recorder import row
from loadtest import spool
from loadtest.swarm.recorder import Recorder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
recorder = Recorder(Path({str(tmp_path)!r}) / "worker-0-1.spool", "tcp://127.0.0.1:9")
size = len(spool.pack(spool.Finished(row(0))))
resource.setrlimit(resource.RLIMIT_FSIZE, (size + size // 2, size + size // 2))
for seq in range(3):
    recorder.write(spool.Finished(row(seq)))
print(recorder.figures()["rows_overflowed"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent, timeout=60
    )
    assert done.stdout.strip() == "2", done.stderr
    assert "rows are lost from here on" in done.stderr
    assert list(spool.unpack((tmp_path / "worker-0-1.spool").read_bytes())) == [spool.Finished(row(0))]
