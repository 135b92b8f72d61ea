"""A type that cannot be loaded: its entry in a cluster says so, and everything else works."""

from acme_sdk import ACME  # noqa: F401 - which nobody has
