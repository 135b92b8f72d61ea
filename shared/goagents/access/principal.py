"""The one on whose behalf a request is served."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """`id` names the caller in records and logs; `tenant` is whose records it sees."""

    id: str
    tenant: str = "default"


LOCAL = Principal("local")
