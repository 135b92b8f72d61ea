"""What a cold start costs: CPU and modules from `functions-framework` to the first answer.

CPU is user and system time of the whole process tree (gunicorn's master and its worker), bytecode compiled, the median
of several starts, against a bare function in the same run.

    python -m tests.benchmarks.cold_start [--json FILE]
"""

import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.gateway import call, configured, manifest, talker
from tests.benchmarks.report import Measure, main
from tests.benchmarks.servers import function, upstream

STARTS = 7
BUDGET = 0.6  # CPU seconds, for health and clusters
SDKS = ("anthropic", "openai", "google.genai")
HEAVY = (*SDKS, "grpc", "mcp", "goagents.cli", "google.cloud.firestore")


@dataclass(frozen=True)
class Case:
    """A function and the first request it is woken by."""

    function: str
    method: str
    path: str
    body: Any = None
    budget: float | None = None


CASES = (
    Case("bare", "GET", "/"),
    Case("health", "GET", "/health", budget=BUDGET),
    Case("clusters", "GET", "/api/v1/clusters", budget=BUDGET),
    Case("chat", "POST", "/api/v1/agents/bench.talker-0/chat", {"message": "Talk."}),
)


def start(case: Case, environment: Mapping[str, str]) -> float:
    with function(case.function, environment) as server:
        call(server, case.method, case.path, case.body)
        return server.cpu_seconds()


def modules(case: Case, environment: Mapping[str, str]) -> list[str]:
    """The modules imported until the first answer, as the interpreter itself reports them."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "imports.log"
        with function(case.function, {**environment, "PYTHONPROFILEIMPORTTIME": "1"}, log=log) as server:
            call(server, case.method, case.path, case.body)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:") and "[us]" not in line]


def within(module: str, packages: tuple[str, ...]) -> str | None:
    return next((package for package in packages if module == package or module.startswith(f"{package}.")), None)


def measure_case(case: Case, environment: Mapping[str, str], bare: float | None) -> list[Measure]:
    start(case, environment)  # not counted: it may still compile bytecode
    cpu = statistics.median(start(case, environment) for _ in range(STARTS))
    loaded = modules(case, environment)
    heavy = sorted({package for module in loaded if (package := within(module, HEAVY))})
    note = f"median of {STARTS} starts" if bare is None else f"{cpu / bare:.2f} times a bare function"
    measures = [
        Measure(f"{case.function}: CPU", cpu, "s", case.budget, note),
        Measure(f"{case.function}: modules", len(loaded), "", None, ", ".join(heavy)),
    ]
    if case.budget is not None:
        measures.append(Measure(f"{case.function}: SDKs, gRPC, MCP, CLI loaded", len(heavy), "", 0))
    if case.function == "chat":
        sdks = len(set(heavy) & set(SDKS))
        measures.append(Measure("chat: provider SDKs loaded", sdks, "", 1))
    return measures


def measure() -> list[Measure]:
    measures: list[Measure] = []
    with upstream() as provider, configured(provider.url) as environment:
        with function("clusters", environment) as server:
            call(server, "POST", "/api/v1/clusters", manifest("bench", [talker(0, "bench-1-1")]), expect=201)
        for case in CASES:
            bare = measures[0].value if measures else None
            measures += measure_case(case, environment | {"BENCH_UPSTREAM": provider.url}, bare)
    return measures


if __name__ == "__main__":
    main({"Cold start (until the first answer)": measure})
