"""A cluster in the test's own process: the real engine on a real store, with a model and tools of the test's."""

import asyncio
import os
from collections.abc import Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from goagents.access.principal import Principal
from goagents.app import ResolverFactory, retire_services
from goagents.client.faults import RunWaiting
from goagents.clock import Clock, SystemClock
from goagents.dispatch.local import LocalDispatch
from goagents.engine import clusters, controls, runs, sessions
from goagents.engine.recovery.sweep import sweep
from goagents.engine.recovery.worker import perform
from goagents.engine.services import Services
from goagents.messages import Message
from goagents.providers.base import Provider
from goagents.resources import ChatRequest, ChatResponse, Decision, Run, RunRequest, SweepReport
from goagents.settings import Settings
from goagents.spec.cluster import AgentCluster
from goagents.spec.config import Config
from goagents.spec.load import load_clusters
from goagents.store.base import Store
from goagents.telemetry.base import Event, Telemetry
from goagents.testing.clocks import VirtualClock
from goagents.testing.kill_points import KillPoint, KillSwitch
from goagents.testing.real_tools import SomeRealToolsets
from goagents.testing.severable import ProcessDied, Severable
from goagents.testing.tools import StaticToolset, StaticToolsets
from goagents.testing.webhooks import RecordingWebhooks
from goagents.tools.base import Tool
from goagents.webhooks.base import Webhooks

T = TypeVar("T")
TESTER = Principal("tester")


@dataclass
class _Models:
    """One model in the place of every provider's."""

    model: Provider

    async def get(self, name: str) -> Provider:  # noqa: ARG002 - the port's signature
        return self.model

    def check(self, name: str) -> None:
        """Any provider will do."""

    async def aclose(self) -> None:
        await self.model.aclose()


