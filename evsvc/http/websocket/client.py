"""The client's side: a WebSocket by its URL, over a connection of its own."""

from __future__ import annotations

import logging
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from wsproto.connection import Connection, ConnectionType
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import RemoteProtocolError as WsRemoteProtocolError

from ...core import AbstractBufferEvent, ArgumentError
from ...core.checks import require_callable, require_handler
from ...core.closing import Closing
from ..client.connection import HttpConnection
from ..client.request import HttpRequest
from ..errors import HttpError, RemoteProtocolError
from ..options import ClientOptions
from ..uri import EVHTTP_URI_HOST_STRIP_BRACKETS, HttpUri
from .deflate import Deflate
from .handshake import (
    KEY_BYTES,
    VERSION,
    accept_token,
    check_subprotocols,
    list_members,
    own_fields,
)
from .session import WebSocketOptions, WsConnection

if TYPE_CHECKING:
    import ssl

    from ...core import EventBase
    from ...core.resolver import Resolver
    from .session import MessageCallback

logger = logging.getLogger("evsvc.http")

_PORTS = {"ws": 80, "wss": 443}

OpenCallback = Callable[["WsConnection | None", "HttpError | None", Any], object]
"""Called as `cb(ws, error, arg)`: with a session, or with the reason why there is none."""


class HandshakeFailed(RemoteProtocolError):
    """The server has not made a WebSocket of it.

    request: with the answer, `response_code`, `input_headers` and `input_buffer`: such as where
    the WebSocket is to be found now, or who may have it.
    """

    __slots__ = ("request",)

    def __init__(self, text: str, request: HttpRequest) -> None:
        super().__init__(text, 502)
        self.request = request


class Opening(Closing):
    """A WebSocket that is being opened, from `connect` to the open callback; `close` gives it up.

    session: what has come of it, or None so far.
    """

    __slots__ = (
        "_arg",
        "_base",
        "_cb",
        "_connection",
        "_extension",
        "_key",
        "_opencb",
        "_options",
        "_request",
        "_subprotocols",
        "session",
    )

    def __init__(
        self,
        connection: HttpConnection,
        cb: MessageCallback,
        opencb: OpenCallback,
        arg: object,
        options: WebSocketOptions,
        subprotocols: Sequence[str],
    ) -> None:
        self._base = connection.base
        self._connection = connection
        self._cb: MessageCallback | None = cb
        self._opencb: OpenCallback | None = opencb
        self._arg: object = arg
        self._options = options
        self._subprotocols = subprotocols
        self._extension = Deflate(options.max_message_bytes, takeover=options.deflate_takeover)
        self._request: HttpRequest | None = None
        self._key = b64encode(secrets.token_bytes(KEY_BYTES)).decode()
        self.session: WsConnection | None = None

    def ask(self, uri: str, headers: Iterable[tuple[str, str]]) -> None:
        """Send the request; `connect` calls this.  Raises ArgumentError for what is no header."""
        request = self._request = HttpRequest(self._on_answer)
        fields = request.output_headers
        for name, value in headers:
            fields.add(name, value)
        own_fields(fields)
        fields.add("Upgrade", "websocket")
        fields.add("Connection", "Upgrade")
        fields.add("Sec-WebSocket-Key", self._key)
        fields.add("Sec-WebSocket-Version", VERSION)
        if self._subprotocols:
            fields.add("Sec-WebSocket-Protocol", ", ".join(self._subprotocols))
        if self._options.deflate:
            fields.add("Sec-WebSocket-Extensions", f"{Deflate.name}; {self._extension.offer()}")
        request.set_upgrade_cb(self._on_upgrade)
        self._connection.make_request(request, "GET", uri)

    def close(self) -> None:
        """Give it up: the open callback is not called.  Safe to repeat; a session stays."""
        self._cb = self._opencb = self._arg = self._request = None
        self._connection.close()

    def _on_answer(self, got: HttpRequest | None, arg: object) -> None:
        """There is an answer, but no upgrade; or none."""
        request = self._request
        assert request is not None
        text = f"no WebSocket: the answer is {request.response_code}"
        self._fail(request.error or HandshakeFailed(text, request))

    def _fail(self, error: HttpError) -> None:
        opencb, arg = self._opencb, self._arg
        self.close()
        if opencb is not None:
            try:
                opencb(None, error, arg)
            except Exception as exc:
                _callback_failed(self._base, exc, self)

    def _on_upgrade(
        self, request: HttpRequest, bev: AbstractBufferEvent, rest: bytes, _: object
    ) -> None:
        fault = self._judge(request)
        if fault is not None:
            bev.close()
            self._fail(HandshakeFailed(f"no WebSocket: {fault}", request))
            return
        if self._cb is None or self._opencb is None:
            bev.close()  # given up
            return
        opencb, arg = self._opencb, self._arg
        session = self.session = WsConnection(
            bev,
            Connection(ConnectionType.CLIENT, [self._extension]),
            self._cb,
            arg,
            self._options,
            rest,
            extension=self._extension,
            subprotocol=request.input_headers.find("sec-websocket-protocol"),
            on_end=_forget,
            on_callback_failed=partial(_callback_failed, self._base),
        )
        self.close()
        try:
            opencb(session, None, arg)
        except Exception as exc:
            session.shutdown(CloseReason.INTERNAL_ERROR)
            _callback_failed(self._base, exc, session)

    def _judge(self, request: HttpRequest) -> str | None:
        """Return what is wrong with a 101, or None (RFC 6455 section 4.1)."""
        headers = request.input_headers
        protocols = headers.get_all("sec-websocket-protocol")
        extensions = list_members(headers, "sec-websocket-extensions")
        if headers.tokens("upgrade") != ["websocket"]:
            return "the upgrade is to something else"
        if "upgrade" not in headers.tokens("connection"):
            return "Connection does not say Upgrade"
        if headers.get_all("sec-websocket-accept") != [accept_token(self._key)]:
            return "Sec-WebSocket-Accept does not answer our key"
        if len(protocols) > 1 or not set(protocols) <= set(self._subprotocols):
            return f"a subprotocol that we have not asked for: {protocols!r}"
        for extension in extensions:
            name = extension.partition(";")[0].strip()
            if not self._options.deflate or name != Deflate.name:
                return f"an extension that we have not asked for: {extension!r}"
            try:
                self._extension.finalize(extension)
            except WsRemoteProtocolError as exc:
                return str(exc)
        return None


