"""A toolkit's answers: what was asked for, or what is wrong with the question."""

import datetime as dt
import hashlib
import logging
import sys
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field
from tests.support.toolkit import Ask

from goagents.errors import NotFound
from goagents.toolkit import ToolCallContext, ToolError, Toolkit

KEY = "sesame-open"


class Line(BaseModel):
    item: str
    count: Annotated[int, Field(ge=1)] = 1


class Order(BaseModel):
    number: str
    lines: list[Line]
    placed: dt.date


class Panic(BaseException):
    """What an extension in another language raises."""


@pytest.fixture
def kit() -> Toolkit:
    kit = Toolkit("shop", max_body=1000)

    @kit.tool(effect="read")
    def find_order(
        number: Annotated[str, Field(pattern="^[0-9]+$", description="Its number.")],
        verbose: bool = False,
        copy: Literal[1, 2] = 1,  # a name that pydantic's models have, too
    ) -> Order:
        """One order by its number."""
        if number == "404":
            raise ToolError("There is no order 404.", status=404, code="no_such_order")
        lines = [Line(item="wire", count=copy)] if verbose else []
        return Order(number=number, lines=lines, placed=dt.date(2026, 1, 2))

    @kit.tool
    def place_order(lines: list[Line], context: ToolCallContext, note: str | None = None) -> dict[str, Any]:
        """Places an order."""
        return {"lines": len(lines), "note": note, "key": context.idempotency_key, "run": context.run_id}

    @kit.tool(effect="read")
    def ping() -> None:
        """Nothing."""

    @kit.tool(effect="idempotent")
    def breaks(how: Literal["raises", "lies", "foreign", "exits", "interrupts", "panics"]) -> int:
        """Breaks."""
        if how == "exits":
            sys.exit("the password is hunter2")
        if how == "interrupts":
            raise KeyboardInterrupt
        if how == "panics":
            raise Panic("the password is hunter2")
        if how == "raises":
            raise RuntimeError("the password is hunter2")
        if how == "foreign":
            raise NotFound("somebody else's resource")
        return "no number"  # type: ignore[return-value]

    @kit.tool
    def busy() -> None:
        """Is busy."""
        raise ToolError("Come back later.", status=503, retry_after=2.5)

    return kit


ORDER = {"number": "7", "lines": [{"item": "wire", "count": 2}], "placed": "2026-01-02"}


def test_arguments_come_as_json_or_in_the_query(kit: Toolkit, ask: Ask):
    body = {"number": "7", "verbose": True, "copy": 2}
    for answer in (
        ask(kit, "POST", "/find_order", json=body),
        ask(kit, "GET", "/find_order?number=7&verbose=true&copy=2"),
    ):
        assert (answer.status_code, answer.json, answer.mimetype) == (200, ORDER, "application/json")
        assert answer.headers["Cache-Control"] == "no-store"


def test_models_defaults_and_the_context_are_given(kit: Toolkit, ask: Ask):
    answer = ask(
        kit, "POST", "/place_order", json={"lines": [{"item": "wire"}]}, headers={"Idempotency-Key": "run_9k/3/call-1"}
    )
    assert answer.json == {"lines": 1, "note": None, "key": "run_9k/3/call-1", "run": "run_9k"}
    answer = ask(kit, "POST", "/place_order", json={"lines": []}, headers={"Idempotency-Key": "mine"})
    assert answer.json == {"lines": 0, "note": None, "key": "mine", "run": None}


def test_a_tool_without_arguments_needs_no_body(kit: Toolkit, ask: Ask):
    for answer in (ask(kit, "GET", "/ping"), ask(kit, "POST", "/ping"), ask(kit, "POST", "/ping", json={})):
        assert (answer.status_code, answer.json) == (200, None)


