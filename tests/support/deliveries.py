"""What delivers a run's webhook, with a clock that stands still: the engine's parts that it needs, and no others."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from goagents.app import ProviderRegistry, ResolverFactory
from goagents.clock import SystemClock
from goagents.engine.execution.deliveries import delivery_write
from goagents.engine.services import Services
from goagents.records import DeliveryRecord, Paths, RunRecord
from goagents.settings import Settings
from goagents.spec.config import Config
from goagents.store.base import Store
from goagents.telemetry.base import Telemetry
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.tools import StaticToolsets
from goagents.webhooks.base import Receipt, Webhooks

PATHS = Paths("default")
NOW = datetime.now(UTC).replace(microsecond=0)
RETRY = Receipt("retry", "hooks.example.com answered 500")
GONE = Receipt("gone", "hooks.example.com answered 410")
VIEW: Mapping[str, Any] = {"id": "run_1", "status": "succeeded", "input": {"text": "Grüße"}, "output": {"text": "👋"}}


class Watch(SystemClock):
    """Stands still unless moved; sleeping takes its time."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at


def services(
    store: Store, webhooks: Webhooks, dispatch: RecordingDispatch | None = None, max_attempts: int = 8
) -> Services:
    config = Config.model_validate({"webhooks": {"max_attempts": max_attempts}})
    return Services(
        store=store,
        clock=Watch(),
        config=config,
        settings=Settings(),
        telemetry=Telemetry([]),
        providers=ProviderRegistry(config, {}),
        toolsets=StaticToolsets({}),
        resolvers=ResolverFactory(config, {}),
        dispatch=dispatch or RecordingDispatch(),
        webhooks=webhooks,
    )


def run(**fields: Any) -> RunRecord:
    defaults = {
        "id": "run_1",
        "kind": "background",
        "status": "succeeded",
        "session": "ses_1",
        "namespace": "default",
        "cluster": "support",
        "cluster_uid": "uid_1",
        "generation": 1,
        "agent": "helper",
        "principal": "alice",
        "input": {},
        "webhook": "https://hooks.example.com/goagents",
        "created_at": NOW,
        "expire_at": NOW + timedelta(days=30),
    }
    return RunRecord.model_validate(defaults | fields)


async def told(store: Store, event: str = "run.completed", **fields: Any) -> DeliveryRecord:
    """Commit what tells the webhook, as the end of a run does."""
    (write,) = delivery_write(PATHS, run(**fields), event, VIEW, NOW)
    await store.commit([write])
    return DeliveryRecord.of(write.data)


async def stored(store: Store, name: str = "run.completed") -> DeliveryRecord:
    path = PATHS.delivery("run_1", name)
    return DeliveryRecord.of((await store.get_many([path])).documents[path].data)
