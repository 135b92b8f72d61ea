"""Every method of the clients, as the request it makes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from goagents.errors import Invalid
from goagents.events import Cursor
from goagents.ids import new_id
from goagents.messages import CONTENT, Content
from goagents.resources import (
    Agent,
    ChatResponse,
    Cluster,
    ClusterApplied,
    Decision,
    Health,
    ListOf,
    LogEntry,
    MetricsSummary,
    Readiness,
    Run,
    ScaleRequest,
    Session,
    SessionMessage,
    SessionPolicy,
)

from .calls import Call, StreamCall, get, nothing, path, raw
from .descriptors import errand, following, listing, operation, streaming
from .errands import Errand, Waiting, chatted, sent, waited
from .following import Following
from .manifests import manifest_of, name_of, namespace_of
from .patience import Patience
from .readers import LogReader

Message = str | Sequence[Content]
RunStatus = Literal["queued", "running", "waiting", "handed_off", "succeeded", "failed", "cancelled"]


class Operations:
    """`namespace` is that of the clusters and agents asked for. An agent's id is `cluster.agent`, or
    `namespace.cluster.agent`. Everything raises the server's error as a class of `goagents.errors`. `run_timeout` and
    `reconnect_timeout` are in seconds."""

    namespace: str
    run_timeout: float
    reconnect_timeout: float

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

    @errand
    def chat(
        self,
        agent_id: str,
        message: Message,
        *,
        session_id: str | None = None,
        session_policy: SessionPolicy | None = None,
        idempotency_key: str | None = None,
        wait_for_approval: bool = False,
    ) -> Errand[ChatResponse]:
        """Say something to an agent and wait for its answer, for at most `run_timeout`.

        Without `session_id` a new session begins; the answer names it. The request carries `idempotency_key`, or a
        random one: where its answer got lost, it is sent again, and means the same run. A run that outlasts the request
        is followed to its end. Raises RunWaiting where it waits for a person, unless `wait_for_approval`.
        """
        where = path("agents", agent_id, "chat")
        body = _said(message, session_id, session_policy)
        call: Call[ChatResponse | Run] = Call(
            "POST", where, ChatResponse.model_validate_json, json=body, headers=_key(idempotency_key),
            timeout=self.run_timeout, parse_accepted=Run.model_validate_json,
        )  # fmt: skip
        return chatted(call, Waiting(self.reconnect_timeout, self.run_timeout, for_approval=wait_for_approval))

    @following
    def stream(
        self,
        agent_id: str,
        message: Message,
        *,
        session_id: str | None = None,
        session_policy: SessionPolicy | None = None,
        idempotency_key: str | None = None,
    ) -> Following:
        """Say something to an agent and follow what happens; the last event is `run.completed`, or `run.waiting`.

        After `run.waiting` the run goes on when a person has decided (`approve_run`): `follow_run` with `after` the id
        of that event shows what happens then. A connection that breaks, or that the server ends, is taken up again
        where it was; after an event `attempt` what came after its `resumed_after` is void (`Transcript` heeds that).
        Raises the run's error where it failed or was cancelled, and StreamEnded where it could not be followed for
        `reconnect_timeout`.
        """
        body = _said(message, session_id, session_policy)
        call = Call("POST", path("agents", agent_id, "stream"), raw, json=body, headers=_key(idempotency_key))
        return Following(Patience(self.reconnect_timeout), start=call)

    @errand
    def start_run(
        self,
        agent_id: str,
        message: Message,
        *,
        session_id: str | None = None,
        session_policy: SessionPolicy | None = None,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> Errand[Run]:
        """Say something to an agent, and do not wait: the run goes on in the background.

        `webhook_url` is told when it has ended, or waits for a person. `follow_run` and `wait_for_run` come back to it.
        """
        body = _said(message, session_id, session_policy)
        if webhook_url is not None:
            body["webhook"] = {"url": webhook_url}
        where = path("agents", agent_id, "runs")
        call = Call("POST", where, Run.model_validate_json, json=body, headers=_key(idempotency_key))
        return sent(call, self.reconnect_timeout)

    @operation
    def list_runs(
        self,
        *,
        status: RunStatus | None = None,
        cluster: str | None = None,
        agent: str | None = None,
        session_id: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> Call[ListOf[Run]]:
        """The newest run is the first. At most one of `cluster` (its name), `agent` (its id) and `session_id`."""
        params = {"status": status, "cluster": cluster, "agent": agent, "session_id": session_id}
        return get(path("runs"), ListOf[Run], {**self._page(page_size, page_token), **params})

    @listing
    def runs(
        self,
        *,
        status: RunStatus | None = None,
        cluster: str | None = None,
        agent: str | None = None,
        session_id: str | None = None,
        page_size: int | None = None,
    ) -> Call[ListOf[Run]]:
        """The newest run is the first. At most one of `cluster` (its name), `agent` (its id) and `session_id`."""
        params = {"status": status, "cluster": cluster, "agent": agent, "session_id": session_id}
        return get(path("runs"), ListOf[Run], {**self._page(page_size), **params})

    @operation
    def get_run(self, run_id: str, *, page_size: int | None = None, page_token: str | None = None) -> Call[Run]:
        """Return a run with a page of its steps; `next_page_token` is set where there are more."""
        return get(path("runs", run_id), Run, self._page(page_size, page_token))

    @operation
    def cancel_run(self, run_id: str, reason: str | None = None) -> Call[Run]:
        """Cancel a run. The answer's status is not `cancelled` yet where the process that runs it has to notice.

        Raises Conflict where it has ended otherwise.
        """
        body = {"reason": reason} if reason else {}
        return Call("POST", path("runs", run_id, "cancel"), Run.model_validate_json, json=body)

    @operation
    def approve_run(
        self,
        run_id: str,
        decision: Literal["allow", "deny"] | Sequence[Decision] = "allow",
        *,
        call_id: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        reason: str | None = None,
    ) -> Call[Run]:
        """Decide on the calls that a run waits with, and let it go on.

        One decision on all of them, or on the one that is named by `call_id`; or a list, one for each. `allow` carries
        a call out, with `arguments` in place of the model's if they are given; `deny` tells the model no, and `reason`.
        Raises Conflict where the run does not wait, Invalid where calls are left undecided.
        """
        body = {"decisions": _decisions(decision, call_id, arguments, reason)}
        where = path("runs", run_id, "approve")
        return Call("POST", where, Run.model_validate_json, json=body, idempotent=False)

    @following
    def follow_run(self, run_id: str, after: str | None = None) -> Following:
        """Follow a run from its first event on, or `after` an event's id, until its end: also while it waits for a
        person. Raises what `stream` raises, and Invalid for an `after` that is no id."""
        return Following(Patience(self.reconnect_timeout), run_id=run_id, after=_cursor(after), through_waiting=True)

    @errand
    def wait_for_run(
        self, run_id: str, *, timeout: float | None = None, wait_for_approval: bool = False
    ) -> Errand[ChatResponse]:
        """Wait for a run's answer, for at most `timeout` seconds (raises ServerTimedOut).

        Raises the run's error where it failed or was cancelled, and RunWaiting where it waits for a person, unless
        `wait_for_approval`.
        """
        return waited(run_id, Waiting(self.reconnect_timeout, timeout, for_approval=wait_for_approval))

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


def _said(message: Message, session_id: str | None, policy: SessionPolicy | None) -> dict[str, Any]:
    content = message if isinstance(message, str) else CONTENT.dump_python(message, mode="json", exclude_none=True)
    given = {"session_id": session_id, "session_policy": policy}
    return {"message": content} | {name: value for name, value in given.items() if value}


def _key(given: str | None) -> dict[str, str]:
    """A key of its own lets a request whose answer got lost be sent again."""
    return {"Idempotency-Key": given or new_id("key")}


def _decisions(
    decision: Literal["allow", "deny"] | Sequence[Decision],
    call_id: str | None,
    arguments: Mapping[str, Any] | None,
    reason: str | None,
) -> list[dict[str, Any]]:
    if isinstance(decision, str):
        about = {"call_id": call_id, "arguments": arguments, "reason": reason}
        return [{"decision": decision} | {name: value for name, value in about.items() if value is not None}]
    if call_id is not None or arguments is not None or reason is not None:
        raise Invalid("where there is a list of decisions, each holds its own call_id, arguments and reason")
    return [each.model_dump(mode="json", exclude_none=True) for each in decision]


def _cursor(after: str | None) -> Cursor | None:
    try:
        return None if after is None else Cursor.parse(after)
    except ValueError as fault:
        raise Invalid(str(fault)) from fault
