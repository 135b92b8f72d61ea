"""Everything but model calls: 100 agents in 10 clusters, 50 clients at once, with 100 sessions and with 10,000.

The clients never pause, so the latencies are those of a saturated process: first with all operations mixed, as users
send them, then with each of them alone, 50 at once.

    python -m tests.benchmarks.local_operations [--json FILE]
"""

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

from tests.benchmarks.client import Connection
from tests.benchmarks.gateway import call, configured, manifest
from tests.benchmarks.report import Measure, main, percentile
from tests.benchmarks.servers import Server, function

CLUSTERS = 10
AGENTS = 10
CLIENTS = 50
REQUESTS = 1_000  # of each operation
SESSIONS = (100, 10_000)
BUDGET = 100.0  # ms at p99

Request = tuple[str, str, Any]


def cluster(number: int) -> dict[str, Any]:
    agents = [{"name": f"agent-{each}", "provider": "scripted", "model": "brief"} for each in range(AGENTS)]
    return manifest(f"cluster-{number}", agents, concurrent=100)


async def send(port: int, requests: Sequence[Request]) -> list[tuple[int, float, bytes]]:
    """Send all requests over CLIENTS connections, in order; status, milliseconds and body of each."""
    queue = iter(enumerate(requests))
    results: list[tuple[int, float, bytes]] = [(0, 0.0, b"")] * len(requests)

    async def client() -> None:
        connection = await Connection.open(port)
        for place, (method, path, body) in queue:
            answer = await connection.request(method, path, body)
            results[place] = (answer.status, 1000 * answer.seconds, answer.body)
        connection.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return results


def checked(server: Server, requests: Sequence[Request], expect: int) -> list[tuple[int, float, bytes]]:
    results = asyncio.run(send(server.port, requests))
    for (method, path, _), (status, _, body) in zip(requests, results, strict=True):
        if status != expect:
            raise RuntimeError(f"{method} {path} answered {status}, not {expect}: {body[:300]!r}")
    return results


def converse(server: Server, sessions: range) -> None:
    """One chat in each session: `s0`, `s1`, …"""
    agents = itertools.cycle((c, a) for c in range(CLUSTERS) for a in range(AGENTS))
    requests = [
        ("POST", f"/api/v1/agents/cluster-{c}.agent-{a}/chat", {"message": "Hello", "session_id": f"s{number}"})
        for number, (c, a) in zip(sessions, agents, strict=False)
    ]
    checked(server, requests, 200)


def operations(sessions: int) -> dict[str, tuple[Callable[[int], Request], int]]:
    """Each operation as the maker of its n-th request, and the status expected."""
    scale = {"agent": "agent-0", "instances": 2}
    return {
        "health": (lambda n: ("GET", "/health", None), 200),
        "ready": (lambda n: ("GET", "/ready", None), 200),
        "list clusters": (lambda n: ("GET", "/api/v1/clusters", None), 200),
        "get cluster": (lambda n: ("GET", f"/api/v1/clusters/cluster-{n % CLUSTERS}", None), 200),
        "create cluster": (lambda n: ("POST", "/api/v1/clusters", cluster(100_000 + n)), 201),
        "delete cluster": (lambda n: ("DELETE", f"/api/v1/clusters/cluster-{100_000 + n}", None), 204),
        "put cluster (unchanged)": (
            lambda n: ("PUT", f"/api/v1/clusters/cluster-{n % CLUSTERS}", cluster(n % CLUSTERS)),
            200,
        ),
        "scale": (lambda n: ("POST", f"/api/v1/clusters/cluster-{n % CLUSTERS}/scale", scale), 200),
        "list agents": (lambda n: ("GET", "/api/v1/agents?page_size=100", None), 200),
        "get agent": (lambda n: ("GET", f"/api/v1/agents/cluster-{n % CLUSTERS}.agent-{n % AGENTS}", None), 200),
        "get session": (lambda n: ("GET", f"/api/v1/sessions/s{n % sessions}", None), 200),
        "list messages": (lambda n: ("GET", f"/api/v1/sessions/s{n % sessions}/messages", None), 200),
        "logs": (lambda n: ("GET", f"/api/v1/clusters/cluster-{n % CLUSTERS}/logs?page_size=10", None), 200),
        "metrics summary": (lambda n: ("GET", "/api/v1/metrics", None), 200),
    }


def mixed(server: Server, sessions: int) -> Measure:
    """All operations that answer 200, shuffled the same way each time."""
    makers = [make for make, expect in operations(sessions).values() if expect == 200]
    requests = [make(number) for number in range(REQUESTS // 4) for make in makers]
    random.Random(0).shuffle(requests)  # noqa: S311 - the same order each time
    milliseconds = [each for _, each, _ in checked(server, requests, 200)]
    note = f"p50 {percentile(milliseconds, 0.5):.1f} ms, {len(requests)} requests"
    return Measure(f"all mixed, {sessions} sessions: p99", percentile(milliseconds, 0.99), "ms", BUDGET, note)


def measure_at(server: Server, sessions: int) -> list[Measure]:
    measures = [mixed(server, sessions)]
    for name, (make, expect) in operations(sessions).items():
        count = REQUESTS // 5 if name.endswith("cluster") and "get" not in name else REQUESTS
        results = checked(server, [make(number) for number in range(count)], expect)
        milliseconds = [each for _, each, _ in results]
        middle, tail = percentile(milliseconds, 0.5), percentile(milliseconds, 0.99)
        title = f"{name}, {sessions} sessions: p99"
        measures.append(Measure(title, tail, "ms", BUDGET, f"p50 {middle:.1f} ms"))
    return measures


def measure() -> list[Measure]:
    measures: list[Measure] = []
    with configured() as environment, function("gateway", environment) as server:
        for number in range(CLUSTERS):
            call(server, "POST", "/api/v1/clusters", cluster(number), expect=201)
        done = 0
        for sessions in SESSIONS:
            converse(server, range(done, sessions))
            done = sessions
            measures += measure_at(server, sessions)
    return measures


if __name__ == "__main__":
    main({f"Local operations ({CLUSTERS * AGENTS} agents, {CLIENTS} clients)": measure})
