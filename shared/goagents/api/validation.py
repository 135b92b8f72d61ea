"""From pydantic's errors to ours."""

from itertools import pairwise
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from goagents.errors import FieldError

MAX_ERRORS = 100
_WRONG_TYPE = frozenset({"string_type", "list_type", "tuple_type", "dict_type", "model_type"})


def field_errors(error: ValidationError, data: Any) -> list[FieldError]:
    """Return what is wrong with `data`, each with its dotted path; values are not repeated.

    Where a value may be of several types, all of pydantic's attempts are in `error`: only those that fit the value's
    own type are kept.
    """
    details = error.errors(include_url=False, include_context=False, include_input=False)
    placed = [(_path(detail, data), detail) for detail in details]
    messages: dict[str, list[str]] = {}
    for path, detail in placed:
        deeper = any(other != path and (other.startswith(f"{path}.") or not path) for other, _ in placed)
        alternatives = any(other == path and o["type"] not in _WRONG_TYPE for other, o in placed)
        if detail["type"] in _WRONG_TYPE and (deeper or alternatives):
            continue
        texts = messages.setdefault(path, [])
        if detail["msg"] not in texts:
            texts.append(detail["msg"])
    return [FieldError(path, " or ".join(texts)) for path, texts in list(messages.items())[:MAX_ERRORS]]


def _path(detail: ErrorDetails, data: Any) -> str:
    """Return the path within the data: without the names of a union's branches, which pydantic puts between."""
    path: list[str] = []
    here = data
    for part, following in pairwise(detail["loc"]):
        # a branch may be called as a field beside the one meant: then what follows is a field here, too
        if _holds(here, part) and (isinstance(here[part], dict | list) or not _holds(here, following)):
            here = here[part]
            path.append(str(part))
    if detail["loc"]:
        last = detail["loc"][-1]
        if detail["type"] == "missing" or _holds(here, last):
            path.append(str(last))
    return ".".join(path)


def _holds(value: Any, part: int | str) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)
