"""HttpClient: requests by URL, over a pool of connections, with all that they lead to.

A request's way: target -> pool -> connection -> response -> redirect, or the program's callback.

Invariants
    * An exchange is in one place: waiting for a connection, on its way, or done.
    * Its callback runs once, from the loop, when it is done; never after `cancel`.
    * A connection that is lent has one request of ours, and comes back by its idle callback.
    * What a callback raises ends its exchange, is logged, and told to the exception handler.
"""

from __future__ import annotations

import http.cookiejar
import logging
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core import ArgumentError, ArgumentTypeError, Error, EvBuffer, StateError
from ...core.checks import check_limits, require_callable
from ...core.closing import Closing
from ..errors import BodyTooLong, ConnectFailed, HttpError, RequestTimeout
from ..options import ClientOptions
from ..wire import codings
from ..wire.headers import Headers
from .authorization import Authorization, BasicAuth, BearerAuth
from .bodies import Body, BytesBody, Form, Multipart, StreamedBody, form_body, json_body
from .connection import HttpConnection
from .cookies import add_cookies, keep_cookies
from .dialer import ConnectProxy
from .pool import ConnectionPool, PoolOptions
from .proxies import Proxies, Proxy
from .redirects import (
    BODY_FIELDS,
    REDIRECT_STATUSES,
    SECRET_FIELDS,
    Redirect,
    RedirectPolicy,
    RedirectRefused,
    follow,
)
from .request import HttpRequest
from .response import ClientResponse
from .target import Origin, Target, parse_target
from .timeouts import Timeouts

if TYPE_CHECKING:
    from ...core import EventBase
    from ...core.resolver import Resolver
    from .dialer import ConnectTimes
    from .upload import Producer

logger = logging.getLogger("evsvc.http")

ResponseCallback = Callable[[ClientResponse, Any], object]
"""Called once as `cb(response, arg)`; `response.error` tells whether there is one."""
DataCallback = Callable[["ClientExchange", bytes, Any], object]
"""Called as `cb(exchange, data, arg)` for each piece of a body."""
HeadCallback = Callable[["ClientExchange", ClientResponse, Any], object]
"""Called as `cb(exchange, response, arg)` when status and headers of the answer are there."""
ProgressCallback = Callable[["ClientExchange", int, "int | None", Any], object]
"""Called as `cb(exchange, received_bytes, all_bytes, arg)`; the latter is None if not known."""

Fields = Mapping[str, str] | Iterable[tuple[str, str]]

