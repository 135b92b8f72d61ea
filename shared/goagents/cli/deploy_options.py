"""Options of `deploy --platform gcp` and `destroy`, and the target they describe."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from goagents.deploy.catalogue import Function, catalogue, select, standard
from goagents.deploy.target import CONFIG, MAX_INSTANCES, UNKNOWN_NUMBER, Target
from goagents.errors import Invalid
from goagents.settings import Settings
from goagents.spec.check import KEY_VARIABLES
from goagents.spec.cluster import AgentCluster

from .options import Decorator

PLATFORM = click.Choice(["gcp"])


def _options(*options: Decorator) -> Decorator:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


where_options = _options(
    click.option("--project", metavar="ID", help="Project of Google Cloud; else GOOGLE_CLOUD_PROJECT."),
    click.option("--region", metavar="REGION", help="Such as europe-west1; else GOOGLE_CLOUD_REGION."),
    click.option("--prefix", default="goagents", show_default=True, help="What all names begin with."),
    click.option("--database", default="(default)", show_default=True, help="The Firestore database."),
)
platform_options = _options(
    click.option("--platform", type=PLATFORM, help="Deploy the functions, too; with the options below."),
    where_options,
    click.option(
        "--functions",
        "names",
        multiple=True,
        metavar="NAME",
        help="Only these, such as gateway, which serves everything; may be repeated. By default one for each group of "
        "paths.",
    ),
    click.option("--source", type=click.Path(path_type=Path), default=".", help="The repository.", show_default=True),
    click.option("--config", default=CONFIG, show_default=True, help="Configuration of the functions, in the source."),
    click.option("--database-location", default="", metavar="LOCATION", help="Of a new database; else the region."),
    click.option(
        "--secret",
        "secrets",
        multiple=True,
        metavar="VARIABLE=SECRET",
        help="Secret of Secret Manager a variable is filled from; may be repeated. The keys of the providers that "
        "the clusters use are ANTHROPIC_API_KEY=anthropic-api-key and so on by default.",
    ),
    click.option(
        "--invoker", "invokers", multiple=True, metavar="MEMBER", help="Who may call, such as user:ann@example.com."
    ),
    click.option("--allow-unauthenticated", is_flag=True, help="Let everybody call; needs `auth.mode: api_key`."),
    click.option(
        "--min-instances",
        multiple=True,
        metavar="N|NAME=N",
        help="Instances kept warm, and paid for: of one function, or of those whose callers wait for an answer "
        f"({', '.join(name for name, each in catalogue().items() if each.warm)}); may be repeated. None by default.",
    ),
    click.option(
        "--max-instances",
        type=click.IntRange(1, 1000),
        default=MAX_INSTANCES,
        show_default=True,
        help="At most, of each function. More than a few need more of the region's quota than a new project has.",
    ),
    click.option(
        "--database-only", is_flag=True, help="Make the Firestore database with its indexes, and nothing else."
    ),
    click.option("--yes", "-y", is_flag=True, help="Do not ask."),
)

# What means nothing without a platform. `--yes` does no harm there.
PLATFORM_ONLY = {
    *("project", "region", "prefix", "database", "names", "source", "config", "database_location", "secrets"),
    *("invokers", "allow_unauthenticated", "min_instances", "max_instances", "database_only"),
}


def target_of(
    options: dict[str, Any], clusters: Iterable[AgentCluster] = (), *, number: str = UNKNOWN_NUMBER
) -> Target:
    """Return where the options say. Raises Invalid for what cannot be, click.UsageError for what is missing."""
    settings = Settings.from_environ()
    known: dict[str, Any] = {
        "project": options["project"] or settings.project,
        "region": options["region"] or settings.region,
    }
    if missing := [name for name, value in known.items() if not value]:
        raise click.UsageError(f"Missing option {' and '.join(f'--{name}' for name in missing)}.")
    functions = _functions(options)
    kept = PLATFORM_ONLY - {"project", "region", "names", "secrets", "min_instances", "database_only"}
    return Target(
        **known,
        functions=functions,
        secrets=_secrets(options.get("secrets", ()), clusters),
        min_instances=_instances(options.get("min_instances", ()), functions),
        number=number,
        **{name: options[name] for name in kept if name in options},
    )


def _functions(options: dict[str, Any]) -> tuple[Function, ...]:
    """Those that are named, else the standard ones; where there is nothing to name them by, all there may be."""
    if "names" not in options:
        return select()
    names = [name for each in options["names"] for name in each.split(",") if name]
    return select(names) if names else standard()


def _instances(given: Sequence[str], functions: Iterable[Function]) -> dict[str, int]:
    """Return how many are kept warm by the function's name. What is said of one holds against what is said of all."""
    warm = [function.name for function in functions if function.warm]
    for_all, for_one = dict[str, int](), dict[str, int]()
    for each in (part for text in given for part in text.split(",")):
        name, equals, count = each.rpartition("=")
        if not re.fullmatch("[0-9]{1,4}", count) or (equals and not name):
            raise Invalid(f"--min-instances {each[:64]}: write N, or NAME=N for one function, such as chat=1")
        if equals:
            for_one[name] = int(count)
        elif warm:
            for_all |= dict.fromkeys(warm, int(count))
        else:
            raise Invalid(
                f"--min-instances {each}: nobody waits for any of these functions; write NAME={count} for one"
            )
    return for_all | for_one


def _secrets(given: Sequence[str], clusters: Iterable[AgentCluster]) -> dict[str, str]:
    used = {KEY_VARIABLES[a.provider] for c in clusters for a in c.spec.agents if a.provider in KEY_VARIABLES}
    secrets = {variable: variable.lower().replace("_", "-") for variable in used}
    for each in given:
        variable, equals, secret = each.partition("=")
        if not equals:
            raise Invalid(f"--secret {variable[:64]}: write VARIABLE=SECRET, the name of a secret and never its value")
        secrets[variable] = secret
    return secrets
