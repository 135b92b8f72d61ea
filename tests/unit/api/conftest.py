from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.api import AGENTS, Api
from tests.support.engine import Engine, applied, engine, manifest, scripted

from goagents.app import close_services
from goagents.store.sqlite import SQLiteStore
from goagents.telemetry.base import Telemetry
from goagents.telemetry.prometheus import Metrics, PrometheusHook


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    models = {
        "echo": [{"text": "hello"}],
        "slow": [{"text": "in the end", "delay": 0.3}],
        "busy": [{"fail": "provider_overloaded"}],
        "broken": [{"fail": "provider_authentication_failed"}],
        "late": [{"fail": "provider_timed_out"}],
    }
    services = engine(SQLiteStore(str(tmp_path / "api.db")), scripted(**models))
    services.telemetry = Telemetry([services.seen.append, PrometheusHook(Metrics())])
    await applied(services, manifest(*AGENTS))
    made = Api(services)
    yield made
    await close_services(made.services)


@pytest.fixture
def make(api: Api) -> Callable[[list[Any]], Api]:
    """Make an application of other routes over the same services."""

    def build(routes: list[Any]) -> Api:
        assert isinstance(api.services, Engine)
        return Api(api.services, routes)

    return build
