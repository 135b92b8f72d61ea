"""The identity port: who showed us a signed identity token."""

from collections.abc import Collection
from typing import Protocol

from goagents.errors import GoAgentsError


class IdentityUnavailable(GoAgentsError):
    """Identity tokens cannot be verified at the moment."""

    # Not 401: the token may be a good one. Who sent it sends it again, and an operator looks here, not there.
    status = 503
    code = "identity_unavailable"
    retryable = True


class TokenVerifier(Protocol):
    async def verify(self, token: str, audiences: Collection[str]) -> str:
        """Return the e-mail address that the issuer has verified, of a token made for one of `audiences`.

        Raises Unauthenticated for a token that proves nothing, without repeating it, and IdentityUnavailable where that
        cannot be told now.
        """
        ...
