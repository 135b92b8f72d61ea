"""The OpenAPI page: valid, complete, one operation for each function."""

import enum
import json
from typing import Annotated, Any

import pytest
from openapi_spec_validator import validate
from pydantic import BaseModel, Field
from tests.support.toolkit import Ask

from goagents.toolkit import ToolCallContext, Toolkit


class State(enum.Enum):
    OPEN = "open"
    SENT = "sent"


class Item(BaseModel):
    name: str
    parts: list["Item"] = []


class Order(BaseModel):
    number: str
    state: State
    items: list[Item]
    total: Annotated[float, Field(ge=0, serialization_alias="totalAmount")] = 0.0


@pytest.fixture
def kit() -> Toolkit:
    kit = Toolkit("orders", description="Of the shop.", version="7", api_keys=["0" * 64])

    @kit.tool(effect="read")
    def find_orders(state: State, at_most: Annotated[int, Field(ge=1, le=50)] = 10) -> list[Order]:
        """Orders in a state.

        The newest first.
        """
        raise NotImplementedError

    @kit.tool(effect="idempotent")
    def place_order(order: Order, context: ToolCallContext, gift: bool | None = None) -> Order:
        """Places an order."""
        raise NotImplementedError

    @kit.tool(description="Ends it.")
    def close() -> None:
        raise NotImplementedError

    return kit


def test_the_page_is_valid(kit: Toolkit):
    page = json.loads(kit.openapi())
    validate(page)
    assert page["info"] == {"title": "orders", "version": "7", "description": "Of the shop."}
    assert page["security"] == [{"key": []}]
    assert {path: list(item) for path, item in page["paths"].items()} == {
        "/find_orders": ["get"],
        "/place_order": ["post"],
        "/close": ["post"],
    }


def operation(kit: Toolkit, name: str) -> dict[str, Any]:
    (found,) = json.loads(kit.openapi())["paths"][f"/{name}"].values()
    return found


def test_an_operation_says_what_it_does(kit: Toolkit):
    found = operation(kit, "find_orders")
    assert found["operationId"] == "find_orders"
    assert found["description"] == "Orders in a state.\n\nThe newest first."
    assert found["x-goagents-effect"] == "read"
    assert [(each["name"], each["in"], each["required"]) for each in found["parameters"]] == [
        ("state", "query", True),
        ("at_most", "query", False),
    ]
    assert found["parameters"][1]["schema"] | {"title": ""} == {
        "type": "integer", "minimum": 1, "maximum": 50, "default": 10, "title": "",
    }  # fmt: skip
    assert [operation(kit, name)["x-goagents-effect"] for name in ("place_order", "close")] == ["idempotent", "unsafe"]


def test_a_body_and_a_result_have_their_own_schemas(kit: Toolkit):
    page = json.loads(kit.openapi())
    found = operation(kit, "place_order")
    assert found["requestBody"]["required"] is True
    assert [each["name"] for each in found["parameters"]] == ["Idempotency-Key"]
    schemas = page["components"]["schemas"]
    assert set(schemas["place_order_arguments"]["properties"]) == {"order", "gift"}
    result = found["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    taken = schemas["place_order_arguments"]["properties"]["order"]["$ref"].rpartition("/")[2]
    assert ("totalAmount" in schemas[result]["properties"], "total" in schemas[taken]["properties"]) == (True, True)
    assert "requestBody" not in operation(kit, "close")


def test_the_page_is_served_and_grows(ask: Ask):
    kit = Toolkit("t")
    assert ask(kit, "GET", "/openapi.json").json["paths"] == {}

    @kit.tool
    def late() -> None:
        """Late."""

    assert list(ask(kit, "GET", "/openapi.json").json["paths"]) == ["/late"]
