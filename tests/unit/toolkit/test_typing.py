"""A type checker sees the user's function as it was written."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SOURCE = """
from goagents.toolkit import Toolkit

kit = Toolkit("t")

@kit.tool(effect="read")
def find(number: str, many: int = 1) -> list[str]:
    '''Finds.'''
    return [number] * many

@kit.tool
def change(number: str) -> None:
    '''Changes.'''

found: list[str] = find("7", many=2)
change(number="7")
tools = kit.function
find(7)
change()
kit.tool(effect="harmless")
"""


def test_the_decorator_keeps_the_signature(tmp_path: Path):
    module = tmp_path / "main.py"
    module.write_text(SOURCE, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file", "pyproject.toml"]
    done = subprocess.run([*command, str(module)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    lines = [
        line.partition("main.py:")[2] for line in done.stdout.splitlines() if "main.py:" in line and "error" in line
    ]
    assert [line.partition(":")[0] for line in lines] == ["18", "19", "20"], done.stdout
    assert 'incompatible type "int"; expected "str"' in lines[0]
