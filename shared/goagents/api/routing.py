"""Which route serves a path. Every path answers OPTIONS; a route of GET answers HEAD too."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Scope

from goagents.errors import NotFound

from .errors import NotAllowedHere

if TYPE_CHECKING:
    from goagents.engine.services import Services

Endpoint = Callable[[Request], Awaitable[ASGIApp]]


class OpenRoute(Route):
    """A route without authentication."""


class InternalRoute(Route):
    """A route for the queue and the scheduler, see `access.internal`; it is not in the OpenAPI document."""


class ConfiguredRoute(Route):
    """A route whose path the configuration chooses; `path` is its default, and its label in logs and metrics."""

    def __init__(self, path: str, endpoint: Endpoint, path_of: "Callable[[Services], str]", **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.path_of = path_of


@dataclass(frozen=True, slots=True)
class Matched:
    """`endpoint` is None for OPTIONS; `allowed` then tells what the path answers."""

    route: Route
    endpoint: Endpoint | None
    allowed: str
    path_params: dict[str, str]


class RouteTable:
    def __init__(self, routes: Sequence[Route]) -> None:
        self.paths = frozenset(route.path for route in routes)
        self.for_users = not all(isinstance(route, InternalRoute) for route in routes)
        self._fixed = [route for route in routes if not isinstance(route, ConfiguredRoute)]
        self._configured = [route for route in routes if isinstance(route, ConfiguredRoute)]

    @property
    def needs_configuration(self) -> bool:
        return bool(self._configured)

    def find(self, scope: Scope) -> Matched | None:
        """Return the route whose path is fixed, None where there is none. Raises NotAllowedHere (405)."""
        found: list[tuple[Route, dict[str, Any]]] = []
        for route in self._fixed:
            match, child = route.matches(scope)
            if match is not Match.NONE:
                found.append((route, child["path_params"]))
        return _by_method(scope["method"], found)

    def find_configured(self, scope: Scope, services: "Services") -> Matched:
        """Return the route whose path is configured. Raises NotFound and NotAllowedHere."""
        found: list[tuple[Route, dict[str, Any]]] = [
            (route, {}) for route in self._configured if route.path_of(services) == scope["path"]
        ]
        matched = _by_method(scope["method"], found)
        if matched is None:
            raise not_found()
        return matched


def not_found() -> NotFound:
    return NotFound("Nothing is served at this path; `GET /openapi.json` tells what is.")


def _by_method(method: str, found: list[tuple[Route, dict[str, Any]]]) -> Matched | None:
    if not found:
        return None
    allowed = ", ".join(sorted({"OPTIONS"}.union(*(route.methods or () for route, _ in found))))
    for route, params in found:
        if method in (route.methods or ()):
            return Matched(route, route.endpoint, allowed, params)
    if method == "OPTIONS":
        return Matched(found[0][0], None, allowed, {})
    raise NotAllowedHere(method, allowed)
