"""What the gateway holds at rest: its serving process after one chat on the scripted model, state in SQLite.

RSS counts pages shared with gunicorn's master too; PSS counts a shared page by its share.

    python -m tests.benchmarks.resting_memory [--json FILE]
"""

import time

from tests.benchmarks.gateway import call, configured, manifest
from tests.benchmarks.report import Measure, main
from tests.benchmarks.servers import Server, function

BUDGET = 60.0  # MB of RSS
SETTLE = 2.0  # seconds of quiet before it is read
MB = 1_000_000
SCRIPTED = {"name": "quiet", "provider": "scripted", "model": "brief"}


def resident(server: Server) -> tuple[float, float]:
    """RSS and PSS of the serving process, in MB."""
    time.sleep(SETTLE)
    memory = server.worker().memory_full_info()
    return memory.rss / MB, memory.pss / MB


def measure() -> list[Measure]:
    with configured() as environment:
        with function("bare", environment) as server:
            call(server, "GET", "/")
            bare = resident(server)
        with function("gateway", environment) as server:
            call(server, "POST", "/api/v1/clusters", manifest("bench", [SCRIPTED]), expect=201)
            call(server, "POST", "/api/v1/agents/bench.quiet/chat", {"message": "Hello"})
            rss, pss = resident(server)
    return [
        Measure("bare function: RSS", bare[0], "MB"),
        Measure("bare function: PSS", bare[1], "MB"),
        Measure("gateway: RSS", rss, "MB", BUDGET, f"{rss / bare[0]:.2f} times a bare function"),
        Measure("gateway: PSS", pss, "MB", None, f"{pss / bare[1]:.2f} times a bare function"),
    ]


if __name__ == "__main__":
    main({"Memory at rest (serving process)": measure})
