"""A cluster served by the test itself: the methods of the client, without server, key, network or waiting."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from goagents.client.faults import RunWaiting
from goagents.errors import ConfigurationError, ProviderOverloaded, RunCancelled
from goagents.resources import Decision, RunRequest, Webhook
from goagents.store.base import Store
from goagents.store.sqlite import SQLiteStore
from goagents.telemetry.base import RunFinished
from goagents.testing.clocks import VirtualClock
from goagents.testing.cluster import LocalCluster
from goagents.testing.kill_points import KillPoint
from goagents.testing.models import ScriptedModel
from goagents.testing.severable import ProcessDied
from goagents.testing.tools import FunctionTool, function_tool
from goagents.testing.webhooks import RecordingWebhooks

CALL = {"tool_calls": [{"name": "refund", "arguments": {"order": 7}}]}
CLUSTER = {
    "apiVersion": "goagents.dev/v1",
    "kind": "AgentCluster",
    "metadata": {"name": "shop"},
    "spec": {
        "agents": [
            {
                "name": "clerk",
                "provider": "openai",
                "model": "gpt-5",
                "tools": [{"type": "http", "name": "refund", "url": "https://shop.example/", "approval": "always"}],
            }
        ]
    },
}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def store(clock: VirtualClock, tmp_path: Path) -> AsyncIterator[Store]:
    made = SQLiteStore(str(tmp_path / "cluster.db"), clock=clock)
    yield clock.watch(made)
    await made.aclose()


async def give_back(arguments: Mapping[str, Any]) -> str:
    return f"refunded {arguments['order']}"


@pytest.fixture
def refund() -> FunctionTool:
    return function_tool("refund", give_back)


async def test_a_person_decides(store: Store, clock: VirtualClock, refund: FunctionTool):
    model = ScriptedModel(CALL, "Done.")
    async with LocalCluster(CLUSTER, store, model=model, tools={"refund": [refund]}, clock=clock) as shop:
        with pytest.raises(RunWaiting, match="refund") as waits:
            await shop.chat("clerk", "hi", session_id="s")
        run = str(waits.value.run_id)
        with pytest.raises(RunWaiting):
            await shop.wait_for_run(run)
        assert refund.calls == []
        await shop.approve_run(run, Decision(decision="allow", arguments={"order": 8}))
        assert (await shop.wait_for_run(run)).message.text == "Done."
        assert [arguments for arguments, _ in refund.calls] == [{"order": 8}]
        assert [message.role for message in await shop.messages("s")] == ["user", "assistant", "tool", "assistant"]


async def test_in_the_background(store: Store, clock: VirtualClock):
    webhooks = RecordingWebhooks()
    model = ScriptedModel({"text": "Later.", "delay": "1m"}, clock=clock)
    async with LocalCluster(CLUSTER, store, model=model, clock=clock, webhooks=webhooks) as shop:
        request = RunRequest(message="hi", webhook=Webhook(url="https://shop.example/told"))
        run = await shop.start_run("clerk", request, idempotency_key="k")
        assert await shop.start_run("clerk", request, idempotency_key="k") == run
        assert (await shop.wait_for_run(run)).message.text == "Later."
        await clock.advance(1)
        assert [delivery.url for delivery in webhooks.deliveries] == ["https://shop.example/told"]
        assert [event.status for event in shop.telemetry if isinstance(event, RunFinished)] == ["succeeded"]


async def test_a_run_is_cancelled(store: Store, clock: VirtualClock):
    model = ScriptedModel({"text": "Never.", "delay": "1h"}, clock=clock)
    async with LocalCluster(CLUSTER, store, model=model, clock=clock) as shop:
        run = await shop.start_run("clerk", RunRequest(message="hi"))
        await clock.advance(1)
        assert (await shop.cancel_run(run)).status == "cancelled"
        with pytest.raises(RunCancelled):
            await shop.wait_for_run(run)


async def test_what_goes_wrong_is_raised(store: Store, clock: VirtualClock):
    async with LocalCluster(CLUSTER, store, model=ScriptedModel({"fail": "provider_overloaded"}), clock=clock) as shop:
        with pytest.raises(ProviderOverloaded):
            await shop.chat("clerk", "hi")


async def test_a_tool_that_is_not_given_is_not_offered(store: Store, clock: VirtualClock):
    model = ScriptedModel("Hello.")
    async with LocalCluster(CLUSTER, store, model=model, clock=clock) as shop:
        assert (await shop.chat("clerk", "hi")).message.text == "Hello."
    assert model.requests[0].tools == ()


async def test_without_a_virtual_clock(tmp_path: Path):
    store = SQLiteStore(str(tmp_path / "real.db"))
    async with LocalCluster(CLUSTER, store, model=ScriptedModel("Hello.")) as shop:
        assert (await shop.chat("clerk", "hi")).message.text == "Hello."
    await store.aclose()


async def test_the_sweeper_finds_what_was_left_behind(store: Store, clock: VirtualClock):
    """A process is killed while its model thinks; nobody asks again, and nobody waits."""
    first = LocalCluster(CLUSTER, store, model=ScriptedModel({"text": "No.", "delay": "1h"}, clock=clock), clock=clock)
    async with first:
        run = await first.start_run("clerk", RunRequest(message="hi"))
        await clock.advance(5)
        first.kill()
        with pytest.raises(ProcessDied):
            await first.wait_for_run(run)
    async with LocalCluster(CLUSTER, store, model=ScriptedModel("Yes."), clock=clock) as second:
        assert (await second.sweep()).redispatched == 0
        await clock.advance(31)
        assert (await second.sweep()).redispatched == 1
        assert (await second.wait_for_run(run)).message.text == "Yes."


@pytest.mark.parametrize(
    ("point", "sent"),
    [
        (KillPoint.BEFORE_WEBHOOK, 1),
        (KillPoint.AFTER_WEBHOOK, 2),
        (KillPoint.BEFORE_DELIVERY, 2),
        (KillPoint.AFTER_DELIVERY, 1),
    ],
)
async def test_a_webhook_whose_sender_dies(store: Store, clock: VirtualClock, point: KillPoint, sent: int):
    """It is told of at least once, always with the same id: the sweeper finds one that may not have been sent."""
    webhooks = RecordingWebhooks()
    request = RunRequest(message="hi", webhook=Webhook(url="https://shop.example/told"))
    more: dict[str, Any] = {"clock": clock, "webhooks": webhooks}
    async with LocalCluster(CLUSTER, store, model=ScriptedModel("Hello."), dies_at=point, **more) as first:
        await first.start_run("clerk", request)
        await clock.run_until(lambda: first.process.dead)
    async with LocalCluster(CLUSTER, store, model=ScriptedModel(), **more) as second:
        await clock.advance(3600)
        await second.sweep()
        await clock.advance(60)
    assert len(webhooks.deliveries) == sent
    assert len({delivery.id for delivery in webhooks.deliveries}) == 1


def test_what_is_no_cluster_is_refused(tmp_path: Path):
    store, model = SQLiteStore(str(tmp_path / "never.db")), ScriptedModel()
    with pytest.raises(ConfigurationError, match="metadata: is required"):
        LocalCluster(_written(tmp_path, "{apiVersion: goagents.dev/v1, kind: AgentCluster}"), store, model=model)
    with pytest.raises(ValueError, match="holds 0 clusters"):
        LocalCluster(_written(tmp_path, "server: {port: 8081}"), store, model=model)


def _written(folder: Path, text: str) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(text, encoding="utf-8")
    return path
