"""A request's arguments: read within a bound, as JSON only, validated."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import flask
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json
from werkzeug.exceptions import HTTPException

from goagents.errors import BadRequest, FieldError, Invalid, PayloadTooLarge, UnsupportedMediaType
from goagents.spec.types import format_size

from .declaring import Declared

_MAX_ERRORS = 100
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
        return tool.arguments.model_validate_json(to_json(data))
    except ValidationError as error:
        places = _field_errors(error, data)
        raise Invalid(f"The arguments do not fit the tool {tool.name}.", errors=places) from None


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
        places = [FieldError(name, "is given more than once") for name in repeated[:_MAX_ERRORS]]
        raise Invalid("The query has a parameter more than once.", errors=places)
    return {name: _typed(text, types.get(name)) for name, text in request.args.items()}


def _typed(text: str, kind: str | None) -> Any:
    """Return whole numbers as such, because an enumeration of them takes no text; pydantic reads all the others."""
    return int(text) if kind == "integer" and _WHOLE.fullmatch(text) else text


def _field_errors(error: ValidationError, data: Mapping[str, Any]) -> list[FieldError]:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    found = {(_path(detail["loc"], data), detail["msg"]) for detail in details}
    return [FieldError(path, message) for path, message in sorted(found)[:_MAX_ERRORS]]


def _path(location: tuple[int | str, ...], data: Any) -> str:
    """Return the dotted path within the data: without the names of a union's branches, which pydantic puts between."""
    path: list[str] = []
    here = data
    for part, following in pairwise((*location, None)):
        if _holds(here, part):
            here = here[part]
            path.append(str(part))
        elif following is None and isinstance(here, dict):
            path.append(str(part))  # what is missing
    return ".".join(path)


def _holds(value: Any, part: int | str | None) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)
