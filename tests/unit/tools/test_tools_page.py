"""The examples of docs/tools.md load, and open as what the page says."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from goagents.net.address_guard import AddressGuard
from goagents.spec.allow import AllowConfig
from goagents.spec.config import Config
from goagents.spec.tools import HttpToolSpec, PythonToolSpec
from goagents.tools.base import ToolEnvironment
from goagents.tools.http import build
from goagents.tools.python import build as build_python

PAGE = (Path(__file__).parents[3] / "docs" / "tools.md").read_text(encoding="utf-8")
EXAMPLES = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
TOOLS = {example["name"]: example for example in EXAMPLES if "type" in example}


def test_the_page_has_its_examples():
    assert set(TOOLS) == {"customer_db", "tickets", "refund", "petstore"}


@pytest.mark.parametrize("name", ["customer_db", "tickets", "refund"])
async def test_an_example_opens(name: str):
    toolset = build(
        HttpToolSpec.model_validate(TOOLS[name]), ToolEnvironment(lambda text: re.sub(r"\$\{\w+\}", "v", text))
    )
    (tool,) = await toolset.open()
    effects = {"customer_db": "read", "tickets": "unsafe", "refund": "idempotent"}
    assert tool.definition.name == name
    assert tool.definition.effect == effects[name]
    await toolset.aclose()


async def test_the_python_examples_are_tools_and_a_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    functions, kind = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "page_of_tools.py").write_text(functions, encoding="utf-8")
    for name, effect in (("quote", "read"), ("reserve", "idempotent")):
        spec = PythonToolSpec(type="python", name=name, target=f"page_of_tools:{name}")
        environment = ToolEnvironment(lambda text: text, trusted=True, python_path=(str(tmp_path),))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "path", [*sys.path])
            (tool,) = await build_python(spec, environment).open()
        assert tool.definition.effect == effect
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(kind, "docs/tools.md", "exec"), names)  # noqa: S102 - the page of this repository
    spec = names["ACME"].spec(type="acme", name="counter", greeting="Hello")
    assert (spec.greeting, spec.timeout) == ("Hello", 30.0)
    del sys.modules["page_of_tools"]


def test_the_python_entry_loads():
    entries = [example["tools"] for example in EXAMPLES if "tools" in example]
    (found,) = [tool for (tool,) in entries if tool["type"] == "python"]
    assert PythonToolSpec.model_validate(found).target == "shop.tools:quote"
    (config,) = [Config.model_validate(example) for example in EXAMPLES if "python" in example]
    assert config.python.path == ("tools",)


def test_the_openapi_example_loads():
    assert HttpToolSpec.model_validate(TOOLS["petstore"]).include == ("pets", "getOrderById")


def test_the_allow_example_loads():
    found = [AllowConfig.model_validate(example["allow"]) for example in EXAMPLES if "allow" in example]
    python, addresses = found
    AddressGuard(addresses.addresses).check_host("10.20.1.1", 80)
    assert python.tool_types == ("acme",)
