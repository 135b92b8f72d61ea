"""A toolkit asked as functions-framework asks it: by a Flask request."""

from collections.abc import Callable
from typing import Any

import flask
import pytest
from werkzeug.test import TestResponse

from goagents.toolkit import Toolkit

Ask = Callable[..., TestResponse]


@pytest.fixture
def ask() -> Ask:
    """`ask(kit, method, path, …)`: one request through the framework's kind of application."""

    def send(kit: Toolkit, method: str, path: str, **options: Any) -> TestResponse:
        app = flask.Flask("shop", root_path=".")
        function = kit.function
        app.add_url_rule("/<path:path>", "tools", lambda path: function(flask.request), methods=["GET", "POST", "PUT"])
        return app.test_client().open(path, method=method, **options)

    return send
