"""While a run goes on: its lease renewed, its events kept, and a look at what others ask of it."""

from goagents.engine.services import Services
from goagents.errors import DocumentTooLarge, LeaseLost, StoreError
from goagents.records import Paths, SignalRecord

from .claim import Claim
from .handle import RunHandle

FLUSH = 0.5  # seconds until what happened is in the store for who follows from elsewhere
FLUSH_ATTACHED = 2.0  # the same while somebody waits for the run here, and sees it as it happens
LATE = 0.2  # seconds a beat may be late; later, the process has more to do than it can, and keeps events less often
MOST_SKIPPED = 2  # beats


async def pulse(services: Services, paths: Paths, claim: Claim, handle: RunHandle) -> None:
    """Go on until cancelled, whatever the store does; a run that another process took over is stopped."""
    clock, runs, journal = services.clock, services.runs, claim.journal
    looked, skipped = clock.monotonic(), 0
    while True:
        flush = FLUSH_ATTACHED if handle.readers or claim.run.kind == "chat" else FLUSH
        beat = min(flush, runs.poll_interval, runs.lease_ttl / 3)
        due = clock.monotonic() + beat
        await clock.sleep(beat)
        if skipped < MOST_SKIPPED and clock.monotonic() - due > LATE and journal.age < runs.lease_ttl / 3:
            skipped += 1
            continue
        skipped = 0
        try:
            if handle.pending or journal.age >= runs.lease_ttl / 3:
                await journal.commit()
            if clock.monotonic() - looked >= runs.poll_interval:
                looked = clock.monotonic()
                await _look(services, paths, handle)
        except LeaseLost:
            handle.stop("lost")
            return
        except DocumentTooLarge:
            handle.drop_pending()  # or the lease could not be renewed any more
        except StoreError:
            continue  # tried again at the next beat; whatever the run itself commits says so


async def _look(services: Services, paths: Paths, handle: RunHandle) -> None:
    path = paths.signal(handle.run_id, "cancel")
    document = (await services.store.get_many([path])).get(path)
    if document is not None:
        handle.stop("cancel", SignalRecord.of(document.data).reason)
