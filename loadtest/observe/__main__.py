"""`python -m loadtest.observe --run RUN [--host URL]`: watch the network while a run goes on.

Ends by itself when the manifest's state is no longer "running" and the look-ups are done or past their deadline, or
when the process that started it is gone. SIGTERM: write what there is and exit 0.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from loadtest.observe.watch import Watch
from loadtest.processes import stand_back
from loadtest.runfolder import RunFolderError


def main(argv: Sequence[str] | None = None) -> int:
    """0 when observed to the end or told to stop, 1 when the run folder cannot be read or written, 2 on usage."""
    parser = argparse.ArgumentParser(prog="loadtest observe", description="Watch the network while a run goes on.")
    parser.add_argument("--run", required=True, type=Path, metavar="FOLDER", help="the run folder, with its manifest")
    parser.add_argument(
        "--host",
        metavar="URL",
        help="where /leaderboard and /reputation are asked (default: the run's host); "
        "router status and tasks are asked at each target's own URL",
    )
    arguments = parser.parse_args(argv)
    if arguments.host is not None and not arguments.host.startswith(("http://", "https://")):
        parser.error(f"--host {arguments.host}: must begin with http:// or https://")
    try:
        watch = Watch(arguments.run, arguments.host, os.environ)
        _heed_signals(watch)
        watch.watch()
    except RunFolderError as error:
        print(f"observe: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"observe: {arguments.run}: cannot be written ({error}); free the disk or mend its rights", file=sys.stderr
        )
        return 1
    return 0


def _heed_signals(watch: Watch) -> None:
    """SIGTERM stops. Ctrl-C reaches the whole terminal: the load's own end is waited for, a second one stops."""

    def interrupted(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, lambda number, frame: watch.stop())

    if threading.current_thread() is not threading.main_thread():
        return  # Python allows signal handlers in the main thread only; whoever runs us in another has its own

    signal.signal(signal.SIGTERM, lambda number, frame: watch.stop())
    signal.signal(signal.SIGINT, interrupted)


if __name__ == "__main__":
    stand_back()
    sys.exit(main())
