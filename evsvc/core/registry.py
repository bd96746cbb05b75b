"""What is pending on a base: events by descriptor, by signal and by deadline.

Invariants
    * An event is inserted (in the descriptor or signal map), timed (in the heap), both or neither;
      `inserted_count` counts the inserted ones but for the base's own.
    * An event that was inserted in this pass carries its number: what the wait before found ready
      on its descriptor is older than the event, and is not reported to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .active import ActiveQueues
from .errors import ArgumentError
from .event import IO, SIGNAL, TIMEOUT
from .evmap import EvMap
from .timers import TimerHeap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .backends import Backend
    from .errors import SocketError
    from .event import Event
    from .signals import SignalMap


class Registry:
    """The pending and active events of one base.  `signals` is set by the base that owns it."""

    __slots__ = (
        "active",
        "evmap",
        "inserted_count",
        "most_active",
        "most_added",
        "pass_number",
        "signals",
        "timers",
    )

    signals: SignalMap

    def __init__(self, backend: Backend) -> None:
        self.evmap = EvMap(backend)
        self.timers = TimerHeap()
        self.active = ActiveQueues()
        self.inserted_count = 0
        self.most_active = self.most_added = 0
        self.pass_number = 0

    def add(self, event: Event, timeout: float | None, now: float) -> None:
        """Make an event pending; see `Event.add`."""
        if timeout is not None and not timeout >= 0:
            raise ArgumentError(f"a timeout is seconds, 0 or more: {timeout!r}")
        if event._events & (IO | SIGNAL) and not (event._inserted or event._active):
            if event._events & SIGNAL:
                self.signals.add(event)
            elif event._fd != -1:
                self.evmap.add(event)
            event._inserted = True
            event._born = self.pass_number
            self.inserted_count += not event._internal
        if timeout is not None:
            if event._active and event._result & TIMEOUT:
                self.active.deactivate(event)
            event._interval = timeout if event._persist else None
            event._deadline = now + timeout
            self.timers.push(event, event._deadline, timeout)
        self.note(self.active.count)

    def activate(self, event: Event, what: int) -> None:
        """Make an event active by hand; see `Event.active`."""
        self.active.activate(event, what)
        self.note(self.active.count)

    @property
    def pending_count(self) -> int:
        """How many places pending events are in: descriptor or signal map, and timer heap."""
        return self.inserted_count + len(self.timers)

    def note(self, active_count: int) -> None:
        """Keep the highest counts so far."""
        if active_count > self.most_active:
            self.most_active = active_count
        added = self.inserted_count + len(self.timers) + active_count
        if added > self.most_added:
            self.most_added = added

    def delete(self, event: Event) -> None:
        """Make an event neither pending nor active; see `Event.delete`."""
        if event._inserted or event._timer_key:
            self.unlist(event)
        event._interval = None
        event._calls = 0
        if event._active:
            self.active.deactivate(event)

    def unlist(self, event: Event) -> None:
        """Make a pending event idle; an activation stays."""
        if event._inserted:
            if event._events & SIGNAL:
                self.signals.remove(event)
            elif event._fd != -1:
                self.evmap.remove(event)
            event._inserted = False
            self.inserted_count -= not event._internal
        if event._timer_key:
            self.timers.remove(event)

    def reinit(self, backend: Backend) -> SocketError | None:
        """Have a new backend watch for every inserted event; see `EventBase.reinit`.

        Returns the first refusal.  An event with a refused descriptor keeps its timeout alone.
        """
        lost, refusal = self.evmap.reinit(backend)
        for event in lost:
            event._inserted = False
            self.inserted_count -= not event._internal
        return refusal

    def clear(self) -> None:
        """Delete every event, and drop what deleted ones have left behind."""
        for event in [*self.signals, *self.active, *self.evmap, *self.timers]:
            self.delete(event)
        self.active.clear()
        self.timers.clear()

    def __bool__(self) -> bool:
        """Whether anything could still happen."""
        return bool(self.inserted_count or self.active.count or self.timers)

    def __iter__(self) -> Iterator[Event]:
        """Each pending or active event, once: by descriptor, by signal, timers, the rest."""
        seen: set[int] = set()
        for events in (self.evmap, self.signals, self.timers, self.active):
            for event in events:
                if id(event) not in seen:
                    seen.add(id(event))
                    yield event
