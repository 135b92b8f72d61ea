"""From a request to its principal."""

import logging
from functools import cache
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import Scope

from goagents.access.authentication import authenticate, mode_of
from goagents.access.principal import Principal

if TYPE_CHECKING:
    from goagents.engine.services import Services

_log = logging.getLogger("goagents.api")


def principal_of(scope: Scope, services: "Services") -> Principal:
    """Raises Unauthenticated, PermissionDenied, and ConfigurationError for a mode that cannot hold here."""
    auth = services.config.auth
    mode = mode_of(auth, on_cloud_run=services.settings.on_cloud_run)
    if mode == "none":
        _warn_once()
    client = scope.get("client")
    return authenticate(auth, mode=mode, headers=Headers(scope=scope), client_host=client[0] if client else None)


@cache
def _warn_once() -> None:
    _log.warning("No authentication is configured: only requests of this machine are served. Configure `auth:`.")
