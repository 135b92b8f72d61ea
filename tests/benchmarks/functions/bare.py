"""The least a function can be: what functions-framework itself costs."""

import functions_framework.aio
from starlette.requests import Request


@functions_framework.aio.http
async def bare(request: Request) -> str:
    return "ok"
