"""The function that `goagents run` serves: the gateway, as functions/gateway/main.py, but in the installed package."""

from typing import Any

import functions_framework.aio
from starlette.requests import Request

from goagents.app import application

_app = application("gateway")


@functions_framework.aio.http
async def gateway(_: Request) -> Any:  # an ASGI app, which functions-framework calls though its types do not say so
    return _app
