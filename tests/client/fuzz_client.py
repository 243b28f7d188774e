"""The suite's checks, driven by coverage: `python tests/client/fuzz_client.py sse|framing|answer [-runs=N]`.

Needs atheris, which is no dependency: install it by name where it is wanted. The documented streams are the seeds.
Further arguments go to libFuzzer; a crash is written to ./crash-*, and `... sse crash-...` runs it again.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["loadtest.client", "anything"]):
    from anything import CHECKS
    from streams import STREAMS

HEADS = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\nno",
    b"HTTP/1.0 200 OK\r\n\r\nold",
)


def main() -> None:
    name = sys.argv.pop(1)
    with tempfile.TemporaryDirectory() as folder:
        seeds = HEADS if name == "framing" else tuple(STREAMS.values())
        for number, seed in enumerate(seeds):
            Path(folder, str(number)).write_bytes(b"\x02\x07\x40" + seed)
        files = [each for each in sys.argv[1:] if not each.startswith("-")]
        atheris.Setup([*sys.argv, *([] if files else [folder])], CHECKS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
