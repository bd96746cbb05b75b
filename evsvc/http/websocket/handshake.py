"""The opening handshake (RFC 6455 section 4): what both sides ask, answer and judge.

A server's request becomes a session here, or is refused; `client` has the other side.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsproto.connection import Connection, ConnectionType

from ...core import ArgumentError
from ...core.checks import require_handler
from ..wire.grammar import split_authority
from ..wire.headers import Headers
from .deflate import Deflate
from .session import WebSocketOptions, WsConnection

if TYPE_CHECKING:
    from ..server.request import ServerRequest
    from .session import MessageCallback

logger = logging.getLogger("evsvc.http")

VERSION = "13"
KEY_BYTES = 16

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DEFAULT_PORTS = {"http": "80", "https": "443"}

# What the handshake says itself; the program's own headers go along with it.
_OWN_FIELDS = frozenset(("connection", "upgrade", "content-length", "transfer-encoding"))


def accept(
    request: ServerRequest,
    cb: MessageCallback,
    arg: object = None,
    options: WebSocketOptions | None = None,
    *,
    subprotocols: Sequence[str] = (),
    origins: Sequence[str] | None = None,
) -> WsConnection | None:
    """Make a WebSocket session of a request; None when it was refused, or the client has gone.

    cb: called as `cb(ws, type, data, arg)` for each message, from the loop; messages can be sent
    at once.  subprotocols: those that the server speaks, the best first; the first that the client
    asks for is taken, and without a common one the session has none.  `request.output_headers` go
    along with the 101.  origins: whose pages may connect beside the server's own, such as
    ("https://example.org",), see `is_from`; pages of others are answered 403.  None lets all in.
    The server's `shutdown` tells its sessions that it is going away (1001).

    What is no handshake is answered 400, or 426 for another version than 13; one that comes while
    the server stops, 503.  Raises ArgumentError
    for what is no subprotocol, or a header that is the handshake's own; ArgumentTypeError for what
    cannot be called, or is a coroutine function.  Source: evws_new_session, RFC 6455 section 4.2.
    """
    options = options or WebSocketOptions()
    require_handler(cb, instead="evsvc.aio.websocket.accept is for coroutines")
    check_subprotocols(subprotocols)
    connection = request.connection
    if connection is None:
        return None  # the client has gone
    key = _judge(request)
    if key is None:
        return None
    if origins is not None and not is_from(request, origins):
        logger.info("%s: a WebSocket of another origin", request.remote_host)
        request.send_error(403)
        return None
    server = connection.server
    if server.closing:
        request.send_error(503)
        return None
    asked = list_members(request.input_headers, "sec-websocket-protocol")
    subprotocol = next((name for name in subprotocols if name in asked), None)
    extension, agreed = _agree(request, options)
    fields = Headers(
        (
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", accept_token(key)),
        )
    )
    if subprotocol is not None:
        fields.add("Sec-WebSocket-Protocol", subprotocol)
    if agreed is not None:
        fields.add("Sec-WebSocket-Extensions", agreed)
    for name, value in own_fields(request.output_headers):
        fields.add(name, value)
    head = b"HTTP/1.1 101 Switching Protocols\r\n" + fields.to_block() + b"\r\n"
    bufferevent, rest = request.take_over(head)
    session = WsConnection(
        bufferevent,
        Connection(ConnectionType.SERVER, [extension]),
        cb,
        arg,
        options,
        rest,
        extension=extension,
        subprotocol=subprotocol,
        on_end=server.forget_session,
        on_callback_failed=server.service.callback_failed,
    )
    server.adopt_session(session, connection)
    return session


def is_from(request: ServerRequest, origins: Sequence[str] = ()) -> bool:
    """Whether a page of this server, or of one of `origins`, has asked for the WebSocket.

    A browser says in Origin whose page asks, and lets the page have the answer of any server that
    does not look (RFC 6455 section 10.2).  What is no browser need not say it, and may.  The own
    origin is that whose host and port the client has addressed, by `request.client`: a proxy in
    front has to keep the Host, or to be trusted with what it says of it.
    """
    named = request.input_headers.get_all("origin")
    if not named:
        return True
    origin = named[0].lower()
    if len(named) > 1:
        return False
    if origin in (each.lower().rstrip("/") for each in origins):
        return True
    scheme, mark, authority = origin.partition("://")
    host = request.client.host
    if not mark or scheme not in _DEFAULT_PORTS or host is None:
        return False
    there, here = split_authority(authority), split_authority(host.lower())
    if there is None or here is None:
        return False
    port = _DEFAULT_PORTS[scheme]
    return (there[0], there[1] or port) == (here[0], here[1] or port)


def accept_token(key: str) -> str:
    """Return the Sec-WebSocket-Accept that answers a Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()


def list_members(headers: Headers, name: str) -> list[str]:
    """Return the members of a list over all lines of that name, as they are spelled."""
    members = (each.strip(" \t") for line in headers.get_all(name) for each in line.split(","))
    return [member for member in members if member]


def check_subprotocols(names: Sequence[str]) -> None:
    """Raise ArgumentError for what is no list of tokens, each once."""
    if isinstance(names, str):
        raise ArgumentError(f"subprotocols are a list of names: {names!r}")
    for name in names:
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise ArgumentError(f"not the name of a subprotocol: {name!r}")
    if len(set(names)) < len(names):
        raise ArgumentError(f"a subprotocol is named once: {names!r}")


def own_fields(headers: Headers) -> Headers:
    """Return the program's fields; raises ArgumentError for one that the handshake says itself."""
    for name, value in headers:
        if name.lower() in _OWN_FIELDS or name.lower().startswith("sec-websocket-"):
            raise ArgumentError(f"the handshake has its own {name}: {value!r}")
    return headers


def _judge(request: ServerRequest) -> str | None:
    """Return the key of a handshake, or answer what is none."""
    headers = request.input_headers
    versions = headers.get_all("sec-websocket-version")
    keys = headers.get_all("sec-websocket-key")
    if request.method != "GET" or not request.minor:
        fault = "a handshake is a GET of HTTP/1.1"
    elif "websocket" not in headers.tokens("upgrade"):
        fault = "no Upgrade to websocket"
    elif "upgrade" not in headers.tokens("connection"):
        fault = "no Connection: Upgrade"
    elif not versions:
        fault = "no Sec-WebSocket-Version"
    elif versions != [VERSION]:
        request.send_error(426, None, ("Sec-WebSocket-Version", VERSION), ("Upgrade", "websocket"))
        return None
    elif len(keys) != 1 or not _is_key(keys[0]):
        fault = "not one Sec-WebSocket-Key of 16 bytes"
    else:
        return keys[0]
    logger.info("%s: no WebSocket handshake: %s", request.remote_host, fault)
    request.send_error(400)
    return None


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text.encode("latin-1"), validate=True)) == KEY_BYTES
    except binascii.Error:
        return False


def _agree(request: ServerRequest, options: WebSocketOptions) -> tuple[Deflate, str | None]:
    """Return the extension, and what is answered when the first offer of it that fits is taken."""
    extension = Deflate(options.max_message_bytes, takeover=options.deflate_takeover)
    if options.deflate:
        for offer in list_members(request.input_headers, "sec-websocket-extensions"):
            if offer.partition(";")[0].strip() == Deflate.name:
                agreed = extension.accept(offer)
                if agreed is not None:
                    return extension, "; ".join(each for each in (Deflate.name, agreed) if each)
    return extension, None
