"""From a request to its principal."""

import logging
from collections.abc import Awaitable, Callable
from functools import cache
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import Scope

from goagents.access.authentication import authenticate, mode_of
from goagents.access.internal import authenticate_internal
from goagents.access.principal import Principal
from goagents.identity.base import TokenVerifier

if TYPE_CHECKING:
    from goagents.engine.services import Services

GetVerifier = Callable[["Services"], Awaitable[TokenVerifier]]

_log = logging.getLogger("goagents.api")


def principal_of(scope: Scope, services: "Services") -> Principal:
    """Raises Unauthenticated, PermissionDenied, and ConfigurationError for a mode that cannot hold here."""
    auth = services.config.auth
    mode = mode_of(auth, on_cloud_run=services.settings.on_cloud_run)
    if mode == "none":
        _warn_once()
    client = scope.get("client")
    return authenticate(auth, mode=mode, headers=Headers(scope=scope), client_host=client[0] if client else None)


async def internal_caller_of(
    scope: Scope, services: "Services", get_verifier: GetVerifier, *, shared: bool
) -> Principal:
    """Return who calls an internal route, of a function that users call, too, where it is `shared`.

    Raises as `principal_of` does, and IdentityUnavailable.
    """
    headers = Headers(scope=scope)
    return await authenticate_internal(
        services.config.internal,
        mode=mode_of(services.config.auth, on_cloud_run=services.settings.on_cloud_run),
        key=services.settings.internal_key,
        headers=headers,
        url=f"{scope['scheme']}://{headers.get('host', '')}{scope['path']}",
        get_verifier=lambda: get_verifier(services),
        shared=shared,
    )


@cache
def _warn_once() -> None:
    _log.warning("No authentication is configured: only requests of this machine are served. Configure `auth:`.")
