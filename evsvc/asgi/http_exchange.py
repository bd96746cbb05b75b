"""A request in hand of an application: what `receive` and `send` do for it.

All of it runs in the loop's thread: the coroutines as tasks of asyncio, the callbacks out of the
base.

Invariants
    * `_phase` moves as `NEXT` says, and no other way.
    * The head goes with the first piece of the body, so that a body that comes at once has a
      Content-Length.
    * A client that has ended its side is told as `http.disconnect`, and can be sent to as long as
      its connection lives.
"""

from __future__ import annotations

import asyncio
import enum
import os
from typing import TYPE_CHECKING

from ..core import EvBuffer, StateError
from ..http import Headers, LocalProtocolError
from ..http.errors import ClientGone, comes_of_gone_client
from ..http.server.request import NO_BODY, ReplyState
from .changes import Changes
from .messages import Message, bytes_of, judge_headers, judge_status

if TYPE_CHECKING:
    from ..http import ServerConnection, ServerRequest
    from .options import AsgiOptions


class Phase(enum.Enum):
    """How far the response has come."""

    NOTHING = "nothing is sent"
    HEAD = "the head is given"
    BODY = "the body has begun"
    OVER = "it is whole"


class Step(enum.Enum):
    """What the application sends."""

    START = enum.auto()
    PIECE = enum.auto()
    LAST_PIECE = enum.auto()
    FILE = enum.auto()  # the whole body


NEXT: dict[tuple[Phase, Step], Phase] = {
    (Phase.NOTHING, Step.START): Phase.HEAD,
    (Phase.HEAD, Step.PIECE): Phase.BODY,
    (Phase.HEAD, Step.LAST_PIECE): Phase.OVER,
    (Phase.HEAD, Step.FILE): Phase.OVER,
    (Phase.BODY, Step.PIECE): Phase.BODY,
    (Phase.BODY, Step.LAST_PIECE): Phase.OVER,
}

_START = "http.response.start"
_BODY = "http.response.body"
_FILE = "http.response.pathsend"


