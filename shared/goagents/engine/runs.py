"""Runs, as the API knows them: started, followed, listed."""

import binascii
import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

from pydantic_core import to_json

from goagents.access.principal import Principal
from goagents.dispatch.base import Task
from goagents.errors import Conflict, Invalid, NotFound, StoreError
from goagents.events import Cursor
from goagents.ids import new_id
from goagents.messages import Message, TextPart
from goagents.records import Paths, RunRecord
from goagents.resources import ChatRequest, ListOf, Run, RunRequest
from goagents.store.base import MAX_PAGE, Filter, Query

from .admission.admit import Admission, key_hash
from .admission.ticket import INTERRUPTED, Queued, Replay, Ticket
from .controls import owned, stop
from .execution.claim import Claim
from .execution.execute import launch
from .execution.handle import RunHandle
from .execution.steps import read_some_steps
from .names import AgentId
from .recovery.pointers import enqueue
from .recovery.takeover import find_run
from .recovery.worker import take_up
from .services import Services
from .specs import load
from .views import run_view
from .watching import START, Watch, check_cursor

__all__ = ["RunHandle", "start"]

_IMAGE = re.compile(r"image/[a-z0-9][a-z0-9.+-]{0,63}")


async def start(
    services: Services,
    principal: Principal,
    agent_id: str,
    request: ChatRequest,
    *,
    kind: Literal["chat", "stream", "background"],
    idempotency_key: str | None = None,
) -> Watch:
    """Admit a run and set it going, or queue it; the same key and payload again are the same run.

    Raises NotFound, Invalid, Conflict (also SessionBusy), LimitExceeded, StoreError. What goes wrong later is in the
    run's result and in its last event.
    """
    agent, paths = AgentId.parse(agent_id), Paths(principal.tenant)
    webhook = request.webhook.url if isinstance(request, RunRequest) and request.webhook else None
    if webhook is not None:
        services.webhooks.check(webhook)
    ticket = Ticket(
        agent=agent,
        message=_user_message(request),
        session=request.session_id or new_id("session"),
        kind=kind,
        key=key_hash(principal, agent, idempotency_key) if idempotency_key else None,
        payload_hash=_digest(agent_id, request),
        policy=request.session_policy,
        webhook=webhook,
    )
    seconds = services.config.server.timeout
    until = services.clock.monotonic() + seconds
    admitted = await Admission(services, principal, ticket).admit()
    if isinstance(admitted, Replay):
        return await _again(services, paths, admitted.run_id, until)
    if isinstance(admitted, Queued):
        await _begin(services, principal, paths, admitted)
        return Watch(services, paths, admitted.run_id, ticket.session, str(agent), until)
    return _executed(services, paths, admitted, seconds, until)


def _executed(services: Services, paths: Paths, claim: Claim, seconds: float, until: float) -> Watch:
    handle = launch(services, paths, claim, seconds=seconds)
    return Watch(services, paths, handle.run_id, handle.session_id, handle.agent, until, handle)


async def _begin(services: Services, principal: Principal, paths: Paths, queued: Queued) -> None:
    """Have a worker take the run up, if it is its turn; cancel the one it takes the place of, if it asks for that."""
    if queued.active:
        await enqueue(services, Task("run", paths.tenant, queued.run_id, queued.token))
    if queued.interrupts is not None:
        # It was admitted with the signal to that one: who does not get to it here leaves it to its owner, or a sweep.
        with suppress(StoreError, NotFound):
            await stop(services, principal, queued.interrupts, INTERRUPTED)


async def _again(services: Services, paths: Paths, run_id: str, until: float) -> Watch:
    """Return the run that an idempotency key names; one that was left behind goes on here."""
    handle = services.handles.get(run_id)
    found = None if handle else await find_run(services, paths, run_id)
    if handle is not None:
        return Watch(services, paths, run_id, handle.session_id, handle.agent, until)
    if found is None:
        raise Conflict("The run of this Idempotency-Key is gone; use a fresh key.")
    run = found.run
    watch = Watch(services, paths, run_id, run.session, str(AgentId(run.namespace, run.cluster, run.agent)), until)
    if found.is_stale and not found.is_behind and not services.ending:
        watch.handle = await take_up(services, paths, run_id, seconds=services.config.server.timeout)
    return watch


