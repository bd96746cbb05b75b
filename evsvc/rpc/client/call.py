"""The client's side of one call: its state, and what its answer means."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

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
    from .pool import Lane

Request = TypeVar("Request")
Reply = TypeVar("Reply")


ReplyCallback = Callable[[RpcStatus, Request, Reply | None, Any], object]
"""Called once as `cb(status, request, reply, arg)`; `reply` is None on any failure."""


class RpcCall(Generic[Request, Reply]):
    """One call of a pool, waiting, on its way, or finished.  Made by `RpcPool.make_request`.

    rpc:       the definition.
    request:   the message as the program gave it;  payload: its bytes.
    finished:  whether the callback was called, or never will be.
    lane:      where the call is on its way; None before and after.
    timeout_s: seconds from `make_request` that it has; None for any.
    ends_at:   when they are over, on the base's clock.
    """

    __slots__ = (
        "_arg",
        "_cancel",
        "_cb",
        "_timer",
        "ends_at",
        "finished",
        "lane",
        "payload",
        "request",
        "rpc",
        "timeout_s",
    )

    def __init__(
        self,
        rpc: Rpc[Request, Reply],
        request: Request,
        payload: bytes,
        cb: ReplyCallback[Request, Reply],
        arg: object,
        cancel: Callable[[RpcCall[Any, Any]], object],
    ) -> None:
        self.rpc = rpc
        self.request = request
        self.payload = payload
        self.finished = False
        self.lane: Lane | None = None
        self.timeout_s: float | None = None
        self.ends_at = math.inf
        self._timer: Event | None = None
        self._cb = cb
        self._arg = arg
        self._cancel = cancel

    def cancel(self) -> None:
        """Give the call up: its callback will not run.  Safe to repeat, and when it is finished.

        One on its way is broken off by resetting its connection, which then serves the next.
        """
        if not self.finished:
            self._cancel(self)

    def limit(self, timer: Event, seconds: float, now: float) -> None:
        """Start the call's time; only the pool calls this."""
        self.timeout_s = seconds
        self.ends_at = now + seconds
        self._timer = timer
        timer.add(seconds)

    def forget(self) -> None:
        """End the call without its callback; only the pool calls this."""
        self.finished = True
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def finish(self, status: RpcStatus, reply: Reply | None) -> None:
        """Run the callback; only the pool calls this, once."""
        self.forget()
        self._cb(status, self.request, reply, self._arg)


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
    payload = bytes(response.input_buffer)
    content_type = response.input_headers.find("Content-Type")
    if response.response_code != HTTP_OK:
        remote = RemoteError(response.response_code, *decode_failure(content_type, payload))
        return RpcStatus(EVRPC_STATUS_ERR_BADPAYLOAD, remote, response), None
    try:
        if content_type is not None and not _is_type(content_type, codec.content_type):
            raise PayloadError(f"the answer is {one_line(content_type)}, not {codec.content_type}")
        reply = codec.decode(rpc.reply_shape, payload)
    except PayloadError as exc:
        return RpcStatus(EVRPC_STATUS_ERR_BADPAYLOAD, exc, response), None
    return RpcStatus(EVRPC_STATUS_ERR_NONE, None, response), reply


def _is_type(content_type: str, wanted: str) -> bool:
    if content_type == wanted:
        return True
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type in (wanted, OCTET_STREAM)