class HttpExchange:
    """One request, and the response of the application (ASGI's HTTP sub-specification)."""

    __slots__ = (
        "_body_is_told",
        "_changes",
        "_head",
        "_input_has_ended",
        "_is_asked_for",
        "_is_left",
        "_is_lost",
        "_options",
        "_phase",
        "_pieces",
        "_request",
        "_service",
        "_waiting_bytes",
    )

    def __init__(
        self, request: ServerRequest, connection: ServerConnection, options: AsgiOptions
    ) -> None:
        self._request = request
        self._service = connection.server.service
        self._options = options
        self._changes = Changes()
        self._phase = Phase.NOTHING
        self._head: tuple[int, Headers] | None = None
        self._is_left = self._is_lost = False
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        self._is_asked_for = self._body_is_told = False
        self._input_has_ended = not request.streams_body
        if self._input_has_ended:
            self._pieces.append(request.take_body())
        request.set_on_gone_cb(self._on_gone)

    async def receive(self) -> Message:
        """Wait for a piece of the body; behind the last, for the client's end or the reply's."""
        if not self._body_is_told:
            if not self._input_has_ended and not self._is_asked_for:
                self._ask()
            await self._changes.until(self._has_input)
            if self._pieces or self._input_has_ended:
                return self._take_input()
        await self._changes.until(self._is_done)
        await asyncio.sleep(0)  # who asks for it again and again holds up nobody else
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take a message of the response, and wait while the client has too much to take.

        Raises ClientGone when nobody takes it, StateError for one that is not legal now,
        ArgumentError and ArgumentTypeError for what cannot be sent.
        """
        kind = message["type"]
        if kind == _START:
            step = Step.START
        elif kind == _BODY:
            step = Step.PIECE if message.get("more_body") else Step.LAST_PIECE
        elif kind == _FILE:
            step = Step.FILE
        else:
            raise StateError(f"not a message of a response: {kind!r}")
        phase = NEXT.get((self._phase, step))
        if phase is None:
            raise StateError(f"{kind!r} is not legal when {self._phase.value}")
        if step is Step.START:
            head = judge_status(message["status"]), judge_headers(message.get("headers", ()))
            self._require_client()
            self._head = head
            self._phase = phase
            return
        self._require_client()
        if step is Step.FILE:
            self._begin(_file_of(message["path"]), phase)
        else:
            await self._send_piece(bytes_of(message.get("body", b"")), phase)

    async def _send_piece(self, data: bytes, phase: Phase) -> None:
        if self._phase is Phase.HEAD:
            self._begin(data, phase)
        else:
            self._request.send_reply_chunk(data)
            self._phase = phase
            if phase is Phase.OVER:
                self._request.send_reply_end()
                self._changes.tell()
        if phase is not Phase.OVER:
            await self._wait_for_client()

    def finish(self, exc: BaseException | None) -> None:
        """The application has returned, or has raised: see that the client gets an end.

        What is not answered is 500; what has begun and is not whole is broken off, so that it
        shows.  A fault is logged, but for what comes of a client that has gone.
        """
        gone = self._is_gone()
        if exc is None and self._phase is not Phase.OVER and not gone:
            exc = StateError(
                f"the application has returned, and of its response {self._phase.value}"
            )
        if not gone:
            if self._request.state is ReplyState.PENDING:
                self._request.send_error(500)
            elif self._request.state is ReplyState.STREAMING:
                self._break_off()
        if isinstance(exc, Exception) and not comes_of_gone_client(exc):
            self._service.callback_failed(exc, self._request)

    def _begin(self, data: bytes | EvBuffer, phase: Phase) -> None:
        """Send the head with the first piece, which may be all."""
        assert self._head is not None
        code, headers = self._head
        request = self._request
        request.output_headers = headers
        # Of a HEAD without a length it is not known what GET would get; 0 is most likely wrong.
        is_unknown = request.method == "HEAD" and not data and "content-length" not in headers
        if phase is Phase.OVER and not is_unknown:
            request.send_reply(code, None, data)
        else:
            request.send_reply_start(code)
            request.send_reply_chunk(data)
            if phase is Phase.OVER:
                request.send_reply_end()
        self._phase = phase
        if phase is Phase.OVER:
            self._changes.tell()

    async def _wait_for_client(self) -> None:
        """Wait while the client has more than `max_output_bytes` to take.

        A response without body, such as to HEAD, is never too much: others get their turn then,
        and it is in vain once the client has left.
        """
        assert self._head is not None
        connection = self._request.connection
        if self._request.method == "HEAD" or self._head[0] in NO_BODY:
            await asyncio.sleep(0)
            if self._is_left:
                raise ClientGone("the client has left, and is sent no body")
        elif (
            connection is not None
            and len(connection.bufferevent.output) > self._options.max_output_bytes
        ):
            is_taken = False

            def taken(connection: object, arg: object) -> None:
                nonlocal is_taken
                is_taken = True
                self._changes.tell()

            self._request.send_reply_chunk(b"", taken)
            await self._changes.until(lambda: is_taken or self._is_gone())
            self._require_client()

    def _require_client(self) -> None:
        if self._is_gone():
            raise ClientGone("the client has gone")

    def _is_gone(self) -> bool:
        return self._is_lost or (self._phase is not Phase.OVER and self._request.connection is None)

    def _break_off(self) -> None:
        connection = self._request.connection
        if connection is not None:
            connection.close()

    def _has_input(self) -> bool:
        return bool(self._pieces) or self._input_has_ended or self._is_done()

    def _is_done(self) -> bool:
        return self._is_left or self._is_lost or self._phase is Phase.OVER

    def _ask(self) -> None:
        self._is_asked_for = True
        try:
            self._request.set_body_cbs(self._on_data, self._on_end)
        except LocalProtocolError:  # it has ended since
            self._is_lost = True

    def _take_input(self) -> Message:
        body = b"".join(self._pieces)
        self._pieces.clear()
        if self._waiting_bytes >= self._options.max_input_bytes and not self._input_has_ended:
            self._request.resume_body()
        self._waiting_bytes = 0
        self._body_is_told = self._input_has_ended
        return {"type": "http.request", "body": body, "more_body": not self._input_has_ended}

    def _on_data(self, request: ServerRequest, data: bytes, arg: object) -> None:
        self._pieces.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= self._options.max_input_bytes:
            request.pause_body()
        self._changes.tell()

    def _on_end(self, request: ServerRequest, is_whole: bool, arg: object) -> None:
        if is_whole:
            self._input_has_ended = True
        else:
            self._is_lost = True
        self._changes.tell()

    def _on_gone(self, request: ServerRequest, arg: object) -> None:
        """The client has ended its side: it may still read, and it may still go."""
        self._is_left = True
        if request.connection is not None:
            request.set_on_gone_cb(self._on_gone)
        self._changes.tell()


def _file_of(path: str) -> EvBuffer:
    """Return a file's bytes, which the kernel sends by itself.

    Raises OSError for one that cannot be opened, ArgumentError for what is no regular file.
    """
    buffer = EvBuffer()
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        buffer.add_file(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return buffer
