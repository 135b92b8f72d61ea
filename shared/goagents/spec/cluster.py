"""The models of an `AgentCluster`. Its strings keep their `${…}`: they are resolved where they are used."""

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from .hosts import HostList, HostPattern, literal_place
from .models import nearest
from .tools import HttpToolSpec, JsonSchema, McpToolSpec, ToolSpec, WebsocketToolSpec
from .types import DnsLabel, Duration, Integer, Location, Model, ShortText, wrong_at, wrong_places

API_VERSION = "goagents.dev/v1"
KIND = "AgentCluster"
PROVIDERS = ("anthropic", "openai", "gemini", "scripted")
MAX_AGENTS = 200

Label = Annotated[str, StringConstraints(max_length=1024)]


def known_provider(name: str) -> str:
    """Return `name` if it is a provider. Raises an error that names the nearest one."""
    if name in PROVIDERS:
        return name
    if "${" in name:
        raise PydanticCustomError(
            "provider_reference", "`${…}` in `provider` and `model` is resolved in a file only; write the name"
        )
    guess = nearest(name, PROVIDERS)
    hint = f"did you mean '{guess}'?" if guess else f"the providers are {', '.join(PROVIDERS)}"
    raise PydanticCustomError(
        "unknown_provider", "unknown provider '{name}'; {hint}", {"name": name[:64], "hint": hint}
    )


def unique_names(items: "tuple[Any, ...]") -> "tuple[Any, ...]":
    """Return `items` if no two have the same name."""
    seen: set[str] = set()
    for item in items:
        if item.name in seen:
            raise PydanticCustomError("duplicate_name", "the name '{name}' is used twice", {"name": item.name})
        seen.add(item.name)
    return items


def urls_of(tool: ToolSpec) -> "tuple[tuple[str, str], ...]":
    """Return field and text of what a tool calls over the network, references unresolved."""
    found: tuple[tuple[str, str | None], ...] = ()
    match tool:
        case HttpToolSpec():
            found = (("url", tool.url), ("openapi", tool.openapi))
        case McpToolSpec():
            found = (("server", tool.server),)
        case WebsocketToolSpec():
            found = (("url", tool.url),)
    return tuple((field, url) for field, url in found if url is not None)


Provider = Annotated[str, AfterValidator(known_provider)]
PROVIDER_DESCRIPTION = (
    "Who serves the model: `anthropic`, `openai`, `gemini` or `scripted`. In a file, `${…}` is resolved when it is "
    "read."
)
MODEL_DESCRIPTION = (
    "The model: a provider's id, a built-in alias such as `claude-sonnet-4`, or an alias of `models`. In a file, "
    "`${…}` is resolved when it is read."
)
SETTINGS_DESCRIPTION = "Passed to the provider as they are: temperature, max_tokens, reasoning and so on."


class Metadata(Model):
    name: DnsLabel = Field(
        description="Name of the cluster: lower-case letters, digits and `-`, up to 63 characters (a DNS label)."
    )
    namespace: DnsLabel = Field("default", description="Namespace of the cluster, a DNS label.")
    labels: dict[ShortText, Label] = Field(default_factory=dict, max_length=64, description="Your own labels.")
    annotations: dict[ShortText, Label] = Field(default_factory=dict, max_length=64, description="Your own notes.")


class ResourcePolicy(Model):
    max_concurrent_agents: Integer = Field(
        10, ge=1, le=1000, description="Most runs of the cluster at the same time; more wait for `queue_timeout`."
    )
    idle_timeout: Duration = Field(300.0, description="An instance that was not used for so long is gone.")
    scale_to_zero: bool = Field(
        True, description="Let idle instances go altogether; if false, one of each agent is kept."
    )
    queue_timeout: Duration = Field(
        5.0, le=3600, description="How long a request waits for a free slot before it is answered 429."
    )


class Fallback(Model):
    provider: Provider = Field(description=PROVIDER_DESCRIPTION)
    model: ShortText = Field(description=MODEL_DESCRIPTION)
    model_settings: dict[str, Any] = Field(default_factory=dict, max_length=64, description=SETTINGS_DESCRIPTION)


class ContextPolicy(Model):
    """How much of a session goes to the model."""

    strategy: Literal["trim", "summarize", "none"] = Field(
        "trim",
        description="What happens to the older messages of a session that is longer than `max_tokens`: they are left "
        "out (`trim`), the agent's model writes a summary that stands for them (`summarize`), or all of them are sent, "
        "and the model may refuse (`none`). They stay in the session in any case.",
    )
    max_tokens: Integer = Field(
        100_000, ge=1_000, le=10_000_000, description="Most tokens of a session that go to the model, as estimated."
    )
    keep_tokens: Integer | None = Field(
        None,
        ge=100,
        le=10_000_000,
        description="Tokens of the newest turns that stay as they are when the rest is left out or summarised; half of "
        "`max_tokens` if unset. The larger the gap, the longer the prompt's beginning stays the same, which is what "
        "providers cache.",
    )

    @model_validator(mode="after")
    def _keeps_less(self) -> Self:
        if self.keep_tokens is not None and self.keep_tokens >= self.max_tokens:
            raise wrong_at(("keep_tokens",), "context", "`keep_tokens` is not less than `max_tokens`")
        return self

    @property
    def kept(self) -> int:
        return self.keep_tokens if self.keep_tokens is not None else self.max_tokens // 2


