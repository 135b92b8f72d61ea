"""Errors as answers: problem+json (RFC 9457), as GoAgents' own API has them."""

import json
import math
import re
from typing import Any

import flask

from goagents import errors
from goagents.errors import GoAgentsError, MethodNotAllowed, PayloadTooLarge, Unauthenticated

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
    return flask.Response(
        content, 200, {"Cache-Control": "no-store", **(headers or {})}, content_type="application/json"
    )


def problem_answer(error: GoAgentsError) -> flask.Response:
    body = error.problem()
    headers = {"Cache-Control": "no-store"}
    if error.retry_after is not None and math.isfinite(error.retry_after):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="goagents"'
    if isinstance(error, NotAllowedHere):
        headers["Allow"] = error.allowed
    if isinstance(error, PayloadTooLarge):
        headers["Connection"] = "close"  # the rest of the body is not read
    return flask.Response(json.dumps(body), body["status"], headers, content_type=PROBLEM)
