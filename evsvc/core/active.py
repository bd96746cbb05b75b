"""Active events: what happened and waits for its callback, one queue per priority.

Invariants
    * An active event has one live entry, in the queue of its priority or in `later`; `count`
      counts those.
    * Deactivating is O(1): the entry stays behind as stale, and `event._stale` counts such
      entries.  The loop drops that many of the event's entries, and runs the one after them.
    * What is put in `later` waits until the kernel was asked again, so that callbacks that
      activate themselves for ever starve nobody.
    * `preempted` is set when something more urgent than what runs now becomes active: the pass
      is then left after the callback that is running.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .errors import ArgumentError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .event import Event

MAX_PRIORITIES = 255

# The running priority when nothing runs: not less urgent than anything, so nothing preempts it.
NOTHING_RUNS = -1


class ActiveQueues:
    """The active events of one base."""

    __slots__ = ("count", "later", "npriorities", "preempted", "queues", "running_priority")

    def __init__(self) -> None:
        self.npriorities = 1
        self.queues: list[deque[Event]] = [deque()]
        self.later: list[Event] = []
        self.count = 0
        self.running_priority = NOTHING_RUNS
        self.preempted = False

    def activate(self, event: Event, what: int) -> None:
        """Queue `event` with the flags `what`; flags of one that is queued already add up."""
        if event._active:
            event._result |= what
            return
        event._active = True
        event._result = what
        self.count += 1
        priority = event._priority
        self.queues[priority].append(event)
        if priority < self.running_priority:
            self.preempted = True

    def activate_later(self, event: Event, what: int) -> None:
        """Do as `activate` does, but for the next pass (event_active_later_)."""
        if event._active:
            event._result |= what
            return
        event._active = True
        event._result = what
        self.count += 1
        self.later.append(event)

    def promote_later(self) -> None:
        """Begin a pass: queue what waited for it."""
        later, self.later = self.later, []
        for event in later:
            self.queues[event._priority].append(event)

    def deactivate(self, event: Event) -> None:
        """Forget that `event` is active."""
        event._active = False
        event._stale += 1
        self.count -= 1

    def check_priority(self, priority: int) -> None:
        """Raise ArgumentError when there is no such priority."""
        if not 0 <= priority < self.npriorities:
            raise ArgumentError(f"priority {priority!r} is not in 0..{self.npriorities - 1}")

    def set_priority(self, event: Event, priority: int) -> None:
        """Move `event`.  Raises StateError when active, ArgumentError out of range."""
        self.check_priority(priority)
        if event._active:
            raise StateError("the priority of an active event cannot change")
        self.drop_stale(event)
        event._priority = priority

    def drop_stale(self, event: Event) -> None:
        """Remove what deleting `event` left behind; it must not be active."""
        if event._stale:
            queue = self.queues[event._priority]
            live = [other for other in queue if other is not event]
            queue.clear()
            queue.extend(live)
            self.later = [other for other in self.later if other is not event]
            event._stale = 0

    def resize(self, npriorities: int) -> None:
        """Have `npriorities` queues.  Raises as `EventBase.priority_init` says."""
        if not 1 <= npriorities <= MAX_PRIORITIES:
            raise ArgumentError(f"the number of priorities is 1..{MAX_PRIORITIES}: {npriorities}")
        if self.count:
            raise StateError("priorities cannot change while events are active")
        self.npriorities = npriorities
        # Never shortened: an event made before keeps its number, and its place.
        while len(self.queues) < npriorities:
            self.queues.append(deque())

    def clear(self) -> None:
        """Drop the stale entries, and with them what they keep alive; none may be live."""
        for queue in (*self.queues, self.later):
            queue.clear()

    def __iter__(self) -> Iterator[Event]:
        for queue in (*self.queues, self.later):
            for event in queue:
                if event._active:
                    yield event