class AgentSpec(Model):
    name: DnsLabel = Field(description="Name of the agent, unique in the cluster, a DNS label.")
    description: str | None = Field(None, max_length=4096, description="What the agent is for, for people.")
    provider: Provider = Field(description=PROVIDER_DESCRIPTION)
    model: ShortText = Field(description=MODEL_DESCRIPTION)
    system_prompt: str | None = Field(None, max_length=200_000, description="What the agent is told before all else.")
    tools: Annotated[tuple[ToolSpec, ...], AfterValidator(unique_names)] = Field(
        (), max_length=128, description="What the agent may use."
    )
    allowed_hosts: Annotated[tuple[HostPattern, ...], Field(max_length=256)] | None = Field(
        None,
        description="Hosts that the agent's tools may call, redirects included: `api.example.com`, `*.example.org` for "
        "its subdomains, each with a port or without. All that the address guard lets pass if unset. Programs of `mcp` "
        "tools are not bound by it.",
    )
    model_settings: dict[str, Any] = Field(default_factory=dict, max_length=64, description=SETTINGS_DESCRIPTION)
    fallbacks: tuple[Fallback, ...] = Field(
        (), max_length=8, description="Models to try, in this order, when the first one's provider fails."
    )
    output_schema: JsonSchema | None = Field(None, description="JSON Schema the final answer has to fit.")
    max_turns: Integer = Field(25, ge=1, le=1000, description="Most calls of the model in one run.")
    timeout: Duration | None = Field(
        None,
        gt=0,
        description="Longest time of one run from its start to its end, time spent waiting for a person apart; "
        "`runs.timeout` where it is not set.",
    )
    session_policy: Literal["enqueue", "reject", "interrupt"] = Field(
        "enqueue",
        description="What a message does to a session that has a run in progress: it waits for its end (`enqueue`), is "
        "answered 409 (`reject`), or cancels it (`interrupt`). A request may say otherwise.",
    )
    context: ContextPolicy = Field(
        default_factory=ContextPolicy, description="How much of a session goes to the model."
    )
    min_instances: Integer | None = Field(
        None, ge=0, le=1000, description="Instances kept when idle: 0, or 1 without `scale_to_zero`."
    )
    max_instances: Integer | None = Field(
        None, ge=1, le=1000, description="Most runs of this agent at the same time: `max_concurrent_agents` if unset."
    )

    @field_validator("model")
    @classmethod
    def _resolved(cls, value: str) -> str:
        if "${" in value:
            raise PydanticCustomError(
                "provider_reference", "`${…}` in `provider` and `model` is resolved in a file only; write the name"
            )
        return value

    @model_validator(mode="after")
    def _hosts(self) -> Self:
        """A host that a tool names itself is refused here; what a reference or a redirect leads to, at the call."""
        if self.allowed_hosts is None:
            return self
        allowed = HostList(self.allowed_hosts)
        wrong: dict[Location, str] = {}
        for i, tool in enumerate(self.tools):
            for field, url in urls_of(tool):
                place = literal_place(url)
                if place is not None and not allowed.allows(*place):
                    reason = f"`{field}` of the tool '{tool.name}': {allowed.refusal(place[0])}"
                    wrong["tools", i, field] = f"{reason}; add the host, or change the tool"
        if wrong:
            raise wrong_places("allowed_hosts", wrong)
        return self

    @model_validator(mode="after")
    def _instances(self) -> Self:
        if self.max_instances is not None and (self.min_instances or 0) > self.max_instances:
            raise wrong_at(("min_instances",), "instances", "`min_instances` is more than `max_instances`")
        return self


class ClusterSpec(Model):
    resource_policy: ResourcePolicy = Field(
        default_factory=ResourcePolicy, description="How many agents run, and when they rest."
    )
    agents: Annotated[tuple[AgentSpec, ...], AfterValidator(unique_names)] = Field(
        min_length=1, max_length=MAX_AGENTS, description="The agents of the cluster, 1 to 200."
    )


class AgentCluster(Model):
    api_version: Literal["goagents.dev/v1"] = Field(alias="apiVersion", description="`goagents.dev/v1`.")
    kind: Literal["AgentCluster"] = Field(description="`AgentCluster`.")
    metadata: Metadata = Field(description="What the cluster is called.")
    spec: ClusterSpec = Field(description="What the cluster consists of.")

    @model_validator(mode="after")
    def _instances_fit(self) -> Self:
        slots = self.spec.resource_policy.max_concurrent_agents
        wrong: dict[Location, str] = {
            ("spec", "agents", i, field): f"`{field}` of the agent '{agent.name}' is more than `max_concurrent_agents` "
            f"({slots})"
            for i, agent in enumerate(self.spec.agents)
            for field in ("min_instances", "max_instances")
            if (getattr(agent, field) or 0) > slots
        }
        if wrong:
            raise wrong_places("instances", wrong)
        return self

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        return self.metadata.namespace

    def agent(self, name: str) -> AgentSpec | None:
        return next((agent for agent in self.spec.agents if agent.name == name), None)

    def max_instances(self, agent: AgentSpec | str) -> int:
        """Return how many runs of `agent` may go on at the same time. Raises KeyError for an unknown name."""
        found = self._find(agent).max_instances
        return self.spec.resource_policy.max_concurrent_agents if found is None else found

    def min_instances(self, agent: AgentSpec | str) -> int:
        """Return how many instances of `agent` stay when idle. Raises KeyError for an unknown name."""
        found = self._find(agent).min_instances
        if found is not None:
            return found
        return 0 if self.spec.resource_policy.scale_to_zero else 1

    def _find(self, agent: AgentSpec | str) -> AgentSpec:
        if isinstance(agent, AgentSpec):
            return agent
        found = self.agent(agent)
        if found is None:
            raise KeyError(agent)
        return found

    def canonical(self) -> dict[str, Any]:
        """Return the cluster as JSON-ready data with defaults left out: equal clusters have equal canonical forms."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    def manifest(self) -> dict[str, Any]:
        """Return what the user wrote as JSON-ready data: their fields only, references unresolved."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the canonical form."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()
