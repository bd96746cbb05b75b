"""The server's side: mounts definitions on an HTTP server and answers their calls.

Whatever goes wrong is answered 503 with a line of text, as libevent answers 503; the connection
lives on.  A peer's fault is logged to `evsvc.rpc` at INFO, the program's own at ERROR.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..core.checks import require_callable
from ..core.closing import Closing
from ..core.errors import ArgumentError, StateError
from ..http.wire.status import HTTP_OK, HTTP_SERVUNAVAIL
from .definition import OCTET_STREAM, Rpc
from .errors import PayloadError
from .msgpack import MsgpackCodec

if TYPE_CHECKING:
    from ..http import HttpServer, ServerRequest
    from .codec import Codec

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
            _send_failure(self.http_request, "the server made no proper reply")
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
        _send_failure(self.http_request, text)

    def _finish(self) -> None:
        if self._answered:
            raise StateError(f"the call of {self.rpc.name} is already finished")
        self._answered = True
        self._cancel_cb = None


Handler = Callable[[ServerCall[Request, Reply], Any], object]
"""Called as `handler(call, arg)` for each call whose request is sound."""


class _Method:
    """What is mounted under one name."""

    __slots__ = ("arg", "handler", "rpc")

    def __init__(self, rpc: Rpc[Any, Any], handler: Handler[Any, Any], arg: object) -> None:
        self.rpc = rpc
        self.handler = handler
        self.arg = arg


class RpcServer(Closing):
    """Serves RPCs at `/.rpc.<name>` of an HTTP server (evrpc_base).

    codec: how messages become bytes, and within which limits; MessagePack when None.
    """

    __slots__ = ("_codec", "_http_server", "_methods")

    def __init__(self, http_server: HttpServer, *, codec: Codec | None = None) -> None:
        self._http_server = http_server
        self._codec = MsgpackCodec() if codec is None else codec
        self._methods: dict[str, _Method] = {}

    def register_rpc(
        self, rpc: Rpc[Request, Reply], handler: Handler[Request, Reply], arg: object = None
    ) -> None:
        """Answer calls of `rpc` by `handler(call, arg)`.

        When the handler raises, the peer is answered 503, the traceback is logged, and the base's
        exception handler is told.  Raises ArgumentError when the name is taken.  EVRPC_REGISTER.
        """
        method = _Method(rpc, handler, arg)
        self._http_server.set_cb(rpc.path, self._on_request, method)
        self._methods[rpc.name] = method

    def unregister_rpc(self, rpc: Rpc[Any, Any]) -> None:
        """Answer no further calls of `rpc`; those under way may still be finished.

        Raises ArgumentError when its name is not registered.  EVRPC_UNREGISTER.
        """
        if self._methods.pop(rpc.name, None) is None:
            raise ArgumentError(f"the RPC {rpc.name!r} is not registered")
        self._http_server.del_cb(rpc.path)

    def close(self) -> None:
        """Unregister everything; calls under way may still be finished.  Safe to repeat."""
        for method in list(self._methods.values()):
            self.unregister_rpc(method.rpc)

    def _on_request(self, http_request: ServerRequest, method: _Method) -> None:
        rpc = method.rpc
        payload = bytes(http_request.input_buffer)
        if http_request.method != "POST":
            _refuse(http_request, rpc, f"a call is made by POST, not {http_request.method}")
        elif not payload:
            _refuse(http_request, rpc, "the request has no body")
        else:
            try:
                message = self._codec.decode(rpc.request_shape, payload)
            except PayloadError as exc:
                _refuse(http_request, rpc, str(exc))
            else:
                _run_handler(method, ServerCall(rpc, message, http_request, self._codec))


def _run_handler(method: _Method, call: ServerCall[Any, Any]) -> None:
    call.http_request.set_on_gone_cb(call.caller_gone)
    try:
        method.handler(call, method.arg)
    except BaseException:
        if not call.answered:
            call.fail("the handler failed")
        raise  # to the HTTP server, which logs it and tells the exception handler


def _refuse(http_request: ServerRequest, rpc: Rpc[Any, Any], text: str) -> None:
    _log.info("%s: call from %s refused: %s", rpc.name, http_request.remote_host, text)
    _send_failure(http_request, text)


def _send_failure(http_request: ServerRequest, text: str) -> None:
    """Answer 503 with a line of text, whatever type the handler had set."""
    headers = http_request.output_headers
    headers.remove("Content-Type")
    headers.add("Content-Type", PLAIN_TEXT)
    http_request.send_reply(HTTP_SERVUNAVAIL, None, f"{text}\n".encode(errors="backslashreplace"))
