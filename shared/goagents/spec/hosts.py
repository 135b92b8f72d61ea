"""Which hosts an agent's tools may call: `allowed_hosts`, its patterns and what they let through."""

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator, StringConstraints
from pydantic_core import PydanticCustomError

_PATTERN = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<host>(?:\*\.)?[a-z0-9_.-]+))(?::(?P<port>\d{1,5}))?", re.ASCII)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:\*\.)?{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_NUMERIC = re.compile(r"[0-9.]+")
_LITERAL = re.compile(r"(?:https?|wss?)://(?P<place>[^/?#\\\s$]+)(?:[/?#]|\Z)", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}

Pattern = tuple[str, int | None]


def host_pattern(value: str) -> str:
    """Return the pattern in lower case: a host, `*.` and a domain, or an address; each may have a port."""
    text = value.lower().rstrip(".")
    try:
        _parsed(text)
    except ValueError:
        raise PydanticCustomError(
            "host_pattern",
            "is no host; write api.example.com, *.example.org (its subdomains), 203.0.113.7 or [2001:db8::1], each with"
            " a port or without, and no scheme or path",
        ) from None
    return text


def _parsed(text: str) -> Pattern:
    """Raises ValueError."""
    if ":" in text and not text.startswith("[") and text.count(":") > 1:
        return str(ip_address(text)), None
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(text)
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 1 <= port <= 65_535:
        raise ValueError(text)
    if match["six"]:
        return str(ip_address(match["six"])), port
    host = match["host"]
    if _NUMERIC.fullmatch(host):
        return str(ip_address(host)), port
    if not _NAME.fullmatch(host):
        raise ValueError(text)
    return host, port


HostPattern = Annotated[str, StringConstraints(min_length=1, max_length=260), AfterValidator(host_pattern)]


class HostList:
    """The hosts that patterns name. `*.example.org` names every subdomain, and not `example.org` itself."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(patterns)
        found = [_parsed(pattern.lower().rstrip(".")) for pattern in self._patterns]
        self._exact = frozenset(each for each in found if not each[0].startswith("*."))
        self._below = tuple((host[1:], port) for host, port in found if host.startswith("*."))

    def allows(self, host: str, port: int | None) -> bool:
        name = host.strip("[]").rstrip(".").lower()
        if (name, None) in self._exact or (name, port) in self._exact:
            return True
        return any(name.endswith(end) and only in (None, port) for end, only in self._below)

    def refusal(self, host: str) -> str:
        """Return what to say of a host that is not among them."""
        named = ", ".join(self._patterns[:5]) + (", …" if len(self._patterns) > 5 else "")
        return f"{host} is not among the agent's `allowed_hosts` ({named or 'none'})"


def literal_place(url: str) -> tuple[str, int] | None:
    """Return host and port of a URL that names them itself; None where a reference does, or it is no such URL."""
    match = _LITERAL.match(url)
    if match is None:
        return None
    scheme = url.partition(":")[0].lower()
    place = match["place"].rpartition("@")[2].lower()
    try:
        host, port = _parsed(place)
    except ValueError:
        return None
    return host, port or _DEFAULT_PORTS[scheme]
