"""The models of the server's configuration. References are resolved when a file is read (see `load`)."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from .allow import AllowConfig, VariableName
from .cluster import PROVIDERS, unique_names
from .mcp_oauth import McpOAuthConfig
from .models import alias_cycle
from .python import PythonConfig, ToolFunctionConfig
from .tools import HeaderName, HeaderValue
from .types import DnsLabel, Duration, HttpUrl, Integer, Model, ShortText, Size, no_boolean, wrong_at
from .webhooks import is_signing_key

Port = Annotated[int, Field(ge=1, le=65_535), BeforeValidator(no_boolean)]
Path = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
UrlPath = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._~/-]*$", max_length=256)]

_STORE_URL = re.compile(r"sqlite:///.+|firestore://[a-z0-9][a-z0-9.:-]*/[a-z0-9()][a-z0-9()-]*")


def store_url_form(value: str) -> str:
    """Return `value` if it is a store's URL. Raises ValueError."""
    if not _STORE_URL.fullmatch(value):
        raise ValueError("is not a store; write sqlite:///PATH or firestore://PROJECT/DATABASE, such as (default)")
    return value


StoreUrl = Annotated[str, StringConstraints(max_length=4096), AfterValidator(store_url_form)]


class MetricsConfig(Model):
    enabled: bool = Field(True, description="Count and serve metrics.")
    path: UrlPath = Field("/metrics", description="Where Prometheus finds them.")
    port: Port | None = Field(None, description="`goagents run` serves them on this port of 127.0.0.1 too.")


class TlsConfig(Model):
    cert: Path = Field(description="File with the certificate chain (PEM), relative to this file.")
    key: Path = Field(description="File with the private key (PEM), relative to this file.")


class ServerConfig(Model):
    host: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(
        "127.0.0.1",
        description="Address `goagents run` listens on. Without `auth` it is 127.0.0.1 whatever stands here.",
    )
    port: Port = Field(8080, description="Port `goagents run` listens on.")
    timeout: Duration = Field(
        300.0, gt=0, le=3600, description="Longest time of one request; a run goes on in the background beyond it."
    )
    background: bool | None = Field(
        None,
        description="Whether a process keeps its CPU when no request is open, so that a run goes on there when its "
        "client leaves. By default not on Cloud Run, and everywhere else.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged.")
    log_format: Literal["auto", "json", "pretty"] = Field(
        "auto", description="`json` is Cloud Logging's format; `auto` is pretty on a terminal and JSON elsewhere."
    )
    max_body: Size = Field(4 << 20, description="Largest request body; a larger one is answered 413.")
    metrics: MetricsConfig = Field(default_factory=MetricsConfig, description="Metrics.")
    tls: TlsConfig | None = Field(None, description="Serve HTTPS locally.")

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value


class ProviderConfig(Model):
    """What the three real providers have in common."""

    api_key: SecretStr | None = Field(
        None, description="Key of the provider's API. Needed as soon as an agent uses the provider."
    )
    base_url: HttpUrl | None = Field(
        None, description="Address of the API, with or without its version path; the vendor's own by default."
    )
    max_connections: Integer = Field(1000, ge=1, le=10_000, description="Most connections open at the same time.")
    max_retries: Integer = Field(2, ge=0, le=10, description="Repeats of a request the provider could not serve.")


class AnthropicConfig(ProviderConfig):
    version: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = Field(
        None, description="The header `anthropic-version`; the SDK's own by default."
    )


class OpenAIConfig(ProviderConfig):
    org_id: ShortText | None = Field(None, description="Organization the usage belongs to.")
    project_id: ShortText | None = Field(None, description="Project the usage belongs to.")


class GeminiConfig(ProviderConfig):
    project_id: ShortText | None = Field(None, description="Google Cloud project the usage is billed to.")
    api_version: Annotated[str, StringConstraints(pattern=r"^v\d[a-z0-9]*$")] | None = Field(
        None, description="Version of the API, such as `v1beta`; the SDK's own by default."
    )


class ScriptedConfig(Model):
    models: dict[ShortText, Annotated[list[dict[str, Any]], Field(min_length=1, max_length=1000)]] = Field(
        default_factory=dict,
        max_length=200,
        description="Scripts by the model's name: the steps a scripted model takes, see the page on providers.",
    )


