"""From the record of a run's webhook to a receiver that verifies it, with nothing in between made up."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.deliveries import PATHS, VIEW, services, stored, told
from tests.support.http_tools import Serve
from tests.support.webhooks import KEY, NEW_KEY, Receiver, hook

from goagents.engine.execution.deliveries import attempt
from goagents.store.sqlite import SQLiteStore
from goagents.webhooks.http import HttpWebhooks


async def test_a_run_arrives_at_a_receiver_that_was_busy_at_first(tmp_path: Path, serve: Serve):
    store = SQLiteStore(str(tmp_path / "engine.db"))
    receiver = Receiver(status=503, headers={"Retry-After": "120"})
    await told(store, webhook=await hook(serve, receiver))
    sender = HttpWebhooks([NEW_KEY, KEY], timeout=10, allowed_addresses=("127.0.0.1",))
    made = services(store, sender)
    made.clock.at = datetime.now(UTC)  # the receiver, whose clock is real, refuses messages that are five minutes old
    await attempt(made, PATHS, "run_1", "run.completed")
    (task,) = made.dispatch.taken()
    assert task.delay == 120
    receiver.status = 204
    made.clock.at += timedelta(seconds=task.delay)
    await attempt(made, PATHS, task.run, str(task.delivery))
    await sender.aclose()
    assert (await stored(store)).state == "delivered"
    assert [message["data"] for message in receiver.verified] == [VIEW, VIEW]
    assert len({request["webhook-id"] for request in receiver.requests}) == 1
    await store.aclose()
