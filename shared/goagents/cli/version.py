"""`version`."""

import platform

from goagents import __version__

from .main import command
from .options import output_option
from .terminal import say, say_json


@command()
@output_option
def version(output: str) -> None:
    """Print the version."""
    if output == "json":
        say_json({"version": __version__, "python": platform.python_version()})
    else:
        say(f"goagents {__version__} (Python {platform.python_version()})")
