"""WsConnection: messages both ways over a bufferevent, whichever side opened it.

Frames are read and made by wsproto, the ordinary ones by hand (`frames`); here are the limits, the
callbacks and the end.

The close: whoever wants to end sends a close frame, and the other answers it.  Then the server
ends the connection, and the client waits for that (RFC 6455 section 7.1.1); a peer that does not
do its part is cut off after `close_s`.

Reading stands still while the program has paused it, and while so much waits to be sent that the
peer had better read first.  What has been received by then waits unread: one read at the most.

Invariants
    * `_phase` moves as `NEXT` says, and no other way.
    * No message callback runs after a close frame was sent or received, nor while it is paused.
    * The close callback runs once, last of all.
"""

from __future__ import annotations

import enum
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wsproto import events
from wsproto.connection import ConnectionState
from wsproto.frame_protocol import CloseReason

from ...core import (
    BEV_EVENT_EOF,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    AbstractBufferEvent,
    ArgumentError,
    ArgumentTypeError,
    Event,
    StateError,
)
from ...core.checks import check_limits, require_callable
from ...core.closing import Closing
from .frames import FrameReader, ordinary_frame

if TYPE_CHECKING:
    from wsproto.connection import Connection

    from .deflate import Deflate

logger = logging.getLogger("evsvc.http")

MAX_REASON_BYTES = 123
"""What a close frame has room for beside its code (RFC 6455 section 5.5)."""

# A payload that is smaller is joined to its head; a larger one is sent from where it lies.
_JOIN_BYTES = 16 * 1024

MAX_PING_BYTES = 125
"""What a control frame has room for (RFC 6455 section 5.5)."""


class FrameType(enum.IntEnum):
    """What a message is (WS_TEXT_FRAME, WS_BINARY_FRAME of ws.h)."""

    WS_TEXT_FRAME = 0x1
    WS_BINARY_FRAME = 0x2


WS_TEXT_FRAME = FrameType.WS_TEXT_FRAME
WS_BINARY_FRAME = FrameType.WS_BINARY_FRAME


class CloseCode(enum.IntEnum):
    """The codes of a close that ws.h names; `shutdown` takes others, too.

    WS_CR_NONE: the close frame has no code.
    """

    WS_CR_NONE = 0
    WS_CR_NORMAL = 1000
    WS_CR_PROTO_ERR = 1002
    WS_CR_DATA_TOO_BIG = 1009


WS_CR_NONE = CloseCode.WS_CR_NONE
WS_CR_NORMAL = CloseCode.WS_CR_NORMAL
WS_CR_PROTO_ERR = CloseCode.WS_CR_PROTO_ERR
WS_CR_DATA_TOO_BIG = CloseCode.WS_CR_DATA_TOO_BIG

MessageCallback = Callable[["WsConnection", FrameType, "str | bytes", Any], object]
"""Called as `cb(ws, type, data, arg)`: a str for a text, bytes for a binary message."""
PongCallback = Callable[["WsConnection", bytes, Any], object]
"""Called as `cb(ws, payload, arg)`."""
WsCallback = Callable[["WsConnection", Any], object]
"""Called as `cb(ws, arg)`."""


class Phase(enum.Enum):
    """How far a session has come."""

    OPEN = enum.auto()
    CLOSING = enum.auto()  # our close frame is sent; the peer's is awaited
    ENDING = enum.auto()  # both are, or it has failed: send what is left, and read no more frames
    CLOSED = enum.auto()


class Step(enum.Enum):
    """What takes a session from one phase to another."""

    SHUTDOWN = enum.auto()
    PEER_CLOSED = enum.auto()
    FAILED = enum.auto()  # the peer broke a rule or a limit, or a callback raised
    CLOSE = enum.auto()


