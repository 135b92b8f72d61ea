"""What a cluster's agents did, from the run records."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from goagents.access.principal import Principal
from goagents.messages import read_message
from goagents.records import TERMINAL, Paths, RunRecord
from goagents.resources import ListOf, LogEntry
from goagents.store.base import Filter, Page, Query

from .services import Services
from .specs import load

POLL = 0.5  # seconds between looks at the store while following
FOLLOWED = 50  # runs watched while following, the newest ones
MAX_TEXT = 300


async def list_logs(
    services: Services,
    principal: Principal,
    namespace: str,
    name: str,
    page_size: int,
    page_token: str | None,
    agent: str | None = None,
) -> ListOf[LogEntry]:
    """Return what the newest runs did, newest run first, each run's entries in order; `page_size` counts runs.

    Raises NotFound, Invalid.
    """
    page = await _runs(services, principal, namespace, name, page_size, page_token, agent)
    items = [entry for document in page.documents for entry in entries(RunRecord.of(document.data))]
    return ListOf[LogEntry](items=items, next_page_token=page.next_cursor)


async def follow_logs(
    services: Services, principal: Principal, namespace: str, name: str, agent: str | None = None
) -> AsyncIterator[LogEntry]:
    """Yield what happens from now on, until the reader leaves. Raises NotFound, also when the cluster is deleted."""
    seen: dict[str, int] = {}
    first = True
    while True:
        page = await _runs(services, principal, namespace, name, FOLLOWED, None, agent)
        runs = [RunRecord.of(document.data) for document in reversed(page.documents)]
        for run in runs:
            known = entries(run)
            start = seen.get(run.id, len(known) if first and run.status in TERMINAL else 0)
            for entry in known[start:]:
                yield entry
            seen[run.id] = len(known)
        seen = {run.id: seen[run.id] for run in runs}
        first = False
        await services.clock.sleep(POLL)


async def _runs(
    services: Services,
    principal: Principal,
    namespace: str,
    name: str,
    limit: int,
    after: str | None,
    agent: str | None,
) -> Page:
    paths = Paths(principal.tenant)
    cluster = await load(services, paths, namespace, name)
    where = [Filter("cluster_uid", "==", cluster.record.uid)]
    if agent is not None:
        cluster.agent(agent)
        where.append(Filter("agent", "==", agent))
    return await services.store.query(
        Query(paths.runs(), tuple(where), "created_at", descending=True, limit=limit, after=after)
    )


def entries(run: RunRecord) -> list[LogEntry]:
    """Return a run's log: that it started, what its steps did, how it ended."""
    asked = read_message(run.input).text
    recorded = [
        _entry(run, datetime.fromisoformat(item["at"]), item["kind"], item["text"], item["severity"])
        for item in run.log
    ]
    started = _entry(run, run.created_at, "run", asked[:MAX_TEXT] or "(no text)", "INFO")
    ended = []
    if run.status in TERMINAL and (not recorded or recorded[-1].kind != "finished"):
        detail = (run.error or {}).get("detail", "")
        severity = "INFO" if run.status == "succeeded" else "ERROR"
        ended = [_entry(run, run.finished_at or run.created_at, "finished", f"{run.status}: {detail}", severity)]
    return [started, *recorded, *ended]


def _entry(run: RunRecord, at: datetime, kind: Any, text: str, severity: Any) -> LogEntry:
    return LogEntry(
        at=at, severity=severity, kind=kind, run_id=run.id, session_id=run.session, agent=run.agent, text=text
    )
