"""What Cloud Scheduler does where this is deployed: `goagents run` calls `/sweep` of its serving process."""

import asyncio
from collections.abc import Callable

import httpx2

from .child import trust
from .terminal import note, warn

TIMEOUT = 60.0


class Sweeping:
    """`interval` tells the seconds until the next sweep, asked after each one."""

    def __init__(self, url: str, key: str, certificate: str | None, interval: Callable[[], float]) -> None:
        self._url = f"{url}/sweep"
        self._headers = {"authorization": f"Bearer {key}"}
        self._certificate = certificate
        self._interval = interval
        self._failing = False

    async def go_on(self) -> None:
        """Sweep for ever. A sweep that fails is told of once, and so is the next one that does not."""
        verify = trust(self._certificate)
        async with httpx2.AsyncClient(verify=verify, trust_env=False, timeout=TIMEOUT) as client:
            while True:
                self._tell(await self._sweep(client))
                await asyncio.sleep(self._interval())

    async def _sweep(self, client: httpx2.AsyncClient) -> str | None:
        """Return what went wrong, if anything did."""
        try:
            response = await client.post(self._url, headers=self._headers)
        except httpx2.HTTPError as error:
            return str(error) or type(error).__name__
        return None if response.is_success else f"it answers {response.status_code}: {response.text[:500]}"

    def _tell(self, failure: str | None) -> None:
        if failure is not None and not self._failing:
            warn(f"runs that were left behind are not looked for, {self._url} fails: {failure}")
        if failure is None and self._failing:
            note("runs that were left behind are looked for again")
        self._failing = failure is not None
