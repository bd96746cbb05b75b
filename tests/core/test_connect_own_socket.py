"""A socket that the program made stays its own, whatever becomes of a connect."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from evsvc.core import (
    BEV_EVENT_ERROR,
    BEV_OPT_CLOSE_ON_FREE,
    ArgumentError,
    BufferEvent,
    EventBase,
)
from tests.core.bevs import LOOPBACK, Address, Client

OPTIONS = pytest.mark.parametrize("options", [0, BEV_OPT_CLOSE_ON_FREE])


@OPTIONS
@pytest.mark.parametrize(
    "address",
    [
        ("1.2.3.4", 80, 1),
        ("1.2.3.4", 80, "x"),
        ("1.2.3.4",),
        ("1.2.3.4", 65536),
        ("localhost", 80),
        ("::1", 80, 0, 0),
        "/a/path",
    ],
)
def test_an_address_that_is_refused_leaves_the_programs_socket(
    base: EventBase, greeter: Address, options: int, address: Any
) -> None:
    with socket.socket() as sock:
        client = Client(base, options, sock)
        with pytest.raises(ArgumentError):
            client.bev.connect(address)
        assert client.bev.socket is sock
        client.bev.connect(greeter)
        base.dispatch()
        assert client.at_end == b"hello"
        client.bev.close()


@pytest.mark.parametrize("address", [("1.2.3.4", 80, 1), ("::1", 80, 2**40, 0, 0)])
def test_an_address_that_is_refused_leaves_no_socket(base: EventBase, address: Any) -> None:
    with BufferEvent(base) as bev:
        with pytest.raises(ArgumentError):
            bev.connect(address)
        assert bev.fd == -1


@OPTIONS
@pytest.mark.parametrize("by_name", [False, True])
def test_a_refused_connection_leaves_the_programs_bound_socket(
    base: EventBase, closed_address: Address, greeter: Address, options: int, by_name: bool
) -> None:
    """It is there for another try."""
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        client = Client(base, options, sock)
        if by_name:
            client.bev.connect_hostname(None, socket.AF_INET, *closed_address)
        else:
            client.bev.connect(closed_address)
        base.dispatch()
        assert client.events == [BEV_EVENT_ERROR]
        assert client.bev.socket is sock
        client.bev.connect(greeter)
        base.dispatch()
        assert client.at_end == b"hello"
        client.bev.close()
        assert (sock.fileno() == -1) == bool(options)
