"""Multiplex: the calls that share a WebSocket, by number, on either side.

Frames of a call that is over here may still be on their way from the peer, and are passed over.  A
number that was never used is a fault, as is all else that `frames` and `flow` refuse: it ends the
WebSocket with 1002, and so all its calls.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from ...http.websocket import WS_BINARY_FRAME, WS_CR_PROTO_ERR, FrameType, WsConnection
from ..errors import one_line
from .frames import Frame, FrameError, Kind, decode
from .outbox import Outbox

if TYPE_CHECKING:
    from .options import RpcWebSocketOptions

UNSUPPORTED_DATA = 1003
"""How a WebSocket ends on which a text came (RFC 6455 section 7.4.1)."""

MAX_REASON_CHARACTERS = 100
"""How much of what is wrong goes into the close frame."""

_log = logging.getLogger("evsvc.rpc")


class SharedCall(Protocol):
    """What stands for a call on one side."""

    def receive(self, frame: Frame) -> None:
        """Take a frame of the call.  Raises FrameError when it is not its turn."""


Call = TypeVar("Call", bound=SharedCall)


class Multiplex(Generic[Call]):
    """Gives each frame to its call.

    calls:   by number, those that are not over.  last_id: the highest number so far.
    options: the limits.  outbox: sends the calls' frames.
    """

    __slots__ = ("_on_broken", "_on_other", "_wanted", "calls", "last_id", "options", "outbox")

    def __init__(
        self,
        options: RpcWebSocketOptions,
        wanted: frozenset[Kind],
        on_other: Callable[[Frame], object],
        on_broken: Callable[[FrameError], object],
    ) -> None:
        self.options = options
        self.outbox = Outbox(options.max_unsent_bytes)
        self.calls: dict[int, Call] = {}
        self.last_id = 0
        self._wanted = wanted
        self._on_other = on_other
        self._on_broken = on_broken

    def receive(self, ws: WsConnection, kind: FrameType, data: str | bytes, arg: object) -> None:
        """Take a message of the WebSocket."""
        try:
            if kind is not WS_BINARY_FRAME:
                raise FrameError("a text message")
            assert isinstance(data, bytes)
            self._receive(decode(data, self._wanted))
        except FrameError as exc:
            text = one_line(str(exc))[:MAX_REASON_CHARACTERS]
            _log.info("calls over a WebSocket: the peer has sent %s", text)
            code = WS_CR_PROTO_ERR if kind is WS_BINARY_FRAME else UNSUPPORTED_DATA
            ws.shutdown(code, text.encode("ascii", "replace").decode())
            self._on_broken(exc)

    def close(self) -> list[Call]:
        """Be over; return the calls that were not."""
        self._on_other = self._on_broken = _nothing  # which know who has us
        self.outbox.close()
        left = list(self.calls.values())
        self.calls.clear()
        return left

    def _receive(self, frame: Frame) -> None:
        if frame.kind in (Kind.BEGIN, Kind.LEAVE):
            self._on_other(frame)
            return
        call = self.calls.get(frame.call_id)
        if call is not None:
            call.receive(frame)
        elif frame.call_id > self.last_id:
            raise FrameError(f"a {frame.kind.name} of call {frame.call_id}, which has not begun")


def _nothing(about: object) -> None:
    """Stand for who is told no more."""
