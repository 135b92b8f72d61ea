"""Tries what was deployed, moves the traffic to it, and back where it does not do. Standard library only.

What fails is also taken out of the services' templates: otherwise the next change of a service, such as Terraform's,
would be a revision of the image that failed, and `update-traffic --to-latest` would serve it.
"""

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from .catalogue import Function
from .gcloud import Gcloud, GcloudFailed
from .smoke import fault_of
from .target import Target

DEPLOY_TIMEOUT = 600.0  # seconds
ATTEMPTS = 4  # a new revision, and who may call it, take some seconds to be known everywhere
PAUSE = 5.0  # seconds between them


class Stopped(BaseException):
    """Somebody ended the release: SIGTERM, as a build that is cancelled gets it."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Who gets what of a service of Cloud Run: percent by revision, and the revision of each tag.

    `image` is what its next revision would be made of, empty where that is not known.
    """

    shares: Mapping[str, int]
    tags: Mapping[str, str]
    image: str = ""

    @classmethod
    def of(cls, service: Mapping[str, Any]) -> "Traffic":
        """Return what serves now, each revision by its own name: `the latest` is another one after the release."""
        shares: dict[str, int] = {}
        tags = {}
        for each in service.get("status", {}).get("traffic", ()):
            revision = str(each["revisionName"])
            if percent := int(each.get("percent") or 0):
                shares[revision] = shares.get(revision, 0) + percent
            if tag := each.get("tag"):
                tags[str(tag)] = revision
        containers = service.get("spec", {}).get("template", {}).get("spec", {}).get("containers") or [{}]
        return cls(shares, tags, str(containers[0].get("image", "")))

    @property
    def options(self) -> tuple[str, ...]:
        """gcloud's options that restore it."""
        tags = f"--set-tags={_listed(self.tags)}" if self.tags else "--clear-tags"
        return (f"--to-revisions={_listed(self.shares)}", tags)

    def __str__(self) -> str:
        return ", ".join(f"{revision} ({percent} %)" for revision, percent in self.shares.items())


def _listed(values: Mapping[str, object]) -> str:
    return ",".join(f"{name}={value}" for name, value in values.items())


class Release:
    """What `deploy` found is `before`: the traffic by the service's name, None where there was no service.

    `account` is the service account whose identity token the functions are shown; gcloud's own where it is empty.
    """

    def __init__(
        self,
        target: Target,
        gcloud: Gcloud,
        before: Mapping[str, Traffic | None],
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

    def rehearse(self, tag: str) -> None:
        """Ask each function at the address of its tag, where nobody gets it yet.

        Whatever ends it early, the services' templates are put back first. Then raises what it was: GcloudFailed, or
        Stopped for SIGTERM. To be called in the main thread: signals are handled there.
        """
        with self.undone_unless_done(lambda: self.put_back(self._before)):
            self.smoke(tag)

    def promote(self) -> None:
        """Move the traffic of every service to its newest revision, and try again what users now get.

        Whatever ends it early, what was moved is moved back first, and then the templates as by `rehearse`, which says
        what is raised.
        """
        moved: list[str] = []
        with self.undone_unless_done(lambda: [*self._back(moved), *self.put_back(self._before)]):
            for function in self._internal_first():
                name = self._target.service(function)
                moved.append(name)  # before it is: one that was cut off may have been carried out
                self._move(name, "--to-latest")
                self._say(f"{name}: serves the new revision")
            self.smoke()

    @contextmanager
    def undone_unless_done(self, undo: Callable[[], list[str]]) -> Iterator[None]:
        """Whatever ends what is done within, SIGTERM too, is told once `undo` is through, with what that returns."""
        with _stoppable():
            try:
                yield
            except BaseException as fault:
                with _undisturbed():
                    outcomes = undo()
                if isinstance(fault, GcloudFailed):
                    raise GcloudFailed("\n".join([str(fault), *outcomes])) from fault
                self._say("\n".join(["The release was ended early.", *outcomes]))
                raise

    def put_back(self, names: Iterable[str]) -> list[str]:
        """Have the next revision of services made of the image there was before; return what became of each.

        It takes a revision that nobody gets. A service there was not stays as it is.
        """
        outcomes = []
        for name, traffic in ((name, self._before.get(name)) for name in names):
            if traffic is None or not traffic.image:
                continue
            change = ("run", "services", "update", name, f"--image={traffic.image}", "--no-traffic", self._region)
            try:
                self._gcloud.run(change, timeout=DEPLOY_TIMEOUT)
                outcomes.append(f"{name}: made of {traffic.image} again, without traffic")
            except Exception as fault:  # noqa: BLE001 - as below
                outcomes.append(
                    f"{name}: NOT made of {traffic.image} again; until it is, neither apply Terraform nor move traffic "
                    f"--to-latest, which would serve what failed. By hand: gcloud {' '.join(change)}\n  {fault}"
                )
        return outcomes

    def _internal_first(self) -> list[Function]:
        """A new function may hand a run to the worker that an old worker does not understand: the worker goes first."""
        return sorted(self._target.functions, key=lambda function: function.called_by == "users")

    def _back(self, moved: list[str]) -> list[str]:
        """Restore the traffic, all shares and tags of it; return what became of each service."""
        outcomes = []
        for name in reversed(moved):
            traffic = self._before.get(name)
            if traffic is None or not traffic.shares:
                outcomes.append(f"{name}: nothing served before, there is nothing to move back to")
                continue
            try:
                self._move(name, *traffic.options)
                outcomes.append(f"{name}: serves {traffic} again")
            except Exception as fault:  # noqa: BLE001 - the others have to be moved back all the same; it is reported
                by_hand = f"gcloud run services update-traffic {name} {' '.join(traffic.options)} {self._region}"
                outcomes.append(f"{name}: NOT moved back, do it by hand: {by_hand}\n  {fault}")
        return outcomes

    def _move(self, name: str, *where: str) -> None:
        self._gcloud.run(("run", "services", "update-traffic", name, self._region, *where))

    @property
    def _region(self) -> str:
        return f"--region={self._target.region}"

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


def _stop(*_: object) -> None:
    raise Stopped


@contextmanager
def _handled(handler: Callable[..., None] | signal.Handlers, *signals: signal.Signals) -> Iterator[None]:
    former = {each: signal.signal(each, handler) for each in signals}
    try:
        yield
    finally:
        for each, before in former.items():
            signal.signal(each, before or signal.SIG_DFL)


def _stoppable() -> AbstractContextManager[None]:
    """Within it SIGTERM raises Stopped, as Ctrl-C raises KeyboardInterrupt.

    The system has no handler for the first process of a container: without this one it is killed a while later.
    """
    return _handled(_stop, signal.SIGTERM)


def _undisturbed() -> AbstractContextManager[None]:
    """Within it neither signal ends this process, nor gcloud, which inherits that."""
    return _handled(signal.SIG_IGN, signal.SIGTERM, signal.SIGINT)
