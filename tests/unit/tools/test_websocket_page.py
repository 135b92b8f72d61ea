"""The `websocket` examples of docs/tools.md load, and open as what the page says."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from goagents.spec.tools import WebsocketToolSpec
from goagents.tools.base import ToolEnvironment
from goagents.tools.websocket import build

PAGE = (Path(__file__).parents[3] / "docs" / "tools.md").read_text(encoding="utf-8")
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
TOOLS: dict[str, dict[str, Any]] = {
    tool["name"]: tool for block in BLOCKS for tool in block.get("tools", ()) if tool["type"] == "websocket"
}


def test_the_page_has_its_examples():
    assert set(TOOLS) == {"quotes", "progress"}


@pytest.mark.parametrize("name", ["quotes", "progress"])
async def test_an_example_opens(name: str):
    environment = ToolEnvironment(lambda text: re.sub(r"\$\{\w+\}", "v", text))
    toolset = build(WebsocketToolSpec.model_validate(TOOLS[name]), environment)
    (tool,) = await toolset.open()
    assert tool.definition.name == name
    assert tool.definition.effect == "read"
    await toolset.aclose()
