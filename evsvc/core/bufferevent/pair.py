"""Two bufferevents joined in memory: what one writes, the other reads.

Invariants
    * Bytes cross as soon as the writer has EV_WRITE enabled and the reader EV_READ, inside the
      call that made it so; whole chunks move, without a copy.
    * The reader gets no more than its high watermark has room for.  The rest stays in the writer's
      output, which is how a slow reader holds the writer back.
    * The end of one half, by `shutdown_write` or `close`, is told to the other as a socket's would
      be: after all that has crossed, and while it has EV_READ enabled and is below its high
      watermark.  What it has left to send then, to one that is closed, fails with EPIPE.
    * All callbacks are deferred: none runs inside the other half's calls.
"""

from __future__ import annotations

import errno
from sys import maxsize
from typing import TYPE_CHECKING, Self

from ..errors import StateError
from ..flags import (
    DEFER_CALLBACKS,
    EOF,
    READ,
    READING,
    WRITE,
    WRITING,
    FlushMode,
)
from ..thread import holding_lock
from .abstract import AbstractBufferEvent, options_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..buffer import EvBuffer
    from ..reactor.base import EventBase
    from ..thread import Lock
    from .rate_group import RateLimitGroup


class _Half:
    """What only `PairBufferEvent.new` has: half a pair is none."""


class PairBufferEvent(AbstractBufferEvent):
    """One of two bufferevents that are each other's peer; `new` makes both.

    It has no descriptor.  With BEV_OPT_THREADSAFE both have the same lock.  Calling the class
    itself raises StateError.
    """

    __slots__ = ("_endcb", "_moving", "_partner", "_peer_ended")

    def __init__(
        self,
        base: EventBase,
        options: int = 0,
        lock: Lock | None = None,
        half: _Half | None = None,
    ) -> None:
        if half is None:
            raise StateError("half a pair has no peer: PairBufferEvent.new makes two")
        super().__init__(base, options_of(options, DEFER_CALLBACKS), lock)
        self._partner: PairBufferEvent | None = None
        self._moving = False  # our bytes are crossing now
        self._endcb: Callable[[], object] | None = None  # is to be called when
        self._peer_ended = False  # the partner's output has

    @classmethod
    def new(cls, base: EventBase, options: int = 0) -> tuple[Self, Self]:
        """Return two that are joined (bufferevent_pair_new).

        options: for both; BEV_OPT_DEFER_CALLBACKS is always among them.  Raises ArgumentError for
        unknown ones.
        """
        half = _Half()
        one = cls(base, options, None, half)
        other = cls(base, options, one.mutex, half)
        one._partner, other._partner = other, one
        return one, other

    @property
    def partner(self) -> PairBufferEvent | None:
        """The other half; None once either is closed (bufferevent_pair_get_partner).

        The half that is left is told an end of file.  What it has written and writes to its closed
        partner is told as an error of writing, EPIPE.
        """
        return self._partner

    def has_unread(self) -> bool:
        """Return True when the partner has written what is not read yet."""
        partner = self._partner
        return self.input.length > 0 or (partner is not None and partner.output.length > 0)

    @holding_lock
    def watch_end(self, endcb: Callable[[], object] | None) -> None:
        """Call `endcb()` once when the partner has ended its output; see AbstractBufferEvent."""
        self._require_open()
        self._endcb = endcb
        if self._peer_ended:
            self._show_end()

    def _show_end(self) -> None:
        """Tell who watches, from the loop, that the partner writes no more."""
        if self._endcb is not None and not self._base.reactor.closed:
            self._base.reactor.post(self._call_endcb)

    def _call_endcb(self) -> None:
        endcb, self._endcb = self._endcb, None
        if endcb is not None:
            endcb()

    def add_to_rate_limit_group(self, group: RateLimitGroup) -> None:
        """Refuse: the bytes of a pair move without system calls, and are not counted.

        Raises StateError.
        """
        raise StateError("a pair moves its bytes in memory, which no rate limit group counts")

    def _update_reading(self) -> None:
        if self._partner is not None:
            self._partner._update_writing()
        self._hear_the_end()

    def _update_writing(self) -> None:
        self._run_in_loop(self._guarded(self._cross))

    def _cross(self) -> None:
        partner = self._partner
        if partner is not None:
            if self.flow.wanted & WRITE and partner.flow.wanted & READ:
                self._move(partner)
        elif self.output.length and self.flow.wanted & WRITE:
            self._failed(WRITE, BrokenPipeError(errno.EPIPE, "the other half is closed"), True)
        self._update_timers()

    def _move(self, partner: PairBufferEvent, *, all_of_it: bool = False) -> bool:
        """Move what the partner has room for, or all, into its input; return True if any moved."""
        if self._moving:
            # A callback of one of the buffers, which has written: in the next pass, so that one
            # that always does neither recurses nor keeps the loop.
            if not self._base.reactor.closed:
                self._base.reactor.post(self._guarded(self._cross))
            return False
        size = maxsize if all_of_it else partner._room()
        if not self.output.length or not size:
            return False
        self._moving = True
        try:
            partner._receive(self.output, size)
        finally:
            self._moving = False
            self._bytes_left()
        return True

    def _room(self) -> int:
        """Return how much the input takes, for the partner."""
        return self._room_to_read()

    def _receive(self, source: EvBuffer, size: int) -> None:
        """Take bytes of the partner's."""
        try:
            self.input.take_from(source, size)
        finally:
            self._bytes_came()

    def _hear(self, what: int) -> None:
        """Be told by the partner that it writes, reads, or does both no more."""
        if what & READING:
            self._ended(what)
        elif what:
            self._run_eventcb(EOF | what)

    @holding_lock
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
            moved |= partner._move(self, all_of_it=finished)
        if events & WRITE:
            moved |= self._move(partner, all_of_it=finished)
        if finished:
            partner._hear((WRITING if events & READ else 0) | (READING if events & WRITE else 0))
        return moved

    def _end_output(self) -> bool:
        partner = self._partner
        if partner is not None:
            partner._end_input()
        return True

    def _end_input(self) -> None:
        self._peer_ended = True
        self._show_end()
        self._hear_the_end()

    def _hear_the_end(self) -> None:
        """Tell the end of what the partner wrote, if it has come and is wanted."""
        if self._peer_ended and self.flow.wanted & READ:
            self._ended(READING, defer=True)

    def _on_close(self) -> None:
        self._endcb = None
        partner, self._partner = self._partner, None
        if partner is not None:
            partner._partner = None
            partner._end_input()
            partner._update_writing()
