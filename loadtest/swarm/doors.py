"""What a master opens to others: its ports and its page. Checked before anything is read or started."""

from __future__ import annotations

from locust.env import Environment
from locust.runners import MasterRunner

from loadtest.swarm import preflight
from loadtest.swarm.weblogin import PASSWORD_ENV, USER_ENV, add_login, credentials


def check_doors(environment: Environment) -> None:
    """SetupError when what should not listens beyond this machine, or a login was asked for and none is known."""
    parsed, web_ui = environment.parsed_options, environment.web_ui
    preflight.check_listening(
        parsed.master_bind_host if isinstance(environment.runner, MasterRunner) else None,
        parsed.web_host if web_ui is not None else None,
        parsed.metrics_host if parsed.metrics_port else None,
        encrypted=parsed.encrypted_path,
        insecure=parsed.insecure,
        login=parsed.web_login,
    )
    if web_ui is None or not parsed.web_login:
        return
    known = credentials()
    if known is None:
        text = f"--web-login needs {USER_ENV} and {PASSWORD_ENV} in the environment"
        raise preflight.SetupError(text, preflight.EXIT_USAGE)
    add_login(web_ui, parsed.web_base_path or "", *known)
