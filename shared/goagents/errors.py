"""Every error GoAgents raises, as one tree.

    GoAgentsError
    ├── RequestError                 the caller can mend it
    │   ├── BadRequest               400  not JSON or YAML, not UTF-8
    │   ├── Unauthenticated          401
    │   ├── PermissionDenied         403
    │   ├── NotFound                 404
    │   ├── MethodNotAllowed         405
    │   ├── Conflict                 409
    │   │   └── SessionBusy          409
    │   ├── PayloadTooLarge          413
    │   ├── UnsupportedMediaType     415
    │   ├── Invalid                  422  understood, but wrong; `errors` names each place
    │   │   └── ConfigurationError   422  the same for configuration, with file, line and column
    │   └── LimitExceeded            429  `retry_after` tells when
    ├── StoreError                   503
    │   ├── StoreConflict            409  a precondition did not hold; nothing was written
    │   ├── StoreUnavailable         503  nothing was written
    │   ├── OutcomeUnknown           503  the commit may or may not have been applied
    │   └── DocumentTooLarge         413
    ├── ProviderError                502
    │   ├── ProviderAuthenticationFailed, ProviderPermissionDenied, ProviderModelNotFound,
    │   │   ProviderInvalidRequest, ProviderContextTooLong        asking again changes nothing
    │   ├── ProviderRateLimited, ProviderOverloaded, ProviderUnavailable, ProviderConnectionFailed
    │   ├── ProviderProtocolError    malformed or truncated answer
    │   ├── ProviderRefused          the provider's safety filter ended the answer
    │   └── ProviderTimedOut         504
    ├── DispatchFailed               503  the queue did not take a task; nothing is lost, the sweeper finds it
    ├── ToolError                    goes back to the model as an error result; never ends a run
    │   ├── ToolUnavailable, ToolInvalidArguments, ToolFailed, ToolTimedOut
    │   └── AddressRefused           the guard against server-side request forgery
    └── RunError                     500
        ├── RunTimedOut              504
        ├── RunLimitReached          500  max_turns
        ├── RunCancelled             409  somebody cancelled it
        ├── RunInterrupted           503  its process died, or was asked to stop
        └── LeaseLost                409  another process took the run over

A class's docstring is its default message. `code` is stable; `status` is that of a problem+json response (RFC 9457).
Messages never hold a secret.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from goagents.attempts import Attempted


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with an input: `path` is dotted (`spec.agents.0.model`); file, line and column where known."""

    path: str
    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        subject = f"{self.path}: {self.message}" if self.path else self.message
        line = "" if self.line is None else f":{self.line}:{self.column}"
        return subject if self.file is None else f"{self.file}{line}: {subject}"


class GoAgentsError(Exception):
    """Something went wrong inside GoAgents."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(
        self, detail: str | None = None, *, errors: Sequence[FieldError] = (), retry_after: float | None = None
    ) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.run_id: str | None = None  # set by who knows it, told to the caller
        self.session_id: str | None = None
        super().__init__(self.detail)

    @property
    def title(self) -> str:
        return self.code.replace("_", " ").capitalize()

    def problem(self) -> dict[str, Any]:
        """Return the body of a problem+json response (RFC 9457)."""
        body: dict[str, Any] = {
            "type": f"https://goagents.dev/errors/{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.errors:
            body["errors"] = [{"path": e.path, "message": e.message} for e in self.errors]
        known = {"run_id": self.run_id, "session_id": self.session_id}
        return body | {name: value for name, value in known.items() if value}


class RequestError(GoAgentsError):
    """The request cannot be served as it is."""

    status = 400
    code = "bad_request"


class BadRequest(RequestError):
    """The request could not be read."""


class Unauthenticated(RequestError):
    """This needs a credential: send `Authorization: Bearer KEY`."""

    status = 401
    code = "unauthenticated"


class PermissionDenied(RequestError):
    """The credential does not allow this."""

    status = 403
    code = "permission_denied"


class NotFound(RequestError):
    """There is no such resource."""

    status = 404
    code = "not_found"


class MethodNotAllowed(RequestError):
    """This path does not answer that method."""

    status = 405
    code = "method_not_allowed"


class Conflict(RequestError):
    """The resource's state does not allow this."""

    status = 409
    code = "conflict"


class SessionBusy(Conflict):
    """The session has a run in progress."""

    code = "session_busy"
    retryable = True


class PayloadTooLarge(RequestError):
    """The request's body is too large."""

    status = 413
    code = "payload_too_large"


