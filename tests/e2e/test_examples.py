"""Each example is served as its README says, and does what it claims."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cli_process import running
from tests.support.example import EXAMPLES, customer_support, program
from tests.support.ports import free_port

from goagents.app import TOOLSETS
from goagents.client import Client
from goagents.spec.load import load_files
from goagents.spec.tools import HttpToolSpec

# What the examples' clusters need from outside.
VARIABLES = {"PETSTORE_KEY": "special-key", "ORDERS_URL": "http://127.0.0.1:8091"}


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


def copied(name: str, folder: Path, **changes: str) -> list[str | Path]:
    """Copy an example, change texts of its files, and return the arguments of `goagents run`."""
    copy = shutil.copytree(EXAMPLES / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("config.yaml", "cluster.yaml"):
        text = (copy / file).read_text(encoding="utf-8")
        for old, new in changes.items():
            text = text.replace(old, new)
        (copy / file).write_text(text, encoding="utf-8")
    return ["--config", copy / "config.yaml", "--cluster", copy / "cluster.yaml"]


def test_an_openapi_page_of_a_third_party_with_a_key(tmp_path: Path):
    port = free_port()
    env = {"PETSTORE_KEY": "another-key", "PETSTORE_PORT": str(port), "PETSTORE_URL": f"http://127.0.0.1:{port}/v2"}
    files = copied("openapi", tmp_path)
    with (
        program(tmp_path / "openapi" / "petstore_service.py", port=port, env=env),
        running(*files, cwd=tmp_path, env=env) as server,
        Client(server.url) as client,
    ):
        assert client.chat("petshop.keeper", "How many pets are available?").message.text.startswith("2 pets are")
        assert client.chat("petshop.keeper", "Please buy 1 of pet 2").message.text == "Order 1 is placed."
        (tool,) = client.get_agent("petshop.keeper").tools
        assert (tool.name, tool.status) == ("petstore", "available")
    assert "another-key" not in server.printed


def test_mcp_over_http(tmp_path: Path):
    port = free_port()
    files = copied("mcp", tmp_path, **{"server: library": "server: library-over-http", "8093": str(port)})
    with (
        program(tmp_path / "mcp" / "library.py", "--port", str(port), port=port),
        running(*files, cwd=tmp_path) as server,
        Client(server.url) as client,
    ):
        answer = client.chat("handbook.librarian", "How long is the warranty of batteries?")
        assert answer.message.text.startswith("The page warranty says: Two years")
        assert not [each for each in server.descendants() if "library.py" in " ".join(each.cmdline())]


def test_python_functions(tmp_path: Path):
    with running(*copied("python-tools", tmp_path), cwd=tmp_path) as server, Client(server.url) as client:
        assert client.chat("workshop.smith", "What do 3 hinges cost?").message.text == "3 of hinge cost 960 cents."


def test_there_is_one_for_each_kind_of_tool():
    # the type of `tool-type` has to be installed, as its own test does
    paths = [path for path in EXAMPLES.glob("*/cluster.yaml") if path.parent.name != "tool-type"]
    loaded = [load_files([path], environ=VARIABLES).clusters[0].spec for path in paths]
    tools = [tool for spec in loaded for agent in spec.agents for tool in agent.tools]
    assert {tool.type for tool in tools} == set(TOOLSETS)
    pages = [tool.openapi or "" for tool in tools if isinstance(tool, HttpToolSpec)]
    assert {page.rpartition("/")[2] for page in pages} == {"", "openapi.json", "petstore.yaml"}


def test_the_list_names_every_example_and_its_test():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert set(re.findall(r"\(([a-z-]+)/README\.md\)", text)) == folders
    tests = set(re.findall(r"`((?:tests|examples)/\S+\.py)`", text))
    assert {path for path in tests if not (EXAMPLES.parent / path).is_file()} == set()
    assert {str(path.relative_to(EXAMPLES.parent)) for path in EXAMPLES.glob("*/test_*.py")} <= tests


def test_the_readme_names_every_file():
    for folder in (path for path in EXAMPLES.iterdir() if path.is_dir()):
        text = (folder / "README.md").read_text(encoding="utf-8")
        files = {path.name for path in Path(folder).iterdir() if path.is_file() and path.name != "README.md"}
        assert {name for name in files if f"({name})" not in text} == set()
