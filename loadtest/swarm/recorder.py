"""The recorder: rows go to the local spool at once, and from there to the collector when it can take them.

Writing never waits for the network: the spool on disk is the queue, and its bound is the disk's. What cannot be
written is counted, and the count makes the run unfit. Data on the wire is numbered by its offset in the spool;
whatever is not acknowledged in time is sent again.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from pathlib import Path
from typing import Any

import gevent
import zmq.green as zmq

from loadtest import spool
from loadtest.clock import Deadline
from loadtest.writers import locked

FRAME_BYTES_MAX = 256 << 10
WINDOW_BYTES_MAX = 4 << 20  # sent and not acknowledged; more would only fill the collector's memory
ACK_WAIT_S = 2.0  # without any acknowledgement for so long, everything open is sent again
POLL_MS = 200
STOPPED_WAIT_S = 5.0

logger = logging.getLogger(__name__)


class Recorder:
    """The spool of one worker and the greenlet that ships it. Made after the fork.

    Without a collector nothing is shipped: the spool stays, for `loadtest collect`.
    """

    def __init__(self, path: Path, collector: str | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_EXCL, 0o600)
        locked(self._file)  # so that nobody takes it for what a worker that ended has left
        self.rows_overflowed = 0
        self._rows_kept = 0
        self._rows_refused = 0
        self._rows_acknowledged = 0
        self._row_ends: deque[int] = deque()  # of finished rows that are not acknowledged: where each ends in the spool
        self._frame_ends: deque[int] = deque()  # where a frame ends at the latest: we know, and need not read, entries
        self._frame_start = 0
        self._written = 0
        self._sent = 0
        self._acknowledged = 0
        self._context = self._shipper = None
        if collector is not None:
            self._context = zmq.Context()
            self._socket = self._context.socket(zmq.DEALER)
            self._socket.setsockopt(zmq.SNDHWM, 64)
            self._socket.connect(collector)
            self._shipper = gevent.spawn(self._ship)

    def write(self, entry: spool.Entry) -> None:
        """Append one entry with one write. A full disk loses this entry, counts it, and keeps the spool readable."""
        data = spool.pack(entry)
        try:
            written = os.write(self._file, data)
        except OSError as error:
            written, reason = 0, error.strerror
        else:
            reason = "disk full"
        if written == len(data):
            if self._written + written - self._frame_start > FRAME_BYTES_MAX and self._written > self._frame_start:
                self._frame_start = self._written
                self._frame_ends.append(self._written)
            self._written += written
            if isinstance(entry, spool.Finished):
                self._rows_kept += 1
                self._row_ends.append(self._written)
            return
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self._written)
        if not self.rows_overflowed:
            logger.error("recorder: %s: %s; rows are lost from here on and the run is unfit", self._path, reason)
        self.rows_overflowed += 1
        self._rows_refused += isinstance(entry, spool.Finished)

    def finish(self, seconds: float) -> bool:
        """Wait until everything is acknowledged, at most so long. The spool file goes only when it is."""
        if self._context is None or self._shipper is None:
            os.fsync(self._file)
            os.close(self._file)
            return True
        deadline = Deadline(seconds)
        while self._acknowledged < self._written and not deadline.over():
            gevent.sleep(0.05)
        complete = self._acknowledged == self._written
        if not complete:
            logger.error(
                "recorder: %d of %d bytes were not acknowledged; they stay in %s",
                self._written - self._acknowledged,
                self._written,
                self._path,
            )
        self._shipper.kill(timeout=STOPPED_WAIT_S)
        self._context.destroy(linger=0)
        os.close(self._file)
        if complete:
            self._path.unlink(missing_ok=True)
        return complete

    def figures(self) -> dict[str, Any]:
        """Bytes, and rows of turns that have ended: in the spool, on their way, known to have arrived."""
        on_the_way = 0
        for end in self._row_ends:  # those that were sent come first, and are no more than the window holds
            if end > self._sent:
                break
            on_the_way += 1
        return {
            "spool": self._path.name,
            "spooled_bytes": self._written,
            "acknowledged_bytes": self._acknowledged,
            "rows_overflowed": self.rows_overflowed,
            "rows_refused": self._rows_refused,
            "rows_spooled": self._rows_kept,
            "rows_sent": self._rows_acknowledged + on_the_way,
            "rows_acknowledged": self._rows_acknowledged,
        }

    def _ship(self) -> None:
        waiting = Deadline(ACK_WAIT_S)
        while True:
            self._send_new()
            if self._socket.poll(POLL_MS):
                self._take_acknowledgements()
                waiting = Deadline(ACK_WAIT_S)
            elif self._sent == self._acknowledged:
                waiting = Deadline(ACK_WAIT_S)
            elif waiting.over():
                self._sent = self._acknowledged
                waiting = Deadline(ACK_WAIT_S)

    def _send_new(self) -> None:
        while self._sent < self._written and self._sent - self._acknowledged < WINDOW_BYTES_MAX:
            while self._frame_ends and self._frame_ends[0] <= self._acknowledged:
                self._frame_ends.popleft()
            end = next((end for end in self._frame_ends if end > self._sent), self._written)
            data = os.pread(self._file, end - self._sent, self._sent)
            if len(data) < end - self._sent:
                return
            frame = [b"F", self._path.name.encode(), self._sent.to_bytes(8, "big"), data]
            try:
                self._socket.send_multipart(frame, zmq.NOBLOCK)
            except zmq.Again:
                return
            self._sent += len(data)

    def _take_acknowledgements(self) -> None:
        while True:
            try:
                message = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(message) != 3 or message[0] != b"A" or message[1] != self._path.name.encode():
                logger.warning("recorder: a message that is no acknowledgement was ignored")
                continue
            received = int.from_bytes(message[2], "big")
            if received > self._acknowledged:
                self._acknowledged = received
                while self._row_ends and self._row_ends[0] <= received:
                    self._row_ends.popleft()
                    self._rows_acknowledged += 1
            elif received < self._sent:
                # The collector met a gap: go on from where it stands.
                self._sent = max(received, self._acknowledged)
