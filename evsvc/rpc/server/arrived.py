"""ArrivedCall: what a handler holds, be it a call or a stream."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ...core.checks import require_callable
from ...core.errors import StateError
from ..definition import DEADLINE_FIELD, Rpc
from ..errors import RpcErrorCode
from ..hooks import HookList, HookRun

if TYPE_CHECKING:
    from ...core import EvBuffer, EventBase
    from ...http import Headers, ServerConnection
    from ..codecs.protocol import Codec
    from ..packing import Packing
    from .carrier import CallCarrier

Request = TypeVar("Request")
Reply = TypeVar("Reply")

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

    def callback_raised(self, call: Any, exc: BaseException) -> None:
        """Fail a call whose code has raised, and tell the program."""


class ArrivedCall(ABC, Generic[Request, Reply]):
    """A call that arrived, of any kind.

    rpc:          the definition.
    request:      the one message that arrived (evrpc_get_request); not there yet in an input hook.
    http_request: the HTTP request that carries it, for its headers and peer; or what stands for it
                  where calls share a WebSocket.
    cancelled:    whether the caller has ended its side before the end: nobody may be waiting.
    """

    __slots__ = (
        "_arrived",
        "_cancel_cb",
        "_codec",
        "_ended_cb",
        "_home",
        "_hook_run",
        "cancelled",
        "http_request",
        "request",
        "rpc",
    )

    request: Request

    def __init__(
        self,
        home: CallHome,
        rpc: Rpc[Request, Reply],
        http_request: CallCarrier,
        codec: Codec,
        ended_cb: Callable[[], object] | None,
    ) -> None:
        self.rpc = rpc
        self.http_request = http_request
        self.cancelled = False
        self._home = home
        self._arrived = home.base.now
        self._codec = codec
        self._ended_cb = ended_cb
        self._cancel_cb: tuple[Callable[[Any, Any], object], Any] | None = None
        self._hook_run: HookRun | None = None

    @property
    @abstractmethod
    def answered(self) -> bool:
        """Whether the handler has ended it."""

    @abstractmethod
    def fail(
        self, text: str, code: RpcErrorCode = RpcErrorCode.UNKNOWN, details: object = None
    ) -> None:
        """End it by a failure."""

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to do: it is ended, or the caller has gone."""
        return self.cancelled or self.answered

    @property
    def metadata(self) -> Headers:
        """What the caller sent beside the messages: the header of its HTTP request."""
        return self.http_request.input_headers

    @property
    def reply_metadata(self) -> Headers:
        """What to send beside the reply, until its first byte: the header of the HTTP response."""
        return self.http_request.output_headers

    @property
    def connection(self) -> ServerConnection | None:
        """The caller's connection; None once it has gone (evrpc_hook_get_connection)."""
        return self.http_request.connection

    @property
    def deadline(self) -> float | None:
        """When the caller stops waiting, on the base's clock; None when it has not said."""
        text = self.http_request.input_headers.find(DEADLINE_FIELD)
        if text is None or not _SECONDS.fullmatch(text):
            return None
        return self._arrived + float(text)

    def on_cancel(self, cb: Callable[[Any, Any], object], arg: object = None) -> None:
        """Call `cb(call, arg)` once, if the caller goes before the end; at once if it has.

        A call may still be answered; that is sent where the caller has only closed its sending
        side.  Raises ArgumentTypeError for what cannot be called.
        """
        require_callable(cb)
        if self.cancelled:
            cb(self, arg)
        else:
            self._cancel_cb = (cb, arg)

    def run_hooks(
        self, hooks: tuple[Any, ...], body: EvBuffer, done: Callable[[bool], object]
    ) -> None:
        """Send it through hooks, and call `done` with whether it goes on; the server calls this
        for those of the input."""
        seen = (self, self.http_request, body)
        self._hook_run = HookRun(hooks, seen, done, self._home.hook_failed)
        self._hook_run.run()

    def resume(self, result: int) -> None:
        """Go on after a hook's EVRPC_PAUSE, with EVRPC_CONTINUE or EVRPC_TERMINATE.

        Raises StateError when it is not paused by a hook, ArgumentError for another result.
        Source: evrpc_resume_request.
        """
        if self._hook_run is None:
            raise StateError("the call is not paused")
        self._hook_run.resume(result)

    def _count_end(self) -> None:
        """It counts no more among those under way."""
        ended_cb, self._ended_cb = self._ended_cb, None
        if ended_cb is not None:
            ended_cb()
