"""How a request's body reaches the program that takes it as it comes.

The handler of a route that streams runs when the head is judged.  Nothing of the body is read
before it asks for it: until then, and while it pauses, the client is held back.

Invariants
    * `datacb` is called only between `set_callbacks` and the end, and not while paused.
    * `endcb` is called once, after the last piece: with True when the body is whole, with False
      when the client has gone, the rest is not wanted, or it cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...core.checks import require_callable
from ..errors import LocalProtocolError

if TYPE_CHECKING:
    from .request import ServerRequest

DataCallback = Callable[["ServerRequest", bytes, Any], object]
"""Called as `cb(request, data, arg)`; `data` is not empty."""
EndCallback = Callable[["ServerRequest", bool, Any], object]
"""Called as `cb(request, is_whole, arg)`."""


class BodyIntake:
    """The body of one request that is streamed.

    wanted: called when the program begins to take pieces, or goes on.  unwanted: when it pauses.
    is_paced: whether a client that is silent, or slow, is given up.
    """

    __slots__ = (
        "_arg",
        "_datacb",
        "_endcb",
        "_paused",
        "_unwanted",
        "_wanted",
        "ended",
        "is_paced",
    )

    def __init__(self, wanted: Callable[[], object], unwanted: Callable[[], object]) -> None:
        self._wanted: Callable[[], object] | None = wanted
        self._unwanted: Callable[[], object] | None = unwanted
        self._datacb: DataCallback | None = None
        self._endcb: EndCallback | None = None
        self._arg: Any = None
        self._paused = False
        self.ended = False
        self.is_paced = True

    @property
    def is_wanted(self) -> bool:
        """Whether the program takes pieces now."""
        return self._datacb is not None and not self._paused

    def set_callbacks(self, datacb: DataCallback, endcb: EndCallback | None, arg: object) -> None:
        """Begin to take pieces; see ServerRequest.set_body_cbs."""
        require_callable(datacb)
        if endcb is not None:
            require_callable(endcb)
        if self._datacb is not None or self.ended:
            raise LocalProtocolError("the body is taken already, or has ended")
        self._datacb, self._endcb, self._arg = datacb, endcb, arg
        if not self._paused and self._wanted is not None:
            self._wanted()

    def pause(self) -> None:
        """Hold the client back; safe to repeat."""
        if not self._paused and self._unwanted is not None:
            self._paused = True
            self._unwanted()

    def resume(self) -> None:
        """Go on; safe to repeat."""
        if self._paused:
            self._paused = False
            if self._datacb is not None and self._wanted is not None:
                self._wanted()

    def give(self, request: ServerRequest, piece: bytes) -> None:
        """Give the program a piece.  Raises what its callback raises."""
        if self._datacb is not None:
            self._datacb(request, piece, self._arg)

    def end(self, request: ServerRequest, is_whole: bool) -> None:
        """Tell the end, once.  Raises what the program's callback raises."""
        if self.ended:
            return
        self.ended = True
        self._wanted = self._unwanted = None  # which know the connection
        endcb, arg = self._endcb, self._arg
        self._datacb = self._endcb = self._arg = None
        if endcb is not None:
            endcb(request, is_whole, arg)
