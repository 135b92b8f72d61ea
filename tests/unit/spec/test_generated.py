"""What is made of the models: the JSON Schema and the reference page."""

from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from pydantic import BaseModel

from goagents.spec.cluster import AgentCluster
from goagents.spec.config import Config
from goagents.spec.reference import reference
from goagents.spec.schema import json_schema
from goagents.spec.yaml_reader import read_yaml

ROOT = Path(__file__).parents[3]
SAMPLE = Path(__file__).parent / "data" / "contract.yaml"
EXAMPLES = sorted((ROOT / "examples").glob("*/c[lo]*.yaml"))  # clusters and configurations


@pytest.fixture(scope="module")
def schema() -> Any:
    found = json_schema()
    jsonschema_rs.meta.validate(found)
    return jsonschema_rs.validator_for(found)


def errors(schema: Any, text: str) -> list[str]:
    return [error.message for node in read_yaml(text) for error in schema.iter_errors(node.plain())]


@pytest.mark.parametrize("path", [SAMPLE, *EXAMPLES], ids=lambda path: path.name)
def test_samples_fit_the_schema(schema: Any, path: Path) -> None:
    assert errors(schema, path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "server: {port: '${PORT:-80}', timeout: 5s, max_body: 1MiB, metrics: {enabled: '${M}'}}",
        "server:\nmodels: {a: b}",
        "allow: {addresses: [10.0.0.0/8, '${NET}']}",
    ],
)
def test_what_loads_fits(schema: Any, text: str) -> None:
    assert errors(schema, text) == []


@pytest.mark.parametrize(
    "text",
    [
        "servr: {}",
        "server: {prt: 1}",
        "server: {port: eighty}",
        "server: {port: 70000}",
        "server: {timeout: soon}",
        "kind: AgentCluster",
        "apiVersion: goagents.dev/v1\nkind: Other\nmetadata: {name: a}\nspec: {agents: []}",
        "providers: {openia: {}}",
        "auth: {mode: maybe}",
    ],
)
def test_what_is_wrong_does_not_fit(schema: Any, text: str) -> None:
    assert errors(schema, text)


def models(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    definitions = model.model_json_schema().get("$defs", {})
    seen.add(model)
    for kind in BaseModel.__subclasses__():
        stack = [kind]
        while stack:
            each = stack.pop()
            stack.extend(each.__subclasses__())
            if each.__name__ in definitions and each.__module__.startswith("goagents.spec"):
                seen.add(each)
    return seen


def test_every_field_is_described() -> None:
    found = models(AgentCluster, models(Config, set()))
    assert len(found) > 20
    missing = [
        f"{model.__name__}.{name}"
        for model in found
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert missing == []


def test_the_committed_page_is_the_generated_one() -> None:
    committed = (ROOT / "docs" / "configuration.md").read_text()
    assert committed == reference(), "write it anew: python -m goagents.spec.reference > docs/configuration.md"


def test_the_page_names_every_field() -> None:
    page = reference()
    for model in models(AgentCluster, models(Config, set())):
        for name, field in model.model_fields.items():
            assert f"| `{field.alias or name}` |" in page, f"{model.__name__}.{name}"
