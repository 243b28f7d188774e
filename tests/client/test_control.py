"""The control plane's client: JSON or one line."""

from __future__ import annotations

import threading

import pytest
from scripted import Peer, ScriptedServer, plain

from loadtest.client.control import ControlClient, ControlError

KEY = "control-key-9"


def reply(wire: bytes, seen: list[bytes] | None = None) -> ScriptedServer:
    def script(peer: Peer) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += peer.sock.recv(65536)
        if seen is not None:
            seen.append(head)
        peer.send(wire)

    return ScriptedServer(script)


def client(server: ScriptedServer, **more: float) -> ControlClient:
    return ControlClient(f"http://127.0.0.1:{server.endpoint.port}/", KEY, **more)


def test_json_with_the_key_in_its_header_only() -> None:
    seen: list[bytes] = []
    with reply(plain(b'{"connected_miners":7}'), seen) as server, client(server) as control:
        assert control.get_json("/api/v1/status") == {"connected_miners": 7}
        assert KEY not in repr(control)
    assert seen[0].startswith(b"GET /api/v1/status HTTP/1.1\r\n")
    assert f"authorization: bearer {KEY}".encode() in seen[0].lower()


@pytest.mark.parametrize(
    ("wire", "kind"),
    [
        (b"HTTP/1.1 401 No\r\nContent-Length: 13\r\n\r\n" + KEY.encode(), "auth"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno", "not_found"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno", "status"),
        (b"HTTP/1.1 302 Go\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "status"),
        (plain(b"<html>\n"), "not_json"),
        (plain(b'"\xff"'), "not_json"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "connect"),
        (b"garbage", "connect"),
    ],
)
def test_errors_have_a_kind_and_one_line_without_the_key(wire: bytes, kind: str) -> None:
    with reply(wire) as server, client(server) as control, pytest.raises(ControlError) as caught:
        control.get_json("/a")
    assert caught.value.kind == kind
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "/a" in str(caught.value)


def test_nobody_listens() -> None:
    with ControlClient("http://127.0.0.1:1", None) as control, pytest.raises(ControlError) as caught:
        control.get_json("/a")
    assert caught.value.kind == "connect"


@pytest.mark.parametrize("drips", [False, True])
def test_a_silent_and_a_dripping_server_are_left_at_the_deadline(drips: bool) -> None:
    over = threading.Event()

    def script(peer: Peer) -> None:
        peer.sock.recv(65536)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not over.wait(0.05):
            if drips:
                try:
                    peer.send(b" ")
                except OSError:
                    return

    with ScriptedServer(script) as server, client(server, total_s=0.3) as control:
        with pytest.raises(ControlError) as caught:
            control.get_json("/a")
        over.set()
    assert caught.value.kind == "timeout"
