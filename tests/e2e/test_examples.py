"""Each example is served as its README says, and does what it claims."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.example import EXAMPLES, customer_support

from goagents.client import Client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with customer_support(tmp_path_factory.mktemp("example")) as server, Client(server.url) as client:
        yield client


def test_every_example_is_tested_here():
    # `tools` is tested by tests/functions/test_toolkit.py; the others have their test beside them
    own = {path.parent.name for path in EXAMPLES.glob("*/test_*.py")}
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == {"customer-support", "tools", *own}


def test_the_agent_answers_from_its_tool(client: Client):
    events = list(client.stream("customer-support.support", "Where is order 1001?"))
    finished = [event.data for event in events if event.type == "tool.finished"]
    assert [(call["name"], call["is_error"]) for call in finished] == [("find_order", False)]
    assert "Difference Express" in finished[0]["output"]
    assert "Ada Lovelace is shipped" in events[-1].data["message"]["parts"][0]["text"]


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ("Where is order 9999?", "I could not find that order"),
        ("I am ada@example.com", "That is Ada Lovelace (c-101)"),
        ("Tell me about c-102", "Grace Hopper is with us since 2019-12-09"),
        ("Hello!", "Tell me the number of your order"),
        ("Please refund order 1002", "Done. Your bank statement will say SHOP-1002."),
        ("I want my money back for order 1001", "That order cannot be refunded."),
    ],
)
def test_the_agent_uses_what_it_finds(client: Client, message: str, answer: str):
    assert answer in client.chat("customer-support.support", message).message.text


def test_a_session_goes_on(client: Client):
    first = client.chat("customer-support.support", "I want my money back")
    assert "Which order" in first.message.text
    second = client.chat("customer-support.support", "order 1002", session_id=first.session_id)
    assert "Nanosecond wire" in second.message.text
    assert client.get_session(first.session_id).messages >= 4


@pytest.mark.parametrize(
    ("message", "intent"),
    [
        ("Where is my parcel?", "order_status"),
        ("I want my money back", "refund"),
        ("I forgot my password", "account"),
        ("Nice weather", "other"),
    ],
)
def test_the_classifier_says_one_word(client: Client, message: str, intent: str):
    assert client.chat("customer-support.intent-classifier", message).message.text == intent


def test_the_clusters_tools_are_available(client: Client):
    client.chat("customer-support.support", "Where is order 1003?")
    agent = client.get_agent("customer-support.support")
    assert {(tool.name, tool.status) for tool in agent.tools} == {
        ("find_order", "available"),
        ("customer_db", "available"),
        ("orders", "available"),
    }


def test_the_readme_names_every_file():
    for folder in (path for path in EXAMPLES.iterdir() if path.is_dir()):
        text = (folder / "README.md").read_text(encoding="utf-8")
        files = {path.name for path in Path(folder).iterdir() if path.is_file() and path.name != "README.md"}
        assert {name for name in files if f"({name})" not in text} == set()
