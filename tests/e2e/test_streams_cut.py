"""200 streams whose connections are cut again and again, over two processes, one of which is killed in the middle.

Half of them follow by hand (raw server-sent events and `Last-Event-ID`) and hang up at random moments; the other half
are the client's, through a proxy that cuts. Each connection goes to either process. For every one of them no event is
missing, none comes twice, and what holds in the end is what the model said.
"""

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.benchmarks.servers import Server, await_port, function, raise_file_limit
from tests.support.counting_tools import CountingTools
from tests.support.following import Follower, Heard

from goagents.client import AsyncClient, Transcript
from goagents.events import Cursor, RunEvent

CHANCE = random.Random()  # noqa: S311 - no secret
STREAMS = 200
AGENT = "tales.teller"
SHORTEST, LONGEST = 0.02, 1.5  # seconds of a connection
KILL_AFTER = 2.5  # seconds since the streams began, which take about twice as long
LIMIT = 120.0  # seconds for everything, on a machine that does other things beside
CONFIG = """
server: {log_format: json, log_level: warning, timeout: 30s, metrics: {enabled: false}}
runs: {lease_ttl: 2s, dispatch_grace: 2s, poll_interval: 1s}
allow: {addresses: [127.0.0.1]}
providers:
  scripted:
    models:
      teller:
        - {after: look, when: "order (?P<id>[0-9]+)", text: "ANSWER", chunk_size: 9, chunk_delay: 60ms}
        - when: "order (?P<id>[0-9]+)"
          text: "FIRST"
          chunk_size: 9
          chunk_delay: 60ms
          tool_calls: [{name: look, arguments: {order: "{int:id}"}}]
"""
FIRST = "Before I can say what became of order {id}, I look it up. " + "One moment, please. " * 16
ANSWER = "Order {id} is shipped. " + "It takes its time, as things do. " * 10 + "That is all about {id}."


@pytest.fixture(scope="module")
def tools() -> Iterator[CountingTools]:
    with CountingTools() as made:
        yield made


@contextmanager
def gateways(folder: Path, tools: CountingTools) -> Iterator[list[Server]]:
    """Two gateways on one store, with the cluster applied."""
    config = folder / "config.yaml"
    config.write_text(CONFIG.replace("ANSWER", ANSWER).replace("FIRST", FIRST), encoding="utf-8")
    environment = {
        "GOAGENTS_CONFIG": str(config),
        "GOAGENTS_STORE": f"sqlite:///{folder}/state.db",
        "GOAGENTS_OFFLINE": "1",
    }
    order = {"type": "object", "properties": {"order": {"type": "integer"}}, "required": ["order"]}
    call = {"url": f"{tools.url}/look", "method": "GET", "parameters": order}
    look = {"type": "http", "name": "look", "description": "Look an order up.", **call}
    manifest = {
        "apiVersion": "goagents.dev/v1",
        "kind": "AgentCluster",
        "metadata": {"name": "tales"},
        "spec": {
            "resource_policy": {"max_concurrent_agents": 2 * STREAMS, "queue_timeout": "30s"},
            "agents": [{"name": "teller", "provider": "scripted", "model": "teller", "tools": [look]}],
        },
    }
    with ExitStack() as stack:
        logs = [folder / f"gateway-{number}.log" for number in (1, 2)]
        servers = [stack.enter_context(function("gateway", environment, log=log, ready=False)) for log in logs]
        for server in servers:
            await_port(server)
        answer = httpx2.post(f"{servers[0].url}/api/v1/clusters", json=manifest, timeout=60, trust_env=False)
        assert answer.status_code == 201, answer.text
        yield servers


@dataclass
class Site:
    """`living` are the processes that new connections go to. `cuts` counts the connections that were cut."""

    living: list[Server]
    cuts: int = 0

    def any(self) -> Server:
        return CHANCE.choice(self.living)

    def kill(self, server: Server) -> None:
        self.living.remove(server)
        os.killpg(server.process.pid, signal.SIGKILL)


@dataclass
class ByHand:
    """A stream that is followed over raw connections, each of which is closed at a random moment."""

    site: Site
    http: httpx2.AsyncClient
    order: int
    follower: Follower = field(default_factory=Follower)

    async def follow(self) -> Follower:
        while not self.follower.over:
            with suppress(httpx2.TransportError):
                try:
                    async with asyncio.timeout(CHANCE.uniform(SHORTEST, LONGEST)):
                        await self._listen()
                except TimeoutError:
                    self.site.cuts += 1
            await asyncio.sleep(CHANCE.uniform(0, 0.1))
        return self.follower

    async def _listen(self) -> None:
        async with self._asked() as answer:
            assert answer.status_code == 200, (await answer.aread()).decode()
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if line:
                    fields[name] = value
                elif "data" in fields:
                    self.follower._add(Heard(Cursor.parse(fields["id"]), fields["event"], json.loads(fields["data"])))
                    fields = {}

    def _asked(self) -> Any:
        url, run = f"{self.site.any().url}/api/v1", self.follower.run_id
        if run is None:
            headers = {"Idempotency-Key": f"by-hand-{self.order}"}
            return self.http.stream("POST", f"{url}/agents/{AGENT}/stream", json=asked(self.order), headers=headers)
        headers = {"Last-Event-ID": str(self.follower.heard[-1].cursor)}
        return self.http.stream("GET", f"{url}/runs/{run}/events", headers=headers)


