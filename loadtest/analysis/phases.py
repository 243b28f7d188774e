"""Where the time of a request went, with k6's names: one function each over the requests frame, one value per row.

A phase is a float in milliseconds, from one instant of the row to the next. NaN means the phase did not happen or did
not end, whatever became of the turn: phases explain latencies and are not censored as those are. Two differences from
k6: a request on a kept connection has no connecting and no tls, where k6 has zeros that pull means down, and blocked
counts from the plan. sending + waiting + receiving is `e2e_ms`, k6's http_req_duration.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from loadtest.analysis.frames import Floats


def blocked_ms(requests: pd.DataFrame) -> Floats:
    """Before anything was done for it: from scheduled until connecting began, or until sent on a kept connection.

    Our own lateness, the name look-up, and the first attempt of a retried request.
    """
    return _between(requests["scheduled_ns"], requests["connecting_ns"].fillna(requests["sent_ns"]))


def connecting_ms(requests: pd.DataFrame) -> Floats:
    """The TCP connection, to the target or to our proxy; addresses that failed before the one that did not included."""
    return _between(requests["connecting_ns"], requests["connected_ns"])


def tls_ms(requests: pd.DataFrame) -> Floats:
    """The TLS handshake, with its turn among other handshakes and the CONNECT of a proxy. Absent without TLS."""
    return _between(requests["connected_ns"], requests["secured_ns"])


def sending_ms(requests: pd.DataFrame) -> Floats:
    """From the first write to the last, or to the headers when they were there before that."""
    return _between(requests["sent_ns"], _written(requests))


def waiting_ms(requests: pd.DataFrame) -> Floats:
    """From the last write to the read that completed the headers; k6 counts to their first byte, which is not kept.

    Routers that stream send the headers at once: this is not the time to first token.
    """
    return _between(_written(requests), requests["headers_ns"])


def receiving_ms(requests: pd.DataFrame) -> Floats:
    """From the headers to the end of the answer."""
    return _between(requests["headers_ns"], requests["done_ns"])


def time_to_headers_ms(requests: pd.DataFrame) -> Floats:
    """From the first write to the headers: sending + waiting."""
    return _between(requests["sent_ns"], requests["headers_ns"])


def _written(requests: pd.DataFrame) -> pd.Series[int]:
    """The last write, never after the headers: a server may answer before it has read everything, or instead."""
    last, headers = requests["sent_last_ns"], requests["headers_ns"]
    answered_first = headers.notna() & (last.isna() | (last > headers).fillna(False))
    written: pd.Series[int] = last.mask(answered_first, headers)
    return written


def _between(earlier: pd.Series[int], later: pd.Series[int]) -> Floats:
    """Subtracted as integers, then turned into ms, as in `metrics`."""
    elapsed: Any = later - earlier
    values: Floats = elapsed.to_numpy(dtype=np.float64, na_value=np.nan)
    return values / 1e6
