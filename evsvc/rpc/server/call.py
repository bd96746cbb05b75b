"""ServerCall: one call that arrived, and how the handler answers it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ...core.checks import require_callable
from ...core.errors import StateError
from ...http.wire.status import HTTP_OK, HTTP_SERVUNAVAIL
from ..definition import OCTET_STREAM, Rpc
from ..errors import PayloadError

if TYPE_CHECKING:
    from ...http import ServerRequest
    from ..codecs.protocol import Codec

Request = TypeVar("Request")
Reply = TypeVar("Reply")

PLAIN_TEXT = "text/plain; charset=utf-8"

_log = logging.getLogger("evsvc.rpc")


class ServerCall(Generic[Request, Reply]):
    """One call that arrived; a handler ends it by `done` or `fail`, at once or much later.

    rpc:           the definition.
    request:       the message that arrived (evrpc_get_request).
    http_request:  the HTTP request that carries it, for its headers and peer.
    cancelled:     whether the caller has ended its side: nobody may be waiting any more.
    """

    __slots__ = (
        "_answered",
        "_cancel_cb",
        "_codec",
        "_reply",
        "cancelled",
        "http_request",
        "request",
        "rpc",
    )

    def __init__(
        self, rpc: Rpc[Request, Reply], request: Request, http_request: ServerRequest, codec: Codec
    ) -> None:
        self.rpc = rpc
        self.request = request
        self.http_request = http_request
        self.cancelled = self._answered = False
        self._cancel_cb: tuple[Callable[[Any, Any], object], Any] | None = None
        self._reply: Reply | None = None
        self._codec = codec

    @property
    def answered(self) -> bool:
        """Whether `done` or `fail` was called."""
        return self._answered

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to do: it is answered, or the caller has gone."""
        return self._answered or self.cancelled

    def on_cancel(self, cb: Callable[[Any, Any], object], arg: object = None) -> None:
        """Call `cb(call, arg)` once, if the caller goes before it is answered; at once if it has.

        An answer may still be given; it is sent where the caller has only closed its sending side.
        Raises ArgumentTypeError for what cannot be called.
        """
        require_callable(cb)
        if self.cancelled:
            cb(self, arg)
        else:
            self._cancel_cb = (cb, arg)

    def caller_gone(self, http_request: ServerRequest, arg: object) -> None:
        """Know that the caller has ended its side; the server calls this."""
        if self._answered:
            return
        self.cancelled = True
        cancel_cb, self._cancel_cb = self._cancel_cb, None
        if cancel_cb is not None:
            cancel_cb[0](self, cancel_cb[1])

    @property
    def reply(self) -> Reply:
        """The reply to fill in, made at the first look with only its defaults set.

        A whole one may be assigned instead, as a frozen class needs.  evrpc_get_reply.
        """
        if self._reply is None:
            self._reply = self.rpc.reply_shape.blank()
        return self._reply

    @reply.setter
    def reply(self, reply: Reply) -> None:
        self._reply = reply

    def done(self, reply: Reply | None = None) -> None:
        """Send the reply, or `reply` in its place; nothing is sent when the peer has gone.

        Content-Type is application/octet-stream unless the handler has set one.  Raises StateError
        when the call is answered, and PayloadError when the reply is incomplete, ill-typed or over
        a limit: the call is then answered too, and the peer is answered 503.  evrpc_request_done.
        """
        self._finish()
        if reply is not None:
            self._reply = reply
        try:
            payload = self._codec.encode(self.rpc.reply_shape, self.reply)
        except PayloadError as exc:
            _log.error("%s: the reply is refused: %s", self.rpc.name, exc)
            send_failure(self.http_request, "the server made no proper reply")
            raise
        headers = self.http_request.output_headers
        if "Content-Type" not in headers:
            headers.add("Content-Type", OCTET_STREAM)
        self.http_request.send_reply(HTTP_OK, "OK", payload)

    def fail(self, text: str) -> None:
        """Answer 503 with a text for the caller, who gets BADPAYLOAD with it.

        Raises StateError when the call is answered.
        """
        self._finish()
        send_failure(self.http_request, text)

    def _finish(self) -> None:
        if self._answered:
            raise StateError(f"the call of {self.rpc.name} is already finished")
        self._answered = True
        self._cancel_cb = None


def send_failure(http_request: ServerRequest, text: str) -> None:
    """Answer 503 with a line of text, whatever type the handler had set."""
    headers = http_request.output_headers
    headers.remove("Content-Type")
    headers.add("Content-Type", PLAIN_TEXT)
    http_request.send_reply(HTTP_SERVUNAVAIL, None, f"{text}\n".encode(errors="backslashreplace"))
