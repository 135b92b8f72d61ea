"""Whatever comes in, what goes out is a problem with its status."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.api import Api, problem

CHAT = "/api/v1/agents/support.echo/chat"
JSON = {"content-type": "application/json"}
YAML = {"content-type": "application/yaml"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"nope", b"[1,", b'{"message": "\xff"}', b"\xfe\xff\x00{", b'{"message": NaN}', b'{"message": 1}}',
        b"[" * 100_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b'{"message": ' + b"9" * 100_000 + b"}",
        b'{"message": "\\ud800"}', b"\x00", gzip.compress(b'{"message": "hi"}', mtime=0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [CHAT, "/api/v1/clusters/support/scale"])
async def test_what_is_no_json(api: Api, path: str, body: bytes):
    problem(await api.call("POST", path, content=body, headers=JSON), 400, "bad_request")


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ["message"]),
        ([], [""]),
        ("hi", [""]),
        ({"message": ""}, ["message"]),
        ({"message": 1}, ["message"]),
        ({"message": []}, ["message"]),
        ({"message": [1]}, ["message.0"]),
        ({"message": [{"type": "text"}]}, ["message.0.text"]),
        ({"message": [{"type": "text", "text": "a"}, {"type": "video"}]}, ["message.1"]),
        ({"message": [{"type": "text", "text": "a", "more": 1}]}, ["message.0.more"]),
        ({"message": [{"type": "text", "text": "a"}] * 65}, ["message"]),
        ({"message": "a", "session_id": "../x"}, ["session_id"]),
        ({"message": "a", "session_id": "s" * 65}, ["session_id"]),
        ({"message": "a", "session_id": 1}, ["session_id"]),
        ({"message": "a", "sesion_id": "s", "x": 1}, ["sesion_id", "x"]),
    ],
)
async def test_a_body_that_is_wrong_names_the_places(api: Api, body: Any, paths: list[str]):
    found = problem(await api.call("POST", CHAT, json=body), 422, "invalid")
    assert [error["path"] for error in found["errors"]] == paths


@pytest.mark.parametrize(
    "kind",
    ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", "application/jsonx", "", ";",
     "application/json; charset=latin-1", "application/yaml"],
)  # fmt: skip
async def test_a_type_that_is_not_taken(api: Api, kind: str):
    body = problem(
        await api.call("POST", CHAT, content=b'{"message":"hi"}', headers={"content-type": kind}),
        415,
        "unsupported_media_type",
    )
    assert "application/json" in body["detail"]


async def test_a_compressed_body_is_refused(api: Api):
    headers = JSON | {"content-encoding": "gzip"}
    body = gzip.compress(b'{"message":"hi"}', mtime=0)
    problem(await api.call("POST", CHAT, content=body, headers=headers), 415, "unsupported_media_type")


async def test_a_body_without_a_type_is_refused_with_the_remedy(api: Api):
    body = problem(await api.call("POST", CHAT, content=b'{"message":"hi"}'), 415, "unsupported_media_type")
    assert "Content-Type: application/json" in body["detail"]


@pytest.mark.parametrize(
    "kind", ["application/json", "APPLICATION/JSON; Charset=UTF-8", 'application/json;charset="utf-8"']
)
async def test_types_that_are_taken(api: Api, kind: str):
    headers = {"content-type": kind}
    assert (await api.call("POST", CHAT, content=b'{"message":"hi"}', headers=headers)).status_code == 200


async def chunks(size: int, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b" " * size


async def test_a_body_is_bounded_however_it_is_sent(api: Api):
    api.configure(server={"max_body": "1KiB"})
    for path, headers in ((CHAT, JSON), ("/api/v1/clusters", YAML)):
        announced = await api.call("POST", path, content=b" " * 1025, headers=headers)
        problem(announced, 413, "payload_too_large")
        assert announced.headers["connection"] == "close"
        body = problem(await api.call("POST", path, content=chunks(100, 11), headers=headers), 413, "payload_too_large")
        assert "server.max_body" in body["detail"]
    whole = b'{"message":"hi"}'.ljust(1024)
    assert (await api.call("POST", CHAT, content=whole, headers=JSON)).status_code == 200


async def test_a_body_that_does_not_arrive_is_not_waited_for(api: Api):
    async def dribble() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b" "
            await asyncio.sleep(0.05)

    api.configure(server={"timeout": "200ms"})
    answer = await api.call("POST", CHAT, content=dribble(), headers=JSON)
    assert "server.timeout" in problem(answer, 408, "request_timed_out")["detail"]
    assert answer.headers["connection"] == "close"


IMAGE = {"type": "image", "media_type": "image/png", "data": "aGk="}


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"data": "!!!"}, "data"), ({"data": "aGk"}, "data"), ({"data": ""}, "data"), ({"data": "aG\nk="}, "data"),
        ({"media_type": "text/html"}, "media_type"), ({"media_type": "image/png\r\nx: y"}, "media_type"),
    ],
)  # fmt: skip
async def test_an_image_that_no_provider_takes_never_enters_a_session(api: Api, wrong: dict[str, str], place: str):
    body = {"message": [IMAGE | wrong], "session_id": "pictures"}
    assert f"message.0.{place}" in problem(await api.say("echo", body), 422, "invalid")["detail"]
    problem(await api.call("GET", "/api/v1/sessions/pictures"), 404, "not_found")
    assert (await api.say("echo", {"message": [IMAGE]})).status_code == 200


async def test_a_length_that_lies_is_of_no_use(api: Api):
    headers = JSON | {"content-length": "9" * 30}
    problem(await api.call("POST", CHAT, content=b"{}", headers=headers), 413, "payload_too_large")


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{c}: &{c} [{','.join(['*' + p] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "body",
    [b"a: [", b"\xff\xfe", b"a: !!python/object:os.system x", b"\x00", BOMB.encode(), b"- " * 50_000, b"{" * 50_000],
)
async def test_what_is_no_yaml_or_too_much_of_it(api: Api, body: bytes):
    response = await api.call("POST", "/api/v1/clusters", content=body, headers=YAML)
    assert response.status_code in {400, 422}
    problem(response, response.status_code, response.json()["code"])


@pytest.mark.parametrize(
    "path",
    ["/", "//", "//health", "/health/", "/api", "/api/v1", "/api/v1//clusters", "/api/v1/clusters/", "/API/v1/clusters",
     "/api/v1/clusters/a/b/c", "/api/v1/clusters/%2e%2e/logs/x", "/api/v1/clusters/../../health%00", "/.env"],
)  # fmt: skip
async def test_a_path_that_nothing_serves(api: Api, path: str):
    problem(await api.call("GET", path), 404, "not_found")


@pytest.mark.parametrize(
    "name", ["A", "a_b", "-a", "a-", "%C3%A9", "a%00b", "a%0A", "%ff", "..%2f", "a.b.c.d.e", "__a__", "a" * 64]
)
async def test_an_id_that_nothing_can_have(api: Api, name: str):
    for path in ("/api/v1/clusters/{}", "/api/v1/agents/{}", "/api/v1/agents/support.{}"):
        problem(await api.call("GET", path.format(name)), 404, "not_found")
    problem(await api.call("GET", f"/api/v1/sessions/{name}.x"), 404, "not_found")
    problem(await api.call("POST", f"/api/v1/agents/support.{name}/chat", json={"message": "hi"}), 404, "not_found")


async def test_another_method_is_told_which_are_served(api: Api):
    response = await api.call("PATCH", "/api/v1/clusters/support")
    body = problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PUT"
    assert "PATCH" in body["detail"]
    options = await api.call("OPTIONS", "/api/v1/agents/support.echo/chat")
    assert (options.status_code, options.headers["allow"], options.content) == (204, "OPTIONS, POST", b"")


async def test_head_is_get_without_its_body(api: Api):
    for path in ("/health", "/api/v1/clusters", "/metrics", "/openapi.json", "/nope"):
        get, head = await api.call("GET", path), await api.call("HEAD", path)
        assert (head.status_code, head.content) == (get.status_code, b"")
