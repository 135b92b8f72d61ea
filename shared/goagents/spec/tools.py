"""What stands under an agent's `tools:`. One entry is one toolset, told apart by `type`."""

from typing import Annotated, Any, Literal, NoReturn, Self

import jsonschema_rs
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from .calling import CircuitBreakerSpec, RateLimitSpec, RetrySpec
from .plugins import OtherTypes
from .python import PythonTarget
from .schema_growth import check_growth
from .types import Duration, HttpUrl, Integer, Model, ShortText, Size, ToolName, wrong_at
from .websocket import (
    CALL_KEY,
    HANDSHAKE_HEADERS,
    MAX_MESSAGES,
    PLACEHOLDER,
    CorrelationSpec,
    MessageTemplate,
    ReconnectSpec,
    Subprotocol,
    UntilSpec,
    WebsocketUrl,
    placeholders,
)

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
Effect = Literal["read", "idempotent", "unsafe"]
Approval = Literal["never", "unsafe", "always"]
UnknownOutcome = Literal["tell", "wait"]
BUILT_IN = ("http", "mcp", "websocket", "python")
MAX_CACHE_TTL = 30 * 86_400.0
_READING_METHODS = frozenset({"GET", "HEAD"})


def json_schema(value: dict[str, Any]) -> dict[str, Any]:
    """Return `value` if it is a valid JSON Schema; raise ValueError otherwise.

    A schema may refer to itself only: following a reference to elsewhere would let whoever posts a cluster make this
    server fetch URLs and read files.
    """
    try:
        jsonschema_rs.validator_for(value, offline=True)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        raise ValueError(f"is not a valid JSON Schema: {_reason(error)}") from None
    check_growth(value)
    return value


def _reason(error: Exception) -> str:
    text = str(getattr(error, "message", error)).partition("\n")[0]
    if "is not present in a registry" in text:
        return "`$ref` must stay within the schema (`#/…`)"
    return text if len(text) <= 200 else f"{text[:200]}…"


def object_schema(value: dict[str, Any]) -> dict[str, Any]:
    """Return `value` if it is a valid JSON Schema of an object; raise ValueError otherwise."""
    if value.get("type") != "object":
        raise ValueError("must be a JSON Schema of an object: write `type: object` and its `properties`")
    return json_schema(value)


