"""Every style of parameter on its way into the request."""

import json
from typing import Any
from urllib.parse import parse_qsl

import jsonschema_rs
import pytest
from yarl import URL

from goagents.errors import ToolInvalidArguments
from goagents.tools.base import ToolDefinition
from goagents.tools.http_openapi_call import OpenApiCall, Operation
from goagents.tools.http_openapi_document import Document, Unsupported
from goagents.tools.http_openapi_operation import Fixed, Place, read_operation

SERVER = URL("https://api.example.com/v1")


def read(
    node: dict[str, Any],
    path: str = "/x",
    method: str = "GET",
    server: URL = SERVER,
    fixed: Fixed | None = None,
    **root: Any,
) -> Operation:
    document = Document({"openapi": "3.0.3", **root})
    place = Place("op", method, path, server, trusted=True)
    return read_operation(document, place, node, {}, fixed or Fixed(frozenset(), frozenset()))


def plan(operation: Operation, **arguments: Any):
    jsonschema_rs.validator_for(operation.schema).validate(arguments)
    return OpenApiCall(ToolDefinition("op", "", operation.schema), operation).plan(arguments)


def parameter(name: str, where: str = "query", **rest: Any):
    return {"name": name, "in": where, "schema": {}, **rest}


@pytest.mark.parametrize(
    ("style", "value", "expected"),
    [
        ({}, "a b&c", [("p", "a b&c")]),
        ({}, True, [("p", "true")]),
        ({}, [1, 2], [("p", "1"), ("p", "2")]),
        ({"explode": False}, [1, 2], [("p", "1,2")]),
        ({"style": "spaceDelimited", "explode": False}, [1, 2], [("p", "1 2")]),
        ({"style": "pipeDelimited", "explode": False}, [1, 2], [("p", "1|2")]),
        ({}, {"a": 1, "b": "x"}, [("a", "1"), ("b", "x")]),
        ({"explode": False}, {"a": 1, "b": "x"}, [("p", "a,1,b,x")]),
        ({"style": "deepObject"}, {"a": 1, "b": [2, 3]}, [("p[a]", "1"), ("p[b]", "2"), ("p[b]", "3")]),
        ({"schema": None, "content": {"application/json": {"schema": {}}}}, {"a": 1}, [("p", '{"a":1}')]),
    ],
)
def test_query_styles(style: dict[str, Any], value: Any, expected: Any):
    given = {k: v for k, v in parameter("p", **style).items() if v is not None}
    sent = plan(read({"parameters": [given]}), p=value)
    assert parse_qsl(sent.url.raw_query_string) == expected
    assert sent.url.raw_path == "/v1/x"


@pytest.mark.parametrize(
    ("style", "value", "expected"),
    [
        ({}, "a/b c", "/v1/x/a%2Fb%20c"),
        ({}, 7, "/v1/x/7"),
        ({}, ["a,b", "c"], "/v1/x/a%2Cb,c"),
        ({}, {"r": 1, "g": 2}, "/v1/x/r,1,g,2"),
        ({"explode": True}, {"r": 1, "g": 2}, "/v1/x/r%3D1,g%3D2"),
    ],
)
def test_path_styles(style: dict[str, Any], value: Any, expected: Any):
    operation = read({"parameters": [parameter("p", "path", required=True, **style)]}, "/x/{p}")
    assert plan(operation, p=value).url.raw_path == expected


@pytest.mark.parametrize("value", ["..", "", ".", "../../admin"])
def test_a_path_parameter_never_climbs(value: Any):
    operation = read({"parameters": [parameter("p", "path")]}, "/x/{p}/y")
    with pytest.raises(ToolInvalidArguments):
        plan(operation, p=value)


def test_headers():
    operation = read({"parameters": [parameter("X-Page", "header"), parameter("X-List", "header")]})
    assert plan(operation, **{"X-Page": 3, "X-List": ["a", "b"]}).headers == {"X-Page": "3", "X-List": "a,b"}
    for bad in ("a\r\nb: c", "日本", "\x00"):
        with pytest.raises(ToolInvalidArguments, match="line breaks"):
            plan(operation, **{"X-Page": bad})


def test_what_is_ours_is_not_asked_of_the_model():
    reserved = [
        parameter(n, "header") for n in ("Authorization", "host", "Content-Length", "Cookie", "Idempotency-Key")
    ]
    given = [*reserved, parameter("X-Token", "header", required=True), parameter("key", required=True), parameter("q")]
    fixed = Fixed(frozenset({"key"}), frozenset({"x-token"}))
    operation = read({"parameters": given}, server=URL("https://api.example.com/v1?key=k"), fixed=fixed)
    assert set(operation.schema["properties"]) == {"q"}
    assert str(plan(operation, q="1").url) == "https://api.example.com/v1/x?key=k&q=1"


