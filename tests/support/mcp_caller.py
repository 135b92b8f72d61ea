"""A process that calls a server which a person signed in to: `python mcp_caller.py STORE URL TIMES`.

Prints what each call came to, as a JSON list.
"""

import asyncio
import json
import sys

from goagents.engine.logins import StoredLogins
from goagents.errors import ToolError
from goagents.spec.config import McpServerConfig
from goagents.spec.tools import McpToolSpec
from goagents.store.sqlite import SQLiteStore
from goagents.tools.base import ToolContext, ToolEnvironment
from goagents.tools.mcp import McpToolset

CONTEXT = ToolContext("run_1", "ses_1", "default", "agent", "call_1", "run_1/1/call_1")


async def main(path: str, url: str, times: int) -> None:
    store = SQLiteStore(path)
    server = McpServerConfig.model_validate({"url": url, "oauth": {}})
    environment = ToolEnvironment(
        lambda text: text, mcp_servers={"team": server}, logins=StoredLogins(store, "default")
    )
    toolset = McpToolset(McpToolSpec(type="mcp", name="kb", server="team"), environment)
    said = []
    try:
        (tool,) = await toolset.open()
        for _ in range(times):
            try:
                said.append(str((await tool.call({}, CONTEXT)).content[0]))
            except ToolError as error:
                said.append(str(error))
    finally:
        await toolset.aclose()
        await store.aclose()
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
