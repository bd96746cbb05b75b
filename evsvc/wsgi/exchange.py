"""The loop's side of a request that an application answers from a thread.

Invariants
    * Everything but `post` runs in the loop's thread, and nothing of it raises into the loop.
    * When the client has gone, `is_gone` is set, and who waits in a thread is woken to hear it;
      who waits for the body hears it from that (`BodyInput`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.errors import StateError
from ..http.errors import ClientGone
from ..http.server.request import ReplyState
from .output_gate import OutputGate

if TYPE_CHECKING:
    from ..core import EvBuffer
    from ..http import ServerConnection, ServerRequest
    from .options import WsgiOptions
    from .response import Head


class Exchange:
    """One request in hand.

    is_gone: nobody waits for the reply any more.
    """

    __slots__ = ("_base", "_gate", "_handed_bytes", "_service", "is_gone", "request")

    def __init__(
        self, request: ServerRequest, connection: ServerConnection, options: WsgiOptions
    ) -> None:
        self.request = request
        self.is_gone = False
        self._base = connection.base
        self._service = connection.server.service
        self._handed_bytes = 0  # since the client has last taken all
        self._gate = OutputGate(options.max_output_bytes)
        request.set_on_gone_cb(self._on_gone)

    def post(self, fn: Callable[..., object], *args: object) -> None:
        """Have `fn(*args)` called in the loop; for threads.

        Raises ClientGone when the base is closed.
        """
        try:
            self._base.post(fn, *args)
        except StateError as exc:
            raise ClientGone("the event base is closed") from exc

    def wait_for_client(self, size: int) -> None:
        """Wait in a thread that has handed over `size` bytes more.  Raises ClientGone."""
        self._gate.add(size)

    def reply(self, head: Head, body: bytes | EvBuffer) -> None:
        """Answer at once."""
        if self._is_lost():
            if not isinstance(body, bytes):
                body.close()
            return
        request = self.request
        try:
            request.output_headers = head.headers
            if request.method == "HEAD" and not body and head.length is None:
                # What GET would get is not known, and a length of 0 is most likely wrong.
                request.send_reply_start(head.code, head.reason)
                request.send_reply_end()
            else:
                request.send_reply(head.code, head.reason, body)
        except Exception as exc:
            self.fail(exc)

    def start(self, head: Head, data: bytes) -> None:
        """Begin a reply in pieces, with the first of them."""
        if self._is_lost():
            return
        try:
            self.request.output_headers = head.headers
            self.request.send_reply_start(head.code, head.reason)
        except Exception as exc:
            self.fail(exc)
        else:
            self.send(data)

    def send(self, data: bytes) -> None:
        """Send a piece more."""
        if self._is_lost():
            return
        self._handed_bytes += len(data)
        try:
            self.request.send_reply_chunk(data, self._on_taken)
        except Exception as exc:
            self.fail(exc)

    def end(self) -> None:
        """The reply in pieces is whole."""
        if self._is_lost():
            return
        try:
            self.request.send_reply_end()
        except Exception as exc:
            self.fail(exc)

    def fail(self, exc: BaseException) -> None:
        """The application has raised, or its reply cannot be sent: answer 500, or break the
        connection off where the reply has begun, and log it.  What else the thread does is lost.
        """
        if not self._is_lost():
            if self.request.state is ReplyState.PENDING:
                self.request.send_error(500)
            elif self.request.state is ReplyState.STREAMING:
                self._break_off()
            self.leave()  # who waits for the client to take what was not sent, would for ever
        if not isinstance(exc, Exception):  # sys.exit() ends this request, and nothing else
            exc = RuntimeError(f"the application has raised {exc!r}").with_traceback(
                exc.__traceback__
            )
        self._service.callback_failed(exc, self.request)

    def leave(self) -> None:
        """Nobody waits for the reply any more."""
        self.is_gone = True
        self._gate.close()

    def _is_lost(self) -> bool:
        """Look whether the client has gone."""
        if not self.is_gone and self.request.connection is None:
            self.leave()
        return self.is_gone

    def _break_off(self) -> None:
        connection = self.request.connection
        if connection is not None:
            connection.close()

    def _on_taken(self, connection: object, arg: object) -> None:
        size, self._handed_bytes = self._handed_bytes, 0
        self._gate.taken(size)

    def _on_gone(self, request: ServerRequest, arg: object) -> None:
        """The client has ended its side: it may still read, and it may still go."""
        if request.connection is None:
            self.leave()
        else:
            request.set_on_gone_cb(self._on_gone)
