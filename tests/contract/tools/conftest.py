"""The fixtures of `tests/support/http_tools.py`."""

from tests.support.http_tools import httpbin, opener, serve

__all__ = ["httpbin", "opener", "serve"]
