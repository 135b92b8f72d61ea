"""How a run's failure is told: as one of our errors, with the traceback kept to the log."""

import traceback

from goagents.errors import GoAgentsError, RunCancelled, RunError


def traceback_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def as_run_error(error: BaseException) -> GoAgentsError:
    """Return the error a caller sees: ours as it is; anything else hidden behind a plain message."""
    if isinstance(error, GoAgentsError):
        return error
    return RunError("The run failed unexpectedly; the server's log has the reason.")


def cancelled(reason: str | None) -> RunCancelled:
    """Return the error of a run that somebody cancelled, for `reason` if they gave one."""
    return RunCancelled(f"The run was cancelled: {reason}" if reason else None)
