"""Servers and certificates as the http tool's tests have them, and a sender of webhooks."""

from tests.support.http_tools import serve
from tests.support.outbound import authority
from tests.support.webhooks import send

__all__ = ["authority", "send", "serve"]
