"""Runs outlast requests and processes: handed on before a deadline, at SIGTERM, and where a client hangs up.

Each over two deployments: gateways whose dispatch is local, and functions with Cloud Tasks between them. What was done
with tools is counted by the service that did it.
"""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.counting_tools import CountingTools
from tests.support.deployment import ByPath, Deployment
from tests.support.fakes.cloud_tasks import CloudTasks
from tests.support.processes import INTERNAL_KEY, Killable
from tests.support.zygote import Zygote

from goagents.client import AsyncClient

STEPS, FEW = 20, 6  # of a run of the agents `clerk` and `junior`
DEADLINE = 5.0  # seconds of a request, where it is short: a run takes twice as long
GRACE = 10.0  # seconds that Cloud Run gives a process to end
SLACK = 3.0  # seconds, for a machine that does other things beside
TOOLS = ("look", "reserve", "refund")
INTERNAL = {"Authorization": f"Bearer {INTERNAL_KEY}"}


def script(steps: int) -> list[dict[str, Any]]:
    """A model that calls one tool after the other, each half a second after the one before."""
    order = {"always": True, "when": "order (?P<id>[0-9]{4})"}
    asking: list[dict[str, Any]] = [
        {
            **order,
            "round": number,
            "delay": "460ms",
            "text": f"Step {number}.",
            "tool_calls": [{"name": TOOLS[number % 3], "arguments": {"order": f"{{id}}{number:02d}"}}],
        }
        for number in range(1, steps + 1)
    ]
    return [*asking, {**order, "round": steps + 1, "text": "Order {id} is done."}]


def manifest(tools: CountingTools) -> dict[str, Any]:
    order = {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]}

    def tool(name: str, method: str, **more: str) -> dict[str, Any]:
        about = {"type": "http", "name": name, "description": f"{name} an order", "parameters": order}
        return {**about, "url": f"{tools.url}/{name}", "method": method, **more}

    offered = [tool("look", "GET"), tool("reserve", "POST", effect="idempotent"), tool("refund", "POST")]
    return {
        "apiVersion": "goagents.dev/v1",
        "kind": "AgentCluster",
        "metadata": {"name": "orders"},
        "spec": {
            "agents": [
                {"name": name, "provider": "scripted", "model": name, "tools": offered} for name in ("clerk", "junior")
            ]
        },
    }


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as made:
        yield made


@pytest.fixture(scope="module")
def tools() -> Iterator[CountingTools]:
    with CountingTools() as made:
        yield made


@pytest.fixture
def queue() -> Iterator[CloudTasks]:
    with CloudTasks() as made:
        yield made


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=60, trust_env=False) as made:
        yield made


@pytest.fixture
def deploy(tmp_path: Path, zygote: Zygote, tools: CountingTools) -> Callable[..., Deployment]:
    def made(timeout: float, queue: CloudTasks | None = None) -> Deployment:
        folder = tmp_path / ("functions" if queue else "gateways")
        models = {"clerk": script(STEPS), "junior": script(FEW)}
        return Deployment(folder, zygote, manifest(tools), models, timeout, queue)

    return made


def done(tools: CountingTools, order: int) -> list[str]:
    """What was done for an order, in order of time."""
    return [str(call.order) for call in tools.calls if str(call.order).startswith(str(order))]


def asked(order: int) -> dict[str, str]:
    return {"message": f"See to order {order}.", "session_id": f"order-{order}"}


def all_steps(order: int, steps: int = STEPS) -> list[str]:
    return [f"{order}{number:02d}" for number in range(1, steps + 1)]


async def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"{what} within {seconds:g} s"
        await asyncio.sleep(0.02)


async def begin_chat(
    http: httpx2.AsyncClient, process: Killable, order: int, *, agent: str = "clerk", **more: str
) -> httpx2.Response:
    """The same order again is the same request."""
    url, key = f"{process.url}/api/v1/agents/orders.{agent}/chat", {"Idempotency-Key": f"order-{order}"}
    return await http.post(url, json=asked(order) | more, headers=key)


