"""The client's side of a stream: messages go out as the server takes them, and come as they are
taken here."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ...core.checks import require_callable
from ...core.errors import ArgumentError, StateError
from ...http import ClientOptions
from ...http.wire.status import HTTP_OK
from ..definition import RpcKind
from ..errors import PayloadError, RemoteError, RpcError, one_line
from ..failures import CONTENT_TYPE, decode_failure
from ..frames import STREAM_SUFFIX, StreamOptions, encode_end, encode_message
from ..incoming import Incoming
from ..status import (
    EVRPC_STATUS_ERR_BADPAYLOAD,
    EVRPC_STATUS_ERR_NONE,
    EVRPC_STATUS_ERR_TIMEOUT,
    RpcStatus,
)
from .call import ReplyCallback, RpcCall

if TYPE_CHECKING:
    from ...http import HttpRequest
    from ..codecs.protocol import Codec
    from ..definition import Rpc
    from .carrier import CallConnection
    from .pool import RpcPool

Request = TypeVar("Request")
Reply = TypeVar("Reply")

MessageCallback = Callable[["ClientStream[Request, Reply]", Reply, Any], object]
"""Called as `on_message(stream, message, arg)`."""

DEFAULT_SILENCE_S = ClientOptions().read_s
"""A limit of silence that the program has not chosen: it gives way to what a call wants."""

MAX_FAILURE_BYTES = 64 * 1024
"""How much is kept of an answer that is no stream."""


class ClientStream(RpcCall[Request, Reply]):
    """A stream to a server, which `RpcPool.open_stream` makes.

    Its callback `cb(status, request, reply, arg)` runs once, when it is over: `request` is None
    where the client streams, `reply` the one of a CLIENT_STREAM, and else None.  `cancel` breaks it
    off, without the callback.
    """

    __slots__ = (
        "_backlog",
        "_codec",
        "_drained_cb",
        "_http_request",
        "_incoming",
        "_is_ended",
        "_message_cb",
        "_options",
        "_outgoing",
        "_refused",
        "_reply",
        "_text",
        "_usual_read_s",
    )

    is_stream: ClassVar[bool] = True

    def __init__(
        self,
        pool: RpcPool,
        rpc: Rpc[Request, Reply],
        request: Request | None,
        cb: ReplyCallback[Any, Reply],
        arg: object,
        on_message: MessageCallback[Request, Reply] | None,
        *,
        timeout_s: float | None,
        metadata: Sequence[tuple[str, str]],
        options: StreamOptions | None,
    ) -> None:
        kind = rpc.kind
        if not kind.is_stream:
            raise ArgumentError(f"not a stream, but {kind.value}: {rpc!r}")
        if (request is None) == (kind is RpcKind.SERVER_STREAM):
            wanted = "one request goes" if request is None else "requests are sent, none is given"
            raise ArgumentError(f"{wanted} with a {kind.value}: {request!r}")
        if (on_message is None) != (kind is RpcKind.CLIENT_STREAM):
            wanted = "has one reply" if on_message else "wants on_message"
            raise ArgumentError(f"a {kind.value} {wanted}: {on_message!r}")
        if on_message is not None:
            require_callable(on_message)
        super().__init__(
            pool,
            rpc,
            request,  # type: ignore[arg-type]  # None where they are sent
            cb,
            arg,
            timeout_s=timeout_s,
            metadata=metadata,
        )
        self._message_cb = on_message
        self._options = options or StreamOptions()
        self._outgoing: deque[bytes] = deque()
        self._backlog = 0
        self._refused = False  # a message, and nobody was told yet that there is room
        self._is_ended = False  # our direction
        self._drained_cb: tuple[Callable[[Any, Any], object], Any] | None = None
        self._codec: Codec | None = None
        self._incoming: Incoming[Reply] | None = None
        self._http_request: HttpRequest | None = None
        self._reply: Reply | None = None
        self._usual_read_s: float | None = None  # of the connection, while it is another
        self._text = b""  # of an answer that is no stream

    @property
    def backlog(self) -> int:
        """How many bytes of messages wait to be sent, those that HTTP has already not among them.

        At most `max_backlog_bytes` and one message.
        """
        return self._backlog

    def send(self, message: Request) -> bool:
        """Send a message, when the server takes it.

        Returns False where it was not taken, as `max_backlog_bytes` wait already: the callback of
        `set_drained_cb` says when to send it again.  Raises StateError behind `end`, or when the
        stream is over, PayloadError for a message that is ill-typed or over a limit.
        """
        self._require_open()
        if self._backlog >= self._options.max_backlog_bytes:
            self._refused = True
            return False
        assert self._codec is not None
        self._put(self._frame(self._codec, message))
        return True

    def end(self) -> None:
        """Send no more: what the server sends still comes.  Raises as `send`."""
        self._require_open()
        self._is_ended = True
        self._put(encode_end())

    def set_drained_cb(self, cb: Callable[[Any, Any], object], arg: object = None) -> None:
        """Call `cb(stream, arg)` from the loop when a message was not taken, and no more wait.

        Raises ArgumentTypeError for what cannot be called.
        """
        require_callable(cb)
        self._drained_cb = (cb, arg)

    def pause_messages(self) -> None:
        """Take no message until `resume_messages`: the server is held back.  Safe to repeat."""
        if self._incoming is not None:
            self._incoming.paused = True

    def resume_messages(self) -> None:
        """Take messages again, from the loop.  Safe to repeat."""
        if self._incoming is not None and self._incoming.paused:
            self._incoming.paused = False
            self.pool.base.post(self._on_resumed)

    # What the pool calls.

    def encode_request(self, codec: Codec) -> None:
        """Be ready to be sent; with the one request, if there is one.  Raises as `send`."""
        self._codec = codec
        options = self._options
        self._incoming = Incoming(codec, self.rpc.reply_shape, options.max_message_bytes)
        if self.rpc.kind is RpcKind.SERVER_STREAM:
            self._put(self._frame(codec, self.request))
            self._is_ended = True
            self._put(encode_end())

    def ride(self, http_request: HttpRequest, codec: Codec) -> None:
        """Have both bodies carried by a request."""
        self._http_request = http_request
        http_request.output_headers.add("Content-Type", codec.content_type + STREAM_SUFFIX)
        http_request.stream_body(self._on_room)
        http_request.set_chunked_cb(self._on_piece)

    def board(self, connection: CallConnection) -> None:
        """Have the connection bear the server's silence for as long as the stream says."""
        options, silence_s = connection.options, self._options.max_silence_s
        if silence_s is None and options.read_s == DEFAULT_SILENCE_S:
            silence_s = math.inf
        if silence_s is not None:
            self._usual_read_s = options.read_s
            connection.options = replace(options, read_s=silence_s)

    def leave(self, connection: CallConnection) -> None:
        """Undo `board`."""
        usual_s, self._usual_read_s = self._usual_read_s, None
        if usual_s is not None:
            connection.options = replace(connection.options, read_s=usual_s)

    def judge(
        self, codec: Codec, response: HttpRequest | None, failure: Exception | None
    ) -> tuple[RpcStatus, Reply | None]:
        """Tell how it ended."""
        if response is None or not response.response_code:
            cause = RpcError("no response") if failure is None else failure
            return RpcStatus(EVRPC_STATUS_ERR_TIMEOUT, cause), None
        incoming = self._incoming
        assert incoming is not None
        code, text = response.response_code, self._text
        content_type = response.input_headers.find("Content-Type")
        try:
            if code == HTTP_OK:
                self._require_type(content_type)
                incoming.reader.require_end()
                code, text, content_type = HTTP_OK, incoming.reader.end or b"", CONTENT_TYPE
                if not text:
                    if self.rpc.kind is RpcKind.CLIENT_STREAM and self._reply is None:
                        raise PayloadError("the stream ends without a reply")
                    return RpcStatus(EVRPC_STATUS_ERR_NONE, None, response), self._reply
        except PayloadError as exc:
            return RpcStatus(EVRPC_STATUS_ERR_BADPAYLOAD, exc, response), None
        remote = RemoteError(code, *decode_failure(code, content_type, text))
        return RpcStatus(EVRPC_STATUS_ERR_BADPAYLOAD, remote, response), None

    def forget(self) -> None:
        """End without the callback."""
        super().forget()
        self._message_cb = self._drained_cb = self._http_request = None
        self._outgoing.clear()
        self._backlog = 0

    # Out.

    def _require_open(self) -> None:
        if self.finished or self._is_ended:
            raise StateError(f"the stream {self.rpc.name} is ended")

    def _frame(self, codec: Codec, message: Request) -> bytes:
        payload = codec.encode(self.rpc.request_shape, message)
        return encode_message(payload, self._options.max_message_bytes)

    def _put(self, frame: bytes) -> None:
        self._outgoing.append(frame)
        self._backlog += len(frame)
        if self._http_request is not None:
            self._http_request.resume_body()

    def _on_room(self, http_request: HttpRequest, arg: object) -> bytes | None:
        """HTTP takes more."""
        if not self._outgoing:
            return None if self._is_ended else b""
        frame = self._outgoing.popleft()
        self._backlog -= len(frame)
        if not self._backlog and self._refused:
            self._refused = False
            self.pool.base.post(self._on_drained)
        return frame

    def _on_drained(self) -> None:
        if self._drained_cb is not None and not self.finished and not self._is_ended:
            cb, arg = self._drained_cb
            try:
                cb(self, arg)
            except Exception as exc:
                self.pool.callback_raised(self, exc)

    # In.

    def _require_type(self, content_type: str | None) -> None:
        assert self._codec is not None
        wanted = self._codec.content_type + STREAM_SUFFIX
        if content_type != wanted:
            raise PayloadError(f"the answer is {one_line(str(content_type))}, not {wanted}")

    def _on_piece(self, http_request: HttpRequest, call: object) -> None:
        """A piece of the answer has come."""
        incoming = self._incoming
        if self.finished or incoming is None:
            return
        piece = http_request.input_buffer.remove()
        if http_request.response_code != HTTP_OK:
            self._text = (self._text + piece)[:MAX_FAILURE_BYTES]
            return
        incoming.reader.receive(piece)
        self._deliver(http_request)

    def _on_resumed(self) -> None:
        http_request = self._http_request
        if http_request is not None and not self.finished:
            self._deliver(http_request)
            if not self.finished and self._incoming is not None and not self._incoming.paused:
                http_request.resume()

    def _deliver(self, http_request: HttpRequest) -> None:
        """Give the program the messages that are here, while it takes them."""
        incoming = self._incoming
        assert incoming is not None
        try:
            self._require_type(http_request.input_headers.find("Content-Type"))
            while not self.finished and (message := incoming.next_message()) is not None:
                self._give(message)
        except PayloadError as exc:
            self.pool.break_off(self, RpcStatus(EVRPC_STATUS_ERR_BADPAYLOAD, exc, http_request))
            return
        if not self.finished and incoming.paused:
            http_request.pause()

    def _give(self, message: Reply) -> None:
        """Have a message taken.  Raises PayloadError when there should be none."""
        if self._message_cb is None:
            if self._reply is not None:
                raise PayloadError("the stream has more than one reply")
            self._reply = message
            return
        try:
            self._message_cb(self, message, self._arg)
        except Exception as exc:
            self.pool.callback_raised(self, exc)
