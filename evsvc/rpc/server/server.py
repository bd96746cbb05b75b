"""The server's side: mounts definitions on an HTTP server and answers their calls.

Whatever goes wrong is answered 503 with a line of text, as libevent answers 503; the connection
lives on.  A peer's fault is logged to `evsvc.rpc` at INFO, the program's own at ERROR.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ...core.closing import Closing
from ...core.errors import ArgumentError
from ..codecs.msgpack import MsgpackCodec
from ..definition import Rpc
from ..errors import PayloadError
from .call import ServerCall, send_failure

if TYPE_CHECKING:
    from ...http import HttpServer, ServerRequest
    from ..codecs.protocol import Codec

Request = TypeVar("Request")
Reply = TypeVar("Reply")

_log = logging.getLogger("evsvc.rpc")


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
    send_failure(http_request, text)
