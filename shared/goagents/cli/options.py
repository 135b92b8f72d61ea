"""Options that several commands share, and the client they describe."""

from collections.abc import Callable
from typing import Any

import click

from goagents.client import Client

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

output_option: Decorator = click.option(
    "--output",
    "-o",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Form of the answer.",
)


def server_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--server` and `--namespace`."""
    for option in (
        click.option("--namespace", "-n", default="default", show_default=True, help="Namespace of the cluster."),
        click.option("--server", help="Address of the server; else GOAGENTS_SERVER, else http://127.0.0.1:8080."),
    ):
        function = option(function)
    return function


def cluster_option(*, required: bool = True, help: str = "Name of the cluster.") -> Decorator:  # noqa: A002 - click's
    return click.option("--cluster", "-c", required=required, metavar="NAME", help=help)


def client_of(server: str | None, namespace: str = "default") -> Client:
    return Client(server, namespace=namespace)


def agent_id(namespace: str, cluster: str, agent: str) -> str:
    """Return the id of an agent as the API knows it."""
    return f"{cluster}.{agent}" if namespace == "default" else f"{namespace}.{cluster}.{agent}"
