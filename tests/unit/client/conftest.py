from collections.abc import Iterator

import pytest
from tests.support.asgi_server import AsgiServer
from tests.support.contract_server import ContractServer

from goagents.client import Client


@pytest.fixture(autouse=True)
def no_ambient_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOAGENTS_SERVER", "GOAGENTS_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> ContractServer:
    return ContractServer()


@pytest.fixture
def url(server: ContractServer) -> Iterator[str]:
    with AsgiServer(server) as running:
        yield running.url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as made:
        yield made
