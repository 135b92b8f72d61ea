"""The guard against server-side request forgery: which hosts and addresses outbound calls may reach.

By default only public unicast addresses pass. An exception is an entry of `allow.addresses` in the server's
configuration: a CIDR block, an address, or an exact host name, each also with a port (`10.0.0.0/8`, `127.0.0.1:9000`,
`orders.internal`). Addresses of cloud metadata services pass only by an entry that names exactly them.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from goagents.errors import AddressRefused, ConfigurationError, FieldError

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

REMEDY = "to permit it, list it under `allow.addresses` in the server's configuration"

# Named here rather than asked of `ipaddress.is_private`: that answer changes between patch releases of Python.
_REFUSED_V4: tuple[tuple[IPv4Network, str], ...] = tuple(
    (IPv4Network(block), what)
    for block, what in (
        ("0.0.0.0/8", "an unspecified"),
        ("10.0.0.0/8", "a private"),
        ("100.64.0.0/10", "a carrier-grade NAT"),
        ("127.0.0.0/8", "a loopback"),
        ("169.254.0.0/16", "a link-local"),
        ("172.16.0.0/12", "a private"),
        ("192.0.0.0/24", "a reserved"),
        ("192.0.2.0/24", "a documentation"),
        ("192.88.99.0/24", "a reserved"),
        ("192.168.0.0/16", "a private"),
        ("198.18.0.0/15", "a benchmarking"),
        ("198.51.100.0/24", "a documentation"),
        ("203.0.113.0/24", "a documentation"),
        ("224.0.0.0/4", "a multicast"),
        ("240.0.0.0/4", "a reserved"),
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
_REFUSED_V6: tuple[tuple[IPv6Network, str], ...] = tuple(
    (IPv6Network(block), what)
    for block, what in (
        ("::/128", "an unspecified"),
        ("::1/128", "a loopback"),
        ("2001::/32", "a Teredo"),
        ("2001::/23", "a reserved"),
        ("2001:db8::/32", "a documentation"),
        ("3fff::/20", "a documentation"),
        ("fc00::/7", "a private"),
        ("fe80::/10", "a link-local"),
        ("ff00::/8", "a multicast"),
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
_6TO4 = IPv6Network("2002::/16")
_ISATAP = (0x00005EFE, 0x02005EFE)

_METADATA_ADDRESSES = frozenset(
    ipaddress.ip_address(address)
    for address in ("169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "192.0.0.192",
                    "168.63.129.16", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254")
)  # fmt: skip
_METADATA_NAMES = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}
)

# What inet_aton would read as an IPv4 address: decimal, octal and hexadecimal numbers, one to four of them.
_NUMERIC = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+)){0,3}")
_HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*")


@dataclass(frozen=True, slots=True)
class _Exceptions:
    networks: frozenset[tuple[IPNetwork, int | None]] = frozenset()
    hosts: frozenset[tuple[str, int | None]] = frozenset()

    def host(self, host: str, port: int) -> bool:
        return (host, None) in self.hosts or (host, port) in self.hosts

    def address(self, address: IPAddress, port: int) -> bool:
        exact = address in _METADATA_ADDRESSES
        return any(
            address.version == network.version
            and address in network
            and only_port in (None, port)
            and (not exact or network.num_addresses == 1)
            for network, only_port in self.networks
        )


@dataclass(frozen=True, slots=True)
class AddressGuard:
    """Decides on hosts before they are looked up, and on every address a look-up gave.

    `allowed` is the configuration's `allow.addresses`. Raises ConfigurationError for an entry it cannot read.
    """

    allowed: tuple[str, ...] = ()
    _exceptions: _Exceptions = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_exceptions", _read_exceptions(self.allowed))

    def check_url(self, scheme: str, host: str | None, port: int | None) -> None:
        """Raise AddressRefused where the scheme, the host's name or a literal address rules the URL out already."""
        if scheme not in ("http", "https"):
            raise AddressRefused(f"{scheme or 'no scheme'}: only http and https are called")
        if not host:
            raise AddressRefused("the URL names no host")
        self.check_host(host, port or (443 if scheme == "https" else 80))

    def check_host(self, host: str, port: int) -> None:
        """Raise AddressRefused for a refused name or literal address. A name that passes has yet to be looked up."""
        name = normalise_host(host)
        literal = _literal(name)
        if literal is not None:
            self._check_literal(name, literal, port)
            return
        if _NUMERIC.fullmatch(name):
            raise AddressRefused(f"{name}: write an IPv4 address as four plain decimal numbers")
        if not _HOST_NAME.fullmatch(name):
            raise AddressRefused(f"{name!r} is no host name")
        if self._exceptions.host(name, port):
            return
        if name in _METADATA_NAMES:
            raise AddressRefused(f"{name} is a cloud metadata service; {REMEDY}")
        if name == "localhost" or name.endswith(".localhost"):
            raise AddressRefused(f"{name} is this machine itself; {REMEDY}")

    def admit(self, host: str, port: int, addresses: Sequence[str]) -> list[IPAddress]:
        """Return the addresses a look-up of `host` gave, parsed. Raises AddressRefused if any one is refused.

        The message names the host and the kind of network, never the address: that is the network's own business.
        """
        name = normalise_host(host)
        trusted = self._exceptions.host(name, port)
        admitted = []
        for text in addresses:
            address = ipaddress.ip_address(text)
            if trusted and not _is_metadata(address):
                admitted.append(address)
                continue
            reason = self._refusal(address, port)
            if reason is not None:
                raise AddressRefused(f"{name} leads to {reason} address; {REMEDY}")
            admitted.append(address)
        return admitted

    def _check_literal(self, name: str, address: IPAddress, port: int) -> None:
        reason = self._refusal(address, port)
        if reason is not None:
            raise AddressRefused(f"{name} is {reason} address; {REMEDY}")

    def _refusal(self, address: IPAddress, port: int) -> str | None:
        """Return what makes the address refused ("a private"), None where it passes."""
        forms = _forms(address)
        if any(self._exceptions.address(form, port) for form in forms):
            return None
        if any(form in _METADATA_ADDRESSES for form in forms):
            return "a cloud metadata"
        return next((reason for form in forms if (reason := _reason(form)) is not None), None)


