"""A small server of the contract's shapes, whose answers a test chooses: what the client must understand."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

NOW = "2026-01-02T03:04:05Z"
Answer = Response | Callable[[Request], Response]


def agent(name: str = "helper", cluster: str = "support") -> dict[str, Any]:
    return {
        "id": f"{cluster}.{name}",
        "name": name,
        "namespace": "default",
        "cluster": cluster,
        "provider": "scripted",
        "model": "echo",
        "kept_instances": 1,
        "max_instances": 5,
        "active_instances": 1,
        "idle_instances": 1,
        "instances": [
            {"number": 0, "status": "active", "run": "run_1", "last_active_at": NOW},
            {"number": 1, "status": "idle", "last_active_at": NOW},
        ],
        "tools": [{"name": "customers", "type": "http", "status": "available"}],
    }


def cluster(name: str = "support", generation: int = 1) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": "default",
        "uid": f"cluster_{name}",
        "generation": generation,
        "created_at": NOW,
        "updated_at": NOW,
        "max_concurrent_agents": 5,
        "active_runs": 1,
        "agents": [agent(cluster=name)],
    }


def message(text: str) -> dict[str, Any]:
    return {"role": "assistant", "parts": [{"type": "text", "text": text}], "provider": "scripted", "model": "echo"}


def completed(text: str = "Hello", session: str = "session_1") -> dict[str, Any]:
    return {
        "run_id": "run_1",
        "session_id": session,
        "agent": "support.helper",
        "message": message(text),
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 7, "output_tokens": 3},
    }


def log_entry(text: str, at: str = NOW, **changed: Any) -> dict[str, Any]:
    entry = {"at": at, "severity": "INFO", "kind": "run", "run_id": "run_1", "session_id": "session_1"}
    return {**entry, "agent": "helper", "text": text, **changed}


def run(status: str = "running", **changed: Any) -> dict[str, Any]:
    """A run as the API shows it; what its status needs is filled in."""
    known: dict[str, Any] = {
        "id": "run_1",
        "kind": "background",
        "status": status,
        "session_id": "session_1",
        "agent": "support.helper",
        "generation": 1,
        "attempt": 1,
        "input": {"role": "user", "parts": [{"type": "text", "text": "Hi"}]},
        "created_at": NOW,
    }
    if status == "succeeded":
        known |= {"output": message("Hello"), "stop_reason": "end_turn", "usage": completed()["usage"]}
    if status == "waiting":
        known["waiting"] = waiting()
    return {**known, **changed}


def waiting(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"calls": list(calls) or [waiting_call()], "since": NOW, "until": "2026-01-09T03:04:05Z"}


def waiting_call(call_id: str = "call_1", name: str = "refund", **changed: Any) -> dict[str, Any]:
    call = {"call_id": call_id, "name": name, "arguments": {"order": 7}, "effect": "unsafe", "reason": "approval"}
    return {**call, **changed}


def failure(code: str = "provider_overloaded", status: int = 502, detail: str = "529 of it") -> dict[str, Any]:
    """The data of `run.failed` and `run.cancelled`."""
    error = {"type": "about:blank", "title": "Problem", "status": status, "detail": detail, "code": code}
    return {"run_id": "run_1", "session_id": "session_1", "error": error}


def about(**more: Any) -> dict[str, Any]:
    """The data of the events about a run as a whole."""
    return {"run_id": "run_1", "session_id": "session_1", "agent": "support.helper", **more}


def sent_event(event_id: str, kind: str, data: Any) -> bytes:
    return f"id: {event_id}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def accepted(status: str = "running", **changed: Any) -> JSONResponse:
    """202: the run goes on without the request."""
    body = run(status, **changed)
    return JSONResponse(body, 202, {"Location": f"/api/v1/runs/{body['id']}"})


def problem(status: int, code: str, detail: str = "It did not work.", **more: Any) -> JSONResponse:
    headers = more.pop("headers", None)
    body = {"type": "about:blank", "title": "Problem", "status": status, "detail": detail, "code": code, **more}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def event_stream(*chunks: bytes) -> StreamingResponse:
    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return StreamingResponse(body(), media_type="text/event-stream")


@dataclass
class ContractServer:
    """An ASGI app. `answers` maps "METHOD /path" to the answers to give, one after the other, the last one forever.
    `requests` are what came: method, path with query, headers, body."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        methods = ["GET", "POST", "PUT", "DELETE"]
        self._app = Starlette(routes=[Route("/{path:path}", self._answer, methods=methods)])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)

    def on(self, request: str, *answers: Answer) -> None:
        self.answers[request] = list(answers)

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        self.requests.append(
            {
                "method": request.method,
                "path": request.scope["path"],
                "query": dict(request.query_params),
                "headers": dict(request.headers),
                "body": await request.json() if body else None,
            }
        )
        answers = self.answers.get(f"{request.method} {request.scope['path']}")
        if not answers:
            return problem(404, "not_found", f"There is no {request.url.path}.")
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer if isinstance(answer, Response) else answer(request)
