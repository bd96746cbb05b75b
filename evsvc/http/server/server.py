"""HttpServer: listeners, callbacks, limits, and the connections that they bring (struct evhttp)."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import partial
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Protocol

from ...core import (
    LEV_OPT_BIND_IPV4_AND_IPV6,
    LEV_OPT_BIND_IPV6ONLY,
    LEV_OPT_CLOSE_ON_FREE,
    LEV_OPT_REUSEABLE,
    LEV_OPT_REUSEABLE_PORT,
    AbstractBufferEvent,
    ArgumentError,
    ArgumentTypeError,
    ConnListener,
    StateError,
)
from ...core.bufferevent.timeouts import Deadline
from ...core.checks import check_timeout, require_callable
from ...core.closing import Closing
from ..files import DirectoryOptions, FileHandler
from ..options import ServerOptions
from .compression import Compression, CompressionOptions
from .connection import Connection
from .listening.admission import Admission
from .listening.bound_socket import BoundSocket, ListenTerms, listening_socket
from .listening.carriers import BevCallback, CarrierMaker, Tls, plain
from .listening.proxy_intake import ProxyIntake
from .observing.access_log import AccessLog, AccessLogOptions
from .observing.metrics import Holdings, ServerMetrics
from .router import RequestCallback
from .service import ErrorCallback, Service

if TYPE_CHECKING:
    from ...core import EventBase
    from ...core.resolver import SocketAddress
    from ..wire.proxy_protocol import ProxyHeader
    from .event_stream import EventStream
    from .forwarded import TrustedProxies
    from .handle import ServerConnection
    from .observing.observers import Observer, SessionObserver

logger = logging.getLogger("evsvc.http")

BACKLOG = 128

# What a WebSocket is told when its server stops (RFC 6455 section 7.4.1).
GOING_AWAY = 1001


class Session(Protocol):
    """What has taken over a connection, such as a WebSocket."""

    def shutdown(self, code: int, /) -> None:
        """End soon; `forget_session` is called then."""

    def close(self) -> None:
        """End at once."""


class HttpServer(Closing):
    """An HTTP/1.1 server on an event base (evhttp_new).

    options: its limits and time-outs.  A connection keeps the options with which it came.
    """

    __slots__ = (
        "_admission",
        "_arriving",
        "_carriers",
        "_connections",
        "_drained_cb",
        "_is_virtual",
        "_metrics",
        "_refused",
        "_sessions",
        "_sockets",
        "_stop_idle_s",
        "_stop_limit",
        "_streams",
        "_trees",
        "closing",
        "service",
    )

    def __init__(self, base: EventBase, options: ServerOptions | None = None) -> None:
        options = options or ServerOptions()
        self.service = Service(base, options)
        self.closing = self._is_virtual = False
        self._carriers = CarrierMaker()
        self._drained_cb: Callable[[HttpServer], object] | None = None
        self._stop_limit: Deadline | None = None
        self._stop_idle_s = 0.0
        self._metrics: ServerMetrics | None = None
        self._sockets: set[BoundSocket] = set()
        self._connections: set[Connection] = set()
        self._refused: set[Connection] = set()  # told 503, and not gone yet
        self._sessions: dict[Session, tuple[BoundSocket | None, str]] = {}
        self._arriving: dict[ProxyIntake, tuple[BoundSocket, tuple[str, int]]] = {}
        self._admission = Admission()
        self._streams: set[EventStream] = set()
        self._trees: list[FileHandler] = []

    @property
    def base(self) -> EventBase:
        """The event base."""
        return self.service.base

    @property
    def options(self) -> ServerOptions:
        """The limits and time-outs of connections to come."""
        return self.service.options

    def set_cb(
        self,
        path: str,
        cb: RequestCallback,
        arg: object = None,
        *,
        methods: Iterable[str] | None = None,
        streams: bool = False,
    ) -> None:
        """Have `cb(request, arg)` answer requests for exactly `path` (evhttp_set_cb).

        path: percent-decoded, without query.  methods: those that it takes, whatever the server's
        allowed methods are, HEAD with GET; another is answered 405 with Allow.

        streams: the callback gets the request when its head is judged, and the body by
        `request.set_body_cbs`.  It may answer before the body: what is left of that is thrown
        away, up to `max_skip_bytes`, or else the connection is closed.

        Raises ArgumentError when the path has a callback already, ArgumentTypeError for what cannot
        be called, or is a coroutine function: see evsvc.aio.handler.
        """
        self.service.router.add(path, cb, arg, methods, streams)

    def set_prefix_cb(
        self,
        prefix: str,
        cb: RequestCallback,
        arg: object = None,
        *,
        methods: Iterable[str] | None = None,
        streams: bool = False,
    ) -> None:
        """Do as `set_cb` for all paths below `prefix`, which ends with "/".

        An exact path wins, then the longest prefix.  Raises as `set_cb`.
        """
        self.service.router.add_prefix(prefix, cb, arg, methods, streams)

    def del_prefix_cb(self, prefix: str) -> None:
        """Take a prefix's callback back.  Raises ArgumentError when it has none."""
        self.service.router.remove_prefix(prefix)

    def del_cb(self, path: str) -> None:
        """Take a path's callback back.  Raises ArgumentError when it has none (evhttp_del_cb)."""
        self.service.router.remove(path)

    def serve_directory(
        self,
        prefix: str,
        root: str | PathLike[str],
        options: DirectoryOptions | None = None,
    ) -> FileHandler:
        """Answer GET and HEAD for all paths below `prefix` with the files below `root`.

        With types, ETag and Last-Modified, conditional requests and ranges; no path and no
        symbolic link leads out of `root`.  The handler that is returned may be closed; `close` of
        the server does so.  Raises OSError when `root` is no directory, and else as `set_cb`.
        """
        handler = FileHandler(root, prefix, options)
        try:
            self.set_prefix_cb(prefix, handler)
        except BaseException:
            handler.close()
            raise
        self._trees.append(handler)
        return handler

    def set_gencb(
        self, cb: RequestCallback | None, arg: object = None, *, streams: bool = False
    ) -> None:
        """Have `cb(request, arg)` answer all other requests; None: they get 404.

        streams: as for `set_cb`.  Source: evhttp_set_gencb.
        """
        self.service.router.set_general(cb, arg, streams)

    def set_newreqcb(self, cb: Callable[[Any, Any], object] | None, arg: object = None) -> None:
        """Call `cb(request, arg)` for each request when its head is judged, before its body.

        When it returns -1, or raises, the connection is closed without an answer.  libevent calls
        it before the head, when there is nothing to see.  Raises ArgumentTypeError for what cannot
        be called.  Source: evhttp_set_newreqcb.
        """
        if cb is not None:
            require_callable(cb)
        self.service.newreq_cb = None if cb is None else (cb, arg)

    def set_errorcb(self, cb: ErrorCallback | None, arg: object = None) -> None:
        """Have `cb(request, page, code, reason, arg)` write the pages of errors.

        page: an empty EvBuffer to write to.  When it returns -1, or raises, the server's own page
        is sent; bytes that cannot be read as a request get that, too.  Raises ArgumentTypeError
        for what cannot be called.  Source: evhttp_set_errorcb.
        """
        if cb is not None:
            require_callable(cb)
        self.service.error_cb = None if cb is None else (cb, arg)

    def add_observer(self, observer: Observer) -> None:
        """Call `observer(exchange)` with a FinishedExchange whenever an exchange is over.

        Also for what was refused, and never was a request.  All of this server's connections count,
        those of its virtual hosts among them.  It runs in the loop, and should be quick.  Raises
        ArgumentTypeError for what cannot be called.
        """
        require_callable(observer)
        self.service.observers.append(observer)
        self._watch_all()

    def remove_observer(self, observer: Observer) -> None:
        """Call an observer no longer.  Raises ArgumentError for one that is none."""
        if observer not in self.service.observers:
            raise ArgumentError(f"not an observer of this server: {observer!r}")
        self.service.observers.remove(observer)

    def add_session_observer(self, observer: SessionObserver) -> None:
        """Call `observer(exchange)` with a SessionExchange whenever one is over that a session has
        carried: a call of an RpcServer over a WebSocket that calls share.

        Only those count that begin from now on.  Raises as `add_observer`.
        """
        require_callable(observer)
        self.service.session_observers.append(observer)

    def remove_session_observer(self, observer: SessionObserver) -> None:
        """Call an observer no longer.  Raises ArgumentError for one that is none."""
        if observer not in self.service.session_observers:
            raise ArgumentError(f"not a session observer of this server: {observer!r}")
        self.service.session_observers.remove(observer)

    def set_compression(self, options: CompressionOptions | None, prefix: str = "/") -> None:
        """Have replies compressed where the client takes it, for a path or all below a prefix.

        prefix: below it where it ends in "/", else exactly this path; the longest that fits
        decides.  options: None is no compression there.  Raises ArgumentError for a prefix that
        does not begin with "/".
        """
        if self.service.compression is None:
            self.service.compression = Compression()
        self.service.compression.set(prefix, options)
        for connection in (*self._connections, *self._refused):
            connection.compression = self.service.compression

    def set_trusted_proxies(self, proxies: TrustedProxies | None) -> None:
        """Have `request.client` and the access log go by what these proxies say; None: by none."""
        self.service.proxies = proxies

    @property
    def metrics(self) -> ServerMetrics:
        """The counters, which begin when they are first looked at."""
        if self._metrics is None:
            read = partial(_holdings, self._connections, self._refused, self._sessions)
            self._metrics = ServerMetrics(read)
            self.add_observer(self._metrics.count)
        return self._metrics

    def set_access_log(self, options: AccessLogOptions | None) -> None:
        """Write the access log otherwise; None: not at all.

        It goes to the logger `evsvc.http.access` at INFO, while that takes it; without this call
        in the plain format.
        """
        self.service.access_log = None if options is None else AccessLog(options)
        self._watch_all()

    def _watch_all(self) -> None:
        for connection in (*self._connections, *self._refused):
            connection.watch()

    def add_virtual_host(self, pattern: str, vhost: HttpServer) -> None:
        """Have the callbacks of `vhost` answer requests for hosts that fit `pattern`.

        `*` in it is any run of characters; case does not matter.  Its virtual hosts come along;
        limits, time-outs and allowed methods stay this server's.  Raises ArgumentError for a bad
        pattern, StateError when `vhost` listens, or is a virtual host already, or this server.
        Source: evhttp_add_virtual_host.
        """
        if vhost is self or vhost._sockets or vhost._is_virtual:
            raise StateError(f"not to be a virtual host of this server: {vhost!r}")
        self.service.add_host(pattern, vhost.service.hosts)
        vhost._is_virtual = True

    def remove_virtual_host(self, vhost: HttpServer) -> None:
        """Take a virtual host back.  Raises ArgumentError when it is none of this server's.

        Source: evhttp_remove_virtual_host.
        """
        self.service.remove_host(vhost.service.hosts)
        vhost._is_virtual = False

    def add_server_alias(self, alias: str) -> None:
        """Have this server, or virtual host, answer for exactly this host, too.

        Raises ArgumentError when it does already.  Source: evhttp_add_server_alias.
        """
        self.service.hosts.add_alias(alias)

    def remove_server_alias(self, alias: str) -> None:
        """Take an alias back.  Raises ArgumentError for another (evhttp_remove_server_alias)."""
        self.service.hosts.remove_alias(alias)

    def set_max_headers_size(self, size: int) -> None:
        """Limit a request's head to `size` bytes (evhttp_set_max_headers_size)."""
        limits = replace(self.options.limits, max_headers_bytes=size)
        self.service.set_options(replace(self.options, limits=limits))

    def set_max_body_size(self, size: int | None) -> None:
        """Limit a request's body; None is unlimited (evhttp_set_max_body_size)."""
        limits = replace(self.options.limits, max_body_bytes=size)
        self.service.set_options(replace(self.options, limits=limits))

    def set_max_connections(self, count: int) -> None:
        """Limit the connections at once (evhttp_set_max_connections)."""
        self.service.set_options(replace(self.options, max_connections=count))

    def set_timeout(self, seconds: float) -> None:
        """Limit every wait for a client: head, body, idle, write (evhttp_set_timeout)."""
        self.service.set_options(
            replace(self.options, head_s=seconds, body_s=seconds, idle_s=seconds, write_s=seconds)
        )

    def set_default_content_type(self, content_type: str | None) -> None:
        """Set the Content-Type of replies that name none (evhttp_set_default_content_type)."""
        self.service.set_options(replace(self.options, default_content_type=content_type))

    def set_allowed_methods(self, methods: int | Collection[str]) -> None:
        """Answer 501 to all but these methods, and what a path takes by name.

        methods: EVHTTP_REQ_* bits, or names, which may be extensions of your own.  Raises
        ArgumentError for none, or what is no name.
        Source: evhttp_set_allowed_methods, evhttp_set_ext_method_cmp.
        """
        self.service.set_options(replace(self.options, allowed_methods=methods))

    def set_tls(self, tls: Tls | None) -> None:
        """Have connections to come speak TLS, where their socket does not say otherwise.

        tls: as for `bind_socket`; None is plain HTTP.  Raises as there.
        """
        self._carriers.set_tls(tls)

    def set_bevcb(self, cb: BevCallback | None, arg: object = None) -> None:
        """Have `cb(base, sock, arg)` make the bufferevent of each connection that is accepted.

        Such as a TlsBufferEvent, or a filter; it is to close the socket with itself.  A
        BufferEvent or TlsBufferEvent without a descriptor gets the socket.  When the callback
        returns None the usual one is made; when it raises, the connection is closed.  What a bound
        socket says of TLS, or by its own callback, comes first.  Raises ArgumentTypeError for what
        cannot be called.  Source: evhttp_set_bevcb, whose callback gets no socket.
        """
        self._carriers.set_bevcb(cb, arg)

    def bind_socket(
        self,
        address: str,
        port: int,
        *,
        tls: Tls | bool | None = None,
        proxy_protocol: bool | Iterable[str] = False,
        max_connections: int | None = None,
        ipv6only: bool | None = None,
        reuse_port: bool = False,
    ) -> BoundSocket:
        """Listen on a numeric address; port 0 takes a free one (evhttp_bind_socket_with_handle).

        tls: what is spoken here: an `ssl.SSLContext` for servers (`evsvc.core.tls.server_context`
        makes a sane one), or TlsContexts, for several names.  False is plain HTTP, None what the
        server does (`set_tls`).  A handshake that fails, or takes longer than `handshake_s`, is
        logged, and ends its connection.

        proxy_protocol: whether each connection begins with a header of the PROXY protocol, before
        TLS: True, or from which addresses and networks ("10.0.0.0/8"; "unix" for Unix sockets);
        others speak for themselves.  The client is then whom it tells.  A connection whose header
        is bad, or does not come in `proxy_header_s`, is logged and closed.  Never let it be
        believed from whom is no proxy of yours: who sends it says who they are.

        max_connections: at once by this socket, beside the server's own limits.  ipv6only: whether
        an IPv6 socket takes IPv4 clients, too (as "::ffff:192.0.2.1"); None leaves it to the
        system.  reuse_port: let other processes that say so, too, listen on the same port.

        Can be called for several sockets.  Raises SocketError when the port is busy,
        ArgumentError for an address that is none, a context for clients, no network, or a limit
        that is not positive, ArgumentTypeError for what is no context.
        """
        terms = ListenTerms(tls, proxy_protocol, max_connections)
        flags = LEV_OPT_REUSEABLE
        if reuse_port:
            flags |= LEV_OPT_REUSEABLE_PORT
        if ipv6only is not None:
            flags |= LEV_OPT_BIND_IPV6ONLY if ipv6only else LEV_OPT_BIND_IPV4_AND_IPV6
        where = (address, port)
        listener = ConnListener.new_bind(self.base, None, None, flags, BACKLOG, where)
        return self._adopt(listener, terms)

    def bind_unix(
        self,
        path: str | PathLike[str],
        *,
        mode: int | None = None,
        tls: Tls | bool | None = None,
        proxy_protocol: bool | Iterable[str] = False,
        max_connections: int | None = None,
    ) -> BoundSocket:
        """Listen on the path of a Unix socket.

        The file of one that nobody has bound any more is replaced; ours is removed on close.  mode:
        its permissions, such as 0o660; None leaves them to the umask.  The rest is as for
        `bind_socket`; clients have the address ("", 0).

        Raises SocketError when the path is in use or not to be had, ArgumentError for a path that
        is too long, or permissions that are none, and else as `bind_socket`.
        """
        terms = ListenTerms(tls, proxy_protocol, max_connections)
        name = fspath(path)
        if "/" not in name and not name.startswith("\0"):
            name = f"./{name}"  # as text without a slash it would be a host
        listener = ConnListener.new_bind(self.base, None, None, 0, BACKLOG, name, mode=mode)
        return self._adopt(listener, terms)

    def accept_socket(
        self,
        sock: socket.socket | int,
        *,
        tls: Tls | bool | None = None,
        proxy_protocol: bool | Iterable[str] = False,
        max_connections: int | None = None,
    ) -> BoundSocket:
        """Serve a socket that listens already, and own it (evhttp_accept_socket_with_handle).

        sock: the socket, or its descriptor, such as one that a supervisor has passed on.  The rest
        is as for `bind_socket`.  Raises ArgumentError for one that does not listen, which stays the
        program's, SocketError for a descriptor that is not open, ArgumentTypeError for what is
        neither.
        """
        terms = ListenTerms(tls, proxy_protocol, max_connections)
        listening = listening_socket(sock)
        flags = LEV_OPT_CLOSE_ON_FREE
        return self._adopt(ConnListener(self.base, None, None, flags, 0, listening), terms)

    def bind_listener(
        self,
        listener: ConnListener,
        *,
        tls: Tls | bool | None = None,
        proxy_protocol: bool | Iterable[str] = False,
        max_connections: int | None = None,
    ) -> BoundSocket:
        """Serve a listener, whose callback is replaced, and own it (evhttp_bind_listener).

        The rest is as for `bind_socket`.
        """
        return self._adopt(listener, ListenTerms(tls, proxy_protocol, max_connections))

    def serve(
        self, bufferevent: AbstractBufferEvent, peer: tuple[str, int] = ("", 0)
    ) -> ServerConnection | None:
        """Serve one client over a bufferevent that is there already, and own it.

        Any kind will do, such as half of a PairBufferEvent, which needs no socket.  What it has
        received is read first.  peer: the client's address and port, as handlers and logs are to
        see them.  It counts among the connections; returns None when there are too many, and it
        is turned away.

        Raises StateError when the server or the bufferevent is closed, ArgumentError for one of
        another base, ArgumentTypeError for what is none.
        """
        if not isinstance(bufferevent, AbstractBufferEvent):
            raise ArgumentTypeError(f"a bufferevent is wanted, not {bufferevent!r}")
        if bufferevent.base is not self.base:
            raise ArgumentError("the bufferevent is of another event base")
        if self.closing or bufferevent.closed:
            raise StateError("the server or the bufferevent is closed")
        if self._metrics is not None:
            self._metrics.connections_total += 1
        connection = self._welcome(bufferevent, peer, None)
        return None if connection is None else connection.handle()

    @property
    def bound_sockets(self) -> list[BoundSocket]:
        """The sockets that it listens on (evhttp_foreach_bound_socket)."""
        return list(self._sockets)

    @property
    def connection_count(self) -> int:
        """How many clients are connected, those with a WebSocket among them, and those of whom
        only the PROXY protocol's header is awaited.

        Source: evhttp_get_connection_count.
        """
        return self._admission.count

    def shutdown(
        self,
        cb: Callable[[HttpServer], object] | None = None,
        *,
        deadline_s: float | None = None,
        idle_s: float = 0.0,
    ) -> None:
        """Stop gracefully: listen no more, answer what has arrived, close idle connections.

        Who waits in the kernel's queue of a listening socket is still accepted.  WebSockets
        and event streams are told that the server goes away.  Time-outs go on counting, so a
        silent client ends, too.  `cb(server)` is called when the last connection has gone;
        before the return when there is none.

        deadline_s: after so long what is left is closed, whatever it is at.  idle_s: so long may
        who was told that the connection stays send one more request, which is answered with
        "Connection: close"; a client whose request is under way just now then sees no failure.
        Called again, it sets another callback, and other times.  Raises ArgumentError for negative
        ones, ArgumentTypeError for no number.
        """
        if deadline_s is not None:
            check_timeout(deadline_s)
        check_timeout(idle_s)
        if self._stop_limit is not None:
            self._stop_limit.close()
            self._stop_limit = None
        for bound in self.bound_sockets:
            bound.listener.accept_waiting()
            bound.close()
        self.closing = True
        self._drained_cb = cb
        self._stop_idle_s = idle_s
        for connection in list(self._connections):
            connection.finish(idle_s)
        for told in (*self._sessions, *self._streams):
            told.shutdown(GOING_AWAY)
        if deadline_s is not None and self._is_busy:
            self._stop_limit = Deadline(self.base, self._on_stop_limit)
            self._stop_limit.start(deadline_s)
        self._check_drained()

    def _on_stop_limit(self) -> None:
        count = self._admission.count + len(self._refused)
        logger.warning("the stop took too long: %d connections are closed", count)
        self._close_connections()

    def close(self) -> None:
        """Stop at once: listeners and connections are closed (evhttp_free).  Safe to repeat."""
        self.closing = True
        for bound in self.bound_sockets:
            bound.close()
        self._close_connections()
        for tree in self._trees:
            tree.close()

    def _close_connections(self) -> None:
        for connection in [*self._connections, *self._refused]:
            connection.close()
        for session in list(self._sessions):
            session.close()
        for intake, (bound, _) in list(self._arriving.items()):
            del self._arriving[intake]
            self._admission.leave(bound, "")
            intake.close()
        self._check_drained()

    def forget(self, connection: Connection) -> None:
        """Know that a connection has ended; connections call this."""
        if connection in self._connections:
            self._connections.remove(connection)
            self._admission.leave(connection.source, connection.peer[0])
        else:
            self._refused.discard(connection)
        if self.closing:
            self._check_drained()

    def adopt_session(self, session: Session, connection: ServerConnection | None = None) -> None:
        """Count a session that has taken over a connection, and tell it when the server stops.

        connection: that one, so that it goes on counting for its peer and its listening socket.
        """
        place: tuple[BoundSocket | None, str] = (None, "")
        if connection is not None:
            place = (connection.bound_socket, connection.peer[0])
        self._sessions[session] = place
        self._admission.enter(*place)

    def forget_session(self, session: Session) -> None:
        """Know that a session has ended."""
        place = self._sessions.pop(session, None)
        if place is not None:
            self._admission.leave(*place)
        if self.closing:
            self._check_drained()

    def adopt_stream(self, stream: EventStream) -> None:
        """Tell a stream of events when the server stops; its connection is counted already."""
        self._streams.add(stream)
        if self.closing:
            stream.shutdown(GOING_AWAY)

    def forget_stream(self, stream: EventStream) -> None:
        """Know that a stream has ended."""
        self._streams.discard(stream)

    def _adopt(self, listener: ConnListener, terms: ListenTerms) -> BoundSocket:
        if self.closing:
            listener.close()
            raise StateError("the server is closed")
        bound = BoundSocket(listener, terms, self._sockets.discard)
        self._sockets.add(bound)
        listener.set_cb(self._on_accept, bound)
        return bound

    def _on_accept(
        self, listener: ConnListener, sock: socket.socket, address: SocketAddress, arg: BoundSocket
    ) -> None:
        peer = (address[0], address[1]) if isinstance(address, tuple) else ("", 0)
        if self._metrics is not None:
            self._metrics.connections_total += 1
        if not arg.has_proxy_header(peer[0]):
            self._set_up(sock, peer, arg, None)
        elif self._admission.is_full(self.options, arg, ""):
            self._turn_down(sock)
        else:
            self._admission.enter(arg, "")
            intake = ProxyIntake(self.base, sock, self.options.proxy_header_s, self._on_header)
            self._arriving[intake] = (arg, peer)

    def _on_header(
        self, intake: ProxyIntake, sock: socket.socket, header: ProxyHeader | None, why: str
    ) -> None:
        """The header of the PROXY protocol has come, or will not."""
        bound, peer = self._arriving.pop(intake)
        self._admission.leave(bound, "")
        if header is None:
            logger.info("%s port %d: PROXY protocol: %s", *peer, why)
            sock.close()
        else:
            self._set_up(sock, header.source or peer, bound, header)
        if self.closing:
            self._check_drained()

    def _set_up(
        self,
        sock: socket.socket,
        peer: tuple[str, int],
        bound: BoundSocket,
        header: ProxyHeader | None,
    ) -> None:
        """Have a carrier made for a client, and serve it."""
        is_full = self._admission.is_full(self.options, bound, peer[0])
        if is_full and len(self._refused) >= self.options.max_refused:
            self._turn_down(sock)
            return
        base, handshake_s = self.base, self.options.handshake_s
        try:
            carrier = (
                bound.carriers.make(base, sock, handshake_s)
                or self._carriers.make(base, sock, handshake_s)
                or plain(base, sock)
            )
        except Exception as exc:  # of the program's callback
            sock.close()
            self.service.callback_failed(exc, bound)
            return
        connection = self._welcome(carrier, peer, bound)
        if header is not None and connection is not None:
            connection.extras().proxy_header = header

    def _turn_down(self, sock: socket.socket) -> None:
        """Close a connection without a word."""
        if self._metrics is not None:
            self._metrics.connections_refused += 1
        sock.close()

    def _welcome(
        self, carrier: AbstractBufferEvent, peer: tuple[str, int], bound: BoundSocket | None
    ) -> Connection | None:
        """Serve a client where there is room; else tell it, or close it."""
        if not self._admission.is_full(self.options, bound, peer[0]):
            connection = Connection(self, carrier, peer, bound)
            self._connections.add(connection)
            self._admission.enter(bound, peer[0])
            if self.closing:
                connection.finish(self._stop_idle_s)
            return connection
        if self._metrics is not None:
            self._metrics.connections_refused += 1
        if len(self._refused) < self.options.max_refused:
            # Apart, so that those who do not leave take no place of one who could be served.
            refused = Connection(self, carrier, peer, bound)
            self._refused.add(refused)
            refused.turn_away()
        else:
            carrier.close()
        return None

    @property
    def _is_busy(self) -> bool:
        return bool(self._connections or self._refused or self._sessions or self._arriving)

    def _check_drained(self) -> None:
        if self._is_busy:
            return
        if self._stop_limit is not None:
            self._stop_limit.close()
            self._stop_limit = None
        if self._drained_cb is not None:
            cb, self._drained_cb = self._drained_cb, None
            cb(self)


def _holdings(
    connections: set[Connection], refused: set[Connection], sessions: Collection[Session]
) -> Holdings:
    held = [connection.holds for connection in (*connections, *refused)]
    return Holdings(
        len(held) + len(sessions),
        sum(in_hand for in_hand, _, _ in held),
        sum(received for _, received, _ in held),
        sum(unsent for _, _, unsent in held),
    )
