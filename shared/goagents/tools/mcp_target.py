"""What `server:` of an `mcp` entry means: a program to start, or a URL to call. Nothing is started or called here."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from yarl import URL

from goagents.errors import ToolUnavailable
from goagents.net.guarded import place_of
from goagents.spec.config import McpServerConfig
from goagents.spec.mcp_oauth import McpOAuthConfig
from goagents.spec.models import nearest
from goagents.spec.references import references
from goagents.spec.tools import McpToolSpec
from goagents.tools.base import ToolEnvironment
from goagents.tools.redaction import Redactor, SecretTexts

# What the protocol itself says in each request: an entry of the YAML has no say in it.
_PROTOCOL_HEADERS = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection", "accept"})
_PROTOCOL_PREFIX = "mcp-"
_MAX_NAMED = 10


@dataclass(frozen=True, slots=True)
class Program:
    """A server over standard input and output. `env` may hold secrets. `hint` is what else its name may have meant."""

    command: str
    args: tuple[str, ...] = field(default=(), repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    hint: str = field(default="", compare=False)

    @property
    def place(self) -> str:
        return self.command


@dataclass(frozen=True, slots=True)
class Site:
    """A server over HTTP. `allowed` are the addresses that the guard lets pass for it; `headers` resolves the headers
    for one request, and raises ConfigurationError. `oauth` is how it is signed in to, `name` its entry's."""

    url: URL = field(repr=False)
    allowed: tuple[str, ...]
    headers: Callable[[], dict[str, str]] = field(repr=False)
    oauth: McpOAuthConfig | None = None
    name: str = ""

    @property
    def place(self) -> str:
        return self.url.raw_host or ""


Target = Program | Site


def find_target(spec: McpToolSpec, environment: ToolEnvironment) -> Target:
    """Return what `server` leads to. Raises ToolUnavailable, and ConfigurationError for an unset variable.

    What the configuration defines by name may be a program or on a private network; what an entry itself says may be
    a program only in a trusted cluster, and passes the address guard as it is.
    """
    configured = environment.mcp_servers.get(spec.server)
    if configured is not None:
        return _configured(spec, configured, environment)
    text = environment.resolve(spec.server) if "${" in spec.server else spec.server
    if text.startswith(("http://", "https://")):
        headers = _checked(spec, spec.headers)
        return Site(_url(spec, text), environment.allowed_addresses, lambda: _resolved(headers, environment))
    if not environment.trusted:
        raise ToolUnavailable(
            f"{spec.name}: {spec.server!r} is no entry of the server's `mcp_servers:`, and a cluster received over "
            "HTTP starts no command"
        )
    return _command_line(spec, environment)


def _configured(spec: McpToolSpec, server: McpServerConfig, environment: ToolEnvironment) -> Target:
    if server.command is not None:
        _no_headers(spec)
        return Program(server.command, server.args, server.env, server.cwd)
    own, given = _checked(spec, server.headers), _checked(spec, spec.headers)
    if server.oauth is not None and any(name.lower() == "authorization" for name in given):
        raise ToolUnavailable(f"{spec.name}: headers: Authorization is what `oauth` of {spec.server!r} sends")
    taken = {name.lower() for name in given}
    kept = {name: value for name, value in own.items() if name.lower() not in taken}  # resolved with the configuration
    url = _url(spec, server.url or "")
    # Whoever wrote a URL into the server's configuration meant this very host, be it a private one.
    issuer = URL(server.oauth.issuer) if server.oauth is not None and server.oauth.issuer is not None else None
    meant = tuple(place for place in (place_of(url), place_of(issuer) if issuer is not None else None) if place)
    allowed = (*environment.allowed_addresses, *meant)
    return Site(url, allowed, lambda: {**kept, **_resolved(given, environment)}, server.oauth, spec.server)


def _command_line(spec: McpToolSpec, environment: ToolEnvironment) -> Program:
    _no_headers(spec)
    try:
        words = shlex.split(spec.server)
    except ValueError as error:
        raise ToolUnavailable(f"{spec.name}: server: the command line cannot be read: {error}") from error
    resolved = [environment.resolve(word) for word in words]  # after splitting: a value stays one argument
    if not resolved or not resolved[0]:
        raise ToolUnavailable(f"{spec.name}: server: names no program")
    return Program(resolved[0], tuple(resolved[1:]), hint=_hint(resolved, environment.mcp_servers))


def _hint(words: Sequence[str], servers: Mapping[str, McpServerConfig]) -> str:
    """A single word is more likely a name of `mcp_servers`, misspelt."""
    if len(words) > 1 or "/" in words[0]:
        return ""
    guess = nearest(words[0], servers)
    known = ", ".join(sorted(servers)[:_MAX_NAMED])
    there = f"did you mean {guess!r}?" if guess else f"it has {known}" if known else "it is empty"
    return f"; nor has `mcp_servers` such a name: {there}"


def _url(spec: McpToolSpec, text: str) -> URL:
    try:
        url = URL(text).with_fragment(None)
    except ValueError as error:
        raise ToolUnavailable(f"{spec.name}: server: is no URL") from error
    if not url.raw_host:
        raise ToolUnavailable(f"{spec.name}: server: the URL names no host")
    if url.raw_user is not None or url.raw_password is not None:
        raise ToolUnavailable(f"{spec.name}: credentials belong into `headers`, not into the URL")
    return url


def _no_headers(spec: McpToolSpec) -> None:
    if spec.headers:
        raise ToolUnavailable(f"{spec.name}: `headers` go with a URL; a program gets `env` in `mcp_servers:`")


def _checked(spec: McpToolSpec, headers: Mapping[str, str]) -> Mapping[str, str]:
    for name in headers:
        if name.lower() in _PROTOCOL_HEADERS or name.lower().startswith(_PROTOCOL_PREFIX):
            raise ToolUnavailable(f"{spec.name}: headers: {name} is the protocol's own and cannot be set")
    return headers


def _resolved(headers: Mapping[str, str], environment: ToolEnvironment) -> dict[str, str]:
    return {name: environment.resolve(value) for name, value in headers.items()}


class Secrets:
    """The values that must not be seen: of headers, of references in `server`, of a program's variables."""

    def __init__(self, spec: McpToolSpec, environment: ToolEnvironment) -> None:
        server = environment.mcp_servers.get(spec.server)
        self._fixed = tuple(server.headers.values() if server is not None else ())
        self._variables = tuple(server.env.values() if server is not None else ())
        referring = [text for text in spec.headers.values() if references(text)]
        texts = referring if server is not None else [*referring, spec.server]
        found = [reference.text for text in texts for reference in references(text)]
        self._shown = SecretTexts([*referring, *found], environment.resolve)
        self._logged = SecretTexts([*referring, *found], environment.resolve)

    def shown(self, *tokens: str) -> Redactor:
        """Return the redactor of results. A program's variable may be as plain as a folder's name: it stays."""
        return self._shown.redactor(*self._fixed, *tokens)

    def logged(self, *tokens: str) -> Redactor:
        """Return the redactor of the log, which needs no program's variables either."""
        return self._logged.redactor(*self._fixed, *self._variables, *tokens)
