"""`goagents runs …`, and `goagents chat` without a terminal, against a server of the contract's shapes."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse
from tests.support.asgi_server import AsgiServer
from tests.support.cli_process import GOAGENTS, environment, goagents
from tests.support.contract_server import (
    NOW,
    ContractServer,
    about,
    accepted,
    cluster,
    completed,
    event_stream,
    failure,
    message,
    problem,
    run,
    sent_event,
)
from tests.support.scripted_run import AFTER, BEFORE, ScriptedRun
from tests.support.terminal import Terminal

STREAM = "POST /api/v1/agents/support.helper/stream"
EVENTS = "GET /api/v1/runs/run_1/events"
APPROVE = "POST /api/v1/runs/run_1/approve"
CANCEL = "POST /api/v1/runs/run_1/cancel"
Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def server() -> ContractServer:
    return ContractServer()


@pytest.fixture
def url(server: ContractServer) -> Iterator[str]:
    with AsgiServer(server) as running:
        yield running.url


@pytest.fixture
def call(url: str, tmp_path: Path) -> Call:
    def invoke(*arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        return goagents(*arguments, cwd=tmp_path, env={"GOAGENTS_SERVER": url}, stdin=stdin)

    return invoke


def failed(done: "subprocess.CompletedProcess[str]", status: int, says: str) -> None:
    assert (done.returncode, done.stdout) == (status, "")
    assert says in done.stderr


# list and show


def test_runs_are_listed(server: ContractServer, call: Call):
    runs = [run("waiting"), run("succeeded", id="run_0")]
    server.on("GET /api/v1/runs", JSONResponse({"items": runs, "next_page_token": "more"}))
    table = call("runs", "list", "--limit", "3")
    assert table.returncode == 0
    lines = table.stdout.splitlines()
    assert lines[0].split() == ["RUN", "STATUS", "AGENT", "KIND", "SESSION", "CREATED"]
    assert [line.split()[:5] for line in lines[1:]] == [
        ["run_1", "waiting", "support.helper", "background", "session_1"],
        ["run_0", "succeeded", "support.helper", "background", "session_1"],
        ["run_1", "waiting", "support.helper", "background", "session_1"],
    ]
    as_json = call("runs", "list", "--limit", "1", "--output", "json")
    assert [item["id"] for item in json.loads(as_json.stdout)["items"]] == ["run_1"]


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        (["--cluster", "support", "--status", "failed"], {"cluster": "support", "status": "failed"}),
        (["-c", "support", "-a", "helper"], {"agent": "support.helper"}),
        (["-c", "support", "-a", "helper", "-n", "shop"], {"agent": "shop.support.helper", "namespace": "shop"}),
        (["--session", "session_1"], {"session_id": "session_1"}),
    ],
)
def test_what_is_listed_can_be_chosen(server: ContractServer, call: Call, arguments: list[str], query: dict[str, str]):
    server.on("GET /api/v1/runs", JSONResponse({"items": []}))
    done = call("runs", "list", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no runs\n")
    assert server.requests[0]["query"] == {"namespace": "default", "page_size": "50"} | query


def test_a_run_is_shown(server: ContractServer, call: Call):
    asked = {"role": "assistant", "parts": [{"type": "tool_call", "id": "c", "name": "refund", "arguments": {"o": 7}}]}
    result = {
        "type": "tool_result",
        "call_id": "c",
        "name": "refund",
        "content": [{"type": "text", "text": "no\x1b[1m"}],
    }
    answered = {"role": "tool", "parts": [{**result, "is_error": True}]}
    steps = [
        {"number": 1, "kind": "model", "message": asked, "created_at": NOW},
        {"number": 2, "kind": "tools", "message": answered, "created_at": NOW},
        {"number": 3, "kind": "summary", "text": "What was said.", "created_at": NOW},
    ]
    error = {"code": "provider_overloaded", "detail": "529 of it", "status": 502}
    shown = run("failed", steps=steps, error=error, started_at=NOW, usage={"input_tokens": 7, "output_tokens": 3})
    server.on("GET /api/v1/runs/run_1", JSONResponse(shown | {"webhook": "https://example.com/hook"}))
    done = call("runs", "show", "run_1")
    assert done.returncode == 0
    assert (
        "run_1 failed\nagent support.helper (generation 1), background, attempt 1\nsession session_1\n" in done.stdout
    )
    assert "7 tokens in, 3 out, 0 tool calls\nwebhook https://example.com/hook\nmessage: Hi\n" in done.stdout
    rows = [line.split() for line in done.stdout.partition("STEP ")[2].splitlines() if line[:1].isdecimal()]
    assert [(row[0], row[1], " ".join(row[3:])) for row in rows] == [
        ("1", "model", "→ refund {'o': 7}"),
        ("2", "tools", "✗ refund no[1m"),
        ("3", "summary", "What was said."),
    ]
    assert done.stdout.endswith("error provider_overloaded: 529 of it\n")
    assert json.loads(call("runs", "show", "run_1", "-o", "json").stdout)["error"]["detail"] == "529 of it"


def test_a_long_run_is_shown_whole(server: ContractServer, call: Call):
    steps = [{"number": number, "kind": "summary", "text": f"part {number}", "created_at": NOW} for number in (1, 2)]
    pages = [run("running", steps=[step], next_page_token=more) for step, more in zip(steps, ("t1", None), strict=True)]
    server.on("GET /api/v1/runs/run_1", *map(JSONResponse, pages))
    done = call("runs", "show", "run_1", "-o", "json")
    shown = json.loads(done.stdout)
    assert ([step["text"] for step in shown["steps"]], shown["next_page_token"]) == (["part 1", "part 2"], None)
    assert [request["query"].get("page_token") for request in server.requests] == [None, "t1"]


def test_a_waiting_run_is_shown_with_what_to_type(server: ContractServer, call: Call, url: str):
    ScriptedRun().behind(server)
    done = call("runs", "show", "run_1", "--server", url)
    assert '? refund (unsafe; it asks for approval), call call_1\n  {"order": 7}\n' in done.stdout
    assert f"goagents runs approve run_1 --server {url}\n" in done.stderr
    assert f"goagents runs approve run_1 --deny --server {url}\n" in done.stderr


def test_a_run_that_succeeded_is_shown_with_its_answer(server: ContractServer, call: Call):
    server.on("GET /api/v1/runs/run_1", JSONResponse(run("succeeded", output=message("It is done."))))
    assert call("runs", "show", "run_1").stdout.endswith("\n\nIt is done.\n")


def test_a_run_that_is_unknown_is_an_error(call: Call, server: ContractServer):
    server.on("GET /api/v1/runs/run_1", problem(404, "not_found", "There is no run run_1."))
    failed(call("runs", "show", "run_1"), 1, "Error: There is no run run_1.")


# start and follow


def test_a_run_is_started(server: ContractServer, call: Call):
    server.on("GET /api/v1/clusters/support", JSONResponse(cluster()))
    server.on("POST /api/v1/agents/support.helper/runs", accepted("queued"))
    done = call("runs", "start", "-c", "support", "--webhook", "https://example.com/", "--session", "session_1", "Go!")
    assert (done.returncode, done.stdout) == (0, "run run_1 queued (session session_1)\n")
    assert "goagents runs follow run_1" in done.stderr
    body = {"message": "Go!", "session_id": "session_1", "webhook": {"url": "https://example.com/"}}
    assert server.requests[-1]["body"] == body
    as_json = call("runs", "start", "-c", "support", "-a", "helper", "Go!", "-o", "json")
    assert json.loads(as_json.stdout)["id"] == "run_1"


def lost_and_found(*, ends: bytes) -> list[bytes]:
    """A run whose process was lost while it spoke; behind it the end."""
    said = {"role": "assistant", "parts": [{"type": "text", "text": "Let me look."}]}
    return [
        sent_event("1-1", "run.queued", about()),
        sent_event("1-2", "run.started", about(attempt=1)),
        sent_event("1-3", "message.delta", {"text": "Let me look."}),
        sent_event("1-4", "message.completed", {"message": said, "stop_reason": "tool_use", "usage": {}}),
        sent_event("1-5", "run.handed_off", about()),
        sent_event("2-1", "attempt", about(attempt=2, resumed_after="1-5")),
        sent_event("2-2", "message.delta", {"text": "It is "}),
        sent_event("2-3", "message.delta", {"text": "re"}),
        sent_event("3-1", "attempt", about(attempt=3, resumed_after="2-2")),
        sent_event("3-2", "message.delta", {"text": "blue."}),
        ends,
    ]


def test_a_run_is_followed_and_what_was_lost_begins_anew(server: ContractServer, call: Call):
    events = lost_and_found(ends=sent_event("3-3", "run.completed", completed("It is blue.")))
    server.on(EVENTS, event_stream(*events))
    done = call("runs", "follow", "run_1")
    assert (done.returncode, done.stdout) == (0, "Let me look.\nIt is re\nIt is blue.\n")
    assert done.stderr.splitlines() == [
        "queued",
        "the process was lost; its last words are void, and the answer goes on:",
    ]


def test_following_begins_where_it_is_told(server: ContractServer, call: Call):
    server.on(EVENTS, event_stream(sent_event("3-3", "run.completed", completed())))
    done = call("runs", "follow", "run_1", "--after", "2-7", "--output", "json")
    assert json.loads(done.stdout)["message"]["parts"][0]["text"] == "Hello"
    assert server.requests[0]["headers"]["last-event-id"] == "2-7"
    failed(call("runs", "follow", "run_1", "--after", "x"), 1, "'x' is no event's id, which is ATTEMPT-NUMBER")


def test_a_run_that_fails_is_status_1(server: ContractServer, call: Call):
    server.on(EVENTS, event_stream(*lost_and_found(ends=sent_event("3-3", "run.failed", failure()))))
    done = call("runs", "follow", "run_1")
    assert done.returncode == 1
    assert done.stdout.endswith("It is blue.\n")
    assert done.stderr.endswith("Error: 529 of it\n  run run_1\n")


def test_a_started_run_can_be_followed_through_an_approval(server: ContractServer, call: Call, url: str):
    """Somebody else approves: when what waits was shown."""
    script = ScriptedRun().behind(server)

    def view(_: Any) -> JSONResponse:
        shown = JSONResponse(script.view())
        script.log, script.then = script.log + script.then, []
        return shown

    server.on("GET /api/v1/runs/run_1", view)
    done = call("runs", "start", "-c", "support", "-a", "helper", "Go!", "--follow")
    assert (done.returncode, done.stdout) == (0, "I ask\nDone\n")
    assert done.stderr.startswith("run run_1 in session session_1\n")
    assert '? refund (unsafe; it asks for approval), call call_1\n  {"order": 7}\n' in done.stderr
    assert "the run waits for a person to decide:\n  goagents runs approve run_1\n" in done.stderr


def test_what_was_decided_long_ago_is_not_asked_for(server: ContractServer, call: Call):
    script = ScriptedRun().behind(server)
    script.log = BEFORE + AFTER
    done = call("runs", "follow", "run_1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "I ask\nDone\n", "")


def test_ctrl_c_leaves_the_run_alone_and_says_how_to_cancel_it(server: ContractServer, url: str, tmp_path: Path):
    server.on(EVENTS, event_stream(*lost_and_found(ends=b"")[:3]), event_stream())
    process = subprocess.Popen(
        [*GOAGENTS, "runs", "follow", "run_1"],
        cwd=tmp_path,
        env=environment(GOAGENTS_SERVER=url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + 60
        while len(server.requests) < 3 and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        printed, noted = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert printed == "Let me look.\n"
    assert "the run goes on; `goagents runs cancel run_1` cancels it" in noted
    assert {request["method"] for request in server.requests} == {"GET"}


# approve and cancel


@pytest.mark.parametrize(
    ("arguments", "decision"),
    [
        ([], {"decision": "allow"}),
        (["--call", "call_1"], {"decision": "allow", "call_id": "call_1"}),
        (["--deny", "--reason", "too much"], {"decision": "deny", "reason": "too much"}),
        (["--arguments", '{"order": 8}'], {"decision": "allow", "arguments": {"order": 8}}),
    ],
)
def test_a_decision_is_sent(server: ContractServer, call: Call, arguments: list[str], decision: dict[str, Any]):
    script = ScriptedRun().behind(server)
    done = call("runs", "approve", "run_1", *arguments)
    assert (done.returncode, done.stdout) == (0, "run run_1 goes on\n")
    assert "goagents runs follow run_1" in done.stderr
    assert script.decided == [{"decisions": [decision]}]


def test_a_decision_is_answered_as_json(server: ContractServer, call: Call):
    ScriptedRun().behind(server)
    assert json.loads(call("runs", "approve", "run_1", "-o", "json").stdout)["status"] == "running"


def test_a_decision_that_is_refused_is_status_1(server: ContractServer, call: Call):
    errors = [{"path": "decisions", "message": "call_2 is undecided"}]
    server.on(APPROVE, problem(422, "invalid", "Not every call is decided.", errors=errors))
    failed(call("runs", "approve", "run_1", "--call", "call_1"), 1, "decisions: call_2 is undecided")
    server.on(APPROVE, problem(409, "conflict", "The run does not wait."))
    failed(call("runs", "approve", "run_1"), 1, "Error: The run does not wait.")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["approve", "run_1", "--deny", "--arguments", "{}"], "--deny or --arguments, not both"),
        (["approve", "run_1", "--arguments", "[1]"], "arguments are a JSON object"),
        (["approve", "run_1", "--arguments", "{"], "this is no JSON"),
        (["approve", "run_1", "--arguments", '{"a": NaN}'], "NaN is no number"),
        (["approve", "run_1", "--arguments", '{"a": "\\ud800"}'], "this is no JSON"),
        (["approve", "run_1", "--ask", "--deny"], "give no other option"),
        (["approve", "run_1", "--ask"], "no terminal to ask on"),
        (["approve", "run_1", "--reason", "x" * 2001], "at most 2000 characters"),
        (["approve"], "Missing argument 'RUN'"),
        (["list", "--agent", "helper"], "name the cluster of the agent"),
        (["list", "--session", "s", "--cluster", "c"], "not both"),
        (["list", "--status", "odd"], "'odd' is not one of"),
    ],
)
def test_wrong_usage_is_status_2(server: ContractServer, call: Call, arguments: list[str], says: str):
    ScriptedRun().behind(server)
    failed(call("runs", *arguments), 2, says)
    assert not [request for request in server.requests if request["method"] == "POST"]


def test_each_call_can_be_asked_about(server: ContractServer, url: str):
    script = ScriptedRun().behind(server)
    terminal = Terminal(url, "runs", "approve", "run_1", "--ask")
    try:
        terminal.await_text("ater: ")
        terminal.type("y\n")
        terminal.await_text("run run_1 goes on")
        assert terminal.process.wait(60) == 0
    finally:
        terminal.close()
    assert script.decided == [{"decisions": [{"call_id": "call_1", "decision": "allow"}]}]


@pytest.mark.parametrize(
    ("status", "says", "code"), [("waiting", "interrupted", 130), ("running", "waits for nobody", 1)]
)
def test_without_a_decision_nothing_is_sent(server: ContractServer, url: str, status: str, says: str, code: int):
    server.on("GET /api/v1/runs/run_1", JSONResponse(run(status)))
    terminal = Terminal(url, "runs", "approve", "run_1", "--ask")
    try:
        if status == "waiting":
            terminal.await_text("ater: ")
            terminal.type("l\n")
        terminal.await_text(says)
        assert terminal.process.wait(60) == code
    finally:
        terminal.close()
    assert [request["method"] for request in server.requests] == ["GET"]


def test_a_run_is_cancelled_now_or_when_its_process_notices(server: ContractServer, call: Call):
    server.on(CANCEL, JSONResponse(run("cancelled")), accepted("running"))
    assert call("runs", "cancel", "run_1", "--reason", "no need").stdout == "run run_1 cancelled\n"
    assert server.requests[0]["body"] == {"reason": "no need"}
    assert call("runs", "cancel", "run_1").stdout == "run run_1 is running, and will be cancelled\n"
    assert json.loads(call("runs", "cancel", "run_1", "-o", "json").stdout)["status"] == "running"
    server.on(CANCEL, problem(409, "conflict", "The run has succeeded."))
    failed(call("runs", "cancel", "run_1"), 1, "Error: The run has succeeded.")


# chat without a terminal

CHAT = ("chat", "--cluster", "support", "--agent", "helper")


@pytest.mark.parametrize("form", ["table", "json"])
def test_chat_says_what_to_type_where_there_is_nobody_to_ask(server: ContractServer, call: Call, form: str):
    script = ScriptedRun().behind(server)
    done = call(*CHAT, "Refund it", "--output", form)
    assert (done.returncode, done.stdout) == (1, "I ask\n" if form == "table" else "")
    assert '? refund (unsafe; it asks for approval), call call_1\n  {"order": 7}\n' in done.stderr
    assert "the run waits for a person to decide:\n  goagents runs approve run_1\n" in done.stderr
    assert script.decided == []


def test_a_conversation_from_a_pipe_ends_where_the_run_waits(server: ContractServer, call: Call):
    ScriptedRun().behind(server)
    done = call(*CHAT, stdin="Refund it\nAnd then?\n")
    assert done.returncode == 1
    assert [r["body"]["message"] for r in server.requests if r["path"].endswith("/stream")] == ["Refund it"]


def test_chat_connects_again(server: ContractServer, call: Call):
    events = lost_and_found(ends=sent_event("3-3", "run.completed", completed("It is blue.")))
    server.on(STREAM, event_stream(*events[:4]))
    server.on(EVENTS, event_stream(*events[4:8]), event_stream(*events[8:]))
    done = call(*CHAT, "What colour?")
    assert (done.returncode, done.stdout) == (0, "Let me look.\nIt is re\nIt is blue.\n")
    assert [r["headers"].get("last-event-id") for r in server.requests] == [None, "1-4", "2-3"]