async def watch(services: Services, principal: Principal, run_id: str, after: Cursor = START) -> Watch:
    """Return a run of this principal to follow, for as long as a request may take.

    `after` is the last event that its follower has seen. Raises NotFound, Invalid where the run cannot have it.
    """
    run = (await owned(services, principal, run_id)).run
    check_cursor(run, after)
    until = services.clock.monotonic() + services.config.server.timeout
    agent = str(AgentId(run.namespace, run.cluster, run.agent))
    return Watch(services, Paths(principal.tenant), run.id, run.session, agent, until)


async def get_run(
    services: Services, principal: Principal, run_id: str, page_size: int = MAX_PAGE, page_token: str | None = None
) -> Run:
    """Return a run with a page of its steps, oldest first. Raises NotFound, also for another principal's, Invalid."""
    run = (await owned(services, principal, run_id)).run
    steps, more = await read_some_steps(services.store, Paths(principal.tenant), run_id, page_size, page_token)
    return run_view(run, steps, more)


async def list_runs(
    services: Services,
    principal: Principal,
    page_size: int,
    page_token: str | None,
    *,
    status: str | None = None,
    agent: str | None = None,
    session: str | None = None,
    cluster: tuple[str, str] | None = None,
) -> ListOf[Run]:
    """Return a page of this principal's runs, newest first: at most one of `agent`, `session`, `cluster`.

    `cluster` is (namespace, name). Raises NotFound for an unknown agent or cluster, Invalid.
    """
    paths = Paths(principal.tenant)
    where = [Filter("principal", "==", principal.id), *(await _scope(services, paths, agent, session, cluster))]
    if status is not None:
        where.append(Filter("status", "==", status))
    page = await services.store.query(
        Query(paths.runs(), tuple(where), "created_at", descending=True, limit=page_size, after=page_token)
    )
    runs = [run_view(RunRecord.of(document.data)) for document in page.documents]
    return ListOf[Run](items=runs, next_page_token=page.next_cursor)


async def _scope(
    services: Services, paths: Paths, agent: str | None, session: str | None, cluster: tuple[str, str] | None
) -> Sequence[Filter]:
    if sum(one is not None for one in (agent, session, cluster)) > 1:
        raise Invalid("Ask for the runs of an agent, of a session or of a cluster: one of them.")
    if session is not None:
        return [Filter("session", "==", session)]
    if agent is not None:
        wanted = AgentId.parse(agent)
        loaded = await load(services, paths, wanted.namespace, wanted.cluster)
        loaded.agent(wanted.agent)
        return [Filter("cluster_uid", "==", loaded.record.uid), Filter("agent", "==", wanted.agent)]
    if cluster is not None:
        loaded = await load(services, paths, *cluster)
        return [Filter("cluster_uid", "==", loaded.record.uid)]
    return []


def _digest(agent_id: str, request: ChatRequest) -> str:
    return hashlib.sha256(to_json([agent_id, request.model_dump(mode="json", exclude_none=True)])).hexdigest()


def _user_message(request: ChatRequest) -> Message:
    if isinstance(request.message, str):
        return Message("user", (TextPart(request.message),))
    for i, part in enumerate(request.message):
        if part.type == "image" and (part.url is None) == (part.data is None):
            raise Invalid(f"message.{i}: an image takes either `data` with `media_type`, or `url`.")
        if part.type == "image" and part.data is not None and part.media_type is None:
            raise Invalid(f"message.{i}.media_type: say what the data is, for example image/png.")
        if part.type == "image" and part.data is not None:
            _check_image(f"message.{i}", part.media_type or "", part.data)
        if part.type == "image" and part.url is not None and not part.url.startswith(("https://", "http://")):
            raise Invalid(f"message.{i}.url: only http and https URLs are taken.")
    return Message("user", tuple(request.message))


def _check_image(place: str, media_type: str, data: str) -> None:
    """Refuse what every provider refuses: once in a session, it would fail each later turn too."""
    if not _IMAGE.fullmatch(media_type):
        raise Invalid(f"{place}.media_type: is no image's type, such as image/png or image/jpeg.")
    try:
        known = bool(binascii.a2b_base64(data, strict_mode=True))
    except ValueError:
        known = False
    if not known:
        raise Invalid(f"{place}.data: is not base64 of an image.")
