"""Clusters: applied, listed, scaled, deleted, and what their agents did."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from goagents.engine import clusters, logs
from goagents.errors import FieldError, Invalid
from goagents.resources import ClusterApplied, LogEntry, ScaleRequest
from goagents.spec.cluster import AgentCluster
from goagents.spec.interpolation import check_untrusted
from goagents.spec.load import parse_cluster

from . import params
from .body import media_type, read, read_model
from .calls import session_of
from .responses import no_content, resource
from .sse import EventStream, encode


async def list_clusters(request: Request) -> Response:
    found = await clusters.list_clusters(*session_of(request), params.namespace(request), **params.page(request))
    return resource(found)


async def create_cluster(request: Request) -> Response:
    manifest = await _manifest(request)
    dry_run = params.flag(request, "dry_run")
    applied = await clusters.apply(*session_of(request), manifest, mode="create", dry_run=dry_run)
    return _applied(applied, dry_run=dry_run)


async def replace_cluster(request: Request) -> Response:
    """Create the cluster or replace it; its name and namespace are those of the path."""
    name, namespace = params.cluster_name(request), params.namespace(request)
    dry_run = params.flag(request, "dry_run")
    manifest = await _manifest(request)
    named = (
        ("metadata.name", name, manifest.metadata.name),
        ("metadata.namespace", namespace, manifest.metadata.namespace),
    )
    errors = [
        FieldError(path, f"is {given!r}, and the request is for {wanted!r}")
        for path, wanted, given in named
        if given != wanted
    ]
    if errors:
        raise Invalid("The manifest is of another cluster.", errors=errors)
    return _applied(await clusters.apply(*session_of(request), manifest, dry_run=dry_run), dry_run=dry_run)


async def get_cluster(request: Request) -> Response:
    name, namespace = params.cluster_name(request), params.namespace(request)
    return resource(await clusters.get_cluster(*session_of(request), namespace, name))


async def delete_cluster(request: Request) -> Response:
    name, namespace = params.cluster_name(request), params.namespace(request)
    await clusters.delete_cluster(*session_of(request), namespace, name)
    return no_content()


async def scale_cluster(request: Request) -> Response:
    name, namespace = params.cluster_name(request), params.namespace(request)
    wanted = await read_model(request, ScaleRequest)
    return resource(await clusters.scale(*session_of(request), namespace, name, wanted.agent, wanted.instances))


async def get_logs(request: Request) -> ASGIApp:
    """What the cluster's agents did; with `follow=true` what they do from now on, as server-sent events."""
    name, namespace = params.cluster_name(request), params.namespace(request)
    agent = params.label(request, "agent")
    page = params.page(request)
    services, principal = session_of(request)
    if params.flag(request, "follow") and request.method == "GET":
        entries = logs.follow_logs(services, principal, namespace, name, agent)
        return EventStream(entries, _log_event, longest=services.config.server.timeout)
    return resource(await logs.list_logs(services, principal, namespace, name, **page, agent=agent))


def _log_event(entry: LogEntry) -> bytes:
    return encode("log", entry)


async def _manifest(request: Request) -> AgentCluster:
    """Return the cluster in the body, checked as one that nobody trusts."""
    kind = media_type(request, yaml=True)
    body = await read(request)
    services, _ = session_of(request)
    manifest = parse_cluster(body, kind, services.config.allow.tool_types)
    errors = check_untrusted(manifest, services.config)
    if errors:
        raise Invalid("A cluster received over HTTP may not do this.", errors=errors)
    return manifest


def _applied(applied: ClusterApplied, *, dry_run: bool) -> Response:
    if applied.outcome != "created" or dry_run:
        return resource(applied)
    cluster = applied.cluster
    scope = "" if cluster.namespace == "default" else f"?namespace={cluster.namespace}"
    return resource(applied, 201, {"Location": f"/api/v1/clusters/{cluster.name}{scope}"})


routes = [
    Route("/api/v1/clusters", list_clusters),
    Route("/api/v1/clusters", create_cluster, methods=["POST"]),
    Route("/api/v1/clusters/{name}", get_cluster),
    Route("/api/v1/clusters/{name}", replace_cluster, methods=["PUT"]),
    Route("/api/v1/clusters/{name}", delete_cluster, methods=["DELETE"]),
    Route("/api/v1/clusters/{name}/scale", scale_cluster, methods=["POST"]),
    Route("/api/v1/clusters/{name}/logs", get_logs),
]
