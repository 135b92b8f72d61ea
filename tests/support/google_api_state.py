"""What there is in a project of Google Cloud, as far as gcloud asks for it when GoAgents is deployed."""

import base64
import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

PROJECT, NUMBER, REGION = "my-project", "123456789", "europe-west1"
Answer = tuple[int, Any]
Route = Callable[..., Answer]  # of cloud, request and the groups of the pattern


@dataclass(frozen=True)
class Request:
    host: str
    method: str
    path: str
    query: dict[str, str]
    content: bytes
    headers: dict[str, str]

    @property
    def body(self) -> Any:
        """The body as JSON, None where there is none."""
        try:
            return json.loads(self.content)
        except ValueError:
            return None

    @property
    def service(self) -> str:
        """`run` for europe-west1-run.googleapis.com."""
        return self.host.removesuffix(".googleapis.com").removeprefix(f"{REGION}-")

    def __str__(self) -> str:
        return f"{self.method} {self.service} {self.path}"


@dataclass
class Fault:
    """The next `times` requests that `pattern` (of `str(request)`) finds are answered so."""

    pattern: str
    status: int
    message: str
    times: int = 1


@dataclass
class Cloud:
    """`resources` by `service/path`; `policies` likewise; `owners` may call every service."""

    routes: Sequence[tuple[str, Route]]
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    owners: set[str] = field(default_factory=set)
    requests: list[Request] = field(default_factory=list)
    calls: list[tuple[str, str, str, str]] = field(default_factory=list)  # host, method, path, token
    uploads: list[bytes] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)  # identity tokens and their claims
    barred: set[str] = field(default_factory=set)  # names of queues that were deleted
    refusals: int = 0  # calls that come before IAM knows everywhere who may call
    unknown: list[str] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def answer(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times and re.search(fault.pattern, str(request)):
                    fault.times -= 1
                    return error(fault.status, fault.message)
            found = self._route(request)
            if found[0] == 404 and found[1]["error"]["message"].startswith("no route"):
                self.unknown.append(str(request))
            return found

    def writes(self, service: str = "") -> list[Request]:
        """The requests that change something."""
        return [
            each
            for each in self.requests
            if each.method != "GET"
            and not each.path.endswith((":getIamPolicy", "/token", ":testIamPermissions", ":generateUploadUrl"))
            and service in ("", each.service)
        ]

    def service_of(self, host: str) -> str:
        """`goagents-gateway` of TAG---goagents-gateway-123456789.europe-west1.run.app."""
        return host.partition(".")[0].rpartition("---")[2].removesuffix(f"-{NUMBER}")

    def may_call(self, service: str, token: str, audience: str) -> bool:
        if self.refusals:
            self.refusals -= 1
            return False
        claims = self.tokens.get(token)
        members = {"allUsers"}
        if claims is not None:
            if claims["email"] in self.owners:
                return True
            members |= {f"serviceAccount:{claims['email']}", f"user:{claims['email']}"}
        policy = self.policies.get(f"run/projects/{PROJECT}/locations/{REGION}/services/{service}", {})
        return any(
            binding["role"] == "roles/run.invoker" and members & set(binding["members"])
            for binding in policy.get("bindings", ())
        )

    def _route(self, request: Request) -> Answer:
        path = unquote(request.path).replace("projects/-/", f"projects/{PROJECT}/")
        for pattern, method in self.routes:
            if match := re.fullmatch(pattern, f"{request.method} {request.service} {path}"):
                return method(self, request, *match.groups())
        return error(404, f"no route for {request}")

    def put(self, key: str, value: dict[str, Any]) -> dict[str, Any]:
        self.resources[key] = value
        return value

    def found(self, service: str, name: str) -> Answer:
        value = self.resources.get(f"{service}/{name}")
        return error(404, f"Resource '{name}' was not found") if value is None else (200, value)

    def below(self, service: str, parent: str) -> list[dict[str, Any]]:
        prefix = f"{service}/{parent}/"
        return [v for k, v in self.resources.items() if k.startswith(prefix) and "/" not in k.removeprefix(prefix)]


def error(status: int, message: str) -> Answer:
    names = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ALREADY_EXISTS"}
    return status, {"error": {"code": status, "message": message, "status": names.get(status, "INTERNAL")}}


def done(name: str, response: dict[str, Any] | None = None) -> Answer:
    """A long-running operation, over already."""
    return 200, {"name": name, "done": True, "response": response or {}}


def identity_token(email: str, audience: str, number: int = 0) -> str:
    """A token like Google's: its signature is checked nowhere, because Cloud Run's IAM is played here."""
    claims = {"email": email, "email_verified": True, "aud": audience, "exp": 4102444800, "jti": number}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "RS256"}, claims)]
    return b".".join([*parts, b"SIGNATURE_REMOVED_BY_GOOGLE"]).decode()
