"""What the entry point leads to: the model of `type: sqlite`. The adapter is imported when a cluster uses the type."""

from typing import Any, Literal

from pydantic import Field

from goagents.spec.plugins import ToolType
from goagents.spec.tools import BaseToolSpec, ObjectSchema
from goagents.spec.types import Model, ToolName

_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


class Query(Model):
    description: str = Field(min_length=1, max_length=1024, description="What it finds, as the model reads it.")
    sql: str = Field(min_length=1, description="One statement of SQL; `:name` is the argument of that name.")
    parameters: ObjectSchema = Field(_NO_PARAMETERS, description="JSON Schema of the arguments.")


class SqliteToolSpec(BaseToolSpec):
    type: Literal["sqlite"] = Field(description="Queries of a SQLite file.")
    database: str = Field(min_length=1, description="Path of the file, which is only read. May hold `${…}`.")
    queries: dict[ToolName, Query] = Field(min_length=1, max_length=32, description="The queries, a tool for each.")
    max_rows: int = Field(50, ge=1, le=1000, description="Most rows of one answer.")


SQLITE = ToolType(spec=SqliteToolSpec, build="goagents_sqlite.toolset:build")
