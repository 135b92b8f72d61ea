"""A ModelRequest as the body of Chat Completions."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from goagents.errors import ProviderInvalidRequest
from goagents.messages import Content, ImagePart, Message, TextPart, ToolCallPart, ToolResultPart
from goagents.providers.base import ModelRequest, ToolSchema

JsonObject = dict[str, Any]

# What the adapter itself decides. `n` would ask, and pay, for answers nobody reads.
_RESERVED = frozenset({"messages", "model", "stream", "tools", "functions", "function_call", "n"})
_NEEDS_TOOLS = ("tool_choice", "parallel_tool_calls")  # the vendor refuses them in a request without tools
_REASONING_MODEL = re.compile(r"(?:.*/)?(?:o\d|gpt-[5-9])")
_MAX_CALL_ID = 40  # characters that the vendor takes; other providers' ids may be longer
_SCHEMA_NAME = re.compile(r"[^A-Za-z0-9_-]+")
# Keywords that the vendor's strict mode takes; a schema with any other is sent as a guide, not as a guarantee.
_STRICT_KEYWORDS = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref", "$defs"}
    | {"title", "description", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
    | {"multipleOf", "minItems", "maxItems"}
)


def request_body(request: ModelRequest, *, modern: bool) -> JsonObject:
    """Return the JSON body for `request`.

    `reasoning: LEVEL` (`none`, `minimal`, `low`, `medium`, `high`, `xhigh`) goes as `reasoning_effort`; a mapping goes
    as it is, since OpenRouter takes one. `modern` says that the server is OpenAI's own, where `max_tokens` is
    deprecated for `max_completion_tokens` and a mapping becomes the effort in it; OpenAI's reasoning models, which
    refuse `max_tokens`, get the new name on every server. A setting of None is left out, also where it is the
    adapter's own: `stream_options: null` suits a server that does not know it.

    Raises ProviderInvalidRequest for a setting that the adapter itself decides, and for an image without a source.
    """
    body: JsonObject = {"stream_options": {"include_usage": True}, **_settings(request, modern=modern)}
    body["model"] = request.model
    body["messages"] = list(_conversation(request))
    body["stream"] = True
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    else:
        for name in _NEEDS_TOOLS:
            body.pop(name, None)
    if request.output_schema is not None:
        body["response_format"] = _response_format(request.output_schema)
    return {name: value for name, value in body.items() if value is not None}


def _settings(request: ModelRequest, *, modern: bool) -> JsonObject:
    settings = dict(request.settings)
    if taken := sorted(_RESERVED & settings.keys()):
        raise ProviderInvalidRequest(f"model_settings.{taken[0]} is decided by GoAgents: remove it")
    if "max_tokens" in settings and (modern or _REASONING_MODEL.match(request.model)):
        limit = settings.pop("max_tokens")
        settings.setdefault("max_completion_tokens", limit)
    if "reasoning" in settings and (modern or not isinstance(settings["reasoning"], Mapping)):
        effort = _effort(settings.pop("reasoning"))
        settings.setdefault("reasoning_effort", effort)
    return settings


def _effort(wish: Any) -> Any:
    """Return the vendor's effort for `reasoning`: a level, or OpenRouter's mapping that holds one."""
    if isinstance(wish, Mapping):
        return wish.get("effort")
    return "none" if wish in (False, "off") else wish


def _tool(tool: ToolSchema) -> JsonObject:
    parameters = {"type": "object", "properties": {}, **tool.parameters}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def _response_format(schema: Mapping[str, Any]) -> JsonObject:
    name = _SCHEMA_NAME.sub("_", str(schema.get("title") or "answer"))[:64]
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "schema": dict(schema), "strict": fits_strict_mode(schema)},
    }


def fits_strict_mode(schema: Any, *, root: bool = True) -> bool:
    """Tell whether the vendor's strict mode takes `schema`: objects are closed, all their fields required."""
    if not isinstance(schema, Mapping) or not _STRICT_KEYWORDS.issuperset(schema):
        return False
    if root and schema.get("type") != "object":
        return False
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        closed = schema.get("additionalProperties") is False
        if not closed or set(schema.get("required", ())) != set(schema.get("properties", {})):
            return False
    inner = [
        *schema.get("properties", {}).values(),
        *schema.get("$defs", {}).values(),
        *schema.get("anyOf", ()),
        *([schema["items"]] if "items" in schema else []),
    ]
    return all(fits_strict_mode(part, root=False) for part in inner)