NEXT: dict[tuple[Phase, Step], Phase] = {
    (Phase.OPEN, Step.SHUTDOWN): Phase.CLOSING,
    (Phase.OPEN, Step.PEER_CLOSED): Phase.ENDING,
    (Phase.OPEN, Step.FAILED): Phase.ENDING,
    (Phase.CLOSING, Step.PEER_CLOSED): Phase.ENDING,
    (Phase.CLOSING, Step.FAILED): Phase.ENDING,
    **{(phase, Step.CLOSE): Phase.CLOSED for phase in Phase},
}

_OPEN, _CLOSING, _ENDING, _CLOSED = Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketOptions:
    """Limits for one WebSocket.

    Raises ArgumentError when a number is not positive, or has no end, ArgumentTypeError for no
    number.

    max_message_bytes: of what is received, all its fragments together, inflated; more ends the
                       session with 1009.
    max_fragments:     of one message that is received; more ends the session with 1008.
    max_output_bytes:  how much may wait to be sent: sending more raises StateError.  With half of
                       it waiting nothing is read, so that the peer has to take its answers first.
    ping_s:            silence after which the peer is asked for a sign of life; None: never.
    pong_s:            how long it has to give one.
    write_s:           a peer that takes nothing of what is sent for so long is dropped.
    close_s:           how long it has to answer a close frame.
    open_s:            how long a client has for all of the opening: look-up, connect, handshake.
    deflate:           whether messages are compressed where the peer can do it, too (RFC 7692).
    deflate_takeover:  whether earlier messages help to compress; it costs some 300 KiB a session.
    """

    max_message_bytes: int = 1024 * 1024
    max_fragments: int = 128 * 1024
    max_output_bytes: int = 4 * 1024 * 1024
    ping_s: float | None = 30.0
    pong_s: float = 30.0
    write_s: float = 60.0
    close_s: float = 5.0
    open_s: float = 30.0
    deflate: bool = False
    deflate_takeover: bool = True

    def __post_init__(self) -> None:
        check_limits(self, or_none=("ping_s",))


