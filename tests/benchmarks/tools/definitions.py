"""A thousand definitions, of eight OpenAPI pages: opened, held, and sent with every turn."""

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from tests.benchmarks.report import Measure
from tests.benchmarks.servers import upstream
from tests.benchmarks.tools.bench import Found, Size, Timing, bench, shown, table, timed, times


def measure(size: Size) -> Found:
    async def work() -> Found:
        process = psutil.Process()
        with tempfile.TemporaryDirectory(prefix="goagents-bench-") as folder, upstream() as model:
            tools = pages(Path(folder), size)
            async with bench([], model.url) as made:
                await made.turn()  # what is loaded once is not what is measured
                without = (await timed({"turn": made.turn}, size.rounds, size.turns))["turn"]
            before, began = process.memory_info().rss, time.perf_counter()
            async with bench(tools, model.url) as made:
                seconds, memory = time.perf_counter() - began, process.memory_info().rss - before
                schemas = made.toolbox.schemas
                assert len(schemas) == size.definitions
                turn = (await timed({"turn": made.turn}, size.rounds, size.turns))["turn"]
        sent = len(json.dumps([[each.name, each.description, each.parameters] for each in schemas]))
        return _found(size, Timing(seconds * 1e6, 0.0), memory, sent, without, turn)

    return asyncio.run(work())


def _found(size: Size, opened: Timing, memory: int, sent: int, without: Timing, turn: Timing) -> Found:
    count = size.definitions
    ratio = turn.cpu / without.cpu
    each = (turn.cpu - without.cpu) / count
    measures = [
        Measure(f"{count} definitions, opened", opened.wall / 1e6, "s"),
        Measure(f"{count} definitions, memory", memory / 2**20, "MiB", None, "resident, of the process"),
        Measure(f"{count} definitions, as JSON", sent / 1024, "KiB", None, "what every request to a model holds"),
        Measure("a turn without tools", without.wall, "µs", None, f"{without.cpu:.0f} µs of CPU"),
        Measure(f"a turn with {count} definitions", turn.wall, "µs", None, f"{turn.cpu:.0f} µs of CPU"),
        Measure(f"a turn with {count} definitions, times one without", ratio, "times", None, "in CPU"),
    ]
    head = (f"{count:,} definitions", "opened", "memory", "as JSON", "CPU of a turn", "of one without tools", "times",
            "for each definition")  # fmt: skip
    sizes = [f"{memory / 2**20:.0f} MiB", f"{sent / 1024:,.0f} KiB"]
    turns = [shown(turn.cpu), shown(without.cpu), times(ratio), shown(max(each, 0.0))]
    return Found(
        measures, table(head, [[f"{count // size.per_page} OpenAPI pages", shown(opened.wall), *sizes, *turns]])
    )


def pages(folder: Path, size: Size) -> list[dict[str, Any]]:
    """Write the pages and return the entries that read them."""
    tools = []
    for number in range(size.definitions // size.per_page):
        path = folder / f"page{number}.json"
        path.write_text(json.dumps(page(size.per_page)), encoding="utf-8")
        tools.append({"type": "http", "name": f"p{number}", "openapi": str(path)})
    return tools


def page(operations: int) -> dict[str, Any]:
    """An OpenAPI page, each of its operations with five parameters and a body."""
    fields = {f"field_{n}": {"type": "string", "description": f"The field {n} of a record."} for n in range(10)}
    body = {"content": {"application/json": {"schema": {"type": "object", "properties": fields}}}}
    parameters = [
        {"name": f"q{n}", "in": "query", "description": f"The filter {n}.", "schema": {"type": "string"}}
        for n in range(5)
    ]
    return {
        "openapi": "3.1.0",
        "info": {"title": "bench", "version": "1"},
        "servers": [{"url": "http://127.0.0.1:1/v1"}],
        "paths": {
            f"/records{n}": {
                "post": {
                    "operationId": f"op{n}", "description": f"Makes a record of the kind {n}, or changes it.",
                    "parameters": parameters, "requestBody": body, "responses": {},
                }
            }
            for n in range(operations)
        },
    }  # fmt: skip
