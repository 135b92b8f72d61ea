"""Ports of this machine, before anything listens on them."""

import socket

from goagents.errors import Invalid

LOOPBACK = "127.0.0.1"


def bindable(host: str, port: int, option: str = "--port (0 takes a free one)") -> int:
    """Return the port, a free one for 0. Raises Invalid where it cannot be listened on; `option` chooses another."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
            found: int = probe.getsockname()[1]
            return found
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        remedy = f"end what listens there, or choose another port by {option}"
        raise Invalid(f"cannot listen on {host}:{port}: {reason}; {remedy}") from error
