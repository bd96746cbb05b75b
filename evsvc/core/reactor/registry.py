"""What is pending on a base: events by descriptor, by signal and by deadline.

Invariants
    * An event is inserted (in the descriptor or signal map), timed (in the heap), both or neither;
      `inserted_count` counts the inserted ones but for the base's own.
    * An event that was inserted in this pass carries its number: what the wait before found ready
      on its descriptor is older than the event, and is not reported to it.
    * What the wait found and the loop has not come to yet is `batch`.  Whatever could see that it
      is not queued has it queued first, so that nobody can.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from math import inf
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
from .signals import count_calls, forget_calls
from .timers import TimerHeap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..backends import Backend
    from ..errors import SocketError
    from .record import EventRecord
    from .signals import SignalMap
    from .wakeup import Wakeup


_INSERTED = IO | SIGNAL


class Registry:
    """The pending and active events of one base, whose reactor calls `connect` first of all.

    running: the event whose callback is running, or None.
    guard: held while several things are looked at together; without locking it does nothing.
    on_work: called when something was activated or added, where an outer loop runs the passes.
    batch: what the wait found ready and the loop has not come to, or None.
    """

    __slots__ = (
        "active",
        "batch",
        "evmap",
        "guard",
        "inserted_count",
        "most_active",
        "most_added",
        "on_work",
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
        self.running: EventRecord | None = None
        self.batch: Iterator[tuple[int, int]] | None = None
        self.guard: AbstractContextManager[object] = nullcontext()
        self.inserted_count = 0
        self.most_active = self.most_added = 0
        self.pass_number = 0
        self.on_work: Callable[[], object] | None = None

    def connect(self, wakeup: Wakeup) -> None:
        """Know the base's signals, and how to wake its loop."""
        self.signals = wakeup.signals

    def add(self, event: EventRecord, timeout: float | None, now: float) -> None:
        """Make an event pending; see `Event.add`."""
        deadline = now
        if timeout is not None:
            try:
                if not 0 <= timeout < inf:
                    check_timeout(timeout)
                deadline += timeout
            except (TypeError, OverflowError) as exc:
                check_timeout(timeout)
                raise ArgumentError(f"a timeout of {timeout!r} is out of range") from exc
        flags = event.flags
        active = self.active
        if flags & _INSERTED and not (event.inserted or event.is_active):
            event.born = self.pass_number
            if flags & SIGNAL:
                self.signals.add(event)
            elif event.number != -1:
                self.evmap.add(event)
            event.inserted = True
            self.inserted_count += not event.internal
        if timeout is not None:
            if event.is_active and event.result & TIMEOUT:
                active.deactivate(event)
            if flags & PERSIST:
                event.interval = timeout or None  # as in libevent, 0 is once and not for ever
                if flags & IO:
                    self.evmap.note_interval(event)
            self.timers.push(event, deadline, timeout)
        added = self.inserted_count + self.timers.live + active.count
        if added > self.most_added:
            self.most_added = added
        if self.on_work is not None:
            self.on_work()

    def prepare_wait(self) -> None:
        """Tidy up what has changed since the last wait."""
        self.evmap.find_sole()
        self.timers.drop_dead()

    def activate(self, event: EventRecord, what: int) -> None:
        """Make an event active, for this pass where one is under way."""
        if self.batch is not None:
            self.queue_batch()
        self.active.activate(event, what)
        self.note(self.active.count)
        if self.on_work is not None:
            self.on_work()

    def activate_later(self, event: EventRecord, what: int) -> None:
        """Do as `activate` does, but for the next pass."""
        if self.batch is not None:
            self.queue_batch()
        self.active.activate_later(event, what)
        self.note(self.active.count)
        if self.on_work is not None:
            self.on_work()

    def activate_in_turn(self, event: EventRecord, what: int, calls: int = 1) -> None:
        """Do as `activate` does, for the next pass if callbacks run now; see `Event.active`.

        calls: how often a signal's callback is to run, besides what is outstanding.
        """
        if self.batch is not None:
            self.queue_batch()
        if event.flags & SIGNAL:
            count_calls(event, calls)
        self.active.activate_in_turn(event, what)
        self.note(self.active.count)
        if self.on_work is not None:
            self.on_work()

    def activate_ready(self, ready: Iterable[tuple[int, int]]) -> None:
        """Queue the events of what is ready, but for those that were added since it was found."""
        by_fd = self.evmap.by_fd
        number = self.pass_number
        for fd, mask in ready:
            interest = by_fd.get(fd)
            stray = True
            if interest is not None:
                for event in interest.events:
                    told = event.told[mask]
                    if told is not None:
                        stray = False
                        if event.born != number:
                            self.active.activate(event, told._value_)
            if stray:
                self.drop_stray(fd)

    def queue_batch(self) -> None:
        """Queue what the loop would have called without a queue."""
        batch, self.batch = self.batch, None
        if batch is not None:
            self.activate_ready(batch)

    def activate_expired(self, now: float) -> None:
        """Queue the events whose time is over."""
        self.timers.expire(now, self.active.activate, self._take_out_expired)

    def _take_out_expired(self, event: EventRecord) -> None:
        flags = event.flags
        if flags & IO and not (flags & PERSIST or event.is_active):
            # As in libevent: what becomes ready before the callback runs is not merged in.
            self._take_out(event)

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

    def forget_most(self, *, active: bool, added: bool) -> None:
        """Let the highest counts begin again from 0."""
        if active:
            self.most_active = 0
        if added:
            self.most_added = 0

    def delete(self, event: EventRecord) -> None:
        """Make an event neither pending nor active; see `Event.delete`."""
        if event.inserted:
            self._take_out(event)  # first, because it may be refused
        if event.timer_key:
            self.timers.remove(event)
        if event.is_active:
            self.active.deactivate(event)
        if event.interval is not None:
            event.interval = None
        if self.running is event:
            forget_calls(event)

    def delete_block(self, event: EventRecord) -> None:
        """Delete, and wait for its callback; see `Event.delete_block`."""
        self.delete(event)

    def delete_noblock(self, event: EventRecord) -> None:
        """Delete, and do not wait; see `Event.delete_noblock`."""
        self.delete(event)

    def remove_timer(self, event: EventRecord) -> None:
        """Forget a pending timeout; see `Event.remove_timer`."""
        if event.timer_key:
            self.timers.remove(event)
            event.interval = None

    def unlist(self, event: EventRecord) -> None:
        """Make a pending event idle; an activation stays."""
        if event.inserted:
            self._take_out(event)
        if event.timer_key:
            self.timers.remove(event)

    def _take_out(self, event: EventRecord) -> None:
        if event.flags & SIGNAL:
            self.signals.remove(event)
        event.inserted = False
        self.inserted_count -= not event.internal
        if event.number != -1 and not event.flags & SIGNAL:
            self.evmap.remove(event)

    def set_priority(self, event: EventRecord, priority: int) -> None:
        """Move an event; see `Event.priority`."""
        self.queue_batch()
        self.active.set_priority(event, priority)

    def drop_stale(self, event: EventRecord) -> None:
        """Forget an idle event altogether."""
        self.active.drop_stale(event)
        if event.flags & SIGNAL:
            forget_calls(event)

    def wake(self) -> None:
        """Have the loop see at once what another thread has changed."""

    def give_up(self) -> None:
        """Let other threads in while the loop waits, or calls back; see LockedRegistry."""

    def take_back(self) -> None:
        """End what `give_up` began."""

    def end_loop(self) -> None:
        """No callback is running any more, and no lock is held for the loop."""
        self.running = None

    def renew_lock(self) -> None:
        """Be rid of a lock that a thread of the parent process may hold for ever."""

    def drop_stray(self, fd: int) -> None:
        """Know that a descriptor was reported for what none of its events waits for."""
        for event in self.evmap.drop_stray(fd):
            self.active.activate(event, event.flags & IO)

    def reinit(self) -> SocketError | None:
        """Have the backend made anew watch for every inserted event; see `EventBase.reinit`.

        Returns the first refusal.  An event with a refused descriptor keeps its timeout alone.
        """
        lost, refusal = self.evmap.reinit()
        for event in lost:
            event.inserted = False
            self.inserted_count -= not event.internal
        return refusal

    def repair(self, last: EventRecord | None, now: float) -> None:
        """Make good what an interrupt cut off in the middle, wherever it was.

        last: the event whose callback was running, or was about to; its timeout begins anew.
        A mark and its count change between two points at which the interpreter looks for signals,
        so they always agree; the entries of the maps and queues may not.
        """
        self.queue_batch()
        self.active.repair()
        self.timers.repair()
        self.evmap.repair()
        for event in [event for event in self.signals if not event.inserted]:
            self.signals.remove(event)
        if last is not None and last.interval is not None and not last.timer_key:
            self.timers.restart(last, last.interval, now, on_beat=False)

    def clear(self) -> None:
        """Delete every event, and drop what deleted ones have left behind."""
        for event in list(self):
            self.delete_noblock(event)
            event.let_go()
        self.active.clear()
        self.timers.clear()

    def __bool__(self) -> bool:
        """Return True when anything could still happen."""
        return bool(self.inserted_count or self.active.count or self.timers.live)

    def __iter__(self) -> Iterator[EventRecord]:
        """Each pending or active event, once: by descriptor, by signal, timers, the rest."""
        self.queue_batch()
        seen: set[int] = set()
        for events in (self.evmap, self.signals, self.timers, self.active):
            for event in events:
                if id(event) not in seen:
                    seen.add(id(event))
                    yield event