class WebSocketAddress(NamedTuple):
    """Where a URL says that a WebSocket is; tls: as for HttpConnection."""

    host: str
    port: int
    target: str
    tls: bool | ssl.SSLContext

    @classmethod
    def parse(cls, url: str, tls: ssl.SSLContext | None) -> WebSocketAddress:
        """Read a URL; raises ArgumentError as `connect` does."""
        uri = HttpUri.parse(url, EVHTTP_URI_HOST_STRIP_BRACKETS)
        scheme = (uri.scheme or "").lower()
        if scheme not in _PORTS or not uri.host or uri.userinfo is not None:
            raise ArgumentError(f"not the URL of a WebSocket: {url!r}")
        if uri.fragment is not None:
            raise ArgumentError(f"the URL of a WebSocket has no fragment: {url!r}")
        if tls is not None and scheme != "wss":
            raise ArgumentError(f"TLS is for wss:// alone: {url!r}")
        port = _PORTS[scheme] if uri.port == -1 else uri.port
        target = (uri.path or "/") + ("" if uri.query is None else f"?{uri.query}")
        return cls(uri.host, port, target, (tls or True) if scheme == "wss" else False)


def connect(
    base: EventBase,
    url: str,
    cb: MessageCallback,
    opencb: OpenCallback,
    arg: object = None,
    options: WebSocketOptions | None = None,
    *,
    resolver: Resolver | None = None,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
    tls: ssl.SSLContext | None = None,
    client_options: ClientOptions | None = None,
) -> Opening:
    """Open a WebSocket (RFC 6455 section 4.1).  libevent has no such client.

    url: `ws://host[:port]/path?query`, or `wss://` for TLS.  opencb: called once, from the loop, as
    `opencb(ws, error, arg)`: with the session, or with None and the HttpError that says why there
    is none: HandshakeFailed where the server has said no.  cb: called as `cb(ws, type, data, arg)`
    for each message, never before `opencb` has returned.

    resolver: looks up a host's name; none is wanted for a numeric address.  headers: sent along,
    such as Origin, Authorization or Cookie.  subprotocols: that we would speak, the best first.
    tls: for `wss`, in place of whom the system trusts.  client_options: time-outs and limits of
    the handshake; all of it, look-up and connect included, has the `open_s` of `options`, unless
    `exchange_s` says otherwise.  Redirects are not followed, and no cookies are kept.

    What a callback raises is logged, given to `base.exception_handler` if there is one, and ends
    the session with 1011.  Raises ArgumentError for what is no such URL, header or subprotocol,
    or a name without resolver; ArgumentTypeError for what cannot be called, or is a coroutine
    function.
    """
    require_handler(cb, instead="evsvc.aio.websocket.connect is for coroutines")
    require_callable(opencb, "the open callback")
    check_subprotocols(subprotocols)
    options = options or WebSocketOptions()
    address = WebSocketAddress.parse(url, tls)
    limits = client_options or ClientOptions()
    if limits.exchange_s is None:
        limits = replace(limits, exchange_s=options.open_s)
    connection = HttpConnection(
        base,
        resolver,
        address.host,
        address.port,
        limits,
        tls=address.tls,
    )
    opening = Opening(connection, cb, opencb, arg, options, tuple(subprotocols))
    try:
        opening.ask(address.target, headers.items() if isinstance(headers, Mapping) else headers)
    except BaseException:
        opening.close()
        raise
    return opening


def _forget(session: WsConnection) -> None:
    """A client has no list of its sessions."""


def _callback_failed(base: EventBase, exc: Exception, about: object) -> None:
    logger.error("a callback raised for %r", about, exc_info=exc)
    handler = base.exception_handler
    if handler is not None:
        handler(exc)
