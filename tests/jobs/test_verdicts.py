"""Rows of the check that need circumstances no real server brings about on demand: made by hand."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from loadtest.client.answers import Answer, read_answer
from loadtest.client.exchange import Deadlines, End, Endpoint, Exchange, Read
from loadtest.jobs import verdicts
from loadtest.jobs.buffering import streaming
from loadtest.jobs.certificate import look_at_certificate
from loadtest.jobs.probe import with_body
from loadtest.jobs.verdicts import Certificate, Heard, Level

MS = 1_000_000
EVENT = b'data: {"choices":[{"text":"word "}]}\n\n'
DONE = b"data: [DONE]\n\n"


def heard(
    body: bytes = b"",
    *,
    status: int | None = 200,
    end: End = End.COMPLETE,
    reads: tuple[tuple[float, float, int], ...] = (),  # stamp and bound in ms after sent, end in the body
    headers_ms: float = 1,
    done_ms: float = 100,
    error_text: str = "",
    connection_new: bool = True,
) -> Heard:
    made = Exchange(Endpoint("127.0.0.1", 5010), b"", Deadlines(1, 1, 1, 1), 1 << 20)
    made.sent_ns, made.headers_ns, made.done_ns = 0, int(headers_ms * MS), int(done_ms * MS)
    made.status, made.end, made.error_text, made.body = status, end, error_text, body
    made.connection_new = connection_new
    made.headers = [(b"content-type", b"text/event-stream" if EVENT in body else b"application/json")]
    reads = reads or ((headers_ms, 1, len(body)),)
    made.reads = [Read(int(at * MS), int(bound * MS), to, True) for at, bound, to in reads]
    return Heard(made, read_answer(made, stream=EVENT in body))


def stream(pieces: int, per_read: int, gap_ms: float, first_ms: float, bound_ms: float = 1) -> Heard:
    """`pieces` events, `per_read` of them in every read."""
    ends = [len(EVENT) * min(number + per_read, pieces) for number in range(0, pieces, per_read)]
    reads = [(first_ms + gap_ms * number, bound_ms, to) for number, to in enumerate(ends)]
    last_ms = reads[-1][0]
    reads.append((last_ms, 1, pieces * len(EVENT) + len(DONE)))
    return heard(EVENT * pieces + DONE, reads=tuple(reads), headers_ms=first_ms, done_ms=last_ms)


@pytest.mark.parametrize(
    ("answer", "level", "seen"),
    [
        (stream(100, 1, gap_ms=50, first_ms=9_000), Level.PASS, "first text after 9000 ms"),  # a slow node
        (stream(100, 2, gap_ms=20, first_ms=50), Level.PASS, "50 reads"),  # two tokens at a time
        (stream(100, 10, gap_ms=1, first_ms=20), Level.PASS, "10 reads"),  # 10,000 pieces a second
        (stream(100, 100, gap_ms=0, first_ms=5_000), Level.FAIL, "a proxy holds the answer back"),
        (stream(100, 50, gap_ms=2, first_ms=5_000), Level.FAIL, "a proxy holds the answer back"),  # in two reads
        (stream(100, 20, gap_ms=300, first_ms=300), Level.FAIL, "blocks of about 760 bytes, one every 300 ms"),
        (stream(100, 100, gap_ms=0, first_ms=2), Level.CANNOT_TELL, "too fast"),
        (stream(100, 50, gap_ms=900, first_ms=10, bound_ms=850), Level.CANNOT_TELL, "this machine stalled"),
        (stream(3, 1, gap_ms=900, first_ms=10), Level.WARN, "nearly whole"),
    ],
)
def test_a_buffer_is_told_from_a_slow_node(answer: Heard, level: Level, seen: str) -> None:
    assert answer.ok
    row = streaming(answer)
    assert (row.level, seen in row.seen) == (level, True), row


def test_rows_that_need_no_server() -> None:
    refused = heard(status=None, end=End.CONNECT_ERROR, error_text="connection refused")
    assert verdicts.reach(refused) == (
        "reach",
        Level.FAIL,
        "no answer: connect_error connection refused",
        "nothing can be measured; is it running, is the address right?",
    )
    no_tls = heard(status=None, end=End.TLS_ERROR, error_text="handshake failure")
    assert verdicts.reach(no_tls).level is Level.FAIL
    broken = heard(b'{"error":"x"}', status=500)
    assert verdicts.key([broken], "A_KEY", True).level is Level.CANNOT_TELL
    assert verdicts.wrong_key(broken).level is Level.WARN and "HTTP 500" in verdicts.wrong_key(broken).seen
    assert verdicts.error_body("malformed", refused).level is Level.WARN
    assert verdicts.balance(heard(b"<html>", status=404), "/s").level is Level.CANNOT_TELL
    assert verdicts.keep_alive([broken, broken]).level is Level.CANNOT_TELL
    assert verdicts.body_limit(heard(b"<html>", status=504), 1 << 20).level is Level.WARN
    assert verdicts.body_limit(heard(status=None, end=End.TIMEOUT_TOTAL), 1 << 20).level is Level.WARN


def test_only_requests_after_a_good_answer_count_for_keep_alive() -> None:
    good, again = heard(b"{}"), heard(b"{}", connection_new=False)
    cut = heard(b"{}", end=End.TOO_LARGE, connection_new=False)
    assert verdicts.keep_alive([good, again, cut, good]).level is Level.PASS
    assert "1 of 2" in verdicts.keep_alive([good, again, good]).seen


def test_what_a_peer_says_is_shown_without_the_key() -> None:
    told = heard(b'{"error":"no such key: sesame-1"}', status=400)
    assert "sesame" not in Heard(told.exchange, Answer(), "sesame-1").told()
    assert "sesame" not in repr(Heard(told.exchange, Answer(), "sesame-1"))


def test_another_body_in_the_same_request() -> None:
    request = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nA: b\r\n\r\n{}"
    assert with_body(request, b"abc") == b"POST /x HTTP/1.1\r\nHost: h\r\nA: b\r\nContent-Length: 3\r\n\r\nabc"


@pytest.mark.parametrize(
    ("certificate", "level"),
    [
        (Certificate("", 60.0, "TLSv1.3"), Level.PASS),
        (Certificate("", 5.0, "TLSv1.3"), Level.WARN),
        (Certificate("certificate not trusted: expired"), Level.FAIL),
    ],
)
def test_certificates(certificate: Certificate, level: Level) -> None:
    assert verdicts.tls(certificate).level is level


@contextmanager
def tls_server(folder: Path, days: int) -> Iterator[tuple[Endpoint, Path]]:
    """A server that does handshakes and nothing else, and its certificate."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", str(days), "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket_on_loopback()

    def serve() -> None:
        plain, _ = listener.accept()
        plain.settimeout(10)
        with suppress(OSError), context.wrap_socket(plain, server_side=True) as secured:
            secured.recv(1)
        plain.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Endpoint("127.0.0.1", listener.getsockname()[1], True), certificate
    finally:
        thread.join(20)
        listener.close()


