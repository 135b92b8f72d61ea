"""The deployable function `sweeper`: it adapts, and nothing else."""

import functions_framework.aio
from starlette.requests import Request
from starlette.types import ASGIApp

from goagents.app import application

_app = application("sweeper")


@functions_framework.aio.http  # type: ignore[arg-type] # the framework runs any ASGI application it is given
async def sweeper(_: Request) -> ASGIApp:
    return _app