@pytest.mark.parametrize(
    ("method", "path", "body", "places"),
    [
        ("POST", "/find_order", {"number": "x7"}, {"number": "match pattern"}),
        ("POST", "/find_order", {}, {"number": "required"}),
        ("POST", "/find_order", {"number": "7", "zoom": 1}, {"zoom": "not permitted"}),
        ("GET", "/find_order?number=7&zoom=1", None, {"zoom": "not permitted"}),
        ("GET", "/find_order?number=7&number=8", None, {"number": "more than once"}),
        ("GET", "/find_order?number=7&copy=3", None, {"copy": "1 or 2"}),
        (
            "POST",
            "/place_order",
            {"lines": [{"item": "a"}, {"item": 5, "count": 0}, {}]},
            {"lines.1.item": "valid string", "lines.1.count": "greater than", "lines.2.item": "required"},
        ),
    ],
)
def test_wrong_arguments_are_told_by_place(
    kit: Toolkit, ask: Ask, method: str, path: str, body: Any, places: dict[str, str]
):
    answer = ask(kit, method, path, json=body) if body is not None else ask(kit, method, path)
    assert (answer.status_code, answer.mimetype) == (422, "application/problem+json")
    found = {error["path"]: error["message"] for error in answer.json["errors"]}
    assert found.keys() == places.keys()
    assert all(words in found[path] for path, words in places.items())


@pytest.mark.parametrize(
    ("options", "status", "told"),
    [
        ({"data": b"{", "content_type": "application/json"}, 400, "not valid JSON"),
        ({"data": b'{"number": NaN}', "content_type": "application/json"}, 400, "not valid JSON"),
        ({"data": b"\xff", "content_type": "application/json"}, 400, "not valid JSON"),
        ({"data": b"", "content_type": "application/json"}, 400, "not valid JSON"),
        ({"json": ["7"]}, 422, "an object of JSON"),
        ({"data": {"number": "7"}}, 415, "application/x-www-form-urlencoded"),
        ({"data": b'{"number": "7"}'}, 415, "and say so"),
        ({"data": b"{}", "content_type": "application/json; charset=utf-16"}, 415, "UTF-8"),
        ({"json": {}, "headers": {"Content-Encoding": "gzip"}}, 415, "Content-Encoding"),
        ({"json": {"number": "7" * 1000}}, 413, "larger than 1000"),
    ],
)
def test_a_body_is_json_of_a_bounded_size(kit: Toolkit, ask: Ask, options: dict[str, Any], status: int, told: str):
    answer = ask(kit, "POST", "/find_order", **options)
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert told in answer.json["detail"]


def test_a_query_is_bounded_too(kit: Toolkit, ask: Ask):
    assert ask(kit, "GET", f"/find_order?number={'7' * 1000}").status_code == 413


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_is_bounded_too(kit: Toolkit, ask: Ask, key: str):
    answer = ask(kit, "POST", "/ping", headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json["errors"][0]["path"]) == (422, "Idempotency-Key")


def test_the_tools_own_errors_are_told(kit: Toolkit, ask: Ask):
    answer = ask(kit, "GET", "/find_order?number=404")
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")
    assert answer.json == {
        "type": "https://goagents.dev/errors/no_such_order",
        "title": "No such order",
        "status": 404,
        "detail": "There is no order 404.",
        "code": "no_such_order",
    }
    answer = ask(kit, "POST", "/busy")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "3")


@pytest.mark.parametrize(("status", "code"), [(200, "fine"), (600, "far"), (400, "No Such")])
def test_an_error_is_one(status: int, code: str):
    with pytest.raises(ValueError, match=r"status|code"):
        ToolError("no", status=status, code=code)


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}])
@pytest.mark.parametrize("how", ["raises", "lies", "foreign", "exits", "interrupts", "panics"])
def test_a_defect_is_told_to_the_log_only(
    kit: Toolkit, ask: Ask, caplog: pytest.LogCaptureFixture, how: str, headers: dict[str, str]
):
    """And ends its call only, not the server."""
    with caplog.at_level(logging.ERROR, "goagents.toolkit"):
        answer = ask(kit, "POST", "/breaks", json={"how": how}, headers=headers)
    assert (answer.status_code, answer.json["code"]) == (500, "internal")
    assert all(word not in answer.text for word in ("hunter2", "Traceback", "somebody", "no number"))
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1].__traceback__.tb_next is not None  # where in the tool it was
    assert "POST '/breaks'" in record.getMessage()


