"""The commands that release to what a plan makes: the output `release_commands`, held against cloudbuild.yaml."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from goagents.deploy.catalogue import select
from goagents.errors import Invalid

ROOT = Path(__file__).parents[3]
PIPELINE = ROOT / "cloudbuild.yaml"
GIVEN = {"PROJECT_ID": "my-project", "BUILD_ID": "build"}  # what Cloud Build knows itself
_SEPARATED = re.compile(r"\^(.+?)\^(.*)", re.DOTALL)  # gcloud topic escaping
Plan = dict[str, Any]


def commands(plan: Plan) -> list[str]:
    """Return the commands, one for each region."""
    told: str = plan["planned_values"]["outputs"]["release_commands"]["value"]
    return told.splitlines()


def undocumented(plan: Plan) -> list[str]:
    """Return the commands that the pages do not show as they are, for the example that they show."""
    pages = {ROOT / "docs" / "deploy.md": "\n{}\n", ROOT / "infra" / "terraform" / "README.md": "`{}`"}
    return [
        f"{page.name} does not show {command}"
        for page, shown in pages.items()
        for command in commands(plan)
        if shown.format(command) not in page.read_text(encoding="utf-8")
    ]


def faults(plan: Plan, services: Mapping[str, Any], registry: str) -> Iterator[str]:
    """Yield what would fail. `services` are keyed by `REGION/FUNCTION`, images lie in the region `registry`."""
    regions = []
    for command in commands(plan):
        words = shlex.split(command)
        options = dict(word.partition("=")[::2] for word in words[3:-1])
        given = substitutions(options.get("--substitutions", ""))
        region = given.get("_REGION", "")
        regions.append(region)
        if words[:3] != ["gcloud", "builds", "submit"] or words[-1] != ".":
            yield f"does not submit the repository: {command}"
        for option in ("--config", "--ignore-file"):
            if not (ROOT / options.get(option, "nothing")).is_file():
                yield f"{option}: there is no {options.get(option)}"
        # Google lets a new project build in few regions: one of them will do, where the image is to lie.
        if options.get("--region") != registry:
            yield f"builds in {options.get('--region')} for {region}, and the image lies in {registry}"
        account = f"{given.get('_PREFIX')}-release@{options.get('--project')}.iam.gserviceaccount.com"
        runs_as = options.get("--service-account"), given.get("_SMOKE_ACCOUNT")
        if runs_as != (f"projects/{options.get('--project')}/serviceAccounts/{account}", account):
            yield f"{region}: is not released as {account}"
        yield from _functions(region, given.get("_FUNCTIONS", ""), services)
        yield from _substituted(region, given, registry)
    if sorted(regions) != sorted({key.partition("/")[0] for key in services}):
        yield f"releases to {', '.join(regions)}"


def unkept(repository: Mapping[str, Any], services: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the images that the repository keeps: too many, or too few.

    Each image that is pushed has a tag. Google deletes no image that has one where tags are immutable.
    """
    conditions = [each["condition"][0] for each in repository["cleanup_policies"] if each["action"] == "DELETE"]
    if not any(each["tag_state"] == "ANY" and each["older_than"] for each in conditions):
        yield "no image is ever deleted: each has a tag"
    elif repository["docker_config"][0]["immutable_tags"]:
        yield "no image is ever deleted: tags are immutable"
    kept = [each for each in repository["cleanup_policies"] if each["action"] == "KEEP"]
    if not any(each["most_recent_versions"] and each["most_recent_versions"][0]["keep_count"] >= 10 for each in kept):
        yield "what one would roll back to is deleted"
    first = {each["template"][0]["containers"][0]["image"].rpartition(":")[2] for each in services.values()}
    if not first <= {tag for each in kept for condition in each["condition"] for tag in condition["tag_prefixes"]}:
        yield "the image that a new service is made of is deleted"


def substitutions(option: str) -> dict[str, str]:
    """Return what gcloud takes from the option's value."""
    found = _SEPARATED.fullmatch(option)
    separator, text = (found[1], found[2]) if found else (",", option)
    return dict(part.partition("=")[::2] for part in text.split(separator))


def _functions(region: str, listed: str, services: Mapping[str, Any]) -> Iterator[str]:
    """As the release reads them; one without its service would be made as an account there is not."""
    try:
        released = {function.name for function in select(filter(None, listed.split(",")))}
    except Invalid as fault:
        yield f"{region}: the release refuses _FUNCTIONS={listed}: {fault}"
        return
    there = {name for key in services for where, _, name in [key.partition("/")] if where == region}
    if differ := sorted(released ^ there):
        yield f"{region}: released, or made, and not both: {', '.join(differ)}"


def _substituted(region: str, given: Mapping[str, str], registry: str) -> Iterator[str]:
    build = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))
    declared: dict[str, str] = build["substitutions"]
    if unknown := sorted(given.keys() - declared.keys()):
        yield f"{region}: the pipeline has no {', '.join(unknown)}"
    values = GIVEN | declared | dict(given)
    # Cloud Build refuses a build whose substitutions are not all used, be it by one another.
    used = set(re.findall(r"\$\{?(_[A-Z0-9_]+)", yaml.safe_dump(build["steps"]) + " ".join(values.values())))
    if unused := sorted(declared.keys() - used):
        yield f"{region}: {', '.join(unused)} would no longer be used, and the build be refused"
    image = values["_IMAGE"]
    while found := re.search(r"\$\{(\w+)\}", image):
        image = image.replace(found[0], values[found[1]])
    if image != f"{registry}-docker.pkg.dev/my-project/{given.get('_REPOSITORY')}/goagents:build":
        yield f"{region}: the image would be {image}"
