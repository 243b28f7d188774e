"""What several tests of the client share: a reactor that must end clean, an authority, trust in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from certificates import Authority

from loadtest.client.reactor import Reactor
from loadtest.client.secure import tls_context


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor()
    yield made
    figures = made.figures()
    made.close()
    assert figures["passes_failed"] == 0
    assert figures["errors_unexpected"] == 0
    assert figures["in_flight"] == 0


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    """The authority, named by SSL_CERT_FILE as a user would; the process's one context is made anew around it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    tls_context.cache_clear()
    yield authority
    tls_context.cache_clear()
