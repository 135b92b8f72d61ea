"""What a `websocket` entry may say, and what its errors tell."""

from typing import Any

import pytest
from pydantic import ValidationError

from goagents.spec.tools import WebsocketToolSpec


def spec(**fields: Any) -> WebsocketToolSpec:
    return WebsocketToolSpec.model_validate({"type": "websocket", "name": "ws", "url": "wss://example.com/", **fields})


COLLECT = {"mode": "collect", "until": {"count": 3}}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"url": "https://example.com"}, "starts with wss:// or ws://"),
        ({"url": "wss:///x"}, "names a host"),
        ({"mode": "collect"}, "needs `until`"),
        ({"until": {"count": 1}}, "`until` does not go together with `mode: request`"),
        ({"max_messages": 1}, "`max_messages` does not go together with `mode: request`"),
        ({"unsubscribe": "x"}, "`unsubscribe` does not go together with `mode: request`"),
        ({**COLLECT, "correlation": {"field": "id"}}, "`correlation` does not go together with `mode: collect`"),
        ({**COLLECT, "max_messages": 2}, "`until.count` is more than `max_messages`"),
        ({**COLLECT, "connection": "shared", "message": "go"}, "`connection: shared` needs `unsubscribe`"),
        ({"mode": "collect", "until": {}}, "needs `count`, `field` with `equals`, or `silence`"),
        ({"mode": "collect", "until": {"field": "a"}}, "`field` and `equals` go together"),
        ({"mode": "collect", "until": {"equals": 1}}, "`field` and `equals` go together"),
        ({"mode": "collect", "until": {"field": "a", "equals": [1]}}, "JSON does not have"),
        ({"mode": "collect", "until": {"count": 1001}}, "less than or equal to 1000"),
        ({"message": "{town}"}, "`{town}` in `message` is no property of the tool's `parameters`"),
        ({**COLLECT, "message": "x", "unsubscribe": "{message}"}, "`{message}` in `unsubscribe` is no property"),
        ({"message": 1}, "must be a text, or an object or a list"),
        ({"message": {"at": {1: 2}}}, "a key that is no text"),
        ({"message": {"at": float("nan")}}, "a number that JSON does not have"),
        ({"message": [b"x"]}, "a value that JSON does not have"),
        ({"correlation": {"field": "id"}, "message": "text"}, "needs a `message` that is an object"),
        ({"correlation": {"field": "id"}, "message": {"id": 1}}, "remove it from `message`"),
        ({"correlation": {"field": "a.id"}, "message": {"a": "x"}}, "leads through something that is no object"),
        ({"correlation": {"field": "message.id"}}, "remove it from `parameters`"),
        ({"correlation": {"field": "a..b"}}, "should match pattern"),
        ({"headers": {"upgrade": "x"}}, "upgrade belongs to the handshake"),
        ({"headers": {"Sec-WebSocket-Protocol": "x"}}, "belongs to the handshake; write `subprotocols`"),
        ({"subprotocols": ["a b"]}, "should match pattern"),
        ({"reconnect": {"attempts": 11}}, "less than or equal to 10"),
        ({"mesage": "x"}, "Extra inputs"),
    ],
)
def test_an_error_says_what_does_not_fit(fields: dict[str, Any], told: str):
    with pytest.raises(ValidationError) as caught:
        spec(**fields)
    assert told in str(caught.value)


def test_a_message_nested_without_end_is_refused():
    message: Any = "x"
    for _ in range(40):
        message = {"in": message}
    with pytest.raises(ValidationError, match="nested deeper than 32"):
        spec(message=message)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, ["message"]),
        ({"message": {"say": "{message}"}}, ["message"]),
        ({"message": {"op": "time"}}, []),
        (COLLECT, []),
        ({**COLLECT, "parameters": PARAMETERS}, ["city"]),
        ({"parameters": PARAMETERS, "message": "{city}: ${UNIT} {{city}} {call.key} {not a name}"}, ["city"]),
    ],
)
def test_the_arguments_follow_from_what_is_sent(fields: dict[str, Any], names: list[str]):
    assert list(spec(**fields).arguments["properties"]) == names


def test_whether_a_call_sends_anything():
    assert spec().sends
    assert not spec(**COLLECT).sends
    assert spec(**COLLECT, message="go").sends
    assert spec(**COLLECT, parameters=PARAMETERS).sends


def test_a_value_of_null_is_a_condition():
    until = spec(mode="collect", until={"field": "error", "equals": None}).until
    assert until is not None
    assert until.equals is None
