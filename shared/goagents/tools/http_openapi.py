"""An OpenAPI document as tools: one call for each of its operations."""

import asyncio
import difflib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yarl import URL

from goagents.errors import AddressRefused, ToolUnavailable
from goagents.spec.tools import HttpToolSpec
from goagents.tools.base import ToolDefinition
from goagents.tools.http_calls import Call, default_effect
from goagents.tools.http_client import HttpClient, HttpRequest
from goagents.tools.http_openapi_call import OpenApiCall, Operation
from goagents.tools.http_openapi_document import MAX_BYTES, Document, Unsupported, mapping, parse, strings
from goagents.tools.http_openapi_operation import Fixed, Place, read_operation
from goagents.tools.http_openapi_security import Credentials, Requirements, read_credentials
from goagents.tools.naming import unique_names

_log = logging.getLogger(__name__)
_MAX_TOOLS = 128  # what the providers take
_MAX_DESCRIPTION = 1024
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class OpenApiSource:
    """`location` is a file or an http(s) URL; `base_url` replaces the document's server; `headers` are resolved."""

    location: str
    base_url: URL | None
    headers: Mapping[str, str]

    @property
    def url(self) -> URL | None:
        return URL(self.location) if self.location.lower().startswith(("http://", "https://")) else None

    async def read(self, client: HttpClient, seconds: float) -> bytes:
        """Return the document's bytes. Raises ToolError where it cannot be had, or is larger than MAX_BYTES."""
        if self.url is None:
            return await asyncio.to_thread(self._read_file)
        # The headers are the API's: a document kept elsewhere is fetched without them.
        own = self.base_url is not None and self.base_url.origin() == self.url.origin()
        request = HttpRequest("GET", self.url, self.headers if own else {}, {"Accept": "application/json, */*;q=0.8"})
        answer = await client.send(
            request, seconds=seconds, limit=MAX_BYTES, image_limit=0, may_follow=lambda _target: None
        )
        if answer.status != 200:
            raise ToolUnavailable(f"openapi: {self.url.raw_host} answered {answer.status} instead of the document")
        if answer.body.cut:
            raise ToolUnavailable(f"openapi: the document is larger than {MAX_BYTES >> 20} MiB")
        return answer.body.content

    def _read_file(self) -> bytes:
        try:
            with Path(self.location).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise ToolUnavailable(f"openapi: cannot read {self.location}: {error.strerror}") from error
        if len(content) > MAX_BYTES:
            raise ToolUnavailable(f"openapi: {self.location} is larger than {MAX_BYTES >> 20} MiB")
        return content


async def operation_calls(
    spec: HttpToolSpec, source: OpenApiSource, client: HttpClient
) -> tuple[Sequence[Call], Credentials]:
    """Return one call for each operation that `include` and `exclude` leave, and where `security` goes.

    Raises ToolError where no operation remains, or `security` does not fit the document.
    """
    content = await source.read(client, spec.timeout)
    try:  # in a thread: a large document takes seconds, and other runs share this loop
        return await asyncio.to_thread(_calls, spec, source, content, client.check)
    except Unsupported as error:
        raise ToolUnavailable(f"openapi: {error}") from error


def _calls(
    spec: HttpToolSpec, source: OpenApiSource, content: bytes, check: Callable[[URL], None]
) -> tuple[list[OpenApiCall], Credentials]:
    document = parse(content)
    credentials = read_credentials(document, spec.security)
    reading = _Operations(spec, source, document, credentials, check)
    operations, left_out = reading.read()
    for remedy in reading.requirements.remedies():
        _log.warning("tool %s: %s", spec.name, remedy)
    for name, reason in left_out:
        _log.warning("tool %s: the operation %s is left out: %s", spec.name, name, reason)
    if not operations:
        named = "; ".join(f"{name}: {reason}" for name, reason in left_out[:_MAX_NAMED])
        raise Unsupported(f"no operation remains ({named or 'none is there, or include and exclude leave none'})")
    if len(operations) > _MAX_TOOLS:
        raise Unsupported(f"it has {len(operations)} operations; choose at most {_MAX_TOOLS} with `include`")
    names = unique_names(f"{spec.name}_{operation.name}" for operation in operations)
    calls = [
        OpenApiCall(_definition(spec, name, operation), operation)
        for name, operation in zip(names, operations, strict=True)
    ]
    return calls, credentials


