"""How much and how long a server lets a client: every limit and time-out of `HttpServer`."""

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import IntFlag

from ..core import ConnectOptions
from ..core.checks import check_limits, whole_number
from ..core.errors import ArgumentError, ArgumentTypeError
from .wire.headers import Headers
from .wire.limits import ReaderLimits
from .wire.response_head import Leniency
from .wire.status import Method, method_names

_DEFAULT_METHODS = (
    Method.EVHTTP_REQ_GET
    | Method.EVHTTP_REQ_POST
    | Method.EVHTTP_REQ_HEAD
    | Method.EVHTTP_REQ_PUT
    | Method.EVHTTP_REQ_DELETE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Limits for one HTTP server.

    Raises ArgumentError when a number is not positive, or has no end, `default_content_type` no
    header value, or a name that of no method; ArgumentTypeError for what is no number, or no
    ReaderLimits.

    limits:               what one request may be; see `ReaderLimits`.
    allowed_methods:      EVHTTP_REQ_* bits, or names, of your own, too; any other is answered 501.
    default_content_type: for a reply with a body and no Content-Type; None adds none.
    max_connections:      at once; one more is answered 503 and closed.
    max_connections_per_peer: of those, from one address, or one /64 of IPv6; None is without limit.
    max_refused:          of those, how many are told so at once; one more is closed without.
    max_requests:         on one connection; the last one's reply closes it.
    max_stream_bytes:     a body that a path takes as it comes; None is unlimited.
    max_skip_bytes:       of a body whose request is answered before its end, this much more is
                          read, for `body_s` in all, so that the connection can live on.
    max_output_bytes:     no further request is read while more than this waits to be sent.
    handshake_s:          how long TLS may take to be set up.
    proxy_header_s:       how long the header of the PROXY protocol may take.
    head_s:               from a request's first byte to the end of its head; then 408.
    body_total_s:         from a body's beginning to its end, times aside in which the program holds
                          the client back; then 408.  None is as long as the others allow.
    body_min_bytes_per_s: a body that comes slower, all of its time but `body_grace_s` together, is
                          408; None is as slow as it likes.
    body_grace_s:         see there.
    max_bodies_bytes:     bodies together that are gathered, or were and are in the program's hands
                          until it has answered; who sends more gets 503.  What comes with a head,
                          in one read, does not count.  None is without limit.
    body_s:               silence inside a request's body; then 408.
    idle_s:               a connection without a request is closed after this; so is one whose
                          client has ended its side, while the program has its request.
    write_s:              a client that takes nothing of a reply for so long is dropped.
    write_min_bytes_per_s: a client that takes a reply slower, all of the time but `write_grace_s`
                          together, is dropped; None lets it.  It is looked at when it has been at
                          it for `idle_s`.
    write_grace_s:        see there; no less than `write_s`, as the kernel takes bytes by bursts.
    announces_keep_alive: tell clients `idle_s` by `Keep-Alive: timeout=`, so that a proxy does not
                          send its next request into a connection that is just being closed.
    linger_s:             how long what a refused client still sends is read and thrown away, so
                          that the refusal reaches it (RFC 9112 9.6).
    """

    limits: ReaderLimits = field(default_factory=ReaderLimits)
    allowed_methods: int | Collection[str] = _DEFAULT_METHODS
    default_content_type: str | None = "text/html; charset=ISO-8859-1"
    max_connections: int = 10_000
    max_connections_per_peer: int | None = None
    max_refused: int = 100
    max_requests: int = 1_000_000
    max_stream_bytes: int | None = None
    max_skip_bytes: int = 256 * 1024
    max_output_bytes: int = 1024 * 1024
    handshake_s: float = 10.0
    proxy_header_s: float = 5.0
    head_s: float = 30.0
    body_s: float = 30.0
    body_total_s: float | None = None
    body_min_bytes_per_s: int | None = 100
    body_grace_s: float = 30.0
    max_bodies_bytes: int | None = 1024 * 1024 * 1024
    idle_s: float = 60.0
    write_s: float = 60.0
    write_min_bytes_per_s: int | None = 100
    write_grace_s: float = 60.0
    announces_keep_alive: bool = False
    linger_s: float = 2.0

    def __post_init__(self) -> None:
        check_limits(
            self,
            or_none=(
                "max_connections_per_peer",
                "max_stream_bytes",
                "body_total_s",
                "body_min_bytes_per_s",
                "max_bodies_bytes",
                "write_min_bytes_per_s",
            ),
            but=("allowed_methods",),
        )
        _check_reader_limits(self.limits)
        method_names(self.allowed_methods)
        if self.default_content_type is not None:
            Headers((("Content-Type", self.default_content_type),))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """Limits for one client connection.

    A time of `math.inf` is for ever; TLS, writing and retries have an end.
    Raises ArgumentError when a number is not positive, or has no end, ArgumentTypeError for what is
    no number, ReaderLimits, Leniency or ConnectOptions.

    limits:       what one response may be; see `ReaderLimits`.
    connect_s:    look-up, connect and TLS together, seconds; libevent's 45.
    tls_s:        TLS's handshake, of that.
    read_s:       silence once the request is sent; libevent's 50.
    write_s:      silence while a request cannot be sent; libevent's 50.
    continue_s:   how long a body that goes with `Expect: 100-continue` waits for the server's
                  consent; then it is sent anyway (RFC 9110 10.1.1).
    idle_s:       a connection that was not used for so long is closed, and not used again; None is
                  for ever.  What the server says of it (Keep-Alive) counts, too.
    exchange_s:   all of one request, from `make_request` to the end of the response, the wait in
                  line included; None is as long as the others allow.
    max_stream_bytes: a response that a chunk callback takes as it comes; None is unlimited.
    max_queued:   requests that may wait for their turn on the connection.
    max_pipelined: requests that may be sent on the connection and not be answered (RFC 9112 9.3.2);
                  with 1 each waits for the answer before it.  See `HttpConnection`.
    pipelines_all: also such as are not idempotent, POST and others: where the connection ends, the
                  program cannot know whether those were done.
    max_interim:  interim responses (1xx) to one request; a server that sends more has failed.
    retry:        whether a request goes once more, over a new connection, when nothing of it was
                  sent, or when a connection that was kept alive ends without a byte of an answer
                  and the method is idempotent (RFC 9112 9.3.1).
    connect_retries: how often more a connection is tried that cannot be had; -1 is for ever.
    connect_retry_s: before the second attempt; doubled for each more, up to an hour.  libevent's 2.
    addresses:    how a host's addresses are tried; None is as ConnectOptions says.
    leniency:     what is borne of a server that does not keep to RFC 9112; nothing.
    """

    limits: ReaderLimits = field(default_factory=ReaderLimits)
    connect_s: float = 45.0
    tls_s: float = 10.0
    read_s: float = 50.0
    write_s: float = 50.0
    continue_s: float = 1.0
    idle_s: float | None = 60.0
    exchange_s: float | None = None
    max_stream_bytes: int | None = None
    max_queued: int = 1024
    max_pipelined: int = 1
    pipelines_all: bool = False
    max_interim: int = 32
    retry: bool = True
    connect_retries: int = 0
    connect_retry_s: float = 2.0
    addresses: ConnectOptions | None = None
    leniency: Leniency = Leniency.NONE

    def __post_init__(self) -> None:
        check_limits(
            self,
            or_none=("idle_s", "exchange_s", "max_stream_bytes"),
            endless=("connect_s", "read_s", "continue_s", "idle_s", "exchange_s"),
            but=("connect_retries",),
        )
        _check_reader_limits(self.limits)
        if whole_number(self.connect_retries, "connect_retries") < -1:
            raise ArgumentError(f"connect_retries is -1 or more: {self.connect_retries!r}")
        if not isinstance(self.leniency, Leniency):
            raise ArgumentTypeError(f"leniency is a Leniency: {self.leniency!r}")
        if not (self.addresses is None or isinstance(self.addresses, ConnectOptions)):
            raise ArgumentTypeError(f"addresses are ConnectOptions: {self.addresses!r}")


class ConnectionFlag(IntFlag):
    """What `HttpConnection.set_flags` takes, with libevent's values."""

    EVHTTP_CON_REUSE_CONNECTED_ADDR = 0x0008
    """Connect again to the address of the last connection, without looking the name up."""
    EVHTTP_CON_READ_ON_WRITE_ERROR = 0x0010
    """Read the response when writing has failed; always so."""


EVHTTP_CON_REUSE_CONNECTED_ADDR = ConnectionFlag.EVHTTP_CON_REUSE_CONNECTED_ADDR
EVHTTP_CON_READ_ON_WRITE_ERROR = ConnectionFlag.EVHTTP_CON_READ_ON_WRITE_ERROR


def _check_reader_limits(limits: object) -> None:
    if not isinstance(limits, ReaderLimits):
        raise ArgumentTypeError(f"limits are ReaderLimits: {limits!r}")
