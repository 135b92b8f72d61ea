"""A tool function beside the server of `goagents run`: functions-framework's own server around it.

    python -m goagents.cli.serve_function SOURCE TARGET PORT

It ends with its parent, as `serve` does.
"""

import sys

from functions_framework import create_app
from functions_framework._http import create_server

from .ports import LOOPBACK
from .serve import OPTIONS


def main(arguments: list[str]) -> None:
    source, target, port = arguments
    app = create_app(target, source, "http")  # type: ignore[no-untyped-call]
    create_server(app, False, **OPTIONS).run(LOOPBACK, int(port))  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(sys.argv[1:])
