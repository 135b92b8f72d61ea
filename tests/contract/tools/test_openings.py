"""What a package raises while it is imported: its tools are unavailable, and the log has it once, without secrets."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.acme import unpacked
from tests.support.engine import ALICE, applied, engine, manifest
from tests.support.runs import chat

from goagents.app import TOOLSETS, ResolverFactory, load_by_name
from goagents.engine import clusters
from goagents.spec import plugins
from goagents.spec.config import Config
from goagents.spec.plugins import STORED
from goagents.store.base import Store
from goagents.store.sqlite import SQLiteStore
from goagents.telemetry.base import Unexpected
from goagents.tools.base import Toolset
from goagents.tools.registry import ToolsetRegistry

KEY = "sesame-opens"
ENTRY_POINT = "the entry point 'acme-broken' (acme_tools.broken:ACME) cannot be loaded: RuntimeError"
CONFIG = Config.model_validate({"providers": {"openai": {"api_key": KEY}}, "python": {"path": ["."]}})


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the package acme, a part of which raises what holds a secret."""
    folder = unpacked(tmp_path / "site")
    (folder / "acme_tools" / "broken.py").write_text(f"raise RuntimeError('401 for key {KEY}')")
    monkeypatch.syspath_prepend(str(folder))
    plugins._found.cache_clear()
    yield folder
    plugins._found.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_tools"]:
        del sys.modules[name]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = SQLiteStore(str(tmp_path / "engine.db"))
    yield made
    await made.aclose()


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (
            {"type": "python", "target": "acme_tools.broken:f"},
            "t: importing acme_tools.broken raised RuntimeError; the server's log has the details",
        ),
        (
            {"type": "python", "target": "acme-broken"},
            f"t: {ENTRY_POINT}; or write the target as `module:function`",
        ),
        ({"type": "acme-broken"}, f"t: the tool type 'acme-broken' cannot be loaded: {ENTRY_POINT}"),
    ],
    ids=["module", "entry point", "type"],
)
async def test_what_a_package_raises_is_logged_once_and_without_secrets(
    store: Store, caplog: pytest.LogCaptureFixture, entry: dict[str, str], reason: str
):
    written = manifest().manifest()
    written["spec"]["agents"][0]["tools"] = [{**entry, "name": "t"}]
    cluster = type(manifest()).model_validate(written, context=STORED)
    registry = ToolsetRegistry(CONFIG, ResolverFactory(CONFIG, {}), TOOLSETS, load_by_name)
    toolset: Toolset = registry.build(cluster.spec.agents[0].tools[0], trusted=True)
    services = engine(store, toolsets={"t": toolset}, config=CONFIG)
    await applied(services, cluster)
    assert (await chat(services)).message.text == "hello"
    (tool,) = (await clusters.get_cluster(services, ALICE, "default", "support")).agents[0].tools
    assert (tool.status, tool.detail) == ("unavailable", reason)
    (told,) = [event for event in services.seen if isinstance(event, Unexpected)]
    assert told.where == "opening tool t"
    assert "401 for key [redacted]" in told.traceback
    assert KEY not in told.error + told.traceback + caplog.text
