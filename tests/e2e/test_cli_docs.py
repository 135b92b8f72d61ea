"""Every Python example of docs/client.md runs, against the real server."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from tests.support.cli_process import goagents, running

from goagents.client.operations import Operations

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_examples_do_what_they_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert goagents("init", cwd=tmp_path).returncode == 0
    with running(cwd=tmp_path) as server:
        printed = []
        for example in EXAMPLES:
            scope: dict[str, Any] = {}
            exec(example.replace("http://127.0.0.1:8080", server.url), scope)  # noqa: S102 - the page's own text
            if "talk" in scope:
                assert asyncio.run(scope["talk"]()).startswith("session_")
            printed.append(capsys.readouterr().out)
    assert len(EXAMPLES) == 3
    assert printed[0].startswith("Hello Ann!")
    assert printed[0].endswith("repeat: And again?")
    assert "There is no cluster 'nowhere'" in printed[2]


def test_every_method_is_on_the_page():
    listed = set(re.findall(r"`(\w+)\(", PAGE.partition("## Methods")[2].partition("## Errors")[0]))
    assert listed - {"TextPart"} == {name for name in vars(Operations) if not name.startswith("_")} - {"namespace"}
