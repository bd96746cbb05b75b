"""ServerCall: one call that arrived, and how the handler answers it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ...core import EvBuffer
from ...core.checks import require_callable
from ...core.errors import StateError
from ...http.wire.status import HTTP_OK, HTTP_SERVUNAVAIL
from ..definition import DEADLINE_FIELD, Rpc
from ..errors import PayloadError, RpcErrorCode
from ..failures import CONTENT_TYPE, encode_failure
from ..hooks import HookList, HookRun
from ..packing import ACCEPT_ENCODING, CONTENT_ENCODING, Packing

if TYPE_CHECKING:
    from ...core import EventBase
    from ...http import Headers, ServerConnection, ServerRequest
    from ..codecs.protocol import Codec

Request = TypeVar("Request")
Reply = TypeVar("Reply")

_log = logging.getLogger("evsvc.rpc")

_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")


class CallHome(Protocol):
    """What a call needs of its server."""

    hooks: HookList
    packing: Packing | None

    @property
    def base(self) -> EventBase:
        """The event base."""

    def hook_failed(self, exc: Exception) -> None:
        """Log what a hook raised, and tell it."""


class ServerCall(Generic[Request, Reply]):
    """One call that arrived; a handler ends it by `done` or `fail`, at once or much later.

    rpc:            the definition.
    request:        the message that arrived (evrpc_get_request); not there yet in an input hook.
    http_request:   the HTTP request that carries it, for its headers and peer.
    cancelled:      whether the caller has ended its side: nobody may be waiting any more.
    unknown_fields: what the message held beside its fields, by "Class.field".
    """

    __slots__ = (
        "_answered",
        "_arrived",
        "_cancel_cb",
        "_codec",
        "_ended_cb",
        "_home",
        "_hook_run",
        "_meta",
        "_reply",
        "cancelled",
        "http_request",
        "request",
        "rpc",
        "unknown_fields",
    )

    request: Request

    def __init__(
        self,
        home: CallHome,
        rpc: Rpc[Request, Reply],
        http_request: ServerRequest,
        codec: Codec,
        ended_cb: Callable[[], object] | None,
    ) -> None:
        self.rpc = rpc
        self.http_request = http_request
        self.cancelled = self._answered = False
        self.unknown_fields: dict[str, object] = {}
        self._home = home
        self._arrived = home.base.now
        self._cancel_cb: tuple[Callable[[Any, Any], object], Any] | None = None
        self._ended_cb = ended_cb
        self._reply: Reply | None = None
        self._codec = codec
        self._hook_run: HookRun | None = None
        self._meta: dict[str, bytes] | None = None

    @property
    def answered(self) -> bool:
        """Whether `done` or `fail` was called."""
        return self._answered

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to do: it is answered, or the caller has gone."""
        return self._answered or self.cancelled

    @property
    def meta(self) -> dict[str, bytes]:
        """What hooks leave for the hooks behind them: evrpc_hook_add_meta, evrpc_hook_find_meta."""
        if self._meta is None:
            self._meta = {}
        return self._meta

    @property
    def metadata(self) -> Headers:
        """What the caller sent beside the message: the header of its HTTP request."""
        return self.http_request.input_headers

    @property
    def reply_metadata(self) -> Headers:
        """What to send beside the reply: the header of the HTTP response."""
        return self.http_request.output_headers

    @property
    def connection(self) -> ServerConnection | None:
        """The caller's connection; None once it has gone (evrpc_hook_get_connection)."""
        return self.http_request.connection

    @property
    def deadline(self) -> float | None:
        """When the caller stops waiting, on the base's clock; None when it has not said."""
        return deadline_of(self.http_request, self._arrived)

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
        self._end()
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

    def run_hooks(
        self, hooks: tuple[Any, ...], body: EvBuffer, done: Callable[[bool], object]
    ) -> None:
        """Send the call through hooks, and call `done` with whether it goes on; the server calls
        this for those of the input."""
        seen = (self, self.http_request, body)
        self._hook_run = HookRun(hooks, seen, done, self._home.hook_failed)
        self._hook_run.run()

    def resume(self, result: int) -> None:
        """Go on after a hook's EVRPC_PAUSE, with EVRPC_CONTINUE or EVRPC_TERMINATE.

        Raises StateError when the call is not paused, ArgumentError for another result.
        Source: evrpc_resume_request.
        """
        if self._hook_run is None:
            raise StateError("the call is not paused")
        self._hook_run.resume(result)

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
        self._end()

    def _end(self) -> None:
        ended_cb, self._ended_cb = self._ended_cb, None
        if ended_cb is not None:
            ended_cb()


def deadline_of(http_request: ServerRequest, arrived: float) -> float | None:
    """Return when a caller stops waiting, whose request came at `arrived`; None for never."""
    text = http_request.input_headers.find(DEADLINE_FIELD)
    if text is None or not _SECONDS.fullmatch(text):
        return None
    return arrived + float(text)


def send_failure(
    http_request: ServerRequest, text: str, code: RpcErrorCode, status: int = HTTP_SERVUNAVAIL
) -> None:
    """Answer 503 with a text, whatever type the handler had set."""
    send_failure_body(http_request, encode_failure(text, code), status)


def send_failure_body(
    http_request: ServerRequest, body: bytes, status: int = HTTP_SERVUNAVAIL
) -> None:
    """Answer with what `encode_failure` made."""
    headers = http_request.output_headers
    headers.remove("Content-Type")
    headers.add("Content-Type", CONTENT_TYPE)
    http_request.send_reply(status, None, body)
