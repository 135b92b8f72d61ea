"""Webhooks: told of in the commit that ends or parks a run, delivered by the worker, one attempt a call.

A message is delivered at least once, always with the same id: a process may die between sending and recording.
"""

import json
import logging
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from goagents.dispatch.base import Task
from goagents.engine.optimistic import until_applied
from goagents.engine.services import Services
from goagents.errors import DispatchFailed
from goagents.ids import new_id
from goagents.records import DeliveryRecord, Paths, RunRecord
from goagents.store.base import ABSENT, AtVersion, Merge, Put, Write
from goagents.webhooks.base import Delivery, Receipt

MAX_BODY = 512 * 1024  # bytes; more is no message, and would weigh on the commit that ends the run
# What makes a run large. Without it the receiver still learns which run came to what end, and can ask for the rest.
_HEAVY = ("input", "output", "waiting", "steps")
# Seconds until the next attempt, by how many there were: those that Standard Webhooks suggests.
PAUSES = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
JITTER = 0.2
# However soon the run itself expires, there is time for all attempts.
_LONGEST = timedelta(seconds=sum(PAUSES) * (1 + JITTER)) + timedelta(days=1)
_EARLY = timedelta(seconds=1)  # a task may come a little before its time: clocks differ
_log = logging.getLogger("goagents.webhooks")


def delivery_name(run: RunRecord, event: str) -> str:
    """Return what the run's webhook of `event` is called, in the store and in tasks.

    A run may wait more than once, each time in another attempt: the later ones are told apart by its number.
    """
    return f"{event}.{run.attempt}" if event == "run.waiting" and run.attempt > 1 else event


def delivery_write(paths: Paths, run: RunRecord, event: str, view: Mapping[str, Any], now: datetime) -> list[Write]:
    """Return the write that has the run's webhook told of `event`, and none where it has no webhook.

    `view` is the run as the API shows it, as JSON.
    """
    if run.webhook is None:
        return []
    name = delivery_name(run, event)
    record = DeliveryRecord(
        id=new_id("msg"),
        run=run.id,
        event=name,
        url=run.webhook,
        body=_body(event, view, now),
        next_at=now,
        created_at=now,
        expire_at=max(run.expire_at, now + _LONGEST) if run.expire_at else None,
    )
    return [Put(paths.delivery(run.id, name), record.data(), ABSENT)]


def task_of(paths: Paths, record: DeliveryRecord, delay: float = 0.0) -> Task:
    """Return the task of the record's next attempt, in `delay` seconds."""
    return Task("delivery", paths.tenant, record.run, str(record.attempts), record.event, delay)


async def attempt(services: Services, paths: Paths, run_id: str, event: str) -> None:
    """Try once to deliver the webhook `event` of the run (`DeliveryRecord.event`), and record what came of it.

    A record that is absent, not pending or not due yet is left alone. Of two workers at once both may send; what one
    of them delivered is recorded as delivered. Raises StoreError.
    """
    path = paths.delivery(run_id, event)
    document = (await services.store.get_many([path])).get(path)
    if document is None:
        return
    record, now = DeliveryRecord.of(document.data), services.clock.now()
    if record.state != "pending" or record.next_at > now + _EARLY:
        return
    receipt = await services.webhooks.deliver(Delivery(record.id, record.url, record.body, now))
    recorded = await until_applied(services.clock, lambda: _record(services, path, document.version, receipt))
    if recorded is not None and recorded.state == "pending":
        await _dispatch(services, paths, recorded)
    elif recorded is not None and recorded.state == "failed":
        _log.warning(
            "The webhook %s of the run %s is given up at attempt %d: %s",
            recorded.event, run_id, recorded.attempts, recorded.detail,
        )  # fmt: skip


async def _record(services: Services, path: str, version: str, receipt: Receipt) -> DeliveryRecord | None:
    """Commit what the attempt on the document at `version` came to; return the record as it stands, None: it is gone.

    Where the document has changed since, another worker has recorded an attempt of its own, or the answer to this
    commit was lost: then only what is final is still worth recording.
    """
    found = (await services.store.get_many([path])).get(path)
    if found is None:
        return None
    record = DeliveryRecord.of(found.data)
    if record.state == "delivered" or (record.state == "failed" and receipt.outcome != "delivered"):
        return record
    if found.version != version and receipt.outcome == "retry":
        return record
    after = _after(record, receipt, services.clock.now(), services.config.webhooks.max_attempts)
    changed = {name: value for name, value in after.data().items() if value != found.data.get(name)}
    await services.store.commit([Merge(path, changed, AtVersion(found.version))])
    return after


def _after(record: DeliveryRecord, receipt: Receipt, now: datetime, max_attempts: int) -> DeliveryRecord:
    attempts = record.attempts + 1
    changed: dict[str, Any] = {"attempts": attempts, "detail": receipt.detail}
    if receipt.outcome == "delivered":
        changed["state"] = "delivered"
    elif receipt.outcome == "gone" or attempts >= max_attempts:
        changed["state"] = "failed"
    else:
        changed["next_at"] = now + timedelta(seconds=_pause(attempts, receipt.retry_after))
    return record.model_copy(update=changed)


def _pause(attempts: int, asked: float | None) -> float:
    """Return the seconds until the next attempt: no fewer than the receiver asked for."""
    pause = PAUSES[min(attempts, len(PAUSES)) - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - jitter
    return max(pause, asked or 0.0)


async def _dispatch(services: Services, paths: Paths, record: DeliveryRecord) -> None:
    delay = max((record.next_at - services.clock.now()).total_seconds(), 0.0)
    try:
        await services.dispatch.enqueue(task_of(paths, record, delay))
    except DispatchFailed as error:
        _log.warning("The webhook %s of the run %s is left to the sweeper: %s", record.event, record.run, error.detail)


def _body(event: str, view: Mapping[str, Any], now: datetime) -> str:
    message = {"type": event, "timestamp": now.isoformat().replace("+00:00", "Z"), "data": dict(view)}
    text, size = _json(message)
    if size <= MAX_BODY:
        return text
    return _json({**message, "data": {name: value for name, value in view.items() if name not in _HEAVY}})[0]


def _json(value: Any) -> tuple[str, int]:
    """Return the value as JSON, and its size in bytes of UTF-8."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text, len(text.encode())
    except UnicodeEncodeError:  # half of a surrogate pair, as a model may say it: only JSON's escapes can hold it
        text = json.dumps(value, separators=(",", ":"))
        return text, len(text)
