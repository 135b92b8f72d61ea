"""Liveness, readiness, and what is served here. Open to everybody; a cold process answers without loading the rest."""

import asyncio
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from goagents import __version__
from goagents.access.authentication import mode_of
from goagents.errors import ConfigurationError, StoreError

from .calls import Call, call_of
from .routing import OpenRoute

if TYPE_CHECKING:
    from goagents.engine.services import Services

STORE_TIMEOUT = 5.0
Check = dict[str, str | None]


async def health(_: Request) -> Response:
    return JSONResponse({"status": "ok", "version": __version__})


async def ready(request: Request) -> Response:
    """Check what requests depend on, each by its name: 200 if all of it is there, 503 if not."""
    checks = [await _configuration(call_of(request))]
    services = call_of(request).services
    if services is not None:
        checks.append(await _store(services))
    failed = any(check["status"] == "failed" for check in checks)
    return JSONResponse({"status": "failed" if failed else "ok", "checks": checks}, 503 if failed else 200)


async def _configuration(call: Call) -> Check:
    try:
        call.services = services = await call.get_services()
        mode_of(services.config.auth, on_cloud_run=services.settings.on_cloud_run)
    except ConfigurationError as error:
        return _check("configuration", str(error))
    return _check("configuration")


async def _store(services: "Services") -> Check:
    try:
        async with asyncio.timeout(STORE_TIMEOUT):
            await services.store.check()
    except StoreError as error:
        return _check("store", error.detail)
    except TimeoutError:
        return _check("store", f"The store did not answer within {STORE_TIMEOUT:g} s.")
    return _check("store")


def _check(name: str, failure: str | None = None) -> Check:
    return {"name": name, "status": "failed" if failure else "ok", "detail": failure}


@cache
def _document() -> bytes:
    return files(__package__).joinpath("openapi.json").read_bytes()


async def openapi(_: Request) -> Response:
    return Response(_document(), media_type="application/json")


routes = [
    OpenRoute("/health", health),
    OpenRoute("/ready", ready),
    OpenRoute("/openapi.json", openapi),
]
