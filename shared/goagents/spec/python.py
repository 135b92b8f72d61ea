"""What is declared of Python code: the target of a `python` tool, where modules are found, tool functions to start."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from .types import Model

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_TARGET = re.compile(rf"{_NAME}(?:\.{_NAME})*:{_NAME}(?:\.{_NAME})*|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


def _target(value: str) -> str:
    if not _TARGET.fullmatch(value):
        raise ValueError(
            "is neither `module:function`, such as shop.tools:refund, nor the name of an entry point in the group "
            "`goagents.tools`"
        )
    return value


PythonTarget = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(_target)]
Folder = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,255}$")]


class PythonConfig(Model):
    path: tuple[Folder, ...] = Field(
        (),
        max_length=32,
        description="Folders to look for modules in, after those of the installation; relative to this file. Neither "
        "the working directory nor a cluster's folder is looked in otherwise.",
    )


class ToolFunctionConfig(Model):
    """An HTTP function that `goagents run` starts beside the server, and deployments have as a function of its own."""

    source: Folder = Field(description="The Python file with the function, relative to this file.")
    target: Variable = Field("tools", description="Name of the function in it.")
    port: Annotated[int, Field(ge=1, le=65_535)] = Field(description="Port of 127.0.0.1 that it is served on.")
    variable: Variable = Field(
        description="The variable that holds its address, for clusters to refer to. `goagents run` sets it; where it "
        "is set already, to the address of a deployed function, nothing is started."
    )
    env: dict[Variable, str] = Field(
        default_factory=dict,
        max_length=256,
        repr=False,
        description="Variables of its process, beside those of the server's.",
    )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"
