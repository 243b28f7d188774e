"""Proxies of the environment: which target goes through which, and what they hear. All of it on this machine."""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from certificates import Authority
from exchanges import call, started
from scripted import PATIENT, Peer, ScriptedServer, plain, request

from loadtest.client.answers import Answer
from loadtest.client.control import ControlClient, ControlError
from loadtest.client.exchange import Deadlines, End, Ended, Endpoint, Exchange
from loadtest.client.outcomes import finish
from loadtest.client.proxies import proxy_for
from loadtest.client.reactor import Reactor

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
NAME = "router.example"  # no resolver knows it: only the proxy can


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("environ", "url", "expected"),
    [
        ({}, "http://a.example", None),
        ({"http_proxy": "http://p:3128"}, "http://a.example", ("p", 3128)),
        ({"HTTP_PROXY": "p:3128"}, "http://a.example", ("p", 3128)),
        ({"http_proxy": "http://p"}, "http://a.example", ("p", 80)),
        ({"http_proxy": "http://low:1", "HTTP_PROXY": "http://up:2"}, "http://a.example", ("low", 1)),
        ({"http_proxy": " ", "ALL_PROXY": "http://all:2"}, "http://a.example", ("all", 2)),
        ({"http_proxy": "http://p:3128"}, "https://a.example", None),
        ({"https_proxy": "http://[::2]:3128"}, "https://a.example", ("::2", 3128)),
        ({"all_proxy": "http://p:1", "no_proxy": "b.example, a.example"}, "http://a.example", None),
        ({"all_proxy": "http://p:1", "NO_PROXY": ".example"}, "http://a.example", None),
        ({"all_proxy": "http://p:1", "no_proxy": "*.Example"}, "http://A.EXAMPLE.", None),
        ({"all_proxy": "http://p:1", "no_proxy": "xample"}, "http://a.example", ("p", 1)),
        ({"all_proxy": "http://p:1", "no_proxy": "*"}, "http://a.example", None),
        ({"all_proxy": "http://p:1", "no_proxy": "a.example:8080"}, "http://a.example:8080", None),
        ({"all_proxy": "http://p:1", "no_proxy": "a.example:8081"}, "http://a.example:8080", ("p", 1)),
        ({"all_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, "http://10.1.2.3", None),
        ({"all_proxy": "http://p:1", "no_proxy": "10.0.0.0/8,fd00::/8"}, "http://[fd00::7]", None),
        ({"all_proxy": "http://p:1", "no_proxy": "[fd00::7]:80"}, "http://[fd00::7]", None),
        ({"all_proxy": "http://p:1", "no_proxy": "10.0.0.0/8,fd00::7,x/y"}, "http://11.1.2.3", ("p", 1)),
        ({"all_proxy": "http://p:1"}, "http://localhost", None),
        ({"all_proxy": "http://p:1"}, "http://127.3.2.1", None),
        ({"all_proxy": "http://p:1"}, "http://[::1]", None),
    ],
)
def test_which_proxy(environ: dict[str, str], url: str, expected: tuple[str, int] | None) -> None:
    parts = urlsplit(url)
    found = proxy_for(Endpoint(parts.hostname or "", parts.port or 80, parts.scheme == "https"), environ)
    assert (None if found is None else (found.endpoint.host, found.endpoint.port)) == expected


@pytest.mark.parametrize("url", ["socks5://user:hunter2@p:1", "http://user:hunter2@p:port", "http://:1", "https://p:1"])
def test_a_proxy_we_cannot_use_is_told_without_its_password(url: str) -> None:
    with pytest.raises(Ended) as caught:
        proxy_for(Endpoint("a.example", 80), {"ALL_PROXY": url})
    assert (caught.value.end, caught.value.kind) == (End.PROXY_ERROR, "proxy_unsupported")
    assert "ALL_PROXY" in caught.value.text and "hunter2" not in caught.value.text


def test_the_password_is_in_no_repr() -> None:
    found = proxy_for(Endpoint("a.example", 80), {"http_proxy": "http://us%65r:p%40ss@p:1"})
    assert found is not None
    assert found.authorization == "Basic dXNlcjpwQHNz"
    assert found.authorization not in repr(found)


def head_of(peer: Peer) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = peer.sock.recv(1)
        if not part:
            return b""
        head += part
    return head


def ask(endpoint: Endpoint, body: bytes = b"{}", deadlines: Deadlines = PATIENT) -> tuple[Exchange, str, str]:
    reactor = Reactor()
    made = Exchange(endpoint, request(body), deadlines, 1 << 20)
    reactor.run(made)
    reactor.close()
    record = finish(started(), call(), made, Answer(), None)
    return made, record.outcome, record.error_kind


def test_a_plain_request_names_its_target_to_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        while head := head_of(peer):
            heads.append(head)
            peer.sock.recv(2)
            peer.send(plain(b"hello"))

    with ScriptedServer(script) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:word@127.0.0.1:{proxy.endpoint.port}")
        reactor = Reactor()
        made = [Exchange(Endpoint(NAME, 5010), request(), PATIENT, 1000) for _ in range(2)]
        for each in made:
            reactor.run(each)
        reactor.close()
        assert proxy.connections == 1
    assert [each.body for each in made] == [b"hello"] * 2
    first = b"POST http://router.example:5010/x HTTP/1.1\r\nProxy-Authorization: Basic dXNlcjp3b3Jk\r\nHost: t\r\n"
    assert all(head.startswith(first) for head in heads) and len(heads) == 2


def relay(peer: Peer, target: Endpoint) -> None:
    """Bytes both ways until one side closes."""
    with socket.create_connection((target.host, target.port)) as beyond, suppress(ConnectionResetError):
        while True:
            for ready in select.select([peer.sock, beyond], [], [], 10)[0]:
                data = ready.recv(65536)
                if not data:
                    return
                (beyond if ready is peer.sock else peer.sock).sendall(data)


@pytest.mark.parametrize("slowly", [False, True])
def test_tls_goes_through_a_tunnel(monkeypatch: pytest.MonkeyPatch, trusted: Authority, slowly: bool) -> None:
    heads: list[bytes] = []

    def hello(peer: Peer) -> None:
        while body := peer.read_request():
            peer.send(plain(body))

    certificate = trusted.server("named", f"subjectAltName=DNS:{NAME}")
    with ScriptedServer(hello, tls=certificate) as target:

        def script(peer: Peer) -> None:
            heads.append(head_of(peer))
            answer = b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n"
            for part in [answer[at : at + 1] for at in range(len(answer))] if slowly else [answer]:
                peer.send(part)
            relay(peer, target.endpoint)

        with ScriptedServer(script) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:word@127.0.0.1:{proxy.endpoint.port}")
            reactor = Reactor()
            made = [Exchange(Endpoint(NAME, 443, True), request(b"n%d" % n), PATIENT, 1000) for n in range(2)]
            for each in made:
                reactor.run(each)
            reactor.close()
    assert [each.body for each in made] == [b"n0", b"n1"]
    assert [each.connection_new for each in made] == [True, False]
    assert heads == [
        b"CONNECT router.example:443 HTTP/1.1\r\nHost: router.example:443\r\n"
        b"Proxy-Authorization: Basic dXNlcjp3b3Jk\r\n\r\n"
    ]


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "proxy_407", "Authentication Required"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno", "proxy_502", "502 Bad Gateway"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "proxy_bad_answer", "does not answer CONNECT"),
        (b"x" * 20_000, "proxy_bad_answer", "no end"),
        (b"HTTP/1.1 200", "proxy_closed", "closed"),
    ],
)
def test_a_tunnel_that_does_not_open(
    monkeypatch: pytest.MonkeyPatch, trusted: Authority, answer: bytes, kind: str, says: str
) -> None:
    def script(peer: Peer) -> None:
        head_of(peer)
        peer.send(answer)

    with ScriptedServer(script) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.endpoint.port}")
        made, *told = ask(Endpoint(NAME, 443, True))
    assert told == ["proxy_error", kind]
    assert says in made.error_text and made.sent_ns is None


