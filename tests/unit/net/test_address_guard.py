"""No private address passes in any notation, and what the configuration allows does."""

import ipaddress
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from goagents.errors import AddressRefused, ConfigurationError
from goagents.net.address_guard import AddressGuard

GUARD = AddressGuard()
PRIVATE_V4 = [
    "0.0.0.0",  # noqa: S104 - an address to refuse, nothing binds it
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
]
PRIVATE_V6 = [
    "::",
    "::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "ff02::1",
    "fec0::1",
    "2001:db8::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "3fff::1",
    "5f00::1",
    "64:ff9b:1::1",
    "100::1",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2001:4860:4860::8888", "2606:4700::1111", "2a00::1"]


def refused(host: str, port: int = 80, guard: AddressGuard = GUARD) -> bool:
    try:
        guard.check_host(host, port)
    except AddressRefused:
        return True
    return False


def refused_after_look_up(address: str, host: str = "example.com", port: int = 80, guard: AddressGuard = GUARD) -> bool:
    try:
        guard.admit(host, port, [address])
    except AddressRefused:
        return True
    return False


@pytest.mark.parametrize("address", PRIVATE_V4 + PRIVATE_V6)
def test_a_private_address_is_refused_as_literal_and_as_answer(address: str):
    assert refused(address)
    assert refused(f"[{address}]")
    assert refused_after_look_up(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_passes(address: str):
    assert not refused(address)
    assert not refused_after_look_up(address)


def embedded(address: str) -> list[str]:
    number = int(ipaddress.IPv4Address(address))
    six = ipaddress.IPv6Address
    return [
        f"::ffff:{address}",
        str(six((0x64FF9B << 96) | number)),  # NAT64
        str(six((0x2002 << 112) | (number << 80) | 1)),  # 6to4
        str(six((0x20010DB7 << 96) | (0x5EFE << 32) | number)),  # ISATAP
        f"::{address}",  # IPv4-compatible
    ]


@pytest.mark.parametrize("address", PRIVATE_V4)
def test_an_embedded_private_address_is_refused(address: str):
    for form in embedded(address):
        assert refused(form), form
        assert refused_after_look_up(form), form


def test_an_embedded_public_address_passes():
    assert not refused("::ffff:8.8.8.8")
    assert not refused("64:ff9b::8.8.8.8")
    assert not refused("2002:808:808::1")


ODD = ["2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "017700000001", "127.0.1", "0", "0x0", "127.00.0.1"]


@pytest.mark.parametrize("host", [*ODD, "134744072", "8.8.2056"])
def test_odd_forms_of_ipv4_are_refused_whatever_they_mean(host: str):
    assert socket.inet_aton(host)  # the system would take it
    assert refused(host)
    assert refused(f"{host}.")


@pytest.mark.parametrize(
    "url",
    [
        "http://127。0。0。1/",
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://①②⑦.0.0.1/",
        "http://ⓛocalhost/",
        "http://LOCALHOST/",
        "http://localhost./",
        "http://a.localhost/",
        "http://[::ffff:7f00:1]/",
        "http://[0:0:0:0:0:ffff:127.0.0.1]/",
        "http://metadata.google.internal/",
        "http://Metadata.Google.Internal./",
        "http://metadata/",
    ],
)
def test_disguised_hosts_are_refused(url: str):
    parsed = URL(url)
    with pytest.raises(AddressRefused):
        GUARD.check_url(parsed.scheme, parsed.raw_host, parsed.port)


@pytest.mark.parametrize("url", ["ftp://example.com/", "file:///etc/passwd", "gopher://example.com:70/", "//x"])
def test_only_http_and_https(url: str):
    parsed = URL(url)
    with pytest.raises(AddressRefused, match="only http and https"):
        GUARD.check_url(parsed.scheme, parsed.raw_host, parsed.port)


@pytest.mark.parametrize("host", ["exa mple.com", "a/b", "a@b", "a\\b", "%31%32", "", "a..b", "x" * 300])
def test_what_is_no_host_name_is_refused(host: str):
    assert refused(host)


def spellings(address: ipaddress.IPv4Address) -> list[str]:
    number = int(address)
    a, b, c, d = address.packed
    return [
        str(address),
        str(number),
        hex(number),
        f"0{number:o}",
        f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{number & 0xFFFF}",
        f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"[::ffff:{address}]",
        *(f"[{form}]" for form in embedded(str(address))),
    ]


NETWORKS = ["10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"]


@given(st.sampled_from(NETWORKS), st.integers(min_value=0), st.sampled_from(["", "."]))
@example("127.0.0.0/8", 1, "")
def test_no_private_address_passes_in_any_notation(network: str, offset: int, dot: str):
    block = ipaddress.IPv4Network(network)
    address = block[offset % block.num_addresses]
    for host in spellings(address):
        assert refused(host if host.startswith("[") else host + dot), host


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_nothing_passes_that_the_standard_library_calls_private(address: ipaddress.IPv4Address):
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        assert refused(str(address))
        assert refused_after_look_up(str(address))


def test_one_bad_answer_refuses_them_all():
    with pytest.raises(AddressRefused) as caught:
        GUARD.admit("rebind.example", 443, ["8.8.8.8", "10.20.30.40"])
    assert "rebind.example" in str(caught.value)
    assert "allow.addresses" in str(caught.value)
    assert "10.20.30.40" not in str(caught.value)  # the inside of the network is not told


def test_a_block_is_allowed():
    guard = AddressGuard(("10.0.0.0/8",))
    assert not refused("10.1.2.3", guard=guard)
    assert not refused_after_look_up("10.1.2.3", guard=guard)
    assert not refused("[::ffff:10.1.2.3]", guard=guard)
    assert refused("192.168.1.1", guard=guard)
    assert refused("2130706433", guard=guard)


def test_a_port_narrows_an_entry():
    guard = AddressGuard(("127.0.0.1:9000", "[::1]:9001", "orders.internal:8443"))
    assert not refused("127.0.0.1", 9000, guard)
    assert refused("127.0.0.1", 9001, guard)
    assert not refused("::1", 9001, guard)
    assert not refused_after_look_up("10.0.0.1", "orders.internal", 8443, guard)
    assert refused_after_look_up("10.0.0.1", "orders.internal", 443, guard)


def test_a_host_name_is_allowed_exactly():
    guard = AddressGuard(("Orders.Internal", "localhost"))
    assert not refused("localhost", guard=guard)
    assert not refused_after_look_up("10.0.0.1", "orders.internal", guard=guard)
    assert not refused_after_look_up("10.0.0.1", "orders.internal.", guard=guard)
    assert refused_after_look_up("10.0.0.1", "x.orders.internal", guard=guard)
    assert refused_after_look_up("10.0.0.1", "orders.internal.evil.com", guard=guard)


def test_metadata_passes_only_by_an_entry_of_its_own():
    assert refused("169.254.169.254", guard=AddressGuard(("169.254.0.0/16", "0.0.0.0/0")))
    assert refused("168.63.129.16", guard=AddressGuard(("0.0.0.0/0",)))
    assert refused_after_look_up("169.254.169.254", "orders.internal", guard=AddressGuard(("orders.internal",)))
    assert not refused("169.254.169.254", guard=AddressGuard(("169.254.169.254",)))
    assert not refused("metadata.google.internal", guard=AddressGuard(("metadata.google.internal",)))


@pytest.mark.parametrize("entry", ["10.0.0.0/99", "*.internal", "http://x", "", "2130706433", "a b"])
def test_an_unreadable_entry_is_named(entry: str):
    with pytest.raises(ConfigurationError) as caught:
        AddressGuard(("10.0.0.0/8", entry))
    assert "allow.addresses.1" in str(caught.value)
