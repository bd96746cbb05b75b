"""Addresses that come after the resolver's answer join the race (RFC 8305 section 3)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    AddrInfo,
    EventBase,
    FakeClock,
)
from tests.core.bevs import Address, Client
from tests.ports import held_port


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase(clock=FakeClock()) as made:
        yield made


def infos(*addresses: Address) -> list[AddrInfo]:
    return [AddrInfo(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]


class LateResolver:
    """Answers at once, or from the loop, and tells more `late_s` later; None is never."""

    def __init__(
        self, base: EventBase, first: list, more: list, late_s: float | None, at_once: bool
    ) -> None:
        self.base, self.first, self.more = base, first, more
        self.late_s, self.at_once = late_s, at_once
        self.cancelled = 0
        self.told = False

    def getaddrinfo(self, *args: Any) -> None:
        raise AssertionError("the other one is to be called")

    def getaddrinfo_late(self, host, port, hints, cb, late, arg=None) -> Any:
        def tell_late(*unused: object) -> None:
            self.told = True
            late(infos(*self.more), arg)

        def answer() -> None:
            cb(0, infos(*self.first), arg)
            if self.late_s is not None:
                self.base.once(-1, 1, tell_late, None, self.late_s)

        if self.at_once:
            answer()
        else:
            self.base.post(answer)
        return self

    def cancel(self) -> None:
        self.cancelled += 1


@pytest.mark.parametrize("at_once", [True, False])
def test_a_late_address_is_connected_to_when_the_first_ones_fail(
    base: EventBase, greeter: Address, at_once: bool
) -> None:
    with held_port() as closed:
        resolver = LateResolver(base, [("127.0.0.1", closed)], [greeter], 1.0, at_once)
        client = Client(base)
        client.bev.connect_hostname(resolver, socket.AF_UNSPEC, "greeter", greeter[1])
        base.dispatch()
    assert client.events == [BEV_EVENT_CONNECTED, BEV_EVENT_READING | BEV_EVENT_EOF]
    assert resolver.cancelled == 0
    client.bev.close()


@pytest.mark.parametrize("at_once", [True, False])
def test_without_late_addresses_the_failure_of_the_first_ones_is_told(
    base: EventBase, at_once: bool
) -> None:
    with held_port() as closed:
        resolver = LateResolver(base, [("127.0.0.1", closed)], [], 1.0, at_once)
        client = Client(base)
        client.bev.connect_hostname(resolver, socket.AF_UNSPEC, "nobody", closed)
        base.dispatch()
    assert len(client.events) == 1
    assert client.events[0] & BEV_EVENT_ERROR
    assert resolver.told
    client.bev.close()


@pytest.mark.parametrize("at_once", [True, False])
def test_who_is_connected_waits_for_no_more(
    base: EventBase, greeter: Address, at_once: bool
) -> None:
    resolver = LateResolver(base, [greeter], [greeter], None, at_once)
    client = Client(base)
    client.bev.connect_hostname(resolver, socket.AF_UNSPEC, "greeter", greeter[1])
    base.dispatch()
    assert client.events[0] == BEV_EVENT_CONNECTED
    assert resolver.cancelled == 1
    client.bev.close()


def test_a_resolver_that_never_tells_is_bounded_by_the_total_time(base: EventBase) -> None:
    with held_port() as closed:
        resolver = LateResolver(base, [("127.0.0.1", closed)], [], None, False)
        client = Client(base)
        client.bev.connect_hostname(resolver, socket.AF_UNSPEC, "nobody", closed)
        base.dispatch()
    assert client.events[0] & BEV_EVENT_ERROR
    assert resolver.cancelled == 1
    client.bev.close()
