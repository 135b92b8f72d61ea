"""The examples of docs/tools.md load, and open as what the page says."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import yaml
from tests.support.http_tools import CONTEXT, text_of

from goagents.app import load_by_name
from goagents.errors import ConfigurationError
from goagents.net.address_guard import AddressGuard
from goagents.spec.allow import AllowConfig
from goagents.spec.config import Config
from goagents.spec.interpolation import Resolver
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


PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


async def test_the_python_examples_are_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "page_of_tools.py").write_text(PYTHON[0], encoding="utf-8")
    for name, effect in (("quote", "read"), ("reserve", "idempotent")):
        spec = PythonToolSpec(type="python", name=name, target=f"page_of_tools:{name}")
        environment = ToolEnvironment(lambda text: text, trusted=True, python_path=(str(tmp_path),))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "path", [*sys.path])
            (tool,) = await build_python(spec, environment).open()
        assert tool.definition.effect == effect
    del sys.modules["page_of_tools"]


async def test_the_example_of_a_package_is_a_type_of_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _, kind, toolset = PYTHON
    (tmp_path / "acme_tools").mkdir()
    (tmp_path / "acme_tools" / "__init__.py").write_text(kind, encoding="utf-8")
    (tmp_path / "acme_tools" / "toolset.py").write_text(toolset, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        found = importlib.import_module("acme_tools").ACME
        make = load_by_name(found.build)
    finally:
        for name in ("acme_tools", "acme_tools.toolset"):
            sys.modules.pop(name, None)
    spec = found.spec(type="acme", name="counter", greeting="Hello from ${CITY}", timeout="5s")
    made = make(spec, ToolEnvironment(Resolver({"env": {"CITY": "Bonn"}}).resolve))
    (tool,) = await made.open()
    assert (tool.definition.name, tool.definition.timeout) == ("counter", 5.0)
    assert text_of(await tool.call({"who": "Ada"}, CONTEXT)) == "Hello from Bonn, Ada!"
    await made.aclose()
    with pytest.raises(ConfigurationError, match="the variable CITY is not set"):
        await make(spec, ToolEnvironment(Resolver({"env": {}}).resolve)).open()


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
