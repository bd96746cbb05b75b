"""DnsServer: answers queries over UDP and TCP through a callback (struct evdns_server_port)."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import dns.rdatatype
from dns.rcode import Rcode

from ...core import (
    LEV_OPT_CLOSE_ON_FREE,
    ArgumentError,
    ConnListener,
)
from ...core.bufferevent.timeouts import Deadline
from ...core.checks import check_timeout, require_handler
from ...core.closing import Closing
from ...core.resolver import SocketAddress
from ...core.util import endpoint_of
from ..constants import EVDNS_CLASS_INET
from ..errors import DNS_ERR_REFUSED, DnsArgumentError, DnsStateError
from ..options import MAX_MESSAGE_BYTES, DnsServerOptions
from ..wire.edns import (
    COOKIE,
    KEEPALIVE,
    PADDING,
    EdnsOption,
    add_options,
    is_cookie,
    option_of,
    split_options,
)
from ..wire.fast import PlainQuery, read_plain
from ..wire.framing import HEADER_BYTES
from ..wire.queries import build_refusal, read_query
from ..wire.replies import QR, TC
from .binding import bind_socket
from .cookies import CookieMaker
from .counters import DnsServerCounters
from .finished import FinishedReplies, ReplyGroup
from .ports import TcpServerPort, UdpServerPort
from .query_log import LoggedPath
from .rate_limit import RateLimiter, Verdict
from .request import NO_OPTIONS, OPEN, DnsServerRequest, ServerOptions
from .wrapped_path import HeldPath

if TYPE_CHECKING:
    import ssl

    from dns.message import Message

    from ...core import EventBase
    from .ports import QueryHandler
    from .request import ReplyPath

log = logging.getLogger("evsvc.dns")

# Types that no record of an answer can have (RFC 6895 3.1), and zone transfers.
_NO_DATA = frozenset({0, dns.rdatatype.OPT, dns.rdatatype.TKEY, dns.rdatatype.TSIG})
_FIRST_UNUSUAL = int(dns.rdatatype.OPT)
_TRANSFERS = frozenset({dns.rdatatype.IXFR, dns.rdatatype.AXFR})

_KEEPALIVE_UNITS = 10  # a second in tenths (RFC 7828 section 3.1)
_ENCRYPTED = ("tls", "https")

ServerCallback = Callable[[DnsServerRequest, Any], object]
"""Called as `cb(request, arg)` for each query; answers with `request.respond`, now or later."""


class DnsServer(Closing):
    """Calls `cb(request, arg)` for each query that reaches one of its ports.

    Give it ports with `bind_udp` and `bind_tcp`, or sockets of your own.  Malformed queries are
    answered FORMERR, opcodes other than QUERY NOTIMP, other classes than IN and types that are no
    data REFUSED (see `DnsServerOptions`), and never reach the callback.  When the callback raises,
    the client gets SERVFAIL, the exception is logged to `evsvc.dns` and told to the base's
    `exception_handler`, and the loop goes on.

    Raises DnsArgumentError for what cannot be called, ArgumentTypeError for a coroutine function:
    see evsvc.aio.handler.
    """

    __slots__ = (
        "_arg",
        "_asked",
        "_base",
        "_cb",
        "_closed",
        "_cookies",
        "_drained_cb",
        "_failed",
        "_finished",
        "_held",
        "_ignored",
        "_is_stopping",
        "_limited",
        "_limiter",
        "_options",
        "_ports",
        "_refused",
        "_slipped",
        "_stop_limit",
    )

    def __init__(
        self,
        base: EventBase,
        cb: ServerCallback,
        arg: object = None,
        *,
        options: DnsServerOptions | None = None,
    ) -> None:
        if not callable(cb):
            raise DnsArgumentError(f"the callback cannot be called: {cb!r}")
        require_handler(cb)
        self._base = base
        self._cb = cb
        self._arg: Any = arg
        self._options = options or DnsServerOptions()
        self._ports: set[UdpServerPort | TcpServerPort] = set()
        self._closed = self._is_stopping = False
        self._held = 0  # datagrams that the program has not answered yet
        self._drained_cb: Callable[[DnsServer], object] | None = None
        self._stop_limit = Deadline(base, self._on_stop_limit)
        self._finished = FinishedReplies(self._options.finished_replies)
        self._cookies = CookieMaker() if self._options.cookies else None
        limit = self._options.rate_limit
        self._limiter = None if limit is None else RateLimiter(limit)
        self._asked = self._failed = self._refused = self._ignored = 0
        self._limited = self._slipped = 0

    @property
    def ports(self) -> list[UdpServerPort | TcpServerPort]:
        """The open ports, in no particular order."""
        return list(self._ports)

    @property
    def counters(self) -> DnsServerCounters:
        """How many queries there have been, by what became of them."""
        return DnsServerCounters(
            self._asked,
            self._failed,
            self._finished.hits,
            self._refused,
            self._ignored,
            self._limited,
            self._slipped,
        )

    def bind_udp(self, address: str, port: int) -> UdpServerPort:
        """Serve a UDP port of a numeric address; port 0 gets a free one.

        Raises SocketError when it is busy or not ours, DnsArgumentError for what is no address.
        """
        self._require_open()
        return self.add_server_port(self._bind(socket.SOCK_DGRAM, address, port))

    def bind_tcp(
        self, address: str, port: int, *, tls: ssl.SSLContext | None = None
    ) -> TcpServerPort:
        """Serve a TCP port of a numeric address; port 0 gets a free one.

        tls: a context of `evsvc.core.tls.server_context`, by which the port speaks DNS over TLS
        (RFC 7858; its own port is 853, its ALPN name "dot").

        Raises SocketError when it is busy or not ours, DnsArgumentError for what is no address.
        """
        self._require_open()
        sock = self._bind(socket.SOCK_STREAM, address, port)
        listener = ConnListener(self._base, None, None, LEV_OPT_CLOSE_ON_FREE, 0, sock)
        return self.add_server_port_with_listener(listener, tls=tls)

    def add_server_port(self, sock: socket.socket) -> UdpServerPort:
        """Serve a bound UDP socket, which belongs to the port from now on.

        Raises DnsArgumentError when it is no UDP socket.
        Source: evdns_add_server_port_with_base.
        """
        self._require_open()
        if sock.type != socket.SOCK_DGRAM or sock.family not in (socket.AF_INET, socket.AF_INET6):
            raise DnsArgumentError(f"not a UDP socket: {sock!r}")
        port = UdpServerPort(self._base, sock, self._options, self._handler(), self._forget)
        self._ports.add(port)
        return port

    def add_server_port_with_listener(
        self, listener: ConnListener, *, tls: ssl.SSLContext | None = None
    ) -> TcpServerPort:
        """Serve the connections of a listener, which belongs to the port from now on.

        tls: as for `bind_tcp`.  Its callback is replaced.  Raises DnsArgumentError when it does
        not listen on TCP.
        Source: evdns_add_server_port_with_listener.
        """
        self._require_open()
        if listener.socket.family not in (socket.AF_INET, socket.AF_INET6):
            raise DnsArgumentError(f"not a TCP listener: {listener.socket!r}")
        port = TcpServerPort(listener, self._options, self._handler(), self._forget, tls)
        self._ports.add(port)
        return port

    def handle_message(
        self, packet: bytes, address: Any, done: Callable[[bytes | None], object]
    ) -> None:
        """Answer a query that came another way, as DNS over HTTPS does: `done(reply)`, once.

        done: called now or later, with None where there is no reply.  address: the client's, as
        the request has it.  Raises DnsStateError when the server is closed.
        """
        self._require_open()
        self._handler()(_MessagePath(self._options.udp_reply_bytes, done), packet, address)

    def flush_finished(self, group: ReplyGroup | None = None) -> None:
        """Forget the replies that `respond(code, cache_s=...)` has kept, or those of a group."""
        self._finished.flush(group)

    def shutdown(
        self,
        cb: Callable[[DnsServer], object] | None = None,
        *,
        deadline_s: float | None = None,
        idle_s: float = 0.0,
    ) -> None:
        """Stop gracefully: read no more datagrams, accept no more clients, answer what has come.

        What waits in the kernel is still taken, a batch of it; what is left in a socket that
        another process has, too, is that one's.  A port is closed when all that it was asked is
        answered; `cb(server)` is called when the last one is, before the return when there is
        nothing to wait for.  `handle_message` goes on answering until `close`.

        deadline_s: after so long the ports are closed, whatever is not answered.  idle_s: so long
        may clients of TCP go on asking.  Called again, it sets another callback, and other times.
        Raises ArgumentError for negative ones, ArgumentTypeError for no number.
        """
        if deadline_s is not None:
            check_timeout(deadline_s)
        check_timeout(idle_s)
        self._stop_limit.stop()
        self._is_stopping = True
        self._drained_cb = cb
        if deadline_s is not None:
            self._stop_limit.start(deadline_s)
        for port in self.ports:
            if isinstance(port, UdpServerPort):
                port.stop_reading()
            else:
                port.shutdown(idle_s)
        self._check_drained()

    def _check_drained(self) -> None:
        """Where the server stops: close the ports of UDP when nothing of theirs is with the
        program, and tell when all are closed."""
        if not self._is_stopping or self._held:
            return
        for port in self.ports:
            if isinstance(port, UdpServerPort):
                port.finish()
        if not self._ports:
            self._tell_drained()

    def _tell_drained(self) -> None:
        self._is_stopping = False
        self._stop_limit.stop()
        cb, self._drained_cb = self._drained_cb, None
        if cb is not None:
            cb(self)

    def _on_stop_limit(self) -> None:
        log.warning("the stop took too long: %d ports are closed", len(self._ports))
        self._close_ports()

    def _close_ports(self) -> None:
        for port in self.ports:
            port.close()
        self._tell_drained()

    def _forget(self, port: UdpServerPort | TcpServerPort) -> None:
        self._ports.discard(port)
        self._check_drained()

    def _let_go(self) -> None:
        """A datagram that had to wait for its answer has it, or gets none."""
        self._held -= 1
        self._check_drained()

    def close(self) -> None:
        """Close all ports.  Safe to repeat, and inside the callback."""
        self._closed = True
        self._finished.flush()
        self._close_ports()
        self._stop_limit.close()

    def _handler(self) -> QueryHandler:
        """Return what ports hand their queries to; it is looked up once."""
        is_watched = self._limiter is not None or self._options.log_queries
        return self._handle_watched if is_watched else self._handle_query

    def _handle_query(self, path: ReplyPath, packet: bytes, address: Any) -> None:
        """Answer what the program should not see, call back for the rest."""
        if self._finished.replies:
            reply = self._finished.find(packet, self._base.reactor.now)
            if reply is not None:
                path.send_reply(reply, address)
                return
        plain = read_plain(packet)  # such a one is shorter than any limit
        if plain is not None:
            self._ask(path, packet, plain, plain.rdtype, plain.rdclass, address)
            return
        split = split_options(packet) if len(packet) <= self._options.query_bytes else None
        plain = None if split is None else read_plain(split[0])
        if plain is None or split is None:
            self._handle_unusual(path, packet, address)
            return
        options = self._options_for(path, split[1], address)
        reply = self._finished.find(split[0], self._base.reactor.now)
        if reply is None:
            self._ask(path, split[0], plain, plain.rdtype, plain.rdclass, address, options)
            return
        limit = path.limit_for(plain.payload)
        reply = add_options(reply, options.answers, pads=options.pads, limit=limit)
        path.send_reply(reply, address)

    def _handle_unusual(self, path: ReplyPath, packet: bytes, address: Any) -> None:
        """Answer what only dnspython reads, or nobody."""
        query = read_query(packet, self._options.query_bytes)
        if query is None:
            self._ignored += 1
            log.debug("ignored %d bytes from %s", len(packet), address)
            path.forget_request()
        elif isinstance(query, Rcode):
            self._refuse(path, packet, query, address)
        else:
            options = tuple((int(each.otype), each.to_wire() or b"") for each in query.options)
            cookie = option_of(options, COOKIE)
            if cookie is not None and not is_cookie(cookie):
                self._refuse(path, packet, Rcode.FORMERR, address)
                return
            asked = query.question[0]
            answers = self._options_for(path, options, address) if options else NO_OPTIONS
            self._ask(path, packet, query, int(asked.rdtype), int(asked.rdclass), address, answers)

    def _refuse(self, path: ReplyPath, packet: bytes, rcode: Rcode, address: Any) -> None:
        self._refused += 1
        log.debug("answered %s to %s", rcode.name, address)
        path.send_reply(build_refusal(packet, rcode, path.announced_bytes), address)

    def _options_for(
        self, path: ReplyPath, asked: tuple[EdnsOption, ...], address: Any
    ) -> ServerOptions:
        """Return what the server itself answers to the options of a query."""
        answers = []
        cookie = None if self._cookies is None else option_of(asked, COOKIE)
        if cookie is not None and self._cookies is not None:
            now = self._base.reactor.now
            answers.append((COOKIE, self._cookies.make(cookie, address[0], now)))
        idle_s = self._options.tcp_idle_s
        if path.transport in ("tcp", "tls") and option_of(asked, KEEPALIVE) is not None and idle_s:
            tenths = min(int(idle_s * _KEEPALIVE_UNITS), 65535)
            answers.append((KEEPALIVE, tenths.to_bytes(2, "big")))
        pads = path.transport in _ENCRYPTED and option_of(asked, PADDING) is not None
        return ServerOptions(asked, tuple(answers), pads)

    def _handle_watched(self, path: ReplyPath, packet: bytes, address: Any) -> None:
        """Do as `_handle_query`, where queries are limited or logged."""
        if self._options.log_queries:
            path = LoggedPath(path, packet, address)
        if self._limiter is not None and not path.is_stream:
            verdict = self._limiter.judge(address[0], self._base.reactor.now)
            if verdict is not Verdict.PASS and not self._has_shown_itself(packet, address):
                self._hold_back(path, packet, address, verdict)
                return
        self._handle_query(path, packet, address)

    def _has_shown_itself(self, packet: bytes, address: Any) -> bool:
        """Return True when a query has a cookie of ours, so that its client is who it says."""
        split = split_options(packet)
        cookie = None if split is None else option_of(split[1], COOKIE)
        if cookie is None or self._cookies is None:
            return False
        return self._cookies.knows(cookie, address[0], self._base.reactor.now)

    def _hold_back(self, path: ReplyPath, packet: bytes, address: Any, verdict: Verdict) -> None:
        is_query = len(packet) >= HEADER_BYTES and not packet[2] & QR >> 8
        if verdict is Verdict.DROP or not is_query:
            self._limited += 1
            path.forget_request()
            return
        self._slipped += 1
        reply = bytearray(build_refusal(packet, Rcode.NOERROR, path.announced_bytes))
        reply[2] |= TC >> 8
        path.send_reply(bytes(reply), address)

    def _ask(
        self,
        path: ReplyPath,
        packet: bytes,
        query: PlainQuery | Message,
        rdtype: int,
        rdclass: int,
        address: Any,
        options: ServerOptions = NO_OPTIONS,
    ) -> None:
        """Let the program answer, unless it is not to see such a question."""
        request = DnsServerRequest(path, packet, query, address, self._keep, options)
        # The usual ones are data, of the Internet.
        is_usual = rdclass == 1 and 0 < rdtype < _FIRST_UNUSUAL
        if not is_usual and not self._serves(rdtype, rdclass, path):
            self._refused += 1
            request.respond(DNS_ERR_REFUSED)
            return
        self._asked += 1
        try:
            self._cb(request, self._arg)
        except Exception as exc:
            self._callback_failed(request, exc)
        if request.phase is OPEN and not path.is_stream:  # a client of TCP counts its own
            self._held += 1
            request.set_path(HeldPath(path, self._let_go))

    def _keep(
        self, query: PlainQuery, reply: bytes, cache_s: float, groups: tuple[ReplyGroup, ...]
    ) -> None:
        self._finished.keep(query, reply, self._base.reactor.now + cache_s, groups)

    def _serves(self, rdtype: int, rdclass: int, path: ReplyPath) -> bool:
        """Return True when the callback is to see such a question."""
        if rdclass != EVDNS_CLASS_INET and not self._options.any_class:
            return False
        if self._options.any_type:
            return True
        if rdtype in _TRANSFERS:
            return path.transport in ("tcp", "tls")
        return rdtype not in _NO_DATA

    def _callback_failed(self, request: DnsServerRequest, exc: Exception) -> None:
        """Answer SERVFAIL, log what the callback raised, and tell the base's exception handler.

        What that one raises is the program's own wish, and leaves the loop.
        """
        self._failed += 1
        request.give_up()
        log.error("the callback raised for %s", request.questions, exc_info=exc)
        handler = self._base.exception_handler
        if handler is not None:
            handler(exc)

    def _bind(self, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
        ours = [bound.sock for bound in self._ports]
        same = [sock for sock in ours if sock is not None and sock.type == kind]
        return bind_socket(kind, _sockaddr_of(address, port), same)

    def _require_open(self) -> None:
        if self._closed:
            raise DnsStateError("the server is closed")


class _MessagePath:
    """The way back of one query that came as a message of its own."""

    __slots__ = ("_done", "announced_bytes")

    def __init__(self, announced_bytes: int, done: Callable[[bytes | None], object]) -> None:
        self._done = done
        self.announced_bytes = announced_bytes

    @property
    def is_stream(self) -> bool:
        return True

    @property
    def transport(self) -> str:
        return "https"

    def limit_for(self, payload: int) -> int:
        return MAX_MESSAGE_BYTES

    def send_reply(self, packet: bytes, address: Any) -> None:
        self._done(packet)

    def send_messages(self, messages: Iterator[bytes], address: Any) -> None:
        self._done(None)

    def forget_request(self) -> None:
        self._done(None)


def _sockaddr_of(address: str, port: int) -> SocketAddress:
    try:
        return endpoint_of((address, port)).sockaddr
    except ArgumentError as exc:
        raise DnsArgumentError(str(exc)) from exc
