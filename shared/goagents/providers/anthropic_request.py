"""A ModelRequest as the body of Anthropic's Messages API."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from anthropic import transform_schema

from goagents.errors import ProviderInvalidRequest
from goagents.messages import Content, ImagePart, Message, ReasoningPart, ToolCallPart, ToolResultPart
from goagents.providers.base import ModelRequest, ToolSchema

NAME = "anthropic"
JsonObject = dict[str, Any]

# The vendor demands a limit: what every model of the Claude family from this version on can write, thoughts included.
_MAX_TOKENS = (((4, 6), 32768), ((3, 5), 8192), ((0, 0), 4096))
_MAX_TOKENS_ELSEWHERE = 8192  # other models behind servers that speak this API
_RESERVED = frozenset({"messages", "model", "stream", "system", "tools"})  # decided by the adapter
_EPHEMERAL = {"type": "ephemeral"}
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]")
_MAX_NAME = 64
# What `reasoning: LEVEL` means where the model wants a budget, in tokens; later ones take the level itself.
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768}
_EFFORTS = {"minimal": "low"}
_FIRST_ADAPTIVE = (4, 6)  # from claude-*-4-6 on, the model itself decides how much to think
_VERSION = re.compile(r"(?<![\d.])(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")


def request_body(request: ModelRequest) -> JsonObject:
    """Return the JSON body for `request`.

    The parts that stay the same from turn to turn come out byte for byte the same, and breakpoints of the prompt
    cache stand behind the tools, the system prompt and the last two user turns; `cache_control: null` in the settings
    turns that off, any other value hands caching over to the vendor. `max_tokens` defaults to what the model can
    write (4096 to 32768) beyond the thinking budget.

    Raises ProviderInvalidRequest for a setting that the adapter itself decides, an unknown `reasoning`, an image
    without a source, and a conversation without content.
    """
    body = _settings(request)
    caching = "cache_control" not in body
    if not caching and body["cache_control"] is None:
        del body["cache_control"]
    messages = _conversation(request)
    if not messages:
        raise ProviderInvalidRequest("The conversation has no content: a message needs text or an image")
    body |= {"model": request.model, "stream": True, "messages": messages}
    tools = [_tool(tool) for tool in request.tools] or _tools_of_the_past(messages)
    if tools:
        body["tools"] = tools
    else:
        body.pop("tool_choice", None)
    if request.tools == () and tools:
        body["tool_choice"] = {"type": "none"}
    if request.system and request.system.strip():
        body["system"] = [{"type": "text", "text": request.system}]
    if request.output_schema is not None:
        schema = transform_schema(dict(request.output_schema))
        body["output_config"] = {**body.get("output_config", {}), "format": {"type": "json_schema", "schema": schema}}
    if (body.get("thinking") or {}).get("type") == "enabled" and _lacks_its_thinking(messages):
        del body["thinking"]
    if caching:
        _set_breakpoints(body)
    return body


def _settings(request: ModelRequest) -> JsonObject:
    settings = dict(request.settings)
    if taken := sorted(_RESERVED & settings.keys()):
        raise ProviderInvalidRequest(f"model_settings.{taken[0]} is decided by GoAgents: remove it")
    if "reasoning" in settings:
        reasoning = settings.pop("reasoning")
        for name, value in _reasoning(reasoning, request.model).items():
            settings[name] = {**value, **settings[name]} if isinstance(settings.get(name), dict) else value
    if settings.get("max_tokens") is None:
        budget = (settings.get("thinking") or {}).get("budget_tokens") or 0
        settings["max_tokens"] = _default_max_tokens(request.model) + budget
    return {name: value for name, value in settings.items() if value is not None or name == "cache_control"}


def _default_max_tokens(model: str) -> int:
    if "claude" not in model:
        return _MAX_TOKENS_ELSEWHERE
    return next(limit for since, limit in _MAX_TOKENS if _version(model) >= since)


def _reasoning(wish: Any, model: str) -> JsonObject:
    """Return the vendor's fields for `reasoning: LEVEL`; a mapping is the vendor's own `thinking`."""
    if isinstance(wish, dict):
        return {"thinking": wish}
    if wish in (None, False, "none", "off"):
        return {"thinking": {"type": "disabled"}}
    if wish not in _BUDGETS:
        known = ", ".join(["none", *_BUDGETS])
        raise ProviderInvalidRequest(f"model_settings.reasoning is {wish!r}; anthropic takes {known}, or a mapping")
    if _version(model) < _FIRST_ADAPTIVE:
        return {"thinking": {"type": "enabled", "budget_tokens": _BUDGETS[wish]}}
    effort = _EFFORTS.get(wish, wish)
    return {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": effort}}


def _version(model: str) -> tuple[int, int]:
    """Return the version in a model's name; a name without one is a new one."""
    found = _VERSION.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else _FIRST_ADAPTIVE


