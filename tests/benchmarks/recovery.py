"""How long a run lies still when its process is killed: until another one takes it up, and until it is over.

A gateway is killed (SIGKILL) in the middle of its runs, again and again, at moments that have nothing to do with its
heartbeats. Another one on the same store is swept as a scheduler does; then the same where nobody sweeps, and the runs
are gone on with because somebody follows them. The bound is what can be said before: the lease lasts for `lease_ttl`
from its last renewal, the next sweep comes within `sweep_interval`, and a worker takes the run up.

    python -m tests.benchmarks.recovery [--json FILE]
"""

import asyncio
import os
import random
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from tests.benchmarks.gateway import call, manifest
from tests.benchmarks.report import Measure, main, percentile
from tests.benchmarks.servers import Server, function

KILLS = 6  # of each kind
RUNS = 4  # in progress at each
LEASE_TTL = 1.0  # seconds, as the next three
SWEEP_INTERVAL = 0.5
DISPATCH = 0.2  # what a sweep and the local dispatch may take
POLL = 1.0  # the longest pause between two looks of a follower
THINKING = 2.0  # seconds a run takes, if nothing happens to it
LOOK = 0.02
LIMIT = 30.0
KEY = "the-key-of-internal-calls"
AGENT = "/api/v1/agents/bench.thinker"
CONFIG = f"""\
server: {{log_level: error}}
auth: {{mode: none}}
runs: {{lease_ttl: {LEASE_TTL}, dispatch_grace: {LEASE_TTL}}}
providers: {{scripted: {{models: {{thinker: [{{text: "Well.", delay: {THINKING}}}]}}}}}}
"""


@dataclass(frozen=True)
class Recovery:
    """Seconds from the kill until the run was taken up, and until it was over."""

    taken: float
    over: float


@contextmanager
def configured() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="goagents-bench-") as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(CONFIG, encoding="utf-8")
        store = f"sqlite:///{folder}/bench.db"
        yield {"GOAGENTS_CONFIG": str(config), "GOAGENTS_STORE": store, "GOAGENTS_INTERNAL_KEY": KEY}


@asynccontextmanager
async def sweeping(http: httpx2.AsyncClient) -> AsyncIterator[None]:
    async def go_on() -> None:
        while True:
            answer = await http.post("/sweep", headers={"Authorization": f"Bearer {KEY}"})
            answer.raise_for_status()
            await asyncio.sleep(SWEEP_INTERVAL)

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def looked_at(http: httpx2.AsyncClient, run: str) -> Recovery:
    """Look at a run, which does nothing to it, until it is over; times are those of the clock."""
    taken = 0.0
    while True:
        found: dict[str, Any] = (await http.get(f"/api/v1/runs/{run}")).raise_for_status().json()
        now = time.perf_counter()
        if found["attempt"] > 1:
            taken = taken or now
        if found["finished_at"] is not None:
            if found["status"] != "succeeded" or not taken:
                raise RuntimeError(f"the run {found['status']} in attempt {found['attempt']}")
            return Recovery(taken, now)
        await asyncio.sleep(LOOK)


async def followed(http: httpx2.AsyncClient, run: str) -> Recovery:
    """Follow a run by its events, which has it gone on with."""
    taken = 0.0
    async with http.stream("GET", f"/api/v1/runs/{run}/events") as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line == "event: attempt":
                taken = time.perf_counter()
            if line == "event: run.completed" and taken:
                return Recovery(taken, time.perf_counter())
    raise RuntimeError("the stream of events ended without the run's end")


async def kill_one(survivor: Server, victim: Server, runs: Sequence[str], *, swept: bool) -> list[Recovery]:
    http = httpx2.AsyncClient(base_url=survivor.url, timeout=LIMIT, trust_env=False)
    async with http, sweeping(http) if swept else nullcontext():
        watch = looked_at if swept else followed
        watching = [asyncio.create_task(watch(http, run)) for run in runs]
        await asyncio.sleep(random.uniform(0.3, 0.8) * THINKING)  # noqa: S311 - no secret
        os.killpg(victim.process.pid, signal.SIGKILL)
        killed = time.perf_counter()
        async with asyncio.timeout(LIMIT):
            found = await asyncio.gather(*watching)
    return [Recovery(one.taken - killed, one.over - killed) for one in found]


def kill_all(environment: dict[str, str], survivor: Server, *, swept: bool) -> list[Recovery]:
    found: list[Recovery] = []
    for _ in range(KILLS):
        with function("gateway", environment) as victim:
            begun = [call(victim, "POST", f"{AGENT}/runs", {"message": "Hm?"}, expect=202) for _ in range(RUNS)]
            runs = [answer.json()["id"] for answer in begun]
            found += asyncio.run(kill_one(survivor, victim, runs, swept=swept))
    return found


def measures(name: str, found: Sequence[Recovery], bound: float, note: str) -> list[Measure]:
    taken = [one.taken for one in found]
    again = max(one.over - one.taken for one in found)
    return [
        Measure(f"{name}: until it is taken up, p50", percentile(taken, 0.5), "s", None, f"{len(found)} runs"),
        Measure(f"{name}: until it is taken up, longest", max(taken), "s", bound, note),
        Measure(f"{name}: longest / bound", max(taken) / bound, "times", 1.0),
        Measure(f"{name}: until it is over, longest", max(one.over for one in found), "s", None, "the step done again"),
        Measure(f"{name}: from there to its end, longest", again, "s", None, f"{THINKING:g} s are the model's"),
    ]


def measure() -> list[Measure]:
    with configured() as environment, function("gateway", environment) as survivor:
        agent = {"name": "thinker", "provider": "scripted", "model": "thinker"}
        call(survivor, "POST", "/api/v1/clusters", manifest("bench", [agent]), expect=201)
        swept = kill_all(environment, survivor, swept=True)
        left = kill_all(environment, survivor, swept=False)
    lease = f"lease_ttl {LEASE_TTL:g} s"
    by_sweep = f"{lease} + sweep_interval {SWEEP_INTERVAL:g} s + dispatch {DISPATCH:g} s"
    by_look = f"{lease} + a follower's look {POLL:g} s + dispatch {DISPATCH:g} s"
    return [
        *measures("swept", swept, LEASE_TTL + SWEEP_INTERVAL + DISPATCH, by_sweep),
        *measures("followed", left, LEASE_TTL + POLL + DISPATCH, by_look),
    ]


if __name__ == "__main__":
    main({f"Recovery ({KILLS} kills of a process, {RUNS} runs each)": measure})
