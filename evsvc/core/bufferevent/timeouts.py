"""Time-outs: limits on silence that cost one reading of the clock when there is none.

A sign of life is stored, and the timer is not moved for it: when it fires early, it is started
again for what is left.  The clock is read for it, where the loop's time would have cost no less:
that is as old as the pass, and after long work in a callback a time-out would come early by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..reactor.base import EventBase
from ..reactor.event import Event

if TYPE_CHECKING:
    from ..descriptors import HasFileno
    from ..reactor.event import EventCallback

NewEvent = Callable[["int | HasFileno", int, "EventCallback"], Event]
"""Makes an event for a descriptor (or -1), flags and a callback, as the owner wants it."""


class Deadline:
    """Calls `expired()` when `seconds` have passed since the last `start` or `touch`.

    By the loop, and never earlier than that by the clock; then it stands still until it is started
    again.  new_event: makes its event, or the event base that it is to be of.  Where a sign of
    life and the end of the time come in one pass, the descriptor's event is first if it has the
    same priority.

    A hot path may write `deadline.last = deadline.clock()` instead of `touch()`.
    """

    __slots__ = ("_expired", "clock", "event", "last", "seconds")

    def __init__(
        self,
        new_event: NewEvent | EventBase,
        expired: Callable[[], object],
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Stand still; `clock` is the base's, for who has it at hand."""
        if isinstance(new_event, EventBase):
            self.event = Event(new_event, -1, 0, self._on_timer)
        else:
            self.event = new_event(-1, 0, self._on_timer)
        self.clock = clock or self.event.base.reactor.monotonic
        self._expired = expired
        self.last = 0.0
        self.seconds = 0.0

    @property
    def running(self) -> bool:
        """Whether it counts."""
        return bool(self.event.timer_key)

    @property
    def remaining(self) -> float | None:
        """How many seconds are left, at least 0; None while it stands still."""
        return max(self.last + self.seconds - self.clock(), 0.0) if self.running else None

    def start(self, seconds: float) -> None:
        """Count `seconds` from now on, anew if it counts already.  Raises as `Event.add`."""
        self.seconds = seconds
        self.last = self.clock()
        self.event.add(seconds)

    def touch(self) -> None:
        """Note a sign of life: count from now on, if it counts."""
        self.last = self.clock()

    def stop(self) -> None:
        """Stand still."""
        event = self.event
        if event.timer_key or event.is_active:
            event.delete()

    def close(self) -> None:
        """Stand still for good, and let go of the callback.  Safe to repeat."""
        self.event.close()
        self._expired = _nothing

    def _on_timer(self, fd: int, what: int, arg: object) -> None:
        left = self.last + self.seconds - self.clock()
        if left > 0:
            self.event.add(left)
        else:
            self._expired()


class Timeouts:
    """The time-outs of a bufferevent: `read` and `write`, each None without one."""

    __slots__ = ("_read_s", "_write_s", "read", "write")

    def __init__(
        self,
        new_event: NewEvent,
        clock: Callable[[], float],
        read_s: float | None,
        write_s: float | None,
        read_expired: Callable[[], object],
        write_expired: Callable[[], object],
    ) -> None:
        self._read_s = read_s or 0.0
        self._write_s = write_s or 0.0
        self.read = Deadline(new_event, read_expired, clock) if read_s else None
        self.write = Deadline(new_event, write_expired, clock) if write_s else None

    def update(self, reads: object, writes: object) -> None:
        """Have each run or stand still, as is true or not; one that runs runs on."""
        read, write = self.read, self.write
        if read is not None:
            if not reads:
                read.stop()
            elif not read.event.timer_key:
                read.start(self._read_s)
        if write is not None:
            if not writes:
                write.stop()
            elif not write.event.timer_key:
                write.start(self._write_s)

    def note_read(self) -> None:
        """Note a sign of life of reading."""
        if self.read is not None:
            self.read.touch()

    def note_written(self) -> None:
        """Note a sign of life of writing."""
        if self.write is not None:
            self.write.touch()

    def follow(self, base: EventBase) -> None:
        """Go over to another base, to which the events have gone already."""
        for each in (self.read, self.write):
            if each is not None:
                each.clock = base.reactor.monotonic

    def events(self) -> list[Event]:
        """Return the events of both."""
        return [each.event for each in (self.read, self.write) if each is not None]

    def close(self) -> None:
        """Stop both for good."""
        for each in (self.read, self.write):
            if each is not None:
                each.close()


def _nothing() -> None:
    """Stand in for the callback of a closed one."""
