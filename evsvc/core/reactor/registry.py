"""What is pending on a base: events by descriptor, by signal and by deadline.

Invariants
    * An event is inserted (in the descriptor or signal map), timed (in the heap), both or neither;
      `inserted_count` counts the inserted ones but for the base's own.
    * An event that was inserted in this pass carries its number: what the wait before found ready
      on its descriptor is older than the event, and is not reported to it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from ..checks import check_timeout
from ..errors import ArgumentError
from ..flags import (
    IO,
    PERSIST,
    SIGNAL,
    TIMEOUT,
)
from .active import ActiveQueues
from .evmap import DebugEvMap, EvMap
from .timers import TimerHeap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..backends import Backend
    from ..errors import SocketError
    from .event import Event
    from .signals import SignalMap
    from .wakeup import Wakeup


class Registry:
    """The pending and active events of one base, which calls `connect` before anything else.

    running: the event whose callback is running, or None.
    guard: held while several things are looked at together; without locking it does nothing.
    """

    __slots__ = (
        "active",
        "evmap",
        "guard",
        "inserted_count",
        "most_active",
        "most_added",
        "pass_number",
        "running",
        "signals",
        "timers",
    )

    signals: SignalMap

    def __init__(self, backend: Backend, *, debug: bool = False) -> None:
        self.evmap = DebugEvMap(backend) if debug else EvMap(backend)
        self.timers = TimerHeap()
        self.active = ActiveQueues()
        self.running: Event | None = None
        self.guard: AbstractContextManager[object] = nullcontext()
        self.inserted_count = 0
        self.most_active = self.most_added = 0
        self.pass_number = 0

    def connect(self, wakeup: Wakeup) -> None:
        """Know the base's signals, and how to wake its loop."""
        self.signals = wakeup.signals

    def add(self, event: Event, timeout: float | None, now: float) -> None:
        """Make an event pending; see `Event.add`."""
        deadline = now
        if timeout is not None:
            try:
                if not timeout >= 0:
                    check_timeout(timeout)
                deadline += timeout
            except (TypeError, OverflowError) as exc:
                check_timeout(timeout)
                raise ArgumentError(f"a timeout of {timeout!r} is out of range") from exc
        flags = event.flags
        active = self.active
        if flags & (IO | SIGNAL) and not (event.inserted or event.is_active):
            if flags & SIGNAL:
                self.signals.add(event)
            elif event.number != -1:
                self.evmap.add(event)
            event.inserted = True
            event.born = self.pass_number
            self.inserted_count += not event.internal
        if timeout is not None:
            if event.is_active and event.result & TIMEOUT:
                active.deactivate(event)
            if flags & PERSIST:
                event.interval = timeout or None  # as in libevent, 0 is once and not for ever
                if flags & IO:
                    self.evmap.note_interval(event)
            event.due_at = deadline
            self.timers.push(event, deadline, timeout)
        added = self.inserted_count + self.timers.live + active.count
        if added > self.most_added:
            self.most_added = added

    def prepare_wait(self) -> None:
        """Tidy up what has changed since the last wait."""
        self.evmap.find_sole()
        self.timers.drop_dead()

    def activate(self, event: Event, what: int) -> None:
        """Make an event active by hand; see `Event.active`."""
        self.active.activate(event, what)
        self.note(self.active.count)

    def activate_later(self, event: Event, what: int) -> None:
        """Do as `activate` does, but for the next pass."""
        self.active.activate_later(event, what)
        self.note(self.active.count)

    @property
    def pending_count(self) -> int:
        """How many places pending events are in: descriptor or signal map, and timer heap."""
        return self.inserted_count + self.timers.live

    def note(self, active_count: int) -> None:
        """Keep the highest counts so far."""
        if active_count > self.most_active:
            self.most_active = active_count
        added = self.inserted_count + self.timers.live + active_count
        if added > self.most_added:
            self.most_added = added

    def delete(self, event: Event) -> None:
        """Make an event neither pending nor active; see `Event.delete`."""
        if event.inserted:
            self._take_out(event)  # first, because it may be refused
        if event.timer_key:
            self.timers.remove(event)
        if event.is_active:
            self.active.deactivate(event)
        event.interval = None
        event.calls = 0

    def delete_block(self, event: Event) -> None:
        """Delete, and wait for its callback; see `Event.delete_block`."""
        self.delete(event)

    def delete_noblock(self, event: Event) -> None:
        """Delete, and do not wait; see `Event.delete_noblock`."""
        self.delete(event)

    def remove_timer(self, event: Event) -> None:
        """Forget a pending timeout; see `Event.remove_timer`."""
        if event.timer_key:
            self.timers.remove(event)
            event.interval = None

    def unlist(self, event: Event) -> None:
        """Make a pending event idle; an activation stays."""
        if event.inserted:
            self._take_out(event)
        if event.timer_key:
            self.timers.remove(event)

    def _take_out(self, event: Event) -> None:
        if event.flags & SIGNAL:
            self.signals.remove(event)
        elif event.number != -1:
            self.evmap.remove(event)
        event.inserted = False
        self.inserted_count -= not event.internal

    def set_priority(self, event: Event, priority: int) -> None:
        """Move an event; see `Event.priority`."""
        self.active.set_priority(event, priority)

    def drop_stale(self, event: Event) -> None:
        """Forget an idle event altogether."""
        self.active.drop_stale(event)

    def wake(self) -> None:
        """Have the loop see at once what another thread has changed."""

    def give_up(self) -> None:
        """Let other threads in while the loop waits, or calls back; see LockedRegistry."""

    def take_back(self) -> None:
        """End what `give_up` began."""

    def renew_lock(self) -> None:
        """Be rid of a lock that a thread of the parent process may hold for ever."""

    def reinit(self, backend: Backend) -> SocketError | None:
        """Have a new backend watch for every inserted event; see `EventBase.reinit`.

        Returns the first refusal.  An event with a refused descriptor keeps its timeout alone.
        """
        lost, refusal = self.evmap.reinit(backend)
        for event in lost:
            event.inserted = False
            self.inserted_count -= not event.internal
        return refusal

    def clear(self) -> None:
        """Delete every event, and drop what deleted ones have left behind."""
        for event in [*self.signals, *self.active, *self.evmap, *self.timers]:
            self.delete_noblock(event)
        self.active.clear()
        self.timers.clear()

    def __bool__(self) -> bool:
        """Whether anything could still happen."""
        return bool(self.inserted_count or self.active.count or self.timers.live)

    def __iter__(self) -> Iterator[Event]:
        """Each pending or active event, once: by descriptor, by signal, timers, the rest."""
        seen: set[int] = set()
        for events in (self.evmap, self.signals, self.timers, self.active):
            for event in events:
                if id(event) not in seen:
                    seen.add(id(event))
                    yield event