def test_argument_names_fit_the_providers_and_do_not_clash():
    given = [parameter("filter[name]"), parameter("id"), parameter("id", "path"), parameter("$x"), parameter("é" * 3),
             parameter("body")]  # fmt: skip
    operation = read({"parameters": given, "requestBody": {"content": {"application/json": {}}}}, "/x/{id}", "POST")
    assert list(operation.schema["properties"]) == [
        "filter_name",
        "id",
        "id_path",
        "x",
        "query",
        "body",
        "request_body",
    ]
    sent = plan(operation, filter_name="a", id="q", id_path="p", query="z", request_body={"k": 1})
    assert sent.url.raw_path == "/v1/x/p"
    assert parse_qsl(sent.url.raw_query_string) == [("filter[name]", "a"), ("id", "q"), ("ééé", "z")]
    assert json.loads(sent.content or b"") == {"k": 1}


def test_a_placeholder_nobody_declared_is_a_string():
    operation = read({}, "/x/{user-id}/y")
    assert operation.schema["required"] == ["user-id"]
    assert plan(operation, **{"user-id": "7"}).url.raw_path == "/v1/x/7/y"


@pytest.mark.parametrize(
    ("media_type", "value", "content", "sent_type"),
    [
        ("application/json", {"a": "é"}, '{"a":"é"}', "application/json"),
        ("application/vnd.api+json", [1], "[1]", "application/vnd.api+json"),
        ("application/json; charset=utf-8", {}, "{}", "application/json; charset=utf-8"),
        ("*/*", {"a": 1}, '{"a":1}', "application/json"),
        ("text/plain", "hello", "hello", "text/plain"),
        ("application/x-www-form-urlencoded", {"a": 1, "b": [2, 3], "c": {"d": "é"}}, "a=1&b=2&b=3&c%5Bd%5D=%C3%A9",
         "application/x-www-form-urlencoded"),
    ],
)  # fmt: skip
def test_bodies(media_type: str, value: Any, content: str, sent_type: str):
    node = {"requestBody": {"required": True, "content": {"multipart/form-data": {}, media_type: {"schema": {}}}}}
    operation = read(node, method="POST")
    sent = plan(operation, body=value)
    assert (sent.content or b"").decode() == content
    assert sent.headers["Content-Type"] == sent_type
    assert operation.schema["required"] == ["body"]


def test_no_body_no_content_type():
    operation = read({"requestBody": {"content": {"application/json": {}}}}, method="POST")
    sent = plan(operation)
    assert sent.content is None
    assert sent.headers == {}


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"requestBody": {"content": {"multipart/form-data": {}}}}, "multipart/form-data: only JSON, forms and text"),
        ({"requestBody": {"content": {"application/octet-stream": {}}}}, "only JSON, forms and text"),
        ({"parameters": [parameter("c", "cookie", required=True)]}, "cookie parameter `c`"),
        ({"parameters": [parameter("p", "path", style="matrix")]}, "style 'matrix'"),
        ({"parameters": [{"name": "p"}]}, "no `name` or no `in`"),
        ({"parameters": [{"$ref": "#/absent"}]}, "nothing is at"),
        ({"parameters": ["text"]}, "an object is expected"),
        ({"requestBody": {"content": {"application/json": {"schema": {"$ref": "x.yaml"}}}}}, "outside the document"),
        ({"parameters": [parameter("q", schema={"type": "file"})]}, "not valid JSON Schema"),
    ],
)
def test_what_cannot_be_sent_is_left_out_with_its_reason(node: dict[str, Any], message: str):
    with pytest.raises(Unsupported, match=message):
        read(node, method="POST")


def test_an_optional_cookie_is_only_dropped():
    assert read({"parameters": [parameter("c", "cookie")]}).schema["properties"] == {}


def test_path_items_lend_parameters_and_operations_override_them():
    document = Document({"openapi": "3.0.3", "components": {"parameters": {"P": parameter("p", description="shared")}}})
    item = {"parameters": [{"$ref": "#/components/parameters/P"}, parameter("q", schema={"type": "string"})]}
    node = {"parameters": [parameter("q", schema={"type": "integer"})], "summary": "Sum.", "deprecated": True}
    operation = read_operation(
        document, Place("op", "GET", "/x", SERVER, True), node, item, Fixed(frozenset(), frozenset())
    )
    assert operation.schema["properties"] == {"p": {"description": "shared"}, "q": {"type": "integer"}}
    assert operation.description == "Deprecated.\nSum."
