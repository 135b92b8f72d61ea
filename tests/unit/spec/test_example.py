"""The customer-support example: it loads with and without keys, its service answers, its script asks that service.

The whole of it under the real server is tested end to end.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

import functions_framework
import pytest

from goagents.errors import ConfigurationError
from goagents.messages import Message, TextPart, ToolResultPart, user_message
from goagents.providers.base import ModelRequest, ModelResponse
from goagents.providers.scripted import ScriptedProvider
from goagents.spec.load import Loaded, load_files
from goagents.spec.models import resolve_model

EXAMPLE = Path(__file__).parents[3] / "examples" / "customer-support"
KEYS = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY", "gemini": "GOOGLE_API_KEY"}


def load(environ: dict[str, str]) -> Loaded:
    return load_files([EXAMPLE / "config.yaml", EXAMPLE / "cluster.yaml"], environ=environ)


def test_without_a_key_it_runs_on_the_script() -> None:
    loaded = load({})
    scripts = loaded.config.providers.scripted
    assert scripts is not None
    for agent in loaded.clusters[0].spec.agents:
        assert agent.provider == "scripted"
        assert resolve_model(agent.model, loaded.config.models) in scripts.models
    assert loaded.warnings == ()


@pytest.mark.parametrize("provider", KEYS)
def test_with_a_key_it_runs_on_that_provider(provider: str) -> None:
    loaded = load({"GOAGENTS_EXAMPLE_PROVIDER": provider, KEYS[provider]: "key"})
    agents = loaded.clusters[0].spec.agents
    assert {agent.provider for agent in agents} == {provider}
    models = [resolve_model(agent.model, loaded.config.models) for agent in agents]
    assert not [model for model in models if model.startswith(("support", "classifier"))]
    assert loaded.warnings == ()


@pytest.mark.parametrize("provider", KEYS)
def test_a_provider_without_its_key_is_an_error(provider: str) -> None:
    with pytest.raises(ConfigurationError, match=KEYS[provider]):
        load({"GOAGENTS_EXAMPLE_PROVIDER": provider})


def test_the_model_can_be_chosen() -> None:
    environ = {"GOAGENTS_EXAMPLE_PROVIDER": "openai", "GOAGENTS_EXAMPLE_MODEL": "gpt-6-sol", "OPENAI_API_KEY": "key"}
    agent = load(environ).clusters[0].agent("support")
    assert agent is not None
    assert agent.model == "gpt-6-sol"


@pytest.fixture(scope="module")
def service() -> Any:
    return functions_framework.create_app("customers", str(EXAMPLE / "customer_api.py")).test_client()


@pytest.mark.parametrize(
    ("path", "status", "field", "value"),
    [
        ("/customers", 200, "customers", 3),
        ("/customers?email=ADA@example.com", 200, "customers", 1),
        ("/customers?name=hopper", 200, "customers", 1),
        ("/customers?email=nobody@example.com", 200, "customers", 0),
        ("/customers/c-101", 200, "orders", 2),
        ("/customers/C-103", 200, "orders", 1),
        ("/customers/c-999", 404, "detail", None),
        ("/customers/orders/1001", 200, "customer", None),
        ("/customers/orders/9", 404, "detail", None),
        ("/elsewhere", 404, "detail", None),
    ],
)
def test_the_service(service: Any, path: str, status: int, field: str, value: int | None) -> None:
    answer = service.get(path)
    assert answer.status_code == status
    found = answer.get_json()[field]
    assert found if value is None else len(found) == value


def test_the_service_only_reads(service: Any) -> None:
    assert service.post("/customers", json={}).status_code == 405


def test_every_order_has_its_customer() -> None:
    source = importlib.util.spec_from_file_location("customer_api", EXAMPLE / "customer_api.py")
    assert source is not None
    assert source.loader is not None
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    assert {order["customer"] for order in module.ORDERS} <= {customer["id"] for customer in module.CUSTOMERS}


async def answer(model: str, *messages: Message) -> Message:
    scripts = load({}).config.providers.scripted
    assert scripts is not None
    provider = ScriptedProvider(models=scripts.models)
    events = [event async for event in provider.stream(ModelRequest(model, messages))]
    last = events[-1]
    assert isinstance(last, ModelResponse)
    return last.message


@pytest.mark.parametrize(
    ("question", "tool", "arguments", "url", "words"),
    [
        ("Where is order 1001?", "find_order", {"order": "1001"}, "/customers/orders/1001", "shipped"),
        ("order #9999 please", "find_order", {"order": "9999"}, "/customers/orders/9999", "could not find that order"),
        (
            "I am ada@example.com",
            "customer_db",
            {"query": {"email": "ada@example.com"}},
            "/customers?email=ada@example.com",
            "Ada",
        ),
        (
            "I am x@example.com",
            "customer_db",
            {"query": {"email": "x@example.com"}},
            "/customers?email=x@example.com",
            "nobody I know",
        ),
        ("account c-102", "customer_db", {"path": "c-102"}, "/customers/c-102", "Grace Hopper is with us since 2019"),
        ("account c-999", "customer_db", {"path": "c-999"}, "/customers/c-999", "could not find that customer"),
    ],
)
async def test_the_script_asks_the_service_and_tells_what_it_said(
    service: Any, question: str, tool: str, arguments: dict[str, Any], url: str, words: str
) -> None:
    asked = await answer("support", user_message(question))
    (call,) = asked.tool_calls
    assert (call.name, call.arguments) == (tool, arguments)
    response = service.get(url)
    content = (TextPart(json.dumps(response.get_json())),)
    result = Message("tool", (ToolResultPart(call.id, tool, content, is_error=response.status_code >= 400),))
    told = await answer("support", user_message(question), asked, result)
    assert words in told.text
    assert told.tool_calls == ()


@pytest.mark.parametrize(
    ("message", "intent"),
    [
        ("Where is my parcel?", "order_status"),
        ("I want my money back", "refund"),
        ("My login fails", "account"),
        ("Hm", "other"),
    ],
)
async def test_the_classifier(message: str, intent: str) -> None:
    assert (await answer("intent-classifier", user_message(message))).text == intent
