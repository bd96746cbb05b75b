"""asyncio and evsvc in one thread: a loop that waits in an event base, a base that is driven by a
loop, coroutines as handlers of servers, and awaitable look-ups, requests, calls and streams.

`evsvc.aio.websocket` has WebSockets; it wants the extra `evsvc[ws]`, and is imported by name.
"""

from .attach import Attachment, attach
from .handlers import Handler, NoAnswer, handler, shutdown
from .http import (
    OpenResponse,
    RequestBody,
    body_pieces,
    fetch,
    open_response,
    send_piece,
)
from .inbox import MAX_WAITING
from .loop import EventLoop, run
from .resolving import LookupFailed, getaddrinfo, query
from .rpc import ClientMessages, ServerMessages, call, messages, open_stream

__all__ = [
    "MAX_WAITING",
    "Attachment",
    "ClientMessages",
    "EventLoop",
    "Handler",
    "LookupFailed",
    "NoAnswer",
    "OpenResponse",
    "RequestBody",
    "ServerMessages",
    "attach",
    "body_pieces",
    "call",
    "fetch",
    "getaddrinfo",
    "handler",
    "messages",
    "open_response",
    "open_stream",
    "query",
    "run",
    "send_piece",
    "shutdown",
]
