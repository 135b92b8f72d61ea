import asyncio

import pytest
from tests.support.api import Api, problem

from goagents.telemetry.base import RequestFinished


async def test_an_answer_names_its_run_and_its_session(api: Api):
    response = await api.say("echo")
    assert response.status_code == 200
    body = response.json()
    assert body["message"]["parts"] == [{"type": "text", "text": "hello"}]
    assert body["agent"] == "support.echo"
    assert body["run_id"].startswith("run_")
    again = await api.say("echo", {"message": "more", "session_id": body["session_id"]})
    assert again.json()["session_id"] == body["session_id"]
    messages = await api.call("GET", f"/api/v1/sessions/{body['session_id']}/messages")
    assert [m["message"]["role"] for m in messages.json()["items"]] == ["user", "assistant"] * 2


async def test_content_parts(api: Api):
    parts = [{"type": "text", "text": "see"}, {"type": "image", "url": "https://example.com/a.png"}]
    assert (await api.say("echo", parts)).status_code == 200


@pytest.mark.parametrize(
    ("agent", "status", "code"),
    [
        ("busy", 502, "provider_overloaded"),
        ("broken", 502, "provider_authentication_failed"),
        ("late", 504, "provider_timed_out"),
    ],
)
async def test_a_failed_run_is_a_problem_that_says_which_run(api: Api, agent: str, status: int, code: str):
    body = problem(await api.say(agent), status, code)
    assert body["run_id"].startswith("run_")
    assert (await api.call("GET", f"/api/v1/sessions/{body['session_id']}")).json()["active_run"] is None


async def test_a_run_past_its_time_is_504(api: Api):
    api.configure(runs={"timeout": "50ms"})
    body = problem(await api.say("slow"), 504, "run_timed_out")
    assert body["run_id"]


async def test_a_run_that_outlasts_its_request_goes_on(api: Api):
    api.configure(server={"timeout": "50ms"})
    answer = await api.say("slow")
    run = answer.json()
    assert (answer.status_code, run["status"]) == (202, "handed_off")
    assert answer.headers["location"] == f"/api/v1/runs/{run['id']}"
    api.configure(server={"timeout": "10s"})
    events = await api.call("GET", f"{answer.headers['location']}/events")
    assert "event: run.completed" in events.text
    ended = (await api.call("GET", answer.headers["location"])).json()
    assert (ended["status"], ended["output"]["parts"][0]["text"]) == ("succeeded", "in the end")


async def test_a_session_in_use_is_a_conflict(api: Api):
    first = asyncio.create_task(api.say("slow", {"message": "a", "session_id": "s1"}))
    await asyncio.sleep(0.1)
    problem(
        await api.say("slow", {"message": "b", "session_id": "s1", "session_policy": "reject"}), 409, "session_busy"
    )
    problem(await api.call("DELETE", "/api/v1/sessions/s1"), 409, "session_busy")
    assert (await first).status_code == 200


async def test_a_cluster_without_a_free_place_says_when_to_come_back(api: Api):
    places = [asyncio.create_task(api.say("slow")) for _ in range(5)]
    await asyncio.sleep(0.1)
    response = await api.say("echo")
    problem(response, 429, "limit_exceeded")
    assert int(response.headers["retry-after"]) >= 1
    assert [(await place).status_code for place in places] == [200] * 5


async def test_the_same_key_is_the_same_run(api: Api):
    headers = {"Idempotency-Key": "k1"}
    first, second = [await api.say("echo", headers=headers) for _ in range(2)]
    assert first.json() == second.json()
    problem(await api.say("echo", "another", headers=headers), 409, "conflict")


@pytest.mark.parametrize(
    "headers", [{"Idempotency-Key": ""}, {"Idempotency-Key": "x" * 256}, [("Idempotency-Key", "a")] * 2]
)
async def test_a_key_that_is_none(api: Api, headers: object):
    body = problem(await api.say("echo", headers=headers), 422, "invalid")
    assert body["errors"][0]["path"] == "Idempotency-Key"


async def test_an_answer_waits_for_its_run_to_be_settled(api: Api):
    response = await api.say("slow")
    session = await api.call("GET", f"/api/v1/sessions/{response.json()['session_id']}")
    assert session.json()["active_run"] is None
    assert session.json()["messages"] == 2


async def test_a_request_is_told_with_its_template_run_and_principal(api: Api):
    response = await api.say("echo")
    (told,) = [event for event in api.seen if isinstance(event, RequestFinished)]
    assert (told.route, told.status, told.principal) == ("/api/v1/agents/{id}/chat", 200, "local")
    assert told.run_id == response.json()["run_id"]
    assert told.request_id == response.headers["x-request-id"]
