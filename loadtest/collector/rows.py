"""From spool entries to Parquet parts: what has arrived, what is still open, what is stored.

Pure of sockets. Frames are taken in order of their spool's byte offsets, so that a repeated frame changes nothing
and a gap is noticed at once. At the end the plan is walked and every planned turn that has no row gets one.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Set
from pathlib import Path

from msgspec.structs import replace

from loadtest import runfolder, spool
from loadtest.quantiles import LogHistogram, bucket
from loadtest.records import AnswerText, Outcome, RequestRecord
from loadtest.traffic.plan import PlannedArrival
from loadtest.writers import require_no_writers, sole_writer

PART_ROWS_MAX = 20_000
PART_CHARACTERS_MAX = 32 << 20  # of texts at hand
BODIES_PER_OUTCOME_MAX = 200
FRAME_BYTES_MAX = 1 << 20
CHUNK_LISTS_ROWS_MAX = 200_000  # about 1 GB of lists at 100 chunks a row; beyond it they are kept for a sample
CHUNK_LISTS_SAMPLE = 100  # one row in so many, drawn by its client_reference
SLOW_QUANTILE = 0.99


def recover(run: Path) -> int:
    """Store what the spools of a run that did not end still hold and no part has; return how many rows that is.

    A spool keeps all rows of its worker until the end, so most of them are in the parts already. RunFolderError: a
    collector or a worker of the run is still at work, or a spool is damaged.
    """
    with sole_writer(run):
        require_no_writers(sorted((run / "spool").glob("*.spool")))
        store = RowStore(run, _stored(run, "requests"), _stored(run, "texts"))
        try:
            store.take_leftovers(run / "spool")
        except spool.SpoolError as error:
            raise runfolder.RunFolderError(
                f"{run / 'spool'}: {error}; take the spool away to join without it"
            ) from None
        store.close_open()
        store.flush()
        return store.outcomes.total()


def _stored(run: Path, table: str) -> set[tuple[int, int]]:
    keys = runfolder.read_table(run, table, ["worker", "seq"])
    return set(zip(keys["worker"].to_pylist(), keys["seq"].to_pylist(), strict=True))


class RowStore:
    """Rows of one run on their way into `requests/*.parquet`, and texts into `texts/*.parquet`."""

    def __init__(
        self,
        run: Path,
        stored_before: Set[tuple[int, int]] = frozenset(),
        texts_before: Set[tuple[int, int]] = frozenset(),
    ) -> None:
        self._run = run
        self._stored_before = stored_before  # (worker, seq) of rows that an earlier collector has stored
        self._texts_before = texts_before  # the same of texts
        self._parts = len(runfolder.part_paths(run, "requests"))
        self._ready: list[RequestRecord] = []
        self._text_parts = len(runfolder.part_paths(run, "texts"))
        self._texts: list[AnswerText] = []
        self._text_characters = 0
        self._open: dict[tuple[int, int], RequestRecord] = {}
        self._received: dict[str, int] = {}
        self._bodies: Counter[str] = Counter()
        self._e2e_ns = LogHistogram()
        self._slow_bucket = 0
        self.outcomes: Counter[str] = Counter()
        self._turns_stored: dict[int, int] = {}  # by arrival: bit t is set when turn t has a row

    def take(self, name: str, start: int, data: bytes) -> int:
        """Take one frame of spool `name` that begins at byte `start`; return the byte up to which all is here.

        A frame that begins elsewhere (repeated, or after a lost one) is not used: the answer tells where to go on.
        """
        expected = self._received.get(name, 0)
        if start != expected:
            return expected
        # Everything is decoded before anything is counted, so that a damaged frame leaves no half of itself behind.
        entries = list(spool.unpack(data))
        for entry in entries:
            self._take_entry(entry)
        self._received[name] = start + len(data)
        return start + len(data)

    def take_leftovers(self, folder: Path) -> int:
        """Read what spool files of this machine hold beyond what was sent: rows of a worker that was killed.

        A file goes once it is read; what a killed process left half written at its end cannot be read by anybody.
        """
        taken = 0
        for path in sorted(folder.glob("*.spool")):
            while data := spool.read_from(path, self._received.get(path.name, 0), FRAME_BYTES_MAX):
                self.take(path.name, self._received.get(path.name, 0), data)
                taken += len(data)
            # Not before its rows are on disk elsewhere.
            self.flush()
            path.unlink(missing_ok=True)
        return taken

    def _take_entry(self, entry: spool.Entry) -> None:
        match entry:
            case spool.Started(record):
                self._open[record.worker, record.seq] = record
            case spool.Finished(record):
                self._open.pop((record.worker, record.seq), None)
                self._store(record)
            case spool.Body(worker, seq, outcome, body):
                self._store_body(worker, seq, outcome, body)
            case spool.Text(text):
                self._store_text(text)

    def _store(self, record: RequestRecord) -> None:
        if (record.worker, record.seq) in self._stored_before:
            return
        if record.sent_ns is not None and record.done_ns is not None:
            self._e2e_ns.add(record.done_ns - record.sent_ns)
        if self.outcomes.total() >= CHUNK_LISTS_ROWS_MAX and not self._keeps_chunks(record):
            record = replace(record, chunk_ns=(), chunk_bound_ns=(), chunk_bytes=())
        self._ready.append(record)
        self.outcomes[record.outcome] += 1
        self._turns_stored[record.arrival] = self._turns_stored.get(record.arrival, 0) | 1 << record.turn
        if len(self._ready) >= PART_ROWS_MAX:
            self.flush()

    def _keeps_chunks(self, record: RequestRecord) -> bool:
        """In a long run chunk lists stay for failed and slow requests and for a sample that the seed decides.

        Nothing in a report needs them: the gaps of every row are in its histogram.
        """
        if record.outcome != Outcome.OK or record.sent_ns is None or record.done_ns is None:
            return True
        slow = bucket(record.done_ns - record.sent_ns) > self._slow_bucket
        return slow or zlib.crc32(record.client_reference.encode()) % CHUNK_LISTS_SAMPLE == 0

    def _store_body(self, worker: int, seq: int, outcome: str, body: bytes) -> None:
        if self._bodies[outcome] >= BODIES_PER_OUTCOME_MAX or outcome not in set(Outcome):
            return
        self._bodies[outcome] += 1
        folder = self._run / "bodies" / outcome
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"worker-{worker}-seq-{seq}.bin").write_bytes(body)

    def _store_text(self, text: AnswerText) -> None:
        if (text.worker, text.seq) in self._texts_before:
            return
        self._texts.append(text)
        self._text_characters += len(text.text) + len(text.reasoning) + len(text.tool_calls)
        if self._text_characters >= PART_CHARACTERS_MAX:
            self.flush()

    def flush(self) -> None:
        """Write the rows at hand as one part, and the texts as another."""
        if self._ready:
            path = self._run / "requests" / f"part-{self._parts:06d}.parquet"
            runfolder.write_part(path, self._ready, RequestRecord)
            self._parts += 1
            self._ready = []
            self._slow_bucket = bucket(int(self._e2e_ns.quantile(SLOW_QUANTILE) or 0))
        if self._texts:
            path = self._run / "texts" / f"part-{self._text_parts:06d}.parquet"
            runfolder.write_part(path, self._texts, AnswerText)
            self._text_parts += 1
            self._texts, self._text_characters = [], 0

    def counts(self) -> dict[str, int]:
        """Rows that have come from workers, and rows that are in Parquet."""
        return {"received": self.outcomes.total(), "stored": self.outcomes.total() - len(self._ready)}

    def close_open(self) -> int:
        """Turns that were started and never heard of again are stored as `lost`; return how many."""
        still_open = list(self._open.values())
        self._open.clear()
        for record in still_open:
            self._store(record)
        return len(still_open)

    def fill_missing(
        self, planned: Iterable[PlannedArrival], row_of: Callable[[PlannedArrival], RequestRecord]
    ) -> tuple[int, int]:
        """Store a row for every planned turn that has none; return how many turns were planned, and how many filled.

        `row_of` gives the row of an arrival's first turn. The first missing turn of an arrival is `lost`, those behind
        it are `not_reached`, unless a later turn has a row: then they were sent, and a full disk took their rows. A
        filled row has a negative seq: its worker never gave it one, or nobody knows it any more.
        """
        total = filled = 0
        for one in planned:
            total += one.turns
            stored = self._turns_stored.get(one.arrival, 0)
            missing = [turn for turn in range(one.turns) if not stored >> turn & 1]
            for turn in missing:
                filled += 1
                outcome = Outcome.LOST if turn == missing[0] or stored >> turn else Outcome.NOT_REACHED
                row = row_of(one)
                self._store(replace(row, turn=turn, outcome=outcome.value, seq=-filled, client_reference=""))
        return total, filled
