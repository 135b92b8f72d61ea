"""The connection to Firestore: made on first use, every call with a timeout, every failure one of our errors.

What a failed commit means is decided here, and errs on the side of OutcomeUnknown. Surely nothing was written where no
connection came about (so it is waited for before anything is sent), and where Firestore itself refused the request.
A lost answer, a deadline, `UNAVAILABLE` or `INTERNAL` after sending tell nothing: the commit may have been applied.
"""

import asyncio
import os
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import google.auth
import grpc  # type: ignore[import-untyped]  # it ships no types
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore_v1.services.firestore import FirestoreAsyncClient
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcAsyncIOTransport
from grpc import StatusCode

from goagents.errors import DocumentTooLarge, OutcomeUnknown, StoreConflict, StoreError, StoreUnavailable

T = TypeVar("T")

READ_TIMEOUT = 10.0
READ_ATTEMPTS = 3
_FIRST_PAUSE = 0.1
_CLOSE_GRACE = 5.0
_OPTIONS = (
    ("grpc.keepalive_time_ms", 30000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)

_AGAIN = frozenset(  # what reads are tried again after
    {
        StatusCode.UNAVAILABLE,
        StatusCode.INTERNAL,
        StatusCode.ABORTED,
        StatusCode.UNKNOWN,
        StatusCode.CANCELLED,
        StatusCode.RESOURCE_EXHAUSTED,
    }
)
_CONFLICTS = frozenset({StatusCode.FAILED_PRECONDITION, StatusCode.ALREADY_EXISTS, StatusCode.NOT_FOUND})
_UNKNOWN = frozenset(
    {
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNAVAILABLE,
        StatusCode.INTERNAL,
        StatusCode.UNKNOWN,
        StatusCode.CANCELLED,
        StatusCode.DATA_LOSS,
    }
)
_TOO_LARGE = re.compile(r"maximum|too large|too big|exceed|limit", re.IGNORECASE)
_REMEDIES: dict[StatusCode | None, str] = {
    StatusCode.PERMISSION_DENIED: "Give this service account the role roles/datastore.user.",
    StatusCode.UNAUTHENTICATED: "Run `gcloud auth application-default login`, or attach a service account.",
    StatusCode.NOT_FOUND: "Make the database with `gcloud firestore databases create`, or correct GOAGENTS_STORE.",
    StatusCode.FAILED_PRECONDITION: "Deploy the indexes, and check that the database is in native mode.",
    StatusCode.RESOURCE_EXHAUSTED: "A quota is used up: see the quotas of Firestore in the console.",
}


class FirestoreClient:
    """Raw calls on one database, whose resource name is `database`. Requests and answers are the library's messages."""

    def __init__(self, project: str, database: str, connect_timeout: float, commit_timeout: float) -> None:
        self.database = f"projects/{project}/databases/{database}"
        self.target = os.environ.get("FIRESTORE_EMULATOR_HOST") or "firestore.googleapis.com"
        self._emulated = self.target != "firestore.googleapis.com"
        self._connect_timeout = connect_timeout
        self._commit_timeout = commit_timeout
        self._metadata = [("google-cloud-resource-prefix", self.database)]
        if self._emulated:
            self._metadata.append(("authorization", "Bearer owner"))
        self._transport: Any = None
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._making = asyncio.Lock()
        self._closed = False

    async def read(self, method: str, request: Any, collect: Callable[[AsyncIterator[Any]], Awaitable[T]]) -> T:
        """Call a streaming read and hand its answers to `collect`. Tried again within a bound."""
        attempt = 0
        while True:
            attempt += 1
            client = await self._ready()
            try:
                call = getattr(client, method)
                answers = await call(request, retry=None, timeout=READ_TIMEOUT, metadata=self._metadata)
                return await collect(aiter(answers))
            except GoogleAPICallError as e:
                if _status(e) not in _AGAIN or attempt == READ_ATTEMPTS:
                    raise self._unavailable(e) from e
            await asyncio.sleep(_FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1))  # noqa: S311 - jitter

    async def commit(self, request: Any, *, conditional: bool) -> Any:
        """Send one commit, once. `conditional`: it has preconditions, which tell what a refusal means.

        Raises StoreConflict, StoreUnavailable, OutcomeUnknown, DocumentTooLarge as the port says.
        """
        client = await self._ready()
        try:
            return await client.commit(request, retry=None, timeout=self._commit_timeout, metadata=self._metadata)
        except GoogleAPICallError as e:
            raise self._commit_error(e, conditional) from e

    async def aclose(self) -> None:
        """Let the calls under way finish, within a bound, and close the connection for good."""
        self._closed = True
        transport, self._transport, self._client = self._transport, None, None
        if transport is not None:
            await transport.grpc_channel.close(grace=_CLOSE_GRACE)

    async def _ready(self) -> Any:
        """Return the client once its connection stands: what fails before that was surely not sent."""
        if self._closed:
            raise StoreUnavailable("This connection to Firestore is closed: make a new FirestoreStore.")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # a channel belongs to the loop it was made in
            self._loop, self._client, self._making = loop, None, asyncio.Lock()
        if self._client is None:
            async with self._making:
                if self._client is None:
                    self._transport = await self._make_transport()
                    self._client = FirestoreAsyncClient(transport=self._transport)
        channel = self._transport.grpc_channel
        if channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            return self._client
        try:
            async with asyncio.timeout(self._connect_timeout):
                await channel.channel_ready()
        except TimeoutError as e:
            remedy = "is the emulator running?" if self._emulated else "check the network and the project's name."
            raise StoreUnavailable(f"Firestore at {self.target} cannot be reached: {remedy}") from e
        return self._client

    async def _make_transport(self) -> Any:
        if self._emulated:
            channel = grpc.aio.insecure_channel(self.target, options=_OPTIONS)
            return FirestoreGrpcAsyncIOTransport(host=self.target, channel=channel)
        try:
            # Reads files and may ask the metadata server, which is nothing for the event loop.
            credentials, _ = await asyncio.to_thread(google.auth.default, FirestoreGrpcAsyncIOTransport.AUTH_SCOPES)
        except GoogleAuthError as e:
            raise StoreUnavailable(
                "Firestore needs credentials: run `gcloud auth application-default login`, or attach a service account."
            ) from e
        channel = FirestoreGrpcAsyncIOTransport.create_channel(self.target, credentials=credentials, options=_OPTIONS)
        return FirestoreGrpcAsyncIOTransport(host=self.target, channel=channel)

    def _commit_error(self, error: GoogleAPICallError, conditional: bool) -> StoreError:
        status = _status(error)
        if status is StatusCode.ABORTED or (conditional and status in _CONFLICTS):
            return StoreConflict(f"A precondition did not hold; nothing was written. ({error.message})")
        if status is StatusCode.INVALID_ARGUMENT:
            if _TOO_LARGE.search(error.message or ""):
                return DocumentTooLarge(f"Firestore refused a document for its size: {error.message}")
            return StoreError(f"Firestore refused a write: {error.message}")
        if status is None or status in _UNKNOWN:
            return OutcomeUnknown(f"Firestore's answer was lost; the commit may have been applied. ({error.message})")
        return self._unavailable(error)

    def _unavailable(self, error: GoogleAPICallError) -> StoreUnavailable:
        remedy = _REMEDIES.get(_status(error), "")
        return StoreUnavailable(f"Firestore ({self.database}): {error.message} {remedy}".rstrip())


def _status(error: GoogleAPICallError) -> StatusCode | None:
    return error.grpc_status_code
