"""What `finish` waits for: that the rest is sent and the peer has ended, too, or for its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..flags import EOF, ERROR, READING, WRITING
from ..reactor.event import Event

if TYPE_CHECKING:
    from ..reactor.base import EventBase
    from .abstract import AbstractBufferEvent


class _Until(Event):
    """The time that there is: it is over, too, when the event base is closed."""

    __slots__ = ("_end",)

    def __init__(self, base: EventBase, end: Callable[[], object]) -> None:
        super().__init__(base, -1, 0, self._on_timer)
        self._end = end

    def _on_timer(self, fd: int, what: int, arg: object) -> None:
        self._end()

    def let_go(self) -> None:
        """End it now: the base is closed, and no loop will."""
        super().let_go()
        self._end()


class Finish:
    """The callbacks of a bufferevent that the program has let go.

    all_sent: returns True when the peer has been sent everything, and the end.  end: closes the
    bufferevent for good, which closes this.
    """

    __slots__ = ("_all_sent", "_end", "_timer", "input_over")

    def __init__(
        self,
        base: EventBase,
        timeout: float,
        input_over: bool,
        all_sent: Callable[[], object],
        end: Callable[[], object],
    ) -> None:
        self.input_over = input_over
        self._all_sent = all_sent
        self._end = end
        self._timer = _Until(base, end)
        self._timer.add(timeout)

    def read(self, bev: AbstractBufferEvent, ctx: object) -> None:
        """Throw away what has come."""
        bev.input.drop(bev.input.length)

    def wrote(self, bev: AbstractBufferEvent, ctx: object) -> None:
        """Look whether it was the last."""
        self.look()

    def told(self, bev: AbstractBufferEvent, what: int, ctx: object) -> None:
        """Note the peer's end; a failure of more than reading is the end of all."""
        if what & ERROR and what & (READING | WRITING) != READING:
            self._end()
        elif what & (EOF | ERROR):
            self.input_over = True
            self.look()

    def look(self) -> None:
        """End it when both sides have ended."""
        if self.input_over and self._all_sent():
            self._end()

    def close(self) -> None:
        """Wait no longer."""
        self._timer.close()
