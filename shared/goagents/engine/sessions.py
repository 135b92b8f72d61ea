"""Sessions: conversations that last, each of one cluster and one principal."""

from goagents.access.principal import Principal
from goagents.errors import NotFound, SessionBusy
from goagents.messages import read_message
from goagents.records import MessageRecord, Paths, SessionRecord
from goagents.resources import ListOf, Session, SessionMessage
from goagents.store.base import Document, Query

from .deletion import delete_session_records
from .optimistic import until_applied
from .recovery.pointers import DELETING, Pointer, recover
from .recovery.turns import advance
from .services import Services


async def _find(services: Services, principal: Principal, session_id: str) -> tuple[Document, SessionRecord]:
    path = Paths(principal.tenant).session(session_id)
    document = (await services.store.get_many([path])).get(path)
    record = SessionRecord.of(document.data) if document else None
    if document is None or record is None or record.principal != principal.id:
        raise NotFound(f"There is no session {session_id!r}.")
    return document, record


async def get_session(services: Services, principal: Principal, session_id: str) -> Session:
    """Raises NotFound, also for a session of another principal."""
    _, record = await _find(services, principal, session_id)
    return Session(
        id=record.id,
        namespace=record.namespace,
        cluster=record.cluster,
        messages=record.head,
        active_run=record.active_run if record.active_run != DELETING else None,
        queued_runs=record.queue,
        created_at=record.created_at,
        updated_at=record.updated_at,
    )


async def list_messages(
    services: Services, principal: Principal, session_id: str, page_size: int, page_token: str | None
) -> ListOf[SessionMessage]:
    """Return a page of a session's messages, oldest first. Raises NotFound, Invalid."""
    await _find(services, principal, session_id)
    collection = Paths(principal.tenant).messages(session_id)
    page = await services.store.query(Query(collection, limit=page_size, after=page_token))
    records = (MessageRecord.of(document.data) for document in page.documents)
    items = [
        SessionMessage(
            seq=record.seq,
            run_id=record.run,
            agent=record.agent,
            message=read_message(record.message),
            created_at=record.created_at,
        )
        for record in records
    ]
    return ListOf[SessionMessage](items=items, next_page_token=page.next_cursor)


async def delete_session(services: Services, principal: Principal, session_id: str) -> None:
    """Delete a session and its messages. Raises NotFound, and SessionBusy while a run is in progress.

    Interrupted half-way, it takes no new run, and the sweeper goes on.
    """
    paths = Paths(principal.tenant)
    began = False

    async def attempt() -> None:
        nonlocal began
        try:
            document = await _idle(services, principal, session_id)
        except NotFound:
            if began:
                return  # it was us, and the answer was lost; or somebody else was faster
            raise
        began = True
        await delete_session_records(services.store, paths, document)

    await until_applied(services.clock, attempt)


async def _idle(services: Services, principal: Principal, session_id: str) -> Document:
    """Return a session in which nothing is in progress. Raises NotFound, SessionBusy."""
    paths = Paths(principal.tenant)
    document, record = await _find(services, principal, session_id)
    if record.active_run not in (None, DELETING):
        await recover(services, paths, [Pointer(document.path, "active_run", record.active_run)])
        document, record = await _find(services, principal, session_id)
    if record.active_run is None and record.queue:
        await advance(services, paths, document)
        document, record = await _find(services, principal, session_id)
    if record.active_run not in (None, DELETING):
        raise SessionBusy(f"The session is busy with the run {record.active_run}; wait for it to end.", retry_after=1)
    return document
