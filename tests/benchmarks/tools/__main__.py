"""What is around every tool, and what it costs: `python -m tests.benchmarks.tools`.

Each kind of tool against a real server in a process of its own: a call by a bare client (aiohttp, websockets, the MCP
SDK, the function itself), by the tool alone, and as the engine makes it, with its checks, circuit breaker, redaction
and bounds, in rounds that take turns. Calls at once on one MCP server; calls after that server was killed; a thousand
definitions. `--page docs/benchmarks.md` writes the tables into the page; `--small` only finds out whether all of it
runs.
"""

import argparse
import os
import re
from pathlib import Path

from tests.benchmarks.report import show, write_json
from tests.benchmarks.tools import calls, definitions, mcp
from tests.benchmarks.tools.bench import SMALLEST, Found, Size

BENCHMARKS = {
    "Around tools: one call": calls.measure,
    "Around tools: calls at once on one MCP server": mcp.together,
    "Around tools: calls after a kill of an MCP server": mcp.recovery,
    "Around tools: definitions": definitions.measure,
}
PLACE = re.compile(r"(?<=<!-- written by tests.benchmarks.tools -->\n).*?(?=<!-- end -->)", re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what is around tools, on loopback only.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the tables into this page, at its marks")
    parser.add_argument("--markdown", action="store_true", help="print the tables, as the page has them")
    parser.add_argument("--small", action="store_true", help="make as few calls as can be: numbers that mean nothing")
    arguments = parser.parse_args()
    if arguments.page and not PLACE.search(arguments.page.read_text(encoding="utf-8")):
        parser.error(
            f"{arguments.page} has no mark `<!-- written by tests.benchmarks.tools -->` with `<!-- end -->` behind it"
        )
    size, load = SMALLEST if arguments.small else Size(), os.getloadavg()[0]
    results: dict[str, Found] = {}
    for title, benchmark in BENCHMARKS.items():
        results[title] = benchmark(size)
        show(title, results[title].measures)
    if arguments.json:
        write_json(arguments.json, {title: found.measures for title, found in results.items()})
    text = f"{size.told(load)}\n\n" + "\n\n".join(found.markdown for found in results.values()) + "\n"
    if arguments.markdown:
        print(f"\n{text}", end="")
    if arguments.page:
        page = arguments.page.read_text(encoding="utf-8")
        arguments.page.write_text(PLACE.sub(lambda _: text, page, count=1), encoding="utf-8")


if __name__ == "__main__":
    main()
