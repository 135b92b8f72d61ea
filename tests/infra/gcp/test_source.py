"""What a deployment from source needs; `python -m tests.ci.source_deploy` installs and starts all of it.

What is uploaded is looked at in test_uploads.py.
"""

import re
import sys
from pathlib import Path

import pytest
from tests.benchmarks.servers import await_port, running
from tests.ci.source_deploy import requirements
from tests.support.google_api_state import identity_token
from tests.support.google_project import ROOT
from tests.support.ports import free_port

from goagents.deploy.catalogue import catalogue, select
from goagents.deploy.smoke import fault_of
from goagents.deploy.target import Target


def test_the_requirements_are_those_of_the_project():
    written = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert written == requirements(), "python -m tests.ci.source_deploy --requirements > requirements.txt"


def test_the_buildpack_finds_the_framework_and_installs_no_other():
    # The pattern is the buildpack's own.
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert re.search(r"(?m)^functions-framework\b([^-]|$)", text)


@pytest.mark.parametrize("source", ["main.py", "functions/gateway/main.py"])
def test_the_file_that_gcloud_insists_on_is_the_gateway(source: str, tmp_path: Path):
    port = free_port()
    command = ["--target", "gateway", "--source", source]
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


def test_a_smoke_test_that_fails_says_how():
    gateway = catalogue()["gateway"]
    assert "not an https address" in str(fault_of("http://example.com", gateway, ""))
    assert "refused" in str(fault_of(f"http://127.0.0.1:{free_port()}", gateway, ""))
