"""evsvc: libevent's system for Python.

One event base, and on it everything that lets a program be a network service: sockets, timers,
signals, buffered I/O, an HTTP server and client, a DNS resolver and DNS server, typed RPC.

The main names are here; everything public is in `evsvc.core`, `evsvc.http`, `evsvc.dns` and
`evsvc.rpc`.
"""

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
from .dns import DnsServer, Resolver
from .http import HttpConnection, HttpRequest, HttpServer
from .rpc import Rpc, RpcPool, RpcServer
from .version import __version__, version_number

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