class LocalCluster:
    """A cluster that is served by the test itself, as one process of possibly several on the same store.

        async with LocalCluster("cluster.yaml", store, model=ScriptedModel("It is noon.")) as local:
            answer = await local.chat("assistant", "What time is it?")

    `cluster` is a file, or a manifest as a mapping. `model` answers for every provider. `tools` are by the name of the
    entry under the agent's `tools:`; an entry that is not named there is reported as unavailable, and the model is not
    offered it. `real_tools` are entries that are opened as in production; what they reach takes real time, so give them
    no virtual clock. `store` stays open for the next process: whoever opened it closes it. `telemetry` is what
    happened.

    With a VirtualClock nothing waits in real time: whatever is called here lets time pass until it is done. Give the
    store the same clock. With `dies_at` the process is killed there, the `occurrence`-th time it gets there, and what
    was called raises ProcessDied, here and from then on.
    """

    def __init__(
        self,
        cluster: str | os.PathLike[str] | Mapping[str, Any],
        store: Store,
        *,
        model: Provider,
        tools: Mapping[str, Sequence[Tool]] | None = None,
        real_tools: Collection[str] = (),
        config: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        webhooks: Webhooks | None = None,
        dies_at: KillPoint | None = None,
        occurrence: int = 1,
    ) -> None:
        """Raises ConfigurationError for a file that is wrong, pydantic.ValidationError for a mapping that is."""
        self.manifest = _manifest(cluster)
        self.telemetry: list[Event] = []
        self.process = Severable()
        self._clock = clock or SystemClock()
        made = Config.model_validate(config or {})
        static = StaticToolsets({name: StaticToolset(offered) for name, offered in (tools or {}).items()})
        services = Services(
            store=store,
            clock=self._clock,
            config=made,
            settings=Settings(),
            telemetry=Telemetry([self.telemetry.append]),
            providers=_Models(model),
            toolsets=SomeRealToolsets(static, real_tools, made) if real_tools else static,
            resolvers=ResolverFactory(made, os.environ),
            dispatch=LocalDispatch(lambda task: perform(self.services, task), self._clock),
            webhooks=webhooks or RecordingWebhooks(),
        )
        if dies_at is not None:
            services = KillSwitch(dies_at, occurrence, self.process.sever).services(services)
        self.services = self.process.services(services)

    async def __aenter__(self) -> Self:
        await self._do(clusters.apply(self.services, TESTER, self.manifest, trusted=True))
        return self

    async def __aexit__(self, *error: object) -> None:
        if not self.process.dead:
            with suppress(ProcessDied):
                await self._do(self._retire())
        if self.process.dead:
            await self.process.bury()

    async def chat(
        self, agent: str, message: str, *, session_id: str | None = None, idempotency_key: str | None = None
    ) -> ChatResponse:
        """Return the agent's answer. Raises the error the run ended with, RunWaiting where it waits for a person."""
        request = ChatRequest(message=message, session_id=session_id)
        return await self._do(self._chat(agent, request, idempotency_key))

    async def start_run(self, agent: str, request: RunRequest, *, idempotency_key: str | None = None) -> str:
        """Start a run in the background and return its id."""
        watch = await self._do(
            runs.start(
                self.services, TESTER, self._id(agent), request, kind="background", idempotency_key=idempotency_key
            )
        )
        return watch.run_id

    async def wait_for_run(self, run_id: str) -> ChatResponse:
        """Return the answer of a run, whichever process it is executed by. Raises as `chat`."""
        return await self._do(self._wait(run_id))

    async def approve_run(self, run_id: str, *decisions: Decision) -> Run:
        """Decide on the calls that a run waits for; without `decisions`, allow them all."""
        decided = decisions or (Decision(decision="allow"),)
        return await self._do(controls.approve(self.services, TESTER, run_id, decided))

    async def cancel_run(self, run_id: str) -> Run:
        return await self._do(controls.cancel(self.services, TESTER, run_id))

    async def sweep(self) -> SweepReport:
        """Find what processes that died left behind, as Cloud Scheduler has it done."""
        return await self._do(sweep(self.services))

    async def messages(self, session_id: str) -> list[Message]:
        """Return what was said in a session, the first 500 messages."""
        page = await self._do(sessions.list_messages(self.services, TESTER, session_id, 500, None))
        return [item.message for item in page.items]

    def kill(self) -> None:
        """Kill the process, here and now."""
        self.process.sever()

    async def _chat(self, agent: str, request: ChatRequest, key: str | None) -> ChatResponse:
        watch = await runs.start(self.services, TESTER, self._id(agent), request, kind="chat", idempotency_key=key)
        answer = await watch.answer()
        return answer if isinstance(answer, ChatResponse) else await self._wait(watch.run_id)

    async def _wait(self, run_id: str) -> ChatResponse:
        """Wait through whatever takes longer than a request may."""
        while True:
            answer = await (await runs.watch(self.services, TESTER, run_id)).answer()
            if isinstance(answer, ChatResponse):
                return answer
            if answer.status == "waiting":
                raise RunWaiting(run_id, answer.session_id, answer.waiting)

    def _id(self, agent: str) -> str:
        return f"{self.manifest.namespace}.{self.manifest.name}.{agent}"

    async def _do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it in this process, letting virtual time pass meanwhile."""
        if not isinstance(self._clock, VirtualClock):
            return await self.process.run(work)
        task = asyncio.ensure_future(self.process.run(work))
        await self._clock.run_until(task.done)
        return await task

    async def _retire(self) -> None:
        await self.services.dispatch.aclose()
        await retire_services(self.services)


def _manifest(cluster: str | os.PathLike[str] | Mapping[str, Any]) -> AgentCluster:
    if isinstance(cluster, Mapping):
        return AgentCluster.model_validate(cluster)
    found = load_clusters([cluster])
    if len(found) != 1:
        raise ValueError(f"{os.fspath(cluster)} holds {len(found)} clusters; a test takes a file with one")
    return found[0]
