"""A model that a run may ask."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from goagents.providers.base import Provider


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model to ask: the agent's own first, then its fallbacks."""

    provider: Provider
    model: str
    settings: Mapping[str, Any]
