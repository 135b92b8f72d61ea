"""A ModelRequest as the body of Gemini's streamGenerateContent."""

import json
import mimetypes
import re
from collections.abc import Iterator, Mapping
from typing import Any

from google.genai import types
from pydantic import ValidationError

from goagents.errors import FieldError, ProviderInvalidRequest
from goagents.messages import Content, ImagePart, Message, Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from goagents.providers.base import ModelRequest, ToolSchema

NAME = "gemini"
JsonObject = dict[str, Any]

# What the adapter itself decides, and what belongs to another product or to the SDK's own loop.
_RESERVED = frozenset(
    {"tools", "system_instruction", "candidate_count", "response_schema", "response_json_schema", "http_options"}
    | {"should_return_http_response", "automatic_function_calling", "continuation_token", "automatic_continuation"}
)
_TOP_LEVEL = frozenset({"safetySettings", "toolConfig", "cachedContent", "labels", "serviceTier", "store"})
_BUDGETS = {"none": 0, "minimal": 512, "low": 2048, "medium": 8192, "high": 24576, "xhigh": 24576}  # tokens
_LEVELS = {"none": "MINIMAL", "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "HIGH"}
_SIGNATURES_SINCE = 3  # from Gemini 3 on, a call without its signature is refused
_SKIP_SIGNATURE = "skip_thought_signature_validator"  # documented for calls that another model made
_MODEL = re.compile(r"[\w.-]+(?:/[\w.-]+)*")
_GENERATION = re.compile(r"gemini-(\d+)")
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]")
_MAX_NAME = 64


def path(model: str) -> str:
    """Return the path of the call. Raises ProviderInvalidRequest for what is no model's name."""
    if not _MODEL.fullmatch(model) or ".." in model:
        raise ProviderInvalidRequest(f"{model!r} is no name of a Gemini model, such as gemini-2.5-flash")
    return f"{model if '/' in model else f'models/{model}'}:streamGenerateContent?alt=sse"


def request_body(request: ModelRequest) -> JsonObject:
    """Return the JSON body for `request`.

    Settings are the fields of the SDK's GenerateContentConfig, in either spelling (`top_p`, `topP`), and `max_tokens`
    for `max_output_tokens`, and `reasoning: LEVEL` for a thinking budget or level, whichever the model takes.

    Raises ProviderInvalidRequest for an unknown or malformed setting and one that the adapter itself decides (each
    named), for an image without a source, and for a conversation without content.
    """
    contents = _conversation(request)
    if not contents:
        raise ProviderInvalidRequest("The conversation has no content: a message needs text or an image")
    config = _settings(request)
    body: JsonObject = {name: config.pop(name) for name in _TOP_LEVEL & config.keys()}
    body["contents"] = contents
    system = request.system or ""
    if request.tools:
        body["tools"] = [{"functionDeclarations": [_tool(tool) for tool in request.tools]}]
    else:
        body.pop("toolConfig", None)
    if request.output_schema is not None:
        if request.tools and _generation(request.model) < _SIGNATURES_SINCE:
            system += _schema_in_words(request.output_schema)
        else:
            config |= {"responseMimeType": "application/json", "responseJsonSchema": dict(request.output_schema)}
    if system.strip():
        body["systemInstruction"] = {"parts": [{"text": system}]}
    if config:
        body["generationConfig"] = config
    return body


def _settings(request: ModelRequest) -> JsonObject:
    settings = {name: value for name, value in request.settings.items() if value is not None}
    if "max_tokens" in settings:
        settings.setdefault("max_output_tokens", settings.pop("max_tokens"))
    if "reasoning" in settings:
        wish = settings.pop("reasoning")
        settings.setdefault("thinking_config", _reasoning(wish, request.model))
    try:
        config = types.GenerateContentConfig.model_validate(settings)
    except ValidationError as error:
        wrong = [FieldError(f"model_settings.{'.'.join(map(str, e['loc']))}", e["msg"]) for e in error.errors()[:20]]
        raise ProviderInvalidRequest("gemini does not take " + "; ".join(map(str, wrong)), errors=wrong) from error
    if taken := sorted(_RESERVED & config.model_fields_set):
        raise ProviderInvalidRequest(f"model_settings.{taken[0]} is decided by GoAgents: remove it")
    return config.model_dump(by_alias=True, exclude_none=True, mode="json")


def _reasoning(wish: Any, model: str) -> Any:
    if isinstance(wish, Mapping):
        return wish
    level = "none" if wish is False or wish == "off" else wish
    if level not in _BUDGETS:
        known = ", ".join(_BUDGETS)
        raise ProviderInvalidRequest(f"model_settings.reasoning is {wish!r}; gemini takes {known}, or a mapping")
    if _generation(model) < _SIGNATURES_SINCE:
        return {"thinking_budget": _BUDGETS[level], "include_thoughts": level != "none"}
    return {"thinking_level": _LEVELS[level], "include_thoughts": level != "none"}


def _generation(model: str) -> int:
    """Return the 2 of gemini-2.5-flash. An alias without a number is among the newest, another model the oldest."""
    found = _GENERATION.search(model)
    if found:
        return int(found[1])
    return _SIGNATURES_SINCE if "gemini" in model else 0


