"""What the pipeline does with an image: deploys it beside what serves, tries it, and only then moves the traffic.

    python -m goagents.deploy.release location --region R
    python -m goagents.deploy.release severity --project P --scan SCAN
    python -m goagents.deploy.release deploy   --project P --region R --image IMAGE --functions gateway
    python -m goagents.deploy.release smoke    --project P --region R
    python -m goagents.deploy.release promote  --project P --region R

The functions are Cloud Run services from one image; which ones there can be is read from functions.json. One that is
named is made where it is missing; where none is named, those that are there are released, and none is made. A service
that is there keeps its account, variables and secrets, which Terraform set; it gets the image and what functions.json
says. What is there before `deploy` is kept in a file: `smoke` and `promote` take from it what was released, and what to
go back to. What fails leaves each service as it was, but for revisions that nobody gets. Standard library only: it runs
in the image of the Cloud SDK, where nothing is installed.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from goagents.errors import GoAgentsError, Invalid

from .catalogue import Function, select
from .gcloud import Gcloud, GcloudFailed
from .release_traffic import DEPLOY_TIMEOUT, Release, Stopped, Traffic
from .steps import pairs
from .target import Target

TAG = "candidate"
STATE = "release.json"
SEVERE = ("CRITICAL", "HIGH")
SCANNERS = {  # by what a region begins with
    **dict.fromkeys(("us", "northamerica", "southamerica"), "us"),
    **dict.fromkeys(("europe", "me", "africa"), "europe"),
    **dict.fromkeys(("asia", "australia"), "asia"),
}


def severe(vulnerabilities: Any) -> list[str]:
    """Return what a scan found that is severe and can be mended, one line each."""
    found = set()
    for each in vulnerabilities or ():
        about = each.get("vulnerability", {})
        if about.get("effectiveSeverity") in SEVERE and about.get("fixAvailable"):
            packages = ", ".join(sorted({part.get("affectedPackage", "?") for part in about.get("packageIssue", ())}))
            found.add(
                f"{about['effectiveSeverity']} {about.get('shortDescription', each.get('noteName', '?'))} {packages}"
            )
    return sorted(found)


def location_of(region: str) -> str:
    """Return where Google's scanner reads an image of a repository in this region: us, europe or asia."""
    found = SCANNERS.get(region.partition("-")[0])
    if found is None:
        raise Invalid(f"{region!r} is not a region whose scanner is known; they begin with {', '.join(SCANNERS)}.")
    return found


def services(gcloud: Gcloud, target: Target) -> dict[str, dict[str, Any]]:
    """Return the services of Cloud Run that are there, by name, of those that could be. Raises GcloudFailed."""
    begin = f"--filter=metadata.name~^{target.prefix}-"
    listed = gcloud.read(("run", "services", "list", f"--region={target.region}", begin)) or ()
    names = {target.service(function) for function in select()}
    return {each["metadata"]["name"]: each for each in listed if each["metadata"]["name"] in names}


def existing(target: Target, found: Mapping[str, Any]) -> Target:
    """Return the target with the functions that are there. Raises Invalid where they could not work together."""
    names = [function.name for function in target.functions if target.service(function) in found]
    if not names:
        raise Invalid(
            f"There is no service {target.prefix}-… in {target.region}, and none was named that is to be made: make "
            "them by infra/terraform first, or name them, such as --functions=gateway (_FUNCTIONS of cloudbuild.yaml)."
        )
    _say(f"no function was named: released are those that are there, {', '.join(names)}")
    return replace(target, functions=select(names))


def standing(target: Target, found: Mapping[str, Any]) -> dict[str, Traffic | None]:
    """Return what serves by the service's name, None for a service there is not. `found` are the services there are.

    Raises Invalid where one is not to be released to.
    """
    before: dict[str, Traffic | None] = {}
    for name in map(target.service, target.functions):
        service = found.get(name)
        if service and service["metadata"].get("labels", {}).get("goog-managed-by") == "cloudfunctions":
            raise Invalid(
                f"{name} was deployed from source, and an image would break it: release under another --prefix, or "
                "take it away first (goagents destroy --platform gcp)."
            )
        before[name] = Traffic.of(service) if service else None
    return before


def deploy(target: Target, gcloud: Gcloud, image: str, before: Mapping[str, Traffic | None]) -> None:
    """Deploy the image as a new revision of each service, tagged, without traffic. `before` is of `standing`.

    Where one fails, the templates of those that were begun are put back. Raises GcloudFailed, and Stopped for SIGTERM.
    """
    begun: list[str] = []
    release = Release(target, gcloud, before, say=_say)
    with release.undone_unless_done(lambda: release.put_back(begun)):
        for function in target.functions:
            name = target.service(function)
            begun.append(name)
            new = before[name] is None
            gcloud.run(arguments(target, function, image, new=new), timeout=DEPLOY_TIMEOUT)
            _tag(target, gcloud, name)
            _say(f"{name}: deployed {'as a new service' if new else 'without traffic'}")


