"""Entries under `tools:` that are opened as in production, beside those that a test stands in for."""

import os
from collections.abc import Collection
from typing import Any

from goagents.app import TOOLSETS, ResolverFactory, load_by_name
from goagents.spec.config import Config
from goagents.spec.tools import ToolSpec
from goagents.testing.tools import StaticToolsets
from goagents.tools.base import Toolset
from goagents.tools.registry import ToolsetRegistry


class SomeRealToolsets:
    """The engine's toolsets: the entries `real` by their own adapters, all others of `static`."""

    def __init__(self, static: StaticToolsets, real: Collection[str], config: Config) -> None:
        self._static = static
        self._real = frozenset(real)
        self._registry = ToolsetRegistry(config, ResolverFactory(config, os.environ), TOOLSETS, load_by_name)

    def check(self, spec: ToolSpec) -> None:
        (self._registry if spec.name in self._real else self._static).check(spec)

    def build(self, spec: ToolSpec, **lent: Any) -> Toolset:
        return (self._registry if spec.name in self._real else self._static).build(spec, **lent)
