"""evsvc: libevent's system for Python.

One event base, and on it everything that lets a program be a network service: sockets, timers,
signals, buffered I/O, an HTTP server and client, a DNS resolver and DNS server, typed RPC.

The main names are here; everything public is in `evsvc.core`, `evsvc.http`, `evsvc.dns` and
`evsvc.rpc`.
"""

import sys

from .core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    BEV_EVENT_TIMEOUT,
    BEV_EVENT_WRITING,
    EV_CLOSED,
    EV_ET,
    EV_FINALIZE,
    EV_PERSIST,
    EV_READ,
    EV_SIGNAL,
    EV_TIMEOUT,
    EV_WRITE,
    EVLOOP_NO_EXIT_ON_EMPTY,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    BufferEvent,
    ConnListener,
    Error,
    EvBuffer,
    Event,
    EventBase,
)
from .version import __version__, version_number

try:
    from .dns import DnsServer, Resolver
    from .http import HttpClient, HttpConnection, HttpRequest, HttpServer
    from .rpc import Rpc, RpcPool, RpcServer
except ModuleNotFoundError as exc:
    if (exc.name or "").partition(".")[0] not in ("h11", "dns", "msgpack"):
        raise
    raise ImportError(
        f"evsvc needs h11, dnspython and msgpack, and {sys.executable} lacks one: {exc}. "
        "In a checkout, `make venv` installs them, for .venv/bin/python; "
        "elsewhere, `python -m pip install CHECKOUT` does."
    ) from exc

__all__ = [
    "BEV_EVENT_CONNECTED",
    "BEV_EVENT_EOF",
    "BEV_EVENT_ERROR",
    "BEV_EVENT_READING",
    "BEV_EVENT_TIMEOUT",
    "BEV_EVENT_WRITING",
    "EVLOOP_NONBLOCK",
    "EVLOOP_NO_EXIT_ON_EMPTY",
    "EVLOOP_ONCE",
    "EV_CLOSED",
    "EV_ET",
    "EV_FINALIZE",
    "EV_PERSIST",
    "EV_READ",
    "EV_SIGNAL",
    "EV_TIMEOUT",
    "EV_WRITE",
    "BufferEvent",
    "ConnListener",
    "DnsServer",
    "Error",
    "EvBuffer",
    "Event",
    "EventBase",
    "HttpClient",
    "HttpConnection",
    "HttpRequest",
    "HttpServer",
    "Resolver",
    "Rpc",
    "RpcPool",
    "RpcServer",
    "__version__",
    "version_number",
]
