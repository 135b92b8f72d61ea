"""What a benchmark hands back, as a table for people and as JSON for machines. Budgets are shown, never asserted."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measure:
    """One number. `budget` is the most it should be, in the same unit; `note` says what it is measured against."""

    name: str
    value: float
    unit: str
    budget: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.budget is None:
            return ""
        return "ok" if self.value <= self.budget else "OVER"


def show(title: str, measures: Sequence[Measure]) -> None:
    width = max(len(measure.name) for measure in measures)
    print(f"\n{title}")
    for measure in measures:
        budget = "" if measure.budget is None else f"budget {measure.budget:g}"
        row = f"  {measure.name:<{width}}  {measure.value:>10.5g} {measure.unit:<8} {budget:<13} {measure.verdict:<5}"
        print(f"{row} {measure.note}".rstrip())
    sys.stdout.flush()


def write_json(path: Path, results: dict[str, list[Measure]]) -> None:
    document = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()},
        "results": {title: [asdict(measure) for measure in measures] for title, measures in results.items()},
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def main(benchmarks: dict[str, Callable[[], list[Measure]]]) -> None:
    """Run benchmarks one after another and show each as it ends."""
    parser = argparse.ArgumentParser(description="Measures GoAgents on this machine, on loopback only.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    arguments = parser.parse_args()
    results: dict[str, list[Measure]] = {}
    for title, benchmark in benchmarks.items():
        results[title] = benchmark()
        show(title, results[title])
    if arguments.json:
        write_json(arguments.json, results)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
