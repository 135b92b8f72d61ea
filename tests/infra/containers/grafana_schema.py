"""Reads dashboards into Grafana's own types and writes them again: what is lost, Grafana does not know. For the runner.

    python grafana_schema.py DASHBOARD.json…

Works in the tools' own environment (PyPI: grafana-foundation-sdk).
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard


def differences(ours: Any, theirs: Any, place: str = "") -> Iterator[str]:
    """Yield the places where Grafana's reading has not what we wrote."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name, value in ours.items():
            if name in theirs:
                yield from differences(value, theirs[name], f"{place}.{name}")
            else:
                yield f"{place}.{name}: Grafana knows no such field"
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(one, other, f"{place}[{index}]")
    elif ours != theirs:
        yield f"{place}: is {ours!r}, and Grafana reads {theirs!r}"


def read_again(dashboard: Any) -> list[str]:
    return list(differences(dashboard, json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))))


def main(paths: list[str]) -> int:
    wrong = []
    for path in paths:
        dashboard = json.loads(Path(path).read_text(encoding="utf-8"))
        wrong += [f"{path}: {each}" for each in read_again(dashboard)]
        planted = {**dashboard, "panels": [{**dashboard["panels"][0], "gridPosition": {}}]}
        if read_again(planted) != [".panels[0].gridPosition: Grafana knows no such field"]:
            wrong.append(f"{path}: a field that Grafana does not know is not found")
    sys.stdout.write("".join(f"{each}\n" for each in wrong))
    sys.stdout.write(f"dashboards: {len(paths)} read by Grafana's types, {len(wrong)} differences\n")
    return 1 if wrong or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
