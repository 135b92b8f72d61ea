"""Answers of `read` calls kept in the store, by tenant and arguments, and asked of the server once at a time.

Within a process, calls for the same thing wait for the one under way. Across processes, a short-lived claim in the
answer's place says that it is being asked for. The cache saves work and decides nothing: where the store is away, or a
claim is not kept, the call is made.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from goagents.clock import Clock
from goagents.errors import DocumentTooLarge, OutcomeUnknown, StoreConflict, StoreError
from goagents.ids import new_id
from goagents.messages import CONTENT
from goagents.records import Paths, ToolAnswerRecord
from goagents.store.base import ABSENT, AtVersion, Delete, Put, Store, Write
from goagents.tools.base import ToolDefinition, ToolResult

from .results import Done

MAX_KEPT = 256 << 10  # characters of one answer as JSON; a longer one is not kept
_FIRST_PAUSE = 0.05  # seconds between looks at another process's claim, growing
_LONGEST_PAUSE = 0.5
_NOT_KEPT = 5.0  # seconds in which nobody claims the place of an answer that was not kept

_log = logging.getLogger("goagents.engine")
Make = Callable[[], Awaitable[Done]]
Flights = dict[str, "asyncio.Future[Any]"]


def digest_of(entry: Any, definition: ToolDefinition) -> str:
    """Return what tells a tool from any that differs from it. `entry` is JSON: that of the YAML with its values, and
    what else of the configuration it stands for."""
    return _hash([entry, definition.description, definition.parameters])


def key_of(tenant: str, cluster_uid: str, digest: str, tool: str, arguments: Mapping[str, Any]) -> str:
    """Return the id of an answer: the same for the same tool of the same cluster, asked for the same."""
    return _hash([tenant, cluster_uid, digest, tool, arguments])


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ResultCache:
    """`ttl` is how long an answer is kept, `patience` how long another process may take for it, both in seconds."""

    store: Store
    paths: Paths
    clock: Clock
    flights: Flights
    ttl: float
    patience: float

    async def answer(self, key: str, make: Make) -> Done:
        """Return the answer that is kept, that is under way, or that `make` comes to, which is then kept."""
        path = self.paths.tool_answer(key)
        while (flight := self.flights.get(path)) is not None and not flight.done():
            await asyncio.wait({flight})
            if not flight.cancelled() and not flight.result().cut:
                shared: Done = replace(flight.result(), cache="shared", attempts=0)
                return shared
        flight = self.flights[path] = asyncio.get_running_loop().create_future()
        try:
            done = await self._lead(path, make)
        except BaseException:
            flight.cancel()  # those who wait ask for themselves
            raise
        else:
            flight.set_result(done)
            return done
        finally:
            if self.flights.get(path) is flight:
                del self.flights[path]

    async def _lead(self, path: str, make: Make) -> Done:
        try:
            found = await self._look(path)
        except (StoreError, ValidationError) as error:
            _log.warning("the cache of tool results is not used: %s", error)
            return await make()
        if isinstance(found, ToolResult):
            return Done("ok", found, foreign=True, attempts=0, cache="hit")
        try:
            done = replace(await make(), cache="miss")
        except asyncio.CancelledError:
            await self._commit([Delete(path, AtVersion(found))] if found is not None else [])
            raise
        if found is not None:
            await self._keep(path, found, done)
        return done

    async def _look(self, path: str) -> ToolResult | str | None:
        """Return the answer, or the version of our claim; None where another process has one and does not answer, or
        had an answer that is not kept."""
        until, pause = self.clock.monotonic() + self.patience, _FIRST_PAUSE
        while True:
            document = (await self.store.get_many([path])).get(path)
            if document is None:
                claim = await self._claim(path)
                if claim is not None:
                    return claim
            else:
                kept = ToolAnswerRecord.of(document.data)
                if kept.content is not None:
                    return ToolResult(tuple(CONTENT.validate_python(kept.content)))
                if kept.claim is None:
                    return None  # there was an answer, and none to keep: who waited would only wait in turn
            if self.clock.monotonic() >= until:
                return None
            await self.clock.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _claim(self, path: str) -> str | None:
        """Say that this process asks, for as long as that may take; None where another one was faster."""
        now = self.clock.now()
        record = ToolAnswerRecord(
            claim=new_id("claim"), created_at=now, expire_at=now + timedelta(seconds=self.patience)
        )
        try:
            return (await self.store.commit([Put(path, record.data(), ABSENT)])).versions[path]
        except (StoreConflict, OutcomeUnknown):
            return None

    async def _keep(self, path: str, claim: str, done: Done) -> None:
        """Put a good answer into the claim's place; for any other, that there is none to wait for."""
        now = self.clock.now()
        content = CONTENT.dump_python(done.result.content, mode="json") if done.outcome == "ok" else None
        if content is not None and len(json.dumps(content)) > MAX_KEPT:
            content = None
        seconds = self.ttl if content is not None else min(self.ttl, _NOT_KEPT)
        record = ToolAnswerRecord(content=content, created_at=now, expire_at=now + timedelta(seconds=seconds))
        await self._commit([Put(path, record.data(), AtVersion(claim))])

    async def _commit(self, writes: list[Write]) -> None:
        if not writes:
            return
        try:
            await self.store.commit(writes)
        except StoreConflict:
            _log.debug("an answer is not kept: it took longer than its claim")
        except (StoreError, DocumentTooLarge) as error:
            _log.warning("an answer of a tool is not kept: %s", error)
