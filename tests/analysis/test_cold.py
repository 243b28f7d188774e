"""Cold effects by hand: who opened a connection, and who met a node first."""

from __future__ import annotations

from pathlib import Path

from loadtest.analysis.join import join_run
from loadtest.analysis.summary import summarise

from .run_factory import NODE_A, NODE_B, T0_NS, ns, task, turn, unsent, write_run


def test_new_connections_and_first_requests_stand_apart(tmp_path: Path) -> None:
    """Turn 3 was sent first of all (in the warm-up, on A), turn 0 first on B; turns 1 and 2 come later on A and B."""

    def opened(seq: int, at_s: float) -> dict[str, object]:
        begun = T0_NS + ns(at_s)
        times = {"connecting_ns": begun, "connected_ns": begun + ns(0.003), "secured_ns": begun + ns(0.012)}
        return {"connection_new": True, **times}

    rows = [
        turn(0, 6, ttft_ms=900, e2e_ms=1000, **opened(0, 6)),
        turn(1, 7, ttft_ms=100, e2e_ms=400),
        turn(2, 8, ttft_ms=120, e2e_ms=500),
        turn(3, 1, ttft_ms=700, e2e_ms=800, phase="warmup", **opened(3, 1)),
        unsent(4, "dropped", 9),
    ]
    tasks = [task(str(i), [node], [f"text{i}"]) for i, node in enumerate((NODE_B, NODE_A, NODE_B, NODE_A))]
    run = write_run(tmp_path, rows, tasks)
    join_run(run)
    found = {row["name"]: row for row in summarise(run)["cold"]}
    assert [(name, row["requests"], row["ttft_ms_p50"]) for name, row in found.items()] == [
        ("new connection", 2, 700),
        ("kept connection", 2, 100),
        ("first request on its node", 2, 700),
        ("later request on its node", 2, 100),
    ]
    new, kept = found["new connection"], found["kept connection"]
    assert (new["connecting_ms_p50"], new["tls_ms_p95"], new["e2e_ms_p95"]) == (3, 9, 1000)
    assert kept["connecting_ms_p50"] is None and kept["n_too_small"]
