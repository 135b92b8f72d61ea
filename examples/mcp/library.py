"""The example's MCP server: a small handbook. `python examples/mcp/library.py` speaks the protocol over its standard
input and output; `python examples/mcp/library.py --port 8093` serves it at http://127.0.0.1:8093/mcp.
"""

import argparse

from mcp.server import MCPServer
from mcp_types import ToolAnnotations

PAGES = {
    "returns": "Goods are taken back within 30 days. The customer pays the parcel; we pay it for faulty goods.",
    "shipping": "Orders before noon leave the same day. Abroad it takes three to five days.",
    "warranty": "Two years for everything, five for batteries. Ask for the serial number.",
}
REQUESTS: list[str] = []

server = MCPServer("library", instructions="The handbook of the shop.", log_level="WARNING")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def search(query: str) -> dict[str, str]:
    """Finds the page of the handbook that speaks of the query."""
    words = query.lower().split()
    found = {name: sum(word in f"{name} {text}".lower() for word in words) for name, text in PAGES.items()}
    best = max(found, key=lambda name: found[name])
    if not found[best]:
        raise ValueError("No page speaks of that.")
    return {"page": best, "text": PAGES[best]}


@server.tool()
async def request_page(title: str) -> str:
    """Asks the editors for a page that is missing."""
    REQUESTS.append(title)
    return f"Request {len(REQUESTS)} is with the editors: {title}."


@server.resource("handbook://{page}", name="page", description="A page of the handbook.")
def page(page: str) -> str:
    return PAGES[page]


def main() -> None:
    parser = argparse.ArgumentParser(description="The handbook as an MCP server.")
    parser.add_argument("--port", type=int, help="serve HTTP on this port of 127.0.0.1 instead of standard input")
    port = parser.parse_args().port
    if port is None:
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=port)


if __name__ == "__main__":
    main()
