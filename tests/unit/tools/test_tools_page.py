"""The examples of docs/tools.md load, and open as what the page says."""

import re
from pathlib import Path

import pytest
import yaml

from goagents.net.address_guard import AddressGuard
from goagents.spec.config import AllowConfig
from goagents.spec.tools import HttpToolSpec
from goagents.tools.base import ToolEnvironment
from goagents.tools.http import build

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


def test_the_openapi_example_loads():
    assert HttpToolSpec.model_validate(TOOLS["petstore"]).include == ("pets", "getOrderById")


def test_the_allow_example_loads():
    (allow,) = [example["allow"] for example in EXAMPLES if "allow" in example]
    AddressGuard(AllowConfig.model_validate(allow).addresses).check_host("10.20.1.1", 80)
