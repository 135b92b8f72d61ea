"""What docs/webhooks.md says: its examples load, and its receivers believe what is sent and nothing else."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from standardwebhooks import WebhookVerificationError
from tests.support.webhooks import KEY, NEW_KEY, OTHER_KEY

from goagents.engine.execution.deliveries import MAX_BODY, PAUSES
from goagents.events import EventType
from goagents.resources import RunRequest
from goagents.spec.config import WebhooksConfig
from goagents.spec.load import load_text
from goagents.webhooks.http import MAX_RETRY_AFTER
from goagents.webhooks.http_signing import Signer

PAGE = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text(encoding="utf-8")
BODY = '{"type":"run.completed","data":{"id":"run_1","output":"Grüße"}}'.encode()
Verified = Callable[[str, dict[str, str], bytes], dict[str, Any]]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def receiver(source: str) -> Verified:
    names: dict[str, Any] = {}
    exec(source, names)  # noqa: S102 - it is what the page tells people to run
    return names["verified"]


RECEIVERS = [
    pytest.param(receiver(source), id=name) for source, name in zip(blocks("python"), ("library", "plain"), strict=True)
]
NOT_BELIEVED = (ValueError, WebhookVerificationError)


def signed(*secrets: str, age: int = 0) -> dict[str, str]:
    return Signer(secrets).headers("msg_1", int(time.time()) - age, BODY)


@pytest.mark.parametrize("verified", RECEIVERS)
def test_a_receiver_of_the_page_believes_what_is_sent(verified: Verified):
    assert verified(KEY, signed(KEY), BODY) == json.loads(BODY)
    for key in (KEY, NEW_KEY):
        assert verified(key, signed(NEW_KEY, KEY), BODY)["type"] == "run.completed"


@pytest.mark.parametrize("verified", RECEIVERS)
@pytest.mark.parametrize(
    ("key", "age", "changed", "body"),
    [
        (OTHER_KEY, 0, {}, BODY),
        (KEY, 0, {}, BODY + b" "),
        (KEY, 400, {}, BODY),
        (KEY, -400, {}, BODY),
        (KEY, 0, {"webhook-id": "msg_2"}, BODY),
        (KEY, 400, {"webhook-timestamp": None}, BODY),
        (KEY, 0, {"webhook-timestamp": "soon"}, BODY),
        (KEY, 0, {"webhook-timestamp": ""}, BODY),
        (KEY, 0, {"webhook-signature": "v1,AAAA"}, BODY),
        (KEY, 0, {"webhook-signature": ""}, BODY),
    ],
)
def test_a_receiver_of_the_page_believes_nothing_else(
    verified: Verified, key: str, age: int, changed: dict[str, str | None], body: bytes
):
    """A header changed to None is what an honest sender would have put there now."""
    now = signed(key)
    headers = signed(key, age=age) | {name: now[name] if value is None else value for name, value in changed.items()}
    with pytest.raises(NOT_BELIEVED):
        verified(KEY, headers, body)


def test_the_examples_load():
    request, message = (json.loads(block) for block in blocks("json"))
    assert RunRequest.model_validate(request).webhook is not None
    assert set(message) == {"type", "timestamp", "data"}
    webhooks, allow = (load_text(block, environ={"WEBHOOK_SECRET": KEY}).config for block in blocks("yaml"))
    assert len(webhooks.webhooks.secrets) == 1
    assert allow.allow.addresses == ("hooks.internal",)


def test_the_page_says_what_the_code_does():
    types = re.findall(r"^\| `(run\.[a-z]+)` \|", PAGE, re.MULTILINE)
    assert len(types) == 4
    assert set(types) <= set(get_args(EventType))
    defaults = WebhooksConfig()
    assert f"`webhooks.timeout` ({defaults.timeout:g} s)" in PAGE
    assert f"`webhooks.max_attempts` ({defaults.max_attempts}, a day and a half)" in PAGE
    assert 1.2 < sum(PAUSES[: defaults.max_attempts - 1]) / 86_400 < 1.6
    assert (5, 300, 1800, *(hours * 3600 for hours in (2, 5, 10, 14, 20, 24))) == PAUSES
    assert f"larger than {MAX_BODY // 1024} KiB" in PAGE
    assert MAX_RETRY_AFTER == 86_400
