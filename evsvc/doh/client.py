"""The client: a `Resolver` whose questions go over HTTPS, by POST (RFC 8484)."""

from __future__ import annotations

import errno
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..core import ArgumentError, EventBase, StateError
from ..core.bufferevent.timeouts import Deadline
from ..core.util import check_port, ip_version
from ..dns import Resolver, ResolverOptions
from ..dns.wire.framing import HEADER_BYTES
from ..http import ClientOptions, HttpConnection, HttpRequest, HttpUri

if TYPE_CHECKING:
    from ..core.resolver import Resolver as NameResolver
    from ..dns.resolver.flight import Sent
    from ..dns.resolver.nameservers import Nameserver

log = logging.getLogger("evsvc.dns")

CONTENT_TYPE = "application/dns-message"
MAX_REPLY_BYTES = 65535
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class DohClientOptions:
    """How `add_doh_nameserver` asks.  Raises ArgumentError for a value out of range.

    connections: most connections to the server; HTTP/1.1 has one question at a time on each.
    http:        limits and times of each connection.
    """

    connections: int = 4
    http: ClientOptions | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.connections <= 1024:
            raise ArgumentError(f"connections must be from 1 to 1024: {self.connections!r}")


def add_doh_nameserver(
    resolver: Resolver,
    url: str,
    *,
    address: str | None = None,
    names: NameResolver | None = None,
    tls: bool | ssl.SSLContext = True,
    options: DohClientOptions | None = None,
) -> None:
    """Add a nameserver that is asked over HTTPS at `url`, such as "https://dns.test/dns-query".

    address: its IP address, where the URL has a name;  names: or who looks that name up, which
    must not be `resolver` itself.  tls: True trusts whom the system trusts; or a context.  A URL of
    http, for a server behind a proxy of one's own, is asked without.  Connections are kept for
    `tcp_idle_s`; the certificate must have the URL's name.

    Raises ArgumentError for what is no such URL, for a name with nobody to look it up, and as
    `Resolver.nameserver_ip_add`.  Source: RFC 8484.
    """
    uri = HttpUri.parse(url)
    scheme = (uri.scheme or "").lower()
    host = (uri.host or "").strip("[]")
    if scheme not in _PORTS or not host or uri.fragment is not None or uri.userinfo is not None:
        raise ArgumentError(f"not a URL of DNS over HTTPS: {url!r}")
    if names is resolver:
        raise ArgumentError("a resolver cannot look up its own nameserver")
    if address is not None and ip_version(address) is None:
        raise ArgumentError(f"not an IP address: {address!r}")
    if address is None and names is None and ip_version(host) is None:
        raise ArgumentError(f"an address, or a resolver for {host!r}, is wanted: {url!r}")
    port = check_port(_PORTS[scheme] if uri.port < 0 else uri.port, lowest=1)
    options = options or DohClientOptions()
    http = options.http or ClientOptions()

    def connect(base: EventBase) -> HttpConnection:
        secure = scheme == "https"
        return HttpConnection(
            base,
            names,
            address or host,
            port,
            http,
            tls=tls if secure else False,
            server_hostname=host if secure and address is not None else None,
        )

    target = (uri.path or "/") + ("" if uri.query is None else f"?{uri.query}")
    authority = uri.host if uri.port < 0 else f"{uri.host}:{uri.port}"
    maker = partial(
        DohTransport,
        connect=connect,
        target=target,
        authority=authority or host,
        most=options.connections,
    )
    resolver.nameserver_transport_add((address or host, port), url, maker)


