"""A strict fake of the Gemini API: refuses what the vendor refuses, and can fail in every way it can.

In a test: `with FakeGemini() as fake: fake.replies.append(stream(chunks([text("Hi")]))); …`.
As the upstream of a benchmark: `python -m tests.support.fakes.gemini --port 9003`, with a model `bench-20-100`.
"""

import base64
import binascii
import hashlib
import json
import re
from typing import Any

from tests.support.fakes.wire import FakeServer, Json, Refused, Reply, Request, json_reply, serve, stream

KEY = "AIza-test-0123456789abcdef"
MODEL = "gemini-2.5-flash"
INVALID = "INVALID_ARGUMENT"
SKIP_SIGNATURE = "skip_thought_signature_validator"  # what the vendor takes in place of a signature
_PATH = re.compile(r"/v1beta/models/([^/:]+):streamGenerateContent")
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
_FIELDS = frozenset(
    {"contents", "systemInstruction", "tools", "toolConfig", "safetySettings", "generationConfig", "cachedContent"}
    | {"labels", "serviceTier", "store"}
)
_GENERATION = frozenset(
    {"temperature", "topP", "topK", "maxOutputTokens", "stopSequences", "seed", "presencePenalty", "frequencyPenalty"}
    | {"responseMimeType", "responseJsonSchema", "thinkingConfig", "candidateCount", "responseLogprobs", "logprobs"}
    | {"mediaResolution", "responseModalities"}
)
_DATA = ("text", "inlineData", "fileData", "functionCall", "functionResponse")


# What the model says


def event(body: Any) -> bytes:
    return f"data: {json.dumps(body, ensure_ascii=False)}\r\n\r\n".encode()


def error_body(code: int, status: str, message: str = "refused", details: list[Json] | None = None) -> Json:
    return {"error": {"code": code, "message": message, "status": status, **({"details": details} if details else {})}}