class ProvidersConfig(Model):
    anthropic: AnthropicConfig | None = Field(None, description="Anthropic.")
    openai: OpenAIConfig | None = Field(None, description="OpenAI, and servers with the same API.")
    gemini: GeminiConfig | None = Field(None, description="Google Gemini.")
    scripted: ScriptedConfig | None = Field(None, description="Models that follow a script, for tests and demos.")


class StoreConfig(Model):
    url: StoreUrl | None = Field(
        None,
        description="`sqlite:///PATH` or `firestore://PROJECT/DATABASE`. `GOAGENTS_STORE` goes before it. By default "
        "`firestore://PROJECT/(default)` on Cloud Run, elsewhere `.goagents/goagents.db` in the working directory.",
    )


def _digest(value: str) -> str:
    digest = value.removeprefix("sha256:").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError("is not a SHA-256 in hexadecimal; make it with: printf %s KEY | sha256sum")
    return digest


class ApiKey(Model):
    name: DnsLabel = Field(description="Who the key belongs to; the principal of its requests.")
    hash: Annotated[str, AfterValidator(_digest)] = Field(
        description="SHA-256 of the key in hexadecimal (`printf %s KEY | sha256sum`). The key itself is not kept."
    )
    tenant: DnsLabel = Field("default", description="Tenant whose records the key sees.")


class AuthConfig(Model):
    mode: Literal["none", "api_key", "platform"] = Field(
        description="`none` serves 127.0.0.1 only; `api_key` wants a bearer key; `platform` trusts Cloud Run's IAM."
    )
    api_keys: Annotated[tuple[ApiKey, ...], AfterValidator(unique_names)] = Field(
        (), max_length=1000, description="The keys of the mode `api_key`."
    )

    @model_validator(mode="after")
    def _keys_fit_mode(self) -> Self:
        if self.mode == "api_key" and not self.api_keys:
            raise wrong_at(("mode",), "auth", "the mode `api_key` needs at least one entry in `api_keys`")
        if self.mode != "api_key" and self.api_keys:
            raise wrong_at(("mode",), "auth", "`api_keys` are of no use in this mode; write `mode: api_key`")
        if len({key.hash for key in self.api_keys}) < len(self.api_keys):
            raise wrong_at(("api_keys",), "auth", "two entries of `api_keys` have the same key")
        return self


class RunsConfig(Model):
    """How long things may take, and how soon they are found again."""

    timeout: Duration = Field(
        3600.0, gt=0, le=7 * 86_400, description="Longest time of one run whose agent has no `timeout`."
    )
    worker_timeout: Duration = Field(
        900.0,
        gt=0,
        le=1785,
        description="Longest time of one call of the worker; before it, a run is handed on. A single call of a model "
        "that takes longer fails. Below the worker's own request timeout, and 30 minutes, which Cloud Tasks waits.",
    )
    lease_ttl: Duration = Field(
        30.0,
        ge=0.1,
        le=600,
        description="Time after which a process that does not renew its lease of a run counts as dead. Renewed three "
        "times as often.",
    )
    dispatch_grace: Duration = Field(
        30.0, ge=0.1, le=3600, description="Time a run may wait for a worker until the sweeper dispatches it again."
    )
    sweep_interval: Duration = Field(
        15.0, ge=0.1, le=3600, description="Time between two sweeps of `goagents run`; deployed, Cloud Scheduler's."
    )
    poll_interval: Duration = Field(
        2.0, ge=0.01, le=60, description="Time between looks of a run's owner at what others ask of it (`cancel`)."
    )
    max_attempts: Integer = Field(
        5, ge=1, le=100, description="Times a run is taken up again at the same step before it fails."
    )
    max_queue: Integer = Field(
        100, ge=1, le=1000, description="Most runs that wait in one session; one more is answered 429."
    )
    waiting_timeout: Duration = Field(7 * 86_400, gt=0, description="Time a run waits for a person until it fails.")
    retention: Duration = Field(30 * 86_400, ge=60, description="Time a run is kept after its end.")


