"""Request bodies: read within a bound, decoded, validated."""

import asyncio
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request

from goagents.errors import BadRequest, Invalid, PayloadTooLarge, UnsupportedMediaType
from goagents.spec.types import format_size

from .calls import session_of
from .errors import RequestTimedOut
from .validation import field_errors

M = TypeVar("M", bound=BaseModel)

JSON = "application/json"
YAML = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"})


async def read(request: Request) -> bytes:
    """Return the body.

    Raises PayloadTooLarge as soon as it is longer than `server.max_body`, however it is sent, and RequestTimedOut if it
    takes longer than `server.timeout`.
    """
    server = session_of(request)[0].config.server
    limit = server.max_body
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and (len(announced) > 18 or int(announced) > limit):
        raise _too_large(limit)
    try:
        async with asyncio.timeout(server.timeout):
            return await _received(request, limit)
    except TimeoutError:
        raise RequestTimedOut(f"The body did not arrive within {server.timeout:g} s (`server.timeout`).") from None


async def _received(request: Request, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {format_size(limit)} (`server.max_body`).")


def media_type(request: Request, *, yaml: bool = False) -> str:
    """Return the body's media type, `application/json` or (where `yaml` says so) `application/yaml`.

    A body without a type is refused too: that is what a page in a browser can send anywhere without being asked.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise UnsupportedMediaType("Send the body as it is, without Content-Encoding.")
    name, *parameters = (part.strip().lower() for part in request.headers.get("content-type", "").split(";"))
    remedy = "application/json or application/yaml" if yaml else "application/json"
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "charset" and value.strip().strip('"') not in {"utf-8", "utf8", "us-ascii"}:
            raise UnsupportedMediaType(f"The body must be UTF-8: send it as {remedy}.")
    if name == JSON:
        return JSON
    if yaml and name in YAML:
        return "application/yaml"
    given = f"not as {name[:64]!r}" if name else "and say so"
    raise UnsupportedMediaType(f"Send the body as {remedy}, {given} (curl: -H 'Content-Type: application/json').")


async def read_model(request: Request, model: type[M]) -> M:
    """Return the JSON body as `model`. Raises UnsupportedMediaType, PayloadTooLarge, BadRequest, Invalid."""
    media_type(request)
    data = parse_json(await read(request))
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise Invalid("The body is not what is expected here.", errors=field_errors(error, data)) from None


async def read_optional(request: Request, model: type[M]) -> M | None:
    """Return the JSON body as `model`, None where there is none. Raises as `read_model`."""
    headers = request.headers
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return None
    return await read_model(request, model)


def parse_json(body: bytes) -> Any:
    """Raises BadRequest for what is no JSON, nested too deep, or holds numbers that are none."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from None
