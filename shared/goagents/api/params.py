"""Parameters of paths and queries."""

import re
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from goagents.errors import FieldError, Invalid, NotFound
from goagents.events import Cursor

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 500
MAX_PAGE_TOKEN = 4096
MAX_IDEMPOTENCY_KEY = 255

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_LABEL = re.compile(LABEL)
_AGENT = re.compile(rf"({LABEL}\.)?{LABEL}\.{LABEL}")
_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def invalid(name: str, message: str) -> Invalid:
    return Invalid(f"The parameter {name} {message}.", errors=[FieldError(name, message)])


def cluster_name(request: Request) -> str:
    """Return the cluster named in the path. Raises NotFound for what no cluster can be called."""
    return _from_path(request, "name", _LABEL, "cluster")


def agent_id(request: Request) -> str:
    return _from_path(request, "id", _AGENT, "agent")


def session_id(request: Request) -> str:
    return _from_path(request, "id", _SESSION, "session")


def run_id(request: Request) -> str:
    return _from_path(request, "id", _SESSION, "run")


def agent_query(request: Request) -> str | None:
    return _matching(request, "agent", _AGENT, "is no agent's id: CLUSTER.AGENT or NAMESPACE.CLUSTER.AGENT")


def session_query(request: Request) -> str | None:
    return _matching(request, "session_id", _SESSION, "is no session's id")


def _matching(request: Request, name: str, pattern: re.Pattern[str], message: str) -> str | None:
    value = query(request, name)
    if value is not None and not pattern.fullmatch(value):
        raise invalid(name, message)
    return value


def choice(request: Request, name: str, choices: Sequence[str]) -> str | None:
    """Return a parameter that is one of `choices`. Raises Invalid."""
    value = query(request, name)
    if value is not None and value not in choices:
        raise invalid(name, f"is none of {', '.join(choices)}")
    return value


def cursor(request: Request) -> Cursor | None:
    """Return the place behind the last event seen: `Last-Event-ID`, or `after`. Raises Invalid."""
    header = request.headers.get("last-event-id")
    value = query(request, "after") if header is None else header
    if not value:
        return None
    try:
        return Cursor.parse(value)
    except ValueError as error:
        raise invalid("after" if header is None else "Last-Event-ID", f"is wrong: {error}") from None


def _from_path(request: Request, name: str, pattern: re.Pattern[str], what: str) -> str:
    value: str = request.path_params[name]
    if not pattern.fullmatch(value):
        raise NotFound(f"There is no {what} {value[:200]!r}.")
    return value


def query(request: Request, name: str) -> str | None:
    """Return the one value of a parameter, None without it. Raises Invalid where it is given twice."""
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise invalid(name, "is given more than once")
    return values[0] if values else None


def namespace(request: Request) -> str:
    return label(request, "namespace") or "default"


def label(request: Request, name: str) -> str | None:
    """Return a parameter that is a DNS label. Raises Invalid."""
    value = query(request, name)
    if value is not None and not _LABEL.fullmatch(value):
        raise invalid(name, "is no name: lower-case letters, digits and dashes, at most 63")
    return value


def flag(request: Request, name: str) -> bool:
    """Return a parameter that is `true` or `false` (the default). Raises Invalid."""
    value = query(request, name)
    if value not in {None, "true", "false"}:
        raise invalid(name, "is neither true nor false")
    return value == "true"


def page(request: Request) -> dict[str, Any]:
    """Return `page_size` and `page_token`, as the engine's lists take them. Raises Invalid."""
    return {"page_size": _page_size(request), "page_token": _page_token(request)}


def _page_size(request: Request) -> int:
    value = query(request, "page_size")
    if value is None:
        return DEFAULT_PAGE_SIZE
    if not (value.isascii() and value.isdigit() and len(value) <= 9 and 1 <= int(value) <= MAX_PAGE_SIZE):
        raise invalid("page_size", f"is not a number from 1 to {MAX_PAGE_SIZE}")
    return int(value)


def _page_token(request: Request) -> str | None:
    value = query(request, "page_token")
    if value is not None and not 0 < len(value) <= MAX_PAGE_TOKEN:
        raise invalid("page_token", "is not the `next_page_token` of a page")
    return value


def idempotency_key(request: Request) -> str | None:
    """Return the header Idempotency-Key. Raises Invalid for an empty, a too long or a repeated one."""
    values = request.headers.getlist("idempotency-key")
    if not values:
        return None
    if len(values) > 1:
        raise invalid("Idempotency-Key", "is given more than once")
    if not 0 < len(values[0]) <= MAX_IDEMPOTENCY_KEY:
        raise invalid("Idempotency-Key", f"has 1 to {MAX_IDEMPOTENCY_KEY} characters")
    return values[0]
