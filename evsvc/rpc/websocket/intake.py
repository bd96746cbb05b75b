"""Intake: a body as it comes, held back where the program does not take it.

What the program takes is given credit for; what it does not take stays here, and is no more than
the window of the call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...core import EventBase


class Intake:
    """The body of one direction of a call that is a stream.

    give:  called with each piece.  taken: called with its size behind that.
    whole: called once, behind the last piece.  is_paused: whether it hands on nothing now.
    """

    __slots__ = ("_base", "_give", "_held", "_is_whole", "_taken", "_whole", "is_paused")

    def __init__(
        self,
        base: EventBase,
        give: Callable[[bytes], object],
        taken: Callable[[int], object],
        whole: Callable[[], object],
        *,
        is_paused: bool,
    ) -> None:
        self._base = base
        self._give: Callable[[bytes], object] | None = give
        self._taken = taken
        self._whole = whole
        self._held: deque[bytes] = deque()
        self.is_paused = is_paused
        self._is_whole = False

    def receive(self, piece: bytes, *, is_last: bool) -> None:
        """Take what has come, and hand it on as far as the program takes it."""
        if piece:
            self._held.append(piece)
        self._is_whole = is_last
        self._deliver()

    def pause(self) -> None:
        """Hand on no more until `resume`.  Safe to repeat."""
        self.is_paused = True

    def resume(self) -> None:
        """Hand on again, from the loop.  Safe to repeat."""
        if self.is_paused:
            self.is_paused = False
            self._base.post(self._deliver)

    def close(self) -> None:
        """Hand on nothing more, and forget whoever took it.  Safe to repeat."""
        self._held.clear()
        self._give = None
        self._taken = self._whole = _nothing

    def _deliver(self) -> None:
        held = self._held
        while held and not self.is_paused and self._give is not None:
            piece = held.popleft()
            self._give(piece)
            self._taken(len(piece))
        if self._is_whole and not held and not self.is_paused and self._give is not None:
            whole = self._whole
            self.close()
            whole()


def _nothing(*args: object) -> None:
    """Stand for what is forgotten."""
