"""What each of Google's interfaces answers, in as far as gcloud cares."""

import base64
import io
import json
import re
import zipfile
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from tests.support.google_api_state import (
    NUMBER,
    PROJECT,
    REGION,
    Answer,
    Cloud,
    Request,
    Route,
    done,
    error,
    identity_token,
)

WHERE = f"projects/{PROJECT}/locations/{REGION}"
RUNTIME = {"name": "python311", "displayName": "Python 3.11", "stage": "GA", "environment": "GEN_2", "warnings": []}
ROUTES: list[tuple[str, Route]] = []
_RUN = "/apis/serving.knative.dev/v1"


def route(pattern: str) -> Callable[[Route], Route]:
    """Have a function answer `METHOD service /path`; its arguments are cloud, request and the pattern's groups."""

    def register(function: Route) -> Route:
        ROUTES.append((pattern, function))
        return function

    return register


@route(r"POST oauth2 /token")
def token(cloud: Cloud, request: Request) -> Answer:
    """The exchange of a service account's signed assertion for an access token, or for an identity token."""
    form = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
    payload = form["assertion"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    if audience := claims.get("target_audience"):
        made = identity_token(claims["iss"], audience, len(cloud.tokens))
        cloud.tokens[made] = {"email": claims["iss"], "aud": audience}
        return 200, {"id_token": made}
    return 200, {"access_token": "an-access-token", "expires_in": 3600, "token_type": "Bearer"}


@route(r"POST iamcredentials /v1/projects/[^/]+/serviceAccounts/([^/:]+):generateIdToken")
def impersonated(cloud: Cloud, request: Request, email: str) -> Answer:
    made = identity_token(email, request.body["audience"], len(cloud.tokens))
    cloud.tokens[made] = {"email": email, "aud": request.body["audience"]}
    return 200, {"token": made}


@route(r"POST iamcredentials /v1/projects/[^/]+/serviceAccounts/[^/:]+:generateAccessToken")
def impersonating(cloud: Cloud, request: Request) -> Answer:
    return 200, {"accessToken": "another-access-token", "expireTime": "2100-01-01T00:00:00Z"}


# Any resource has a policy: `POST secretmanager /v1/projects/p/secrets/s:getIamPolicy`.
@route(r"(?:GET|POST) (\w+) /v\w+/([^:]+):getIamPolicy")
def get_policy(cloud: Cloud, request: Request, service: str, name: str) -> Answer:
    return 200, cloud.policies.get(f"{service}/{name}", {"version": 1, "etag": "BwX=", "bindings": []})


@route(r"POST (\w+) /v\w+/([^:]+):setIamPolicy")
def set_policy(cloud: Cloud, request: Request, service: str, name: str) -> Answer:
    policy = request.body["policy"]
    cloud.policies[f"{service}/{name}"] = policy
    return 200, policy


@route(r"(?:GET|POST) \w+ /v\w+/([^:]+):testIamPermissions")
def permissions(cloud: Cloud, request: Request, name: str) -> Answer:
    return 200, {"permissions": (request.body or {}).get("permissions", [])}


@route(r"GET cloudresourcemanager /v1/projects/([^/:]+)")
def project(cloud: Cloud, request: Request, name: str) -> Answer:
    if name not in (PROJECT, NUMBER):
        return error(403, "The caller does not have permission")
    return 200, {"projectId": PROJECT, "projectNumber": NUMBER, "name": PROJECT, "lifecycleState": "ACTIVE"}


@route(r"GET serviceusage /v1/projects/[^/]+/services")
def services(cloud: Cloud, request: Request) -> Answer:
    return 200, {"services": cloud.below("serviceusage", "services")}


@route(r"GET serviceusage /v1/projects/([^/]+)/services/([^/]+)")
def service(cloud: Cloud, request: Request, name: str, api: str) -> Answer:
    state = "ENABLED" if f"serviceusage/services/{api}" in cloud.resources else "DISABLED"
    return 200, {"name": f"projects/{name}/services/{api}", "state": state, "config": {"name": api}}


@route(r"POST serviceusage /v1/projects/([^/]+)/services(?::batchEnable|/([^/]+):enable)")
def enable(cloud: Cloud, request: Request, name: str, one: str | None) -> Answer:
    for api in [one] if one else request.body["serviceIds"]:
        entry = {"name": f"projects/{name}/services/{api}", "state": "ENABLED", "config": {"name": api}}
        cloud.put(f"serviceusage/services/{api}", entry)
    return done("operations/acat.enabled")


@route(r"GET serviceusage /v1/(operations/.*)")
def enabled(cloud: Cloud, request: Request, name: str) -> Answer:
    return done(name)


@route(r"GET iam /v1/projects/([^/]+)/serviceAccounts")
def accounts(cloud: Cloud, request: Request, name: str) -> Answer:
    return 200, {"accounts": cloud.below("iam", f"projects/{name}/serviceAccounts")}


@route(r"POST iam /v1/projects/([^/]+)/serviceAccounts")
def make_account(cloud: Cloud, request: Request, name: str) -> Answer:
    email = f"{request.body['accountId']}@{name}.iam.gserviceaccount.com"
    path = f"projects/{name}/serviceAccounts/{email}"
    if f"iam/{path}" in cloud.resources:
        return error(409, f"Service account {email} already exists")
    return 200, cloud.put(f"iam/{path}", {"name": path, "email": email, "projectId": name})


@route(r"GET secretmanager /v1/(projects/[^/]+/secrets)")
def secrets(cloud: Cloud, request: Request, parent: str) -> Answer:
    return 200, {"secrets": cloud.below("secretmanager", parent)}


@route(r"GET firestore /v1/projects/([^/]+)/databases")
def databases(cloud: Cloud, request: Request, name: str) -> Answer:
    return 200, {"databases": cloud.below("firestore", f"projects/{name}/databases")}


@route(r"POST firestore /v1/(projects/[^/]+/databases)")
def make_database(cloud: Cloud, request: Request, parent: str) -> Answer:
    name = f"{parent}/{request.query['databaseId']}"
    return done(f"{name}/operations/1", cloud.put(f"firestore/{name}", {**request.body, "name": name}))


@route(r"PATCH firestore /v1/(projects/[^/]+/databases/[^/]+)")
def change_database(cloud: Cloud, request: Request, name: str) -> Answer:
    cloud.resources[f"firestore/{name}"] |= request.body
    return done(f"{name}/operations/2", cloud.resources[f"firestore/{name}"])


@route(r"GET firestore /v1/(projects/[^/]+/databases/[^/]+)/collectionGroups/-/(indexes|fields)")
def indexes(cloud: Cloud, request: Request, database: str, kind: str) -> Answer:
    begin, wanted = f"firestore/{database}/collectionGroups/", request.query.get("filter", "")
    found = [v for k, v in cloud.resources.items() if k.startswith(begin) and f"/{kind}/" in k]
    if "ttlConfig" in wanted:
        found = [each for each in found if "ttlConfig" in each]
    elif "usesAncestorConfig" in wanted:
        found = [each for each in found if "indexConfig" in each]
    return 200, {kind: found}


@route(r"POST firestore /v1/(projects/[^/]+/databases/[^/]+/collectionGroups/[^/]+)/indexes")
def make_index(cloud: Cloud, request: Request, group: str) -> Answer:
    name = f"{group}/indexes/{len(cloud.resources)}"
    fields = [*request.body["fields"], {"fieldPath": "__name__", "order": request.body["fields"][-1]["order"]}]
    cloud.put(f"firestore/{name}", {**request.body, "name": name, "fields": fields, "state": "READY"})
    return 200, {"name": f"{group.partition('/collectionGroups')[0]}/operations/3", "metadata": {"index": name}}


@route(r"PATCH firestore /v1/(projects/[^/]+/databases/[^/]+)(/collectionGroups/[^/]+/fields/[^/]+)")
def change_field(cloud: Cloud, request: Request, database: str, field: str) -> Answer:
    key, mask = f"firestore/{database}{field}", request.query.get("updateMask", "")
    value = cloud.resources.get(key) or cloud.put(key, {"name": f"{database}{field}"})
    name = "ttlConfig" if "ttl" in mask else "indexConfig"
    value[name] = (request.body or {}).get(name, {})
    return 200, {"name": f"{database}/operations/4"}


# Queues and jobs are plain resources: made, listed, changed and deleted at their paths.
@route(r"GET (cloudtasks|cloudscheduler) /\w+/(projects/[^/]+/locations/[^/]+/(queues|jobs))")
def plain_list(cloud: Cloud, request: Request, service: str, parent: str, kind: str) -> Answer:
    return 200, {kind: cloud.below(service, parent)}


@route(r"POST (cloudtasks|cloudscheduler) /\w+/projects/[^/]+/locations/[^/]+/(?:queues|jobs)")
def plain_make(cloud: Cloud, request: Request, service: str) -> Answer:
    if request.body["name"] in cloud.barred:
        return error(400, "The queue cannot be created because a queue with this name existed too recently.")
    return 200, cloud.put(f"{service}/{request.body['name']}", {**request.body, "state": "RUNNING"})


@route(r"PATCH (cloudtasks|cloudscheduler) /\w+/(projects/[^/]+/locations/[^/]+/(?:queues|jobs)/[^/]+)")
def plain_change(cloud: Cloud, request: Request, service: str, name: str) -> Answer:
    if f"{service}/{name}" not in cloud.resources:
        return error(404, f"{name} not found")
    cloud.resources[f"{service}/{name}"] |= request.body
    return 200, cloud.resources[f"{service}/{name}"]


@route(r"GET cloudtasks /\w+/(projects/[^/]+/locations/[^/]+/queues/[^/]+)")
def queue(cloud: Cloud, request: Request, name: str) -> Answer:
    return cloud.found("cloudtasks", name)


@route(r"POST cloudtasks /\w+/(projects/[^/]+/locations/[^/]+/queues/[^/]+):(pause|resume|purge)")
def change_queue(cloud: Cloud, request: Request, name: str, verb: str) -> Answer:
    found = cloud.resources[f"cloudtasks/{name}"]
    found |= {"pause": {"state": "PAUSED"}, "resume": {"state": "RUNNING"}, "purge": {"purgeTime": "2026-01-01"}}[verb]
    return 200, found


@route(r"GET (cloudtasks|cloudscheduler) /\w+/(projects/[^/]+/locations/[^/]+)")
def plain_location(cloud: Cloud, request: Request, service: str, name: str) -> Answer:
    return 200, {"name": name, "locationId": name.rpartition("/")[2]}


@route(r"GET cloudfunctions /v2/projects/[^/]+/locations/[^/]+/runtimes")
def runtimes(cloud: Cloud, request: Request) -> Answer:
    return 200, {"runtimes": [RUNTIME]}


@route(r"POST cloudfunctions /v2/projects/[^/]+/locations/[^/]+/functions:generateUploadUrl")
def upload_url(cloud: Cloud, request: Request) -> Answer:
    url = "https://storage.googleapis.com/gcf-v2-uploads/source.zip?signature=1"
    return 200, {"uploadUrl": url, "storageSource": {"bucket": "gcf-v2-uploads", "object": "source.zip"}}


@route(r"PUT storage /gcf-v2-uploads/source\.zip")
def upload(cloud: Cloud, request: Request) -> Answer:
    cloud.uploads.append(request.content)
    return 200, {}


def uploaded(cloud: Cloud) -> list[str]:
    """The names in the source that was uploaded last."""
    with zipfile.ZipFile(io.BytesIO(cloud.uploads[-1])) as archive:
        return archive.namelist()


@route(r"GET cloudfunctions /v2/(projects/[^/]+/locations/[^/]+/functions)")
def functions(cloud: Cloud, request: Request, parent: str) -> Answer:
    return 200, {"functions": cloud.below("cloudfunctions", parent)}


@route(r"GET cloudfunctions /v2/(projects/[^/]+/locations/[^/]+/functions/[^/]+)")
def function(cloud: Cloud, request: Request, name: str) -> Answer:
    return cloud.found("cloudfunctions", name)


@route(r"POST cloudfunctions /v2/(projects/[^/]+/locations/[^/]+)/functions")
def make_function(cloud: Cloud, request: Request, where: str) -> Answer:
    name = request.query["functionId"]
    made = {**request.body, "name": f"{where}/functions/{name}", "state": "ACTIVE", "environment": "GEN_2"}
    made["updateTime"] = "2026-01-01T00:00:00Z"
    made["serviceConfig"] = {
        **request.body.get("serviceConfig", {}),
        "service": f"{where}/services/{name}",
        "uri": f"https://{name}-{NUMBER}.{REGION}.run.app",
    }
    cloud.put(f"cloudfunctions/{made['name']}", made)
    variables = made["serviceConfig"].get("environmentVariables", {})
    container = {"image": "an-image", "env": [{"name": key, "value": value} for key, value in variables.items()]}
    metadata = {"name": name, "labels": {"goog-managed-by": "cloudfunctions"}}
    knative(cloud, name, {"metadata": metadata, "spec": {"template": {"spec": {"containers": [container]}}}})
    return _operation(where, "CREATE_FUNCTION", made)


@route(r"PATCH cloudfunctions /v2/((projects/[^/]+/locations/[^/]+)/functions/[^/]+)")
def change_function(cloud: Cloud, request: Request, name: str, where: str) -> Answer:
    found = cloud.resources[f"cloudfunctions/{name}"]
    for key, value in request.body.items():
        found[key] = {**found.get(key, {}), **value} if isinstance(value, dict) and key != "labels" else value
    return _operation(where, "UPDATE_FUNCTION", found)


@route(r"DELETE cloudfunctions /v2/((projects/[^/]+/locations/[^/]+)/functions/([^/]+))")
def delete_function(cloud: Cloud, request: Request, name: str, where: str, short: str) -> Answer:
    del cloud.resources[f"cloudfunctions/{name}"]
    cloud.resources.pop(f"run/{where}/services/{short}", None)
    return _operation(where, "DELETE_FUNCTION", {})


def _operation(where: str, kind: str, response: dict[str, Any]) -> Answer:
    metadata = {"@type": "type.googleapis.com/google.cloud.functions.v2.OperationMetadata", "operationType": kind}
    answer = {"name": f"{where}/operations/{kind}", "done": True, "metadata": {**metadata, "stages": []}}
    of = "type.googleapis.com/google.cloud.functions.v2.Function"
    return 200, {
        **answer,
        "response": {"@type": of if response else "type.googleapis.com/google.protobuf.Empty", **response},
    }


@route(r"GET cloudfunctions /v2/((projects/[^/]+/locations/[^/]+)/operations/([^/]+))")
def operation(cloud: Cloud, request: Request, name: str, where: str, kind: str) -> Answer:
    return _operation(where, kind, {})


def knative(cloud: Cloud, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """Make or change a service of Cloud Run, in the form in which gcloud reads and writes it: ready at once."""
    key = f"run/{WHERE}/services/{name}"
    before = cloud.resources.get(key)
    metadata, spec = body["metadata"], body["spec"]
    generation = (before["metadata"]["generation"] if before else 0) + 1
    revision = spec["template"].get("metadata", {}).get("name") or f"{name}-{generation:05d}"
    if before and before["spec"]["template"] == spec["template"]:
        revision = before["status"]["latestReadyRevisionName"]
    metadata |= {
        "namespace": NUMBER,
        "generation": generation,
        "resourceVersion": str(generation),
        "uid": name,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {**metadata.get("labels", {}), "cloud.googleapis.com/location": REGION},
    }
    url = f"https://{name}-{NUMBER}.{REGION}.run.app"
    spec.setdefault("traffic", [{"percent": 100, "latestRevision": True}])
    traffic = [_resolved(target, revision, url) for target in spec["traffic"]]
    conditions = [{"type": kind, "status": "True"} for kind in ("Ready", "ConfigurationsReady", "RoutesReady")]
    status = {"observedGeneration": generation, "url": url, "address": {"url": url}, "traffic": traffic}
    status |= {"latestCreatedRevisionName": revision, "latestReadyRevisionName": revision, "conditions": conditions}
    head = {"apiVersion": "serving.knative.dev/v1", "kind": "Service"}
    return cloud.put(key, {**head, "metadata": metadata, "spec": spec, "status": status})


def _resolved(target: dict[str, Any], latest: str, url: str) -> dict[str, Any]:
    tag = {"url": url.replace("https://", f"https://{target['tag']}---")} if target.get("tag") else {}
    return {**target, "revisionName": target.get("revisionName") or latest, **tag}


@route(rf"(GET|PUT|DELETE) run {re.escape(_RUN)}/namespaces/[^/]+/services/([^/]+)")
def run_service(cloud: Cloud, request: Request, method: str, name: str) -> Answer:
    key = f"run/{WHERE}/services/{name}"
    if key not in cloud.resources:
        return error(404, f"Resource '{name}' of kind 'SERVICE' in region '{REGION}' does not exist")
    if method == "PUT":
        return 200, knative(cloud, name, request.body)
    return 200, cloud.resources.pop(key) if method == "DELETE" else cloud.resources[key]


@route(rf"(GET|POST) run {re.escape(_RUN)}/namespaces/[^/]+/services")
def run_services(cloud: Cloud, request: Request, method: str) -> Answer:
    if method == "POST":
        return 200, knative(cloud, request.body["metadata"]["name"], request.body)
    return 200, {
        "kind": "ServiceList",
        "apiVersion": "serving.knative.dev/v1",
        "metadata": {},
        "items": cloud.below("run", f"{WHERE}/services"),
    }


@route(r"GET run /v1/(projects/[^/]+/locations)/-/services")
def run_services_everywhere(cloud: Cloud, request: Request, parent: str) -> Answer:
    found = [
        value for key, value in cloud.resources.items() if re.fullmatch(rf"run/{parent}/[^/]+/services/[^/]+", key)
    ]
    return 200, {"items": found}


@route(rf"GET run {re.escape(_RUN)}/namespaces/[^/]+/revisions/([^/]+)")
def run_revision(cloud: Cloud, request: Request, name: str) -> Answer:
    conditions = [{"type": kind, "status": "True"} for kind in ("Ready", "Active", "ContainerHealthy")]
    return 200, {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Revision",
        "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {}},
        "spec": {"containers": [{"image": "an-image"}]},
        "status": {"conditions": conditions},
    }


@route(r"GET ondemandscanning /v1/(projects/[^/]+/locations/[^/]+/scans/[^/]+)/vulnerabilities")
def vulnerabilities(cloud: Cloud, request: Request, scan: str) -> Answer:
    return 200, {"occurrences": cloud.below("ondemandscanning", f"{scan}/vulnerabilities")}


# What may be deleted at its path, wherever it is.
@route(r"DELETE (\w+) /\w+/(projects/.+)")
def delete(cloud: Cloud, request: Request, service: str, name: str) -> Answer:
    if cloud.resources.pop(f"{service}/{name}", None) is None:
        return error(404, f"{name} not found")
    if service == "cloudtasks":
        cloud.barred.add(name)
    return done(f"{name}/operations/5") if service == "firestore" else (200, {})


# Firestore's operations: over by the time anybody asks.
@route(r"GET firestore /v1/(projects/[^/]+/databases/[^/]+/operations/[^/]+)")
def firestore_operation(cloud: Cloud, request: Request, name: str) -> Answer:
    return done(name)