def family(model: str) -> frozenset[str]:
    """Return what of a model's name decides whether it understands a signed thought: neither date nor alias."""
    words = re.split(r"[-.@:/]", model.lower())
    return frozenset(
        word for word in words if word not in ("", "0", "latest", "claude") and len(word) != len("20250514")
    )


def _tool(tool: ToolSchema) -> JsonObject:
    schema = {"properties": {}, **tool.parameters, "type": "object"}
    return {"name": tool.name, "description": tool.description, "input_schema": schema}


def _tools_of_the_past(messages: Iterable[JsonObject]) -> list[JsonObject]:
    """Declare the tools that the conversation used: the vendor demands it also where none is offered any more."""
    names = {block["name"] for item in messages for block in item["content"] if block["type"] == "tool_use"}
    return [{"name": name, "input_schema": {"type": "object"}} for name in sorted(names)]


def _conversation(request: ModelRequest) -> list[JsonObject]:
    """Return alternating messages, the first of the user. Empty texts, which the vendor refuses, are left out."""
    ids = _CallIds()
    turns: list[JsonObject] = []
    for message in request.messages:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = list(_blocks(message, request.model, ids))
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


class _CallIds:
    """The ids of calls as the vendor takes them: other providers' may repeat, or have other characters."""

    def __init__(self) -> None:
        self._given: set[str] = set()
        self._current: dict[str, str] = {}

    def call(self, call_id: str) -> str:
        clean = _FOREIGN.sub("_", call_id) or "call"
        unique, count = clean, 1
        while unique in self._given:
            count += 1
            unique = f"{clean}_{count}"
        self._given.add(unique)
        self._current[call_id] = unique
        return unique

    def result(self, call_id: str) -> str:
        return self._current.get(call_id, call_id)


def _blocks(message: Message, model: str, ids: _CallIds) -> Iterator[JsonObject]:
    own = message.provider == NAME and message.model is not None and family(message.model) == family(model)
    for part in message.parts:
        if isinstance(part, ToolResultPart):
            yield _tool_result(part, ids)
        elif isinstance(part, ToolCallPart):
            yield _tool_use(part, ids)
        elif isinstance(part, ImagePart) and message.role == "assistant":
            continue  # drawn by another provider's model; here only users show images
        elif not isinstance(part, ReasoningPart):
            yield from _content(part)
        elif own and part.signature is not None:
            yield _thinking(part)


def _thinking(part: ReasoningPart) -> JsonObject:
    if part.redacted:
        return {"type": "redacted_thinking", "data": part.signature}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _tool_use(part: ToolCallPart, ids: _CallIds) -> JsonObject:
    arguments = part.arguments if part.malformed is None else {"_malformed": part.malformed}
    name = _FOREIGN.sub("_", part.name)[:_MAX_NAME] or "unknown"  # a model may have called what does not exist
    return {"type": "tool_use", "id": ids.call(part.id), "name": name, "input": arguments}


def _tool_result(part: ToolResultPart, ids: _CallIds) -> JsonObject:
    block: JsonObject = {"type": "tool_result", "tool_use_id": ids.result(part.call_id)}
    content = [block for item in part.content for block in _content(item)]
    if part.is_error:
        block["is_error"] = True
        content = content or [{"type": "text", "text": "The tool failed without a message."}]
    if content:
        block["content"] = content
    return block


def _content(part: Content) -> Iterator[JsonObject]:
    if isinstance(part, ImagePart):
        yield {"type": "image", "source": _image(part)}
    elif part.text.strip():
        yield {"type": "text", "text": part.text}


def _image(part: ImagePart) -> JsonObject:
    if part.data is not None and part.media_type is not None:
        return {"type": "base64", "media_type": part.media_type, "data": part.data}
    if part.url is not None:
        return {"type": "url", "url": part.url}
    raise ProviderInvalidRequest("An image needs a url, or base64 data with its media_type")


def _lacks_its_thinking(messages: list[JsonObject]) -> bool:
    """Tell whether results answer calls of a turn that began without a thought, as another model's do.

    The vendor refuses to think on from there where it thinks by budget. Within a turn it thinks but once, so what
    counts is the turn's first assistant message.
    """
    start = len(messages) - 1
    while start > 1 and messages[start]["content"][0]["type"] == "tool_result":
        start -= 2
    if start == len(messages) - 1:
        return False
    return messages[start + 1]["content"][0]["type"] not in ("thinking", "redacted_thinking")


def _set_breakpoints(body: JsonObject) -> None:
    """Mark where the vendor's cache may end: four places at most, each a prefix of the next request."""
    users = [item["content"] for item in body["messages"] if item["role"] == "user"]
    for blocks in (body.get("tools"), body.get("system"), *users[-2:]):
        if blocks:
            blocks[-1] = {**blocks[-1], "cache_control": _EPHEMERAL}
