"""The section `allow`: what tools, and clusters received over HTTP, may reach."""

from typing import Annotated

from pydantic import Field, StringConstraints

from .python import PythonTarget
from .types import Address, Model, ShortText

VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,255}$")]
SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./:@+=-]{1,512}$")]
SECRET_SCHEMES = ("secret", "aws-secret")


class AllowConfig(Model):
    env: tuple[VariableName, ...] = Field(
        (), max_length=1000, description="Variables that a cluster received over HTTP may refer to."
    )
    secrets: tuple[SecretName, ...] = Field(
        (), max_length=1000, description="Secrets that a cluster received over HTTP may refer to."
    )
    addresses: tuple[Address, ...] = Field(
        (),
        max_length=1000,
        description="Private addresses that tools may reach: IP addresses, CIDR blocks, host names, also with "
        "`:PORT`. Others on private networks, this machine and the metadata server are refused.",
    )
    python: tuple[PythonTarget, ...] = Field(
        (), max_length=1000, description="What `target` of a `python` tool may say in a cluster received over HTTP."
    )
    tool_types: tuple[ShortText, ...] = Field(
        (), max_length=100, description="Types of tools that packages bring and a cluster received over HTTP may use."
    )

    def references(self) -> frozenset[str]:
        """Return the keys (`Reference.key`) that an untrusted cluster may refer to."""
        secrets = {
            name if name.startswith(tuple(f"{scheme}:" for scheme in SECRET_SCHEMES)) else f"{scheme}:{name}"
            for name in self.secrets
            for scheme in SECRET_SCHEMES
        }
        return frozenset(self.env) | secrets
