"""The login of Locust's web page: without it a request gets nothing, and the log says who tried.

`--web-login` alone makes Locust ask for a login and know no user. Name and password come from the environment only.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
from typing import TYPE_CHECKING

from flask import Response, redirect, request, session
from flask_login import UserMixin, current_user, login_user

if TYPE_CHECKING:
    from locust.web import WebUI

USER_ENV = "LOADTEST_WEB_USER"
PASSWORD_ENV = "LOADTEST_WEB_PASSWORD"
TRIED_NAME_MAX = 40
OPEN_ENDPOINTS = {"locust.login", "locust.send_assets", "loadtest_login"}  # the form itself, and what draws it

logger = logging.getLogger(__name__)


class _User(UserMixin):  # type: ignore[misc]  # flask_login is Any to mypy
    def __init__(self, name: str) -> None:
        self.id = name


def credentials() -> tuple[str, str] | None:
    """Name and password of the page's one user; None when the environment has not both."""
    name, password = os.environ.get(USER_ENV, ""), os.environ.get(PASSWORD_ENV, "")
    return (name, password) if name and password else None


def add_login(web_ui: WebUI, base_path: str, name: str, password: str) -> None:
    """Close every path of the page, ours too, to whoever has not logged in as this user."""
    app = web_ui.app
    # A key of this process: its end logs everybody out. Strict: another site's page cannot press our buttons.
    app.config.update(SECRET_KEY=secrets.token_bytes(32), SESSION_COOKIE_SAMESITE="Strict")
    submit = f"{base_path.rstrip('/')}/login-submit"
    web_ui.auth_args = {"username_password_callback": submit}
    web_ui.login_manager.user_loader(lambda user_id: _User(user_id) if user_id == name else None)

    @app.before_request  # type: ignore[untyped-decorator]  # locust is Any to mypy
    def only_known() -> Response | None:
        if request.endpoint in OPEN_ENDPOINTS or current_user.is_authenticated:
            return None
        logger.warning("web: %s %r without a login from %s", request.method, request.path, request.remote_addr)
        if request.endpoint == "locust.index":
            return redirect(f"{base_path.rstrip('/')}/login")  # type: ignore[return-value]
        return Response(status=401)

    @app.route(submit, methods=["POST"], endpoint="loadtest_login")  # type: ignore[untyped-decorator]
    def check() -> Response:
        tried = request.form.get("username", "")
        # Both are compared, in constant time, so that nothing tells which of them was wrong.
        known = hmac.compare_digest(tried.encode(), name.encode())
        right = hmac.compare_digest(request.form.get("password", "").encode(), password.encode())
        if known and right:
            session["auth_error"] = None
            login_user(_User(name))
            return redirect(f"{base_path.rstrip('/')}/")  # type: ignore[return-value]
        logger.warning("web: login refused to %r from %s", tried[:TRIED_NAME_MAX], request.remote_addr)
        session["auth_error"] = "Invalid name or password"
        return redirect(f"{base_path.rstrip('/')}/login")  # type: ignore[return-value]
