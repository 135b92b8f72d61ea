"""The API over the real engine, a SQLite file of its own and scripted models."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx2
from tests.support.engine import Engine

from goagents.api import agents, asgi, chat, clusters, health, metrics, runs, stream
from goagents.engine.services import Services
from goagents.settings import Settings
from goagents.spec.config import Config

ROUTES = [route for module in (health, clusters, agents, chat, stream, runs, metrics) for route in module.routes]
AGENTS = [{"name": name, "model": name} for name in ("echo", "slow", "busy", "broken", "late")]


class Api:
    """`call` sends a request as this machine does; `services` may be replaced between requests."""

    def __init__(self, services: Engine, routes: list[Any] | None = None) -> None:
        self.services: Services = services
        self.seen = services.seen
        self.failure: Exception | None = None
        self.app = asgi.create(ROUTES if routes is None else routes, self._get)

    async def _get(self) -> Services:
        if self.failure:
            raise self.failure
        return self.services

    def configure(self, **config: Any) -> None:
        self.services = replace(self.services, config=Config.model_validate(config))

    def settle(self, **settings: Any) -> None:
        self.services = replace(self.services, settings=Settings(**settings))

    async def call(
        self, method: str, path: str, *, client: str = "127.0.0.1", raises: bool = True, **options: Any
    ) -> httpx2.Response:
        transport = httpx2.ASGITransport(self.app, raise_app_exceptions=raises, client=(client, 50_000))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as http:
            return await http.request(method, path, **options)

    async def say(self, agent: str, message: Any = "hi", verb: str = "chat", **options: Any) -> httpx2.Response:
        body = message if isinstance(message, dict) else {"message": message}
        return await self.call("POST", f"/api/v1/agents/support.{agent}/{verb}", json=body, **options)


def problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """Return the body of an error, which is a whole problem and holds no traceback."""
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert body["type"] == f"https://goagents.dev/errors/{code}"
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in response.text
    return body


Make = Callable[[list[Any]], Api]
