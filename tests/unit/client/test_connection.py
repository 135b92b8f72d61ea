"""Where the server is found, what shows it who asks, and what goes wrong on the way to it."""

import base64
import json
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from tests.support.contract_server import ContractServer, problem

from goagents import errors
from goagents.client import AsyncClient, Client, ServerTimedOut, ServerUnreachable, UnexpectedAnswer, retries
from goagents.client.faults import BY_CODE, from_problem, from_transport, retry_after
from goagents.errors import GoAgentsError, Invalid, Unauthenticated

OK = JSONResponse({"status": "ok", "version": "1"})


def ask(url: str, **options: Any) -> str:
    with Client(url, **options) as client:
        return client.health().status


def test_the_server_is_the_argument_the_variable_or_this_machine(monkeypatch: pytest.MonkeyPatch):
    assert Client().server == "http://127.0.0.1:8080"
    monkeypatch.setenv("GOAGENTS_SERVER", "https://goagents.example/base/")
    assert Client().server == "https://goagents.example/base"
    assert Client("http://other:1").server == "http://other:1"
    assert repr(Client("http://other:1")) == "Client('http://other:1')"


@pytest.mark.parametrize(
    "address",
    ["localhost:8080", "ftp://host", "http://", "nonsense", "http://u:p@host", "http://host/?a=1"],
)
def test_what_is_no_address_is_refused(address: str):
    with pytest.raises(Invalid, match="address"):
        Client(address)


def test_the_key_is_the_argument_or_the_variable(server: ContractServer, url: str, monkeypatch: pytest.MonkeyPatch):
    server.on("GET /health", OK)
    ask(url)
    monkeypatch.setenv("GOAGENTS_API_KEY", "gak_variable")
    ask(url)
    ask(url, api_key="gak_argument")
    sent = [request["headers"].get("authorization") for request in server.requests]
    assert sent == [None, "Bearer gak_variable", "Bearer gak_argument"]
    assert "gak" not in repr(Client(url, api_key="gak_argument")._connection)


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_a_key_that_cannot_be_one_is_refused_and_not_repeated(key: str):
    with pytest.raises(Invalid, match="GOAGENTS_API_KEY") as raised:
        Client(api_key=key)
    assert key not in str(raised.value)


# gcloud is a program of its own: a script stands in its place on the PATH.


def token(seconds: float = 3600, name: str = "first") -> str:
    claims = json.dumps({"exp": time.time() + seconds, "sub": name}).encode()
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.sig"


def install_gcloud(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    program = folder / "gcloud"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder / "calls"


class Recorder(httpx2.MockTransport):
    """httpx2's own stand-in for the network; keeps the credentials it was sent."""

    def __init__(self) -> None:
        self.sent: list[str | None] = []
        super().__init__(self._answer)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.sent.append(request.headers.get("authorization"))
        return httpx2.Response(200, json={"status": "ok", "version": "1"})


async def test_gclouds_token_goes_to_https_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    good = token()
    calls = install_gcloud(tmp_path, monkeypatch, f"echo {good}")
    network = Recorder()
    with Client("https://goagents.example", transport=network) as client:
        client.health()
        client.health()
    async with AsyncClient("https://goagents.example", transport=network) as client:
        await client.health()
    assert network.sent == [f"Bearer {good}"] * 3
    assert calls.read_text().splitlines() == ["auth print-identity-token --quiet"] * 2


def test_a_token_that_ends_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls = install_gcloud(tmp_path, monkeypatch, f"echo {token(60)}")
    with Client("https://goagents.example", transport=Recorder()) as client:
        client.health()
        client.health()
    assert len(calls.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("server", "key"),
    [("http://goagents.example", None), ("https://127.0.0.1", None), ("https://localhost:1", None),
     ("https://[::1]", None), ("https://goagents.example", "gak_mine")],
)  # fmt: skip
def test_gcloud_is_not_asked_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str, key: str | None):
    calls = install_gcloud(tmp_path, monkeypatch, f"echo {token()}")
    network = Recorder()
    Client(server, api_key=key, transport=network).health()
    assert network.sent == [f"Bearer {key}" if key else None]
    assert not calls.exists()


def test_without_gcloud_no_credential_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    network = Recorder()
    Client("https://goagents.example", transport=network).health()
    assert network.sent == [None]


@pytest.mark.parametrize(
    ("script", "says"),
    [("echo 'ERROR: You do not have an active account' >&2; exit 1", "active account"), ("exit 0", "gave no identity")],
)
def test_gcloud_without_a_token_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
):
    install_gcloud(tmp_path, monkeypatch, script)
    with pytest.raises(Unauthenticated, match=says) as raised:
        Client("https://goagents.example", transport=Recorder()).health()
    assert "gcloud auth login" in str(raised.value)


# Errors