JsonSchema = Annotated[dict[str, Any], AfterValidator(json_schema)]
ObjectSchema = Annotated[dict[str, Any], AfterValidator(object_schema)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[^\r\n\x00]*$", max_length=8192)]


class BaseToolSpec(Model):
    name: ToolName = Field(
        description="Name of the tool, unique in its agent: letters, digits, `_` and `-`, up to 64 characters."
    )
    description: str | None = Field(
        None, max_length=4096, description="What the tool does and when to use it, as the model reads it."
    )
    headers: dict[HeaderName, HeaderValue] = Field(
        default_factory=dict, max_length=64, description="Headers of every request; values may hold `${…}`."
    )
    timeout: Duration = Field(30.0, gt=0, description="Longest time of one call.")
    retries: RetrySpec = Field(
        default_factory=RetrySpec,
        description="Repeats of a call that failed for a passing reason (no connection, no answer in time, HTTP 429 or "
        "5xx): a number, or a mapping. Only of `read` and `idempotent` calls, and of those that were surely not sent.",
    )
    effect: Effect | None = Field(
        None,
        description="What repeating a call does: nothing (`read`), nothing more (`idempotent`), or harm (`unsafe`). "
        "By default GET and HEAD, and what an MCP server says only reads, are `read`; what it says is idempotent is "
        "`idempotent`; everything else is `unsafe`.",
    )
    cache_ttl: Duration | None = Field(
        None,
        gt=0,
        le=MAX_CACHE_TTL,
        description="How long an answer is kept in the store and given again for the same arguments, to whichever run "
        "of the tenant asks. Only of `read` calls.",
    )
    circuit_breaker: CircuitBreakerSpec = Field(
        default_factory=CircuitBreakerSpec,
        description="When a server that fails is left alone, counted for each host in each process.",
    )
    rate_limit: RateLimitSpec | None = Field(
        None, description="How often the tool may be called. Calls wait for their turn within `timeout`."
    )
    frame: bool = Field(
        True,
        description="Mark what the tool returns as data for the model, so that instructions in it are less likely to "
        "be followed.",
    )
    approval: Approval = Field(
        "never",
        description="Which calls a person has to approve: none, those whose effect is `unsafe`, or all. The run waits, "
        "and holds nothing, until `goagents runs approve`.",
    )
    unknown_outcome: UnknownOutcome = Field(
        "tell",
        description="What happens to an `unsafe` call whose process died before its result was recorded: the model is "
        "told that nobody knows whether it took effect (`tell`), or a person decides (`wait`). It is never repeated "
        "by itself.",
    )
    max_output: Size = Field(65_536, description="Longest result given to the model; more is cut, and it is told so.")

    @property
    def known_effect(self) -> Effect | None:
        """The effect of every call as far as the entry alone tells; None where the server tells it."""
        return self.effect

    @model_validator(mode="after")
    def _caches_reads(self) -> Self:
        if self.cache_ttl is not None and self.known_effect not in ("read", None):
            raise wrong_at(
                ("cache_ttl",),
                "cache_ttl",
                f"`cache_ttl` keeps answers of `read` calls only, and this tool's are `{self.known_effect}`: write "
                "`effect: read` if repeating a call changes nothing, or remove `cache_ttl`",
            )
        return self


class HttpToolSpec(BaseToolSpec):
    """An HTTP service: the model's own requests within `url`, one typed call, or the operations of an OpenAPI page."""

    type: Literal["http"] = Field(description="An HTTP service.")
    url: HttpUrl | None = Field(
        None,
        description="Address of the service. Alone, the model chooses method, path below it, query and JSON body. "
        "With `openapi`, it replaces the page's server.",
    )
    methods: tuple[Method, ...] | None = Field(
        None, min_length=1, description="Methods the model may choose from, with `url` alone: GET by default."
    )
    method: Method | None = Field(None, description="Method of the one typed call, with `parameters`.")
    parameters: ObjectSchema | None = Field(
        None, description="JSON Schema of the arguments: makes the tool one typed call, with `method`."
    )
    openapi: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="An OpenAPI page, as a URL or a file (relative to this file): one tool per operation.",
    )
    include: tuple[ShortText, ...] | None = Field(
        None, min_length=1, max_length=256, description="With `openapi`: only these operation ids and tags."
    )
    exclude: tuple[ShortText, ...] = Field(
        (), max_length=256, description="With `openapi`: not these operation ids and tags."
    )
    security: dict[ShortText, HeaderValue] = Field(
        default_factory=dict,
        max_length=16,
        description="With `openapi`: what the page's security schemes ask for, by their names: a key, an access "
        "token, or `USER:PASSWORD` for `basic`; with `${…}`.",
    )

    @field_validator("methods", "method", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        if isinstance(value, str):
            return value.upper()
        if isinstance(value, list | tuple):
            return tuple(item.upper() if isinstance(item, str) else item for item in value)
        return value

    @property
    def known_effect(self) -> Effect | None:
        if self.effect is not None or self.openapi is not None:
            return self.effect
        methods = (self.method,) if self.method is not None else self.methods or ("GET",)
        return "read" if _READING_METHODS.issuperset(methods) else "unsafe"

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.openapi is not None:
            self._refuse("openapi", ("methods", "method", "parameters"))
            return self
        self._refuse(None, ("include", "exclude", "security"), needs="openapi")
        if self.url is None:
            raise PydanticCustomError("http_form", "needs `url`, or `openapi`")
        if (self.parameters is None) != (self.method is None):
            given, absent = ("method", "parameters") if self.parameters is None else ("parameters", "method")
            raise wrong_at((given,), "http_form", f"`{given}` needs `{absent}` beside it: together they are one call")
        if self.parameters is not None:
            self._refuse("parameters", ("methods",))
        return self

    def _refuse(self, beside: str | None, names: tuple[str, ...], needs: str | None = None) -> None:
        for name in names:
            if not getattr(self, name):
                continue
            reason = f"needs `{needs}`" if needs else f"does not go together with `{beside}`"
            raise wrong_at((name,), "http_form", f"`{name}` {reason}")


class McpToolSpec(BaseToolSpec):
    """A server of the Model Context Protocol: its tools, and its resources by one tool more."""

    type: Literal["mcp"] = Field(description="A server of the Model Context Protocol.")
    server: str = Field(
        min_length=1,
        max_length=4096,
        description="A name in `mcp_servers`, an `http(s)://` URL (streamable HTTP), or a command line (stdio).",
    )
    prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{0,48}$")] | None = Field(
        None, description="What the tools' names begin with: by default the entry's name and `_`. `\"\"` for nothing."
    )
    include: tuple[ShortText, ...] | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="Only these tools, by the server's own names; `read_resource` stands for reading its resources.",
    )
    exclude: tuple[ShortText, ...] = Field((), max_length=256, description="Not these tools.")


