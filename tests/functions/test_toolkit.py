"""Tool functions under the real functions-framework, called by curl, the `http` tool, and an agent that has it."""

import hashlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from tests.benchmarks.servers import Server, await_port, running
from tests.support.gcloud_lint import gcloud_faults
from tests.support.http_tools import Opener, call, opener, text_of
from tests.support.ports import free_port

from goagents.errors import ToolUnavailable
from goagents.store.sqlite import SQLiteStore
from goagents.testing.cluster import LocalCluster
from goagents.testing.models import ScriptedModel

__all__ = ["opener"]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "tools"
README = (EXAMPLE / "README.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:8091"
KEY = "sesame-open"
NAMES = {"orders_find_order", "orders_list_orders", "orders_refund_order"}
REFUND = {"number": "1002", "reason": "too short"}


@contextmanager
def orders(environment: Mapping[str, str] | None = None, source: Path = EXAMPLE / "main.py") -> Iterator[Server]:
    """The tool functions of `source` in a process of their own."""
    port = free_port()
    command = [sys.executable, "-m", "functions_framework", "--target", "tools", "--source", str(source)]
    with running([*command, "--host", "127.0.0.1", "--port", str(port)], port, environment or {}) as server:
        await_port(server)
        yield server


def entry(server: Server, place: int = 0) -> dict[str, Any]:
    """An `http` entry of the README, as it stands there but for the address."""
    blocks = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    text = blocks[place].replace(f"http://{ADDRESS}", server.url).replace("https://orders.example.com", server.url)
    (found,) = yaml.safe_load(text)["tools"]
    return {key: value for key, value in found.items() if key != "type"}


def ask(server: Server, method: str, path: str, body: Any = None, **options: Any) -> httpx2.Response:
    return httpx2.request(method, server.url + path, json=body, timeout=60, trust_env=False, **options)


def test_the_readmes_transcript_is_what_happens():
    transcript = "".join(re.findall(r"```console\n(.*?)```", README, re.DOTALL))
    steps = re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", transcript, re.MULTILINE)
    assert len(steps) == 6
    with orders() as server:
        for command, shown in steps:
            assert ADDRESS in command
            line = command.replace(ADDRESS, f"127.0.0.1:{server.port}").replace("curl ", "curl --noproxy '*' ", 1)
            done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, check=True)
            assert done.stdout == shown.removesuffix("\n"), command


async def test_the_http_tool_has_one_tool_for_each_function(opener: Opener):
    with orders() as server:
        tools = await opener.tools(**entry(server))
        assert set(tools) == NAMES
        assert tools["orders_find_order"].definition.effect == "read"
        assert tools["orders_list_orders"].definition.effect == "read"
        assert tools["orders_refund_order"].definition.effect == "idempotent"
        assert "Refunds a delivered order" in tools["orders_refund_order"].definition.description
        found = await call(tools["orders_list_orders"], email="ada@example.com", status="shipped")
        assert (found.is_error, '"item":"Analytical engine"' in text_of(found)) == (False, True)
        absent = await call(tools["orders_find_order"], number="9999")
        assert (absent.is_error, "There is no order 9999" in text_of(absent)) == (True, True)
        wrong = await call(tools["orders_find_order"], number="x")
        assert (wrong.is_error, '"path":"number"' in text_of(wrong)) == (True, True)


async def test_a_repeated_call_of_a_run_is_carried_out_once(opener: Opener):
    with orders() as server:
        fields = {**entry(server), "include": ["refund_order"]}
        (refund,) = (await opener.tools(**fields)).values()
        assert refund.definition.effect == "idempotent"
        first = await call(refund, body=REFUND)
        again = await call(refund, body=REFUND)  # with the same key: it is one call of one run
        assert text_of(first) == text_of(again)
        assert "SHOP-1002" in text_of(first)
        other = ask(server, "POST", "/refund_order", REFUND, headers={"Idempotency-Key": "another"})
        assert (other.status_code, "only delivered ones" in other.json()["detail"]) == (409, True)