def classes(root: type[GoAgentsError] = GoAgentsError) -> list[type[GoAgentsError]]:
    mine = [child for child in root.__subclasses__() if child.__module__ == errors.__name__]
    return [root, *(each for child in mine for each in classes(child))]


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_every_error_comes_back_as_its_class(server: ContractServer, client: Client, kind: type[GoAgentsError]):
    sent = kind("What happened.", errors=[errors.FieldError("a.b", "is wrong")])
    sent.run_id, sent.session_id = "run_1", "session_1"
    body = sent.problem()
    server.on("POST /api/v1/agents/a.b/chat", JSONResponse(body, kind.status, media_type="application/problem+json"))
    with pytest.raises(GoAgentsError) as raised:
        client.chat("a.b", "hi")
    error = raised.value
    assert error.code == kind.code
    assert issubclass(type(error), kind) or BY_CODE[kind.code] is type(error)
    assert error.problem() == body


def test_an_unknown_code_is_judged_by_its_status():
    assert type(from_problem({"code": "brand_new", "status": 409, "detail": "x"})) is errors.Conflict
    assert type(from_problem({"code": "brand_new", "status": 500})) is GoAgentsError
    assert type(from_problem({"errors": "nonsense", "detail": 5, "run_id": []})) is GoAgentsError


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (PlainTextResponse("no", 403), errors.PermissionDenied, "run.invoker"),
        (PlainTextResponse("no", 401), errors.Unauthenticated, "gcloud auth login"),
        (PlainTextResponse("no", 404), errors.NotFound, "is this the address"),
        (PlainTextResponse("bad gateway", 502), UnexpectedAnswer, "answered 502"),
        (RedirectResponse("https://elsewhere.example/"), UnexpectedAnswer, "use that address"),
        (JSONResponse(["x"], 500), UnexpectedAnswer, "answered 500"),
        (Response("{", 500, media_type="application/json"), UnexpectedAnswer, "answered 500"),
        (PlainTextResponse("hello"), UnexpectedAnswer, "no answer of GoAgents"),
        (JSONResponse({"status": "odd"}), UnexpectedAnswer, "no answer of GoAgents"),
    ],
)
def test_an_answer_of_something_else(
    server: ContractServer, client: Client, answer: Response, kind: type[GoAgentsError], says: str
):
    server.on("GET /health", answer)
    with pytest.raises(kind, match=says):
        client.health()


async def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ServerUnreachable, match="goagents run") as raised:
        ask(address)
    assert address in str(raised.value)
    async with AsyncClient(address) as client:
        with pytest.raises(ServerUnreachable, match="GOAGENTS_SERVER"):
            await client.health()


async def test_a_server_that_is_silent():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ServerTimedOut, match="did not answer in time"):
            ask(address, timeout=0.2)
        async with AsyncClient(address, timeout=0.2) as client:
            with pytest.raises(ServerTimedOut):
                await client.health()


def test_a_certificate_nobody_vouches_for():
    fault = httpx2.ConnectError("[SSL] failed")
    fault.__cause__ = ssl.SSLCertVerificationError("self-signed certificate")
    assert "SSL_CERT_FILE" in str(from_transport(fault, "https://x"))


def test_the_proxy_of_the_environment_is_not_asked_for_this_machine(
    server: ContractServer, url: str, monkeypatch: pytest.MonkeyPatch
):
    server.on("GET /health", OK)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert ask(url) == "ok"
    with pytest.raises(ServerUnreachable):
        ask("http://goagents.example")


# Repeats


@pytest.mark.parametrize("status", [429, 503])
async def test_what_may_be_repeated_is_when_the_server_asks(server: ContractServer, client: Client, status: int):
    busy = problem(status, "limit_exceeded", headers={"Retry-After": "0"})
    server.on("GET /health", busy, busy, OK)
    assert client.health().status == "ok"
    server.on("GET /health", busy, OK)
    async with AsyncClient(client.server) as same:
        assert (await same.health()).status == "ok"
    assert len(server.requests) == 5


def test_repeats_are_bounded(server: ContractServer, client: Client):
    server.on("GET /health", problem(429, "limit_exceeded", headers={"Retry-After": "0"}))
    with pytest.raises(errors.LimitExceeded) as raised:
        client.health()
    assert raised.value.retry_after == 0
    assert len(server.requests) == retries.ATTEMPTS


@pytest.mark.parametrize(
    "answer",
    [
        problem(503, "store_unavailable"),
        problem(429, "limit_exceeded", headers={"Retry-After": "3600"}),
        problem(502, "provider_failed", headers={"Retry-After": "0"}),
    ],
)
def test_what_may_not_be_repeated_is_not(server: ContractServer, client: Client, answer: Any):
    server.on("POST /api/v1/agents/a.b/chat", answer)
    with pytest.raises(GoAgentsError):
        client.chat("a.b", "hi")
    assert len(server.requests) == 1


def test_a_chat_is_repeated_when_the_server_asks(server: ContractServer, client: Client):
    busy = problem(429, "limit_exceeded", headers={"Retry-After": "0"})
    server.on("POST /api/v1/agents/a.b/chat", busy, problem(409, "session_busy"))
    with pytest.raises(errors.SessionBusy):
        client.chat("a.b", "hi")
    assert len(server.requests) == 2


def test_retry_after_is_seconds_or_a_date():
    assert retry_after("1.5") == 1.5
    soon = retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True))
    assert soon is not None
    assert 25 < soon <= 30
    assert [retry_after(each) for each in (None, "", "soon", "-1", "nan", "inf")] == [None] * 6
