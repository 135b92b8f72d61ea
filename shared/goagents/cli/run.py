"""`run`: serve on this machine what is deployed elsewhere."""

import asyncio
from dataclasses import replace
from pathlib import Path

import click

from goagents.settings import Settings

from .local import LocalServer, Plan
from .main import command

_FILE = click.Path(path_type=Path)
_CONFIG, _CLUSTER = Path("config.yaml"), Path("cluster.yaml")


@command()
@click.option(
    "--config",
    "configs",
    multiple=True,
    type=_FILE,
    metavar="FILE",
    help="Configuration; ./config.yaml if there is one.",
)
@click.option(
    "--cluster",
    "-c",
    "clusters",
    multiple=True,
    type=_FILE,
    metavar="FILE",
    help="Cluster; may be repeated. ./cluster.yaml if there is one.",
)
@click.option("--host", help="Address to listen on, instead of server.host.")
@click.option("--port", "-p", type=click.IntRange(0, 65_535), help="Port, instead of server.port; 0 takes a free one.")
def run(configs: tuple[Path, ...], clusters: tuple[Path, ...], host: str | None, port: int | None) -> None:
    """Serve clusters on this machine, with hot reload.

    A configuration and its clusters may stand in one file or in several. A valid change of a file takes effect for new
    runs at once; an invalid one is reported, and the old one stays. Without `auth:` only this machine is served. State
    is kept in .goagents/ unless the configuration or GOAGENTS_STORE names a store.
    """
    files = (*configs, *clusters) or tuple(path for path in (_CONFIG, _CLUSTER) if path.exists())
    if not files:
        raise click.UsageError("name a configuration: --config FILE, --cluster FILE; `goagents init` writes both")
    settings = replace(Settings.from_environ(), config_paths=tuple(str(path.resolve()) for path in files))
    plan = Plan.read(files, settings, host, port)
    status = asyncio.run(LocalServer(plan).serve())
    click.get_current_context().exit(status)
