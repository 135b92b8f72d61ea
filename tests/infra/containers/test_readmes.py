"""The pages beside the files: links lead somewhere, what they tell to set is what is read."""

import re
from pathlib import Path

import pytest
from tests.benchmarks.servers import ROOT
from tests.infra.containers.monitoring import COMPOSE, load

PAGES = [ROOT / "infra" / name / "README.md" for name in ("docker", "kubernetes", "compose")]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_links_and_targets_are_there(page: Path):
    text = page.read_text(encoding="utf-8")
    for target in LINK.findall(text):
        assert (page.parent / target).exists(), target
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z0-9-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_secrets_that_are_told_of_are_those_that_are_asked_for():
    text = (ROOT / "infra/kubernetes/README.md").read_text(encoding="utf-8")
    deployment = load(ROOT / "infra/kubernetes/base/deployment.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    asked = {one["name"] for one in container["env"] if "valueFrom" in one}
    assert asked == set(re.findall(r"\b[A-Z]+_(?:API|INTERNAL|KEY|METRICS_KEY)_(?:KEY|HASH)\b", text))


def test_the_ports_that_are_told_of_are_those_that_are_read():
    text = (COMPOSE / "README.md").read_text(encoding="utf-8")
    services = load(COMPOSE / "compose.yaml")["services"]
    published = {port for service in services.values() for port in service.get("ports", ())}
    told = re.findall(r"http://127\.0\.0\.1:(\d+) \| `([A-Z_]+)`", text)
    assert {f"{name}:-{port}" for port, name in told} == {
        re.search(r"\$\{([^}]*)\}", port).group(1)  # type: ignore[union-attr]
        for port in published
    }
