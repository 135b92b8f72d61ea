"""What is sent is believed by those who follow Standard Webhooks, and by nobody with another key or clock."""

from datetime import UTC, datetime, timedelta

import pytest
from tests.support.http_tools import Serve
from tests.support.webhooks import BODY, KEY, NEW_KEY, OTHER_KEY, Receiver, Send, hook

from goagents import __version__


async def test_a_receiver_verifies_what_is_sent(send: Send, serve: Serve):
    receiver = Receiver()
    at = datetime.now(UTC)
    receipt = await send(await hook(serve, receiver), at=at)
    assert (receipt.outcome, receipt.detail, receipt.retry_after) == ("delivered", "127.0.0.1 answered 204", None)
    assert receiver.bodies == [BODY.encode()]
    assert receiver.verified[0]["data"] == {"id": "run_1", "output": "Grüße 👋"}
    (headers,) = receiver.requests
    assert headers["webhook-id"] == "msg_1"
    assert headers["webhook-timestamp"] == str(int(at.timestamp()))
    assert headers["webhook-signature"].startswith("v1,")
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"] == f"goagents/{__version__}"


async def test_another_key_is_not_believed(send: Send, serve: Serve):
    receiver = Receiver(secret=OTHER_KEY)
    receipt = await send(await hook(serve, receiver))
    assert (receipt.outcome, receipt.detail) == ("retry", "127.0.0.1 answered 401")
    assert receiver.verified == []


@pytest.mark.parametrize("known", [KEY, NEW_KEY])
async def test_while_a_key_is_replaced_either_one_is_enough(send: Send, serve: Serve, known: str):
    receiver = Receiver(secret=known)
    assert (await send(await hook(serve, receiver), secrets=(NEW_KEY, KEY))).outcome == "delivered"
    assert len(receiver.requests[0]["webhook-signature"].split(" ")) == 2


async def test_a_key_that_was_taken_out_is_of_no_use(send: Send, serve: Serve):
    receiver = Receiver(secret=KEY)
    assert (await send(await hook(serve, receiver), secrets=(NEW_KEY,))).outcome == "retry"


@pytest.mark.parametrize(
    ("age", "outcome"),
    [(0, "delivered"), (240, "delivered"), (-240, "delivered"), (360, "retry"), (-360, "retry")],
)
async def test_the_timestamp_bounds_what_a_replay_is_good_for(send: Send, serve: Serve, age: int, outcome: str):
    receiver = Receiver()
    at = datetime.now(UTC) - timedelta(seconds=age)
    assert (await send(await hook(serve, receiver), at=at)).outcome == outcome


async def test_every_attempt_has_its_own_timestamp_and_the_same_id(send: Send, serve: Serve):
    receiver = Receiver(status=500)
    url, now = await hook(serve, receiver), datetime.now(UTC)
    for age in (60, 0):
        assert (await send(url, at=now - timedelta(seconds=age))).outcome == "retry"
    first, second = receiver.requests
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 60
    assert first["webhook-signature"] != second["webhook-signature"]
    assert len(receiver.verified) == 2
    assert receiver.bodies[0] == receiver.bodies[1]


async def test_without_a_key_nothing_is_sent(send: Send, serve: Serve):
    receiver = Receiver()
    receipt = await send(await hook(serve, receiver), secrets=())
    assert receipt.outcome == "retry"
    assert "`webhooks.secrets`" in receipt.detail
    assert receiver.requests == []
