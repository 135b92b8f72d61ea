"""Agent ids: `cluster.agent` in the namespace `default`, else `namespace.cluster.agent`."""

from dataclasses import dataclass

from goagents.errors import NotFound

DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class AgentId:
    namespace: str
    cluster: str
    agent: str

    @classmethod
    def parse(cls, text: str) -> "AgentId":
        """Raises NotFound for a text that can name no agent."""
        parts = text.split(".")
        if len(parts) == 2:
            parts = [DEFAULT_NAMESPACE, *parts]
        if len(parts) != 3 or not all(parts):
            raise NotFound(f"No agent has the id {text[:200]!r}: an id is CLUSTER.AGENT or NAMESPACE.CLUSTER.AGENT.")
        return cls(*parts)

    def __str__(self) -> str:
        if self.namespace == DEFAULT_NAMESPACE:
            return f"{self.cluster}.{self.agent}"
        return f"{self.namespace}.{self.cluster}.{self.agent}"