async def test_an_agent_has_the_tools(opener: Opener, tmp_path: Path):
    manifest = {
        "apiVersion": "goagents.dev/v1",
        "kind": "AgentCluster",
        "metadata": {"name": "shop"},
        "spec": {"agents": [{"name": "clerk", "provider": "scripted", "model": "m", "tools": [{"type": "http"}]}]},
    }
    model = ScriptedModel(
        {"tool_calls": [{"name": "orders_find_order", "arguments": {"number": "1001"}}]}, "It is on its way."
    )
    with orders() as server:
        fields = entry(server)
        manifest["spec"]["agents"][0]["tools"] = [{"type": "http", **fields}]
        cluster = tmp_path / "cluster.yaml"
        cluster.write_text(yaml.safe_dump(manifest), encoding="utf-8")
        store = SQLiteStore(str(tmp_path / "test.db"))
        tools = list((await opener.tools(**fields)).values())
        async with LocalCluster(str(cluster), store, model=model, tools={"orders": tools}) as shop:
            answer = await shop.chat("clerk", "Where is order 1001?")
        await store.aclose()
    assert answer.message.text == "It is on its way."
    assert "Analytical engine" in str(model.requests[1].messages)


async def test_a_key_is_sent_where_the_entry_names_the_url(opener: Opener):
    hashed = hashlib.sha256(KEY.encode()).hexdigest()
    opener.lent.variables["ORDERS_KEY"] = KEY
    with orders({"ORDERS_API_KEYS": hashed}) as server:
        assert ask(server, "GET", "/health").json() == {"status": "ok"}
        assert ask(server, "GET", "/find_order?number=1001").status_code == 401
        with pytest.raises(ToolUnavailable, match="answered 401"):
            await opener.tools(**entry(server))
        tools = await opener.tools(**entry(server, 1))
        assert set(tools) == NAMES
        assert "Paper tape" in text_of(await call(tools["orders_find_order"], number="1003"))


def test_keys_in_a_file_outlive_the_process(tmp_path: Path):
    environment = {"ORDERS_KEY_FILE": str(tmp_path / "keys.db")}
    headers = {"Idempotency-Key": "run_1/2/a"}
    with orders(environment) as server:
        first = ask(server, "POST", "/refund_order", REFUND, headers=headers)
        assert first.status_code == 200
        for process in reversed(server.tree()):
            process.send_signal(signal.SIGKILL)
    with orders(environment) as server:
        again = ask(server, "POST", "/refund_order", REFUND, headers=headers)
        assert (again.content, again.headers.get("Idempotent-Replayed")) == (first.content, "true")


def test_keys_in_a_file_are_those_of_all_processes(tmp_path: Path):
    with orders({"ORDERS_KEY_FILE": str(tmp_path / "keys.db"), "WORKERS": "2"}) as server:
        headers = {"Idempotency-Key": "run_1/2/a", "Connection": "close"}

        def refund(_: int) -> httpx2.Response:
            return ask(server, "POST", "/refund_order", REFUND, headers=headers)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(refund, range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len([answer for answer in answers if "Idempotent-Replayed" not in answer.headers]) == 1


def test_a_body_without_a_length_is_bounded():
    def chunks(size: int) -> Iterator[bytes]:
        yield b'{"number": "'
        for _ in range(size):
            yield b"1" * 1024
        yield b'"}'

    with orders() as server:
        headers = {"Content-Type": "application/json"}
        taken = ask(server, "POST", "/find_order", content=chunks(1), headers=headers)
        assert (taken.status_code, taken.json()["errors"][0]["path"]) == (422, "number")
        refused = ask(server, "POST", "/find_order", content=chunks(1100), headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (413, "payload_too_large")


def test_a_function_that_is_no_tool_keeps_the_server_from_starting(tmp_path: Path):
    source = tmp_path / "main.py"
    source.write_text(
        "from goagents.toolkit import Toolkit\nkit = Toolkit('t')\n@kit.tool\nasync def late() -> None:\n    'Late.'\n"
    )
    with pytest.raises(RuntimeError, match="ended before it listened"), orders(source=source):
        pass


def test_gcloud_takes_the_commands_of_the_pages(tmp_path: Path):
    if not shutil.which("gcloud"):
        pytest.skip("gcloud is not installed; its linter would read the deploy commands")
    page = (ROOT / "docs" / "toolkit.md").read_text(encoding="utf-8") + README.replace("\\\n", " ")
    commands = re.findall(r"^gcloud .*", re.sub(r"\$\([^\n]*\)", "HASH", page), re.MULTILINE)
    assert [command.count("--entry-point=tools") for command in commands] == [1, 0, 1]
    assert gcloud_faults(commands, tmp_path) == []
