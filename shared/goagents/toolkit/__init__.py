"""Typed Python functions as tools for agents, served by functions-framework as one HTTP function.

    from goagents.toolkit import Toolkit

    kit = Toolkit("orders", description="The orders of the shop.")

    @kit.tool(effect="read")
    def find_order(number: Annotated[str, Field(pattern="^[0-9]+$")]) -> Order:
        '''One order by its number.'''
        ...

    tools = kit.function  # functions-framework --target tools

Needs the extra `toolkit` (Flask), and nothing of the engine. See docs/toolkit.md.
"""

from .context import ToolCallContext
from .keys import Entry, KeyStore, MemoryKeyStore
from .keys_sqlite import SqliteKeyStore
from .kit import Toolkit
from .problems import ToolError

__all__ = ["Entry", "KeyStore", "MemoryKeyStore", "SqliteKeyStore", "ToolCallContext", "ToolError", "Toolkit"]
