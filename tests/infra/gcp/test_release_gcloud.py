"""The gcloud that the release was tried with is the one that runs it."""

import re
from pathlib import Path

from tests.support.google_project import ROOT

VERSION = re.compile(r"^[0-9]+\.[0-9]+\.[0-9]+$")


def of_the_pipeline() -> set[str]:
    return set(re.findall(r"google-cloud-cli:(\S+)", (ROOT / "cloudbuild.yaml").read_text(encoding="utf-8")))


def of_the_workflows(folder: Path) -> list[str]:
    """The version each use of setup-gcloud asks for, empty where it is the newest there is."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.yml")))
    uses = re.findall(r"uses: google-github-actions/setup-gcloud@\S+\n((?: {8,}.*\n)*)", text)
    return [
        found[1] if (found := re.search(r"^ +version: \"?([0-9.]+)\"?(?: #.*)?$", each, re.MULTILINE)) else ""
        for each in uses
    ]


def test_tests_and_pipeline_have_one_gcloud():
    (version,) = of_the_pipeline()
    assert VERSION.match(version)
    assert set(of_the_workflows(ROOT / ".github" / "workflows")) == {version}


def test_a_workflow_that_takes_the_newest_is_found(tmp_path: Path):
    step = "      - uses: google-github-actions/setup-gcloud@v2.1.4\n        with:\n"
    (tmp_path / "a.yml").write_text(
        f"{step}          install_components: b\n      - run: version: 1\n", encoding="utf-8"
    )
    (tmp_path / "b.yml").write_text(f"{step}          version: 1.2.3\n", encoding="utf-8")
    assert of_the_workflows(tmp_path) == ["", "1.2.3"]
