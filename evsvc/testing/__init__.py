"""Testing your own program: handlers are asked without sockets, and time passes without waiting.

    from evsvc import EventBase, HttpServer
    from evsvc.testing import FakeClock, HttpTestClient

    base = EventBase(clock=FakeClock())
    server = HttpServer(base)
    server.set_cb("/hello", hello)
    assert HttpTestClient(server).get("/hello").text() == "Hello!"

Fixtures for pytest are in `evsvc.testing.plugin`, what tests WebSockets in
`evsvc.testing.websocket`, as they want pytest and wsproto.
"""

from ..core import FakeClock
from .dns import DnsTestClient
from .http import HttpTestClient, TestStream
from .leftovers import leftovers
from .rpc import RpcTestClient
from .waiting import (
    DEFAULT_MAX_PASSES,
    DEFAULT_WAIT_S,
    NothingHappened,
    run_for,
    run_until,
)

__all__ = [
    "DEFAULT_MAX_PASSES",
    "DEFAULT_WAIT_S",
    "DnsTestClient",
    "FakeClock",
    "HttpTestClient",
    "NothingHappened",
    "RpcTestClient",
    "TestStream",
    "leftovers",
    "run_for",
    "run_until",
]