class UnsupportedMediaType(RequestError):
    """Send the body as application/json or application/yaml."""

    status = 415
    code = "unsupported_media_type"


class Invalid(RequestError):
    """The request is understood, but it is wrong."""

    status = 422
    code = "invalid"


class ConfigurationError(Invalid):
    """The configuration is wrong."""

    code = "invalid_configuration"

    def __str__(self) -> str:
        return "\n".join(str(e) for e in self.errors) or self.detail


class LimitExceeded(RequestError):
    """A limit is reached; try again later."""

    status = 429
    code = "limit_exceeded"
    retryable = True


class StoreError(GoAgentsError):
    """The store could not do that."""

    status = 503
    code = "store_failed"


class StoreConflict(StoreError):
    """A precondition did not hold; nothing was written."""

    status = 409
    code = "store_conflict"
    retryable = True


class StoreUnavailable(StoreError):
    """The store cannot be reached; nothing was written."""

    code = "store_unavailable"
    retryable = True


class OutcomeUnknown(StoreError):
    """The store did not answer; the commit may or may not have been applied."""

    code = "store_outcome_unknown"


class DocumentTooLarge(StoreError):
    """The content is larger than the store takes."""

    status = 413
    code = "document_too_large"


class ProviderError(GoAgentsError):
    """The model provider failed."""

    status = 502
    code = "provider_failed"


class ProviderAuthenticationFailed(ProviderError):
    """The provider refused the API key."""

    code = "provider_authentication_failed"


class ProviderPermissionDenied(ProviderError):
    """The provider's account may not do this."""

    code = "provider_permission_denied"


class ProviderModelNotFound(ProviderError):
    """The provider does not know this model."""

    code = "provider_model_not_found"


class ProviderInvalidRequest(ProviderError):
    """The provider refused the request as invalid."""

    code = "provider_invalid_request"


class ProviderContextTooLong(ProviderInvalidRequest):
    """The conversation is longer than the model's context."""

    code = "provider_context_too_long"


class ProviderRateLimited(ProviderError):
    """The provider's rate limit is reached."""

    code = "provider_rate_limited"
    retryable = True


class ProviderOverloaded(ProviderError):
    """The provider is overloaded."""

    code = "provider_overloaded"
    retryable = True


class ProviderUnavailable(ProviderError):
    """The provider answered with a server error."""

    code = "provider_unavailable"
    retryable = True


class ProviderConnectionFailed(ProviderError):
    """The connection to the provider failed."""

    code = "provider_connection_failed"
    retryable = True


class ProviderProtocolError(ProviderError):
    """The provider's answer was malformed or ended too early."""

    code = "provider_protocol_error"
    retryable = True


class ProviderRefused(ProviderError):
    """The provider's safety filter ended the answer."""

    code = "provider_refused"


class ProviderTimedOut(ProviderError):
    """The provider did not answer in time."""

    status = 504
    code = "provider_timed_out"
    retryable = True


class DispatchFailed(GoAgentsError):
    """The queue did not take the task."""

    status = 503
    code = "dispatch_failed"
    retryable = True


class ToolError(Attempted, GoAgentsError):
    """The tool failed."""

    status = 502
    code = "tool_failed"


class ToolUnavailable(ToolError):
    """The tool cannot be reached."""

    code = "tool_unavailable"
    fault = "server"
    sent = False


class ToolInvalidArguments(ToolError):
    """The arguments do not fit the tool's schema."""

    code = "tool_invalid_arguments"


class ToolFailed(ToolError):
    """The tool answered with an error."""


class ToolTimedOut(ToolError):
    """The tool did not answer in time."""

    code = "tool_timed_out"
    fault = "server"


class AddressRefused(ToolError):
    """The address guard refuses this destination."""

    code = "address_refused"


class RunError(GoAgentsError):
    """The run failed."""

    code = "run_failed"


class RunTimedOut(RunError):
    """The run did not finish within its timeout."""

    status = 504
    code = "run_timed_out"


class RunLimitReached(RunError):
    """The agent reached max_turns without a final answer."""

    code = "run_limit_reached"


class RunCancelled(RunError):
    """The run was cancelled."""

    status = 409
    code = "run_cancelled"


class RunInterrupted(RunError):
    """The process running this was asked to stop before the run finished."""

    status = 503
    code = "run_interrupted"
    retryable = True


class LeaseLost(RunError):
    """Another process took the run over."""

    status = 409
    code = "lease_lost"
