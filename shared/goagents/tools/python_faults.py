"""What an exception of a function tells of another attempt: whether what it calls was out of reach, or busy."""

from collections.abc import Iterator

from goagents import errors
from goagents.attempts import Fault, fault_of_status

# Of OSError the same another time: about a file, or as a ValueError too about a value, such as a certificate.
_LASTING = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError)
_MAX_CAUSES = 16


class ToolError(errors.ToolError):
    """A function's own error, for the model to read: what is wrong, and what to do about it.

    `passing`: the same call may succeed later. With `retry_after` (seconds) what it needs is busy until then; without,
    it is out of order, which counts for the circuit breaker.
    """

    def __init__(self, message: str, *, passing: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        if passing:
            self.because("server" if retry_after is None else "busy")


def fault_of(error: BaseException) -> Fault | None:
    """Return why another attempt may come to something else; None where it will not, as far as is known.

    Connections that fail, answers that are late and what else the system says (OSError) may pass, also where they are
    the cause of what was raised, as with `httpx`. A status of HTTP that the exception has goes before that.
    """
    for each in _causes(error):
        status = _status(each)
        if status is not None:
            return fault_of_status(status)
        if isinstance(each, OSError):  # ConnectionError, TimeoutError, errors of name resolution and of `requests`
            return None if isinstance(each, _LASTING) else "server"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    here: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if here is None:
            return
        yield here
        here = here.__cause__


def _status(error: BaseException) -> int | None:
    """Return the status of the answer that was raised, where `httpx`, `requests`, `aiohttp` and `urllib` have it."""
    try:
        places = (getattr(error, "response", None), error)
        found = [getattr(place, name, None) for place in places for name in ("status_code", "status", "code")]
    except Exception:  # noqa: BLE001 - an attribute of foreign code, which may raise anything
        return None
    return next((int(each) for each in found if isinstance(each, int) and 400 <= each <= 599), None)
