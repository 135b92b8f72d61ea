"""What is wrong with tools that no field tells alone: what contradicts itself, and what is probably not meant.

Not part of the models, because a cluster in the store that was accepted once is read again.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

from goagents.errors import FieldError

from .calling import RetrySpec
from .cluster import AgentCluster
from .config import Config
from .document import Node
from .models import nearest
from .plugins import names
from .problems import error_at
from .references import ENVIRONMENT, looks_secret, parse, references
from .tools import BUILT_IN, HttpToolSpec, McpToolSpec, ToolSpec, WebsocketToolSpec
from .websocket import ReconnectSpec

_PLACEHOLDER = re.compile(r"\{([A-Za-z0-9_.-]+)\}")
_WORD = re.compile(r"[^\s/\\${}]+")


def check_tools(cluster: AgentCluster, node: Node) -> Iterator[FieldError]:
    """Yield what contradicts itself in the entries under `tools:`; `node` is what `cluster` was read from."""
    for path, tool in _tools(cluster):
        if isinstance(tool, HttpToolSpec):
            yield from _undeclared(tool, path, node)
        yield from _pauses(tool.retries, f"{path}.retries", node)
        if isinstance(tool, WebsocketToolSpec):
            yield from _pauses(tool.reconnect, f"{path}.reconnect", node)


def _tools(cluster: AgentCluster) -> Iterator[tuple[str, ToolSpec]]:
    for i, agent in enumerate(cluster.spec.agents):
        for j, tool in enumerate(agent.tools):
            yield f"spec.agents.{i}.tools.{j}", tool


def _undeclared(tool: HttpToolSpec, path: str, node: Node) -> Iterator[FieldError]:
    if tool.url is None or tool.parameters is None:
        return
    properties = tool.parameters.get("properties")
    known = [str(name) for name in properties] if isinstance(properties, Mapping) else []
    for name in dict.fromkeys(found for text in _literals(tool.url) for found in _PLACEHOLDER.findall(text)):
        if name not in known:
            guess = nearest(name, known)
            hint = f"did you mean '{{{guess}}}'?" if guess else "add it there"
            message = f"'{{{name}}}' is no property of the tool's `parameters`; {hint}"
            yield error_at(node, f"{path}.url", message)


def _literals(text: str) -> Iterator[str]:
    """Yield the parts of a text that are no reference."""
    try:
        yield from (part for part in parse(text) if isinstance(part, str))
    except ValueError:
        return  # another check says so


def _pauses(pauses: RetrySpec | ReconnectSpec, path: str, node: Node) -> Iterator[FieldError]:
    if pauses.backoff > pauses.max_backoff:
        default = "" if "max_backoff" in pauses.model_fields_set else f", {pauses.max_backoff:g} s unless it is set"
        yield error_at(node, f"{path}.backoff", f"is more than `max_backoff`{default}")


def check_config(config: Config, sections: Node, environ: Mapping[str, str]) -> Iterator[FieldError]:
    """Yield what cannot be in the configuration: the same port or variable twice, a variable that is something else."""
    ports = [("server.port", config.server.port)]
    if config.server.metrics.port is not None:
        ports.append(("server.metrics.port", config.server.metrics.port))
    variables: list[tuple[str, str]] = []
    for name, function in config.tool_functions.items():
        ports.append((f"tool_functions.{name}.port", function.port))
        variables.append((place := f"tool_functions.{name}.variable", function.variable))
        value = environ.get(function.variable, "")
        if value and not value.startswith(("http://", "https://")):
            message = (
                f"the variable {function.variable} is set already, and to no http(s):// address: nothing would be "
                "started; choose another name"
            )
            yield error_at(sections, place, message)
    for (first, one), (second, other) in combinations(ports, 2):
        if one == other:
            yield error_at(sections, second, f"the port {one} is that of `{first}` already; choose another")
    for (first, held), (second, again) in combinations(variables, 2):
        if held == again:
            yield error_at(sections, second, f"the variable {held} is that of `{first}` already; choose another")


def warn_config(config: Config, sections: Node, environ: Mapping[str, str]) -> Iterator[FieldError]:
    """Yield what works without the tools that it is about: files that are not there, types that nobody brings."""
    for i, folder in enumerate(config.python.path):
        if not Path(folder).is_dir():
            yield error_at(sections, f"python.path.{i}", f"there is no folder {folder}")
    for name, function in config.tool_functions.items():
        if not environ.get(function.variable) and not Path(function.source).is_file():
            yield error_at(sections, f"tool_functions.{name}.source", f"there is no file {function.source}")
    for i, kind in enumerate(config.allow.tool_types):
        path = f"allow.tool_types.{i}"
        if kind in BUILT_IN:
            yield error_at(sections, path, f"the type '{kind}' is built in, and needs no entry")
        elif kind not in names():
            guess = nearest(kind, names())
            hint = f"; did you mean '{guess}'?" if guess else ""
            yield error_at(sections, path, f"no package installed here brings a tool type '{kind}'{hint}")


def warn_tools(cluster: AgentCluster, node: Node, config: Config) -> Iterator[FieldError]:
    """Yield what is valid and is probably not meant: a misspelt server, a file that is not there, a told secret."""
    for path, tool in _tools(cluster):
        if isinstance(tool, McpToolSpec):
            yield from _misspelt(tool.server, f"{path}.server", node, config)
        elif isinstance(tool, HttpToolSpec) and tool.openapi is not None and _is_missing(tool.openapi):
            yield error_at(node, f"{path}.openapi", f"there is no file {tool.openapi}")
        if tool.description is not None:
            yield from _told(tool.description, f"{path}.description", node)
    for i, agent in enumerate(cluster.spec.agents):
        yield from _told(agent.system_prompt or "", f"spec.agents.{i}.system_prompt", node)


def _misspelt(server: str, path: str, node: Node, config: Config) -> Iterator[FieldError]:
    known = config.mcp_servers
    if server in known or not _WORD.fullmatch(server):
        return
    guess = nearest(server, known)
    if guess is not None:
        message = f"is no name in `mcp_servers`, and taken for a program; did you mean '{guess}'?"
        yield error_at(node, path, message)


def _is_missing(page: str) -> bool:
    return "${" not in page and not page.startswith(("http://", "https://")) and not Path(page).is_file()


def _told(text: str, path: str, node: Node) -> Iterator[FieldError]:
    """Yield the references of a text that the model reads whose names are those of secrets."""
    try:
        found = references(text)
    except ValueError:
        return  # another check says so
    for reference in dict.fromkeys(found):
        if reference.scheme != ENVIRONMENT or looks_secret(reference.name):
            message = (
                f"{reference} looks like a secret, and the model is told its value: write it into `headers` of a tool, "
                "or give it another name"
            )
            yield error_at(node, path, message)
