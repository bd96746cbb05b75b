"""getaddrinfo without a query (evutil_getaddrinfo)."""

from __future__ import annotations

import socket
from itertools import product

import pytest

from evsvc.core import (
    EVUTIL_EAI_ADDRFAMILY,
    EVUTIL_EAI_CANCEL,
    EVUTIL_EAI_FAMILY,
    EVUTIL_EAI_NONAME,
    EVUTIL_EAI_SERVICE,
    AddrInfoHints,
    ArgumentError,
    EaiError,
    Error,
    gai_strerror,
)
from evsvc.core.util import AddrInfoError, getaddrinfo

AF_INET, AF_INET6, AF_UNSPEC = socket.AF_INET, socket.AF_INET6, socket.AF_UNSPEC
STREAM, DGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP


def failure(
    host: str | None, service: int | str | None, hints: AddrInfoHints | None = None
) -> int | None:
    """Return the code that the call fails with."""
    with pytest.raises(AddrInfoError) as caught:
        getaddrinfo(host, service, hints)
    return caught.value.errno


@pytest.mark.parametrize(
    ("flags", "any_or_loopback"),
    [
        (0, {("127.0.0.1", 80), ("::1", 80, 0, 0)}),
        (socket.AI_PASSIVE, {("0.0.0.0", 80), ("::", 80, 0, 0)}),
    ],
)
def test_without_host_it_is_any_address_or_loopback(
    flags: int, any_or_loopback: set[object]
) -> None:
    """getaddrinfo without node: v4 and v6 loopback or any with the given port, one per family."""
    found = getaddrinfo(None, "80", AddrInfoHints(type=STREAM, flags=flags))
    assert len(found) == 2
    assert {info.sockaddr for info in found} == any_or_loopback
    assert {(info.type, info.proto) for info in found} == {(STREAM, TCP)}
    for family in (AF_INET, AF_INET6):
        (info,) = getaddrinfo(None, 80, AddrInfoHints(family, STREAM, flags=flags))
        assert info.family == family
        assert info.sockaddr in any_or_loopback


def test_a_numeric_host_needs_no_query() -> None:
    """getaddrinfo: "1.2.3.4"/"1001:b0b::f00f" numeric."""
    hints = AddrInfoHints(type=STREAM)
    assert getaddrinfo("1.2.3.4", 8080, hints) == [(AF_INET, STREAM, TCP, "", ("1.2.3.4", 8080))]
    sockaddr = ("1001:b0b::f00f", 8080, 0, 0)
    assert getaddrinfo("1001:b0b::f00f", "8080", hints) == [(AF_INET6, STREAM, TCP, "", sockaddr)]


def test_a_zone_is_honoured() -> None:
    """Mixed "%" zone honoured."""
    (info,) = getaddrinfo("FE80::1%3", 80, AddrInfoHints(type=STREAM))
    assert info.sockaddr == ("fe80::1", 80, 0, 3)


@pytest.mark.parametrize(("host", "family"), [("1.2.3.4", AF_INET6), ("::1", AF_INET)])
def test_a_numeric_host_of_another_family_is_an_error(host: str, family: int) -> None:
    """getaddrinfo: wrong family for literal = error."""
    assert failure(host, 80, AddrInfoHints(family)) == EVUTIL_EAI_ADDRFAMILY


@pytest.mark.parametrize("flags", [0, socket.AI_NUMERICHOST])
@pytest.mark.parametrize("host", ["www.example.com", "localhost", "1.2.3", "::1%no-such-zone", ""])
def test_a_host_name_is_never_asked_for(host: str, flags: int) -> None:
    """getaddrinfo: unknown host with NUMERICHOST = NONAME; here every name is."""
    assert failure(host, 80, AddrInfoHints(flags=flags)) == EVUTIL_EAI_NONAME


def test_neither_host_nor_service_is_an_error() -> None:
    """Node and service both missing = NONAME."""
    assert failure(None, None) == EVUTIL_EAI_NONAME