class WebsocketToolSpec(BaseToolSpec):
    """A WebSocket service: a message and its answer, or the messages that come until a condition holds."""

    type: Literal["websocket"] = Field(description="A WebSocket service.")
    url: WebsocketUrl = Field(description="Address of the service: `wss://…`, or `ws://…`. May hold `${…}`.")
    subprotocols: tuple[Subprotocol, ...] = Field(
        (), max_length=16, description="Subprotocols to offer, the preferred one first; the server has to take one."
    )
    parameters: ObjectSchema | None = Field(
        None, description="JSON Schema of the arguments: by default one text, `message`, where it is sent."
    )
    message: MessageTemplate | None = Field(
        None,
        description="What is sent: a text, or JSON with `{argument}` in its texts. By default the arguments as JSON; "
        "with `mode: collect` and no `parameters`, nothing.",
    )
    mode: Literal["request", "collect"] = Field(
        "request", description="Wait for one answer (`request`), or collect messages `until` a condition holds."
    )
    correlation: CorrelationSpec | None = Field(
        None, description="How answers are told apart. Without it, the next message is the answer."
    )
    until: UntilSpec | None = Field(None, description="With `mode: collect`: when it ends.")
    max_messages: Integer | None = Field(
        None, ge=1, le=MAX_MESSAGES, description="With `mode: collect`: most messages, 100 by default."
    )
    unsubscribe: MessageTemplate | None = Field(
        None, description="With `mode: collect`: sent at its end, written like `message`."
    )
    connection: Literal["shared", "per_call"] | None = Field(
        None,
        description="One connection for all calls, or one for each. By default `shared` with `mode: request`, "
        "`per_call` with `mode: collect`.",
    )
    heartbeat: Duration = Field(
        20.0, le=3600, description="A silent connection is pinged so often, and given up without an answer. 0: never."
    )
    reconnect: ReconnectSpec = Field(default_factory=ReconnectSpec, description="Attempts to set up a connection.")

    @field_validator("headers")
    @classmethod
    def _own_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if name.lower() in HANDSHAKE_HEADERS:
                hint = "; write `subprotocols`" if name.lower() == "sec-websocket-protocol" else ""
                raise wrong_at((name,), "websocket_form", f"{name} belongs to the handshake{hint}")
        return value

    @model_validator(mode="after")
    def _form(self) -> Self:
        collects = self.mode == "collect"
        for name in ("correlation",) if collects else ("until", "max_messages", "unsubscribe"):
            if getattr(self, name) is not None:
                self._wrong(f"`{name}` does not go together with `mode: {self.mode}`", name)
        if collects and self.until is None:
            self._wrong("`mode: collect` needs `until`: when does it end?", "mode")
        if self.until and self.until.count and self.max_messages and self.until.count > self.max_messages:
            self._wrong("`until.count` is more than `max_messages`", "until", "count")
        if collects and self.connection == "shared" and self.sends and self.unsubscribe is None:
            reason = "`connection: shared` needs `unsubscribe`: a subscription would go on into the next call"
            self._wrong(reason, "connection")
        self._check_placeholders()
        if self.correlation is not None:
            self._check_correlation(self.correlation.field)
        return self

    @property
    def known_effect(self) -> Effect | None:
        return self.effect or "unsafe"

    @property
    def sends(self) -> bool:
        """Whether a call begins with a message."""
        return self.mode == "request" or self.message is not None or self.parameters is not None

    @property
    def arguments(self) -> dict[str, Any]:
        """The JSON Schema of the arguments: `parameters`, or what stands in for them."""
        if self.parameters is not None:
            return self.parameters
        asked = self.mode == "request" and (self.message is None or "message" in placeholders(self.message))
        text: dict[str, Any] = {"message": {"type": "string", "description": "What is sent."}} if asked else {}
        return {"type": "object", "properties": text, "required": list(text), "additionalProperties": False}

    def _check_placeholders(self) -> None:
        properties = self.arguments.get("properties")
        known = {CALL_KEY, *(properties if isinstance(properties, dict) else ())}
        for name in ("message", "unsubscribe"):
            for found in placeholders(getattr(self, name)):
                if found not in known:
                    self._wrong(f"`{{{found}}}` in `{name}` is no property of the tool's `parameters`", name)

    def _check_correlation(self, path: str) -> None:
        place = ("correlation", "field")
        if self.message is None:
            if path.partition(".")[0] in self.arguments.get("properties", {}):
                self._wrong("the `correlation.field` is filled in for each call; remove it from `parameters`", *place)
            return
        value = self.message
        if not isinstance(value, dict):
            self._wrong("`correlation` needs a `message` that is an object", "message")
        for key in path.split("."):
            if isinstance(value, str) and PLACEHOLDER.fullmatch(value):
                return  # an argument that may be an object
            if not isinstance(value, dict):
                self._wrong("`correlation.field` leads through something that is no object in `message`", *place)
            if key not in value:
                return
            value = value[key]
        self._wrong("the `correlation.field` is filled in for each call; remove it from `message`", "message")

    def _wrong(self, reason: str, *location: str) -> NoReturn:
        raise wrong_at(location, "websocket_form", reason)


class PythonToolSpec(BaseToolSpec):
    """A function of a Python package, called in the server's own process."""

    type: Literal["python"] = Field(description="A Python function.")
    target: PythonTarget = Field(
        description="`module:function`, or the name of an entry point in the group `goagents.tools`. In a cluster "
        "received over HTTP, one that the server's `allow.python` names."
    )
    threads: Integer = Field(
        8, ge=1, le=64, description="Most calls of a function that is not async at the same time; more wait."
    )

    @field_validator("headers")
    @classmethod
    def _no_headers(cls, value: dict[str, str]) -> dict[str, str]:
        if value:
            raise PydanticCustomError("python_form", "a function takes no headers; remove them")
        return value


class AbsentToolSpec(BaseToolSpec):
    """A tool whose type is not known here: its package is not installed any more, or nobody allowed it."""

    model_config = ConfigDict(extra="allow")
    type: ShortText


ToolSpec = Annotated[
    HttpToolSpec | McpToolSpec | WebsocketToolSpec | PythonToolSpec,
    Field(discriminator="type"),
    OtherTypes(BUILT_IN, BaseToolSpec, AbsentToolSpec),
]
