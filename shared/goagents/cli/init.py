"""`init`: a configuration and a cluster to begin with, which run as they are."""

import os
from pathlib import Path

import click

from .main import command
from .templates import cluster_yaml, config_yaml
from .terminal import note, say

# The variable that holds each provider's key, and a model to begin with.
PROVIDERS = {
    "anthropic": ("ANTHROPIC_API_KEY", "claude-sonnet-4"),
    "openai": ("OPENAI_API_KEY", "gpt-5-mini"),
    "gemini": ("GOOGLE_API_KEY", "gemini-2.5-flash"),
    "scripted": ("", "greeter"),
}


def _chosen() -> str:
    return next((name for name, (key, _) in PROVIDERS.items() if key and os.environ.get(key)), "scripted")


@command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option(
    "--provider",
    type=click.Choice(list(PROVIDERS)),
    help="Provider of the agent's model; else the first whose key is set.",
)
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
def init(folder: Path, provider: str | None, force: bool) -> None:
    """Write a configuration and a cluster to begin with.

    They are FOLDER/config.yaml and FOLDER/cluster.yaml. Without --provider, the agent uses the first provider whose key
    is set (ANTHROPIC_API_KEY, OPENAI_API_KEY, GOOGLE_API_KEY), else the scripted model, which needs no key and answers
    what the configuration says.
    """
    name = provider or _chosen()
    variable, model = PROVIDERS[name]
    texts = {"config.yaml": config_yaml(name), "cluster.yaml": cluster_yaml(name, model)}
    present = [str(folder / file) for file in texts if (folder / file).exists()]
    if present and not force:
        raise click.ClickException(
            f"{' and '.join(present)} exist{'s' * (len(present) == 1)} already: --force overwrites"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        (folder / file).write_text(text, "utf-8")
        say(f"wrote {folder / file}")
    if name == "scripted":
        note(
            "The agent uses the scripted model: no key, prepared answers. "
            "Set a key and run `goagents init --force` for a real one."
        )
    elif not os.environ.get(variable):
        note(f"Set {variable} before you run it.")
    where = f" --config {folder / 'config.yaml'} --cluster {folder / 'cluster.yaml'}" if str(folder) != "." else ""
    note(f"Serve it:   goagents run{where}\nTalk to it: goagents chat --cluster hello")
