"""A conversation on a real (pseudo) terminal: prompt, Ctrl-C in an answer and at the prompt, approvals, Ctrl-D."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from tests.support.asgi_server import AsgiServer
from tests.support.contract_server import (
    ContractServer,
    about,
    completed,
    event_stream,
    problem,
    sent_event,
    waiting,
    waiting_call,
)
from tests.support.scripted_run import ScriptedRun
from tests.support.terminal import Terminal

STREAM = "POST /api/v1/agents/support.helper/stream"
CHAT = ("chat", "--cluster", "support", "--agent", "helper")


def event(seq: int, kind: str, data: object) -> bytes:
    return sent_event(f"1-{seq}", kind, data)


def answer(_: Request) -> Response:
    return event_stream(
        event(1, "tool.started", {"call_id": "c", "name": "customers", "arguments": {"id": 7}}),
        event(
            2,
            "tool.finished",
            {"call_id": "c", "name": "customers", "is_error": False, "duration": 0.1, "output": "Ann"},
        ),
        event(3, "message.delta", {"text": "Hello \x1b[31mAnn"}),
        event(4, "run.completed", completed()),
    )


def endless(_: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        yield event(1, "run.started", about(attempt=1))
        yield event(2, "message.delta", {"text": "Thinking"})
        await asyncio.sleep(60)

    return StreamingResponse(body(), media_type="text/event-stream")


@pytest.fixture
def server() -> ContractServer:
    return ContractServer()


@pytest.fixture
def terminal(server: ContractServer) -> Iterator[Terminal]:
    with AsgiServer(server) as running:
        made = Terminal(running.url, *CHAT)
        try:
            yield made
        finally:
            made.close()


def test_a_conversation(server: ContractServer, terminal: Terminal):
    server.on(STREAM, answer, endless, answer)
    terminal.await_text("Ctrl-D ends")
    terminal.await_text("> ")
    terminal.type("Hello\n")
    terminal.await_text(r"→ customers \{'id': 7\}")
    terminal.await_text(r"← customers \(0\.10 s\) Ann")
    terminal.await_text(r"Hello \[31mAnn")
    terminal.screen = ""
    terminal.type("Think!\n")
    terminal.await_text("Thinking")
    terminal.type("\x03")
    terminal.await_text("interrupted; the agent finishes.* `goagents runs cancel run_1` cancels it")
    terminal.await_text("> ")
    terminal.screen = ""
    terminal.type("half a line\x03")
    terminal.await_text("> ")
    terminal.type("again\n")
    terminal.await_text(r"Hello \[31mAnn")
    terminal.type("\x04")
    terminal.await_text(r"session session_1 \(14 tokens in, 6 out\)")
    assert terminal.process.wait(60) == 0
    bodies = [request["body"] for request in server.requests]
    assert [body["message"] for body in bodies] == ["Hello", "Think!", "again"]
    assert [body.get("session_id") for body in bodies] == [None, "session_1", "session_1"]


# Approvals


def asked(server: ContractServer, terminal: Terminal) -> ScriptedRun:
    """A message whose run waits for a person; two calls."""
    script = ScriptedRun().behind(server)
    calls = waiting(
        waiting_call(), waiting_call("call_2", "mail", arguments={"to": "ann\u202e@x"}, reason="outcome_unknown")
    )
    script.log[-1] = ("1-3", "run.waiting", about(waiting=calls))
    terminal.await_text("> ")
    terminal.type("Refund it\n")
    terminal.await_text(r"I ask\r?\n")
    terminal.await_text(r"\? refund \(unsafe; it asks for approval\), call call_1\s+\{\"order\": 7\}")
    return script


def decided(script: ScriptedRun) -> list[object]:
    (body,) = script.decided
    return body["decisions"]


def test_calls_are_approved_and_the_answer_comes(server: ContractServer, terminal: Terminal):
    script = asked(server, terminal)
    terminal.type("y\n")
    terminal.await_text(r"\? mail \(unsafe; nobody knows whether it was carried out before\)")
    terminal.await_text(r"ann\\u202e@x")  # what cannot be seen is shown
    terminal.type("what?\n")
    terminal.await_text(r"ater: .*\n.*ater: ")
    terminal.type("n\n")
    terminal.await_text("Why not")
    terminal.type("not her\n")
    terminal.await_text(r"Done\r?\n")
    terminal.await_text(r"Done\r?\n(?s:.*)> ")
    assert decided(script) == [
        {"call_id": "call_1", "decision": "allow"},
        {"call_id": "call_2", "decision": "deny", "reason": "not her"},
    ]
    terminal.type("\x04")
    terminal.await_text(r"session session_1 \(7 tokens in, 3 out\)")
    assert terminal.process.wait(60) == 0


def test_arguments_are_edited_in_place(server: ContractServer, terminal: Terminal):
    script = asked(server, terminal)
    terminal.type("e\n")
    terminal.await_text("an empty line leaves them")
    terminal.await_text(r"again:(?s:.*)\{\"order\": 7\}")
    terminal.type("\x7f\n")  # without its last bracket it is no JSON
    terminal.await_text("this is no JSON")
    terminal.type("\x15[1]\n")
    terminal.await_text("arguments are a JSON object")
    terminal.type('\x15{"order": 8}\n')
    terminal.await_text(r"\? mail")
    terminal.screen = ""
    terminal.type("e\n")
    terminal.await_text(r"again:(?s:.*)u202e@x\"\}")
    terminal.type("\x15\n")
    terminal.type("y\n")
    terminal.await_text(r"Done\r?\n")
    assert decided(script) == [
        {"call_id": "call_1", "decision": "allow", "arguments": {"order": 8}},
        {"call_id": "call_2", "decision": "allow"},
    ]


@pytest.mark.parametrize("keys", ["l\n", "y\nl\n", "\x04", "\x03"])
def test_a_decision_can_be_left_for_later(server: ContractServer, terminal: Terminal, keys: str):
    script = asked(server, terminal)
    terminal.await_text("ater: ")
    terminal.type(keys)
    terminal.await_text("the run waits for a person to decide:")
    terminal.await_text("  goagents runs approve run_1\r?\n")
    terminal.await_text(r"  goagents runs approve run_1 --ask(?s:.*)> ")
    assert script.decided == []
    terminal.type("\x04")
    assert terminal.process.wait(60) == 0


def test_what_somebody_else_decided_is_no_error(server: ContractServer, terminal: Terminal):
    script = asked(server, terminal)
    server.on("POST /api/v1/runs/run_1/approve", problem(409, "conflict", "The run does not wait any more."))
    script.log, script.then = script.log + script.then, []
    terminal.await_text("ater: ")
    terminal.type("y\ny\n")
    terminal.await_text("The run does not wait any more")
    terminal.await_text(r"Done\r?\n")
    assert script.decided == []
