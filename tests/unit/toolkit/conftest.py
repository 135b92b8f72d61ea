"""The fixtures of `tests/support/toolkit.py`."""

from tests.support.toolkit import ask

__all__ = ["ask"]
