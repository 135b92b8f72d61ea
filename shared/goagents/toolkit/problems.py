"""Errors as answers: problem+json (RFC 9457), as GoAgents' own API has them."""

import json
import math
import re
from typing import Any

import flask

from goagents import errors
from goagents.errors import GoAgentsError, MethodNotAllowed, Unauthenticated

PROBLEM = "application/problem+json"
DEFECT = GoAgentsError("Something went wrong in the tool. The log of the function has the details.")
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")


class ToolError(errors.ToolError):
    """A tool's own error, for the model to read: what is wrong, and what to do about it.

    `status` is that of the answer, 400 to 599. `code` is a stable word for programs. `retry_after` is in seconds.
    Nothing else of the tool's code reaches the caller, so put no secret into the message.
    """

    def __init__(
        self, message: str, *, status: int = 400, code: str = "tool_failed", retry_after: float | None = None
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        if not 400 <= status <= 599:
            raise ValueError(f"status: {status} is no error; use 400 to 599")
        if not _CODE.fullmatch(code):
            raise ValueError(f"code: {code!r} is not lower-case letters, digits and '_', beginning with a letter")
        self._status = status
        self._code = code

    def problem(self) -> dict[str, Any]:
        return super().problem() | {
            "type": f"https://goagents.dev/errors/{self._code}",
            "title": self._code.replace("_", " ").capitalize(),
            "status": self._status,
            "code": self._code,
        }


class NotAllowedHere(MethodNotAllowed):
    """This path does not answer that method."""

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"This path does not answer {method[:32]!r}; it answers {allowed}.")
        self.allowed = allowed


def json_answer(content: bytes, headers: dict[str, str] | None = None) -> flask.Response:
    return _answer(content, 200, headers or {}, "application/json")


def problem_answer(error: GoAgentsError) -> flask.Response:
    body = error.problem()
    headers: dict[str, str] = {}
    if error.retry_after is not None and math.isfinite(error.retry_after):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="goagents"'
    if isinstance(error, NotAllowedHere):
        headers["Allow"] = error.allowed
    return _answer(json.dumps(body).encode(), body["status"], headers, PROBLEM)


def _answer(content: bytes, status: int, headers: dict[str, str], media_type: str) -> flask.Response:
    # As a stream, because before any other answer the framework reads what is left of the request, however much it is.
    headers = {"Cache-Control": "no-store", "Content-Length": str(len(content)), **headers}
    return flask.Response(iter((content,)), status, headers, content_type=media_type)