MAX_KNOWN_URLS = 256
"""How many URLs a client keeps taken apart; a program asks for a few of them again and again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpClientOptions:
    """How a client behaves.

    Raises ArgumentError for a number that is not positive, or has no end, ArgumentTypeError for
    what is none.

    connection: limits and time-outs of one connection.
    pool:       how many connections, and requests that wait.
    redirects:  how far they are followed.
    timeout_s:  one request with all that it leads to, from the call on; None leaves it to the
                time-outs of the connection.
    max_body_bytes: of a body that is gathered, unpacked; one that a callback takes is unlimited.
    max_ratio:  how much larger than what came an unpacked body may be; more is a bomb.
    decode:     whether to ask for packed bodies, and to unpack them.
    user_agent: what the field says; None leaves it out.
    """

    connection: ClientOptions = field(default_factory=ClientOptions)
    pool: PoolOptions = field(default_factory=PoolOptions)
    redirects: RedirectPolicy = field(default_factory=RedirectPolicy)
    timeout_s: float | None = None
    max_body_bytes: int | None = 16 * 1024 * 1024
    max_ratio: float | None = codings.DEFAULT_MAX_RATIO
    decode: bool = True
    user_agent: str | None = "evsvc"

    def __post_init__(self) -> None:
        check_limits(self, or_none=("timeout_s", "max_body_bytes", "max_ratio"))


class Way(NamedTuple):
    """What a connection is made for: a server, through a proxy or straight."""

    origin: Origin
    proxy: Proxy | None


class Callbacks(NamedTuple):
    """What the program wants to know of an exchange."""

    done: ResponseCallback | None
    data: DataCallback | None
    head: HeadCallback | None
    progress: ProgressCallback | None
    arg: Any


class ClientExchange:
    """One request with all that it leads to; made by `HttpClient.request`.

    target: where it is now.  method: by which.  headers: what the program sends along.
    followed: the redirects so far.  done: whether the callback was called, or never will be.
    """

    __slots__ = (
        "_abandoned_cb",
        "_client",
        "auth",
        "begun_at",
        "body",
        "callbacks",
        "decoder",
        "done",
        "followed",
        "gathered",
        "headers",
        "http_request",
        "method",
        "pieces",
        "received",
        "redirect",
        "response",
        "target",
        "timeout_s",
        "way",
    )

    def __init__(
        self,
        client: HttpClient,
        target: Target,
        method: str,
        headers: Headers,
        body: Body | None,
        auth: Authorization | None,
        callbacks: Callbacks,
        timeout_s: float | None,
    ) -> None:
        self._client: HttpClient | None = client
        self._abandoned_cb: Callable[[], object] | None = None
        self.target = target
        self.method = method
        self.headers = headers
        self.body = body
        self.auth = auth
        self.callbacks: Callbacks | None = callbacks
        self.timeout_s = timeout_s
        self.begun_at = client.base.now
        self.followed: list[ClientResponse] = []
        self.done = False
        self.http_request: HttpRequest | None = None
        self.response: ClientResponse | None = None
        self.redirect: Redirect | None = None  # that the response is
        self.decoder: codings.Decoder | None = None
        self.received = 0  # bytes of the body, as they came
        self.gathered = 0
        self.pieces: list[bytes] = []  # of the body, unpacked, where it is gathered
        self.way: Way | None = None  # for which it waits

    def cancel(self) -> None:
        """Give it up: its callback will not run.  Safe to repeat, and when it is done."""
        if self._client is not None:
            self._client.cancel(self)

    def pause(self) -> None:
        """Take nothing more from the server until `resume`; for those who take the body as it
        comes."""
        if self.http_request is not None:
            self.http_request.pause()

    def resume(self) -> None:
        """Undo `pause`; what has come already is given from the loop."""
        if self.http_request is not None:
            self.http_request.resume()

    def resume_body(self) -> None:
        """Have the producer of a streamed body asked again, which had nothing."""
        if self.http_request is not None:
            self.http_request.resume_body()

    @property
    def connect_times(self) -> ConnectTimes | None:
        """When the connection was made that it is on; None while it is on none.

        That may be before the request, over a connection that was kept.
        """
        connection = None if self.http_request is None else self.http_request.connection
        return None if connection is None else connection.connect_times

    def set_abandoned_cb(self, cb: Callable[[], object]) -> None:
        """Call `cb()` if the client is closed before it is done, so that no callback will run.

        Raises ArgumentTypeError for what cannot be called.
        """
        require_callable(cb)
        self._abandoned_cb = cb

    def abandon(self) -> None:
        """Be done without the callback, as the client is closed; the client calls this."""
        abandoned_cb = self._abandoned_cb
        self.forget()
        if abandoned_cb is not None:
            abandoned_cb()

    def forget(self) -> None:
        """Be done, and let go of everything; the client calls this."""
        self.done = True
        self._client = self.callbacks = self.body = self._abandoned_cb = None
        self.http_request = self.decoder = self.way = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.method} {self.target.url}>"


class HttpClient(Closing):
    """Sends requests to any server by URL, and keeps connections alive between them.

    resolver: looks names up without blocking; None will do for numeric addresses.  tls: a context
    for https in place of the system's trust.  cookies: a jar to keep them in; without one there are
    none.  proxies: which servers are asked through a proxy; `Proxies.from_environment()` for what
    the environment says.  headers: fields of every request that does not have them.

    Raises ArgumentTypeError for a jar that is none.
    """

    __slots__ = (
        "_closed",
        "_cookies",
        "_known_urls",
        "_pool",
        "_proxies",
        "_resolver",
        "_timeouts",
        "_tls",
        "_under_way",
        "_usual",
        "_waiting",
        "base",
        "options",
    )

    def __init__(
        self,
        base: EventBase,
        resolver: Resolver | None = None,
        options: HttpClientOptions | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        cookies: http.cookiejar.CookieJar | None = None,
        proxies: Proxies | None = None,
        headers: Fields = (),
    ) -> None:
        if cookies is not None and not isinstance(cookies, http.cookiejar.CookieJar):
            raise ArgumentTypeError(f"cookies are kept in an http.cookiejar.CookieJar: {cookies!r}")
        self.base = base
        self.options = options or HttpClientOptions()
        self._resolver = resolver
        self._tls: bool | ssl.SSLContext = True if tls is None else tls
        self._cookies = cookies
        self._proxies = proxies or Proxies()
        self._usual = self._usual_fields(_headers(headers))
        self._known_urls: dict[str, Target] = {}
        self._pool: ConnectionPool[Way, HttpConnection] = ConnectionPool(self.options.pool)
        self._waiting: dict[Way, deque[ClientExchange]] = {}
        self._under_way: dict[HttpConnection, ClientExchange] = {}
        self._timeouts: Timeouts[ClientExchange] = Timeouts(base, self._expire)
        self._closed = False

    def _usual_fields(self, headers: Headers) -> Headers:
        """Return the fields of a request to which the program adds none."""
        fields = Headers()
        _complete(fields, headers)
        options = self.options
        if options.user_agent is not None:
            _complete(fields, [("User-Agent", options.user_agent)])
        if options.decode:
            _complete(fields, [("Accept-Encoding", ", ".join(codings.available()))])
        return fields

    @property
    def connection_count(self) -> int:
        """How many connections there are, in use and idle."""
        return len(self._pool)

    @property
    def idle_count(self) -> int:
        """How many of them are idle."""
        return self._pool.idle_count

    @property
    def queued_count(self) -> int:
        """How many requests wait for a connection."""
        return sum(map(len, self._waiting.values()))

    def get(
        self, url: str, cb: ResponseCallback | None, arg: object = None, **more: Any
    ) -> ClientExchange:
        """Get a URL; see `request` for `more`."""
        return self.request("GET", url, cb, arg, **more)

    def head(
        self, url: str, cb: ResponseCallback | None, arg: object = None, **more: Any
    ) -> ClientExchange:
        """Get the headers of a URL alone; see `request` for `more`."""
        return self.request("HEAD", url, cb, arg, **more)

    def post(
        self, url: str, cb: ResponseCallback | None, arg: object = None, **more: Any
    ) -> ClientExchange:
        """Post a body to a URL; see `request` for `more`."""
        return self.request("POST", url, cb, arg, **more)

    def request(
        self,
        method: str,
        url: str,
        cb: ResponseCallback | None,
        arg: object = None,
        *,
        headers: Fields = (),
        body: bytes | str | EvBuffer | Producer | None = None,
        length: int | None = None,
        json: object = None,
        form: Form | None = None,
        multipart: Multipart | None = None,
        auth: Authorization | None = None,
        datacb: DataCallback | None = None,
        headcb: HeadCallback | None = None,
        progresscb: ProgressCallback | None = None,
        timeout_s: float | None = None,
    ) -> ClientExchange:
        """Send a request, and call `cb(response, arg)` once, from the loop, with what came of it.

        body: bytes, text (as UTF-8), an EvBuffer, which is drained, or a producer of pieces, which
        goes with `length` or chunked; see `HttpRequest.stream_body`.  json, form, multipart:
        another body, with its Content-Type.  auth: who we are; goes to this origin alone.  datacb:
        takes the body as it comes, unpacked; `exchange.pause()` holds the server back.  headcb: is
        told status and headers before.  progresscb: is told how much has come.  timeout_s: in
        place of the options'.  User and password in the URL are sent as Basic.

        Raises ArgumentError for what is no URL, method or field, ArgumentTypeError for what is no
        body or callback, StateError when the client is closed or too many requests wait.
        """
        if self._closed:
            raise StateError("the client is closed")
        for each in (cb, datacb, headcb, progresscb):
            if each is not None:
                require_callable(each)
        if auth is not None and not isinstance(auth, (BasicAuth, BearerAuth)):
            raise ArgumentTypeError(f"auth is a BasicAuth or a BearerAuth: {auth!r}")
        if timeout_s is not None and not timeout_s > 0:
            raise ArgumentError(f"timeout_s must be positive: {timeout_s!r}")
        known = self._known_urls.get(url) if isinstance(url, str) else None
        target = known or self._take_apart(url)
        callbacks = Callbacks(cb, datacb, headcb, progresscb, arg)
        made = _make_body(body, length, json, form, multipart, arg)
        timeout_s = self.options.timeout_s if timeout_s is None else timeout_s
        fields = _headers(headers)
        exchange = ClientExchange(
            self, target, method, fields, made, auth or target.auth, callbacks, timeout_s
        )
        request = self._make_request(exchange)  # what is wrong with it is raised here
        if timeout_s is not None:
            self._timeouts.add(exchange, timeout_s)
        try:
            self._dispatch(exchange, request)
        except BaseException:
            self._settle(exchange)
            raise
        return exchange

    def cancel(self, exchange: ClientExchange) -> None:
        """Give an exchange up; see `ClientExchange.cancel`."""
        if not exchange.done:
            request = exchange.http_request
            self._settle(exchange)
            if request is not None:
                request.cancel()

    def close(self) -> None:
        """Close all connections, and forget all requests, without their callbacks.

        Safe to repeat, and from inside any callback.
        """
        self._closed = True
        self._timeouts.close()
        waiting, self._waiting = self._waiting, {}
        for exchange in [*self._under_way.values(), *(e for row in waiting.values() for e in row)]:
            exchange.abandon()
        self._under_way.clear()
        for connection in list(self._pool):
            self._pool.forget(connection)
            connection.close()

    def _take_apart(self, url: str) -> Target:
        """Take a URL apart, and remember how, unless there is a password in it."""
        target = parse_target(url)
        if target.auth is None:
            if len(self._known_urls) >= MAX_KNOWN_URLS:
                self._known_urls.clear()
            self._known_urls[url] = target
        return target

    # One request.

    def _make_request(self, exchange: ClientExchange) -> HttpRequest:
        """Return the request for where an exchange is now; raises for what cannot be sent."""
        request = HttpRequest(self._on_done, exchange)
        if exchange.headers:
            fields = request.output_headers = exchange.headers.copy()
            _complete(fields, self._usual)
        else:
            fields = request.output_headers = self._usual.copy()
        if exchange.auth is not None and "Authorization" not in fields:
            fields.add("Authorization", exchange.auth.field_value())
        if self._cookies is not None:
            add_cookies(self._cookies, exchange.target, fields)
        body = exchange.body
        if body is not None:
            if body.content_type is not None and "Content-Type" not in fields:
                fields.add("Content-Type", body.content_type)
            body.put(request)
        callbacks = exchange.callbacks
        if callbacks is None or callbacks.head or callbacks.data or callbacks.progress:
            request.set_header_cb(self._on_head)
            request.set_chunked_cb(self._on_data)
        else:
            request.set_pieces_cbs(self._on_head, self._on_data)
        return request

    def _dispatch(self, exchange: ClientExchange, request: HttpRequest) -> None:
        """Send a request over a connection, or let it wait for one.

        Raises StateError when too many wait, and what making a connection raises.
        """
        exchange.http_request = request
        origin = exchange.target.origin
        way = exchange.way = Way(origin, self._proxies.find(origin))
        if way in self._waiting or not self._try_to_send(exchange, way):
            if self.queued_count >= self.options.pool.max_queued:
                raise StateError(f"{self.queued_count} requests wait already")
            self._waiting.setdefault(way, deque()).append(exchange)

    def _try_to_send(self, exchange: ClientExchange, way: Way) -> bool:
        """Send it if there is a connection, or may be one."""
        connection, may_make, closes = self._pool.decide(way)
        for each in closes:
            each.close()
        if connection is None:
            if not may_make:
                return False
            connection = self._make_connection(way)
            self._pool.add(way, connection)
        self._send(exchange, connection, way)
        return True

    def _make_connection(self, way: Way) -> HttpConnection:
        origin, proxy = way
        at = origin
        through: ConnectProxy | None = None
        if proxy is not None:
            if origin.is_secure:
                host, port = proxy.origin.host, proxy.origin.port
                tls = self._tls if proxy.origin.is_secure else False
                through = ConnectProxy(address=host, port=port, tls=tls, headers=proxy.fields())
            else:
                at = proxy.origin
        connection = HttpConnection(
            self.base,
            self._resolver,
            at.host,
            at.port,
            self.options.connection,
            tls=self._tls if at.is_secure else False,
            proxy=through,
        )
        connection.set_idle_cb(self._on_idle)
        return connection

    def _send(self, exchange: ClientExchange, connection: HttpConnection, way: Way) -> None:
        request = exchange.http_request
        assert request is not None
        uri = exchange.target.path
        if way.proxy is not None and not way.origin.is_secure:
            uri = exchange.target.url
            for name, value in way.proxy.fields():
                request.output_headers.add(name, value)
        exchange.way = None
        self._under_way[connection] = exchange
        try:
            connection.make_request(request, exchange.method, uri)
        except BaseException:
            self._release(connection)
            raise

    def _on_idle(self, connection: HttpConnection, arg: object) -> None:
        """A connection is at rest: the next request to its server goes out."""
        self._release(connection)

    def _release(self, connection: HttpConnection) -> None:
        """Have a connection back, whose request is done, and send what waits."""
        if self._closed or self._under_way.pop(connection, None) is None:
            return
        self._pool.give_back(connection)
        if self._waiting:
            self._serve(self._pool.key_of(connection))

    def _serve(self, way: Way | None) -> None:
        """Send what waits, as far as there is room: to `way` first, then the rest."""
        ways = [each for each in self._waiting if each != way]
        for each in ways if way is None or way not in self._waiting else [way, *ways]:
            row = self._waiting.get(each, deque())
            while row:
                exchange = row[0]
                try:
                    if not self._try_to_send(exchange, each):
                        break
                except Error as exc:
                    self._finish_later(exchange, exc)
                if row and row[0] is exchange:
                    row.popleft()
            if not row and self._waiting.get(each) is row:
                del self._waiting[each]

    def _on_head(self, request: HttpRequest, exchange: ClientExchange) -> int:
        """Status and headers have come: of the answer, or of a redirect."""
        response = ClientResponse(exchange.method, exchange.target, exchange.followed, request)
        exchange.response = response
        exchange.received = 0
        if exchange.gathered:
            exchange.pieces, exchange.gathered = [], 0
        exchange.decoder = None
        if self._cookies is not None:
            keep_cookies(self._cookies, exchange.target, response.headers)
        exchange.redirect = None
        if response.status in REDIRECT_STATUSES:
            exchange.redirect = self._redirect_of(exchange, response)
        if exchange.redirect is not None or response.error is not None:
            return 0
        coding = ""
        if self.options.decode and "Content-Encoding" in response.headers:
            coding = ", ".join(response.headers.get_all("Content-Encoding"))
        if coding and codings.decodable(coding):
            callbacks = exchange.callbacks
            is_stream = callbacks is not None and callbacks.data is not None
            exchange.decoder = codings.decoder(
                coding,
                max_bytes=None if is_stream else self.options.max_body_bytes,
                max_ratio=self.options.max_ratio,
            )
        callbacks = exchange.callbacks
        if callbacks is not None and callbacks.head is not None:
            callbacks.head(exchange, response, callbacks.arg)
        return -1 if exchange.done else 0

    def _on_data(self, request: HttpRequest, exchange: ClientExchange) -> None:
        """A piece of a body has come."""
        self._on_piece(request, exchange, request.input_buffer.remove())

    def _on_piece(self, request: HttpRequest, exchange: ClientExchange, data: bytes) -> None:
        """Take a piece of a body, or all of it; of a redirect's nobody wants it."""
        response, callbacks = exchange.response, exchange.callbacks
        if response is None or callbacks is None or response.error is not None:
            return
        if exchange.redirect is not None:
            return
        exchange.received += len(data)
        try:
            if exchange.decoder is not None:
                data = exchange.decoder.decode(data)
            self._take(exchange, response, callbacks, data)
        except HttpError as exc:
            response.error = exc.with_traceback(None)
            request.cancel()
            self._finish(exchange)
            return
        if callbacks.progress is not None and not exchange.done:
            callbacks.progress(exchange, exchange.received, _length_of(response), callbacks.arg)

    def _take(
        self,
        exchange: ClientExchange,
        response: ClientResponse,
        callbacks: Callbacks,
        data: bytes,
    ) -> None:
        if not data:
            return
        if callbacks.data is not None:
            callbacks.data(exchange, data, callbacks.arg)
            return
        exchange.gathered += len(data)
        most = self.options.max_body_bytes
        if most is not None and exchange.gathered > most:
            raise BodyTooLong(f"{response.url}: the body has more than {most} bytes")
        exchange.pieces.append(data)

    def _on_done(self, request: HttpRequest | None, exchange: ClientExchange) -> None:
        """A request is done: an answer, a redirect, or none."""
        made = exchange.http_request
        if exchange.done or made is None:
            return
        if made.connection is not None:
            self._release(made.connection)  # the next request there does not wait for what follows
        if request is not None and exchange.response is None and made.error is None:
            self._on_head(request, exchange)  # it has come whole
            self._on_piece(request, exchange, request.take_body())
            if exchange.done:
                return
        response = exchange.response
        if response is None or made.error is not None:
            if response is None:
                response = ClientResponse(exchange.method, exchange.target, exchange.followed)
                exchange.response = response
            response.error = made.error or ConnectFailed(f"no answer from {exchange.target.origin}")
        else:
            response.trailers = made.trailers
            try:
                if exchange.redirect is not None:
                    self._go_there(exchange, response, exchange.redirect)
                    return
                if exchange.decoder is not None:
                    exchange.decoder.finish()
            except (HttpError, StateError, ArgumentError) as exc:
                response.error = exc.with_traceback(None)
        self._finish(exchange)

    def _redirect_of(self, exchange: ClientExchange, response: ClientResponse) -> Redirect | None:
        """Where a response leads; None for an answer, or where it leads nowhere."""
        location = response.headers.find("Location")
        if location is None:
            return None
        try:
            return follow(
                self.options.redirects,
                exchange.target,
                exchange.method,
                response.status,
                location,
                len(exchange.followed),
            )
        except RedirectRefused as exc:
            response.error = exc.with_traceback(None)
            return None

    def _go_there(
        self, exchange: ClientExchange, response: ClientResponse, redirect: Redirect
    ) -> None:
        """Send the request that follows a redirect.

        Raises RedirectRefused for a body that cannot be sent once more, and as `_dispatch`.
        """
        body = exchange.body
        if redirect.keeps_body and body is not None and not body.can_be_repeated:
            raise RedirectRefused(f"the body cannot be sent again, to {redirect.target.url}")
        drops = set() if redirect.keeps_secrets else set(SECRET_FIELDS)
        if not redirect.keeps_body:
            exchange.body = None
            drops |= BODY_FIELDS
        fields = [each for each in exchange.headers if each[0].lower() not in drops]
        exchange.headers = Headers(fields)
        if not redirect.keeps_secrets:
            exchange.auth = None
        exchange.auth = redirect.target.auth or exchange.auth
        exchange.followed.append(response)
        exchange.target, exchange.method = redirect.target, redirect.method
        exchange.response = exchange.redirect = None
        self._dispatch(exchange, self._make_request(exchange))

    # The end.

    def _expire(self, exchange: ClientExchange) -> None:
        """An exchange's time is over."""
        request = exchange.http_request
        target = exchange.target
        response = exchange.response or ClientResponse(exchange.method, target, exchange.followed)
        response.error = RequestTimeout(f"{target.url}: not done within {exchange.timeout_s} s")
        exchange.response = response
        self._finish(exchange)
        if request is not None:
            request.cancel()

    def _finish_later(self, exchange: ClientExchange, error: Error) -> None:
        response = ClientResponse(exchange.method, exchange.target, exchange.followed)
        exchange.response = response
        response.error = error.with_traceback(None)
        self.base.post(self._finish, exchange)

    def _finish(self, exchange: ClientExchange) -> None:
        """Run the callback, once."""
        callbacks, response = exchange.callbacks, exchange.response
        if exchange.done or callbacks is None or response is None:
            return
        response.elapsed_s = self.base.now - exchange.begun_at
        response.body = b"".join(exchange.pieces)
        self._forget(exchange)
        try:
            if callbacks.done is not None:
                callbacks.done(response, callbacks.arg)
        except Exception as exc:
            logger.error("a callback raised for %r", response, exc_info=exc)
            handler = self.base.exception_handler
            if handler is not None:
                handler(exc)
        finally:  # behind the callback, which mostly makes the next request
            self._unlimit(exchange)

    def _settle(self, exchange: ClientExchange) -> None:
        """Be done with an exchange, wherever it is."""
        self._unlimit(exchange)
        self._forget(exchange)

    def _unlimit(self, exchange: ClientExchange) -> None:
        if exchange.timeout_s is not None:
            self._timeouts.discard(exchange, exchange.timeout_s)

    def _forget(self, exchange: ClientExchange) -> None:
        way = exchange.way
        if way is not None and exchange in (row := self._waiting.get(way, deque())):
            row.remove(exchange)
            if not row:
                del self._waiting[way]
        exchange.forget()


