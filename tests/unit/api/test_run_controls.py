"""Cancelling runs and deciding upon them, over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.api import Api, problem
from tests.support.api_of_runs import RUNS, api_of_runs, ended, events_of, waiting
from tests.support.durable import Shop
from tests.support.engine import Engine, engine, scripted

from goagents.access.principal import Principal
from goagents.engine import runs as engine_runs
from goagents.resources import ChatRequest
from goagents.spec.config import Config


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
async def api(tmp_path: Path, shop: Shop) -> AsyncIterator[Api]:
    async with api_of_runs(tmp_path, shop) as made:
        yield made


async def test_a_stream_ends_where_a_person_has_to_decide(api: Api, shop: Shop):
    events = events_of(await asyncio.wait_for(api.say("clerk", verb="stream"), 60))
    assert [kind for _, kind, _ in events][-1] == "run.waiting"
    run_id = events[0][2]["run_id"]
    assert events[-1][2]["waiting"]["calls"][0]["name"] == "refund"
    response = await api.call("POST", f"{RUNS}/{run_id}/approve", json={"decisions": [{"decision": "allow"}]})
    assert response.status_code == 202
    assert response.headers["location"] == f"{RUNS}/{run_id}"
    rest = events_of(await api.call("GET", f"{RUNS}/{run_id}/events", headers={"Last-Event-ID": events[-1][0]}))
    assert (rest[0][1], rest[-1][1]) == ("attempt", "run.completed")
    assert shop.calls("refund") == [{"order": 2}]


@pytest.mark.parametrize("options", [{}, {"json": {}}, {"json": {"reason": "enough"}}, {"content": b""}])
async def test_a_run_is_cancelled(api: Api, options: dict[str, Any]):
    chat = asyncio.create_task(api.say("slow", {"message": "a", "session_id": "s1"}))
    await asyncio.sleep(0.1)
    run_id = (await api.call("GET", "/api/v1/sessions/s1")).json()["active_run"]
    response = await api.call("POST", f"{RUNS}/{run_id}/cancel", **options)
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    body = problem(await chat, 409, "run_cancelled")
    assert body["run_id"] == run_id
    assert ("enough" in body["detail"]) == ("json" in options and bool(options["json"]))
    assert (await api.call("POST", f"{RUNS}/{run_id}/cancel")).status_code == 200  # it is
    assert events_of(await api.call("GET", f"{RUNS}/{run_id}/events"))[-1][1] == "run.cancelled"


async def test_a_run_that_its_owner_has_to_cancel_is_accepted(api: Api):
    """The owner has not noticed yet: another process, whose looks are seldom."""
    config = Config.model_validate({"runs": {"poll_interval": "60s"}})
    owner: Engine = engine(api.services.store, scripted(slow=[{"text": "late", "delay": 4}]), config=config)
    body = ChatRequest(message="a", session_id="s1")
    watch = await engine_runs.start(owner, Principal("local"), "support.slow", body, kind="chat")
    response = await api.call("POST", f"{RUNS}/{watch.run_id}/cancel")
    assert (response.status_code, response.json()["status"]) == (202, "running")
    assert response.headers["location"] == f"{RUNS}/{watch.run_id}"
    owner.handles[watch.run_id].stop("lost")
    await owner.handles[watch.run_id].finished()


async def test_a_run_that_is_over_is_not_cancelled(api: Api):
    run_id = (await api.say("echo")).json()["run_id"]
    assert "it succeeded" in problem(await api.call("POST", f"{RUNS}/{run_id}/cancel"), 409, "conflict")["detail"]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "bad_request"), (b"[]", 422, "invalid"), (b'{"reason": 1}', 422, "invalid"),
        (b'{"why": "x"}', 422, "invalid"),
        (json.dumps({"reason": "x" * 2001}).encode(), 422, "invalid"),
    ],
)  # fmt: skip
async def test_a_cancellation_that_cannot_be_read_cancels_nothing(api: Api, content: bytes, status: int, code: str):
    run_id = await waiting(api)
    path, headers = f"{RUNS}/{run_id}/cancel", {"content-type": "application/json"}
    problem(await api.call("POST", path, content=content, headers=headers), status, code)
    problem(
        await api.call("POST", path, content=b"{}", headers={"content-type": "text/plain"}),
        415,
        "unsupported_media_type",
    )
    assert (await api.call("GET", f"{RUNS}/{run_id}")).json()["status"] == "waiting"


async def test_what_a_person_decides(api: Api, shop: Shop):
    run_id = await waiting(api)
    path = f"{RUNS}/{run_id}/approve"
    response = await api.call("POST", path, json={"decisions": [{"decision": "deny", "reason": "no"}]})
    assert (response.status_code, response.json()["status"]) == (202, "handed_off")
    assert response.headers["location"] == f"{RUNS}/{run_id}"
    assert (await ended(api, run_id))["status"] == "succeeded"
    assert shop.calls("refund") == []
    problem(await api.call("POST", path, json={"decisions": [{"decision": "allow"}]}), 409, "conflict")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "decisions"),
        ({"decisions": []}, "decisions"),
        ({"decisions": [{}]}, "decisions.0.decision"),
        ({"decisions": [{"decision": "maybe"}]}, "decisions.0.decision"),
        ({"decisions": [{"decision": "allow", "who": "me"}]}, "decisions.0.who"),
        ({"decisions": [{"decision": "allow", "call_id": ""}]}, "decisions.0.call_id"),
        ({"decisions": [{"decision": "allow", "call_id": "call_1"}]}, "decisions.0.call_id"),
        ({"decisions": [{"decision": "allow", "arguments": []}]}, "decisions.0.arguments"),
        ({"decisions": [{"decision": "allow", "arguments": {"order": "x"}}]}, "decisions.0.arguments"),
        ({"decisions": [{"decision": "deny", "arguments": {}}]}, "decisions.0.arguments"),
        ({"decisions": [{"decision": "allow"}, {"decision": "deny"}]}, "decisions.1.call_id"),
        ({"decisions": [{"decision": "allow"}] * 129}, "decisions"),
        ({"decisions": [{"decision": "deny", "reason": "x" * 2001}]}, "decisions.0.reason"),
    ],
)
async def test_decisions_that_do_not_fit(api: Api, shop: Shop, body: dict[str, Any], path: str):
    run_id = await waiting(api)
    found = problem(await api.call("POST", f"{RUNS}/{run_id}/approve", json=body), 422, "invalid")
    assert path in [error["path"] for error in found["errors"]]
    assert (await api.call("GET", f"{RUNS}/{run_id}")).json()["status"] == "waiting"
    assert shop.calls("refund") == []


async def test_decisions_that_cannot_be_read(api: Api):
    run_id = await waiting(api)
    path, json_type = f"{RUNS}/{run_id}/approve", {"content-type": "application/json"}
    problem(await api.call("POST", path), 415, "unsupported_media_type")
    problem(await api.call("POST", path, content=b"", headers=json_type), 400, "bad_request")
    problem(await api.call("POST", path, content=b"{]", headers=json_type), 400, "bad_request")