def socket_on_loopback() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_a_trusted_certificate_and_its_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_server(tmp_path, days=30) as (endpoint, certificate):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        seen = look_at_certificate(endpoint)
    assert not seen.error
    assert 29 < seen.days_left <= 30
    assert seen.version.startswith("TLSv1.")


def test_an_unknown_certificate(tmp_path: Path) -> None:
    with tls_server(tmp_path, days=30) as (endpoint, _):
        assert look_at_certificate(endpoint).error.startswith("certificate not trusted: self")


def test_nobody_to_shake_hands_with() -> None:
    with socket_on_loopback() as listener:
        endpoint = Endpoint("127.0.0.1", listener.getsockname()[1], True)
    assert look_at_certificate(endpoint).error.startswith("no TLS: ")


def test_what_a_peer_tells_of_itself_is_short_and_on_one_line() -> None:
    told = '{"name": "router\\nloadtest: all is well\\u001b[2J", "version": "' + "9" * 5000 + '"}'
    row = verdicts.info(heard(told.encode()), "/api/v1/info", "")
    assert row.level == Level.PASS and row.seen.isprintable() and len(row.seen) < 200
    models = '{"data": [{"id": "a\\u001b[31mb"}, {"id": "' + "m" * 5000 + '"}]}'
    row = verdicts.info(heard(models.encode()), "/v1/models", "")
    assert row.seen.isprintable() and len(row.seen) < 200
    paid = verdicts.balance(heard(b'{"balance": "7\\u0007"}'), "/api/v1/sessions/1")
    assert paid.seen.isprintable()


def test_a_stream_is_called_one() -> None:
    assert heard(EVENT + DONE).form() == "a stream"