def test_an_argument_that_exits_when_it_is_read_ends_its_call_only(ask: Ask, caplog: pytest.LogCaptureFixture):
    kit = Toolkit("shop")

    def leave(value: int) -> int:
        sys.exit(value)

    @kit.tool
    def enter(door: Annotated[int, AfterValidator(leave)]) -> int:
        """Enters."""
        return door

    answer = ask(kit, "POST", "/enter", json={"door": 2})
    assert (answer.status_code, answer.json["code"], len(caplog.records)) == (500, "internal", 1)


def test_what_is_not_there_is_said(kit: Toolkit, ask: Ask):
    answer = ask(kit, "POST", "/find_ordr", json={})
    assert (answer.status_code, answer.json["detail"]) == (
        404,
        "There is no tool 'find_ordr' here; did you mean 'find_order'?",
    )
    assert "GET /openapi.json lists them" in ask(kit, "GET", "/x/y").json["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/find_order", "GET, POST"),
        ("GET", "/place_order", "POST"),
        ("POST", "/health", "GET"),
        ("POST", "/openapi.json", "GET"),
    ],
)
def test_a_method_that_is_not_answered(kit: Toolkit, ask: Ask, method: str, path: str, allowed: str):
    answer = ask(kit, method, path, json={}) if method != "GET" else ask(kit, method, path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)


def keyed() -> Toolkit:
    kit = Toolkit("shop", api_keys=["0" * 64, f"sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"])

    @kit.tool(effect="read")
    def whoami(context: ToolCallContext) -> list[str]:
        """Who."""
        assert KEY not in repr(context)
        return [context.caller, *sorted(set(context.headers) & {"authorization", "x-shop"})]

    return kit


def test_a_key_is_needed_where_there_are_some(ask: Ask):
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}):
        for path in ("/whoami", "/openapi.json", "/nothing"):
            answer = ask(keyed(), "GET", path, headers=headers)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="goagents"')
    assert ask(keyed(), "GET", "/health").json == {"status": "ok"}
    answer = ask(
        keyed(),
        "GET",
        "/whoami",
        headers={"Authorization": f"Bearer {KEY}", "X-Shop": "1"},
        environ_base={"REMOTE_ADDR": "192.0.2.1"},
    )
    assert answer.json == [f"key:{hashlib.sha256(KEY.encode()).hexdigest()[:16]}", "x-shop"]


def test_without_keys_only_this_machine_is_served(kit: Toolkit, ask: Ask):
    assert ask(kit, "GET", "/ping").status_code == 200
    for options in (
        {"environ_base": {"REMOTE_ADDR": "192.0.2.1"}},
        {"headers": {"Host": "shop.example.com"}},
        {"headers": {"Origin": "https://evil.example.com"}},
    ):
        answer = ask(kit, "GET", "/ping", **options)
        assert (answer.status_code, "`api_keys`" in answer.json["detail"]) == (403, True)


def test_on_cloud_run_the_platforms_token_is_needed(ask: Ask, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("K_SERVICE", "tools")
    kit = Toolkit("shop")

    @kit.tool(effect="read")
    def whoami(context: ToolCallContext) -> str:
        """Who."""
        return context.caller

    assert ask(kit, "GET", "/whoami").status_code == 401
    token = "e30.eyJlbWFpbCI6ImFAYi5jIn0.SIGNATURE_REMOVED_BY_GOOGLE"  # {"email": "a@b.c"}
    assert ask(kit, "GET", "/whoami", headers={"Authorization": f"Bearer {token}"}).json == "a@b.c"
