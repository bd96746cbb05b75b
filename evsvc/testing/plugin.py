"""Fixtures for pytest: put `pytest_plugins = ["evsvc.testing.plugin"]` into your conftest.py.

    fake_clock    the clock of `event_base`, which stands still until the loop would sleep
    event_base    a base, closed after the test, which fails if it has left something there
    http_server   an HttpServer on it; register callbacks, and ask it with
    http_client   an HttpTestClient of it
    http_url      its URL, where it listens on a free port of 127.0.0.1 from then on
    dns_server    a DnsServer, whose callback is `dns_handler`
    dns_client    a DnsTestClient of it
    rpc_server    an RpcServer on `http_server`
    rpc_client    an RpcTestClient of it

Nothing is bound, and no port is taken, but by a test that asks for `http_url`.  Define a fixture of
the same name to have it otherwise; each uses the others by name.  A test that waits for a thread or
another process wants an `event_base` of its own, with the real clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ..core import EventBase, FakeClock
from ..dns import DNS_ERR_REFUSED, DnsServer
from ..http import HttpServer
from ..rpc import RpcServer
from .dns import DnsTestClient
from .http import HttpTestClient
from .leftovers import leftovers
from .rpc import RpcTestClient


@pytest.fixture
def fake_clock() -> FakeClock:
    """The clock of `event_base`."""
    return FakeClock()


@pytest.fixture
def event_base(fake_clock: FakeClock) -> Iterator[EventBase]:
    """An event base, whose time is `fake_clock`'s.

    Fails the test whose descriptors or signals are watched at its end still: see `leftovers`.
    """
    with EventBase(clock=fake_clock) as base:
        yield base
        left = leftovers(base)
    if left:
        pytest.fail("the test has left on its event base:\n" + "\n".join(left), pytrace=False)


@pytest.fixture
def http_server(event_base: EventBase) -> Iterator[HttpServer]:
    """An HttpServer that listens nowhere."""
    with HttpServer(event_base) as server:
        yield server


@pytest.fixture
def http_client(http_server: HttpServer) -> Iterator[HttpTestClient]:
    """A client of `http_server`."""
    with HttpTestClient(http_server) as client:
        yield client


@pytest.fixture
def http_url(http_server: HttpServer) -> str:
    """The URL of `http_server`, which listens on a free port of 127.0.0.1; without a slash behind.

    For clients that want a socket; with the fake clock they are on `event_base`, too.
    """
    return f"http://127.0.0.1:{http_server.bind_socket('127.0.0.1', 0).port}"


@pytest.fixture
def dns_handler() -> Any:
    """What answers the queries of `dns_server`; define your own, this one refuses them all."""
    return lambda request, arg: request.respond(DNS_ERR_REFUSED)


@pytest.fixture
def dns_server(event_base: EventBase, dns_handler: Any) -> Iterator[DnsServer]:
    """A DnsServer that listens nowhere, and asks `dns_handler`."""
    with DnsServer(event_base, dns_handler) as server:
        yield server


@pytest.fixture
def dns_client(event_base: EventBase, dns_server: DnsServer) -> DnsTestClient:
    """A client of `dns_server`."""
    return DnsTestClient(event_base, dns_server)


@pytest.fixture
def rpc_server(http_server: HttpServer) -> RpcServer:
    """An RpcServer on `http_server`."""
    return RpcServer(http_server)


@pytest.fixture
def rpc_client(rpc_server: RpcServer, http_server: HttpServer) -> Iterator[RpcTestClient]:
    """A client of `rpc_server`."""
    with RpcTestClient(http_server) as client:
        yield client
