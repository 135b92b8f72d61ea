"""The `http` tool: any URL, one typed call, or every operation of an OpenAPI document, as tools for a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yarl import URL

from goagents.errors import GoAgentsError, ToolError, ToolFailed, ToolInvalidArguments, ToolUnavailable
from goagents.net.guarded import Lookup, system_lookup
from goagents.spec.references import beyond_origin, references
from goagents.spec.tools import HttpToolSpec
from goagents.tools.base import Tool, ToolContext, ToolDefinition, ToolEnvironment, ToolResult, Toolset
from goagents.tools.http_calls import Call, default_effect, typed_call, url_call
from goagents.tools.http_client import HttpClient, HttpRequest
from goagents.tools.http_openapi import OpenApiSource, operation_calls
from goagents.tools.http_openapi_security import Credentials
from goagents.tools.http_result import MAX_IMAGE, read_limit, render
from goagents.tools.http_url import QueryPairs, build_url
from goagents.tools.naming import safe_name
from goagents.tools.redaction import Redactor, SecretTexts


def build(spec: HttpToolSpec, environment: ToolEnvironment) -> Toolset:
    """Return the toolset of one `type: http` entry. Raises ConfigurationError for an unreadable `allow.addresses`."""
    return HttpToolset(spec, environment)


class HttpToolset:
    """One client, with its kept-alive connections, for all tools of the entry. `lookup` finds a name's addresses."""

    def __init__(self, spec: HttpToolSpec, environment: ToolEnvironment, lookup: Lookup = system_lookup) -> None:
        self._spec = spec
        self._environment = environment
        self._client = HttpClient(
            environment.allowed_addresses, environment.ca_bundle, lookup, environment.allowed_hosts
        )

    async def open(self) -> Sequence[Tool]:
        """Return the tools. Raises ToolUnavailable: an unset variable, a refused address, an unusable document."""
        secrets = _Secrets(self._spec, self._environment)
        try:
            headers = secrets.headers()
            calls = await self._calls(headers, secrets)
        except ToolUnavailable:
            raise
        except GoAgentsError as error:
            raise ToolUnavailable(f"{self._spec.name}: {secrets.redactor().redact(str(error))}") from error
        return [HttpTool(call.definition, call, self._client, secrets) for call in calls]

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _calls(self, headers: Mapping[str, str], secrets: "_Secrets") -> Sequence[Call]:
        spec = self._spec
        if spec.description:
            spec = spec.model_copy(update={"description": self._environment.resolve(spec.description)})
        url = self._base_url(spec.url) if spec.url else None
        if spec.openapi:
            source = OpenApiSource(self._environment.resolve(spec.openapi), url, headers)
            calls, secrets.credentials = await operation_calls(spec, source, self._client)
            secrets.query()  # an unset variable is told now
            secrets.headers()
            return calls
        if url is None:
            raise ToolUnavailable(f"{spec.name}: an http tool needs `url` or `openapi`")
        if spec.parameters is None and spec.method is None:
            methods = spec.methods or ("GET",)
            description = spec.description or f"Calls {spec.url} over HTTP ({', '.join(methods)})."
            common = {**self._common(), "effect": spec.effect or default_effect(methods)}
            return [url_call(safe_name(spec.name), description, url, methods, **common)]
        method = spec.method or "GET"
        description = spec.description or f"{method} {spec.url}"
        common = {**self._common(), "effect": spec.effect or default_effect((method,))}
        return [typed_call(safe_name(spec.name), description, url, method, spec.parameters, **common)]

    def _common(self) -> dict[str, Any]:
        return {"timeout": self._spec.timeout, "max_output": self._spec.max_output}

    def _base_url(self, text: str) -> URL:
        """Return `url` resolved and checked as far as is possible without a look-up."""
        try:
            url = URL(self._environment.resolve(text)).with_fragment(None)
        except ValueError as error:
            raise ToolUnavailable(f"{self._spec.name}: url is no URL") from error
        if url.raw_user is not None or url.raw_password is not None:
            raise ToolUnavailable(f"{self._spec.name}: credentials belong into `headers`, not into the url")
        self._client.check(url)
        return url


@dataclass(frozen=True, slots=True)
class HttpTool:
    definition: ToolDefinition
    request: Call
    client: HttpClient
    secrets: "_Secrets"

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Send one request. Raises ToolError; a status of 400 and above is a result, so that the model can mend it."""
        try:
            declared, query = self.secrets.headers(), self.secrets.query()
        except GoAgentsError as error:
            raise ToolFailed(f"headers: {error}") from error
        redactor = self.secrets.redactor()
        try:
            return await self._send(arguments, context, (declared, query), redactor)
        except ToolError as error:
            clean = redactor.redact(error.detail)
            if clean == error.detail:
                raise
            raise error.saying(clean) from None

    def destination(self, arguments: Mapping[str, Any]) -> str | None:  # noqa: ARG002 - the model has no say in the host
        return self.request.place

    async def _send(
        self,
        arguments: Mapping[str, Any],
        context: ToolContext,
        declared: tuple[Mapping[str, str], QueryPairs],
        redactor: Redactor,
    ) -> ToolResult:
        """`declared` are the headers and the query that the entry adds, where the request is trusted with them."""
        try:
            plan = self.request.plan(arguments)
        except UnicodeError as error:
            raise ToolInvalidArguments("the arguments hold half of a surrogate pair, which is no text") from error
        key = {} if self.definition.effect == "read" else {"Idempotency-Key": context.idempotency_key}
        headers, query = declared if plan.trusted else ({}, [])
        url = build_url(plan.url, plan.url.raw_path, query) if query else plan.url
        request = HttpRequest(plan.method, url, headers, {**plan.headers, **key}, plan.content)
        limit = read_limit(self.definition.max_output, redactor)
        answer = await self.client.send(
            request,
            seconds=self.definition.timeout,
            limit=limit,
            image_limit=MAX_IMAGE,
            may_follow=self.request.may_follow,
        )
        return render(answer, self.definition.max_output, redactor)


class _Secrets:
    """The declared headers, resolved at each use, and what of them (and of the URL) must not be seen.

    `credentials` are what an OpenAPI document makes of `security`, once it is read.
    """

    def __init__(self, spec: HttpToolSpec, environment: ToolEnvironment) -> None:
        self._headers = dict(spec.headers)
        self._resolve = environment.resolve
        self.credentials = Credentials()
        referring = [text for text in (*self._headers.values(), *spec.security.values()) if references(text)]
        found = [reference for text in referring for reference in references(text)]
        found += [*beyond_origin(spec.url or ""), *beyond_origin(spec.openapi or "")]
        self._texts = SecretTexts([*referring, *(reference.text for reference in found)], environment.resolve)

    def headers(self) -> dict[str, str]:
        """Raises ConfigurationError for an unset or forbidden variable."""
        declared = {name: self._resolve(text) for name, text in self._headers.items()}
        return self.credentials.headers(self._resolve) | declared

    def query(self) -> QueryPairs:
        """Raises ConfigurationError as `headers` does."""
        return self.credentials.query(self._resolve)

    def redactor(self) -> Redactor:
        """Return the redactor for the values of this moment."""
        return self._texts.redactor(
            *(
                credential.value(self._texts.resolved).removeprefix(credential.prefix)
                for credential in self.credentials.given
                if credential.is_basic and references(credential.text)
            )
        )
