"""A gateway that dies where its plan says: see tests/support/killable.py."""

import functions_framework.aio
from starlette.requests import Request
from starlette.types import ASGIApp
from tests.support.killable import wrap

from goagents.app import application

_app = application("gateway", wrap=wrap)


@functions_framework.aio.http  # type: ignore[arg-type] # the framework runs any ASGI application it is given
async def killable(_: Request) -> ASGIApp:
    return _app
