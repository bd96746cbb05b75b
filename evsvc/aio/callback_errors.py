"""Where it goes what a callback of a base raises, while a loop of asyncio drives the base."""

from __future__ import annotations

from asyncio import AbstractEventLoop

from ..core import EventBase


class CallbackErrors:
    """Tells the loop's exception handler, where the base has none of the program's."""

    __slots__ = ("_base", "_loop")

    def __init__(self, base: EventBase, loop: AbstractEventLoop) -> None:
        self._base = base
        self._loop = loop

    def begin(self) -> None:
        """Stand in for an exception handler, if there is none."""
        if self._base.exception_handler is None:
            self._base.exception_handler = self.tell

    def end(self) -> None:
        """Undo `begin`; one that the program has set meanwhile stays."""
        if self._base.exception_handler == self.tell:
            self._base.exception_handler = None

    def tell(self, exc: Exception) -> None:
        """Tell the loop; the base calls this."""
        self._loop.call_exception_handler(
            {"message": "Exception in a callback of the event base", "exception": exc}
        )
