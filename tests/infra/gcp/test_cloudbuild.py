"""The graph of cloudbuild.yaml's steps: nothing untested is deployed, no traffic moves before a smoke test.

The rules are functions of the file's content, so the tests at the end plant a violation of each and see it found.
"""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.gcloud_lint import gcloud_faults
from tests.support.google_project import ROOT, needs_gcloud

from goagents.deploy import release
from goagents.errors import Invalid

BUILD: dict[str, Any] = yaml.safe_load((ROOT / "cloudbuild.yaml").read_text(encoding="utf-8"))
ORDER = ("test", "build", "scan", "push", "deploy", "smoke", "promote")
KNOWN = {"PROJECT_ID", "BUILD_ID"}  # what Cloud Build substitutes itself, of what is used
BEFORE = {  # step, and what has to have passed
    "scan": {"build"},
    "push": {"test", "build", "scan"},
    "deploy": {"test", "build", "scan", "push"},
    "smoke": {"deploy"},
    "promote": {"test", "scan", "deploy", "smoke"},
}


def text_of(step: dict[str, Any]) -> str:
    return " ".join([step.get("entrypoint", ""), *step.get("args", ()), step.get("script", "")])


def passed_before(build: dict[str, Any]) -> dict[str, set[str]]:
    """What has passed by the time each step begins: what it waits for, and what that waited for.

    A step without `waitFor` waits for all before it, as Cloud Build has it.
    """
    found: dict[str, set[str]] = {}
    for step in build["steps"]:
        waits = step.get("waitFor", list(found))
        direct = {name for name in waits if name != "-"}
        found[step["id"]] = direct.union(*(found.get(name, set()) for name in direct))
    return found


def violations(build: dict[str, Any]) -> Iterator[str]:
    ids = [step.get("id") for step in build["steps"]]
    if len(set(ids)) != len(ids) or None in ids:
        yield "steps without an id of their own"
        return
    seen: set[str] = set()
    for step in build["steps"]:
        unknown = set(step.get("waitFor", ())) - seen - {"-"}
        if unknown:
            yield f"{step['id']} waits for {', '.join(sorted(unknown))}, which no step before it is"
        seen.add(step["id"])
        if step.get("allowFailure") or step.get("allowExitCodes"):
            yield f"{step['id']} may fail"
    before = passed_before(build)
    for step in build["steps"]:
        missing = BEFORE.get(step["id"], set()) - before[step["id"]]
        if missing:
            yield f"{step['id']} does not wait for {', '.join(sorted(missing))}"
        moves = re.search(r"update-traffic|release promote|--to-latest|\bset-traffic\b", text_of(step))
        if moves and "smoke" not in before[step["id"]]:
            yield f"{step['id']} moves traffic before the smoke test"
        if "run deploy" in text_of(step) and "--no-traffic" not in text_of(step):
            yield f"{step['id']} deploys with traffic"
    used = set(re.findall(r"(?<!\$)\$\{?([A-Z_][A-Z0-9_]*)\}?", yaml.safe_dump(build)))
    declared = set(build["substitutions"])
    yield from (f"{name} is used, and declared nowhere" for name in sorted(used - declared - KNOWN))
    yield from (f"{name} is declared, and used nowhere" for name in sorted(declared - used))


def test_the_steps_are_these_and_in_an_order_that_holds():
    assert tuple(step["id"] for step in BUILD["steps"]) == ORDER
    assert list(violations(BUILD)) == []


def test_everything_is_of_one_image():
    image = "${_IMAGE}"
    steps = {step["id"]: text_of(step) for step in BUILD["steps"]}
    assert f"--tag={image}" in steps["build"]
    assert "--file=infra/docker/Dockerfile" in steps["build"]
    assert (ROOT / "infra" / "docker" / "Dockerfile").is_file()
    assert all(image in steps[name] for name in ("build", "scan", "push", "deploy"))


def test_the_image_that_tests_run_in_gets_what_they_call():
    """python:slim has neither; test_readme.py and test_toolkit.py call curl, as the pages do."""
    (installed,) = re.findall(r"apt-get install (.*)", text_of(BUILD["steps"][0]))
    assert {"make", "git", "curl"} <= set(installed.split())


