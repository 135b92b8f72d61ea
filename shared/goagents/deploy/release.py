"""What the pipeline does with an image: deploys it beside what serves, tries it, and only then moves the traffic.

    python -m goagents.deploy.release severity --project P --scan SCAN
    python -m goagents.deploy.release deploy   --project P --region R --image IMAGE
    python -m goagents.deploy.release smoke    --project P --region R
    python -m goagents.deploy.release promote  --project P --region R

The functions are Cloud Run services from one image; which ones there are is read from functions.json. A service that
is there keeps its account, variables and secrets, which Terraform set; it gets the image and what functions.json says.
What `deploy` found is kept in a file, so that `promote` knows where to move the traffic back to. Standard library only:
it runs in the image of the Cloud SDK, where nothing is installed.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from goagents.errors import GoAgentsError, Invalid

from .catalogue import Function, select
from .gcloud import Gcloud, GcloudFailed
from .release_traffic import Release, serving_now
from .steps import pairs
from .target import Target

TAG = "candidate"
STATE = "release.json"
DEPLOY_TIMEOUT = 600.0  # seconds
SEVERE = ("CRITICAL", "HIGH")


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


def deploy(target: Target, gcloud: Gcloud, image: str) -> dict[str, str | None]:
    """Deploy the image as a new revision of each service, tagged, without traffic.

    Return the revision that serves now by the service's name, None for a service there was not. Raises GcloudFailed.
    """
    before = {}
    for function in target.functions:
        name = target.service(function)
        found = _described(gcloud, target, name)
        before[name] = serving_now(found) if found else None
        gcloud.run(arguments(target, function, image, new=found is None), timeout=DEPLOY_TIMEOUT)
        _say(f"{name}: deployed {'as a new service' if found is None else 'without traffic'}")
    return before


def _described(gcloud: Gcloud, target: Target, name: str) -> dict[str, Any] | None:
    listed = gcloud.read(("run", "services", "list", f"--region={target.region}", f"--filter=metadata.name={name}"))
    found: dict[str, Any] | None = next((each for each in listed or () if each["metadata"]["name"] == name), None)
    if found and found["metadata"].get("labels", {}).get("goog-managed-by") == "cloudfunctions":
        raise Invalid(
            f"{name} was deployed from source, and an image would break it: release under another --prefix, or take it "
            "away first (goagents destroy --platform gcp)."
        )
    return found


def arguments(target: Target, function: Function, image: str, *, new: bool) -> tuple[str, ...]:
    """Return gcloud's arguments that deploy the image as one function."""
    code = {"FUNCTION_TARGET": function.name, "FUNCTION_SOURCE": function.source}
    common = (
        *("run", "deploy", target.service(function), f"--image={image}", f"--region={target.region}", f"--tag={TAG}"),
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
    for name in ("severity", "deploy", "smoke", "promote"):
        command = commands.add_parser(name)
        command.add_argument("--project", required=True)
        if name == "severity":
            command.add_argument("--scan", required=True, help="what `gcloud artifacts docker images scan` is called")
            continue
        command.add_argument("--region", required=True)
        command.add_argument("--prefix", default="goagents")
        command.add_argument("--functions", default="", help="names, separated by commas; all by default")
        command.add_argument("--state", type=Path, default=Path(STATE), help="where `deploy` notes what served before")
        command.add_argument("--database", default="(default)")
        command.add_argument("--secrets", default="", help="VARIABLE=SECRET,… for services that are new")
        command.add_argument("--as", dest="account", default="", help="the account whose identity token is shown")
        if name == "deploy":
            command.add_argument("--image", required=True)
    return parser


def _target(options: argparse.Namespace, gcloud: Gcloud) -> Target:
    number = str(gcloud.read(("projects", "describe", options.project))["projectNumber"])
    secrets = dict(part.partition("=")[::2] for part in options.secrets.split(",") if part)
    return Target(
        project=options.project,
        region=options.region,
        prefix=options.prefix,
        functions=select(filter(None, options.functions.split(","))),
        database=options.database,
        secrets=secrets,
        number=number,
    )


def run(arguments_given: Sequence[str]) -> None:
    """Carry one command out. Raises GoAgentsError with what went wrong, after moving back what was moved."""
    options = _parser().parse_args(arguments_given)
    gcloud = Gcloud(options.project)
    if options.command == "severity":
        listed = gcloud.read(("artifacts", "docker", "images", "list-vulnerabilities", options.scan))
        if found := severe(listed):
            raise GcloudFailed("The image is vulnerable, and there are fixes:\n  " + "\n  ".join(found))
        _say("nothing severe that could be mended")
        return
    target = _target(options, gcloud)
    if options.command == "deploy":
        options.state.write_text(json.dumps(deploy(target, gcloud, options.image)), encoding="utf-8")
        return
    before = json.loads(options.state.read_text(encoding="utf-8"))
    release = Release(target, gcloud, before, account=options.account, say=_say)
    release.smoke(TAG) if options.command == "smoke" else release.promote()


def main() -> None:
    try:
        run(sys.argv[1:])
    except (GoAgentsError, OSError) as error:
        places = "".join(f"\n  {each}" for each in getattr(error, "errors", ()))
        sys.exit(f"{error}{places}")


if __name__ == "__main__":
    main()
