"""When a request is sent again: if it surely did not arrive, or if the server says when to come back."""

import random
from typing import Any

import httpx2

from .calls import Call
from .faults import retry_after

ATTEMPTS = 3
LONGEST_PAUSE = 20.0
_BEFORE_SENDING = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


def after_fault(attempt: int, fault: httpx2.TransportError) -> float | None:
    """Return the seconds to wait before attempt `attempt` + 1, or None to give up."""
    if attempt >= ATTEMPTS or not isinstance(fault, _BEFORE_SENDING):
        return None
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - no secret
    return 0.1 * float(2**attempt) * jitter


def after_answer(call: Call[Any], attempt: int, response: httpx2.Response) -> float | None:
    """Return the seconds the server asks to wait, where the call may be sent again and they are few; else None."""
    if attempt >= ATTEMPTS or not call.idempotent or response.status_code not in {429, 503}:
        return None
    pause = retry_after(response.headers.get("retry-after"))
    return pause if pause is not None and pause <= LONGEST_PAUSE else None
