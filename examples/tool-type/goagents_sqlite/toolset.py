"""The adapter of `type: sqlite`: a tool for each query, called `{name}_{query}`."""

import asyncio
import json
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goagents.errors import ToolFailed, ToolUnavailable
from goagents.tools.base import Tool, ToolContext, ToolDefinition, ToolEnvironment, ToolResult, text_result
from goagents.tools.naming import unique_names
from goagents_sqlite import Query, SqliteToolSpec

_STEPS = 1000  # of SQLite's machine, between two looks at whether the call was given up
_BUSY_TIMEOUT = 2.0  # seconds that a reader waits for a writer


def build(spec: SqliteToolSpec, environment: ToolEnvironment) -> "SqliteToolset":
    return SqliteToolset(spec, environment)


class SqliteToolset:
    def __init__(self, spec: SqliteToolSpec, environment: ToolEnvironment) -> None:
        self._spec = spec
        self._environment = environment

    async def open(self) -> Sequence[Tool]:
        """Return the tools. Raises ToolUnavailable where the file is not there, or may not be named."""
        spec = self._spec
        if not self._environment.trusted:  # whoever posts a cluster would read any database of the server
            raise ToolUnavailable(f"{spec.name}: a cluster received over HTTP opens no file of the server")
        path = Path(self._environment.resolve(spec.database))
        if not await asyncio.to_thread(path.is_file):
            raise ToolUnavailable(f"{spec.name}: there is no file {path}; set `database` to where it is")
        names = unique_names(f"{spec.name}_{query}" for query in spec.queries)
        return [QueryTool(_definition(spec, name, query), query.sql, path, spec.max_rows)
                for name, query in zip(names, spec.queries.values(), strict=True)]  # fmt: skip

    async def aclose(self) -> None:
        """Every call has a connection of its own: nothing stays open."""


def _definition(spec: SqliteToolSpec, name: str, query: Query) -> ToolDefinition:
    description = " ".join(filter(None, [spec.description, query.description]))
    effect = spec.effect or "read"
    return ToolDefinition(name, description, query.parameters, effect, spec.timeout, spec.max_output)


@dataclass(frozen=True)
class QueryTool:
    definition: ToolDefinition
    sql: str
    path: Path
    max_rows: int

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:  # noqa: ARG002 - every tool has it
        """Return the rows as JSON. A call that is cancelled or too late ends its query, too."""
        given_up = threading.Event()
        names = self.definition.parameters.get("properties", {})
        try:
            rows = await asyncio.to_thread(self._rows, {name: arguments.get(name) for name in names}, given_up)
        except sqlite3.Error as error:
            raise ToolFailed(f"The query failed: {error}") from error
        finally:
            given_up.set()
        cut = "" if len(rows) <= self.max_rows else f"\n[only the first {self.max_rows} rows are shown]"
        return text_result(json.dumps(rows[: self.max_rows], ensure_ascii=False, default=str) + cut)

    def _rows(self, values: Mapping[str, Any], given_up: threading.Event) -> list[dict[str, Any]]:
        uri = f"{self.path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT)) as connection:
            connection.row_factory = sqlite3.Row
            connection.set_progress_handler(given_up.is_set, _STEPS)
            return [dict(row) for row in connection.execute(self.sql, values).fetchmany(self.max_rows + 1)]
