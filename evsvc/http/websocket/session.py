"""WsConnection: messages both ways over a bufferevent, whichever side opened it.

wsproto judges and makes the frames; here are the limits, the callbacks and the end.

The close: whoever wants to end sends a close frame, and the other answers it.  Then the server
ends the connection (RFC 6455 section 7.1.1); a peer that does not answer is cut off after
`close_s`.

Invariants
    * No message callback runs after a close frame was sent or received.
    * The close callback runs once, last of all.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from wsproto import events
from wsproto.connection import ConnectionState
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError as WsLocalProtocolError
from wsproto.utilities import RemoteProtocolError as WsRemoteProtocolError

from ...core import (
    BEV_EVENT_EOF,
    EV_READ,
    EV_WRITE,
    ArgumentError,
    ArgumentTypeError,
    BufferEvent,
    Event,
    StateError,
)
from ...core.checks import require_callable
from ...core.closing import Closing

if TYPE_CHECKING:
    from wsproto.connection import Connection

logger = logging.getLogger("evsvc.http")

MAX_REASON_BYTES = 123
"""What a close frame has room for beside its code (RFC 6455 section 5.5)."""


class FrameType(enum.IntEnum):
    """What a message is (WS_TEXT_FRAME, WS_BINARY_FRAME of ws.h)."""

    WS_TEXT_FRAME = 0x1
    WS_BINARY_FRAME = 0x2


WS_TEXT_FRAME = FrameType.WS_TEXT_FRAME
WS_BINARY_FRAME = FrameType.WS_BINARY_FRAME

MessageCallback = Callable[["WsConnection", FrameType, "str | bytes", Any], object]
"""Called as `cb(ws, type, data, arg)`: a str for a text, bytes for a binary message."""
WsCallback = Callable[["WsConnection", Any], object]
"""Called as `cb(ws, arg)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketOptions:
    """Limits for one WebSocket.  Raises ArgumentError when a number is not positive.

    max_message_bytes: of what is received, all its fragments together; more is closed with 1009.
    max_output_bytes:  how much may wait to be sent; sending more raises StateError.
    ping_s:            silence after which the peer is asked for a sign of life; None: never.
    pong_s:            how long it has to give one.
    close_s:           how long it has to answer a close frame.
    deflate:           whether messages are compressed where the peer can do it, too (RFC 7692).
    """

    max_message_bytes: int = 1024 * 1024
    max_output_bytes: int = 4 * 1024 * 1024
    ping_s: float | None = 30.0
    pong_s: float = 30.0
    close_s: float = 5.0
    deflate: bool = False

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not isinstance(value, bool) and value is not None and not value > 0:
                raise ArgumentError(f"{each.name} must be positive: {value!r}")


class WsConnection(Closing):
    """A WebSocket session (struct evws_connection); `accept` makes one of a request.

    bufferevent: what carries it; it is the session's.  subprotocol: what both sides agreed on, or
    None.  close_code, close_reason: what the peer's close frame said; 1005 without a code, 1006
    where the connection ended without a close frame, None while it is open.
    """

    __slots__ = (
        "_arg",
        "_cb",
        "_closecb",
        "_drainedcb",
        "_frames",
        "_heard",
        "_on_callback_failed",
        "_on_end",
        "_options",
        "_paused",
        "_pieces",
        "_pieces_bytes",
        "_pinged",
        "_timer",
        "bufferevent",
        "close_code",
        "close_reason",
        "subprotocol",
    )

    def __init__(
        self,
        bufferevent: BufferEvent,
        frames: Connection,
        cb: MessageCallback,
        arg: object,
        options: WebSocketOptions,
        *,
        subprotocol: str | None,
        on_end: Callable[[WsConnection], object],
        on_callback_failed: Callable[[Exception, object], object],
    ) -> None:
        require_callable(cb)
        self.bufferevent = bufferevent
        self._frames = frames
        self._cb: MessageCallback | None = cb
        self._arg: Any = arg
        self._options = options
        self.subprotocol = subprotocol
        self._on_end: Callable[[WsConnection], object] | None = on_end
        self._on_callback_failed = on_callback_failed
        self._closecb: tuple[WsCallback, Any] | None = None
        self._drainedcb: tuple[WsCallback, Any] | None = None
        self.close_code: int | None = None
        self.close_reason = ""
        self._pieces: list[Any] = []
        self._pieces_bytes = 0
        self._paused = self._pinged = False
        base = bufferevent.base
        self._heard = base.now
        self._timer = Event(base, -1, 0, self._on_timer)
        if options.ping_s is not None:
            self._timer.add(options.ping_s)
        bufferevent.set_timeouts(None, options.pong_s)
        bufferevent.setcb(None, None, self._on_event)
        bufferevent.set_datacb(self._on_data)
        bufferevent.enable(EV_READ | EV_WRITE)

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._on_end is not None and self._frames.state is ConnectionState.OPEN

    @property
    def unsent_bytes(self) -> int:
        """How many bytes wait to be sent."""
        return self.bufferevent.output.length

    def send_text(self, text: str) -> None:
        """Send a text message (evws_send_text).

        Raises ArgumentTypeError for what is no str, StateError when the session is not open, or
        more than `max_output_bytes` would wait to be sent.
        """
        if not isinstance(text, str):
            raise ArgumentTypeError(f"a text message is a str, not {type(text).__name__}")
        self._send_message(events.TextMessage(data=text))

    def send_binary(self, data: bytes | bytearray | memoryview) -> None:
        """Send a binary message (evws_send_binary).  Raises as `send_text`, for bytes."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise ArgumentTypeError(f"a binary message is bytes, not {type(data).__name__}")
        self._send_message(events.BytesMessage(data=bytes(data)))

    def send_fragment(self, data: str | bytes, *, is_last: bool) -> None:
        """Send a piece of a message; all its pieces are of one type.  Raises as `send_text`."""
        if isinstance(data, str):
            self._send_message(events.TextMessage(data=data, message_finished=is_last))
        else:
            self._send_message(events.BytesMessage(data=data, message_finished=is_last))

    def ping(self, payload: bytes = b"") -> None:
        """Ask the peer for a sign of life.  Raises as `send_binary`, ArgumentError beyond 125."""
        if len(payload) > 125:
            raise ArgumentError(f"the payload of a ping has 125 bytes at most: {len(payload)}")
        self._send_message(events.Ping(payload=payload))

    def set_closecb(self, cb: WsCallback | None, arg: object = None) -> None:
        """Call `cb(ws, arg)` once, when the session has ended, whoever ended it.

        Source: evws_connection_set_closecb.
        """
        if cb is not None:
            require_callable(cb)
        self._closecb = None if cb is None else (cb, arg)

    def set_drainedcb(self, cb: WsCallback | None, arg: object = None) -> None:
        """Call `cb(ws, arg)` whenever all that was sent has been handed to the kernel."""
        if cb is not None:
            require_callable(cb)
        self._drainedcb = None if cb is None else (cb, arg)
        if self._on_end is not None:
            writecb = None if cb is None else self._on_drained
            self.bufferevent.setcb(None, writecb, self._on_event)

    def pause(self) -> None:
        """Take no messages for now: the peer is held back.  Safe to repeat."""
        if self._on_end is not None and not self._paused:
            self._paused = True
            self.bufferevent.disable(EV_READ)

    def resume(self) -> None:
        """Take messages again.  Safe to repeat."""
        if self._on_end is not None and self._paused:
            self._paused = False
            self.bufferevent.enable(EV_READ)

    def shutdown(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame after all messages, and end when the peer answers it (evws_close).

        code: 1000 to 1014 but for those that are never sent, or 3000 to 4999; reason: 123 bytes of
        UTF-8 at most.  Raises ArgumentError for others.  Nothing happens where the end has begun.
        """
        if not ((1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999):
            raise ArgumentError(f"not a code that is sent with a close: {code!r}")
        if len(reason.encode()) > MAX_REASON_BYTES:
            raise ArgumentError(f"a reason has {MAX_REASON_BYTES} bytes at most: {reason!r}")
        if self.is_open:
            self._send(events.CloseConnection(code=code, reason=reason))
            self._paused = False
            self.bufferevent.enable(EV_READ)
            self._timer.add(self._options.close_s)

    def close(self) -> None:
        """End it at once, without a close frame.  Safe to repeat (evws_connection_free)."""
        on_end, self._on_end = self._on_end, None
        if on_end is None:
            return
        if self.close_code is None:
            self.close_code = 1006
        self._timer.close()
        self.bufferevent.close()
        self._cb = self._arg = None
        self._pieces.clear()
        on_end(self)
        closecb, self._closecb = self._closecb, None
        self._drainedcb = None
        if closecb is not None:
            self._run(closecb[0], closecb[1])

    def _send_message(self, event: events.Event) -> None:
        if not self.is_open:
            raise StateError("the WebSocket is closing, or closed")
        if self.unsent_bytes > self._options.max_output_bytes:
            raise StateError(
                f"{self.unsent_bytes} bytes wait to be sent, {self._options.max_output_bytes} "
                "are allowed: see set_drainedcb"
            )
        self._send(event)

    def _send(self, event: events.Event) -> None:
        try:
            data = self._frames.send(event)
        except WsLocalProtocolError as exc:
            raise StateError(f"the WebSocket cannot send that now: {exc}") from exc
        self.bufferevent.write(data)

    def _run(self, cb: Callable[..., object], *args: object) -> None:
        try:
            cb(self, *args)
        except Exception as exc:
            self._on_callback_failed(exc, self)
            self._fail(CloseReason.INTERNAL_ERROR, "")

    def _fail(self, code: int, reason: str) -> None:
        if self.is_open:
            self._send(events.CloseConnection(code=code, reason=reason))
            self._end_soon()

    def _end_soon(self) -> None:
        """End when what is left is sent and the peer has closed, or its time is over."""
        self._cb = None
        self._timer.add(self._options.close_s)
        self.bufferevent.setcb(None, self._on_last_sent, self._on_event)
        self.bufferevent.enable(EV_WRITE)

    def _on_last_sent(self, bev: BufferEvent, ctx: object) -> None:
        self.close()

    def _on_data(self, bev: BufferEvent, data: bytes, ctx: object) -> None:
        self.receive(data)

    def receive(self, data: bytes) -> None:
        """Take bytes of the peer; those that came behind the handshake are given here."""
        if self._on_end is None:
            return
        self._heard = self.bufferevent.base.now
        self._pinged = False
        frames = self._frames
        try:
            frames.receive_data(data)
            for event in frames.events():
                self._on_frame(event)
                if self._on_end is None:
                    return
        except WsRemoteProtocolError as exc:
            logger.info("WebSocket: %s", exc)
            self._fail(CloseReason.PROTOCOL_ERROR, "")

    def _on_frame(self, event: events.Event) -> None:
        if isinstance(event, events.Message):
            self._on_piece(event)
        elif isinstance(event, events.Ping):
            if self.is_open:
                self._send(event.response())
        elif isinstance(event, events.CloseConnection):
            if self._frames.state is ConnectionState.OPEN:  # wsproto's word for a bad frame
                logger.info("WebSocket: %s", event.reason)
                self._fail(event.code, (event.reason or "")[:MAX_REASON_BYTES])
                return
            self.close_code = event.code
            self.close_reason = event.reason or ""
            if self._frames.state is ConnectionState.REMOTE_CLOSING:
                self._send(event.response())
            self._end_soon()

    def _on_piece(self, event: events.Message[Any]) -> None:
        data = event.data
        size = len(data.encode()) if isinstance(data, str) else len(data)
        self._pieces_bytes += size
        if self._pieces_bytes > self._options.max_message_bytes:
            self._pieces.clear()
            logger.info("WebSocket: a message of more than %d bytes", self._pieces_bytes)
            self._fail(CloseReason.MESSAGE_TOO_BIG, "")
            return
        self._pieces.append(data if isinstance(data, str) else bytes(data))
        if not event.message_finished:
            return
        pieces, self._pieces = self._pieces, []
        self._pieces_bytes = 0
        if self._cb is not None and self._frames.state is ConnectionState.OPEN:
            if isinstance(data, str):
                self._run(self._cb, WS_TEXT_FRAME, "".join(pieces), self._arg)
            else:
                self._run(self._cb, WS_BINARY_FRAME, b"".join(pieces), self._arg)

    def _on_drained(self, bev: BufferEvent, ctx: object) -> None:
        if self._drainedcb is not None:
            self._run(self._drainedcb[0], self._drainedcb[1])

    def _on_event(self, bev: BufferEvent, what: int, ctx: object) -> None:
        if not what & BEV_EVENT_EOF:
            logger.info("WebSocket: %s", bev.error or "the peer takes nothing any more")
        self.close()

    def _on_timer(self, fd: int, what: int, arg: object) -> None:
        options = self._options
        if not self.is_open or options.ping_s is None:
            self.close()
            return
        wait = options.pong_s if self._pinged else options.ping_s
        left = self._heard + wait + (options.ping_s if self._pinged else 0.0)
        left -= self.bufferevent.base.now
        if left > 0:
            self._timer.add(left)
        elif self._pinged:
            logger.info("WebSocket: no sign of life for %.1f s", options.ping_s + options.pong_s)
            self.close()
        else:
            self._pinged = True
            self._send(events.Ping(payload=b""))
            self._timer.add(options.pong_s)
