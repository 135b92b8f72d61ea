"""The architecture as a test: imports point downward only, adapters know nothing of one another, files stay small.

The table is the one of ARCHITECTURE.md. The rules are functions of source text, so the tests at the end can plant
a violation of each and see it found.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "shared"
FUNCTIONS = ROOT / "functions"

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_ENTRY_POINT_LINES = 15

DEPLOYABLE = {"health", "clusters", "agents", "chat", "stream", "runs", "metrics", "worker", "sweeper", "gateway"}
PORTS = {"store", "providers", "tools", "telemetry", "secrets", "dispatch", "webhooks", "identity"}
CORE = {"engine", "access", "memory"}
# What the adapters of one port share, beside its base: it lies between the port and them.
FAMILY = {
    "goagents.store.encoding",
    "goagents.store.indexes",
    "goagents.store.paging",
    "goagents.providers.faults",
    "goagents.providers.sse",
    "goagents.tools.escapes",
    "goagents.tools.naming",
    "goagents.tools.redaction",
    "goagents.tools.registry",
    "goagents.tools.threads",
}
# What the adapters of all ports share: where outbound connections may go.
COMMON = {"net"}
LAYERS = {
    "errors": 0,
    "codes": 0,
    "messages": 0,
    "ids": 0,
    "clock": 0,
    "events": 0,
    "attempts": 0,
    "framing": 0,
    "wal": 0,
    "children": 0,
    "spec": 1,
    "records": 1,
    "logins": 1,
    "resources": 1,
    "settings": 1,
    "net": 2,
    "engine": 3,
    "access": 3,
    "memory": 3,
    "app": 4,
    "deploy": 4,
    "api": 5,
    "cli": 5,
    "client": 5,
    "testing": 5,
    "toolkit": 5,
}
# A vendor's SDK lives in its adapter and nowhere else; what several SDKs of one vendor share, in theirs.
_CLOUD_TASKS = "goagents.dispatch.cloud"  # what `adapter` calls dispatch/cloud_tasks.py
_FIRESTORE = "goagents.store.firestore"
_GOOGLE_TOKENS = "goagents.identity.google"
_TOOLKIT = "goagents.toolkit"  # no adapter: the one place with synchronous user code
VENDORS: dict[str, tuple[str, ...]] = {
    "anthropic": ("goagents.providers.anthropic",),
    "openai": ("goagents.providers.openai",),
    "google.genai": ("goagents.providers.gemini",),
    "google.cloud.firestore": (_FIRESTORE,),
    "google.cloud.firestore_v1": (_FIRESTORE,),
    "google.cloud.tasks": (_CLOUD_TASKS,),
    "google.cloud.tasks_v2": (_CLOUD_TASKS,),
    "google.api_core": (_FIRESTORE, _CLOUD_TASKS),
    "google.auth": (_FIRESTORE, _CLOUD_TASKS, _GOOGLE_TOKENS),
    "google.oauth2": (_GOOGLE_TOKENS,),
    "grpc": (_FIRESTORE, _CLOUD_TASKS),
    "mcp": ("goagents.tools.mcp",),
    "mcp_types": ("goagents.tools.mcp",),
    "sqlite3": ("goagents.store.sqlite", _TOOLKIT, "goagents.wal"),  # the last is what the two share
    "flask": (_TOOLKIT,),
    "werkzeug": (_TOOLKIT,),
}
# The places that import on use, each with its reason.
LAZY = {
    "goagents.app": "loads adapters by name, so that a function imports only what its requests need",
}


@dataclass(frozen=True)
class Import:
    module: str
    imported: str
    line: int
    nested: bool  # inside a function
    typing: bool  # under `if TYPE_CHECKING:`, never executed

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.imported}"


def sources(root: Path = SHARED) -> dict[str, str]:
    """All modules under `root`, by dotted name; a package's name stands for its __init__."""
    found = {}
    for path in sorted((root / "goagents").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found


def imports(modules: Mapping[str, str]) -> Iterator[Import]:
    for module, source in modules.items():
        package = module if any(name.startswith(f"{module}.") for name in modules) else module.rpartition(".")[0]
        for node, nested, typing in _statements(ast.parse(source)):
            for name in _names(node, package, modules):
                yield Import(module, name, node.lineno, nested, typing)


def _statements(
    tree: ast.AST, nested: bool = False, typing: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, nested, typing
            continue
        inside = nested or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        guarded = typing or (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"))
        yield from _statements(child, inside, guarded)


def _names(node: ast.Import | ast.ImportFrom, package: str, modules: Mapping[str, str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    above = package.split(".")
    base = ".".join(filter(None, [*(above[: len(above) - node.level + 1] if node.level else []), node.module]))
    # `from goagents.store import base` imports a module, `from goagents.store.base import Store` a name of one:
    # what exists tells them apart.
    whole = [f"{base}.{alias.name}" for alias in node.names]
    return sorted({name if name in modules or name in VENDORS else base for name in whole})


def layer(module: str) -> int | None:
    """The layer of a module of ours; None where the table does not name it."""
    parts = module.split(".")
    if len(parts) == 1:
        return 0  # the package itself: its version, nothing imported
    if parts[1] in PORTS:
        return 2 if len(parts) == 2 or parts[2] == "base" or module in FAMILY else 3
    return LAYERS.get(parts[1])


def adapter(module: str) -> str | None:
    """The adapter a module is part of, if any (`goagents.tools.http` for `goagents.tools.http_client`)."""
    parts = module.split(".")
    if len(parts) < 3 or parts[1] not in PORTS or layer(module) == 2:
        return None
    return ".".join([*parts[:2], parts[2].partition("_")[0]])


def forbidden(found: Import) -> str | None:
    """Why an import between two of our modules breaks the architecture, or None."""
    above, below = layer(found.module), layer(found.imported)
    if found.module == "goagents" and found.typing:
        return None  # the package's face: what it offers by name, loaded on first use
    if above is None or below is None:
        return "a module that the table of layers does not name"
    area, target = found.module.split(".")[1:2], found.imported.split(".")[1:2]
    ours, theirs = adapter(found.module), adapter(found.imported)
    rules = {
        "imports point downward only": below > above,
        "the client knows L0 and L1 only": area == ["client"] and target != ["client"] and below > 1,
        "the toolkit knows L0, L1 and access only": (
            area == ["toolkit"] and target not in (["toolkit"], ["access"]) and below > 1
        ),
        "the API knows nothing of the command line": area == ["api"] and target == ["cli"],
        "an adapter knows its own port only": ours and below == 2 and area != target and not set(target) & COMMON,
        "what all adapters share knows no port": bool(set(area) & COMMON) and bool(set(target) & PORTS),
        "an adapter knows nothing of the engine": ours and bool(set(target) & CORE),
        "an adapter never imports another": ours and theirs and ours != theirs,
        "the engine knows ports, never an adapter": theirs and bool(set(area) & CORE),
    }
    return next((reason for reason, broken in rules.items() if broken), None)


def cycles(modules: Mapping[str, str]) -> list[list[str]]:
    """Import cycles between modules, each once, as the modules in it."""
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for found in imports(modules):
        if found.imported in modules and found.imported != found.module and not found.typing:
            graph[found.module].add(found.imported)
    seen: set[str] = set()
    stack: list[str] = []
    result: list[list[str]] = []

    def visit(name: str) -> None:
        if name in stack:
            result.append(stack[stack.index(name) :])
            return
        if name in seen:
            return
        seen.add(name)
        stack.append(name)
        for target in sorted(graph[name]):
            visit(target)
        stack.pop()

    for name in sorted(graph):
        visit(name)
    return result


def long_functions(source: str) -> list[str]:
    return [
        f"{node.name} has {length} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]


def layer_violations(modules: Mapping[str, str]) -> list[str]:
    return [
        f"{found}: {reason}"
        for found in imports(modules)
        if found.imported.split(".")[0] == "goagents" and (reason := forbidden(found))
    ]


def vendor_violations(modules: Mapping[str, str]) -> list[str]:
    return [
        f"{found}: {vendor} belongs into {' and '.join(homes)}"
        for found in imports(modules)
        for vendor, homes in VENDORS.items()
        if (found.imported == vendor or found.imported.startswith(f"{vendor}.")) and _home(found.module) not in homes
    ]


def _home(module: str) -> str:
    """The adapter a module is part of, else its package."""
    return adapter(module) or ".".join(module.split(".")[:2])


def nested_imports(modules: Mapping[str, str]) -> list[str]:
    return [f"{found} inside a function" for found in imports(modules) if found.nested and found.module not in LAZY]


MODULES = sources()


def test_the_package_was_found():
    assert {"goagents", "goagents.errors", "goagents.store.base"} <= set(MODULES)


def test_imports_point_downward_and_adapters_stand_alone():
    assert layer_violations(MODULES) == []


def test_a_vendors_sdk_is_imported_by_its_adapter_only():
    assert vendor_violations(MODULES) == []


def test_imports_stand_at_the_top():
    assert nested_imports(MODULES) == []


def test_no_import_cycles():
    assert cycles(MODULES) == []


@pytest.mark.parametrize("module", MODULES)
def test_a_file_can_be_read_in_one_go(module: str):
    lines = len(MODULES[module].splitlines())
    assert lines <= MAX_FILE_LINES, f"{module} has {lines} lines: split it by what it is about"
    assert long_functions(MODULES[module]) == []


def test_every_function_of_the_list_is_there_and_no_other():
    assert {path.parent.name for path in FUNCTIONS.glob("*/main.py")} == DEPLOYABLE


@pytest.mark.parametrize("name", sorted(DEPLOYABLE))
def test_an_entry_point_adapts_and_nothing_else(name: str):
    source = (FUNCTIONS / name / "main.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < MAX_ENTRY_POINT_LINES
    found = {imported.imported for imported in imports({"main": source})}
    assert found <= {"functions_framework.aio", "goagents.app", "starlette.requests", "starlette.types"}
    assert name in {node.name for node in ast.parse(source).body if isinstance(node, ast.AsyncFunctionDef)}


# The rules can fail: one planted violation each.

PLANTED = dict.fromkeys(MODULES, "") | {
    "goagents.store.sqlite": "",
    "goagents.store.firestore": "",
    "goagents.tools.http": "",
    "goagents.engine.execution.loop": "",
    "goagents.api.agents": "",
    "goagents.cli.main": "",
}


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("goagents.errors", "import goagents.records", "downward"),
        ("goagents.records", "from goagents.store.base import Store", "downward"),
        ("goagents.engine.execution.loop", "from goagents.app import application", "downward"),
        ("goagents.app", "from goagents import api", "downward"),
        ("goagents.engine.execution.loop", "from goagents.store.sqlite import SqliteStore", "never an adapter"),
        ("goagents.engine.execution.loop", "from goagents.store import sqlite", "never an adapter"),
        ("goagents.store.firestore", "from goagents.store.sqlite import SqliteStore", "never imports another"),
        ("goagents.store.firestore", "from .sqlite import SqliteStore", "never imports another"),
        ("goagents.tools.http", "from goagents.store.base import Store", "its own port"),
        ("goagents.tools.http", "from goagents.engine.execution.loop import run", "nothing of the engine"),
        ("goagents.net.guarded", "from goagents.tools.base import Tool", "knows no port"),
        ("goagents.net.guarded", "from goagents.tools.http import HttpTool", "downward"),
        ("goagents.client", "from goagents.store.base import Store", "L0 and L1"),
        ("goagents.client", "from goagents.net.guarded import GuardedSession", "L0 and L1"),
        ("goagents.api.agents", "from goagents.cli.main import main", "nothing of the command line"),
        ("goagents.toolkit.kit", "from goagents.engine.execution.loop import run", "L0, L1 and access"),
        ("goagents.toolkit.kit", "from goagents.tools.base import Effect", "L0, L1 and access"),
        ("goagents.drawer.things", "import goagents.errors", "does not name"),
    ],
)
def test_a_planted_import_is_found(module: str, source: str, reason: str):
    (violation,) = layer_violations(PLANTED | {"goagents.api": "", module: source})
    assert reason in violation


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "goagents.engine.execution.loop",
            "from goagents.store.base import Store\nfrom goagents.errors import NotFound",
        ),
        ("goagents.tools.http", "from goagents.tools.base import Tool"),
        ("goagents.tools.http.openapi", "from goagents.tools.http import guard"),
        ("goagents.tools.http_client", "from . import naming\nfrom .http_body import read_body"),
        ("goagents.webhooks.http", "from goagents.net.guarded import GuardedSession"),
        ("goagents.cli.main", "from goagents.client import Client"),
    ],
)
def test_an_import_downward_is_allowed(module: str, source: str):
    assert layer_violations(PLANTED | {module: source}) == []


def test_other_planted_faults_are_found():
    assert nested_imports({"goagents.ids": "def f():\n    import json"}) == [
        "goagents.ids:2 imports json inside a function"
    ]
    assert vendor_violations({"goagents.api.agents": "from google import genai"})
    assert vendor_violations({"goagents.api.agents": "from openai.types import Chat"})
    assert vendor_violations({"goagents.dispatch.cloud_tasks": "from google.cloud.firestore_v1 import types"})
    assert vendor_violations({"goagents.access.internal": "from google.auth import jwt"})
    assert vendor_violations({"goagents.api.agents": "import flask"})
    assert vendor_violations({"goagents.dispatch.cloud_tasks": "import grpc"}) == []
    assert vendor_violations({"goagents.toolkit.kit": "import flask"}) == []
    assert cycles({"a": "import b", "b": "import c", "c": "import a", "d": "import a"}) == [["a", "b", "c"]]
    assert cycles({"a": "import b", "b": "if TYPE_CHECKING:\n    import a"}) == []
    assert long_functions("def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES)
