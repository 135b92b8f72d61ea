"""Tool functions are refused before anything is started."""

from pathlib import Path

import pytest
from tests.support.ports import free_port

from goagents.cli.functions import ToolFunctions
from goagents.errors import Invalid
from goagents.spec.python import ToolFunctionConfig


def test_a_function_does_not_take_the_servers_port(tmp_path: Path):
    source = tmp_path / "main.py"
    port = free_port()
    functions = {"a": ToolFunctionConfig(source=str(source), port=port, variable="CLOCK_URL")}
    with pytest.raises(Invalid, match=r"tool_functions\.a\.source: there is no file"):
        ToolFunctions(functions, port + 1)
    source.touch()
    with pytest.raises(Invalid, match=rf"tool_functions\.a\.port: {port} is the port of the server; choose another"):
        ToolFunctions(functions, port)
    assert ToolFunctions(functions, port + 1).variables == {"CLOCK_URL": f"http://127.0.0.1:{port}"}