async def ended(http: httpx2.AsyncClient, process: Killable, run: str, *, sweeps: bool = False) -> dict[str, Any]:
    """Return the run once it is over."""
    give_up = time.monotonic() + 60
    while True:
        if sweeps:
            assert (await http.post(f"{process.url}/sweep", headers=INTERNAL)).status_code == 200
        answer = await http.get(f"{process.url}/api/v1/runs/{run}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        if found["finished_at"] is not None:
            return found
        assert time.monotonic() < give_up, f"the run is {found['status']}"
        await asyncio.sleep(0.2)


def check(run: dict[str, Any], order: int, attempt: int, steps: int = STEPS) -> None:
    assert (run["status"], run["attempt"]) == ("succeeded", attempt)
    assert run["output"]["parts"] == [{"type": "text", "text": f"Order {order} is done."}]
    whole = [step["number"] for step in run["steps"] if step["kind"] != "result"]
    assert whole == list(range(1, 2 * steps + 1))
    assert run["tool_calls"] == steps


@asynccontextmanager
async def events(
    http: httpx2.AsyncClient, method: str, url: str, body: Any = None
) -> AsyncIterator[AsyncIterator[tuple[str, dict[str, Any]]]]:
    """The events of a stream, as type and data. Raises httpx2.TransportError where it is cut."""

    async def read(answer: httpx2.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        kind = ""
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            kind = value if name == "event" else kind
            if name == "data":
                yield kind, json.loads(value)

    async with http.stream(method, url, json=body) as answer:
        assert answer.status_code == 200, (await answer.aread()).decode()
        yield read(answer)


async def outlasts_its_requests(
    deployment: Deployment, tools: CountingTools, http: httpx2.AsyncClient, first: int
) -> int:
    """Have two runs that take twice as long as a request may: by hand, and by the client. Return their attempts."""

    async def by_hand(order: int) -> int:
        began = time.monotonic()
        answer = await begin_chat(http, deployment["chat"], order)
        assert time.monotonic() - began < DEADLINE + SLACK
        assert (answer.status_code, answer.headers["location"]) == (202, f"/api/v1/runs/{answer.json()['id']}")
        assert answer.json()["status"] in ("handed_off", "running")
        run = await ended(http, deployment["runs"], answer.json()["id"])
        check(run, order, run["attempt"])
        return int(run["attempt"])

    async def by_client(order: int) -> int:
        async with AsyncClient(deployment["chat"].url, transport=ByPath(deployment)) as client:
            answer = await client.chat("orders.clerk", asked(order)["message"], session_id=asked(order)["session_id"])
            assert answer.message.text == f"Order {order} is done."
            return (await client.get_run(answer.run_id)).attempt

    attempts = await asyncio.gather(by_hand(first), by_client(first + 1))
    for order in (first, first + 1):
        assert done(tools, order) == all_steps(order)
    assert min(attempts) >= 3
    return sum(attempts)


async def test_a_run_outlasts_its_requests(
    deploy: Callable[..., Deployment], tools: CountingTools, queue: CloudTasks, http: httpx2.AsyncClient
):
    with deploy(DEADLINE) as gateways, deploy(DEADLINE, queue) as functions:
        _, attempts = await asyncio.gather(
            outlasts_its_requests(gateways, tools, http, 1001), outlasts_its_requests(functions, tools, http, 1003)
        )
        queue.drain()
    assert len(queue.created) == attempts - 2  # each attempt but the first comes of a task
    assert [one.status for one in queue.deliveries] == [200] * len(queue.created)


async def terminated(process: Killable) -> float:
    """End a process as the platform does; return the seconds it took."""
    began = time.monotonic()
    process.server.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(process.wait_dead, GRACE + SLACK)
    return time.monotonic() - began


async def listen(http: httpx2.AsyncClient, method: str, url: str, body: Any = None) -> list[tuple[str, dict[str, Any]]]:
    async with events(http, method, url, body) as happened:
        return [one async for one in happened]


async def gateway_ends(deployment: Deployment, tools: CountingTools, http: httpx2.AsyncClient) -> None:
    """Of all kinds of requests one is open when the gateway is asked to end; each is answered."""
    process, other = deployment["gateway"], deployment["other"]
    agent = f"{process.url}/api/v1/agents/orders.clerk"
    stream = asyncio.create_task(listen(http, "POST", f"{agent}/stream", asked(2002)))
    background = (await http.post(f"{agent}/runs", json=asked(2003))).json()["id"]
    following = asyncio.create_task(listen(http, "GET", f"{process.url}/api/v1/runs/{background}/events"))
    elsewhere = asyncio.create_task(begin_chat(http, other, 2005))
    chats = [asyncio.create_task(begin_chat(http, process, 2001))]
    await until(lambda: all(len(done(tools, order)) > 1 for order in (2001, 2002, 2003, 2005)), "the runs under way")
    chats.append(asyncio.create_task(begin_chat(http, process, 2005)))  # waits for the run of the other process
    chats.append(asyncio.create_task(begin_chat(http, process, 2006, agent="junior", session_id="order-2002")))
    await asyncio.sleep(0.5)  # that one waits behind the stream's
    assert await terminated(process) < GRACE
    seen, followed = await stream, await following
    assert (seen[0][0], seen[-1][0]) == ("run.started", "run.handed_off")
    assert followed[0][0] == "run.queued"
    runs = {2002: seen[0][1]["run_id"], 2003: background}
    for order, answer in zip((2001, 2005, 2006), [await chat for chat in chats], strict=True):
        runs[order] = answer.json()["id"]
        assert (answer.status_code, answer.headers["location"]) == (202, f"/api/v1/runs/{runs[order]}")
    for order in (2001, 2002, 2003):
        check(await ended(http, other, runs[order], sweeps=True), order, 2)
        check_calls(tools, order)
    assert (await elsewhere).json()["run_id"] == runs[2005]
    check(await ended(http, other, runs[2005]), 2005, 1)
    check(await ended(http, other, runs[2006], sweeps=True), 2006, 1, FEW)


async def worker_ends(
    deployment: Deployment, tools: CountingTools, queue: CloudTasks, http: httpx2.AsyncClient
) -> None:
    """The worker is asked to end with a run in progress; the next one goes on with it."""
    begun = await http.post(f"{deployment['runs'].url}/api/v1/agents/orders.clerk/runs", json=asked(2004))
    assert begun.status_code == 202, begun.text
    await until(lambda: len(done(tools, 2004)) > 1, "a run under way")
    assert await terminated(deployment["worker"]) < GRACE
    deployment.processes["worker"] = deployment.start("worker")
    check(await ended(http, deployment["runs"], begun.json()["id"]), 2004, 2)
    check_calls(tools, 2004)
    await asyncio.to_thread(queue.drain)
    # the request was answered; none of the tasks but the one that came too early was delivered again
    assert len(queue.created) == 2
    assert [one.status for one in queue.deliveries if one.status is not None] == [200, 200]


def check_calls(tools: CountingTools, order: int) -> None:
    """A call that was interrupted is made again, if that does no harm; nothing else is done twice."""
    calls = done(tools, order)
    assert sorted(set(calls)) == all_steps(order)
    again = [step for step in set(calls) if calls.count(step) > 1]
    assert len(calls) <= STEPS + 1
    assert all(TOOLS[int(step[-2:]) % 3] != "refund" for step in again)


async def test_a_process_that_is_asked_to_end_hands_its_runs_on(
    deploy: Callable[..., Deployment], tools: CountingTools, queue: CloudTasks, http: httpx2.AsyncClient
):
    with deploy(60) as gateways, deploy(60, queue) as functions:
        await asyncio.gather(gateway_ends(gateways, tools, http), worker_ends(functions, tools, queue, http))


async def hang_up(
    deployment: Deployment, tools: CountingTools, http: httpx2.AsyncClient, order: int, attempt: int
) -> None:
    """Leave a stream as soon as its first tool was called; the run takes so many attempts all the same."""
    url = f"{deployment['stream'].url}/api/v1/agents/orders.junior/stream"
    async with events(http, "POST", url, asked(order)) as happened:
        run = (await anext(happened))[1]["run_id"]
        while (await anext(happened))[0] != "tool.finished":
            pass
    check(await ended(http, deployment.processes.get("other") or deployment["runs"], run), order, attempt, FEW)
    assert done(tools, order) == all_steps(order, FEW)


async def test_a_client_that_hangs_up_ends_nothing(
    deploy: Callable[..., Deployment], tools: CountingTools, queue: CloudTasks, http: httpx2.AsyncClient
):
    with deploy(60) as gateways, deploy(60, queue) as functions:
        # with server.background it goes on where it was; without, the worker goes on with it
        await asyncio.gather(hang_up(gateways, tools, http, 3001, 1), hang_up(functions, tools, http, 3002, 2))
        await asyncio.to_thread(queue.drain)
    assert [one.status for one in queue.deliveries] == [200]
