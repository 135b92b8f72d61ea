"""The smoke test of functions whose callers show API keys: their own refusal will do, and nobody else's does."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from tests.benchmarks.servers import Server, function
from tests.support.google_api_state import NUMBER, PROJECT, REGION, identity_token
from tests.support.google_project import ROOT

from goagents.deploy.catalogue import catalogue, select
from goagents.deploy.smoke import fault_of
from goagents.deploy.target import CONFIG, Target

TOKEN = identity_token("release@example.com", "https://example.com")
USERS = [each for each in catalogue().values() if each.called_by == "users"]
PROBLEM = '{"status": 401, "code": "unauthenticated", "detail": "%s"}'


@contextmanager
def gateway(folder: Path, mode: str) -> Iterator[Server]:
    """The function that serves everything, as it is deployed, with another mode of authentication."""
    config = yaml.safe_load((ROOT / CONFIG).read_text(encoding="utf-8"))
    config["auth"] = (
        {"mode": mode, "api_keys": [{"name": "ann", "hash": "0" * 64}]} if mode == "api_key" else {"mode": mode}
    )
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    target = Target(project=PROJECT, region=REGION, functions=select(["gateway"]), number=NUMBER)
    own = {"GOAGENTS_CONFIG": str(folder / "config.yaml"), "GOAGENTS_STORE": f"sqlite:///{folder}/state.db"}
    with function("gateway", target.environment(target.functions[0]) | {"K_SERVICE": "goagents"} | own) as server:
        yield server


@contextmanager
def answering(status: int, kind: str, body: str) -> Iterator[str]:
    """A server that always says the same; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_functions_that_want_a_key_can_be_released(tmp_path: Path):
    """The release has an identity token and no key; who gets in by keys is not its business."""
    with gateway(tmp_path, "api_key") as server:
        assert {each.name: fault_of(server.url, each, TOKEN) for each in USERS} == dict.fromkeys(
            each.name for each in USERS
        )


def test_the_page_says_how_another_configuration_gets_into_the_image():
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    section = page.partition("**Another configuration**")[2].partition("\n\n")[0]
    for name, line in (("infra/docker/Dockerfile", f"COPY {CONFIG} {CONFIG}"), (".dockerignore", f"!{CONFIG}")):
        assert line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        assert f"`{line.replace('config.yaml', 'keys.yaml')}` to `{name}`" in section


def test_where_the_platform_lets_callers_in_a_token_that_is_refused_is_a_fault(tmp_path: Path):
    with gateway(tmp_path, "platform") as server:
        assert fault_of(server.url, catalogue()["clusters"], TOKEN) is None
        fault = fault_of(server.url, catalogue()["clusters"], "not-a-token")
        assert str(fault).partition("clusters: ")[2].startswith("401 instead of 200: This needs a Google identity")


@pytest.mark.parametrize(
    ("status", "kind", "body", "said"),
    [
        (401, "text/html", "<h1>401</h1>", "401 instead of 200: not an answer of GoAgents"),
        (401, "application/problem+json", "not JSON", "401 instead of 200"),
        (401, "application/problem+json", PROBLEM % "Who are you?", "401 instead of 200: Who are you"),
        (403, "application/problem+json", PROBLEM % "This API key is not known here.", "403 instead of 200"),
    ],
)
def test_the_refusal_of_somebody_else_is_a_fault(status: int, kind: str, body: str, said: str):
    with answering(status, kind, body) as url:
        assert said in str(fault_of(url, catalogue()["clusters"], TOKEN))


def test_a_worker_that_wants_a_key_is_a_fault():
    """Cloud Tasks has none."""
    with answering(401, "application/problem+json", PROBLEM % "This API key is not known here.") as url:
        assert fault_of(url, catalogue()["clusters"], TOKEN) is None
        assert fault_of(url, catalogue()["worker"], TOKEN) is not None