def _conversation(request: ModelRequest) -> Iterator[JsonObject]:
    """Yield the vendor's messages; runs of user or of assistant text become one, as some servers' templates demand."""
    if request.system:
        yield {"role": "system", "content": request.system}  # servers that prefer "developer" take "system" as that
    pending: JsonObject | None = None
    for message in request.messages:
        for item in _messages(message):
            if pending is not None and _mergeable(pending, item):
                pending = _merged(pending, item)
                continue
            if pending is not None:
                yield pending
            pending = item
    if pending is not None:
        yield pending


def _mergeable(first: JsonObject, second: JsonObject) -> bool:
    return first["role"] == second["role"] != "tool" and "tool_calls" not in first


def _merged(first: JsonObject, second: JsonObject) -> JsonObject:
    if first["role"] == "assistant":
        text = "\n\n".join(part for part in (first["content"], second["content"]) if part)
        return {**second, "content": text or None}
    return {"role": "user", "content": _as_list(first["content"]) + _as_list(second["content"])}


def _as_list(content: str | list[JsonObject]) -> list[JsonObject]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _messages(message: Message) -> Iterator[JsonObject]:
    if message.role == "user":
        yield {"role": "user", "content": _content(tuple(_only_content(message)))}
    elif message.role == "assistant":
        yield _assistant(message)
    else:
        yield from _tool_results([part for part in message.parts if isinstance(part, ToolResultPart)])


def _only_content(message: Message) -> Iterator[Content]:
    return (part for part in message.parts if isinstance(part, TextPart | ImagePart))


def _content(parts: tuple[Content, ...]) -> str | list[JsonObject]:
    if not parts:
        return ""
    if len(parts) == 1 and isinstance(parts[0], TextPart):
        return parts[0].text
    return [_part(part) for part in parts]


def _part(part: Content) -> JsonObject:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if part.data is not None and part.media_type is not None:
        return {"type": "image_url", "image_url": {"url": f"data:{part.media_type};base64,{part.data}"}}
    if part.url is not None:
        return {"type": "image_url", "image_url": {"url": part.url}}
    raise ProviderInvalidRequest("An image needs a url, or base64 data with its media_type")


def _assistant(message: Message) -> JsonObject:
    # Reasoning stays behind: Chat Completions has no place for it, and some servers refuse it.
    item: JsonObject = {"role": "assistant", "content": message.text or None}
    if message.tool_calls:
        item["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    elif item["content"] is None:
        item["content"] = ""  # null is allowed only beside tool calls
    return item


def _tool_call(call: ToolCallPart) -> JsonObject:
    # Servers' chat templates parse the arguments, so malformed ones go back wrapped in valid JSON.
    arguments = call.arguments if call.malformed is None else {"_malformed": call.malformed}
    return {
        "id": _call_id(call.id),
        "type": "function",
        "function": {"name": call.name, "arguments": json.dumps(arguments, ensure_ascii=False)},
    }


def _call_id(call_id: str) -> str:
    """Return an id that fits, always the same for the same one."""
    if len(call_id) <= _MAX_CALL_ID:
        return call_id
    return "call_" + hashlib.sha256(call_id.encode()).hexdigest()[: _MAX_CALL_ID - 5]


def _tool_results(results: list[ToolResultPart]) -> Iterator[JsonObject]:
    """Yield one tool message a result. It takes text only, so images follow in a user message that names the tool."""
    images: list[JsonObject] = []
    for result in results:
        pictures = [part for part in result.content if isinstance(part, ImagePart)]
        text = "\n".join(part.text for part in result.content if isinstance(part, TextPart))
        if pictures:
            images.append({"type": "text", "text": f"Images returned by the tool {result.name} ({result.call_id}):"})
            images.extend(_part(picture) for picture in pictures)
            text = text or "The result is an image; it is in the next message."
        if result.is_error:
            text = f"Error: {text}"
        yield {"role": "tool", "tool_call_id": _call_id(result.call_id), "content": text}
    if images:
        yield {"role": "user", "content": images}