class DohTransport:
    """Connections to one server, shared by the queries under way.  See `Transport`."""

    __slots__ = (
        "_answered",
        "_authority",
        "_base",
        "_connect",
        "_connections",
        "_idle",
        "_idle_s",
        "_most",
        "_on_lost",
        "_on_packet",
        "_out",
        "_server",
        "_target",
    )

    def __init__(
        self,
        base: EventBase,
        server: Nameserver,
        options: ResolverOptions,
        on_packet: Callable[[Sent, bytes], bool],
        on_lost: Callable[[Sent, bool], object],
        *,
        connect: Callable[[EventBase], HttpConnection],
        target: str,
        authority: str,
        most: int,
    ) -> None:
        self._base = base
        self._server = server
        self._on_packet = on_packet
        self._on_lost = on_lost
        self._connect = connect
        self._target = target
        self._authority = authority
        self._most = most
        self._out: dict[Sent, HttpRequest] = {}
        self._connections: list[HttpConnection] = []
        self._answered = False
        self._idle_s = options.tcp_idle_s
        self._idle = Deadline(base, self._disconnect)

    def send(self, sent: Sent) -> None:
        """Send a query as soon as a connection has room for it."""
        request = HttpRequest(self._on_done, sent)
        request.output_headers.add("Host", self._authority)
        request.output_headers.add("Accept", CONTENT_TYPE)
        request.output_headers.add("Content-Type", CONTENT_TYPE)
        request.output_buffer.add(bytes(2) + sent.packet[2:])  # 4.1: id 0, for caches' sake
        self._idle.stop()
        try:
            self._choose().make_request(request, "POST", self._target)
        except StateError as exc:  # too many wait
            raise OSError(errno.EAGAIN, str(exc)) from exc
        self._out[sent] = request

    def forget(self, sent: Sent) -> None:
        """Give a query up; with the last one the idle time begins."""
        request = self._out.pop(sent, None)
        if request is not None:
            request.cancel()
            self._rest()

    def give_up(self) -> None:
        """Close all connections; the queries on them are lost."""
        out, self._out = self._out, {}
        self._disconnect()
        answered, self._answered = self._answered, False
        for sent in out:
            self._on_lost(sent, answered)

    def close(self) -> None:
        """Close all connections without a word."""
        self._out.clear()
        self._disconnect()
        self._idle.close()

    def _choose(self) -> HttpConnection:
        """Return a connection with nothing to do, else a new one, else the least busy."""
        self._connections = [each for each in self._connections if not each.is_closed]
        for connection in self._connections:
            if connection.is_available:
                return connection
        if len(self._connections) < self._most:
            self._connections.append(self._connect(self._base))
            return self._connections[-1]
        busy = [request.connection for request in self._out.values()]
        return min(self._connections, key=busy.count)

    def _rest(self) -> None:
        if not self._out and self._connections:
            self._idle.start(self._idle_s)

    def _disconnect(self) -> None:
        self._idle.stop()
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()

    def _on_done(self, response: HttpRequest | None, sent: Sent) -> None:
        request = self._out.pop(sent, None)  # also where there is no response
        if request is None:
            return
        reply = self._reply_of(request)
        if reply is not None:
            self._answered = True
            if not self._on_packet(sent, sent.packet[:2] + reply[2:]):
                self._on_lost(sent, False)
        else:
            answered, self._answered = self._answered, False
            # A server closes its connections when it likes, and a POST is not repeated by itself.
            self._on_lost(sent, answered and request.error is not None)
        self._rest()

    def _reply_of(self, request: HttpRequest) -> bytes | None:
        """Return the message in a response, None with a word in the log when there is none."""
        if request.error is not None:
            log.debug("nameserver %s: %s", self._server.name, request.error)
            return None
        content_type = (request.input_headers.find("Content-Type") or "").partition(";")[0]
        if request.response_code != 200 or content_type.strip().lower() != CONTENT_TYPE:
            log.warning("nameserver %s answers %d", self._server.name, request.response_code)
            return None
        body = bytes(request.input_buffer)
        if not HEADER_BYTES <= len(body) <= MAX_REPLY_BYTES:
            log.warning("nameserver %s sends %d bytes", self._server.name, len(body))
            return None
        return body
