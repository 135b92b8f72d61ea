"""Webhooks over HTTP: signed as Standard Webhooks says, sent only where the address guard lets them go."""

import asyncio
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
from yarl import URL

from goagents.errors import AddressRefused, FieldError, Invalid
from goagents.net.guarded import USER_AGENT, GuardedSession, Lookup, explain, system_lookup
from goagents.webhooks.base import Delivery, Receipt
from goagents.webhooks.http_signing import Signer

MAX_RETRY_AFTER = 86_400.0  # seconds; a receiver that asks for more is asked again after a day
_BUSY = frozenset({429, 503})


class HttpWebhooks:
    """One session with its kept-alive connections for all receivers. `lookup` finds a name's addresses.

    `secrets` are the keys, `timeout` is for one whole delivery in seconds, `allowed_addresses` and `ca_bundle` are the
    configuration's. Raises ConfigurationError for a secret that is no key and for an unreadable address.
    """

    def __init__(
        self,
        secrets: Sequence[str],
        *,
        timeout: float,
        allowed_addresses: Sequence[str],
        ca_bundle: str | None = None,
        lookup: Lookup = system_lookup,
    ) -> None:
        self._signer = Signer(secrets)
        self._timeout = timeout
        self._session = GuardedSession(allowed_addresses, ca_bundle, lookup)

    def check(self, url: str) -> None:
        """Return if a message could be sent there; raise Invalid where no key is configured or the URL is refused."""
        self._target(url)

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Send it once. Never raises for what the receiver or the network does; no detail holds a path or a query."""
        try:
            url = self._target(delivery.url)  # once more: the configuration may have changed since the run began
        except Invalid as error:
            return Receipt("retry", error.detail)
        try:
            async with asyncio.timeout(self._timeout):
                return await self._post(url, delivery)
        except (AddressRefused, Invalid) as error:
            return Receipt("retry", error.detail)
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            return Receipt("retry", explain(error, url.raw_host or "", self._timeout))

    async def aclose(self) -> None:
        await self._session.aclose()

    def _target(self, text: str) -> URL:
        """Return the URL to send to, checked as far as is possible without a look-up. Raises Invalid."""
        if not self._signer.ready:
            raise _refused(
                "there is no key to sign with; put one into `webhooks.secrets` in the server's configuration"
            )
        try:
            url = URL(text)
        except ValueError:
            raise _refused("this is no URL") from None
        if url.raw_user is not None or url.raw_password is not None:
            raise _refused("a URL with credentials is not called; webhooks are signed, verify the signature instead")
        try:
            self._session.check(url)
        except AddressRefused as error:
            raise _refused(error.detail) from error
        return url

    async def _post(self, url: URL, delivery: Delivery) -> Receipt:
        body = delivery.body.encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            **self._signer.headers(delivery.id, int(delivery.at.timestamp()), body),
        }
        request = self._session.live().post(url, data=io.BytesIO(body), headers=headers, allow_redirects=False)
        # The answer's body is of no interest. Leaving it unread closes the connection unless its end is there already.
        async with request as response:
            return _receipt(url.raw_host or "", response, delivery.at)


def _refused(message: str) -> Invalid:
    return Invalid(f"webhook.url: {message}", errors=[FieldError("webhook.url", message)])


def _receipt(place: str, response: aiohttp.ClientResponse, at: datetime) -> Receipt:
    """Judge by the status alone. Its phrase is not repeated: what stands there is the receiver's choice."""
    status = response.status
    detail = f"{place} answered {status}"
    if 200 <= status < 300:
        return Receipt("delivered", detail)
    if status == 410:
        return Receipt("gone", detail)
    if status in _BUSY:
        return Receipt("retry", detail, _seconds(response.headers.get("Retry-After", ""), at))
    if 300 <= status < 400:
        detail += ": redirects are not followed, so the webhook's url has to be the one that it leads to"
    return Receipt("retry", detail)


def _seconds(retry_after: str, at: datetime) -> float | None:
    """Return what the header asks for, counted from `at`: seconds or a date (RFC 9110). None where it is neither."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    if until.tzinfo is None:  # "-0000", which says UTC and nothing of where
        until = until.replace(tzinfo=UTC)
    return min(max((until - at).total_seconds(), 0.0), MAX_RETRY_AFTER)