class WsConnection(Closing):
    """A WebSocket session (struct evws_connection).

    `accept` makes one of a server's request, `connect` one of a URL.

    bufferevent: what carries it; its callbacks are the session's
    (evws_connection_get_bufferevent).  subprotocol: what both sides agreed on, or None.
    close_code, close_reason: what the peer's close frame said; 1005 without a code, 1006 where the
    connection ended without a close frame, None while it is open.
    """

    __slots__ = (
        "_arg",
        "_cb",
        "_closecb",
        "_deflate",
        "_drainedcb",
        "_fragments",
        "_frames",
        "_gonecb",
        "_heard",
        "_is_backed_up",
        "_message_bytes",
        "_on_callback_failed",
        "_on_end",
        "_options",
        "_paused",
        "_phase",
        "_pieces",
        "_pinged",
        "_pongcb",
        "_pumping",
        "_reader",
        "_sending",
        "_timer",
        "bufferevent",
        "close_code",
        "close_reason",
        "subprotocol",
    )

    def __init__(
        self,
        bufferevent: AbstractBufferEvent,
        frames: Connection,
        cb: MessageCallback,
        arg: object,
        options: WebSocketOptions,
        rest: bytes,
        *,
        extension: Deflate,
        subprotocol: str | None,
        on_end: Callable[[WsConnection], object],
        on_callback_failed: Callable[[Exception, object], object],
    ) -> None:
        self.bufferevent = bufferevent
        self._frames = frames
        self._deflate = deflate = extension if extension.enabled() else None
        self._reader = FrameReader(frames, deflate, options.max_message_bytes)
        self._cb: MessageCallback | None = cb
        self._arg: Any = arg
        self._options = options
        self.subprotocol = subprotocol
        self._on_end = on_end
        self._on_callback_failed = on_callback_failed
        self._closecb: tuple[WsCallback, Any] | None = None
        self._drainedcb: tuple[WsCallback, Any] | None = None
        self._gonecb: tuple[WsCallback, Any] | None = None
        self._pongcb: tuple[PongCallback, Any] | None = None
        self.close_code: int | None = None
        self.close_reason = ""
        self._phase = _OPEN
        self._pieces: io.StringIO | io.BytesIO | None = None  # of the message that is coming
        self._message_bytes = self._fragments = 0  # of the same
        self._sending: FrameType | None = None  # a message whose last piece is still to be sent
        self._paused = self._pinged = self._is_backed_up = self._pumping = False
        base = bufferevent.base
        self._heard = base.now
        self._timer = Event(base, -1, 0, self._on_timer)
        if options.ping_s is not None:
            self._timer.add(options.ping_s)
        bufferevent.set_timeouts(None, options.write_s)
        bufferevent.setcb(None, None, self._on_event)
        bufferevent.set_datacb(self._on_data)
        bufferevent.enable(EV_READ | EV_WRITE)
        if rest:
            self._reader.receive(rest)
            base.once(-1, EV_TIMEOUT, self._on_turn)

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._phase is _OPEN

    @property
    def unsent_bytes(self) -> int:
        """How many bytes wait to be sent."""
        return self.bufferevent.output.length

    def send_text(self, text: str) -> None:
        """Send a text message (evws_send_text).

        Raises ArgumentTypeError for what is no str, ArgumentError for one that is no Unicode,
        StateError when the session is not open, within a message of `send_fragment`, or when more
        than `max_output_bytes` wait to be sent already.
        """
        if not isinstance(text, str):
            raise ArgumentTypeError(f"a text message is a str, not {type(text).__name__}")
        self._send_message(text)

    def send_binary(self, data: bytes | bytearray | memoryview) -> None:
        """Send a binary message (evws_send_binary).  Raises as `send_text`, for bytes."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise ArgumentTypeError(f"a binary message is bytes, not {type(data).__name__}")
        self._send_message(bytes(data))

    def send_fragment(
        self, data: str | bytes | bytearray | memoryview, *, is_last: bool = False
    ) -> None:
        """Send a piece of a message that is sent as it comes to be (RFC 6455 section 5.4).

        All its pieces are of one type; pings and pongs may go between them, messages not.  Raises
        ArgumentTypeError for another type than before, and else as `send_text`.
        """
        if isinstance(data, str):
            kind = WS_TEXT_FRAME
        elif isinstance(data, (bytes, bytearray, memoryview)):
            kind = WS_BINARY_FRAME
        else:
            raise ArgumentTypeError(f"a piece is a str or bytes, not {type(data).__name__}")
        if self._sending not in (None, kind):
            raise ArgumentTypeError(f"the pieces of a message are of one type: {data!r:.40}")
        self._send_data(data if isinstance(data, str) else bytes(data), is_last)
        self._sending = None if is_last else kind

    def ping(self, payload: bytes = b"") -> None:
        """Ask the peer for a sign of life; see `set_pongcb`.

        Raises StateError as `send_text`, ArgumentError for a payload of more than 125 bytes.
        """
        if len(payload) > MAX_PING_BYTES:
            raise ArgumentError(
                f"the payload of a ping has {MAX_PING_BYTES} bytes at most: {len(payload)}"
            )
        self._require_sending()
        self._send(events.Ping(payload=payload))

    def set_closecb(self, cb: WsCallback | None, arg: object = None) -> None:
        """Call `cb(ws, arg)` once, when the session has ended, whoever ended it.

        Raises ArgumentTypeError for what cannot be called.
        Source: evws_connection_set_closecb.
        """
        if cb is not None:
            require_callable(cb)
        self._closecb = None if cb is None else (cb, arg)

    def set_pongcb(self, cb: PongCallback | None, arg: object = None) -> None:
        """Call `cb(ws, payload, arg)` for each pong, those that answer our own pings among them.

        Raises ArgumentTypeError for what cannot be called.  Source: RFC 6455 section 5.5.3.
        """
        if cb is not None:
            require_callable(cb)
        self._pongcb = None if cb is None else (cb, arg)

    def set_gonecb(self, cb: WsCallback | None, arg: object = None) -> None:
        """Call `cb(ws, arg)` once, when the peer ends the connection while the session is paused.

        What it had sent before still comes with `resume`, and then the end.  Not all backends can
        see it: see `watch_end` of bufferevents.  Raises ArgumentTypeError for what cannot be
        called.
        """
        if cb is not None:
            require_callable(cb)
        self._gonecb = None if cb is None else (cb, arg)
        if self._paused:
            self.bufferevent.watch_end(None if cb is None else self._on_gone)

    def set_drainedcb(self, cb: WsCallback | None, arg: object = None) -> None:
        """Call `cb(ws, arg)` whenever all that was sent has been handed to the kernel.

        Raises ArgumentTypeError for what cannot be called.
        """
        if cb is not None:
            require_callable(cb)
        self._drainedcb = None if cb is None else (cb, arg)
        if self._phase is _OPEN or self._phase is _CLOSING:
            self._watch_output()

    def pause(self) -> None:
        """Take no messages for now: the peer is held back.  Safe to repeat.

        Nothing is read meanwhile, not even a pong, and the silence does not count; for the peer's
        end see `set_gonecb`.
        """
        if self._phase is _OPEN and not self._paused:
            self._paused = True
            self.bufferevent.disable(EV_READ)
            if self._gonecb is not None:
                self.bufferevent.watch_end(self._on_gone)

    def resume(self) -> None:
        """Take messages again, from the loop.  Safe to repeat."""
        if self._paused:
            self._end_pause()

    def shutdown(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame after all messages, and end when the peer answers it (evws_close).

        code: 1000 to 1014 but for those that are never sent, 3000 to 4999, or WS_CR_NONE; reason:
        123 bytes of UTF-8 at most, and none without a code.  Raises ArgumentError for others.
        Nothing happens where the end has begun.
        """
        named = (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999
        if not named and (code != WS_CR_NONE or reason):
            raise ArgumentError(f"not what is sent with a close: {code!r} {reason!r}")
        if len(reason.encode()) > MAX_REASON_BYTES:
            raise ArgumentError(f"a reason has {MAX_REASON_BYTES} bytes at most: {reason!r}")
        if self._phase is _OPEN:
            if not named:
                self._send(events.CloseConnection(code=CloseReason.NO_STATUS_RCVD))
            else:
                self._send(events.CloseConnection(code=code, reason=reason))
            self._step(Step.SHUTDOWN)
            self._timer.add(self._options.close_s)
            self._end_pause()

    def close(self) -> None:
        """End it at once, without a close frame.  Safe to repeat (evws_connection_free)."""
        if self._phase is _CLOSED:
            return
        self._step(Step.CLOSE)
        self._paused = self._is_backed_up = False
        if self.close_code is None:
            self.close_code = CloseReason.ABNORMAL_CLOSURE
        self._timer.close()
        self.bufferevent.close()
        self._cb = self._arg = self._pieces = None
        self._drainedcb = self._gonecb = self._pongcb = None
        self._on_end(self)
        closecb, self._closecb = self._closecb, None
        if closecb is not None:
            self._run(*closecb)

    def _step(self, step: Step) -> None:
        self._phase = NEXT[self._phase, step]

    def _require_sending(self) -> None:
        """Raise StateError where nothing can be sent."""
        if self._phase is not _OPEN:
            raise StateError("the WebSocket is closing, or closed")
        if self.unsent_bytes > self._options.max_output_bytes:
            raise StateError(
                f"{self.unsent_bytes} bytes wait to be sent, {self._options.max_output_bytes} "
                "are allowed: see set_drainedcb"
            )

    def _send_message(self, message: str | bytes) -> None:
        if self._sending is not None:
            raise StateError("a message is not sent to its end: see send_fragment")
        self._require_sending()
        try:
            head, payload = ordinary_frame(message, self._deflate, is_client=self._frames.client)
        except UnicodeEncodeError as exc:
            raise ArgumentError(f"a text message is Unicode: {exc}") from exc
        if len(payload) < _JOIN_BYTES:
            self.bufferevent.write(head + payload)
        else:
            self.bufferevent.write(head)
            self.bufferevent.write(payload)

    def _send_data(self, data: str | bytes, is_last: bool) -> None:
        self._require_sending()
        event: events.Event
        if isinstance(data, str):
            event = events.TextMessage(data=data, message_finished=is_last)
        else:
            event = events.BytesMessage(data=data, message_finished=is_last)
        try:
            self._send(event)
        except UnicodeEncodeError as exc:
            raise ArgumentError(f"a text message is Unicode: {exc}") from exc

    def _send(self, event: events.Event) -> None:
        self.bufferevent.write(self._frames.send(event))

    def _run(self, cb: Callable[..., object], *args: object) -> None:
        try:
            cb(self, *args)
        except Exception as exc:
            self._fail(CloseReason.INTERNAL_ERROR, "")
            self._on_callback_failed(exc, self)

    def _fail(self, code: int, reason: str) -> None:
        """End it for a fault (RFC 6455 section 7.1.7): the peer is told, and not waited for."""
        if self._phase is _OPEN:
            self._send(events.CloseConnection(code=code, reason=reason))
        if self._phase is _OPEN or self._phase is _CLOSING:
            self._step(Step.FAILED)
            self._end_soon()

    def _end_soon(self) -> None:
        """End when what is left is sent, and the server has ended the connection, or the time is
        over."""
        self._cb = self._pieces = None
        self._timer.add(self._options.close_s)
        self.bufferevent.setcb(None, self._on_last_sent, self._on_event)
        self.bufferevent.enable(EV_READ | EV_WRITE)

    def _on_last_sent(self, bev: AbstractBufferEvent, ctx: object) -> None:
        if self._frames.client:
            bev.setcb(None, None, self._on_event)
        else:
            self.close()

    def _on_data(self, bev: AbstractBufferEvent, data: bytes, ctx: object) -> None:
        if self._phase is _OPEN or self._phase is _CLOSING:
            self._heard = self.bufferevent.base.now
            self._pinged = False
            self._reader.receive(data)
            self._pump()

    def _on_turn(self, fd: int, what: int, arg: object) -> None:
        if not self._paused and not self._is_backed_up:
            self._pump()

    def _end_pause(self) -> None:
        self._paused = False
        self.bufferevent.watch_end(None)
        self._read_on()

    def _on_gone(self) -> None:
        gonecb, self._gonecb = self._gonecb, None
        if gonecb is not None:
            self._run(*gonecb)

    def _read_on(self) -> None:
        """Nothing holds the peer back any more, or one thing less."""
        if not self._paused and not self._is_backed_up:
            base = self.bufferevent.base
            self._heard = base.now
            self.bufferevent.enable(EV_READ)
            base.once(-1, EV_TIMEOUT, self._on_turn)

    def _pump(self) -> None:
        """Take the frames that have come, until there are no more, or they have to wait."""
        if self._pumping or self._phase is _ENDING or self._phase is _CLOSED:
            return
        self._pumping = True
        try:
            while (event := self._reader.next()) is not None:
                if isinstance(event, (str, bytes)):
                    if self._phase is _OPEN:
                        self._tell(event)
                else:
                    self._on_frame(event)
                if self._phase is _OPEN:
                    if self.unsent_bytes > self._options.max_output_bytes // 2:
                        self._back_up()
                    if self._paused or self._is_backed_up:
                        return
                elif self._phase is not _CLOSING:
                    return
        finally:
            self._pumping = False

    def _on_frame(self, event: events.Event) -> None:
        if isinstance(event, events.Message):
            self._on_piece(event)
        elif isinstance(event, events.Ping):
            if self._phase is _OPEN:
                self._send(event.response())
        elif isinstance(event, events.Pong):
            if self._phase is _OPEN and self._pongcb is not None:
                cb, arg = self._pongcb
                self._run(cb, bytes(event.payload), arg)
        elif isinstance(event, events.CloseConnection):
            self._on_close_frame(event)

    def _on_close_frame(self, event: events.CloseConnection) -> None:
        state = self._frames.state
        if state is ConnectionState.OPEN or state is ConnectionState.LOCAL_CLOSING:
            # No close frame: it is wsproto's word for a frame that breaks the protocol.
            logger.info("WebSocket: %s", event.reason)
            self._fail(event.code, event.reason or "")
            return
        self.close_code = int(event.code)
        self.close_reason = event.reason or ""
        if state is ConnectionState.REMOTE_CLOSING:
            self._send(event.response())
        self._step(Step.PEER_CLOSED)
        self._end_soon()

    def _on_piece(self, event: events.Message[Any]) -> None:
        """Take what has come of a message; one read may well end within a frame."""
        if self._phase is not _OPEN:
            return
        data = event.data
        is_text = isinstance(data, str)
        self._message_bytes += len(data.encode()) if is_text and not data.isascii() else len(data)
        self._fragments += event.frame_finished
        if self._message_bytes > self._options.max_message_bytes:
            logger.info("WebSocket: a message of more than %d bytes", self._message_bytes - 1)
            self._fail(CloseReason.MESSAGE_TOO_BIG, "")
            return
        if self._fragments > self._options.max_fragments:
            logger.info("WebSocket: a message of more than %d fragments", self._fragments - 1)
            self._fail(CloseReason.POLICY_VIOLATION, "")
            return
        pieces = self._pieces
        if pieces is not None or not event.message_finished:
            if pieces is None:
                pieces = self._pieces = io.StringIO() if is_text else io.BytesIO()
            pieces.write(data)
        if event.message_finished:
            self._message_bytes = self._fragments = 0
            self._pieces = None
            self._tell(data if pieces is None else pieces.getvalue())

    def _tell(self, message: str | bytes) -> None:
        kind = WS_TEXT_FRAME if isinstance(message, str) else WS_BINARY_FRAME
        assert self._cb is not None
        self._run(self._cb, kind, message, self._arg)

    def _back_up(self) -> None:
        """So much waits to be sent that no more is read before the peer has taken it."""
        self._is_backed_up = True
        self.bufferevent.disable(EV_READ)
        self._watch_output()

    def _watch_output(self) -> None:
        wanted = self._is_backed_up or self._drainedcb is not None
        self.bufferevent.setcb(None, self._on_drained if wanted else None, self._on_event)

    def _on_drained(self, bev: AbstractBufferEvent, ctx: object) -> None:
        if self._is_backed_up:
            self._is_backed_up = False
            self._watch_output()
            self._read_on()
        if self._drainedcb is not None:
            self._run(*self._drainedcb)

    def _on_event(self, bev: AbstractBufferEvent, what: int, ctx: object) -> None:
        if not what & BEV_EVENT_EOF:
            logger.info("WebSocket: %s", bev.error or "the peer takes nothing any more")
        self.close()

    def _on_timer(self, fd: int, what: int, arg: object) -> None:
        options = self._options
        if self._phase is not _OPEN or options.ping_s is None:
            self.close()
            return
        now = self.bufferevent.base.now
        if self._paused or self._is_backed_up:  # a sign of life would not be seen
            self._heard = now
            self._pinged = False
        silence = now - self._heard
        if self._pinged:
            if silence < options.ping_s + options.pong_s:
                self._timer.add(options.ping_s + options.pong_s - silence)
                return
            logger.info("WebSocket: no sign of life for %.1f s", silence)
            self.close()
        elif silence < options.ping_s:
            self._timer.add(options.ping_s - silence)
        else:
            self._pinged = True
            self._send(events.Ping(payload=b""))
            self._timer.add(options.pong_s)