def test_a_plain_proxy_that_wants_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
        peer.wait_closed()

    with ScriptedServer(script) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.endpoint.port}")
        assert ask(Endpoint(NAME, 80))[1:] == ("proxy_error", "proxy_407")


def test_proxies_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    made, *told = ask(Endpoint(NAME, 80))
    assert told == ["proxy_error", "proxy_connect"]
    assert made.error_text == f"proxy 127.0.0.1:{port}: Connection refused"
    monkeypatch.setenv("http_proxy", "http://" + "a" * 70 + ".invalid:80")
    assert ask(Endpoint(NAME, 80))[1:] == ("proxy_error", "proxy_dns")
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    assert ask(Endpoint(NAME, 80))[1:] == ("proxy_error", "proxy_unsupported")


def test_this_machine_is_reached_straight(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(plain(b"straight"))
        peer.wait_closed()

    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
    with ScriptedServer(script) as server:
        assert ask(server.endpoint)[0].body == b"straight"


def test_control_goes_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        heads.append(head_of(peer))
        peer.send(plain(b"7", b"Connection: close\r\n"))

    with ScriptedServer(script) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:word@127.0.0.1:{proxy.endpoint.port}")
        with ControlClient(f"http://{NAME}:5010", None) as control:
            assert control.get_json("/a") == 7
    assert heads[0].startswith(b"GET http://router.example:5010/a HTTP/1.1\r\n")
    assert b"proxy-authorization: basic dxnlcjp3b3jk" in heads[0].lower()
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    with (
        ControlClient(f"http://{NAME}:5010", None) as control,
        pytest.raises(ControlError, match=r"connect: .*http_proxy is not an address"),
    ):
        control.get_json("/a")