def normalise_host(host: str) -> str:
    """Return the host in lower case, without brackets and without the root's trailing dot."""
    return host.strip("[]").rstrip(".").lower()


def _literal(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_metadata(address: IPAddress) -> bool:
    return any(form in _METADATA_ADDRESSES for form in _forms(address))


def _forms(address: IPAddress) -> tuple[IPAddress, ...]:
    """Return the address without its zone, and the IPv4 address that it may carry inside."""
    if isinstance(address, IPv4Address):
        return (address,)
    number = int(address)
    plain = IPv6Address(number)
    if plain.ipv4_mapped is not None:
        return (plain.ipv4_mapped,)  # the kernel connects over IPv4: the outer form means nothing
    if plain in _NAT64:
        return (IPv4Address(number & 0xFFFFFFFF),)
    if plain in _6TO4:
        return (plain, IPv4Address((number >> 80) & 0xFFFFFFFF))
    if (number >> 32) & 0xFFFFFFFF in _ISATAP:
        return (plain, IPv4Address(number & 0xFFFFFFFF))
    return (plain,)


def _reason(address: IPAddress) -> str | None:
    if isinstance(address, IPv4Address):
        return next((what for network, what in _REFUSED_V4 if address in network), None)
    known = next((what for network, what in _REFUSED_V6 if address in network), None)
    return known if known is not None or address in _GLOBAL_V6 else "a reserved"


def _read_exceptions(entries: Iterable[str]) -> _Exceptions:
    networks: set[tuple[IPNetwork, int | None]] = set()
    hosts: set[tuple[str, int | None]] = set()
    for index, entry in enumerate(entries):
        text, port = _split_port(entry.strip())
        try:
            networks.add((ipaddress.ip_network(text, strict=False), port))
            continue
        except ValueError:
            name = text.rstrip(".").lower()
        if _NUMERIC.fullmatch(name) or not _HOST_NAME.fullmatch(name):
            problem = f"{entry!r} is neither a CIDR block, an address nor a host name (each may have a port)"
            raise ConfigurationError(problem, errors=[FieldError(f"allow.addresses.{index}", problem)])
        hosts.add((name, port))
    return _Exceptions(frozenset(networks), frozenset(hosts))


def _split_port(entry: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"\[(?P<six>[^\]]+)\](?::(?P<port6>\d{1,5}))?|(?P<host>[^:]+):(?P<port>\d{1,5})", entry)
    if match is None:
        return entry, None
    port = match["port6"] or match["port"]
    return match["six"] or match["host"], int(port) if port else None


def family_of(address: IPAddress) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6
