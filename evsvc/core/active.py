"""Active events: what happened and waits for its callback, one queue per priority.

Invariants
    * An active event has one live entry, in the queue of its priority; `count` counts those.
    * Deactivating is O(1): the entry stays behind as stale, and `event._stale` counts such
      entries.  In a first-in-first-out queue they all precede the event's live entry.
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

    __slots__ = ("count", "npriorities", "preempted", "queues", "running_priority")

    def __init__(self) -> None:
        self.npriorities = 1
        self.queues: list[deque[Event]] = [deque()]
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

    def deactivate(self, event: Event) -> None:
        """Forget that `event` is active."""
        event._active = False
        event._stale += 1
        self.count -= 1

    def set_priority(self, event: Event, priority: int) -> None:
        """Move `event`.  Raises StateError when active, ArgumentError out of range."""
        if event._active:
            raise StateError("the priority of an active event cannot change")
        if not 0 <= priority < self.npriorities:
            raise ArgumentError(f"priority {priority!r} is not in 0..{self.npriorities - 1}")
        if event._stale:
            queue = self.queues[event._priority]
            live = [other for other in queue if other is not event]
            queue.clear()
            queue.extend(live)
            event._stale = 0
        event._priority = priority

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

    def __iter__(self) -> Iterator[Event]:
        for queue in self.queues:
            for event in queue:
                if event._active:
                    yield event
