"""What a deployment from source needs; `python -m tests.ci.source_deploy` installs and starts all of it.

What is uploaded is looked at in test_uploads.py.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.benchmarks.servers import await_port, running
from tests.ci.source_deploy import requirements
from tests.support.google_api_state import identity_token
from tests.support.google_project import ROOT
from tests.support.ports import free_port

from goagents.deploy.catalogue import Smoke, catalogue, select
from goagents.deploy.smoke import fault_of
from goagents.deploy.target import Target


def test_the_requirements_are_those_of_the_project():
    written = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert written == requirements(), "python -m tests.ci.source_deploy --requirements > requirements.txt"


def test_the_buildpack_finds_the_framework_and_installs_no_other():
    # The pattern is the buildpack's own.
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert re.search(r"(?m)^functions-framework\b([^-]|$)", text)


def test_the_file_that_gcloud_insists_on_is_the_gateway(tmp_path: Path):
    port = free_port()
    command = ["--target", "gateway", "--source", "main.py"]
    gateway = select(["gateway"])
    target = Target(project="my-project", region="europe-west1", functions=gateway, number="123")
    environment = target.environment(gateway[0]) | {
        "GOAGENTS_STORE": f"sqlite:///{tmp_path}/state.db",
        "K_SERVICE": "goagents-gateway",
        "HOST": "127.0.0.1",
        "PORT": str(port),
    }
    with running([sys.executable, "-m", "functions_framework", *command], port, environment) as server:
        await_port(server)
        token = identity_token("ann@example.com", server.url)
        assert fault_of(server.url, catalogue()["gateway"], token) is None
        assert fault_of(server.url, catalogue()["worker"], token) is None, "it serves /worker, to the invoker only"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the gateway as the README's command deploys it: without a configuration, queue or schedule."""
    port = free_port()
    environment = {
        "GOOGLE_CLOUD_PROJECT": "my-project",
        "GOAGENTS_STORE": f"sqlite:///{tmp_path_factory.mktemp('alone')}/state.db",
        "K_SERVICE": "goagents-gateway",
        "HOST": "127.0.0.1",
        "PORT": str(port),
    }
    command = ["--target", "gateway", "--source", "functions/gateway/main.py"]
    with running([sys.executable, "-m", "functions_framework", *command], port, environment) as server:
        await_port(server)
        yield server.url


@pytest.mark.parametrize("path", ["/worker", "/sweep"])
def test_the_gateway_of_the_readme_lets_nobody_call_what_is_internal(alone: str, path: str):
    """Deployed by gcloud alone it names nobody; who may chat is not who may sweep."""
    ann = identity_token("ann@example.com", alone)
    fault = fault_of(alone, replace(catalogue()["worker"], smoke=Smoke("POST", path, 200)), ann)
    assert fault is not None
    assert "403 instead of 200: Nobody may call this yet: users call this function, too" in fault
    assert fault_of(alone, catalogue()["clusters"], ann) is None


def test_a_smoke_test_that_fails_says_how():
    gateway = catalogue()["gateway"]
    assert "not an https address" in str(fault_of("http://example.com", gateway, ""))
    assert "refused" in str(fault_of(f"http://127.0.0.1:{free_port()}", gateway, ""))