def error(code: int, status: str, message: str = "refused", details: list[Json] | None = None, **headers: str) -> Reply:
    """Return an error response in the vendor's format; `retry_after="2"` becomes the header Retry-After."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return json_reply(error_body(code, status, message, details), code, fields)


def sign(content: str) -> str:
    """The signature this fake gives a part, and demands back unchanged."""
    return base64.b64encode(b"signed" + hashlib.sha256(content.encode()).digest()).decode()


def text(content: str, **more: Any) -> Json:
    return {"text": content, **more}


def thought(content: str) -> Json:
    return {"text": content, "thought": True}


def call(name: str, arguments: Any, *, signed: bool = False, **more: Any) -> Json:
    part = {"functionCall": {"name": name, "args": arguments, **more}}
    return {**part, "thoughtSignature": sign(name)} if signed else part


def chunks(
    *parts: list[Json], finish: str | None = "STOP", usage: Json | None = None, model: str = MODEL
) -> list[bytes]:
    """Return the events of one answer, one for each list of parts; the last one finishes it (None: it does not)."""
    counted = {"promptTokenCount": 12, "candidatesTokenCount": 7, "totalTokenCount": 19, **(usage or {})}
    events = []
    for number, content in enumerate(parts):
        candidate: Json = {"content": {"parts": content, "role": "model"}, "index": 0}
        if number == len(parts) - 1 and finish:
            candidate["finishReason"] = finish
        events.append({"candidates": [candidate], "usageMetadata": counted, "modelVersion": model, "responseId": "r1"})
    return [event(body) for body in events]


# What the vendor refuses


class FakeGemini(FakeServer):
    def __init__(self, *, api_key: str = KEY) -> None:
        super().__init__(api_key=api_key)

    def model(self, request: Request) -> str:
        found = _PATH.fullmatch(request.path)
        return found[1] if found else ""

    def refusal(self, refused: Refused) -> Reply:
        return error(refused.status, refused.kind, str(refused))

    def validate(self, request: Request) -> None:
        model = self.model(request)
        if not model:
            raise Refused(404, "NOT_FOUND", f"Not found: {request.path}")
        if request.query.get("alt") != ["sse"]:
            raise Refused(400, INVALID, "this fake answers alt=sse only")
        given = request.headers.get("x-goog-api-key")
        if given != self.api_key:
            raise Refused(400, INVALID, f"API key not valid. Please pass a valid API key: {given}")
        validate(request.body, model)

    def echo(self, request: Request) -> Reply:
        parts = request.body["contents"][-1]["parts"]
        said = " ".join(part.get("text", "") for part in parts).strip() or "Hello"
        return stream(chunks([text(said[:3])], [text(said[3:])], model=self.model(request)))

    def bench(self) -> tuple[bytes, bytes, bytes]:
        chunk, last = chunks([text("word ")], [text("")])
        return chunk, chunk, last


def validate(body: Json, model: str) -> None:
    if unknown := sorted(body.keys() - _FIELDS):
        raise Refused(400, INVALID, f'Invalid JSON payload received. Unknown name "{unknown[0]}": Cannot find field.')
    config = body.get("generationConfig", {})
    if unknown := sorted(config.keys() - _GENERATION):
        raise Refused(400, INVALID, f"Unknown name \"{unknown[0]}\" at 'generation_config': Cannot find field.")
    if not 0 <= config.get("temperature", 0) <= 2:
        raise Refused(400, INVALID, "temperature must be in the range [0.0, 2.0]")
    _validate_tools(body)
    _validate_schema(config, body, model)
    if "systemInstruction" in body and not body["systemInstruction"]["parts"][0]["text"]:
        raise Refused(400, INVALID, "systemInstruction.parts: must have text")
    if not body.get("contents"):
        raise Refused(400, INVALID, "GenerateContentRequest.contents: contents is not specified")
    _validate_contents(body["contents"], model)


def _validate_tools(body: Json) -> None:
    declared = [function for tool in body.get("tools", []) for function in tool["functionDeclarations"]]
    for function in declared:
        if not _NAME.fullmatch(function["name"]):
            raise Refused(400, INVALID, f"Invalid function name: {function['name']}")
        schema = function.get("parametersJsonSchema", {"type": "object"})
        if not isinstance(schema, dict) or schema.get("type") != "object" or "parameters" in function:
            raise Refused(400, INVALID, f"parameters schema of {function['name']} should be of type OBJECT")
    if len({function["name"] for function in declared}) != len(declared):
        raise Refused(400, INVALID, "Duplicate function declaration found")
    if "toolConfig" in body and not declared:
        raise Refused(400, INVALID, "Function calling config is set without function_declarations")


def _validate_schema(config: Json, body: Json, model: str) -> None:
    if "responseJsonSchema" in config and config.get("responseMimeType") != "application/json":
        raise Refused(400, INVALID, "response_mime_type must be application/json with a response schema")
    if body.get("tools") and config.get("responseMimeType") == "application/json" and model.startswith("gemini-2"):
        raise Refused(400, INVALID, "Function calling with a response mime type: 'application/json' is unsupported")


def _validate_contents(contents: list[Json], model: str) -> None:
    awaited: list[Json] = []
    for number, content in enumerate(contents):
        if content["role"] != ("user" if number % 2 == 0 else "model"):
            raise Refused(400, INVALID, "Please ensure that turns alternate, starting with a user turn")
        if not content["parts"]:
            raise Refused(400, INVALID, f"contents[{number}].parts: must not be empty")
        for part in content["parts"]:
            _validate_part(part, f"contents[{number}]")
        answers = [part["functionResponse"] for part in content["parts"] if "functionResponse" in part]
        _validate_answers(awaited, answers)
        awaited = [part["functionCall"] for part in content["parts"] if "functionCall" in part]
        first = next((part for part in content["parts"] if "functionCall" in part), None)
        if first is not None and not model.startswith("gemini-2") and "thoughtSignature" not in first:
            raise Refused(400, INVALID, "Function call is missing a thought_signature in functionCall parts")
    if awaited or len(contents) % 2 == 0:
        raise Refused(400, INVALID, "The conversation must end with a user turn")


def _validate_answers(awaited: list[Json], answers: list[Json]) -> None:
    names = [(item["name"], item.get("id")) for item in awaited]
    if sorted(names) != sorted((item["name"], item.get("id")) for item in answers):
        raise Refused(400, INVALID, "the number of function response parts must equal that of function call parts")
    if any(not isinstance(item.get("response"), dict) for item in answers):
        raise Refused(400, INVALID, "function_response.response must be a struct")


def _validate_part(part: Json, place: str) -> None:
    if len([name for name in _DATA if name in part]) != 1:
        raise Refused(400, INVALID, f"{place}: required oneof field 'data' must have one initialized field")
    if unknown := part.keys() - {*_DATA, "thought", "thoughtSignature"}:
        raise Refused(400, INVALID, f'Unknown name "{min(unknown)}" at {place}: Cannot find field.')
    signature = part.get("thoughtSignature")
    if signature not in (None, SKIP_SIGNATURE) and not _decoded(signature).startswith(b"signed"):
        raise Refused(400, INVALID, f"{place}: Thought signature is not valid")
    if "inlineData" in part:
        _decoded(part["inlineData"]["data"])
        if not part["inlineData"].get("mimeType", "").startswith("image/"):
            raise Refused(400, INVALID, f"{place}: Unable to process input image: no mime type")
    if "functionCall" in part and not isinstance(part["functionCall"].get("args", {}), dict):
        raise Refused(400, INVALID, f"{place}: function_call.args must be a struct")


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as fault:
        raise Refused(400, INVALID, "Invalid value: Base64 decoding failed") from fault


if __name__ == "__main__":
    serve(FakeGemini())
