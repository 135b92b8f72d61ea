"""From an error's code, as a problem or a record has it, back to its class."""

from typing import TypeVar

from goagents.errors import GoAgentsError

ErrorT = TypeVar("ErrorT", bound=GoAgentsError)


def by_code(root: type[ErrorT]) -> dict[str, type[ErrorT]]:
    """Return the classes of the tree of `errors` below and with `root`; of a shared code, the more exact class."""
    found = {root.code: root}
    for child in root.__subclasses__():
        if child.__module__ == root.__module__:
            found |= by_code(child)
    return found
