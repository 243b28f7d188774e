"""What each node did for the requests whose node is known, and where tasks stand: sums for live.json.

The node of a request is decided as `analysis.attribution` decides it (a test compares the two), but at once: from its
look-up, or from a hint of the answer. No row is counted twice, and nothing is kept of a row that is counted.
"""

from __future__ import annotations

from loadtest.observe.parse import ADDRESS_LETTERS_MAX, STATUS_ENDED, TaskFacts
from loadtest.observe.rows import Row
from loadtest.observed import STAGES, Pipeline, Stage
from loadtest.quantiles import LogHistogram
from loadtest.records import Outcome, cancelled_by_member

NODES_MAX = 5_000  # further names are counted, not kept: a hostile answer can hint at a new one every time
_COMPLETED = len(STAGES) - 1


class Served:
    """Sums of one node. Times in ns."""

    __slots__ = ("decode_ns", "decode_tokens", "e2e", "failures", "requests", "ttft")

    def __init__(self) -> None:
        self.requests = self.failures = self.decode_tokens = self.decode_ns = 0
        self.ttft, self.e2e = LogHistogram(), LogHistogram()

    def take(self, row: Row) -> None:
        self.requests += 1
        if row.outcome != Outcome.OK:
            self.failures += not cancelled_by_member(row.outcome, row.error_kind)
            return
        if row.sent_ns is None or row.done_ns is None:
            return
        self.e2e.add(row.done_ns - row.sent_ns)
        if not row.stream or row.first_content_ns is None:
            return
        self.ttft.add(row.first_content_ns - row.sent_ns)
        if row.last_content_ns is not None and (tokens := row.tokens) > 1:
            self.decode_tokens += tokens - 1
            self.decode_ns += row.last_content_ns - row.first_content_ns

    def tokens_per_s(self) -> float | None:
        return round(self.decode_tokens / self.decode_ns * 1e9, 2) if self.decode_ns > 0 else None


class Serving:
    """All nodes of a run. `requests` counts the rows that were sent, `known` those of them that have a node."""

    def __init__(self) -> None:
        self.nodes: dict[str, Served] = {}
        self.requests = self.known = self.looked_up = 0

    def came(self, row: Row, *, will_be_looked_up: bool) -> None:
        """A stored row was read."""
        if row.sent_ns is None:
            return
        self.requests += 1
        if not will_be_looked_up:
            self._count(row, serving_node(row, None))

    def decided(self, row: Row, facts: TaskFacts | None) -> None:
        """The look-up of a row is over, with what it told."""
        if row.sent_ns is None:
            return
        self.looked_up += 1
        self._count(row, serving_node(row, facts))

    def _count(self, row: Row, node: str | None) -> None:
        if node is None:
            return
        served = self.nodes.get(node)
        if served is None:
            if len(self.nodes) >= NODES_MAX:
                return
            served = self.nodes[node] = Served()
        self.known += 1
        served.take(row)


def serving_node(row: Row, facts: TaskFacts | None) -> str | None:
    """The node that served a request, None when nobody can say."""
    hint = (row.node_hint or "").strip().lower()[:ADDRESS_LETTERS_MAX] or None
    if facts is None:
        return hint
    gave, assigned = set(facts.miners), set(facts.assigned)
    involved = gave | assigned
    own = row.text_sha256
    agreed = {
        miner for miner, told in zip(facts.miners, facts.result_sha256, strict=True) if own is not None and told == own
    }
    if len(agreed) == 1:
        return agreed.pop()
    if len(involved) == 1 and (facts.complete or len(assigned) == 1):
        return involved.pop()
    silent = involved - gave
    if row.outcome == Outcome.OK and own is not None and not agreed and len(assigned) > 1 and len(silent) == 1:
        return silent.pop()
    return hint


class Stages:
    """How far the tasks of our requests have come, as look-ups saw them."""

    def __init__(self) -> None:
        self._seen = [LogHistogram() for _ in STAGES]  # age in ns when first seen there or further on
        self._left = [0] * len(STAGES)
        self._took = LogHistogram()  # seconds

    def seen(self, before: int | None, facts: TaskFacts, age_ns: int) -> int | None:
        """A look-up told of a task whose furthest stage so far was `before`; returns its furthest stage now."""
        stage = stage_of(facts)
        if stage is None or (before is not None and stage <= before):
            return before
        for passed in range(0 if before is None else before + 1, stage + 1):
            self._seen[passed].add(max(0, age_ns))
        if stage == _COMPLETED and facts.created_s is not None and facts.finished_s is not None:
            self._took.add(max(0, facts.finished_s - facts.created_s))
        return stage

    def left(self, stage: int | None) -> None:
        """A task will not be asked for any more."""
        if stage is not None:
            self._left[stage] += 1

    def pipeline(self, now: list[int], oldest_ns: list[int]) -> Pipeline:
        """With the tasks that are still asked for: how many in each stage, and the age of the oldest there."""
        return Pipeline(
            tasks=self._seen[0].total(),
            stages=[
                Stage(
                    stage=name,
                    now=now[i],
                    left=self._left[i],
                    reached=self._seen[i].total(),
                    oldest_s=round(oldest_ns[i] / 1e9, 1) if now[i] else None,
                    seen_s_p50=scaled(self._seen[i], 0.50, 1e9),
                    seen_s_p95=scaled(self._seen[i], 0.95, 1e9),
                )
                for i, name in enumerate(STAGES)
            ],
            ended=self._took.total(),
            took_s_p50=scaled(self._took, 0.50, 1.0),
            took_s_p95=scaled(self._took, 0.95, 1.0),
        )


def stage_of(facts: TaskFacts) -> int | None:
    """Index into STAGES; None where the router tells no state, or one that nobody has documented."""
    if facts.finished_s is not None or facts.status == STATUS_ENDED:
        return _COMPLETED
    return facts.status if facts.status is not None and 0 <= facts.status < _COMPLETED else None


def scaled(histogram: LogHistogram, q: float, unit: float) -> float | None:
    """A quantile in another unit, to four digits."""
    value = histogram.quantile(q)
    return None if value is None else float(f"{value / unit:.4g}")
