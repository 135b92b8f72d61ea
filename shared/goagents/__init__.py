"""GoAgents: clusters of AI agents, declared in YAML, served as stateless functions."""

__version__ = "0.1.0"
