"""The one thread that writes the SQLite file, so that no event loop waits for a lock or for the disk.

Commits that wait at the same time share one transaction, each inside its own savepoint, and so one fsync.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from goagents.clock import Clock
from goagents.errors import OutcomeUnknown
from goagents.store.indexes import Index
from goagents.store.sqlite_schema import connect, open_database, unavailable
from goagents.wal import is_busy

MAX_BATCH = 256  # commits in one transaction: bounds how long the lock is held

T = TypeVar("T")
Work = Callable[[sqlite3.Connection, int, datetime], T]


@dataclass(eq=False, slots=True)
class Job:
    """`work` gets the connection, the version its writes take and the time; its answer resolves `future`."""

    work: Work[Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def resolve(self) -> None:
        if self.future.done():  # its caller was cancelled, or gave up
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


@dataclass(eq=False, slots=True)
class Writer:
    """Starts its thread and opens the file with the first job. `reader` is a second connection, for reads only."""

    path: str
    indexes: Sequence[Index]
    clock: Clock
    busy_timeout: float
    reader: sqlite3.Connection | None = None
    _jobs: "queue.SimpleQueue[Job | None]" = field(default_factory=queue.SimpleQueue)
    _connection: sqlite3.Connection | None = None
    _thread: threading.Thread | None = None
    _stopping: bool = False
    _retired: list[sqlite3.Connection] = field(default_factory=list)

    def submit(self, work: Work[T]) -> "asyncio.Future[T]":
        """Queue a job; call it from the event loop's thread."""
        loop = asyncio.get_running_loop()
        job = Job(work, loop, loop.create_future())
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="goagents-sqlite", daemon=True)
            self._thread.start()
        self._jobs.put(job)
        return job.future

    async def stop(self) -> None:
        """Finish what is queued, close the connections and end the thread."""
        if self._thread is None:
            return
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._thread = None

    def _run(self) -> None:
        while not self._stopping:
            batch = self._next_batch()
            try:
                self._process(batch)
            except Exception as e:  # noqa: BLE001 - this thread must go on; whoever waits gets the error
                self._disconnect()
                _fail(batch, e)
            _resolve(batch)
        self._disconnect()
        for reader in self._retired:
            reader.close()
        self._retired.clear()

    def _next_batch(self) -> list[Job]:
        """Wait for a job and take along those that wait behind it."""
        batch: list[Job] = []
        job = self._jobs.get()
        while job is not None:
            batch.append(job)
            if len(batch) == MAX_BATCH:
                return batch
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return batch
        self._stopping = True
        return batch

    def _process(self, batch: list[Job]) -> None:
        if not batch:
            return
        try:
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as e:
            if not is_busy(e):
                self._disconnect()
            _fail(batch, unavailable(self.path, e))
            return
        try:
            self._perform(connection, batch)
        except sqlite3.Error as e:
            self._disconnect()  # which rolls back
            _fail(batch, unavailable(self.path, e))
            return
        self._commit(connection, batch)

    def _perform(self, connection: sqlite3.Connection, batch: list[Job]) -> None:
        """Run each job in a savepoint of its own. Raises sqlite3.Error if the whole transaction is lost."""
        now, changes = self.clock.now(), connection.total_changes
        (version,) = connection.execute("SELECT value FROM counters WHERE name = 'version'").fetchone()
        for job in batch:
            version += 1
            connection.execute("SAVEPOINT job")
            try:
                job.result = job.work(connection, version, now)
            except Exception as e:  # noqa: BLE001 - whatever it is, it is this job's answer, and its neighbours go on
                job.error = unavailable(self.path, e) if isinstance(e, sqlite3.Error) else e
                connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")
        if connection.total_changes != changes:
            connection.execute("UPDATE counters SET value = ? WHERE name = 'version'", (version,))

    def _commit(self, connection: sqlite3.Connection, batch: list[Job]) -> None:
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as e:
            self._disconnect()
            known = is_busy(e)  # any other failure may have left the commit in the log, to be found after a restart
            cause = unavailable(self.path, e)
            _fail(batch, cause if known else OutcomeUnknown(f"{cause.detail} The commit may have been applied."))

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_database(self.path, self.indexes, self.busy_timeout)
            reader = connect(self.path, busy_timeout=0)  # it must never wait: the event loop reads with it
            reader.execute("PRAGMA query_only=TRUE")
            reader.execute("SELECT value FROM counters").fetchall()
            self.reader = reader
        return self._connection

    def _disconnect(self) -> None:
        if self.reader is not None:
            self._retired.append(self.reader)  # the event loop may be reading this moment
            self.reader = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _fail(batch: list[Job], error: BaseException) -> None:
    for job in batch:
        job.error = job.error or error


def _resolve(batch: list[Job]) -> None:
    """Hand the answers over to the event loops that wait for them, one call each."""
    for loop in {job.loop for job in batch}:
        jobs = [job for job in batch if job.loop is loop]
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve_all, jobs)


def _resolve_all(jobs: list[Job]) -> None:
    for job in jobs:
        job.resolve()
