"""What the entry points lead to: the model of `type: acme`, and a function."""

from typing import Literal

from pydantic import Field

from goagents.spec.plugins import ToolType
from goagents.spec.tools import BaseToolSpec
from goagents.spec.types import Duration, Model


class Bell(Model):
    rings: int = Field(1, ge=1, le=9, description="How often it rings.")
    pause: Duration = Field(0.5, description="Time between two rings.")


class AcmeToolSpec(BaseToolSpec):
    type: Literal["acme"] = Field(description="A counter of ACME.")
    greeting: str = Field(min_length=1, description="What customers are greeted with.")
    bell: Bell = Field(default_factory=Bell, description="The bell on the counter.")


def shout(text: str) -> str:
    """Says it louder."""
    return text.upper()


ACME = ToolType(spec=AcmeToolSpec, build="acme_tools.toolset:build")
