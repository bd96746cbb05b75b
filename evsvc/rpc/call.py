"""The client's side of one call: its state, and the status that its callback is given."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..http.wire.status import HTTP_OK
from .errors import (
    PayloadError,
    RemoteError,
    RpcError,
    one_line,
)

if TYPE_CHECKING:
    from ..core import Event
    from ..http import HttpRequest
    from .codec import Codec
    from .definition import Rpc
    from .pool import Lane

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class RpcStatusCode(enum.IntEnum):
    """How a call ended (EVRPC_STATUS_ERR_*); zero is success.

    TIMEOUT:     no answer: the timeout passed, or HTTP failed in any way, as in libevent;
                 `RpcStatus.cause` tells them apart.
    BADPAYLOAD:  an answer came, but not a reply: another HTTP status than 200, or a payload that
                 does not fit the reply type.
    UNSTARTED:   nothing was sent.
    HOOKABORTED: a hook of the client stopped the reply.
    """

    EVRPC_STATUS_ERR_NONE = 0
    EVRPC_STATUS_ERR_TIMEOUT = 1
    EVRPC_STATUS_ERR_BADPAYLOAD = 2
    EVRPC_STATUS_ERR_UNSTARTED = 3
    EVRPC_STATUS_ERR_HOOKABORTED = 4


EVRPC_STATUS_ERR_NONE = RpcStatusCode.EVRPC_STATUS_ERR_NONE
EVRPC_STATUS_ERR_TIMEOUT = RpcStatusCode.EVRPC_STATUS_ERR_TIMEOUT
EVRPC_STATUS_ERR_BADPAYLOAD = RpcStatusCode.EVRPC_STATUS_ERR_BADPAYLOAD
EVRPC_STATUS_ERR_UNSTARTED = RpcStatusCode.EVRPC_STATUS_ERR_UNSTARTED
EVRPC_STATUS_ERR_HOOKABORTED = RpcStatusCode.EVRPC_STATUS_ERR_HOOKABORTED


@dataclass(frozen=True, slots=True)
class RpcStatus:
    """How one call ended (struct evrpc_status).

    error:         libevent's code; zero, and so false, on success.
    cause:         the exception that says why; None on success.
    http_request:  the HTTP request with its response, or None when no response came.
    """

    error: RpcStatusCode
    cause: Exception | None = None
    http_request: HttpRequest | None = None

    @property
    def message(self) -> str:
        """The cause as text; empty on success."""
        return "" if self.cause is None else str(self.cause) or type(self.cause).__name__


ReplyCallback = Callable[[RpcStatus, Request, Reply | None, Any], object]
"""Called once as `cb(status, request, reply, arg)`; `reply` is None on any failure."""


class RpcCall(Generic[Request, Reply]):
    """One call of a pool, waiting, on its way, or finished.  Made by `RpcPool.make_request`.

    rpc:       the definition.
    request:   the message as the program gave it;  payload: its bytes.
    finished:  whether the callback was called, or never will be.
    lane:      where the call is on its way; None before and after.
    timeout_s: seconds from `make_request` that it has; None for any.
    """

    __slots__ = (
        "_arg",
        "_cancel",
        "_cb",
        "_timer",
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

    def limit(self, timer: Event, seconds: float) -> None:
        """Start the call's time; only the pool calls this."""
        self.timeout_s = seconds
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
    if response.response_code != HTTP_OK:
        remote = RemoteError(response.response_code, _explanation(response, payload))
        return RpcStatus(EVRPC_STATUS_ERR_BADPAYLOAD, remote, response), None
    try:
        reply = codec.decode(rpc.reply_shape, payload)
    except PayloadError as exc:
        return RpcStatus(EVRPC_STATUS_ERR_BADPAYLOAD, exc, response), None
    return RpcStatus(EVRPC_STATUS_ERR_NONE, None, response), reply


def _explanation(response: HttpRequest, payload: bytes) -> str:
    """Return a plain-text body as one shortened line; a page of HTML is no explanation."""
    content_type = response.input_headers.find("Content-Type") or ""
    if not content_type.lower().startswith("text/plain"):
        return ""
    return one_line(payload.decode(errors="replace"))