def _tag(target: Target, gcloud: Gcloud, name: str) -> None:
    """Tag the newest revision of a service.

    `run deploy --tag` would write the revision's name into the service's template, and what changes the template next,
    as Terraform does, would be refused: there is a revision of this name already.
    """
    where = (name, f"--region={target.region}")
    made = gcloud.read(("run", "services", "describe", *where))["status"]["latestCreatedRevisionName"]
    gcloud.run(("run", "services", "update-traffic", *where, f"--update-tags={TAG}={made}"))


def arguments(target: Target, function: Function, image: str, *, new: bool) -> tuple[str, ...]:
    """Return gcloud's arguments that deploy the image as one function."""
    code = {"FUNCTION_TARGET": function.name, "FUNCTION_SOURCE": function.source}
    common = (
        *("run", "deploy", target.service(function), f"--image={image}", f"--region={target.region}"),
        *(f"--cpu={function.cpu}", f"--memory={function.memory}", f"--concurrency={function.concurrency}"),
        f"--timeout={function.timeout}s",
    )
    if not new:
        return (*common, pairs("update-env-vars", code), "--no-traffic")
    secrets = target.secrets_of(function)
    return (
        *(*common, pairs("set-env-vars", {**target.environment(function), **code})),
        pairs("set-secrets", secrets) if secrets else "--clear-secrets",
        *(f"--service-account={target.account(function.name)}", "--no-allow-unauthenticated", "--cpu-boost"),
        f"--max-instances={target.max_instances}",
    )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m goagents.deploy.release", description="Release an image.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("location").add_argument("--region", required=True)
    for name in ("severity", "deploy", "smoke", "promote"):
        command = commands.add_parser(name)
        command.add_argument("--project", required=True)
        if name == "severity":
            command.add_argument("--scan", required=True, help="what `gcloud artifacts docker images scan` is called")
            continue
        command.add_argument("--region", required=True)
        command.add_argument("--prefix", default="goagents")
        command.add_argument("--state", type=Path, default=Path(STATE), help="where `deploy` notes what served before")
        if name == "deploy":
            command.add_argument("--image", required=True)
            command.add_argument(
                "--functions", default="", help="names, separated by commas; by default those there are"
            )
            command.add_argument("--database", default="(default)")
            command.add_argument("--secrets", default="", help="VARIABLE=SECRET,… for services that are new")
        else:
            command.add_argument("--as", dest="account", default="", help="the account whose identity token is shown")
    return parser


def _number(options: argparse.Namespace, gcloud: Gcloud) -> str:
    return str(gcloud.read(("projects", "describe", options.project))["projectNumber"])


def _deploy(options: argparse.Namespace, gcloud: Gcloud) -> None:
    named = list(filter(None, options.functions.split(",")))
    target = Target(
        project=options.project,
        region=options.region,
        prefix=options.prefix,
        functions=select(named),
        database=options.database,
        secrets=dict(part.partition("=")[::2] for part in options.secrets.split(",") if part),
    )
    target = replace(target, number=_number(options, gcloud))
    found = services(gcloud, target)
    target = target if named else existing(target, found)
    before = standing(target, found)
    state = {name: traffic and asdict(traffic) for name, traffic in before.items()}
    options.state.write_text(json.dumps(state), encoding="utf-8")
    deploy(target, gcloud, options.image, before)


def _release(options: argparse.Namespace, gcloud: Gcloud) -> Release:
    """Return the release that `deploy` has noted."""
    state = json.loads(options.state.read_text(encoding="utf-8"))
    names = [name.removeprefix(f"{options.prefix}-") for name in state]
    number = _number(options, gcloud)
    target = Target(
        project=options.project, region=options.region, prefix=options.prefix, functions=select(names), number=number
    )
    before = {name: traffic and Traffic(**traffic) for name, traffic in state.items()}
    return Release(target, gcloud, before, account=options.account, say=_say)


def run(arguments_given: Sequence[str]) -> None:
    """Carry one command out. Raises GoAgentsError with what went wrong, Stopped; what was moved is moved back then."""
    options = _parser().parse_args(arguments_given)
    if options.command == "location":
        _say(location_of(options.region))
        return
    gcloud = Gcloud(options.project)
    if options.command == "severity":
        listed = gcloud.read(("artifacts", "docker", "images", "list-vulnerabilities", options.scan))
        if found := severe(listed):
            raise GcloudFailed("The image is vulnerable, and there are fixes:\n  " + "\n  ".join(found))
        _say("nothing severe that could be mended")
    elif options.command == "deploy":
        _deploy(options, gcloud)
    elif options.command == "smoke":
        _release(options, gcloud).rehearse(TAG)
    else:
        _release(options, gcloud).promote()


def main() -> None:
    try:
        run(sys.argv[1:])
    except (GoAgentsError, OSError) as error:
        places = "".join(f"\n  {each}" for each in getattr(error, "errors", ()))
        sys.exit(f"{error}{places}")
    except (Stopped, KeyboardInterrupt):
        sys.exit("stopped")


if __name__ == "__main__":
    main()