class DispatchConfig(Model):
    """Where a run goes that is to be gone on with by another invocation."""

    type: Literal["local", "cloud_tasks"] | None = Field(
        None,
        description="`cloud_tasks`, or `local` (the serving process itself). By default `cloud_tasks` where `queue` is "
        "set.",
    )
    queue: Annotated[str, StringConstraints(pattern=r"^projects/[^/]+/locations/[^/]+/queues/[^/]+$")] | None = Field(
        None, description="The Cloud Tasks queue: `projects/P/locations/L/queues/Q`."
    )
    worker_url: HttpUrl | None = Field(None, description="Address of the worker function: `https://…/worker`.")
    service_account: ShortText | None = Field(
        None,
        description="E-mail of the service account whose identity token Cloud Tasks sends. Without it, tasks carry "
        "GOAGENTS_INTERNAL_KEY.",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.chosen == "cloud_tasks" and (self.queue is None or self.worker_url is None):
            raise PydanticCustomError("dispatch", "`cloud_tasks` needs `queue` and `worker_url`")
        return self

    @property
    def chosen(self) -> Literal["local", "cloud_tasks"]:
        return self.type or ("cloud_tasks" if self.queue else "local")


class InternalConfig(Model):
    """Who may call `/worker` and `/sweep`, beside the holder of GOAGENTS_INTERNAL_KEY."""

    service_accounts: tuple[ShortText, ...] = Field(
        (), max_length=20, description="E-mails of the service accounts whose Google identity tokens are taken."
    )
    audience: ShortText | None = Field(
        None, description="The tokens' audience; the address of the request where it is not set."
    )
    iam: bool = Field(
        False,
        description="Cloud Run's IAM guards `worker` and `sweeper`, functions of their own, in every mode: the tokens "
        "that it let through are taken, whose signature it removes. In the mode `platform` it does so anyway.",
    )


class WebhooksConfig(Model):
    secrets: Annotated[tuple[Annotated[SecretStr, AfterValidator(is_signing_key)], ...], Field(max_length=8)] = Field(
        (),
        description="Keys that sign webhooks (`whsec_` and base64), the newest first; all of them sign, so that a key "
        "can be replaced. Without any, runs with a `webhook` are refused.",
    )
    timeout: Duration = Field(15.0, gt=0, le=120, description="Longest time of one delivery.")
    max_attempts: Integer = Field(
        8, ge=1, le=20, description="Deliveries tried, with growing pauses, until a webhook is given up."
    )


class McpServerConfig(Model):
    command: Path | None = Field(None, description="Program to start; it speaks over standard input and output.")
    args: tuple[str, ...] = Field((), max_length=256, description="Arguments of the program.")
    env: dict[VariableName, str] = Field(
        default_factory=dict,
        max_length=256,
        repr=False,
        description="Variables of the program, besides HOME, LOGNAME, PATH, SHELL, TERM and USER of the server.",
    )
    cwd: Path | None = Field(
        None,
        description="Folder the program works in, and its `args` are seen from, relative to this file. By default the "
        "server's own working directory.",
    )
    url: HttpUrl | None = Field(
        None, description="Address of a server that speaks streamable HTTP (or SSE, as older ones do)."
    )
    headers: dict[HeaderName, HeaderValue] = Field(
        default_factory=dict, max_length=64, repr=False, description="Headers of every request to `url`."
    )
    oauth: McpOAuthConfig | None = Field(None, description="Sign in to `url` by OAuth; `{}` where a person does.")

    @model_validator(mode="after")
    def _one_transport(self) -> Self:
        if self.command is not None and self.url is not None:
            raise wrong_at(("url",), "mcp_server", "stands beside `command`, and a server has one of them: remove one")
        if self.command is None and self.url is None:
            raise PydanticCustomError("mcp_server", "needs `command`, for a program to start, or `url`")
        if self.command is None and (self.args or self.env or self.cwd):
            place = "args" if self.args else "env" if self.env else "cwd"
            raise wrong_at((place,), "mcp_server", "`args`, `env` and `cwd` go with `command`")
        if self.url is None and self.headers:
            raise wrong_at(("headers",), "mcp_server", "`headers` go with `url`")
        if self.oauth is not None and self.url is None:
            message = "goes with `url`; a program gets its credentials by `env`"
            raise wrong_at(("oauth",), "mcp_server", message)
        if self.oauth is not None and any(name.lower() == "authorization" for name in self.headers):
            raise wrong_at(("headers",), "mcp_server", "`oauth` and the header `Authorization` exclude each other")
        return self


def _aliases(value: dict[str, str]) -> dict[str, str]:
    for name in value:
        if cycle := alias_cycle(name, value):
            raise PydanticCustomError(
                "alias_cycle", "the aliases lead in a circle: {cycle}", {"cycle": " -> ".join(cycle)}
            )
    return value


def _empty(value: Any) -> Any:
    """A section whose content is commented out is null in YAML; it means the section's defaults."""
    return {} if value is None else value


class Config(Model):
    """The whole configuration of a server. An empty one is valid."""

    server: Annotated[ServerConfig, BeforeValidator(_empty)] = Field(
        default_factory=ServerConfig, description="The server."
    )
    providers: Annotated[ProvidersConfig, BeforeValidator(_empty)] = Field(
        default_factory=ProvidersConfig, description="The providers of models."
    )
    models: Annotated[dict[ShortText, ShortText], BeforeValidator(_empty), AfterValidator(_aliases)] = Field(
        default_factory=dict,
        max_length=1000,
        description="Your own aliases: a name, and the provider's id it stands for.",
    )
    store: Annotated[StoreConfig, BeforeValidator(_empty)] = Field(
        default_factory=StoreConfig, description="Where state is kept."
    )
    auth: AuthConfig | None = Field(
        None, description="Who may call. Without it: `platform` on Cloud Run, elsewhere `none`, on 127.0.0.1 only."
    )
    allow: Annotated[AllowConfig, BeforeValidator(_empty)] = Field(
        default_factory=AllowConfig, description="What tools and clusters received over HTTP may reach."
    )
    runs: Annotated[RunsConfig, BeforeValidator(_empty)] = Field(
        default_factory=RunsConfig, description="How long runs may take, and how soon they are found again."
    )
    dispatch: Annotated[DispatchConfig, BeforeValidator(_empty)] = Field(
        default_factory=DispatchConfig, description="How a run reaches another invocation."
    )
    internal: Annotated[InternalConfig, BeforeValidator(_empty)] = Field(
        default_factory=InternalConfig, description="Who may call the worker and the sweeper."
    )
    webhooks: Annotated[WebhooksConfig, BeforeValidator(_empty)] = Field(
        default_factory=WebhooksConfig, description="How the end of a run is told to others."
    )
    mcp_servers: Annotated[dict[ShortText, McpServerConfig], BeforeValidator(_empty)] = Field(
        default_factory=dict, max_length=200, description="Servers that `mcp` tools name in `server`."
    )
    python: Annotated[PythonConfig, BeforeValidator(_empty)] = Field(
        default_factory=PythonConfig, description="Where the modules of `python` tools are found."
    )
    tool_functions: Annotated[dict[DnsLabel, ToolFunctionConfig], BeforeValidator(_empty)] = Field(
        default_factory=dict, max_length=20, description="Tool functions that `goagents run` starts beside the server."
    )
    ca_bundle: Path | None = Field(
        None, description="File with the certificates (PEM) of a private CA to trust, relative to this file."
    )

    _unset: dict[str, str] = PrivateAttr(default_factory=dict)

    def unset_reference(self, path: str) -> str | None:
        """Return the reference (`VAR`, `secret:NAME`) that left the field at `path` absent because it is not set."""
        return self._unset.get(path)

    def remember_unset(self, unset: dict[str, str]) -> Self:
        """Return this configuration, knowing which fields are absent because of which reference."""
        self._unset.update(unset)
        return self

    def unset_below(self, path: str) -> dict[str, str]:
        """Return the fields below `path` that are absent for want of a reference, and that reference."""
        return {name: key for name, key in self._unset.items() if name.startswith(f"{path}.")}

    def provider(self, name: str) -> ProviderConfig | ScriptedConfig | None:
        """Return the section of the provider `name`, if there is one."""
        section: ProviderConfig | ScriptedConfig | None = (
            getattr(self.providers, name, None) if name in PROVIDERS else None
        )
        return section
