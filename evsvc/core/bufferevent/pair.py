"""Two bufferevents joined in memory: what one writes, the other reads.

Invariants
    * Bytes cross as soon as the writer has EV_WRITE enabled and the reader EV_READ, inside the
      call that made it so; whole chunks move, without a copy.
    * The reader gets no more than its high watermark has room for.  The rest stays in the writer's
      output, which is how a slow reader holds the writer back.
    * All callbacks are deferred: none runs inside the other half's calls.
"""

from __future__ import annotations

from sys import maxsize
from typing import TYPE_CHECKING, Self

from ..errors import StateError
from ..flags import READ, WRITE, BevEvent, BevOption, FlushMode
from .abstract import AbstractBufferEvent

if TYPE_CHECKING:
    from ..reactor.base import EventBase
    from ..thread import Lock


class PairBufferEvent(AbstractBufferEvent):
    """One of two bufferevents that are each other's peer; `new` makes both.

    It has no descriptor.  With BEV_OPT_THREADSAFE both have the same lock.
    """

    __slots__ = ("_moving", "_partner")

    def __init__(self, base: EventBase, options: int = 0, lock: Lock | None = None) -> None:
        super().__init__(base, int(options) | BevOption.BEV_OPT_DEFER_CALLBACKS, lock)
        self._partner: PairBufferEvent | None = None
        self._moving = False  # our bytes are crossing now

    @classmethod
    def new(cls, base: EventBase, options: int = 0) -> tuple[Self, Self]:
        """Return two that are joined (bufferevent_pair_new).

        options: for both; BEV_OPT_DEFER_CALLBACKS is always among them.  Raises ArgumentError for
        unknown ones.
        """
        one = cls(base, options)
        other = cls(base, options, one._lock)
        one._partner, other._partner = other, one
        return one, other

    @property
    def partner(self) -> PairBufferEvent | None:
        """The other half; None once either is closed (bufferevent_pair_get_partner).

        The half that is left gets no end of file: `flush` with BEV_FINISHED tells it one before.
        What it writes then stays in its output.
        """
        return self._partner

    def _update_reading(self) -> None:
        if self._partner is not None:
            self._partner._update_writing()

    def _update_writing(self) -> None:
        self._run_in_loop(self._guarded(self._cross))

    def _cross(self) -> None:
        partner = self._partner
        if partner is not None and self.flow.wanted & WRITE and partner.flow.wanted & READ:
            self._move(partner, partner._room_to_read())
        self._update_timers()

    def _move(self, partner: PairBufferEvent, size: int) -> bool:
        """Move up to `size` bytes into the partner's input; whether there were any."""
        if self._moving:
            # A callback of one of the buffers, which has written: in the next pass, so that one
            # that always does neither recurses nor keeps the loop.
            self._base.post(self._guarded(self._cross))
            return False
        if not self.output.length or not size:
            return False
        self._moving = True
        try:
            partner.input.take_from(self.output, size)
        finally:
            self._moving = False
            partner._bytes_came()
            self._bytes_left()
        return True

    def _flush(self, events: int, mode: FlushMode) -> bool:
        """Move bytes though a direction is disabled; with BEV_FINISHED tell the partner the end.

        BEV_FLUSH keeps to the reader's high watermark.  BEV_FINISHED does not: the end comes after
        all the bytes, and this half may be closed at once.  Raises StateError without a partner.
        """
        partner = self._partner
        if partner is None:
            raise StateError("the other half of the pair is closed")
        if mode == FlushMode.BEV_NORMAL:
            return False
        finished = mode == FlushMode.BEV_FINISHED
        moved = False
        if events & READ:
            moved |= partner._move(self, maxsize if finished else self._room_to_read())
        if events & WRITE:
            moved |= self._move(partner, maxsize if finished else partner._room_to_read())
        if finished:
            partner._hear_the_end(events)
        return moved

    def _hear_the_end(self, events: int) -> None:
        """The partner writes, reads, or does both no more."""
        what = BevEvent.BEV_EVENT_WRITING if events & READ else 0
        if events & WRITE:
            self._ended(BevEvent.BEV_EVENT_READING | what)
        elif what:
            self._run_eventcb(BevEvent.BEV_EVENT_EOF | what)

    def _on_close(self) -> None:
        partner, self._partner = self._partner, None
        if partner is not None:
            partner._partner = None
