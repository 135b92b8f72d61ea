"""The examples of docs/toolkit.md run, and its tables are true."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.toolkit import Ask

from goagents.spec.config import Config
from goagents.spec.tools import HttpToolSpec
from goagents.toolkit import MemoryKeyStore, SqliteKeyStore, Toolkit

PAGE = (Path(__file__).parents[3] / "docs" / "toolkit.md").read_text(encoding="utf-8")
SOURCE = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the page's blocks define, taken together."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(SOURCE, "docs/toolkit.md", "exec"), names)  # noqa: S102 - the page of this repository
    return names


def test_the_first_example_answers(page: dict[str, Any], ask: Ask):
    kit: Toolkit = page["kit"]
    assert ask(kit, "GET", "/find_order?number=7&verbose=true").json["status"] == "shipped, by night train"
    assert ask(kit, "GET", "/find_order?number=404").status_code == 404
    assert page["tools"] is kit.function


def test_the_durable_example_keeps_its_result(page: dict[str, Any], ask: Ask, tmp_path: Path):
    headers = {"Idempotency-Key": "run_1/1/a"}
    answers = [
        ask(page["durable"], "POST", "/refund_order", json={"number": "7", "cents": 5}, headers=headers)
        for _ in range(2)
    ]
    assert [answer.json for answer in answers] == ["refund of 5 for order 7, key run_1/1/a"] * 2
    assert (tmp_path / "keys.db").exists()


def test_the_entries_load():
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    assert [HttpToolSpec.model_validate(block).name for block in blocks if "type" in block] == ["orders", "payments"]
    (functions,) = [Config.model_validate(block).tool_functions for block in blocks if "type" not in block]
    assert (functions["orders"].variable, functions["orders"].url) == ("ORDERS_URL", "http://127.0.0.1:8091")


def test_the_defaults_are_those_of_the_page():
    defaults = {
        name: parameter.default
        for offered in (Toolkit, MemoryKeyStore, SqliteKeyStore)
        for name, parameter in inspect.signature(offered).parameters.items()
    }
    assert (defaults["max_body"], "`max_body` (1 MiB)" in PAGE) == (1 << 20, True)
    assert (defaults["patience"], "`patience`, 10 s" in PAGE) == (10, True)
    assert (defaults["lease"], "ten minutes (`lease`)" in PAGE) == (600, True)
    assert (defaults["max_entries"], defaults["max_bytes"], "10,000, 32 MiB" in PAGE) == (10_000, 32 << 20, True)
    assert (defaults["kept_for"], "seven days" in PAGE) == (7 * 86_400, True)
