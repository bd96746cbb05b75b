"""ServerStream: a stream that arrived, and how the handler takes and sends its messages."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ...core.checks import require_callable
from ...core.errors import StateError
from ...http.errors import LocalProtocolError
from ...http.wire.status import HTTP_OK
from ..definition import Rpc, RpcKind
from ..errors import PayloadError, RpcErrorCode
from ..failures import encode_failure
from ..frames import STREAM_SUFFIX, StreamOptions, encode_end, encode_message
from ..incoming import Incoming
from .arrived import ArrivedCall, CallHome
from .call import send_failure_body

if TYPE_CHECKING:
    from ..codecs.protocol import Codec
    from .carrier import CallCarrier

Request = TypeVar("Request")
Reply = TypeVar("Reply")

MessageCallback = Callable[["ServerStream[Request, Reply]", Request, Any], object]
"""Called as `on_message(stream, message, arg)`."""
EndCallback = Callable[["ServerStream[Request, Reply]", Any], object]
"""Called as `on_end(stream, arg)`."""

_log = logging.getLogger("evsvc.rpc")


class StreamState(enum.Enum):
    """How far our direction is."""

    OPEN = enum.auto()  # nothing is sent
    SENDING = enum.auto()
    DONE = enum.auto()


class StreamStep(enum.Enum):
    """What takes it from one state to the next."""

    SEND = enum.auto()
    END = enum.auto()


NEXT: dict[tuple[StreamState, StreamStep], StreamState] = {
    (StreamState.OPEN, StreamStep.SEND): StreamState.SENDING,
    (StreamState.SENDING, StreamStep.SEND): StreamState.SENDING,
    (StreamState.OPEN, StreamStep.END): StreamState.DONE,
    (StreamState.SENDING, StreamStep.END): StreamState.DONE,
}


class ServerStream(ArrivedCall[Request, Reply]):
    """A stream that arrived; a handler ends it by `end` or `fail`, at once or much later.

    `request` is the one of a SERVER_STREAM.
    """

    __slots__ = (
        "_backlog",
        "_drained_cb",
        "_end_cb",
        "_incoming",
        "_is_counted",
        "_message_arg",
        "_message_cb",
        "_options",
        "_refused",
        "_state",
    )

    def __init__(
        self,
        home: CallHome,
        rpc: Rpc[Request, Reply],
        http_request: CallCarrier,
        codec: Codec,
        options: StreamOptions,
        max_request_bytes: int | None,
        ended_cb: Callable[[], object] | None,
    ) -> None:
        super().__init__(home, rpc, http_request, codec, ended_cb)
        self._options = options
        self._state = StreamState.OPEN
        most = options.max_message_bytes
        if max_request_bytes is not None:
            most = min(most, max_request_bytes)
        self._incoming: Incoming[Request] = Incoming(codec, rpc.request_shape, most)
        self._message_cb: MessageCallback[Request, Reply] | None = None
        self._end_cb: EndCallback[Request, Reply] | None = None
        self._message_arg: Any = None
        self._drained_cb: tuple[Callable[[Any, Any], object], Any] | None = None
        self._backlog = 0
        self._refused = False  # a message, and nobody was told yet that there is room
        self._is_counted = False  # the one reply of a CLIENT_STREAM is sent

    @property
    def answered(self) -> bool:
        """Whether `end` or `fail` was called."""
        return self._state is StreamState.DONE

    @property
    def backlog(self) -> int:
        """How many bytes were sent since the output was empty last."""
        return self._backlog

    # In.

    def set_message_cbs(
        self,
        on_message: MessageCallback[Request, Reply],
        on_end: EndCallback[Request, Reply] | None = None,
        arg: object = None,
    ) -> None:
        """Take what the caller sends: `on_message(stream, message, arg)` for each, and
        `on_end(stream, arg)` once when it has said that there is no more.

        Until then the caller is held back.  A message that is none fails the stream.  Raises
        StateError when it is a SERVER_STREAM, taken already, or finished, ArgumentTypeError for
        what cannot be called.
        """
        if self.rpc.kind is RpcKind.SERVER_STREAM:
            raise StateError(f"the one request has come: {self.rpc!r}")
        self.take(on_message, on_end, arg)

    def take(
        self,
        on_message: MessageCallback[Request, Reply],
        on_end: EndCallback[Request, Reply] | None,
        arg: object,
    ) -> None:
        """Do as `set_message_cbs` for any kind; the server calls this."""
        require_callable(on_message)
        if on_end is not None:
            require_callable(on_end)
        if self._message_cb is not None or self.finished:
            raise StateError(f"the messages are taken already, or it is over: {self.rpc!r}")
        self._message_cb, self._end_cb, self._message_arg = on_message, on_end, arg
        is_paced = self.rpc.kind is RpcKind.SERVER_STREAM
        try:
            self.http_request.set_body_cbs(self._on_piece, self._on_body_end, is_paced=is_paced)
        except LocalProtocolError:
            self._refuse("the request has no body")

    def pause_messages(self) -> None:
        """Take no message until `resume_messages`: the caller is held back.  Safe to repeat."""
        self._incoming.paused = True

    def resume_messages(self) -> None:
        """Take messages again, from the loop.  Safe to repeat."""
        if self._incoming.paused:
            self._incoming.paused = False
            self._home.base.post(self._on_resumed)

    # Out.

    def send(self, reply: Reply) -> bool:
        """Send a message.

        Returns False where it was not taken, as `max_backlog_bytes` wait already: the callback of
        `set_drained_cb` says when to send it again; or as the caller has gone.  Raises StateError
        behind `end` or `fail`, or for a second reply of a CLIENT_STREAM, PayloadError for a message
        that is ill-typed or over a limit: it is not sent then, and the stream goes on.
        """
        self._require_open()
        if self.cancelled:
            return False
        if self._backlog >= self._options.max_backlog_bytes:
            self._refused = True
            return False
        self._send(reply)
        return True

    def set_drained_cb(self, cb: Callable[[Any, Any], object], arg: object = None) -> None:
        """Call `cb(stream, arg)` from the loop when a message was not taken, and there is room.

        Raises ArgumentTypeError for what cannot be called.
        """
        require_callable(cb)
        self._drained_cb = (cb, arg)

    def end(self, reply: Reply | None = None) -> None:
        """End well, with a last message if there is one, which is sent in any case.

        Messages that the caller still sends are not wanted: they are thrown away.  Raises as
        `send`, and StateError when a CLIENT_STREAM has no reply.
        """
        self._require_open()
        if reply is not None:
            self._send(reply)
        elif self.rpc.kind is RpcKind.CLIENT_STREAM and not self._is_counted:
            raise StateError(f"the caller is to have a reply: {self.rpc!r}")
        self._start()
        self._finish(encode_end())

    def fail(
        self, text: str, code: RpcErrorCode = RpcErrorCode.UNKNOWN, details: object = None
    ) -> None:
        """End by a failure, which the caller gets as `RemoteError`, behind what was sent before.

        details: plain JSON data.  Raises StateError behind `end` or `fail`, ArgumentTypeError for
        other details.
        """
        failure = encode_failure(text, code, details)
        self._require_open()
        if self._state is StreamState.OPEN:
            self._step(StreamStep.END)
            self._let_go()
            send_failure_body(self.http_request, failure)
        else:
            self._finish(encode_end(failure))

    # What the server calls.

    def caller_gone(self, http_request: CallCarrier, arg: object) -> None:
        """Know that the caller has ended its side before the end."""
        if self.finished:
            return
        self.cancelled = True
        cancel_cb = self._cancel_cb
        self._let_go()
        if cancel_cb is not None:
            self._run(*cancel_cb)

    def _require_open(self) -> None:
        if self._state is StreamState.DONE:
            raise StateError(f"the stream {self.rpc.name} is ended")

    def _step(self, step: StreamStep) -> None:
        self._state = NEXT[self._state, step]

    def _start(self) -> None:
        """Send the head, before the first message."""
        if self._state is StreamState.OPEN:
            headers = self.http_request.output_headers
            if "Content-Type" not in headers:
                headers.add("Content-Type", self._codec.content_type + STREAM_SUFFIX)
            self._step(StreamStep.SEND)
            self.http_request.send_reply_start(HTTP_OK)

    def _send(self, reply: Reply) -> None:
        if self.rpc.kind is RpcKind.CLIENT_STREAM and self._is_counted:
            raise StateError(f"the caller has its one reply: {self.rpc!r}")
        payload = self._codec.encode(self.rpc.reply_shape, reply)
        frame = encode_message(payload, self._options.max_message_bytes)
        self._is_counted = True
        self._start()
        self._backlog += len(frame)
        self.http_request.send_reply_chunk(frame, self._on_sent)

    def _finish(self, frame: bytes) -> None:
        self._step(StreamStep.END)
        self._let_go()
        self.http_request.send_reply_chunk(frame)
        self.http_request.send_reply_end()

    def _let_go(self) -> None:
        """Be over: what was set is forgotten, which may well refer to us."""
        self._message_cb = self._end_cb = self._cancel_cb = self._drained_cb = None
        self._count_end()

    def _on_sent(self, connection: object, arg: object) -> None:
        """The output is empty."""
        self._backlog = 0
        if self._refused and not self.finished:
            self._refused = False
            if self._drained_cb is not None:
                self._run(*self._drained_cb)

    def _run(self, cb: Callable[[Any, Any], object], arg: object) -> None:
        try:
            cb(self, arg)
        except Exception as exc:
            self._home.callback_raised(self, exc)

    def _refuse(self, text: str) -> None:
        """What came is no good stream."""
        _log.info("%s: stream from %s: %s", self.rpc.name, self.http_request.remote_host, text)
        if not self.finished:
            self.fail(text, RpcErrorCode.INVALID_ARGUMENT)

    def _on_piece(self, http_request: CallCarrier, piece: bytes, arg: object) -> None:
        if not self.finished:
            self._incoming.reader.receive(piece)
            self._deliver()

    def _on_resumed(self) -> None:
        if not self.finished:
            self._deliver()
            if not self.finished and not self._incoming.paused:
                self.http_request.resume_body()

    def _deliver(self) -> None:
        """Give the program the messages that are here, while it takes them."""
        incoming = self._incoming
        while not self.finished:
            try:
                message = incoming.next_message()
            except PayloadError as exc:
                self._refuse(str(exc))
                return
            if message is None:
                break
            assert self._message_cb is not None
            try:
                self._message_cb(self, message, self._message_arg)
            except Exception as exc:
                self._home.callback_raised(self, exc)
        if incoming.paused and not self.finished:
            self.http_request.pause_body()

    def _on_body_end(self, http_request: CallCarrier, is_whole: bool, arg: object) -> None:
        if self.finished:
            return
        if not is_whole:
            self.caller_gone(http_request, None)
            return
        try:
            self._incoming.reader.require_end()
        except PayloadError as exc:
            self._refuse(str(exc))
            return
        if self._incoming.reader.end:
            self._refuse("the caller has ended the stream by a failure")
        elif self._end_cb is not None:
            self._run(self._end_cb, self._message_arg)