def _definition(spec: HttpToolSpec, name: str, operation: Operation) -> ToolDefinition:
    description = f"{spec.description}\n{operation.description}" if spec.description else operation.description
    return ToolDefinition(
        name,
        description[:_MAX_DESCRIPTION],
        operation.schema,
        effect=spec.effect or operation.effect or default_effect((operation.method,)),
        timeout=spec.timeout,
        max_output=spec.max_output,
    )


class _Operations:
    """The operations of one document, filtered, each with the server it belongs to."""

    def __init__(
        self,
        spec: HttpToolSpec,
        source: OpenApiSource,
        document: Document,
        credentials: Credentials,
        check: Callable[[URL], None],
    ) -> None:
        self._spec = spec
        self._source = source
        self._document = document
        self._check = check
        base = source.base_url
        query = frozenset(base.query) if base is not None else frozenset()
        headers = frozenset(name.lower() for name in spec.headers)
        self._fixed = Fixed(query | credentials.names("query"), headers | credentials.names("header"))
        self.requirements = Requirements(document, headers, query, spec.security)

    def read(self) -> tuple[list[Operation], list[tuple[str, str]]]:
        """Return the usable operations, and name and reason of those left out."""
        known: set[str] = set()
        operations, left_out = [], []
        for method, path, node, item in self._document.operations():
            given = node.get("operationId")
            name = given if isinstance(given, str) and given else f"{method.lower()} {path}"
            labels = {name, *strings(node.get("tags"))}
            known |= labels
            if not self._chosen(labels):
                continue
            try:
                server, trusted = self._server(node, item)
                place = Place(name, method, path, server, trusted)
                operation = read_operation(self._document, place, node, item, self._fixed)
                self.requirements.check(node)
                operations.append(operation)
            except (Unsupported, AddressRefused) as error:
                left_out.append((name, str(error)))
        self._warn_of_unknown(known)
        return operations, left_out

    def _chosen(self, labels: set[str]) -> bool:
        included = self._spec.include is None or not labels.isdisjoint(self._spec.include)
        return included and labels.isdisjoint(self._spec.exclude)

    def _warn_of_unknown(self, known: set[str]) -> None:
        for label in (*(self._spec.include or ()), *self._spec.exclude):
            if label in known:
                continue
            nearest = difflib.get_close_matches(label, known, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            _log.warning("tool %s: the document has no operation or tag %r%s", self._spec.name, label, hint)

    def _server(self, node: dict[str, Any], item: dict[str, Any]) -> tuple[URL, bool]:
        """Return the operation's server, and whether it is the one the declared headers are for."""
        if self._source.base_url is not None:
            return self._source.base_url, True
        home = self._server_url(self._document.root)
        own = next((owner for owner in (node, item) if _first_server(owner)), self._document.root)
        server = self._server_url(own)
        self._check(server)
        document = self._source.url
        has_secrets = self._spec.headers or self._spec.security
        if has_secrets and document is not None and document.scheme == "https" and server.scheme == "http":
            raise Unsupported("its server is plain http, where the headers could be read; set `url` to the https one")
        return server, server.origin() == home.origin()

    def _server_url(self, owner: Mapping[str, Any]) -> URL:
        server = _first_server(owner)
        template = server.get("url") if isinstance(server.get("url"), str) else "/"
        text = re.sub(r"\{([^{}]*)\}", lambda match: _variable(server, match[1]), template or "/")
        try:
            url = URL(text) if self._source.url is None else self._source.url.with_query(None).join(URL(text))
        except ValueError:
            raise Unsupported("its server is no URL; set `url`") from None
        if not url.absolute or url.scheme not in ("http", "https"):
            raise Unsupported("it names no server that can be called; set `url`")
        if url.raw_user is not None or url.raw_password is not None:
            raise Unsupported("its server's URL carries credentials; set `url` and `headers`")
        return url.with_fragment(None)


def _first_server(owner: Mapping[str, Any]) -> Mapping[str, Any]:
    servers = owner.get("servers")
    return mapping(servers[0]) if isinstance(servers, list) and servers else {}


def _variable(server: Mapping[str, Any], name: str) -> str:
    default = mapping(mapping(server.get("variables")).get(name)).get("default")
    if not isinstance(default, str | int):
        raise Unsupported(f"its server's variable `{name}` has no default; set `url`")
    return str(default)