def test_the_release_takes_the_arguments_of_its_steps():
    parser = release._parser()
    for step in BUILD["steps"]:
        if step["id"] not in ("deploy", "smoke", "promote"):
            continue
        assert step["entrypoint"] == "python3"
        assert step["args"][:2] == ["-m", "goagents.deploy.release"]
        assert step["env"] == ["PYTHONPATH=shared"]
        options = parser.parse_args([_substituted(argument) for argument in step["args"][2:]])
        assert options.command == step["id"]
        assert options.state == Path("/workspace/release.json")
    (line,) = re.findall(r"goagents\.deploy\.release (severity .*)", text_of(BUILD["steps"][2]))
    line = line.replace('"$(cat /workspace/scan)"', "scan").replace('"', "")
    assert parser.parse_args(_substituted(line).split()).command == "severity"
    (line,) = re.findall(r"goagents\.deploy\.release (location [^)]*)", text_of(BUILD["steps"][2]))
    assert parser.parse_args(_substituted(line).replace('"', "").split()).region == "europe-west1"


def _substituted(argument: str) -> str:
    values = BUILD["substitutions"] | {"PROJECT_ID": "my-project", "BUILD_ID": "1"}
    return re.sub(r"\$\{(\w+)\}", lambda found: str(values[found[1]]), argument)


@pytest.mark.parametrize(
    ("region", "location"),
    [
        ("us-central1", "us"),
        ("northamerica-northeast1", "us"),
        ("southamerica-east1", "us"),
        ("europe-west1", "europe"),
        ("me-west1", "europe"),
        ("africa-south1", "europe"),
        ("asia-northeast1", "asia"),
        ("australia-southeast1", "asia"),
    ],
)
def test_the_scanner_is_near_the_repository(region: str, location: str, capsys: pytest.CaptureFixture[str]):
    release.run(["location", f"--region={region}"])
    assert capsys.readouterr().out == f"{location}\n"
    with pytest.raises(Invalid, match="'moon-east1' is not a region"):
        release.run(["location", "--region=moon-east1"])


@needs_gcloud
def test_gcloud_takes_the_commands_of_the_scan(tmp_path: Path):
    text = text_of(BUILD["steps"][2]).replace("\\\n", " ")
    (line,) = re.findall(r"gcloud artifacts [^\n>]*", text)
    assert '--location="$$location"' in line
    places = ["moon", *sorted(set(release.SCANNERS.values()))]
    (fault,) = gcloud_faults([_substituted(line.replace("$$location", place)).strip() for place in places], tmp_path)
    assert "Invalid choice: 'moon'" in fault, "and the others are taken"


def changed(step: str, **values: Any) -> dict[str, Any]:
    build = copy.deepcopy(BUILD)
    (found,) = [each for each in build["steps"] if each["id"] == step]
    found |= values
    return build


@pytest.mark.parametrize(
    ("step", "values", "found"),
    [
        ("promote", {"waitFor": ["deploy"]}, "promote does not wait for smoke"),
        ("promote", {"waitFor": ["-"]}, "promote moves traffic before the smoke test"),
        ("deploy", {"waitFor": ["build"]}, "deploy does not wait for push, scan, test"),
        ("push", {"waitFor": ["build"]}, "push does not wait for scan, test"),
        ("scan", {"allowFailure": True}, "scan may fail"),
        ("smoke", {"waitFor": ["deplox"]}, "smoke waits for deplox, which no step before it is"),
        ("smoke", {"id": "deploy"}, "steps without an id of their own"),
        ("deploy", {"args": ["gcloud run deploy a"]}, "deploy deploys with traffic"),
        ("push", {"args": ["gcloud run services update-traffic a --to-latest"]}, "push moves traffic before"),
        ("build", {"args": ["build", "${_IMAGES}"]}, "_IMAGES is used, and declared nowhere"),
    ],
)
def test_a_planted_violation_is_found(step: str, values: dict[str, Any], found: str):
    assert any(found in violation for violation in violations(changed(step, **values)))
