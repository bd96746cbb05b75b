"""Looking into a base: counting, visiting, listing and waking its events.

These are methods of `EventBase`, kept apart from the loop because they only look at it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import ArgumentError
from ..flags import EVENT_FLAGS, IO, SIGNAL, TIMEOUT, CountKind
from .passes import Passes

if TYPE_CHECKING:
    from .event import Event

_KINDS = int(
    CountKind.EVENT_BASE_COUNT_ACTIVE
    | CountKind.EVENT_BASE_COUNT_VIRTUAL
    | CountKind.EVENT_BASE_COUNT_ADDED
)


class Inspection(Passes):
    """The part of an event base that answers questions."""

    __slots__ = ()

    def num_events(self, kinds: int) -> int:
        """Return the sum of the counters that `kinds` asks for (event_base_get_num_events).

        EVENT_BASE_COUNT_ADDED counts an event once for each place that it is in: its descriptor
        or signal, its timeout, the active queue.  ACTIVE counts active events, VIRTUAL what keeps
        the loop alive and is no event: posted calls, and output that waits to be sent.  Raises
        ArgumentError for an unknown kind.
        """
        registry = self._registry
        active = registry.active.count
        return self._sum(
            kinds, active, self._virtual_count(), registry.pending_count + registry.active.count
        )

    def max_events(self, kinds: int, clear: bool = False) -> int:
        """Return the sum of the highest values so far; with `clear` they begin again from 0.

        VIRTUAL has no history and gives its present value.  Source: event_base_get_max_events.
        """
        registry = self._registry
        most = self._sum(kinds, registry.most_active, self._virtual_count(), registry.most_added)
        if clear and kinds & CountKind.EVENT_BASE_COUNT_ACTIVE:
            registry.most_active = 0
        if clear and kinds & CountKind.EVENT_BASE_COUNT_ADDED:
            registry.most_added = 0
        return most

    def foreach_event(self, cb: Callable[[Any, Event, Any], object], arg: object = None) -> object:
        """Call `cb(base, event, arg)` for each pending or active event, once.

        By descriptor, then signals, timers, and what is only active.  A true result of `cb` ends
        it and is returned, else None.  Source: event_base_foreach_event.
        """
        for event in self._all_events():
            if verdict := cb(self, event, arg):
                return verdict
        return None

    def dump_events(self, output: TextIO) -> None:
        """Write the inserted and the active events, a line each (event_base_dump_events)."""
        events = self._all_events()
        offset = time() - self.now
        output.write("Inserted events:\n")
        for event in events:
            if event.inserted or event.timer_key:
                output.write(f"  {_describe(event, event.flags)}{_deadline(event, offset)}\n")
        output.write("Active events:\n")
        for event in events:
            if event.is_active:
                later = " [NEXT PASS]" if event in self._registry.active.later else ""
                what = _describe(event, event.result)
                output.write(f"  {what} [priority={event.rank}]{later}\n")

    def active_by_fd(self, fd: int, what: int) -> None:
        """Activate the pending events of `fd` that wait for any of `what`.

        With EV_TIMEOUT among them, only those with a timeout.  Nothing happens for a descriptor
        that no event has.  Source: event_base_active_by_fd.
        """
        flags = int(what)
        if fd < 0:
            return
        registry = self._registry
        with registry.guard:
            if flags & TIMEOUT:
                for event in list(registry.timers):
                    if event.number == fd and not event.flags & SIGNAL:
                        registry.activate(event, TIMEOUT)
                return
            interest = registry.evmap.by_fd.get(fd)
            for event in () if interest is None else tuple(interest.events):
                if hit := event.flags & flags & IO:
                    registry.activate(event, hit)

    def active_by_signal(self, signum: int) -> None:
        """Activate the pending events of a signal, once each (event_base_active_by_signal)."""
        registry = self._registry
        with registry.guard:
            for event in list(registry.signals):
                if event.number == signum:
                    event.calls = 1
                    registry.activate(event, SIGNAL)

    def _all_events(self) -> list[Event]:
        with self._registry.guard:
            return list(self._registry)

    def _virtual_count(self) -> int:
        return len(self._wakeup.posted) + len(self._flush_list.waiting)

    def _sum(self, kinds: int, active: int, virtual: int, added: int) -> int:
        if not kinds or kinds & ~_KINDS:
            raise ArgumentError(f"unknown kinds of count: {int(kinds):#x}")
        total = active if kinds & CountKind.EVENT_BASE_COUNT_ACTIVE else 0
        if kinds & CountKind.EVENT_BASE_COUNT_VIRTUAL:
            total += virtual
        if kinds & CountKind.EVENT_BASE_COUNT_ADDED:
            total += added
        return total


def _describe(event: Event, flags: int) -> str:
    kind = "sig" if event.flags & SIGNAL else "fd"
    names = "|".join(flag.name or "" for flag in EVENT_FLAGS[flags & 0xFF]) or "0"
    internal = " Internal" if event.internal else ""
    return f"{kind} {event.number} {names}{internal}"


def _deadline(event: Event, offset: float) -> str:
    return f" Timeout={event.due_at + offset:.6f}" if event.timer_key else ""
