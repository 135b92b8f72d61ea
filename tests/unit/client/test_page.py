"""The examples of docs/client.md about runs, against a server of the contract's shapes: they print what they should."""

import re
from pathlib import Path

import pytest
from starlette.responses import JSONResponse
from tests.support.contract_server import ContractServer, about, completed, event_stream, run, sent_event
from tests.support.scripted_run import ScriptedRun

PAGE = (Path(__file__).parents[3] / "docs" / "client.md").read_text("utf-8")
BACKGROUND, APPROVAL, TRANSCRIPT = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)


def printed(example: str, url: str, capsys: pytest.CaptureFixture[str]) -> str:
    exec(example.replace("http://127.0.0.1:8080", url), {})  # noqa: S102 - the page's own text
    return capsys.readouterr().out


def test_a_run_in_the_background(server: ContractServer, url: str, capsys: pytest.CaptureFixture[str]):
    ScriptedRun().behind(server)
    server.on("GET /api/v1/runs/run_1", JSONResponse(run("succeeded")))
    assert printed(BACKGROUND, url, capsys) == "Hello\n"


def test_an_approval(server: ContractServer, url: str, capsys: pytest.CaptureFixture[str]):
    ScriptedRun().behind(server)
    assert printed(APPROVAL, url, capsys) == "refund {'order': 7}\nHello\n"


def test_a_transcript(server: ContractServer, url: str, capsys: pytest.CaptureFixture[str]):
    events = [
        ("1-1", "run.started", about(attempt=1)),
        ("1-2", "message.delta", {"text": "It is re"}),
        ("2-1", "attempt", about(attempt=2, resumed_after="1-1")),
        ("2-2", "message.delta", {"text": "It is blue."}),
        ("2-3", "run.completed", completed("It is blue.")),
    ]
    server.on("POST /api/v1/agents/support.helper/stream", event_stream(*(sent_event(*each) for each in events)))
    assert printed(TRANSCRIPT, url, capsys) == "void: 1-2\nIt is blue.\n"
