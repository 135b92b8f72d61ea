"""From a target to the function: `module:function`, or an entry point of the group `goagents.tools`."""

import difflib
from importlib import import_module
from typing import Any

from goagents.errors import ToolUnavailable
from goagents.spec.plugins import PluginError, ToolType, load


def find_target(name: str, target: str) -> Any:
    """Import what the tool `name` is to call, and return it. Raises ToolUnavailable with the place and the remedy."""
    module, colon, path = target.partition(":")
    if colon:
        return _attribute(name, module, path)
    try:
        found = load(target)
    except PluginError as error:
        failed = ToolUnavailable(f"{name}: {error}; or write the target as `module:function`")
        raise (failed if error.__cause__ is None else failed.of_defect(error.__cause__)) from error
    if isinstance(found, ToolType):
        raise ToolUnavailable(f"{name}: {target} is a type of tool: write `type: {target}`")
    return found


def _attribute(name: str, module: str, path: str) -> Any:
    found: Any = _module(name, module)
    for part in path.split("."):
        if not hasattr(found, part):
            guess = next(iter(difflib.get_close_matches(part, dir(found), n=1)), None)
            hint = f"; did you mean {guess!r}?" if guess else ""
            raise ToolUnavailable(f"{name}: the module {module} has no {path!r}{hint}")
        found = getattr(found, part)
    return found


def _module(name: str, module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise ToolUnavailable(
                f"{name}: there is no module {error.name!r} here: install its package where the server runs, or name "
                "its folder in `python.path` of the server's configuration"
            ) from error
        raise ToolUnavailable(f"{name}: {module} needs the module {error.name!r}, which is not installed") from error
    except BaseException as error:  # a module may raise anything, in a thread of its own
        text = f"{name}: importing {module} raised {type(error).__name__}; the server's log has the details"
        raise ToolUnavailable(text).of_defect(error) from error
