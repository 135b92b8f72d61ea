"""1,000 streams at once through the gateway, against a pass-through function in the same run, in turn.

The upstream sends 20 chunks, one each 100 ms: 2.0 s is what nobody can be faster than. A stream counts as whole only if
every word of the upstream arrived, in order, and the closing event with it.

Then 50 clients that chat one turn after another: what a turn costs beyond the provider's own time.

    python -m tests.benchmarks.streams [--json FILE]
"""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from tests.benchmarks.client import Collector, Connection, collect, request_bytes
from tests.benchmarks.gateway import gateway
from tests.benchmarks.report import Measure, main, percentile
from tests.benchmarks.servers import Server, function, raise_file_limit, upstream
from tests.benchmarks.upstream import word

STREAMS = 1_000
CHUNKS = 20
INTERVAL = 100  # ms
ROUNDS = 3
CLIENTS = 50
TURNS = 20
THINKING = 50  # ms the provider takes for a chat turn
TIMEOUT = 120.0

WORDS = [word(number) for number in range(CHUNKS)]
AGENT = "/api/v1/agents/bench.talker"


@dataclass(frozen=True)
class Round:
    seconds: float
    cpu: float
    errors: int
    lost: int
    first: list[float]
    each: list[float]


def payloads(body: bytes) -> list[str]:
    """The data of each server-sent event."""
    return [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]


def gateway_words(body: bytes) -> tuple[list[str], bool]:
    events = [json.loads(data) for data in payloads(body)]
    whole = any("stop_reason" in event and "run_id" in event for event in events)
    return "".join(event["text"] for event in events if "text" in event).split(), whole


def upstream_words(body: bytes) -> tuple[list[str], bool]:
    data = payloads(body)
    choices = [json.loads(each)["choices"] for each in data if each != "[DONE]"]
    text = "".join(choice[0]["delta"].get("content", "") for choice in choices if choice)
    return text.split(), "[DONE]" in data


def judge(collectors: list[Collector], words: Callable[[bytes], tuple[list[str], bool]]) -> tuple[int, int]:
    """How many streams failed or did not end, and how many chunks are missing in the others."""
    errors = lost = 0
    for collector in collectors:
        status, body = collector.answer()
        if status != 200:
            errors += 1
            continue
        found, whole = words(body)
        errors += not whole
        lost += sum(expected.strip() not in found for expected in WORDS)
        assert sorted(found) == found, "chunks arrived out of order"
    return errors, lost


def one_round(server: Server, request: bytes, words: Callable[[bytes], tuple[list[str], bool]]) -> Round:
    cpu, begun = server.cpu_seconds(), time.perf_counter()
    collectors = asyncio.run(collect(server.port, [request] * STREAMS, limit=TIMEOUT))
    seconds, cpu = time.perf_counter() - begun, server.cpu_seconds() - cpu
    errors, lost = judge(collectors, words)
    first = [collector.first for collector in collectors]
    return Round(seconds, cpu, errors, lost, first, [collector.last for collector in collectors])


async def chat(port: int, path: str, body: dict[str, object]) -> list[float]:
    """Latencies of CLIENTS clients with TURNS turns each; any failure raises."""

    async def client() -> list[float]:
        connection = await Connection.open(port)
        seconds = []
        for _ in range(TURNS):
            answer = await connection.request("POST", path, body)
            if answer.status != 200:
                raise RuntimeError(f"{path} answered {answer.status}: {answer.body[:300]!r}")
            seconds.append(answer.seconds)
        connection.close()
        return seconds

    results = await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return [seconds for result in results for seconds in result]


def stream_measures(name: str, rounds: list[Round], ideal: float) -> list[Measure]:
    best = min(rounds, key=lambda each: each.seconds)
    return [
        Measure(f"{name}: all streams", best.seconds, "s", None, f"best of {len(rounds)}; {ideal:g} s is ideal"),
        Measure(f"{name}: a stream, p99", percentile(best.each, 0.99), "s"),
        Measure(f"{name}: first byte, p99", percentile(best.first, 0.99), "s"),
        Measure(f"{name}: CPU", best.cpu, "s", None, f"{1e6 * best.cpu / STREAMS / CHUNKS:.0f} µs a chunk"),
        Measure(f"{name}: failed streams", sum(each.errors for each in rounds), "", 0, "of all rounds"),
        Measure(f"{name}: lost chunks", sum(each.lost for each in rounds), "", 0, "of all rounds"),
    ]


def measure() -> list[Measure]:
    raise_file_limit()
    with ExitStack() as stack:
        provider = stack.enter_context(upstream())
        ours = stack.enter_context(gateway(provider.url, talkers=[f"bench-{CHUNKS}-{INTERVAL}", f"bench-1-{THINKING}"]))
        direct = stack.enter_context(function("passthrough", {"BENCH_UPSTREAM": provider.url}))
        stream = request_bytes("POST", f"{AGENT}-0/stream", {"message": "Talk."}, close=True)
        body = {"model": f"bench-{CHUNKS}-{INTERVAL}", "stream": True}
        passed = request_bytes("POST", "/v1/chat/completions", body, close=True)
        rounds: dict[str, list[Round]] = {"pass-through": [], "gateway": []}
        for _ in range(ROUNDS):
            rounds["pass-through"].append(one_round(direct, passed, upstream_words))
            rounds["gateway"].append(one_round(ours, stream, gateway_words))
        turns = {
            "pass-through": asyncio.run(chat(direct.port, "/v1/chat/completions", {"model": f"bench-1-{THINKING}"})),
            "gateway": asyncio.run(chat(ours.port, f"{AGENT}-1/chat", {"message": "Talk."})),
        }
    measures = []
    for name in ("pass-through", "gateway"):
        measures += stream_measures(name, rounds[name], CHUNKS * INTERVAL / 1000)
    ratio = min(each.seconds for each in rounds["gateway"]) / min(each.seconds for each in rounds["pass-through"])
    measures.append(Measure("gateway / pass-through", ratio, "times"))
    for name, seconds in turns.items():
        for share in (0.5, 0.99):
            beyond = 1000 * percentile(seconds, share) - THINKING
            note = f"{CLIENTS} clients, {CLIENTS * TURNS} turns, beyond the provider's {THINKING} ms"
            measures.append(Measure(f"{name}: chat turn, p{100 * share:.0f}", beyond, "ms", None, note))
    return measures


if __name__ == "__main__":
    main({f"Streams ({STREAMS} at once, {CHUNKS} chunks each {INTERVAL} ms)": measure})