def asked(order: int) -> dict[str, str]:
    return {"message": f"What about order {order}?", "session_id": f"order-{order}"}


@asynccontextmanager
async def cutting(site: Site) -> AsyncIterator[str]:
    """A proxy in front of the processes that cuts each connection at a random moment; yields its URL."""
    under_way: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        try:
            await pass_on(reader, writer, site)
        finally:
            if CHANCE.random() < 0.5:
                writer.transport.abort()  # a reset; otherwise it looks like the answer's end
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4 * STREAMS)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*under_way)  # the clients are gone, so each ends


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, site: Site) -> None:
    """Pass bytes both ways until one side ends, or the connection's time is over."""
    try:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", site.any().port)
    except OSError:
        return  # that process is just dying
    ways = [asyncio.create_task(pump(reader, up_writer)), asyncio.create_task(pump(up_reader, writer))]
    ended, _ = await asyncio.wait(ways, timeout=CHANCE.uniform(SHORTEST, LONGEST), return_when=asyncio.FIRST_COMPLETED)
    site.cuts += not ended
    for way in ways:
        way.cancel()
    await asyncio.gather(*ways, return_exceptions=True)
    up_writer.transport.abort()


async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()


async def by_client(client: AsyncClient, order: int) -> Follower:
    """Follow a stream as an application does. The transcript is the client's own idea of what holds."""
    follower, transcript = Follower(), Transcript()
    question = asked(order)
    async for event in client.stream(AGENT, question["message"], session_id=question["session_id"]):
        follower._add(heard(event))
        transcript.add(event)
    assert transcript.texts == (FIRST.format(id=order), ANSWER.format(id=order))
    return follower


def heard(event: RunEvent) -> Heard:
    return Heard(event.cursor, event.type, event.data)


async def tell_all(site: Site) -> list[Follower]:
    """Follow all streams at once; kill a process in the middle."""
    victim = site.living[0]
    half = STREAMS // 2
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(cutting(site))
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=60, trust_env=False, limits=limits))
        clients = [await stack.enter_async_context(AsyncClient(url)) for _ in range(4)]
        telling = [asyncio.create_task(ByHand(site, http, 1000 + number).follow()) for number in range(half)]
        telling += [asyncio.create_task(by_client(clients[n % 4], 1000 + half + n)) for n in range(half)]
        await asyncio.wait(telling, timeout=KILL_AFTER, return_when=asyncio.FIRST_EXCEPTION)
        site.kill(victim)
        return await asyncio.gather(*telling)


def check(order: int, follower: Follower, said: list[Any]) -> None:
    """`said` are the messages of the model as the session has them."""
    first = follower.heard[0]
    if first.type != "run.started":  # its process died before anybody heard or recorded anything of it
        assert (first.type, first.cursor.seq, first.data["resumed_after"]) == ("attempt", 1, None)
    assert follower.heard[-1].type == "run.completed"
    completed = follower.completed()
    texts = ["".join(part["text"] for part in each["parts"] if part["type"] == "text") for each in completed]
    assert texts == [FIRST.format(id=order), ANSWER.format(id=order)]
    assert follower.said() == "".join(texts)
    assert follower.heard[-1].data["message"] == completed[-1]
    assert said == completed


def recorded(http: httpx2.Client, order: int) -> list[Any]:
    answer = http.get(f"/api/v1/sessions/order-{order}/messages")
    assert answer.status_code == 200, answer.text
    return [one["message"] for one in answer.json()["items"] if one["message"]["role"] == "assistant"]


async def test_nothing_is_missing_and_nothing_comes_twice(tmp_path: Path, tools: CountingTools):
    raise_file_limit()
    with gateways(tmp_path, tools) as servers:
        site = Site(list(servers))
        async with asyncio.timeout(LIMIT):
            followers = await tell_all(site)
        with httpx2.Client(base_url=servers[1].url, timeout=60, trust_env=False) as http:
            for order, follower in enumerate(followers, start=1000):
                check(order, follower, recorded(http, order))
    assert site.cuts > 3 * STREAMS
    attempts = [follower.heard[-1].cursor.attempt for follower in followers]
    assert sum(attempt > 1 for attempt in attempts) > STREAMS // 5  # the killed process had runs in progress
    assert sum(attempt > 2 for attempt in attempts) < STREAMS // 20  # and nothing else ended an attempt
    calls = [len(tools.of("look", 1000 + number)) for number in range(STREAMS)]
    assert all(1 <= made <= attempt for made, attempt in zip(calls, attempts, strict=True))
