"""The endpoints of runs: every status they answer with, and what they make of wrong input."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support.api import Api, problem
from tests.support.api_of_runs import RUNS, api_of_runs, events_of, queued, waiting
from tests.support.durable import Shop
from tests.support.engine import BOB

from goagents.engine import runs as engine_runs
from goagents.engine.recovery.worker import perform
from goagents.resources import ChatRequest
from goagents.spec.config import Config
from goagents.telemetry.base import RequestFinished
from goagents.testing.webhooks import RecordingWebhooks


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
async def api(tmp_path: Path, shop: Shop) -> AsyncIterator[Api]:
    async with api_of_runs(tmp_path, shop) as made:
        yield made


async def test_a_run_in_the_background_is_accepted_and_found_again(api: Api):
    queue = queued(api)
    response = await api.say("echo", verb="runs")
    run = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"{RUNS}/{run['id']}"
    assert (run["status"], run["kind"], run["attempt"], run["steps"]) == ("queued", "background", 0, [])
    (task,) = queue.taken()
    await perform(api.services, task)
    run = (await api.call("GET", response.headers["location"])).json()
    assert (run["status"], run["output"]["parts"][0]["text"]) == ("succeeded", "hello")
    assert (run["agent"], run["generation"], run["input"]["parts"][0]["text"]) == ("support.echo", 1, "hi")
    assert datetime.fromisoformat(run["finished_at"]) >= datetime.fromisoformat(run["started_at"])
    told = [e for e in api.seen if isinstance(e, RequestFinished) and e.route == "/api/v1/agents/{id}/runs"]
    assert [(e.status, e.run_id) for e in told] == [(202, run["id"])]


async def test_the_same_key_is_the_same_run(api: Api):
    first, second = [await api.say("echo", verb="runs", headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    problem(await api.say("echo", "other", verb="runs", headers={"Idempotency-Key": "k"}), 409, "conflict")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "message"),
        ({"message": "a", "webhook": "https://x.example"}, "webhook"),
        ({"message": "a", "webhook": {}}, "webhook.url"),
        ({"message": "a", "webhook": {"url": "ftp://x.example"}}, "webhook.url"),
        ({"message": "a", "webhook": {"url": "https://x.example", "secret": "s"}}, "webhook.secret"),
        ({"message": "a", "session_policy": "queue"}, "session_policy"),
        ({"message": "a", "session_id": ""}, "session_id"),
    ],
)
async def test_a_run_that_is_asked_for_wrongly(api: Api, body: dict[str, Any], path: str):
    found = problem(await api.say("echo", body, verb="runs"), 422, "invalid")
    assert path in [error["path"] for error in found["errors"]]
    assert (await api.call("GET", RUNS)).json()["items"] == []


async def test_a_webhook_is_for_runs_in_the_background_alone(api: Api):
    body = {"message": "a", "webhook": {"url": "https://x.example"}}
    for verb in ("chat", "stream"):
        assert problem(await api.say("echo", body, verb=verb), 422, "invalid")["errors"][0]["path"] == "webhook"


async def test_a_webhook_is_refused_where_it_could_not_be_signed(api: Api):
    api.services.webhooks = RecordingWebhooks(refused="no key signs webhooks here: set webhooks.secrets")
    body = {"message": "a", "webhook": {"url": "https://x.example"}}
    found = problem(await api.say("echo", body, verb="runs"), 422, "invalid")
    assert found["errors"] == [{"path": "webhook.url", "message": "no key signs webhooks here: set webhooks.secrets"}]
    assert (await api.call("GET", RUNS)).json()["items"] == []
    api.services.webhooks = webhooks = RecordingWebhooks()
    queue = queued(api)
    run = (await api.say("echo", body, verb="runs")).json()
    assert run["webhook"] == "https://x.example"
    for _ in ("the run", "its webhook"):
        (task,) = queue.taken()
        await perform(api.services, task)
    assert [json.loads(delivery.body)["type"] for delivery in webhooks.deliveries] == ["run.completed"]


async def test_an_agent_that_is_not_there(api: Api):
    for agent in ("nobody", "Echo!"):
        problem(await api.say(agent, verb="runs"), 404, "not_found")


async def test_a_busy_session_and_a_full_queue(api: Api):
    queued(api)
    body = {"message": "a", "session_id": "s1"}
    await api.say("echo", body, verb="runs")
    problem(await api.say("echo", {**body, "session_policy": "reject"}, verb="runs"), 409, "session_busy")
    api.services.config = api.services.config.model_copy(
        update={"runs": api.services.config.runs.model_copy(update={"max_queue": 1})}
    )
    second = await api.say("echo", body, verb="runs")
    assert second.json()["status"] == "queued"
    response = await api.say("echo", body, verb="runs")
    problem(response, 429, "limit_exceeded")
    assert int(response.headers["retry-after"]) >= 1
    session = (await api.call("GET", "/api/v1/sessions/s1")).json()
    assert session["queued_runs"] == [second.json()["id"]]


async def test_runs_are_listed_newest_first_page_by_page(api: Api):
    made = [(await api.say("echo")).json()["run_id"] for _ in range(5)]
    seen: list[str] = []
    token: str | None = None
    for _ in range(5):
        query = f"?page_size=2{f'&page_token={token}' if token else ''}"
        page = (await api.call("GET", RUNS + query)).json()
        seen += [run["id"] for run in page["items"]]
        assert all(run["steps"] is None for run in page["items"])
        token = page["next_page_token"]
        if token is None:
            break
    assert seen == made[::-1]
    assert (await api.call("GET", RUNS)).json()["next_page_token"] is None


async def test_lists_are_of_one_agent_session_cluster_or_status(api: Api):
    first = (await api.say("echo", {"message": "a", "session_id": "s1"})).json()["run_id"]
    second = problem(await api.say("busy", {"message": "b", "session_id": "s1"}), 502, "provider_overloaded")["run_id"]
    other = await api.call("POST", "/api/v1/agents/second.echo/chat", json={"message": "c"})
    third = other.json()["run_id"]
    waits = await waiting(api)
    expected = {
        "": [waits, third, second, first],
        "?session_id=s1": [second, first],
        "?session_id=nothing-in-it": [],
        "?agent=support.echo": [first],
        "?agent=default.support.echo": [first],
        "?cluster=second": [third],
        "?cluster=support&namespace=default": [waits, second, first],
        "?status=failed": [second],
        "?status=waiting": [waits],
        "?status=queued": [],
        "?status=succeeded&session_id=s1": [first],
        "?status=succeeded&cluster=support": [first],
        "?status=failed&agent=support.echo": [],
    }
    for query, wanted in expected.items():
        found = (await api.call("GET", RUNS + query)).json()
        assert [run["id"] for run in found["items"]] == wanted, query


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("status=done", "status"), ("status=", "status"), ("status=failed&status=queued", "status"),
        ("agent=nobody", "agent"), ("agent=a.b.c.d", "agent"), ("session_id=../x", "session_id"),
        ("cluster=A", "cluster"), ("page_token=", "page_token"),
        ("page_size=0", "page_size"), ("page_size=501", "page_size"), ("page_size=x", "page_size"),
    ],
)  # fmt: skip
async def test_lists_that_are_asked_for_wrongly(api: Api, query: str, path: str):
    found = problem(await api.call("GET", f"{RUNS}?{query}"), 422, "invalid")
    assert [error["path"] for error in found["errors"]] == [path]


async def test_lists_of_what_is_not_there_and_of_too_much_at_once(api: Api):
    for query in ("agent=support.nobody", "agent=nothing.echo", "cluster=nothing", "cluster=support&namespace=other"):
        problem(await api.call("GET", f"{RUNS}?{query}"), 404, "not_found")
    for query in (
        "agent=support.echo&session_id=s",
        "agent=support.echo&cluster=support",
        "session_id=s&cluster=support",
    ):
        assert "one of them" in problem(await api.call("GET", f"{RUNS}?{query}"), 422, "invalid")["detail"]
    problem(await api.call("GET", f"{RUNS}?page_token=nonsense"), 422, "invalid")


async def test_runs_of_others_are_not_there(api: Api):
    body = ChatRequest(message="mine", session_id="theirs")
    watch = await engine_runs.start(api.services, BOB, "support.echo", body, kind="chat")
    await watch.finished()
    assert (await api.call("GET", RUNS)).json()["items"] == []
    assert (await api.call("GET", f"{RUNS}?session_id=theirs")).json()["items"] == []
    allow = {"decisions": [{"decision": "allow"}]}
    for run_id in (watch.run_id, "run_of_nobody", "a" * 65, "..%2f"):
        problem(await api.call("GET", f"{RUNS}/{run_id}"), 404, "not_found")
        problem(await api.call("GET", f"{RUNS}/{run_id}/events"), 404, "not_found")
        problem(await api.call("POST", f"{RUNS}/{run_id}/cancel"), 404, "not_found")
        problem(await api.call("POST", f"{RUNS}/{run_id}/approve", json=allow), 404, "not_found")


async def test_a_run_is_shown_with_its_steps(api: Api):
    run_id = await waiting(api)
    run = (await api.call("GET", f"{RUNS}/{run_id}")).json()
    assert [(step["number"], step["kind"]) for step in run["steps"]] == [(1, "model"), (2, "result")]
    assert [c["name"] for c in run["waiting"]["calls"]] == ["refund"]
    assert run["waiting"]["calls"][0]["reason"] == "approval"
    assert datetime.fromisoformat(run["waiting"]["until"]) > datetime.fromisoformat(run["waiting"]["since"])


async def test_the_steps_of_a_run_come_in_pages(api: Api):
    run_id = await waiting(api)
    first = (await api.call("GET", f"{RUNS}/{run_id}?page_size=1")).json()
    assert [step["kind"] for step in first["steps"]] == ["model"]
    more = f"{RUNS}/{run_id}?page_size=1&page_token={first['next_page_token']}"
    second = (await api.call("GET", more)).json()
    assert [step["kind"] for step in second["steps"]] == ["result"]
    assert second["id"] == run_id
    assert (await api.call("GET", f"{RUNS}/{run_id}")).json()["next_page_token"] is None
    for wrong in ("page_size=0", "page_size=501", "page_token=x"):
        problem(await api.call("GET", f"{RUNS}/{run_id}?{wrong}"), 422, "invalid")


async def test_a_chat_that_waits_for_a_person_is_accepted(api: Api):
    response = await api.say("clerk")
    assert (response.status_code, response.json()["status"]) == (202, "waiting")
    assert response.headers["location"] == f"{RUNS}/{response.json()['id']}"


async def test_a_chat_that_waits_for_its_turn_is_accepted_when_its_time_is_up(api: Api):
    queued(api)
    await api.say("echo", {"message": "a", "session_id": "s1"}, verb="runs")
    api.services.config = Config.model_validate({"server": {"timeout": "200ms"}})
    response = await api.say("echo", {"message": "b", "session_id": "s1"})
    assert (response.status_code, response.json()["status"]) == (202, "queued")


async def test_a_stream_of_a_run_that_waits_for_its_turn(api: Api):
    first = asyncio.create_task(api.say("slow", {"message": "a", "session_id": "s1"}))
    await asyncio.sleep(0.1)
    events = events_of(await api.say("echo", {"message": "b", "session_id": "s1"}, verb="stream"))
    assert [(id_, kind) for id_, kind, _ in events][:2] == [("0-1", "run.queued"), ("1-1", "run.started")]
    assert events[-1][1] == "run.completed"
    assert (await first).status_code == 200


@pytest.mark.parametrize("how", ["header", "query", "both", "none", "empty"])
async def test_events_are_replayed_from_a_place(api: Api, how: str):
    run_id = (await api.say("echo")).json()["run_id"]
    path = f"{RUNS}/{run_id}/events"
    whole = events_of(await api.call("GET", path))
    assert [(id_, kind) for id_, kind, _ in whole] == [
        ("1-1", "run.started"), ("1-2", "message.delta"), ("1-3", "message.completed"), ("1-4", "run.completed"),
    ]  # fmt: skip
    asked: dict[str, Any] = {
        "header": {"headers": {"Last-Event-ID": "1-2"}},
        "query": {"params": {"after": "1-2"}},
        "both": {"headers": {"Last-Event-ID": "1-2"}, "params": {"after": "1-1"}},  # what an EventSource saw last
        "none": {},
        "empty": {"headers": {"Last-Event-ID": ""}},
    }[how]
    assert events_of(await api.call("GET", path, **asked)) == (whole if how in ("none", "empty") else whole[2:])
    assert events_of(await api.call("GET", path, headers={"Last-Event-ID": "1-4"})) == []


@pytest.mark.parametrize("value", ["1", "1-", "-1", "x-1", "1-1-1", "1 - 1", "+1-1", "1-1234567890", "٣-٤", "1-2\t"])
async def test_a_place_that_is_none(api: Api, value: str):
    run_id = (await api.say("echo")).json()["run_id"]
    path = f"{RUNS}/{run_id}/events"
    found = problem(await api.call("GET", path, params={"after": value}), 422, "invalid")
    assert found["errors"][0]["path"] == "after"
    if value.isascii() and value.isprintable():
        found = problem(await api.call("GET", path, headers={"Last-Event-ID": value}), 422, "invalid")
        assert found["errors"][0]["path"] == "Last-Event-ID"
    problem(await api.call("GET", f"{path}?after=1-1&after=1-2"), 422, "invalid")


async def test_events_of_a_failed_run_end_with_its_failure(api: Api):
    run_id = problem(await api.say("busy"), 502, "provider_overloaded")["run_id"]
    _, kind, data = events_of(await api.call("GET", f"{RUNS}/{run_id}/events"))[-1]
    assert (kind, data["error"]["code"]) == ("run.failed", "provider_overloaded")
    told = [e for e in api.seen if isinstance(e, RequestFinished) and e.route.endswith("/events")]
    assert [(e.status, e.error_code, e.run_id) for e in told] == [(200, "provider_overloaded", run_id)]


async def test_events_end_with_the_requests_time(api: Api):
    queued(api)
    run_id = (await api.say("echo", verb="runs")).json()["id"]
    api.services.config = Config.model_validate({"server": {"timeout": "300ms"}})
    response = await asyncio.wait_for(api.call("GET", f"{RUNS}/{run_id}/events"), 60)
    assert [kind for _, kind, _ in events_of(response)] == ["run.queued"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/v1/agents/support.echo/runs", "OPTIONS, POST"),
        (RUNS, "GET, HEAD, OPTIONS"),
        (f"{RUNS}/RUN", "GET, HEAD, OPTIONS"),
        (f"{RUNS}/RUN/events", "GET, HEAD, OPTIONS"),
        (f"{RUNS}/RUN/cancel", "OPTIONS, POST"),
        (f"{RUNS}/RUN/approve", "OPTIONS, POST"),
    ],
)
async def test_methods(api: Api, path: str, allowed: str):
    path = path.replace("RUN", (await api.say("echo")).json()["run_id"])
    options = await api.call("OPTIONS", path)
    assert (options.status_code, options.headers["allow"]) == (204, allowed)
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - set(allowed.split(", ")):
        refused = await api.call(method, path)
        problem(refused, 405, "method_not_allowed")
        assert refused.headers["allow"] == allowed
    if "HEAD" in allowed:
        head = await asyncio.wait_for(api.call("HEAD", path), 60)
        assert (head.status_code, head.content) == (200, b"")
