"""What the README shows is run: commands with their output, the Python, the YAML; make and gcloud lines are checked.

In a `console` block `$ ` begins a command, and what follows is its standard output, where `…` stands for anything.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click import Context
from tests.support.cli_process import environment, goagents
from tests.support.example import ROOT, customer_support
from tests.support.gcloud_lint import gcloud_faults

from goagents.cli.main import cli
from goagents.deploy.catalogue import catalogue

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DEFAULT_SERVER = "http://127.0.0.1:8080"
FAKE_VALUES = dict.fromkeys(("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GOOGLE_API_KEY", "SHOP_TOKEN"), "not-a-key")


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(README) if found == language]


def commands(block: str) -> list[tuple[str, str]]:
    """The commands of a `console` block, each with the output shown."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
    assert parts[0] == "", "a console block begins with a command"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def matches(shown: str, printed: str) -> bool:
    pattern = "".join(".*" if part == "…" else re.escape(part) for part in re.split("(…)", shown.strip()))
    tidy = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    return re.fullmatch(pattern, tidy, re.DOTALL) is not None


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """The example, running; a folder to be in, and the environment of commands that talk to it."""
    folder = tmp_path_factory.mktemp("readme")
    with customer_support(folder) as server:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        yield folder, environment(GOAGENTS_SERVER=server.url, PATH=path)


def run(command: str, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = command.replace(DEFAULT_SERVER, env["GOAGENTS_SERVER"])
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_every_block_is_of_a_language_that_is_tested():
    assert {language for language, _ in BLOCK.findall(README)} == {"sh", "console", "yaml", "python"}


def test_commands_print_what_the_readme_shows(served: tuple[Path, dict[str, str]]):
    folder, env = served
    shown = [command for block in blocks("console") for command in commands(block)]
    assert len(shown) >= 8
    for command, output in shown:
        result = run(command, folder, env)
        assert matches(output, result.stdout or result.stderr), f"$ {command}\n{result.stdout}{result.stderr}"


def test_the_python_runs(served: tuple[Path, dict[str, str]]):
    folder, env = served
    (source,) = blocks("python")
    result = subprocess.run(
        [sys.executable, "-c", source], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "Order 1001 (Analytical engine, desk size)" in result.stdout
    assert "Order 1002 (Nanosecond wire, 30 cm)" in result.stdout


def test_the_yaml_is_valid_as_one_file_and_as_two(tmp_path: Path):
    cluster, server = blocks("yaml")
    (tmp_path / "cluster.yaml").write_text(cluster, encoding="utf-8")
    (tmp_path / "config.yaml").write_text(server, encoding="utf-8")
    (tmp_path / "both.yaml").write_text(f"{server}---\n{cluster}", encoding="utf-8")
    for files in (["config.yaml", "cluster.yaml"], ["both.yaml"]):
        result = goagents("validate", *files, cwd=tmp_path, env=FAKE_VALUES)
        assert result.returncode == 0, result.stdout + result.stderr


def test_make_knows_the_targets():
    targets = set(re.findall(r"\bmake ([a-z-]+)", README)) - {"and"}
    assert {"run", "test", "bench"} <= targets
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, timeout=60, check=True)


def shell_lines() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines()]


def test_each_function_is_deployed_from_where_it_is_and_as_the_catalogue_says():
    commands_shown = [line for line in shell_lines() if line.startswith("gcloud functions deploy")]
    assert [line.split("--entry-point=")[1].split()[0] for line in commands_shown] == list(catalogue())
    for line, function in zip(commands_shown, catalogue().values(), strict=True):
        assert f"GOOGLE_FUNCTION_SOURCE={function.source} " in line
        assert f"async def {function.name}(" in (ROOT / function.source).read_text(encoding="utf-8")
        assert f"--cpu={function.cpu} --memory={function.memory} --concurrency={function.concurrency} " in line
        assert f"--timeout={function.timeout}s" in line
        assert ("--set-secrets" in line) == function.models
        assert "--no-allow-unauthenticated" in line


def gcloud_commands(page: Path) -> list[str]:
    """The gcloud commands of a page: in its shell blocks, continued lines joined, and in its running text."""
    text = re.sub(r"\$\([^)]*\)", "VALUE", page.read_text(encoding="utf-8").replace("\\\n", " "))
    fenced = "\n".join(block for language, block in BLOCK.findall(text) if language in {"sh", "console"})
    shown = re.findall(r"(?:^|\| |\$ )(gcloud .*)$", fenced, re.MULTILINE)
    indented = re.findall(r"^    (gcloud .*)$", text, re.MULTILINE)
    inline = re.findall(r"`(gcloud [^`]*)`", BLOCK.sub("", text))
    return [command.rstrip() for command in [*shown, *indented, *inline] if len(command.split()) > 2]


def test_goagents_takes_the_options_that_pages_name():
    pages = [README, (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")]
    lines = re.findall(r"^goagents (deploy|destroy) (.*--platform.*)$", "\n".join(pages), re.MULTILINE)
    assert len(lines) >= 5
    for name, options in lines:
        command = cli.get_command(Context(cli), name)
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in options.split() if word.startswith("-")} <= known


def test_gcloud_takes_the_commands_of_every_page(tmp_path: Path):
    if not shutil.which("gcloud"):
        pytest.skip("gcloud is not installed; its linter would read the commands of the pages")
    pages = sorted({ROOT / "README.md", *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("infra/**/*.md")})
    pages = [page for page in [*pages, *ROOT.glob("examples/**/*.md")] if "node_modules" not in page.parts]
    lines = [command for page in pages for command in gcloud_commands(page)]
    assert len(lines) > 25
    assert any("firestore databases create" in line for line in lines), "the indented one of docs/storage.md"
    assert gcloud_faults(lines, tmp_path) == []
    (fault,) = gcloud_faults(["gcloud functions deploy goagents --gen3"], tmp_path)
    assert "unrecognized arguments: --gen3" in fault
