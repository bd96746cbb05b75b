"""Server-sent events: a reply that lasts, of small texts (WHATWG HTML, section 9.2).

It is an ordinary reply in pieces.  What is its own: the format, a sign of life while there is
nothing to say, and a bound for what a client that does not read may have waiting.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ...core import Event
from ...core.checks import check_limits, require_callable
from ...core.closing import Closing
from ...core.errors import ArgumentError, ArgumentTypeError

if TYPE_CHECKING:
    from .handle import ServerConnection
    from .request import ServerRequest

StreamCallback = Callable[["EventStream", Any], object]
"""Called as `cb(stream, arg)`."""

# The line ends of the format, and no others: str.splitlines() knows seven more.
_LINE_END: Final = re.compile(r"\r\n|\r|\n")

_HEARTBEAT: Final = b":\n\n"

_FIELDS: Final = (
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-store"),
    ("X-Accel-Buffering", "no"),  # nginx would gather a page of it before it sends any
)


class StreamEnd(enum.Enum):
    """Why a stream has ended.

    CLOSED: by the program.  GONE: the client has gone.  OVERFLOW: it did not read, and more than
    `max_backlog_bytes` would have waited.  STOPPED: the server stops.
    """

    CLOSED = "closed"
    GONE = "gone"
    OVERFLOW = "overflow"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStreamOptions:
    """How a stream of events behaves.

    Raises ArgumentError when a number is not positive, or has no end, or `stop_event` holds a line
    end; ArgumentTypeError for no number.

    heartbeat_s:       after so long without an event a comment is sent, so that proxies keep the
                       connection, and a client that has gone is noticed; None for never.
    retry_ms:          told to the client first: how long it is to wait before it connects again;
                       None leaves it to the client.
    max_backlog_bytes: may wait to be sent; an event beyond is not sent.
    ends_on_overflow:  whether such an event ends the stream, so that the client comes again with
                       the id of the last that it has; else `send` says False, and no more.
    stop_event:        the name of the event that tells that the server stops; None sends none.
    stop_grace_s:      so long after it the stream ends, if the program has not ended it.
    """

    heartbeat_s: float | None = 15.0
    retry_ms: int | None = None
    max_backlog_bytes: int = 256 * 1024
    ends_on_overflow: bool = True
    stop_event: str | None = "stop"
    stop_grace_s: float = 5.0

    def __post_init__(self) -> None:
        check_limits(self, or_none=("heartbeat_s", "retry_ms"))
        if self.stop_event is not None:
            format_event("", self.stop_event)


class EventStream(Closing):
    """A stream of events to one client; `request.start_event_stream` makes it.

    request: what the client asked.  last_event_id: the id of the last event that it has had of an
    earlier stream, or None.  end: why it has ended; None while it is open.
    """

    __slots__ = (
        "_base",
        "_closecb",
        "_drainedcb",
        "_options",
        "_quiet_since",
        "_server",
        "_stopcb",
        "_stops_at",
        "_timer",
        "end",
        "last_event_id",
        "request",
    )

    def __init__(self, request: ServerRequest, options: EventStreamOptions) -> None:
        self.request = request
        self._options = options
        self.end: StreamEnd | None = None
        self.last_event_id = _last_event_id(request)
        self._closecb: tuple[StreamCallback, Any] | None = None
        self._drainedcb: tuple[StreamCallback, Any] | None = None
        self._stopcb: tuple[StreamCallback, Any] | None = None
        self._stops_at: float | None = None
        headers = request.output_headers
        for name, value in _FIELDS:
            if name not in headers:
                headers.add(name, value)
        connection = request.connection
        request.send_reply_start(200)
        if connection is None or request.method == "HEAD":
            request.send_reply_end()
            self.end = StreamEnd.GONE if connection is None else StreamEnd.CLOSED
            return
        self._base = base = connection.base
        self._quiet_since = base.now
        self._timer = Event(base, -1, 0, self._on_timer)
        self._server = server = connection.server
        request.set_on_gone_cb(self._on_gone)
        if options.retry_ms is not None:
            request.send_reply_chunk(b"retry: %d\n\n" % options.retry_ms)
        self._set_timer()
        server.adopt_stream(self)

    @property
    def is_open(self) -> bool:
        """Whether events can be sent."""
        return self.end is None

    @property
    def backlog_bytes(self) -> int:
        """How many bytes wait to be sent to the client."""
        connection = self._connection
        return 0 if connection is None else len(connection.bufferevent.output)

    def send(
        self,
        data: str,
        *,
        event: str | None = None,
        id: str | None = None,  # noqa: A002  # the name of the field
        retry_ms: int | None = None,
    ) -> bool:
        """Send an event; whether it was taken.

        data: of any number of lines; line ends come out as "\\n".  event: its type, "message"
        where there is none.  id: what the client sends as Last-Event-ID when it comes again.
        retry_ms: how long it is to wait before that.

        False when the stream has ended, or the client has not read `max_backlog_bytes`: an event
        is sent whole or not at all.  Raises ArgumentError for a line end in `event` or `id`, a NUL
        in `id`, a negative `retry_ms`, or a text that UTF-8 cannot have; ArgumentTypeError for
        what is no text.
        """
        return self._put(format_event(data, event, id, retry_ms))

    def comment(self, text: str = "") -> bool:
        """Send a comment, which no client sees; whether it was taken.  Raises as `send`."""
        return self._put(_encode("".join(f": {line}\n" for line in _lines(text)) + "\n"))

    def set_closecb(self, cb: StreamCallback | None, arg: object = None) -> None:
        """Call `cb(stream, arg)` once, when the stream has ended, whoever ended it.

        From the loop when it was the client; at once where the program closes it.  Not for one
        that has ended already.  Raises ArgumentTypeError for what cannot be called.
        """
        self._closecb = _callback(cb, arg)

    def set_drainedcb(self, cb: StreamCallback | None, arg: object = None) -> None:
        """Call `cb(stream, arg)` from the loop each time when all that was sent is on its way.

        Raises ArgumentTypeError for what cannot be called.
        """
        self._drainedcb = _callback(cb, arg)

    def set_stopcb(self, cb: StreamCallback | None, arg: object = None) -> None:
        """Call `cb(stream, arg)` when the server stops, before `stop_event` is sent.

        Raises ArgumentTypeError for what cannot be called.
        """
        self._stopcb = _callback(cb, arg)

    def close(self) -> None:
        """End the stream; what was sent still arrives.  Safe to repeat.

        A browser connects again then; one that asks again is held off by a reply of 204.
        """
        self._finish(StreamEnd.CLOSED)

    def shutdown(self, code: int) -> None:
        """Tell the client that the server stops, and end in `stop_grace_s`; the server calls it."""
        if self.end is not None or self._stops_at is not None:
            return
        self._stops_at = self._base.now + self._options.stop_grace_s
        if self._stopcb is not None:
            self._run(self._stopcb)
        if self.end is None and self._options.stop_event is not None:
            self._put(format_event("", self._options.stop_event))
        if self.end is None:
            self._set_timer()

    @property
    def _connection(self) -> ServerConnection | None:
        return None if self.end is not None else self.request.connection

    def _put(self, data: bytes) -> bool:
        if self.end is not None:
            return False
        if self.backlog_bytes + len(data) > self._options.max_backlog_bytes:
            if self._options.ends_on_overflow:
                self._break_off()
            return False
        self._quiet_since = self._base.now
        if self._drainedcb is None:
            self.request.send_reply_chunk(data)
        else:
            self.request.send_reply_chunk(data, self._on_drained)
        return True

    def _break_off(self) -> None:
        connection = self._connection
        self._let_go(StreamEnd.OVERFLOW)
        if connection is not None:
            connection.close()  # the end of a whole reply would wait behind what is not read
        self._tell_end()

    def _finish(self, end: StreamEnd) -> None:
        if self.end is None:
            self._let_go(end)
            self.request.send_reply_end()
            self._tell_end()

    def _let_go(self, end: StreamEnd) -> None:
        self.end = end
        self._timer.close()
        self._drainedcb = self._stopcb = None
        self._server.forget_stream(self)

    def _tell_end(self) -> None:
        closecb, self._closecb = self._closecb, None
        if closecb is not None:
            self._run(closecb)

    def _run(self, callback: tuple[StreamCallback, Any]) -> None:
        """Call the program; what it raises ends no loop."""
        self._server.service.run(callback, self)

    def _on_drained(self, connection: object, arg: object) -> None:
        if self.end is None and self._drainedcb is not None:
            self._run(self._drainedcb)

    def _on_gone(self, request: object, arg: object) -> None:
        self._finish(StreamEnd.GONE)

    def _set_timer(self) -> None:
        """Set it for the next sign of life, or the end; an event moves the former by a store."""
        now = self._base.now
        waits = []
        if self._options.heartbeat_s is not None:
            waits.append(self._quiet_since + self._options.heartbeat_s - now)
        if self._stops_at is not None:
            waits.append(self._stops_at - now)
        if waits:
            self._timer.add(max(min(waits), 0))

    def _on_timer(self, fd: int, what: int, arg: object) -> None:
        now = self._base.now
        if self._stops_at is not None and now >= self._stops_at:
            self._finish(StreamEnd.STOPPED)
            return
        heartbeat_s = self._options.heartbeat_s
        if heartbeat_s is not None and now >= self._quiet_since + heartbeat_s:
            self._quiet_since = now
            if not self.backlog_bytes:  # who does not read needs no sign
                self._put(_HEARTBEAT)
        if self.end is None:
            self._set_timer()


def format_event(
    data: str,
    event: str | None = None,
    event_id: str | None = None,
    retry_ms: int | None = None,
) -> bytes:
    """Return an event as it goes over the wire; see EventStream.send."""
    text = ""
    if event is not None:
        text = f"event: {_one_line('event', event)}\n"
    if event_id is not None:
        if "\0" in event_id:
            raise ArgumentError(f"an id has no NUL: {event_id!r}")
        text = f"{text}id: {_one_line('id', event_id)}\n"
    if retry_ms is not None:
        if retry_ms < 0:
            raise ArgumentError(f"retry_ms must not be negative: {retry_ms!r}")
        text = f"{text}retry: {retry_ms:d}\n"
    lines = "\ndata: ".join(_lines(data))
    return _encode(f"{text}data: {lines}\n\n")


def _lines(text: str) -> list[str]:
    if not isinstance(text, str):
        raise ArgumentTypeError(f"the text of an event is a str, not {type(text).__name__}")
    # Most have one line, and go to many listeners: to look first is 1 of 3 us cheaper.
    return [text] if "\n" not in text and "\r" not in text else _LINE_END.split(text)


def _one_line(name: str, text: str) -> str:
    lines = _lines(text)
    if len(lines) > 1:
        raise ArgumentError(f"{name} has no line end: {text!r}")
    return text


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise ArgumentError(f"not a text that UTF-8 can have: {text!r}") from exc


def _callback(cb: StreamCallback | None, arg: object) -> tuple[StreamCallback, Any] | None:
    if cb is None:
        return None
    require_callable(cb)
    return cb, arg


def _last_event_id(request: ServerRequest) -> str | None:
    value = request.input_headers.find("Last-Event-ID")
    return None if value is None else value.encode("latin-1").decode(errors="replace")
