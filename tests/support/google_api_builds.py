"""What Cloud Storage and Cloud Build answer `gcloud builds submit`. To import it adds it to what is answered."""

import io
import re
import tarfile

from tests.support.google_api_routes import route
from tests.support.google_api_state import Answer, Cloud, Request, error


@route(r"GET storage /storage/v1/b/([^/]+)")
def bucket(cloud: Cloud, request: Request, name: str) -> Answer:
    found = cloud.resources.get(f"storage/{name}")
    return error(404, f"{name} not found") if found is None else (200, found)


@route(r"(GET|POST) storage /storage/v1/b")
def buckets(cloud: Cloud, request: Request, method: str) -> Answer:
    if method == "GET":
        return 200, {"items": [value for key, value in cloud.resources.items() if key.startswith("storage/")]}
    return 200, cloud.put(f"storage/{request.body['name']}", {**request.body, "id": request.body["name"]})


@route(r"POST storage /upload/storage/v1/b/([^/]+)/o")
def upload_object(cloud: Cloud, request: Request, name: str) -> Answer:
    """A multipart body of two: what is said of the object, and its bytes."""
    boundary = re.escape(request.headers["content-type"].split("boundary=")[1].strip("\"'").encode())
    part = rb"--%b\n.*\n--%b\n[^\0]*?\n\n(.*)\n--%b--" % (boundary, boundary, boundary)
    found = re.fullmatch(part, request.content.strip(), re.DOTALL)
    if found is None:
        return error(400, "not the body of an upload in parts")
    cloud.uploads.append(found[1])
    return 200, {"bucket": name, "name": request.query["name"], "generation": "1", "size": str(len(found[1]))}


def submitted(cloud: Cloud) -> list[str]:
    """The names of the files that were submitted last."""
    with tarfile.open(fileobj=io.BytesIO(cloud.uploads[-1])) as archive:
        return sorted(each.name.removeprefix("./") for each in archive.getmembers() if not each.isdir())


@route(r"POST cloudbuild /v1/projects/([^/]+)/(?:locations/([^/]+)/)?builds")
def submit(cloud: Cloud, request: Request, project: str, region: str | None) -> Answer:
    build = {**request.body, "id": "1", "projectId": project, "status": "QUEUED", "logUrl": "https://example.com/1"}
    metadata = {"@type": "type.googleapis.com/google.devtools.cloudbuild.v1.BuildOperationMetadata", "build": build}
    return 200, {"name": f"projects/{project}/locations/{region}/operations/1", "metadata": metadata}
