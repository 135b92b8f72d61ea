"""The deployable function `worker`: it adapts, and nothing else."""

import functions_framework.aio
from starlette.requests import Request
from starlette.types import ASGIApp

from goagents.app import application

_app = application("worker")


@functions_framework.aio.http  # type: ignore[arg-type] # the framework runs any ASGI application it is given
async def worker(_: Request) -> ASGIApp:
    return _app
