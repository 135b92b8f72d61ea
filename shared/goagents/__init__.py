"""GoAgents: clusters of AI agents, declared in YAML, served as stateless functions."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goagents.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the clients on first use: a function that serves imports this package and never needs them."""
    if name in {"AsyncClient", "Client"}:
        return getattr(import_module("goagents.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
