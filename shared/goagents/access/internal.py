"""Who may call `/worker` and `/sweep`: the queue and the scheduler, nobody else. Whoever may chat may not.

| credential | taken where |
|---|---|
| `Authorization: Bearer KEY` | KEY is GOAGENTS_INTERNAL_KEY |
| an identity token that Cloud Run's IAM has verified | the mode is `platform`, and its e-mail address is named, too |
| the same | `internal.iam` says so, for a function that users do not call, whatever the mode |
| an identity token of Google, verified here | `internal.service_accounts` names its e-mail address |

Where neither a key nor a service account is configured, all are refused; but IAM alone is enough in the mode `platform`
for a function that users do not call.
"""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING

from goagents.errors import PermissionDenied, Unauthenticated
from goagents.identity.base import TokenVerifier

from .authentication import Mode, bearer, platform_claims
from .principal import Principal

if TYPE_CHECKING:
    from goagents.spec.config import InternalConfig

KEY_HOLDER = Principal("internal")


async def authenticate_internal(
    config: "InternalConfig",
    *,
    mode: Mode,
    key: str | None,
    headers: Mapping[str, str],
    url: str,
    get_verifier: Callable[[], Awaitable[TokenVerifier]],
    shared: bool,
) -> Principal:
    """Return who calls. `headers` has lower-case names; `url` is the request's own, without its query. `shared` tells
    that users call the function, too: IAM lets them in, so it does not tell them from queue and scheduler.

    Who calls can choose the host in `url`: where no platform checks it, `internal.audience` should be set.

    Raises Unauthenticated without a valid credential, PermissionDenied for somebody else's and where nobody is let in,
    and what the verifier raises.
    """
    if key is not None and _is_key(headers.get("authorization"), key):
        return KEY_HOLDER
    if mode == "platform" or (config.iam and not shared):
        return _let_through(config, headers, shared=shared)
    if config.service_accounts:
        token = bearer(headers.get("authorization"))
        verifier = await get_verifier()
        email = await verifier.verify(token, [config.audience or _seen_outside(url, headers)])
        return _among(config, email)
    if key is None:
        raise PermissionDenied(
            "Nobody may call this yet: set GOAGENTS_INTERNAL_KEY here and where the call comes from, or name the "
            "caller's service account in `internal.service_accounts`."
        )
    bearer(headers.get("authorization"))
    raise Unauthenticated("This is not the internal key (GOAGENTS_INTERNAL_KEY).")


def _is_key(header: str | None, key: str) -> bool:
    try:
        given = bearer(header)
    except Unauthenticated:
        return False
    # Digests are of one length, so the time tells nothing of the key's.
    return hmac.compare_digest(_digest(given), _digest(key))


def _digest(value: str) -> bytes:
    return sha256(value.encode("utf-8", "surrogateescape")).digest()


def _let_through(config: "InternalConfig", headers: Mapping[str, str], *, shared: bool) -> Principal:
    claims = platform_claims(headers)
    email = claims.get("email")
    if not isinstance(email, str) or not 0 < len(email) <= 256 or claims.get("email_verified", True) is not True:
        raise Unauthenticated("The identity token names no verified e-mail address.")
    if config.service_accounts:
        return _among(config, email)
    if shared:
        raise PermissionDenied(
            "Nobody may call this yet: users call this function, too, so IAM does not tell who may call this. Name the "
            "caller's service account in `internal.service_accounts`."
        )
    return Principal(email)


def _among(config: "InternalConfig", email: str) -> Principal:
    if email not in config.service_accounts:
        raise PermissionDenied(f"`internal.service_accounts` does not name {email[:256]!r}.")
    return Principal(email)


def _seen_outside(url: str, headers: Mapping[str, str]) -> str:
    """Return the URL as the caller wrote it: a proxy ends TLS before us, as Cloud Run does."""
    if headers.get("x-forwarded-proto", "").strip().lower() == "https" and url.startswith("http://"):
        return "https" + url.removeprefix("http")
    return url
