"""Connecting to a host by name: the look-up, its failures, and the addresses that it gives."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    EV_READ,
    EV_WRITE,
    EVUTIL_EAI_ADDRFAMILY,
    EVUTIL_EAI_NODATA,
    EVUTIL_EAI_NONAME,
    AddrInfoHints,
    ArgumentError,
    ArgumentTypeError,
    BufferEvent,
    EventBase,
    FakeClock,
    StateError,
)
from tests.core.bevs import (
    LOOPBACK,
    Address,
    Boom,
    Client,
    DictResolver,
    SlowPosts,
    never,
)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_name_is_looked_up_and_connected_to(
    base: EventBase, greeter: Address, at_once: bool
) -> None:
    resolver = DictResolver(base, {"greeter": [(socket.AF_INET, greeter)]}, at_once)
    client = Client(base)
    client.bev.connect_hostname(resolver, socket.AF_INET, "greeter", greeter[1])
    assert client.events == []
    base.dispatch()
    assert client.events == [BEV_EVENT_CONNECTED, BEV_EVENT_READING | BEV_EVENT_EOF]
    assert client.bev.dns_error == 0
    assert resolver.hints == [AddrInfoHints(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)]
    client.bev.close()


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("found", "code"), [(int(EVUTIL_EAI_NONAME), EVUTIL_EAI_NONAME), ([], EVUTIL_EAI_NODATA)]
)
def test_a_failed_lookup_is_an_error_with_its_code(
    base: EventBase, at_once: bool, found: Any, code: int
) -> None:
    resolver = DictResolver(base, {"nowhere": found}, at_once)
    client = Client(base)
    client.bev.enable(EV_READ)
    client.bev.set_timeouts(60, 60)
    client.bev.connect_hostname(resolver, socket.AF_UNSPEC, "nowhere", 80)
    assert client.events == []
    base.dispatch()
    assert client.events == [BEV_EVENT_ERROR]
    assert client.bev.dns_error == code
    assert isinstance(client.bev.error, socket.gaierror)
    assert "nowhere" in str(client.bev.error)
    assert base.dispatch() == 1  # no time-out runs on
    client.bev.close()


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("first", ["refused", "no such family"])
def test_when_the_first_address_fails_the_second_is_tried(
    base: EventBase, greeter: Address, closed_address: Address, at_once: bool, first: str
) -> None:
    bad = (socket.AF_INET, closed_address) if first == "refused" else (99, ("x", 1))
    resolver = DictResolver(base, {"two": [bad, (socket.AF_INET, greeter)]}, at_once)
    client = Client(base)
    client.bev.write(b"kept")
    client.bev.connect_hostname(resolver, socket.AF_UNSPEC, "two", 80)
    base.dispatch()
    assert client.events == [BEV_EVENT_CONNECTED, BEV_EVENT_READING | BEV_EVENT_EOF]
    assert client.bev.dns_error == 0
    client.bev.close()


def test_when_every_address_fails_the_last_error_is_told(
    base: EventBase, closed_address: Address
) -> None:
    for table, code in (
        ([(socket.AF_INET, closed_address)] * 2, errno.ECONNREFUSED),
        ([(99, ("x", 1))], errno.EAFNOSUPPORT),
    ):
        resolver = DictResolver(base, {"bad": table})
        client = Client(base)
        client.bev.connect_hostname(resolver, socket.AF_UNSPEC, "bad", 80)
        base.dispatch()
        assert client.events == [BEV_EVENT_ERROR]
        assert client.bev.error is not None
        assert client.bev.error.errno == code
        assert client.bev.dns_error == 0
        client.bev.close()


def test_closing_cancels_the_lookup(base: EventBase) -> None:
    resolver = DictResolver(base, {"greeter": [(socket.AF_INET, (LOOPBACK, 1))]}, at_once=False)
    bev = BufferEvent(base)
    bev.setcb(never, never, never)
    bev.connect_hostname(resolver, socket.AF_UNSPEC, "greeter", 80)
    with pytest.raises(StateError, match="resolving"):
        bev.connect((LOOPBACK, 80))
    bev.close()
    assert resolver.cancelled == 1
    assert base.dispatch() == 1


def test_no_time_out_runs_during_the_lookup(fake_base: EventBase, clock: FakeClock) -> None:
    resolver = DictResolver(fake_base, {"slow": int(EVUTIL_EAI_NONAME)}, at_once=False)
    resolver.base = SlowPosts(fake_base)  # type: ignore[assignment]
    client = Client(fake_base)
    client.bev.enable(EV_READ | EV_WRITE)
    client.bev.set_timeouts(1, 1)
    client.bev.connect_hostname(resolver, socket.AF_UNSPEC, "slow", 80)
    fake_base.dispatch()
    assert client.events == [BEV_EVENT_ERROR]
    client.bev.close()


def test_a_numeric_host_needs_no_resolver(base: EventBase, greeter: Address) -> None:
    client = Client(base)
    client.bev.connect_hostname(None, socket.AF_UNSPEC, *greeter)
    base.dispatch()
    assert client.at_end == b"hello"
    client.bev.close()


def test_a_numeric_host_of_another_family_is_a_failed_lookup(base: EventBase) -> None:
    client = Client(base)
    client.bev.connect_hostname(None, socket.AF_INET6, LOOPBACK, 80)
    base.dispatch()
    assert client.events == [BEV_EVENT_ERROR]
    assert client.bev.dns_error == EVUTIL_EAI_ADDRFAMILY
    client.bev.close()


@pytest.mark.parametrize(
    ("family", "host", "port"),
    [
        (socket.AF_UNIX, "host", 80),
        (socket.AF_INET, "", 80),
        (socket.AF_INET, "host", 0),
        (socket.AF_INET, "host", 65536),
        (socket.AF_INET, "host", 80),
    ],
)
def test_bad_arguments_raise_at_once_and_leave_it_unconnected(
    base: EventBase, greeter: Address, family: int, host: str, port: int
) -> None:
    """The last is a name without a resolver."""
    client = Client(base)
    with pytest.raises(ArgumentError):
        client.bev.connect_hostname(None, family, host, port)
    client.bev.connect(greeter)
    base.dispatch()
    assert client.at_end == b"hello"
    client.bev.close()


@pytest.mark.parametrize(
    ("family", "host", "port", "resolver"),
    [
        ("2", LOOPBACK, 80, None),
        (socket.AF_INET, b"127.0.0.1", 80, None),
        (socket.AF_INET, 2130706433, 80, None),
        (socket.AF_INET, None, 80, None),
        (socket.AF_INET, LOOPBACK, "80", None),
        (socket.AF_INET, LOOPBACK, 80.0, None),
        (socket.AF_INET, LOOPBACK, 80, "a resolver"),
    ],
)
def test_a_wrong_type_is_named_as_a_type(
    base: EventBase, greeter: Address, family: Any, host: Any, port: Any, resolver: Any
) -> None:
    client = Client(base)
    with pytest.raises(ArgumentTypeError):
        client.bev.connect_hostname(resolver, family, host, port)
    client.bev.connect(greeter)
    base.dispatch()
    assert client.at_end == b"hello"
    client.bev.close()


@pytest.mark.parametrize("host", ["::1%no-such-zone", "fe80::1%4294967296"])
def test_a_zone_that_does_not_exist_is_refused_at_once(base: EventBase, host: str) -> None:
    with BufferEvent(base) as bev, pytest.raises(ArgumentError, match="zone"):
        bev.connect_hostname(None, socket.AF_INET6, host, 80)


def test_a_resolver_that_raises_leaves_it_unconnected(base: EventBase, greeter: Address) -> None:
    class Broken:
        def getaddrinfo(self, *args: object) -> None:
            raise Boom

    client = Client(base)
    with pytest.raises(Boom):
        client.bev.connect_hostname(Broken(), socket.AF_UNSPEC, "host", 80)
    client.bev.connect(greeter)
    base.dispatch()
    assert client.at_end == b"hello"
    client.bev.close()


_NO_ADDRESSES: list[tuple[int, Any]] = [
    (socket.AF_INET, ("too", "short", "by half")),
    (socket.AF_INET, (LOOPBACK, 800_000)),
    (socket.AF_INET, (LOOPBACK, 80, 1)),
    (socket.AF_INET, (LOOPBACK, "80")),
    (socket.AF_INET, ("localhost", 80)),
    (socket.AF_INET, ("::1", 80)),
    (2**80, (LOOPBACK, 80)),
    (socket.AF_INET, None),
]


@pytest.mark.parametrize("address", _NO_ADDRESSES)
@pytest.mark.parametrize("at_once", [True, False])
def test_nonsense_from_a_resolver_is_an_error_and_leaves_no_socket_open(
    base: EventBase, greeter: Address, address: tuple[int, Any], at_once: bool
) -> None:
    """A name for a host is among it: the socket would look it up, and block."""
    resolver = DictResolver(base, {"odd": [address]}, at_once)
    client = Client(base)
    client.bev.connect_hostname(resolver, socket.AF_UNSPEC, "odd", 80)
    base.dispatch()
    assert client.events == [BEV_EVENT_ERROR]
    assert client.bev.error is not None
    assert client.bev.error.errno == errno.EINVAL
    assert client.bev.fd == -1
    client.bev.connect(greeter)
    base.dispatch()
    assert client.at_end == b"hello"
    client.bev.close()


@pytest.mark.parametrize("address", _NO_ADDRESSES)
def test_after_nonsense_the_resolvers_next_address_is_tried(
    base: EventBase, greeter: Address, address: tuple[int, Any]
) -> None:
    resolver = DictResolver(base, {"odd": [address, (socket.AF_INET, greeter)]}, at_once=False)
    client = Client(base)
    client.bev.connect_hostname(resolver, socket.AF_UNSPEC, "odd", 80)
    base.dispatch()
    assert client.at_end == b"hello"
    client.bev.close()


def test_while_it_is_looked_up_nothing_is_read_or_written(base: EventBase) -> None:
    """Both directions are suspended, and what is enabled meanwhile is not forgotten."""
    with socket.socket() as sock, BufferEvent(base, sock) as bev:
        resolver = DictResolver(base, {"name": []}, at_once=False)
        bev.connect_hostname(resolver, socket.AF_UNSPEC, "name", 80)
        bev.setcb(never, never, None)
        bev.enable(EV_READ | EV_WRITE)
        bev.write(b"x")
        assert not any(event.pending() for event in bev._io_events())
        assert base.dispatch() == 1
        assert bev.enabled == EV_READ | EV_WRITE


def test_another_descriptor_cancels_the_look_up(
    base: EventBase, pair: tuple[socket.socket, socket.socket]
) -> None:
    resolver = DictResolver(base, {"greeter": [(socket.AF_INET, (LOOPBACK, 1))]}, at_once=False)
    with BufferEvent(base) as bev:
        bev.setcb(never, None, never)
        bev.connect_hostname(resolver, socket.AF_UNSPEC, "greeter", 80)
        bev.setfd(pair[0])
        assert resolver.cancelled == 1
        bev.write(b"x")
        assert base.dispatch() == 1
        assert pair[1].recv(9) == b"x"