def test_another_family_is_an_error() -> None:
    """Families other than UNSPEC/INET/INET6 = FAMILY."""
    assert failure("1.2.3.4", 80, AddrInfoHints(socket.AF_UNIX)) == EVUTIL_EAI_FAMILY


@pytest.mark.parametrize(
    ("kind", "proto", "expected"),
    [
        (0, 0, [(STREAM, TCP), (DGRAM, UDP)]),
        (STREAM, 0, [(STREAM, TCP)]),
        (0, TCP, [(STREAM, TCP)]),
        (DGRAM, 0, [(DGRAM, UDP)]),
        (0, UDP, [(DGRAM, UDP)]),
        (socket.SOCK_RAW, 0, [(socket.SOCK_RAW, 0)]),
    ],
)
def test_type_and_protocol_are_inferred_from_each_other(
    kind: int, proto: int, expected: list[tuple[int, int]]
) -> None:
    """With neither given, numeric results come for both stream and datagram."""
    found = getaddrinfo("1.2.3.4", 80, AddrInfoHints(type=kind, proto=proto))
    assert [(info.type, info.proto) for info in found] == expected


def test_without_host_and_type_each_family_comes_for_both_types() -> None:
    found = {(info.family, info.type) for info in getaddrinfo(None, 80)}
    assert found == set(product((AF_INET, AF_INET6), (STREAM, DGRAM)))


def test_a_service_name_is_resolved_per_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """Service names resolved per protocol."""
    services = {("http", "tcp"): 80, ("syslog", "udp"): 514}

    def getservbyname(name: str, proto: str) -> int:
        if (name, proto) not in services:
            raise OSError("service/proto not found")
        return services[name, proto]

    monkeypatch.setattr(socket, "getservbyname", getservbyname)
    (stream,) = getaddrinfo("1.2.3.4", "http", AddrInfoHints(type=STREAM))
    (datagram,) = getaddrinfo("1.2.3.4", "syslog", AddrInfoHints(type=DGRAM))
    assert (stream.sockaddr[1], datagram.sockaddr[1]) == (80, 514)
    assert {info.sockaddr[1] for info in getaddrinfo("1.2.3.4", "syslog")} == {514}
    assert failure("1.2.3.4", "syslog", AddrInfoHints(type=STREAM)) == EVUTIL_EAI_SERVICE


@pytest.mark.parametrize("service", ["no such service", "65536", "-1", "", "a\0b"])
def test_an_unknown_service_is_an_error(service: str) -> None:
    assert failure("1.2.3.4", service) == EVUTIL_EAI_SERVICE


def test_numericserv_takes_numbers_alone() -> None:
    """NUMERICSERV rejects names."""
    hints = AddrInfoHints(type=STREAM, flags=socket.AI_NUMERICSERV)
    assert failure("1.2.3.4", "http", hints) == EVUTIL_EAI_NONAME
    assert getaddrinfo("1.2.3.4", "65535", hints)[0].sockaddr == ("1.2.3.4", 65535)


def test_without_service_the_port_is_0() -> None:
    assert getaddrinfo("1.2.3.4", None)[0].sockaddr == ("1.2.3.4", 0)


@pytest.mark.parametrize("port", [-1, 65536])
def test_an_int_that_is_no_port_is_the_programs_mistake(port: int) -> None:
    with pytest.raises(ArgumentError, match=str(port)):
        getaddrinfo("1.2.3.4", port)


def test_the_error_is_pythons_own_too() -> None:
    with pytest.raises(socket.gaierror, match=r"'localhost'.*not known") as caught:
        getaddrinfo("localhost", 80)
    assert isinstance(caught.value, Error)


def test_every_code_has_a_text() -> None:
    """Error codes are EVUTIL_EAI_*; extra CANCEL (-90001, text "Request canceled")."""
    assert EVUTIL_EAI_CANCEL == -90001
    assert gai_strerror(-90001) == "Request canceled"
    texts = [gai_strerror(code) for code in EaiError]
    assert len(set(texts)) == len(EaiError)
    assert gai_strerror(123456) == "unknown error 123456"
