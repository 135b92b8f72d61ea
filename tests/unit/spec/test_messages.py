"""What an error of a configuration says and where: the field that is wrong, its bound with its unit, the remedy."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from goagents.errors import ConfigurationError
from goagents.spec.load import load_text
from goagents.spec.problems import PATTERNS
from goagents.spec.schema import json_schema

HEAD = "apiVersion: goagents.dev/v1\nkind: AgentCluster\nmetadata: {name: c}\nspec:\n  agents:\n"
URL = "type: http, name: x, url: 'https://x.example'"
NOT_CACHED = (
    "`cache_ttl` keeps answers of `read` calls only, and this tool's are `unsafe`: write `effect: read` if repeating a "
    "call changes nothing, or remove `cache_ttl`"
)
WS = "type: websocket, name: x, url: 'wss://x.example'"


def error_of(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_text(text, environ={})
    (found,) = caught.value.errors
    return f"{found.path}: {found.message}"


def tool_error(fields: str) -> tuple[str, str]:
    """Return what is wrong, and the text of the file from the place on that is told."""
    text = HEAD + f"    - {{name: a, provider: scripted, model: m, tools: [{{{fields}}}]}}\n"
    with pytest.raises(ConfigurationError) as caught:
        load_text(text, environ={})
    (found,) = caught.value.errors
    place = text.splitlines()[(found.line or 0) - 1][(found.column or 0) - 1 :]
    return f"{found.path.removeprefix('spec.agents.0.tools.0.')}: {found.message}", place


@pytest.mark.parametrize(
    ("fields", "message", "place"),
    [
        (f"{URL}, cache_ttl: 60d", "cache_ttl: should be less than or equal to 30d", "60d"),
        (f"{URL}, cache_ttl: 0s", "cache_ttl: should be greater than 0", "0s"),
        (
            f"{URL}, retries: {{max_backoff: 1h}}",
            "retries.max_backoff: should be less than or equal to 10m",
            "1h",
        ),
        (
            f"{URL}, rate_limit: {{calls: 1, per: 2d}}",
            "rate_limit.per: should be less than or equal to 1d",
            "2d",
        ),
        (f"{WS}, heartbeat: 2h", "heartbeat: should be less than or equal to 1h", "2h"),
        (f"{URL}, retries: 11", "retries: should be less than or equal to 10", "11"),
        (
            f"{URL}, retries: three",
            "retries: must be a whole number, or a mapping with `max`, `backoff`, `max_backoff`",
            "three",
        ),
        (
            f"{URL}, retries: [1]",
            "retries: must be a whole number, or a mapping with `max`, `backoff`, `max_backoff`",
            "[1]",
        ),
        (f"{URL}, retries: {{max: three}}", "retries.max: must be a whole number", "three"),
        (f"{URL}, circuit_breaker: 5", "circuit_breaker: must be a mapping with `failures`, `reset`", "5"),
        (
            f"{URL}, circuit_breaker: false",
            "circuit_breaker: must be a mapping; `failures: 0` in it turns it off",
            "false",
        ),
        (f"{URL}, rate_limit: 20/m", "rate_limit: must be a mapping with `calls`, `per`", "20/m"),
        (f"{WS}, reconnect: 5", "reconnect: must be a mapping with `attempts`, `backoff`, `max_backoff`", "5"),
        (
            "type: mcp, name: x, server: s, url: 'https://x'",
            "url: unknown field; write `server`, which takes a URL",
            "url: ",
        ),
        (
            "type: python, name: x, target: 'a:b', function: 'a:b'",
            "function: unknown field; write `target`, as module:function",
            "function: ",
        ),
        ("type: python, name: x, target: ''", "target: must not be empty", "''"),
        (
            "type: mcp, name: x, server: s, prefix: 'a b'",
            "prefix: must be up to 48 letters, digits, '_' or '-'",
            "'a b'",
        ),
        (
            "type: mcp, name: x, server: s, effect: unsafe, cache_ttl: 1m",
            f"cache_ttl: {NOT_CACHED}",
            "1m",
        ),
        (f"{URL}, include: [a]", "include: `include` needs `openapi`", "[a]"),
        (f"{URL}, method: GET", "method: `method` needs `parameters` beside it: together they are one call", "GET"),
        (f"{WS}, until: {{count: 1}}", "until: `until` does not go together with `mode: request`", "{count"),
        (f"{WS}, mode: collect", "mode: `mode: collect` needs `until`: when does it end?", "collect"),
        (f"{WS}, message: '{{b}}'", "message: `{b}` in `message` is no property of the tool's `parameters`", "'{b}'"),
        (
            f"{WS}, mode: collect, max_messages: 1, until: {{count: 2}}",
            "until.count: `until.count` is more than `max_messages`",
            "2",
        ),
        (
            f"{WS}, correlation: {{field: id}}, message: a",
            "message: `correlation` needs a `message` that is an object",
            "a",
        ),
    ],
)
def test_of_a_tool(fields: str, message: str, place: str):
    said, where = tool_error(fields)
    assert said == message
    assert where.startswith(place)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "tool_functions: {a: {source: m.py, target: my-tools, port: 8091, variable: A}}",
            "tool_functions.a.target: must be a name: letters, digits and '_', not starting with a digit",
        ),
        (
            "tool_functions: {a: {source: m.py, port: 8091, variable: A-B}}",
            "tool_functions.a.variable: must be a name: letters, digits and '_', not starting with a digit",
        ),
        (
            "mcp_servers: {a: {command: x, url: 'https://x'}}",
            "mcp_servers.a.url: stands beside `command`, and a server has one of them: remove one",
        ),
        ("mcp_servers: {a: {args: [b]}}", "mcp_servers.a: needs `command`, for a program to start, or `url`"),
        (
            "mcp_servers: {a: {url: 'https://x', env: {B: c}}}",
            "mcp_servers.a.env: `args`, `env` and `cwd` go with `command`",
        ),
        ("auth: {mode: none, api_keys: [{name: a, hash: '" + 64 * "0" + "'}]}", "auth.mode: `api_keys` are of no use"),
        ("store: 5", "store: must be a mapping with `url`"),
    ],
)
def test_of_the_configuration(text: str, message: str):
    assert error_of(text).startswith(message)


def test_each_host_that_is_not_allowed_is_told_at_the_tools_url():
    tools = f"[{{{URL}}}, {{{WS.replace('name: x', 'name: y')}}}]"
    text = HEAD + f"    - {{name: a, provider: scripted, model: m, allowed_hosts: [b.example], tools: {tools}}}\n"
    with pytest.raises(ConfigurationError) as caught:
        load_text(text, environ={})
    reason = "x.example is not among the agent's `allowed_hosts` (b.example); add the host, or change the tool"
    assert [(each.path, each.message) for each in caught.value.errors] == [
        (f"spec.agents.0.tools.{i}.url", f"`url` of the tool '{name}': {reason}") for i, name in enumerate("xy")
    ]


def test_every_pattern_has_words():
    told = {*PATTERNS, *_of_types_with_words_of_their_own()}
    patterns = set(_patterns(json_schema()))
    assert patterns - told == set(), "an error would show the bare pattern"


def _patterns(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        yield from schema.get("patternProperties", {})
        for value in schema.values():
            yield from _patterns(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _patterns(value)


def _of_types_with_words_of_their_own() -> Iterator[str]:
    """Durations, sizes and references are checked by functions."""
    text = json.dumps(json_schema())
    for found in set(re.findall(r'"pattern": ("(?:[^"\\]|\\.)*")', text)):
        pattern = json.loads(found)
        if pattern == r"\$\{" or "[KMG]iB" in pattern or "[smhd]" in pattern:
            yield pattern
