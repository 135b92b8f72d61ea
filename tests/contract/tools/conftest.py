"""The fixtures of `tests/support/http_tools.py` and `tests/support/outbound.py`."""

from tests.support.http_tools import httpbin, opener, serve
from tests.support.mcp_tools import mcp
from tests.support.outbound import authority

__all__ = ["authority", "httpbin", "mcp", "opener", "serve"]
