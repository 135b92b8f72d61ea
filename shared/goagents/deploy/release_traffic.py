"""Tries what was deployed, moves the traffic to it, and back where it does not do. Standard library only."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from .catalogue import Function
from .gcloud import Gcloud, GcloudFailed
from .smoke import fault_of
from .target import Target

ATTEMPTS = 4  # a new revision, and who may call it, take some seconds to be known everywhere
PAUSE = 5.0  # seconds between them


def serving_now(service: Mapping[str, Any]) -> str | None:
    """Return the revision that gets the traffic of a service of Cloud Run, the largest share of it."""
    shares = [each for each in service.get("status", {}).get("traffic", ()) if each.get("percent")]
    found = max(shares, key=lambda each: int(each["percent"]), default=None)
    return str(found["revisionName"]) if found else None


class Release:
    """What `deploy` found is `before`: the revision that served by the service's name, None where there was none.

    `account` is the service account whose identity token the functions are shown; gcloud's own where it is empty.
    """

    def __init__(
        self,
        target: Target,
        gcloud: Gcloud,
        before: Mapping[str, str | None],
        *,
        account: str = "",
        say: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._target = target
        self._gcloud = gcloud
        self._before = before
        self._account = account
        self._say = say
        self._sleep = sleep

    def smoke(self, tag: str = "") -> None:
        """Ask each function, at the address of its tag or at its own. Raises GcloudFailed with all that fail."""
        faults = [fault for function in self._target.functions if (fault := self._fault(function, tag))]
        if faults:
            raise GcloudFailed("The smoke test failed:\n  " + "\n  ".join(faults))

    def promote(self) -> None:
        """Move the traffic of every service to its newest revision, and try again what users now get.

        Raises GcloudFailed once what was moved is moved back.
        """
        moved: list[str] = []
        try:
            for function in self._internal_first():
                name = self._target.service(function)
                moved.append(name)
                self._move(name, "--to-latest")
                self._say(f"{name}: serves the new revision")
            self.smoke()
        except GcloudFailed as fault:
            raise GcloudFailed("\n".join([str(fault), *self._back(moved)])) from fault

    def _internal_first(self) -> list[Function]:
        """A new function may hand a run to the worker that an old worker does not understand: the worker goes first."""
        return sorted(self._target.functions, key=lambda function: function.called_by == "users")

    def _back(self, moved: list[str]) -> list[str]:
        """Move the traffic back; return what became of each service."""
        outcomes = []
        for name in reversed(moved):
            revision = self._before.get(name)
            if revision is None:
                outcomes.append(f"{name}: it is new, there is nothing to move back to")
                continue
            try:
                self._move(name, f"--to-revisions={revision}=100")
                outcomes.append(f"{name}: serves {revision} again")
            except GcloudFailed as fault:
                outcomes.append(f"{name}: NOT moved back to {revision}, do it by hand: {fault}")
        return outcomes

    def _move(self, name: str, where: str) -> None:
        self._gcloud.run(("run", "services", "update-traffic", name, f"--region={self._target.region}", where))

    def _fault(self, function: Function, tag: str) -> str | None:
        """Cloud Run wants the service's own address in the token, at the address of a tag, too."""
        audience = self._target.url(function)
        url = audience.replace("https://", f"https://{tag}---") if tag else audience
        token = self._token(audience)
        fault = None
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(PAUSE)
            fault = fault_of(url, function, token)
            if fault is None:
                self._say(f"{self._target.service(function)}: {function.smoke.path} answers as it should at {url}")
                return None
        return fault

    def _token(self, audience: str) -> str:
        own = (f"--impersonate-service-account={self._account}", "--include-email") if self._account else ()
        return self._gcloud.run(("auth", "print-identity-token", f"--audiences={audience}", *own)).strip()
