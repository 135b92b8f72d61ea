"""One request being served, and what its answer and its log line need to know."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.types import Scope

from goagents.access.principal import Principal

if TYPE_CHECKING:  # what serves `/health` must not load the engine
    from goagents.engine.services import Services

GetServices = Callable[[], "Awaitable[Services]"]

_KEY = "goagents.call"
UNMATCHED = "unmatched"


@dataclass(slots=True)
class Call:
    """`route` is the template of the path. `paths` are the templates of all routes of this function.

    `quiet`: it succeeds so often and does so little that neither the log nor the metrics should tell of it.
    """

    request_id: str
    method: str
    paths: frozenset[str]
    get_services: GetServices
    route: str = UNMATCHED
    services: "Services | None" = None
    principal: Principal | None = None
    run_id: str | None = None
    session_id: str | None = None
    error_code: str | None = None
    quiet: bool = False


def begin(scope: Scope, call: Call) -> None:
    scope[_KEY] = call


def call_in(scope: Scope) -> Call:
    call: Call = scope[_KEY]
    return call


def call_of(request: Request) -> Call:
    return call_in(request.scope)


def session_of(request: Request) -> "tuple[Services, Principal]":
    """Return what every function of the engine takes first. Only for routes that authenticate."""
    call = call_of(request)
    if call.services is None or call.principal is None:
        raise RuntimeError(f"{call.route} is served without authentication")
    return call.services, call.principal
