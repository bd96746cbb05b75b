"""The server's side: mounts definitions on an HTTP server and answers their calls.

Whatever goes wrong is answered 503, as libevent answers 503, with a JSON object that says more; a
Content-Type that no codec has is 415.  The connection lives on.  A peer's fault is logged to
`evsvc.rpc` at INFO, the program's own at ERROR.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ...core import EvBuffer
from ...core.checks import check_limits, require_handler
from ...core.closing import Closing
from ...core.errors import ArgumentError
from ...http.wire.status import HTTP_OK
from ..codecs.json import JsonCodec
from ..codecs.msgpack import MsgpackCodec
from ..definition import OCTET_STREAM, Rpc, RpcKind, Service
from ..description import describe
from ..errors import CallFailed, PayloadError, RpcErrorCode
from ..frames import STREAM_SUFFIX, StreamOptions
from ..health import HEALTH_PATH, Health, HealthBoard
from ..hooks import Hook, HookCallback, HookList
from ..packing import ACCEPT_ENCODING, CONTENT_ENCODING, Packing, PackingOptions
from .call import ServerCall, send_failure
from .stream import ServerStream

if TYPE_CHECKING:
    from ...core import EventBase
    from ...http import HttpServer, ServerRequest
    from ..codecs.protocol import Codec
    from .arrived import ArrivedCall
    from .carrier import CallCarrier

Request = TypeVar("Request")
Reply = TypeVar("Reply")

Handler = Callable[[ServerCall[Request, Reply], Any], object]
"""Called as `handler(call, arg)` for each call whose request is sound."""

StreamHandler = Callable[[ServerStream[Request, Reply], Any], object]
"""Called as `handler(stream, arg)` for each stream; of a SERVER_STREAM with its request."""

UNSUPPORTED_MEDIA_TYPE = 415

DESCRIPTION_PATH = "/.rpc"

_log = logging.getLogger("evsvc.rpc")


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodOptions:
    """Limits of one method.

    Raises ArgumentError when a number is not positive, ArgumentTypeError for what is none.

    max_concurrent:    calls that its handler may hold at once; one more is RESOURCE_EXHAUSTED.
    max_request_bytes: of one request, where that is less than the codec's limit.
    """

    max_concurrent: int | None = None
    max_request_bytes: int | None = None

    def __post_init__(self) -> None:
        check_limits(self, or_none=("max_concurrent", "max_request_bytes"))


_NO_LIMITS = MethodOptions()


class Method:
    """What is mounted under one name."""

    __slots__ = ("arg", "handler", "in_flight", "options", "rpc", "stream_options")

    def __init__(
        self,
        rpc: Rpc[Any, Any],
        handler: Callable[[Any, Any], object],
        arg: object,
        options: MethodOptions | None,
        stream_options: StreamOptions | None = None,
    ) -> None:
        self.rpc = rpc
        self.handler = handler
        self.arg = arg
        self.options = options or _NO_LIMITS
        self.stream_options = stream_options or StreamOptions()
        self.in_flight = 0  # counted where they are limited

    def ended(self) -> None:
        """One call less is held."""
        self.in_flight -= 1

    def refusal(self, payload_bytes: int) -> str | None:
        """Return why a call is over a limit, or None."""
        options = self.options
        most = options.max_request_bytes
        if most is not None and payload_bytes > most:
            return f"{payload_bytes} payload bytes are more than the limit of {most}"
        if options.max_concurrent is not None and self.in_flight >= options.max_concurrent:
            return f"{self.in_flight} calls are under way, which is the limit"
        return None


class RpcServer(Closing):
    """Serves RPCs at `/.rpc.<name>` of an HTTP server (evrpc_base).

    codec: how messages become bytes, and within which limits; of several the request's Content-Type
    picks one, and its reply goes out by the same.  A request without Content-Type, or with
    application/octet-stream, as libevent's clients send them, is for EvtagCodec where that is among
    them, and else for the first.  None is MessagePack and JSON.

    http_server, methods: where it is mounted, and what by name; for what carries calls.

    packing: take compressed requests, and compress replies for who asks for it, but streams; None
    does neither.  Hooks see the bytes as they are on the wire.

    Raises ArgumentError for no codec, or two of one type.
    """

    __slots__ = (
        "_codecs",
        "_default_codec",
        "_paths",
        "hooks",
        "http_server",
        "methods",
        "packing",
    )

    def __init__(
        self,
        http_server: HttpServer,
        *,
        codec: Codec | Sequence[Codec] | None = None,
        packing: PackingOptions | None = None,
    ) -> None:
        if codec is None:
            codecs: tuple[Codec, ...] = (MsgpackCodec(), JsonCodec())
        else:
            codecs = tuple(codec) if isinstance(codec, Sequence) else (codec,)
        self._codecs = {codec.content_type: codec for codec in codecs}
        if not codecs or len(self._codecs) < len(codecs):
            raise ArgumentError(f"codecs are one or more, of different types: {codecs!r}")
        self._default_codec = self._codecs.setdefault(OCTET_STREAM, codecs[0])
        self.http_server = http_server
        self.methods: dict[str, Method] = {}
        self._paths: list[str] = []  # of what is no call
        self.hooks = HookList()
        self.packing = None if packing is None else Packing(packing)

    @property
    def base(self) -> EventBase:
        """The event base."""
        return self.http_server.base

    @property
    def content_types(self) -> list[str]:
        """The types of request that it takes."""
        return list(self._codecs)

    @property
    def rpcs(self) -> list[Rpc[Any, Any]]:
        """The definitions that are served."""
        return [method.rpc for method in self.methods.values()]

    def register_rpc(
        self,
        rpc: Rpc[Request, Reply],
        handler: Handler[Request, Reply],
        arg: object = None,
        options: MethodOptions | None = None,
    ) -> None:
        """Answer calls of `rpc` by `handler(call, arg)`.

        A handler may raise CallFailed to have the caller told.  When it raises anything else, the
        peer is answered INTERNAL, the traceback is logged, and the base's exception handler is
        told.  A ONE_WAY call is answered already when the handler runs.  Raises ArgumentError when
        the name is taken, or it is a stream, ArgumentTypeError for a handler that cannot be called,
        or is a coroutine function (see evsvc.aio.handler), DefinitionError when a codec does not
        carry one of the messages.  EVRPC_REGISTER.
        """
        if rpc.kind.is_stream:
            raise ArgumentError(f"register_stream is for streams: {rpc!r}")
        require_handler(handler, f"the handler of {rpc.name}")
        self._check(rpc)
        if rpc.kind is RpcKind.ONE_WAY:
            handler = partial(_answer_first, handler)
        method = Method(rpc, handler, arg, options)
        self.http_server.set_cb(rpc.path, self.begin_call, method)
        self.methods[rpc.name] = method

    def register_stream(
        self,
        rpc: Rpc[Request, Reply],
        handler: StreamHandler[Request, Reply],
        arg: object = None,
        options: MethodOptions | None = None,
        stream_options: StreamOptions | None = None,
    ) -> None:
        """Answer streams of `rpc` by `handler(stream, arg)`.

        Of a SERVER_STREAM it runs when the one request is here; else at once, and takes messages by
        `stream.set_message_cbs`.  What it, or a callback of the stream, raises is as for
        `register_rpc`.  `max_request_bytes` of the options is of each message.  Raises
        ArgumentError when the name is taken, or it is no stream, and the rest as `register_rpc`.
        """
        if not rpc.kind.is_stream:
            raise ArgumentError(f"register_rpc is for what is no stream: {rpc!r}")
        require_handler(handler, f"the handler of {rpc.name}")
        self._check(rpc)
        method = Method(rpc, handler, arg, options, stream_options)
        self.http_server.set_cb(rpc.path, self.begin_stream, method, streams=True)
        self.methods[rpc.name] = method

    def _check(self, rpc: Rpc[Any, Any]) -> None:
        for codec in self._codecs.values():
            codec.check(rpc.request_shape)
            codec.check(rpc.reply_shape)

    def register_service(
        self,
        service: type[Service],
        handlers: object,
        arg: object = None,
        options: MethodOptions | None = None,
    ) -> None:
        """Answer the calls of a service by the methods of `handlers` that have its names.

        Raises ArgumentError when one is missing, before any is registered, and as `register_rpc`.
        """
        rpcs = service.rpcs()
        missing = [name for name in rpcs if not callable(getattr(handlers, name, None))]
        if missing or not rpcs:
            text = ", ".join(missing) or "no RPC at all"
            raise ArgumentError(f"{handlers!r} does not serve {service.__name__}: {text}")
        for name, rpc in rpcs.items():
            register = self.register_stream if rpc.kind.is_stream else self.register_rpc
            register(rpc, getattr(handlers, name), arg, options)

    def unregister_rpc(self, rpc: Rpc[Any, Any]) -> None:
        """Answer no further calls of `rpc`; those under way may still be finished.

        Raises ArgumentError when its name is not registered.  EVRPC_UNREGISTER.
        """
        if self.methods.pop(rpc.name, None) is None:
            raise ArgumentError(f"the RPC {rpc.name!r} is not registered")
        self.http_server.del_cb(rpc.path)

    def serve_description(self, path: str = DESCRIPTION_PATH) -> None:
        """Tell whoever asks by GET what is served: methods, messages and types, as JSON.

        `evsvc rpc describe` reads it.  Raises ArgumentError when the path has a callback.
        """
        self.mount(path, self._on_description)

    def serve_health(self, path: str = HEALTH_PATH) -> HealthBoard:
        """Answer the RPC `Health`, and GET of `path`; return what says how the services are.

        Raises ArgumentError when one of both is taken.
        """
        board = HealthBoard()
        self.register_rpc(Health, board.answer_call)
        self.mount(path, board.answer_request)
        return board

    def add_hook(self, kind: int, hook: HookCallback, arg: object = None) -> Hook:
        """Have `hook(call, http_request, body, arg)` see every call of a kind; see `hooks`.

        EVRPC_INPUT sees requests before they are decoded, EVRPC_OUTPUT replies when they are
        encoded.  Where it terminates a call the peer is answered 503.  Raises ArgumentError for
        another kind, ArgumentTypeError for what cannot be called.  Source: evrpc_add_hook.
        """
        return self.hooks.add(kind, hook, arg)

    def remove_hook(self, hook: Hook) -> None:
        """Take a hook back; raises ArgumentError when it is not here (evrpc_remove_hook)."""
        self.hooks.remove(hook)

    def close(self) -> None:
        """Unregister everything; calls under way may still be finished.  Safe to repeat."""
        for method in list(self.methods.values()):
            self.unregister_rpc(method.rpc)
        while self._paths:
            self.http_server.del_cb(self._paths.pop())

    def mount(
        self, path: str, cb: Callable[[ServerRequest, Any], object], arg: object = None
    ) -> None:
        """Have `cb(http_request, arg)` answer GET of a path, until `close`.

        Raises ArgumentError when the path has a callback.
        """
        self.http_server.set_cb(path, cb, arg, methods=("GET",))
        self._paths.append(path)

    def hook_failed(self, exc: Exception) -> None:
        """Log what a hook raised, and tell the base's exception handler."""
        self.http_server.service.callback_failed(exc, self)

    def _on_description(self, http_request: ServerRequest, arg: object) -> None:
        text = json.dumps(describe(self.rpcs, self._codecs), indent=2)
        http_request.output_headers.add("Content-Type", "application/json")
        http_request.send_reply(HTTP_OK, None, text.encode() + b"\n")

    def begin_call(self, http_request: CallCarrier, method: Method) -> None:
        """Answer a call whose request is here; what carries it calls this."""
        rpc = method.rpc
        if http_request.method != "POST":
            text = f"a call is made by POST, not {http_request.method}"
            return _refuse(http_request, rpc, text)
        content_type = http_request.input_headers.find("Content-Type")
        codec = self._codec_for(content_type)
        if codec is None:
            text = f"a request is {' or '.join(self._codecs)}, not {content_type}"
            code = RpcErrorCode.UNIMPLEMENTED
            return _refuse(http_request, rpc, text, code, UNSUPPORTED_MEDIA_TYPE)
        packing = self.packing
        if packing is not None:
            http_request.output_headers.add(ACCEPT_ENCODING, packing.accepted)
            coding = http_request.input_headers.find(CONTENT_ENCODING)
            if coding is not None and not packing.takes(coding):
                text = f"a request is packed by {packing.accepted}, not {coding}"
                code = RpcErrorCode.UNIMPLEMENTED
                return _refuse(http_request, rpc, text, code, UNSUPPORTED_MEDIA_TYPE)
        ended_cb = None
        if method.options is not _NO_LIMITS:
            refusal = method.refusal(http_request.gathered_bytes)
            if refusal is not None:
                return _refuse(http_request, rpc, refusal, RpcErrorCode.RESOURCE_EXHAUSTED)
            method.in_flight += 1
            ended_cb = method.ended
        call = ServerCall(self, rpc, http_request, codec, ended_cb)
        http_request.set_on_gone_cb(call.caller_gone)
        hooks = self.hooks.input
        if hooks:
            body = http_request.input_buffer
            call.run_hooks(hooks, body, lambda goes_on: self._begin(method, call, codec, goes_on))
        else:
            self._begin(method, call, codec, True)
        return None

    def _codec_for(self, content_type: str | None) -> Codec | None:
        if content_type is None:
            return self._default_codec
        codec = self._codecs.get(content_type)
        if codec is None:
            codec = self._codecs.get(content_type.partition(";")[0].strip().lower())
        return codec

    def _begin(
        self, method: Method, call: ServerCall[Any, Any], codec: Codec, goes_on: bool
    ) -> None:
        """Decode the request, and have the handler called."""
        if call.answered:
            return None  # while a hook held it
        if not goes_on:
            return _fail(call, "a hook has refused the request", RpcErrorCode.ABORTED)
        payload = call.http_request.take_body()
        if not payload:
            return _fail(call, "the request has no body")
        try:
            if self.packing is not None:
                coding = call.http_request.input_headers.find(CONTENT_ENCODING)
                if coding is not None:
                    payload = self.packing.unpack(payload, coding)
            call.request = codec.decode(call.rpc.request_shape, payload, call.unknown_fields)
        except PayloadError as exc:
            return _fail(call, str(exc))
        try:
            method.handler(call, method.arg)
        except BaseException as exc:
            self.callback_raised(call, exc)
        return None

    def callback_raised(self, call: ArrivedCall[Any, Any], exc: BaseException) -> None:
        """Fail a call whose handler, or a callback of it, has raised; from that except clause."""
        if isinstance(exc, CallFailed):
            if not call.answered:
                call.fail(str(exc), exc.code, exc.details)
            return
        if not call.answered:
            call.fail("the handler failed", RpcErrorCode.INTERNAL)
        if not isinstance(exc, Exception):
            raise exc
        self.http_server.service.callback_failed(exc, call)

    def begin_stream(self, http_request: CallCarrier, method: Method) -> None:
        """Answer a stream whose head is here; what carries it calls this."""
        rpc = method.rpc
        if http_request.method != "POST":
            text = f"a stream is opened by POST, not {http_request.method}"
            return _refuse(http_request, rpc, text)
        content_type = http_request.input_headers.find("Content-Type")
        media_type = (content_type or "").partition(";")[0].strip().lower()
        codec = self._codecs.get(media_type.removesuffix(STREAM_SUFFIX))
        if codec is None or not media_type.endswith(STREAM_SUFFIX):
            types = " or ".join(each + STREAM_SUFFIX for each in self._codecs)
            text = f"a stream is {types}, not {content_type}"
            code = RpcErrorCode.UNIMPLEMENTED
            return _refuse(http_request, rpc, text, code, UNSUPPORTED_MEDIA_TYPE)
        refusal = method.refusal(0)
        if refusal is not None:
            return _refuse(http_request, rpc, refusal, RpcErrorCode.RESOURCE_EXHAUSTED)
        method.in_flight += 1
        most = method.options.max_request_bytes
        stream = ServerStream(
            self, rpc, http_request, codec, method.stream_options, most, method.ended
        )
        http_request.set_on_gone_cb(stream.caller_gone)
        hooks = self.hooks.input
        if hooks:
            stream.run_hooks(hooks, EvBuffer(), partial(self._begin_stream, method, stream))
        else:
            self._begin_stream(method, stream, True)
        return None

    def _begin_stream(self, method: Method, stream: ServerStream[Any, Any], goes_on: bool) -> None:
        """Have the handler called: with the one request, or at once."""
        if stream.finished:
            return  # while a hook held it
        if not goes_on:
            _fail(stream, "a hook has refused the request", RpcErrorCode.ABORTED)
        elif method.rpc.kind is RpcKind.SERVER_STREAM:
            stream.take(_keep_request, partial(self._begin_sending, method), None)
        else:
            self._run_handler(method, stream)

    def _begin_sending(self, method: Method, stream: ServerStream[Any, Any], arg: object) -> None:
        if hasattr(stream, "request"):
            self._run_handler(method, stream)
        else:
            _fail(stream, "the stream has no request")

    def _run_handler(self, method: Method, stream: ServerStream[Any, Any]) -> None:
        try:
            method.handler(stream, method.arg)
        except BaseException as exc:
            self.callback_raised(stream, exc)


def _answer_first(handler: Handler[Any, Any], call: ServerCall[Any, Any], arg: object) -> None:
    """Answer a one-way call, and then have it handled."""
    call.done()
    handler(call, arg)


def _keep_request(stream: ServerStream[Any, Any], message: object, arg: object) -> None:
    """Take the one request of a stream from the server."""
    if hasattr(stream, "request"):
        _fail(stream, "the stream has more than one request")
    else:
        stream.request = message


def _fail(
    call: ArrivedCall[Any, Any],
    text: str,
    code: RpcErrorCode = RpcErrorCode.INVALID_ARGUMENT,
) -> None:
    _log.info("%s: call from %s refused: %s", call.rpc.name, call.http_request.remote_host, text)
    call.fail(text, code)


def _refuse(
    http_request: CallCarrier,
    rpc: Rpc[Any, Any],
    text: str,
    code: RpcErrorCode = RpcErrorCode.INVALID_ARGUMENT,
    status: int = 503,
) -> None:
    _log.info("%s: call from %s refused: %s", rpc.name, http_request.remote_host, text)
    send_failure(http_request, text, code, status)
