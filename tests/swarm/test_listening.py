"""What may listen where: beyond this machine only with an encrypted path, a page only with a login too."""

from __future__ import annotations

import pytest

from loadtest.swarm.preflight import EXIT_USAGE, SetupError, check_listening

LOCAL = ["127.0.0.1", "localhost", "::1", "127.0.0.2", None]
OPEN = ["0.0.0.0", "*", "10.1.2.3", "::", "loadgen.example", ""]


@pytest.mark.parametrize("host", LOCAL)
def test_this_machine_may_always_listen_to_itself(host: str | None) -> None:
    check_listening(host, host, host, encrypted="", insecure=False, login=False)


@pytest.mark.parametrize("host", OPEN)
def test_other_machines_need_an_encrypted_path_or_a_word(host: str) -> None:
    for master, web, metrics in ((host, None, None), (None, host, None), (None, None, host)):
        with pytest.raises(SetupError, match="--insecure") as refused:
            check_listening(master, web, metrics, encrypted="", insecure=False, login=True)
        assert refused.value.exit_code == EXIT_USAGE
        check_listening(master, web, metrics, encrypted="wg0", insecure=False, login=True)
        check_listening(master, web, metrics, encrypted="", insecure=True, login=False)


@pytest.mark.parametrize("host", OPEN)
def test_a_page_for_others_needs_a_login_too(host: str) -> None:
    with pytest.raises(SetupError, match="--web-login"):
        check_listening(None, host, encrypted="wg0", insecure=False, login=False)
