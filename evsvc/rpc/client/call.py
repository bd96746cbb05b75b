"""The client's side of one call: its state, and what its answer means."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from ...core.checks import require_callable
from ...core.errors import StateError
from ...http.wire.status import HTTP_OK
from ..definition import OCTET_STREAM
from ..errors import (
    PayloadError,
    RemoteError,
    RpcError,
    one_line,
)
from ..failures import decode_failure
from ..status import (
    EVRPC_STATUS_ERR_BADPAYLOAD,
    EVRPC_STATUS_ERR_NONE,
    EVRPC_STATUS_ERR_TIMEOUT,
    RpcStatus,
)

if TYPE_CHECKING:
    from ...core import Event
    from ...http import HttpRequest
    from ..codecs.protocol import Codec
    from ..definition import Rpc
    from ..hooks import HookRun
    from .carrier import CallConnection
    from .endpoints import Lane
    from .pool import RpcPool

Request = TypeVar("Request")
Reply = TypeVar("Reply")


ReplyCallback = Callable[[RpcStatus, Request, Reply | None, Any], object]
"""Called once as `cb(status, request, reply, arg)`; `reply` is None on any failure."""


class RpcCall(Generic[Request, Reply]):
    """One call: waiting, on its way, or finished.

    `RpcPool.make_request` makes and sends one; it may be made by hand, too, and sent by `start`
    (evrpc_make_request_ctx, evrpc_make_request).

    pool:      where it is sent; may be changed before (evrpc_request_set_pool).
    rpc:       the definition.
    request:   the message as the program gave it;  payload: its bytes, from `start` on.
    finished:  whether the callback was called, or never will be.
    timeout_s: seconds from `start` that it has; None for any.
    ends_at:   when they are over, on the base's clock.
    metadata:  fields to send along in the header of the HTTP request.
    attempts:  how often it was sent.
    lane:      where it is on its way; None before and after.
    started:   whether `start` was called.
    is_stream: whether it is a `ClientStream`.
    """

    __slots__ = (
        "_abandoned_cb",
        "_arg",
        "_cb",
        "_meta",
        "attempts",
        "backoff",
        "connection",
        "ends_at",
        "finished",
        "hook_run",
        "lane",
        "metadata",
        "payload",
        "pool",
        "request",
        "rpc",
        "started",
        "timeout_s",
    )

    is_stream: ClassVar[bool] = False

    def __init__(
        self,
        pool: RpcPool,
        rpc: Rpc[Request, Reply],
        request: Request,
        cb: ReplyCallback[Request, Reply],
        arg: object = None,
        *,
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        require_callable(cb)
        self.pool = pool
        self.rpc = rpc
        self.request = request
        self.payload = b""
        self.finished = self.started = False
        self.timeout_s = timeout_s
        self.ends_at = math.inf
        self.metadata = metadata
        self.attempts = 0
        self.lane: Lane | None = None
        self.connection: CallConnection | None = None
        self.hook_run: HookRun | None = None
        self.backoff: Event | None = None
        self._meta: dict[str, bytes] | None = None
        self._cb: ReplyCallback[Request, Reply] | None = cb
        self._arg = arg
        self._abandoned_cb: Callable[[], object] | None = None

    @property
    def meta(self) -> dict[str, bytes]:
        """What hooks leave for the hooks behind them: evrpc_hook_add_meta, evrpc_hook_find_meta."""
        if self._meta is None:
            self._meta = {}
        return self._meta

    def set_cb(self, cb: ReplyCallback[Request, Reply], arg: object = None) -> None:
        """Have another callback; raises ArgumentTypeError for none (evrpc_request_set_cb)."""
        require_callable(cb)
        if not self.finished:
            self._cb, self._arg = cb, arg

    def set_abandoned_cb(self, cb: Callable[[], object]) -> None:
        """Call `cb()` if the pool is closed before it is finished, so that no callback will run.

        Raises ArgumentTypeError for what cannot be called.
        """
        require_callable(cb)
        self._abandoned_cb = cb

    def start(self) -> None:
        """Send it by its pool, once; raises as `RpcPool.make_request`, and StateError when it was
        started already (evrpc_make_request)."""
        self.pool.start(self)

    def resume(self, result: int) -> None:
        """Go on after a hook's EVRPC_PAUSE, with EVRPC_CONTINUE or EVRPC_TERMINATE.

        Raises StateError when the call is not paused, ArgumentError for another result.
        Source: evrpc_resume_request.
        """
        if self.hook_run is None:
            raise StateError("the call is not paused")
        self.hook_run.resume(result)

    def cancel(self) -> None:
        """Give the call up: its callback will not run.  Safe to repeat, and when it is finished.

        One on its way is broken off by resetting its connection, which then serves the next.
        """
        if not self.finished:
            self.pool.cancel(self)

    def encode_request(self, codec: Codec) -> None:
        """Make the payload; only the pool calls this.  Raises as `Codec.encode`."""
        self.payload = codec.encode(self.rpc.request_shape, self.request)

    def ride(self, http_request: HttpRequest, codec: Codec) -> None:
        """Have the body carried by a request; only the pool calls this."""
        http_request.output_headers.add("Content-Type", codec.content_type)

    def judge(
        self, codec: Codec, response: HttpRequest | None, failure: Exception | None
    ) -> tuple[RpcStatus, Reply | None]:
        """Tell how it ended; see `judge_response`."""
        return judge_response(codec, self.rpc, response, failure)

    def abandon(self) -> None:
        """End the call without its callback, as the pool is closed; only the pool calls this."""
        abandoned_cb = self._abandoned_cb
        self.forget()
        if abandoned_cb is not None:
            abandoned_cb()

    def forget(self) -> None:
        """End the call without its callback; only the pool calls this."""
        self.finished = True
        self.connection = self.hook_run = self._cb = self._abandoned_cb = None
        if self.backoff is not None:
            self.backoff.close()
            self.backoff = None

    def finish(self, status: RpcStatus, reply: Reply | None) -> None:
        """Run the callback; only the pool calls this, once."""
        cb = self._cb
        self.forget()
        if cb is not None:
            cb(status, self.request, reply, self._arg)


def judge_response(
    codec: Codec, rpc: Rpc[Any, Reply], response: HttpRequest | None, failure: Exception | None
) -> tuple[RpcStatus, Reply | None]:
    """Tell how a call ended, with its reply if there is one.

    response: what HTTP delivered; None, or without a status when the connection was refused.
    failure:  why HTTP delivered nothing, as far as it is known.
    """
    if response is None or not response.response_code:
        cause = RpcError("no response") if failure is None else failure
        return RpcStatus(EVRPC_STATUS_ERR_TIMEOUT, cause), None
    payload = response.take_body()
    content_type = response.input_headers.find("Content-Type")
    if response.response_code != HTTP_OK:
        code = response.response_code
        remote = RemoteError(code, *decode_failure(code, content_type, payload))
        return RpcStatus(EVRPC_STATUS_ERR_BADPAYLOAD, remote, response), None
    unknown: dict[str, object] = {}
    try:
        if content_type is not None and not is_type(content_type, codec.content_type):
            raise PayloadError(f"the answer is {one_line(content_type)}, not {codec.content_type}")
        reply = codec.decode(rpc.reply_shape, payload, unknown)
    except PayloadError as exc:
        return RpcStatus(EVRPC_STATUS_ERR_BADPAYLOAD, exc, response), None
    return RpcStatus(EVRPC_STATUS_ERR_NONE, None, response, unknown), reply


def is_type(content_type: str, wanted: str) -> bool:
    """Whether an answer may be of the wanted type; libevent says octet-stream of every one."""
    if content_type == wanted:
        return True
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type in (wanted, OCTET_STREAM)
