"""A call of the application, from its thread: what it returns becomes a reply.

The head goes with the first piece that is not empty, as until then the application may change its
mind (PEP 3333, "The start_response() Callable").  A piece goes on its way before the next is asked
for; what is there as a whole goes at once, with a Content-Length.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..core.errors import ArgumentTypeError, StateError
from ..http.errors import ClientGone, comes_of_gone_client
from ..http.server.request import NO_BODY
from .error_stream import ErrorStream
from .file_wrapper import FileWrapper
from .response import Head, judge_head

if TYPE_CHECKING:
    from .exchange import Exchange

logger = logging.getLogger("evsvc.wsgi")

Write = Callable[[bytes], object]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
Application = Callable[[dict[str, Any], Callable[..., Write]], Iterable[bytes]]
"""A WSGI application: called as `application(environ, start_response)`."""


class Sent(enum.Enum):
    """How much of the reply was handed to the loop."""

    NOTHING = enum.auto()
    PART = enum.auto()
    ALL = enum.auto()


class Call:
    """One request that the application is to answer; `run` is called once, in a thread."""

    __slots__ = ("_application", "_environ", "_exchange", "_head", "_left", "_sent")

    def __init__(
        self, application: Application, environ: dict[str, Any], exchange: Exchange
    ) -> None:
        self._application = application
        self._environ = environ
        self._exchange = exchange
        self._head: Head | None = None
        self._sent = Sent.NOTHING
        self._left: int | None = None  # of the Content-Length that the application has announced

    def run(self) -> None:
        """Call the application, and hand over what it answers.  Raises nothing."""
        if self._exchange.is_gone:  # it has waited for a thread longer than its client for it
            return
        errors = self._environ["wsgi.errors"] = ErrorStream()
        try:
            self._answer()
        except BaseException as exc:
            if comes_of_gone_client(exc):
                logger.info("%s: %s", self._exchange.request, exc)
            else:
                self._fail(exc)
        finally:
            errors.flush()

    def _answer(self) -> None:
        result = self._application(self._environ, self._start_response)
        try:
            self._send(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def _fail(self, exc: BaseException) -> None:
        try:
            self._exchange.post(self._exchange.fail, exc)
        except ClientGone:
            logger.error("the application has raised", exc_info=exc)

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Write:
        """Take status and fields; with `exc_info` in place of those that were given before.

        Raises StateError for a second call without, what `exc_info` holds where the head is sent,
        and else as `judge_head`.
        """
        if exc_info is not None:
            try:
                if self._sent is not Sent.NOTHING:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # which knows this frame
        elif self._head is not None:
            raise StateError("start_response is called already, and this is no error's response")
        self._head = judge_head(status, headers)
        self._left = self._head.length
        return self._write

    def _require_head(self) -> Head:
        if self._head is None:
            raise StateError("the application has not called start_response")
        return self._head

    def _has_no_body(self, head: Head) -> bool:
        return self._exchange.request.method == "HEAD" or head.code in NO_BODY

    def _send(self, result: Iterable[bytes]) -> None:
        """Hand over what the application has returned, and the end of the reply."""
        is_fresh = self._sent is Sent.NOTHING
        if is_fresh and isinstance(result, FileWrapper) and self._send_file(result):
            return
        if is_fresh and isinstance(result, list | tuple):
            self._send_whole(result)
            return
        if self._head is None or not self._has_no_body(self._head):
            for data in result:
                head = self._require_head()
                if self._has_no_body(head) or (self._left == 0 and data):
                    break
                self._write(data if self._left is None else data[: self._left])
        self._finish()

    def _send_whole(self, pieces: list[bytes] | tuple[bytes, ...]) -> None:
        """Hand over a reply of which all is there."""
        head = self._require_head()
        for piece in pieces:
            _check_piece(piece)
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if head.length is not None and not self._has_no_body(head):
            if len(body) < head.length:
                raise StateError(f"{head.length - len(body)} bytes of the Content-Length miss")
            body = body[: head.length]
        self._hand_over_all(head, body)

    def _send_file(self, result: FileWrapper) -> bool:
        """Hand a file over to the kernel; whether that can be done."""
        head = self._head
        buffer = None if head is None else result.as_buffer(head.length)
        if head is None or buffer is None:
            return False
        self._sent = Sent.ALL
        self._exchange.post(self._exchange.reply, head, buffer)
        return True

    def _write(self, data: bytes) -> None:
        """Hand over a piece of the body, and wait while the client has too much to take.

        Raises ArgumentTypeError for what is no bytes, StateError when the reply has ended, or for
        more than the Content-Length, ClientGone when nobody takes it.
        """
        _check_piece(data)
        head = self._require_head()
        if self._exchange.is_gone:
            raise ClientGone("the client has gone")
        if not data or self._has_no_body(head):
            return
        if self._sent is Sent.ALL:
            raise StateError("the reply has ended")
        if self._left is not None:
            if len(data) > self._left:
                raise StateError(f"{len(data)} bytes, {self._left} are left of the Content-Length")
            self._left -= len(data)
        exchange = self._exchange
        if self._sent is Sent.PART:
            exchange.post(exchange.send, data)
        elif self._left == 0:
            self._hand_over_all(head, data)
            return
        else:
            self._sent = Sent.PART
            exchange.post(exchange.start, head, data)
        exchange.wait_for_client(len(data))

    def _hand_over_all(self, head: Head, body: bytes) -> None:
        self._sent = Sent.ALL
        self._exchange.post(self._exchange.reply, head, body)

    def _finish(self) -> None:
        head = self._require_head()
        if self._sent is Sent.NOTHING and (not self._left or self._has_no_body(head)):
            self._hand_over_all(head, b"")
        elif self._left:
            raise StateError(f"{self._left} bytes of the Content-Length are missing")
        elif self._sent is Sent.PART:
            self._sent = Sent.ALL
            self._exchange.post(self._exchange.end)


def _check_piece(data: object) -> None:
    if not isinstance(data, bytes):
        raise ArgumentTypeError(f"a piece of a body is bytes, not {type(data).__name__}")