def _complete(fields: Headers, more: Iterable[tuple[str, str]]) -> None:
    """Add the fields that are missing."""
    for name, value in more:
        if name not in fields:
            fields.add(name, value)


def _headers(fields: Fields) -> Headers:
    """Return fields as headers; raises as `Headers.add`."""
    return Headers(fields.items() if isinstance(fields, Mapping) else fields)


def _length_of(response: ClientResponse) -> int | None:
    """Return how long the body is on the wire, as far as it is known."""
    text = response.headers.find("Content-Length")
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _make_body(
    body: bytes | str | EvBuffer | Producer | None,
    length: int | None,
    json: object,
    form: Form | None,
    multipart: Multipart | None,
    arg: object,
) -> Body | None:
    """Return the one body that was given; raises ArgumentError for several."""
    if body is None and json is None and form is None and multipart is None:
        return None
    if sum(each is not None for each in (body, json, form, multipart)) > 1:
        raise ArgumentError("one of body, json, form and multipart")
    if json is not None:
        return json_body(json)
    if form is not None:
        return form_body(form)
    if multipart is not None:
        if not isinstance(multipart, Multipart):
            raise ArgumentTypeError(f"multipart is a Multipart: {multipart!r}")
        return multipart
    if isinstance(body, EvBuffer):
        return _BufferBody(body)
    if isinstance(body, str):
        return BytesBody(body.encode(), "text/plain; charset=utf-8")
    if isinstance(body, (bytes, bytearray, memoryview)):
        return BytesBody(bytes(body))
    if not callable(body):
        raise ArgumentTypeError(f"a body is bytes, text, an EvBuffer or a producer: {body!r}")
    return StreamedBody(body, length, arg)


class _BufferBody:
    """A buffer of the program's: it is kept, and a copy by reference is sent."""

    content_type = None
    can_be_repeated = True

    def __init__(self, buffer: EvBuffer) -> None:
        self._kept = EvBuffer()
        self._kept.add_buffer(buffer)

    def put(self, request: HttpRequest) -> None:
        request.output_buffer.add_buffer_reference(self._kept)
