"""A request's arguments: read within a bound, as JSON only, validated."""

import re
from collections.abc import Mapping
from typing import Any

import flask
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from werkzeug.exceptions import HTTPException

from goagents.errors import BadRequest, FieldError, Invalid, PayloadTooLarge, UnsupportedMediaType
from goagents.spec.functions import MAX_ERRORS, places
from goagents.spec.types import format_size

from .declaring import Declared

_JSON = "application/json"
_WHOLE = re.compile(r"-?[0-9]{1,18}")


def arguments_of(request: flask.Request, tool: Declared, limit: int) -> dict[str, Any]:
    """Return what was sent, not validated yet. `limit` is in bytes.

    Raises PayloadTooLarge, UnsupportedMediaType, BadRequest, Invalid.
    """
    if request.method == "GET":
        return _from_query(request, tool.query or {}, limit)
    body = _body(request, limit)
    if not body and not request.mimetype:
        return {}  # a call without arguments
    _check_type(request)
    try:
        data = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from None
    if not isinstance(data, dict):
        raise Invalid("The arguments are an object of JSON: their names, and a value for each.")
    return data


def validated(tool: Declared, data: Mapping[str, Any]) -> BaseModel:
    """Return the arguments. Raises Invalid, with each place; values are not repeated."""
    try:
        return tool.parameters.validated(data)
    except ValidationError as error:
        errors = places(error, data)
        raise Invalid(f"The arguments do not fit the tool {tool.name}.", errors=errors) from None


def _body(request: flask.Request, limit: int) -> bytes:
    # Not by max_content_length: the framework reads the request once more, and would trip over it.
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    try:
        body = request.stream.read(limit + 1)
    except (HTTPException, OSError):
        raise BadRequest("The connection ended before the request did.") from None
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The arguments are larger than {format_size(limit)}.")


def _check_type(request: flask.Request) -> None:
    """A body without a type is refused too: that is what a page in a browser can send anywhere without being asked."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("Send the body as it is, without Content-Encoding.")
    if request.mimetype != _JSON:
        given = f"not as {request.mimetype[:64]!r}" if request.mimetype else "and say so"
        raise UnsupportedMediaType(f"Send the body as {_JSON}, {given} (curl: -H 'Content-Type: {_JSON}').")
    if request.mimetype_params.get("charset", "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType(f"The body must be UTF-8: send it as {_JSON}.")


def _from_query(request: flask.Request, types: Mapping[str, str], limit: int) -> dict[str, Any]:
    if len(request.query_string) > limit:
        raise _too_large(limit)
    repeated = [name for name, values in request.args.lists() if len(values) > 1]
    if repeated:
        errors = [FieldError(name, "is given more than once") for name in repeated[:MAX_ERRORS]]
        raise Invalid("The query has a parameter more than once.", errors=errors)
    return {name: _typed(text, types.get(name)) for name, text in request.args.items()}


def _typed(text: str, kind: str | None) -> Any:
    """Return whole numbers as such, because an enumeration of them takes no text; pydantic reads all the others."""
    return int(text) if kind == "integer" and _WHOLE.fullmatch(text) else text
