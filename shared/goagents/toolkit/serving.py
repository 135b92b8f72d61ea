"""One request of a toolkit's function: authenticate, route, read, call, render."""

import difflib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import flask
from pydantic import BaseModel

from goagents.errors import GoAgentsError, NotFound

from .callers import Callers
from .context import ToolCallContext, context_of
from .declaring import Declared
from .keys import KeyStore
from .once import call_once, fingerprint_of, key_of
from .problems import DEFECT, NotAllowedHere, ToolError, json_answer, problem_answer
from .reading import arguments_of, validated

_log = logging.getLogger("goagents.toolkit")
_HEALTHY = b'{"status":"ok"}'
_REPLAYED = {"Idempotent-Replayed": "true"}


class _Failed(Exception):
    """The tool's code raised something that is not for the caller."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`body` in bytes, `patience` in seconds."""

    body: int
    patience: float


class Serving:
    """`tools` may grow while it serves; `page` returns the OpenAPI page of those there are."""

    def __init__(
        self,
        toolkit: str,
        tools: Mapping[str, Declared],
        page: Callable[[], bytes],
        callers: Callers,
        store: KeyStore,
        limits: Limits,
    ) -> None:
        self._toolkit = toolkit
        self._tools = tools
        self._page = page
        self._callers = callers
        self._store = store
        self._limits = limits

    def answer(self, request: flask.Request) -> flask.Response:
        """Return the answer; never raises."""
        try:
            return self._answer(request)
        except GoAgentsError as error:
            return problem_answer(error)
        except BaseException as error:  # noqa: BLE001 - the last resort: the log has it, and the server goes on
            reason = error.__cause__ if isinstance(error, _Failed) else error
            _log.error("unexpected error in %s %.200r", request.method, request.path, exc_info=reason)
            return problem_answer(DEFECT)

    def _answer(self, request: flask.Request) -> flask.Response:
        name = request.path.removeprefix("/")
        if name == "health":
            _allow(request, "GET")
            return json_answer(_HEALTHY)
        headers = {key.lower(): value for key, value in request.headers.items()}
        caller = self._callers.admit(headers, request.remote_addr)
        if name == "openapi.json":
            _allow(request, "GET")
            return json_answer(self._page())
        tool = self._tools.get(name)
        if tool is None:
            raise NotFound(self._unknown(name))
        _allow(request, *(("GET", "POST") if tool.query is not None else ("POST",)))
        context = context_of(request, tool.name, caller)
        data = arguments_of(request, tool, self._limits.body)
        return self._called(tool, data, validated(tool, data), context)

    def _called(
        self, tool: Declared, data: dict[str, Any], arguments: BaseModel, context: ToolCallContext
    ) -> flask.Response:
        call = partial(_call, tool, arguments, context)
        if tool.effect != "idempotent" or context.idempotency_key is None:
            return json_answer(call())
        key = key_of(self._toolkit, tool.name, context.caller, context.idempotency_key)
        result, replayed = call_once(self._store, key, fingerprint_of(data), call, self._limits.patience)
        return json_answer(result, _REPLAYED if replayed else {})

    def _unknown(self, name: str) -> str:
        nearest = difflib.get_close_matches(name[:64], self._tools, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else "GET /openapi.json lists them."
        return f"There is no tool {name[:64]!r} here; {hint}"


def _allow(request: flask.Request, *methods: str) -> None:
    if request.method not in methods:
        raise NotAllowedHere(request.method, ", ".join(methods))


def _call(tool: Declared, arguments: BaseModel, context: ToolCallContext) -> bytes:
    try:
        return tool.call(arguments, context)
    except ToolError:
        raise
    except BaseException as error:
        # Whatever else it is, an error of GoAgents' client or sys.exit() included: it is not about this request, and
        # must not end the process that others ask, too.
        raise _Failed from error
