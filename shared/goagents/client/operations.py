"""Every method of the clients, as the request it makes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from goagents.events import RunEvent
from goagents.messages import CONTENT, Content
from goagents.resources import (
    Agent,
    ChatResponse,
    Cluster,
    ClusterApplied,
    Health,
    ListOf,
    LogEntry,
    MetricsSummary,
    Readiness,
    ScaleRequest,
    Session,
    SessionMessage,
)

from .calls import Call, StreamCall, get, nothing, path, raw
from .descriptors import listing, operation, streaming
from .manifests import manifest_of, name_of, namespace_of
from .readers import LogReader, RunReader

T = TypeVar("T")
Message = str | Sequence[Content]


class Operations:
    """`namespace` is that of the clusters and agents asked for. An agent's id is `cluster.agent`, or
    `namespace.cluster.agent`. Everything raises the server's error as a class of `goagents.errors`."""

    namespace: str

    @operation
    def health(self) -> Call[Health]:
        return get("/health", Health)

    @operation
    def ready(self) -> Call[Readiness]:
        """Raises GoAgentsError where a dependency is not ready."""
        return get("/ready", Readiness)

    @operation
    def list_clusters(self, *, page_size: int | None = None, page_token: str | None = None) -> Call[ListOf[Cluster]]:
        return get(path("clusters"), ListOf[Cluster], self._page(page_size, page_token))

    @listing
    def clusters(self, *, page_size: int | None = None) -> Call[ListOf[Cluster]]:
        return get(path("clusters"), ListOf[Cluster], self._page(page_size))

    @operation
    def get_cluster(self, name: str) -> Call[Cluster]:
        return get(path("clusters", name), Cluster, self._scope())

    @operation
    def apply(self, manifest: Mapping[str, Any] | str | Path, *, dry_run: bool = False) -> Call[ClusterApplied]:
        """Create or replace a cluster: from a mapping, a text of YAML or JSON, or the path of a file.

        With `dry_run` nothing is written; the answer says what would change.
        """
        body = manifest_of(manifest)
        params = {"namespace": namespace_of(body) or "default", "dry_run": dry_run or None}
        return Call("PUT", path("clusters", name_of(body)), ClusterApplied.model_validate_json, params, body)

    @operation
    def delete_cluster(self, name: str) -> Call[None]:
        return Call("DELETE", path("clusters", name), nothing, self._scope())

    @operation
    def scale(self, cluster: str, agent: str, instances: int) -> Call[Agent]:
        """Set how many instances of an agent are kept."""
        body = ScaleRequest(agent=agent, instances=instances).model_dump()
        return Call("POST", path("clusters", cluster, "scale"), Agent.model_validate_json, self._scope(), body)

    @operation
    def list_agents(
        self, *, cluster: str | None = None, page_size: int | None = None, page_token: str | None = None
    ) -> Call[ListOf[Agent]]:
        return get(path("agents"), ListOf[Agent], {**self._page(page_size, page_token), "cluster": cluster})

    @listing
    def agents(self, *, cluster: str | None = None, page_size: int | None = None) -> Call[ListOf[Agent]]:
        return get(path("agents"), ListOf[Agent], {**self._page(page_size), "cluster": cluster})

    @operation
    def get_agent(self, agent_id: str) -> Call[Agent]:
        return get(path("agents", agent_id), Agent)

    @operation
    def chat(
        self, agent_id: str, message: Message, *, session_id: str | None = None, idempotency_key: str | None = None
    ) -> Call[ChatResponse]:
        """Say something to an agent and wait for its answer.

        Without `session_id` a new session begins; the answer names it. With `idempotency_key` the same message is never
        answered twice, and the request is repeated where the server asks to come back later.
        """
        return self._run(
            path("agents", agent_id, "chat"),
            ChatResponse.model_validate_json,
            message,
            session_id,
            idempotency_key,
        )

    @streaming
    def stream(
        self, agent_id: str, message: Message, *, session_id: str | None = None, idempotency_key: str | None = None
    ) -> StreamCall[RunEvent]:
        """Say something to an agent and follow what happens; the last event is `run.completed`.

        Raises the run's error where it failed, StreamEnded where the connection ends before the run.
        """
        where = path("agents", agent_id, "stream")
        return StreamCall(self._run(where, raw, message, session_id, idempotency_key), RunReader)

    @operation
    def get_session(self, session_id: str) -> Call[Session]:
        return get(path("sessions", session_id), Session)

    @operation
    def list_messages(
        self, session_id: str, *, page_size: int | None = None, page_token: str | None = None
    ) -> Call[ListOf[SessionMessage]]:
        params = {"page_size": page_size, "page_token": page_token}
        return get(path("sessions", session_id, "messages"), ListOf[SessionMessage], params)

    @listing
    def messages(self, session_id: str, *, page_size: int | None = None) -> Call[ListOf[SessionMessage]]:
        return get(path("sessions", session_id, "messages"), ListOf[SessionMessage], {"page_size": page_size})

    @operation
    def delete_session(self, session_id: str) -> Call[None]:
        return Call("DELETE", path("sessions", session_id), nothing)

    @operation
    def list_logs(
        self, cluster: str, *, agent: str | None = None, page_size: int | None = None, page_token: str | None = None
    ) -> Call[ListOf[LogEntry]]:
        return get(
            path("clusters", cluster, "logs"), ListOf[LogEntry], {**self._page(page_size, page_token), "agent": agent}
        )

    @listing
    def logs(self, cluster: str, *, agent: str | None = None, page_size: int | None = None) -> Call[ListOf[LogEntry]]:
        """What the agents of a cluster did."""
        return get(path("clusters", cluster, "logs"), ListOf[LogEntry], {**self._page(page_size), "agent": agent})

    @streaming
    def follow_logs(self, cluster: str, *, agent: str | None = None) -> StreamCall[LogEntry]:
        """What the agents of a cluster do, as it happens; ends when the server ends the stream."""
        params = {**self._scope(), "agent": agent, "follow": True}
        return StreamCall(Call("GET", path("clusters", cluster, "logs"), raw, params), LogReader)

    @operation
    def metrics(self) -> Call[MetricsSummary]:
        return get(path("metrics"), MetricsSummary)

    def _scope(self) -> dict[str, str | int | bool | None]:
        return {"namespace": self.namespace}

    def _page(self, page_size: int | None, page_token: str | None = None) -> dict[str, str | int | bool | None]:
        return {**self._scope(), "page_size": page_size, "page_token": page_token}

    def _run(
        self,
        where: str,
        parse: Callable[[bytes], T],
        message: Message,
        session_id: str | None,
        idempotency_key: str | None,
    ) -> Call[T]:
        content = message if isinstance(message, str) else CONTENT.dump_python(message, mode="json", exclude_none=True)
        body = {"message": content} | ({"session_id": session_id} if session_id else {})
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        once = idempotency_key is not None
        return Call("POST", where, parse, json=body, headers=headers, idempotent=once, patient=True)
