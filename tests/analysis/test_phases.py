"""Phases against rows by hand, and their sums against the latencies they explain."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from loadtest.analysis import metrics, phases
from loadtest.records import RequestRecord

from .run_factory import failed, frame, turn, unsent

NAMES = ("blocked", "connecting", "tls", "sending", "waiting", "receiving", "time_to_headers")


def row(seq: int = 0, **at_ms: float | None) -> RequestRecord:
    """A row whose instants are given in ms after its scheduled instant; done at 950 unless said otherwise."""
    made = turn(seq, lag_ms=100, e2e_ms=850)
    instants: dict[str, Any] = {
        f"{name}_ns": None if ms is None else made.scheduled_ns + round(ms * 1e6) for name, ms in at_ms.items()
    }
    return replace(made, **instants)


def all_of(folder: Path, *rows: RequestRecord) -> list[dict[str, float]]:
    requests = frame(folder, rows)
    columns = {name: getattr(phases, f"{name}_ms")(requests) for name in NAMES}
    return [{name: float(columns[name][index]) for name in NAMES} for index in range(len(rows))]


def test_a_first_request_over_tls(tmp_path: Path) -> None:
    first = row(connecting=10, connected=30, secured=99, sent=100, sent_last=103, headers=250, done=950)
    assert all_of(tmp_path, first) == [
        {
            "blocked": 10.0,
            "connecting": 20.0,
            "tls": 69.0,
            "sending": 3.0,
            "waiting": 147.0,
            "receiving": 700.0,
            "time_to_headers": 150.0,
        }
    ]


def test_a_kept_connection_has_no_connecting_and_no_tls(tmp_path: Path) -> None:
    (found,) = all_of(tmp_path, row(sent=4, sent_last=5, headers=50))
    assert found["blocked"] == 4
    assert math.isnan(found["connecting"]) and math.isnan(found["tls"])


@pytest.mark.parametrize("sent_last", [80, None])
def test_an_answer_before_the_last_write_ends_sending(tmp_path: Path, sent_last: float | None) -> None:
    (found,) = all_of(tmp_path, row(sent=10, sent_last=sent_last, headers=50))
    assert (found["sending"], found["waiting"], found["time_to_headers"]) == (40, 0, 40)


def test_what_did_not_happen_is_absent_and_what_did_is_kept(tmp_path: Path) -> None:
    refused = replace(failed(0, "connect_error"), sent_ns=None, sent_last_ns=None)
    refused = replace(refused, connecting_ns=refused.scheduled_ns + 2_000_000)
    silent = failed(1, "client_timeout", lag_ms=3)
    dropped = unsent(2, "dropped")
    found = all_of(tmp_path, refused, silent, dropped)
    assert [known(each) for each in found] == [{"blocked": 2.0}, {"blocked": 3.0, "sending": 0.0}, {}]


def known(found: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in found.items() if not math.isnan(value)}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 1000)] * 4), min_size=1, max_size=8))
def test_they_add_up_to_the_service_time(instants: list[tuple[float, float, float, float]]) -> None:
    rows = []
    for seq, (sent, sent_last, headers, done) in enumerate(instants):
        first, *_, last = sorted((sent, sent_last, headers, done))
        rows.append(row(seq, sent=first, sent_last=sent_last, headers=headers, done=last))
    with tempfile.TemporaryDirectory() as folder:
        requests = frame(Path(folder), rows)
    sending, waiting, receiving = (
        phase(requests) for phase in (phases.sending_ms, phases.waiting_ms, phases.receiving_ms)
    )
    assert (sending >= 0).all() and (waiting >= 0).all() and (receiving >= 0).all()
    np.testing.assert_allclose(sending + waiting + receiving, metrics.e2e_ms(requests), atol=1e-9)
    np.testing.assert_allclose(sending + waiting, phases.time_to_headers_ms(requests), atol=1e-9)