def family(model: str) -> frozenset[str]:
    """Return what of a model's name decides whether it understands a signature: neither date, number nor alias."""
    words = re.split(r"[-@:/]", model.lower())
    aliases = ("", "models", "latest", "preview", "exp")
    return frozenset(word for word in words if word not in aliases and not (word.isdigit() and len(word) > 1))


def wire_name(name: str) -> str:
    """Return a tool's name as the vendor takes it: it begins with a letter or an underscore."""
    clean = _FOREIGN.sub("_", name) or "unknown"  # a model may have called what does not exist
    return (clean if clean[0].isalpha() or clean[0] == "_" else f"_{clean}")[:_MAX_NAME]


def _tool(tool: ToolSchema) -> JsonObject:
    schema = {"properties": {}, **tool.parameters, "type": "object"}
    return {"name": wire_name(tool.name), "description": tool.description, "parametersJsonSchema": schema}


def _schema_in_words(schema: Mapping[str, Any]) -> str:
    """Models before Gemini 3 refuse a response schema beside tools, so they are told."""
    text = json.dumps(schema, ensure_ascii=False, sort_keys=True)
    return f"\n\nWrite your final answer as JSON only, without code fences, fitting this JSON Schema:\n{text}"


def _conversation(request: ModelRequest) -> list[JsonObject]:
    """Return alternating contents, the first of the user; function responses come first in theirs."""
    turns: list[JsonObject] = []
    for message in request.messages:
        role = "model" if message.role == "assistant" else "user"
        parts = list(_parts(message, request.model))
        if not parts:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["parts"] += parts
        else:
            turns.append({"role": role, "parts": parts})
    for turn in turns:
        turn["parts"].sort(key=lambda part: "functionResponse" not in part)  # stable: the rest keeps its order
    return turns


def _parts(message: Message, model: str) -> Iterator[JsonObject]:
    if message.role != "assistant":
        for part in message.parts:
            yield from _given(part)
        return
    own = message.provider == NAME and message.model is not None and family(message.model) == family(model)
    unsigned = _generation(model) >= _SIGNATURES_SINCE
    previous: JsonObject | None = None
    for part in message.parts:
        made = _said(part, own=own)
        if isinstance(part, ToolCallPart) and made is not None:
            if unsigned and "thoughtSignature" not in made:
                made["thoughtSignature"] = _SKIP_SIGNATURE
            unsigned = False  # of parallel calls, the vendor signs the first
        if made is None:
            continue
        if "thoughtSignature" in made and made.get("text") == "" and previous is not None and "text" in previous:
            previous["thoughtSignature"] = made["thoughtSignature"]
            continue
        yield from () if previous is None else (previous,)
        previous = made
    if previous is not None:
        yield previous


def _said(part: Part, *, own: bool) -> JsonObject | None:
    """Return a part of an assistant message, or None where the vendor should not see it (again)."""
    if isinstance(part, ToolCallPart):
        arguments = part.arguments if part.malformed is None else {"_malformed": part.malformed}
        made: JsonObject = {"functionCall": {"id": part.id, "name": wire_name(part.name), "args": arguments}}
        return made | ({"thoughtSignature": part.signature} if own and part.signature else {})
    if isinstance(part, ReasoningPart):
        if not own or part.signature is None:
            return None  # thoughts are summaries; what counts is their signature
        return {"text": part.text, "thoughtSignature": part.signature} | ({"thought": True} if part.text else {})
    if isinstance(part, TextPart):
        return {"text": part.text} if part.text else None
    if isinstance(part, ImagePart):
        return _image(part)
    return None


def _given(part: Part) -> Iterator[JsonObject]:
    if isinstance(part, ToolResultPart):
        yield from _tool_result(part)
    elif isinstance(part, TextPart | ImagePart):
        yield from _content(part)


def _tool_result(part: ToolResultPart) -> Iterator[JsonObject]:
    """Yield the result, then its images, which a function response takes from Gemini 3 on only."""
    text = "\n".join(item.text for item in part.content if isinstance(item, TextPart))
    images = [item for item in part.content if isinstance(item, ImagePart)]
    if images and not text:
        text = "The result is an image; it follows."
    response = {"error" if part.is_error else "output": text}
    yield {"functionResponse": {"id": part.call_id, "name": wire_name(part.name), "response": response}}
    if images:
        yield {"text": f"Images returned by the tool {part.name}:"}
        yield from (_image(image) for image in images)


def _content(part: Content) -> Iterator[JsonObject]:
    if isinstance(part, ImagePart):
        yield _image(part)
    elif part.text:
        yield {"text": part.text}


def _image(part: ImagePart) -> JsonObject:
    if part.data is not None and part.media_type is not None:
        return {"inlineData": {"mimeType": part.media_type, "data": part.data}}
    if part.url is not None:
        guessed = part.media_type or mimetypes.guess_type(part.url.partition("?")[0])[0] or "image/jpeg"
        return {"fileData": {"mimeType": guessed, "fileUri": part.url}}
    raise ProviderInvalidRequest("An image needs a url, or base64 data with its media_type")
