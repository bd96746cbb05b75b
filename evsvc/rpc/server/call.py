"""ServerCall: one call that arrived, and how the handler answers it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ...core import EvBuffer
from ...core.errors import StateError
from ...http.wire.status import HTTP_OK, HTTP_SERVUNAVAIL
from ..errors import PayloadError, RpcErrorCode
from ..failures import CONTENT_TYPE, encode_failure
from ..packing import ACCEPT_ENCODING, CONTENT_ENCODING
from .arrived import ArrivedCall, CallHome

if TYPE_CHECKING:
    from ..codecs.protocol import Codec
    from ..definition import Rpc
    from .carrier import CallCarrier

Request = TypeVar("Request")
Reply = TypeVar("Reply")

_log = logging.getLogger("evsvc.rpc")


class ServerCall(ArrivedCall[Request, Reply]):
    """One call that arrived; a handler ends it by `done` or `fail`, at once or much later.

    unknown_fields: what the message held beside its fields, by "Class.field".
    """

    __slots__ = ("_answered", "_meta", "_reply", "unknown_fields")

    def __init__(
        self,
        home: CallHome,
        rpc: Rpc[Request, Reply],
        http_request: CallCarrier,
        codec: Codec,
        ended_cb: Callable[[], object] | None,
    ) -> None:
        super().__init__(home, rpc, http_request, codec, ended_cb)
        self.unknown_fields: dict[str, object] = {}
        self._answered = False
        self._reply: Reply | None = None
        self._meta: dict[str, bytes] | None = None

    @property
    def answered(self) -> bool:
        """Whether `done` or `fail` was called."""
        return self._answered

    @property
    def meta(self) -> dict[str, bytes]:
        """What hooks leave for the hooks behind them: evrpc_hook_add_meta, evrpc_hook_find_meta."""
        if self._meta is None:
            self._meta = {}
        return self._meta

    def caller_gone(self, http_request: CallCarrier, arg: object) -> None:
        """Know that the caller has ended its side; the server calls this."""
        if self._answered:
            return
        self.cancelled = True
        self._count_end()
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

        Content-Type is the codec's unless the handler has set one.  Raises StateError when the
        call is answered, and PayloadError when the reply is incomplete, ill-typed or over a limit:
        the call is then answered too, and the peer is answered 503.  evrpc_request_done.
        """
        self._finish()
        if reply is not None:
            self._reply = reply
        try:
            payload = self._codec.encode(self.rpc.reply_shape, self.reply)
        except PayloadError as exc:
            _log.error("%s: the reply is refused: %s", self.rpc.name, exc)
            send_failure(
                self.http_request, "the server made no proper reply", RpcErrorCode.INTERNAL
            )
            raise
        headers = self.http_request.output_headers
        if "Content-Type" not in headers:
            headers.add("Content-Type", self._codec.content_type)
        packing = self._home.packing
        if packing is not None and CONTENT_ENCODING not in headers:
            accepted = self.http_request.input_headers.get_all(ACCEPT_ENCODING)
            payload, coding = packing.pack(payload, accepted)
            if coding is not None:
                headers.add(CONTENT_ENCODING, coding)
        if self._home.hooks.output:
            body = EvBuffer()
            body.add(payload)
            self.run_hooks(self._home.hooks.output, body, lambda goes_on: self._send(body, goes_on))
        else:
            self.http_request.send_reply(HTTP_OK, "OK", payload)

    def fail(
        self, text: str, code: RpcErrorCode = RpcErrorCode.UNKNOWN, details: object = None
    ) -> None:
        """Answer 503 with a text for the caller, who gets BADPAYLOAD with it as `RemoteError`.

        details: plain JSON data.  Raises StateError when the call is answered, ArgumentTypeError
        for other details.
        """
        body = encode_failure(text, code, details)
        self._finish()
        send_failure_body(self.http_request, body)

    def _send(self, body: EvBuffer, goes_on: bool) -> None:
        if goes_on:
            self.http_request.send_reply(HTTP_OK, "OK", body)
        else:
            send_failure(self.http_request, "a hook has refused the reply", RpcErrorCode.ABORTED)

    def _finish(self) -> None:
        if self._answered:
            raise StateError(f"the call of {self.rpc.name} is already finished")
        self._answered = True
        self._cancel_cb = None
        self._count_end()


def send_failure(
    http_request: CallCarrier, text: str, code: RpcErrorCode, status: int = HTTP_SERVUNAVAIL
) -> None:
    """Answer 503 with a text, whatever type the handler had set."""
    send_failure_body(http_request, encode_failure(text, code), status)


def send_failure_body(
    http_request: CallCarrier, body: bytes, status: int = HTTP_SERVUNAVAIL
) -> None:
    """Answer with what `encode_failure` made."""
    headers = http_request.output_headers
    headers.remove("Content-Type")
    headers.add("Content-Type", CONTENT_TYPE)
    http_request.send_reply(status, None, body)
