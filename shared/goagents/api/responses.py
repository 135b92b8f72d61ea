"""JSON responses."""

import json
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json
from starlette.responses import Response

from goagents.resources import Run


def render(value: Any) -> bytes:
    """Return `value` (JSON values, dataclasses, models) as one line of JSON in UTF-8."""
    try:
        return to_json(value, inf_nan_mode="null")
    except PydanticSerializationError:
        # A model's answer may hold half of a surrogate pair, which UTF-8 cannot: JSON's escapes can.
        return json.dumps(value, default=_jsonable).encode("ascii")


def _jsonable(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def resource(value: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(render(value), status, headers, "application/json")


def no_content() -> Response:
    return Response(status_code=204)


def accepted(run: Run) -> Response:
    """202: the run goes on, and here is where."""
    return resource(run, 202, {"Location": f"/api/v1/runs/{run.id}"})
