"""Active events: what happened and waits for its callback, one queue per priority.

Invariants
    * An active event has one live entry, in the queue of its priority or in `later`; `count`
      counts those.
    * Deactivating is O(1): the entry stays behind as stale, and `event.stale` counts such
      entries.  The loop drops that many of the event's entries, and runs the one after them.
    * A deactivation that leaves more stale entries than live ones, and `SLACK` besides, drops them
      all: activating and deleting for ever does not grow the queues.
    * What is put in `later` waits until the kernel was asked again, so that callbacks that
      activate themselves for ever starve nobody.
    * `preempted` is set when something more urgent than what runs now becomes active: the pass
      is then left after the callback that is running.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..checks import whole_number
from ..errors import ArgumentError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableSequence

    from .event import Event

MAX_PRIORITIES = 255

SLACK = 64

# The running priority when nothing runs: not less urgent than anything, so nothing preempts it.
NOTHING_RUNS = -1


class ActiveQueues:
    """The active events of one base."""

    __slots__ = (
        "count",
        "later",
        "middle_priority",
        "npriorities",
        "preempted",
        "queues",
        "running_priority",
        "stale",
    )

    def __init__(self) -> None:
        self.npriorities = 1
        self.middle_priority = 0  # that of a new event
        self.queues: list[deque[Event]] = [deque()]
        self.later: list[Event] = []
        self.count = 0
        self.stale = 0  # entries of deleted events
        self.running_priority = NOTHING_RUNS
        self.preempted = False

    def activate(self, event: Event, what: int) -> None:
        """Queue `event` with the flags `what`; flags of one that is queued already add up."""
        if event.is_active:
            event.result |= what
            return
        event.is_active = True
        event.result = what
        self.count += 1
        priority = event.rank
        self.queues[priority].append(event)
        if priority < self.running_priority:
            self.preempted = True

    def activate_later(self, event: Event, what: int) -> None:
        """Do as `activate` does, but for the next pass (event_active_later_)."""
        if event.is_active:
            event.result |= what
            return
        event.is_active = True
        event.result = what
        self.count += 1
        self.later.append(event)

    def promote_later(self) -> None:
        """Begin a pass: queue what waited for it."""
        later, self.later = self.later, []
        for event in later:
            self.queues[event.rank].append(event)

    def deactivate(self, event: Event) -> None:
        """Forget that `event` is active."""
        event.is_active = False
        event.stale += 1
        self.count -= 1
        self.stale += 1
        if self.stale > self.count + SLACK:
            for queue in (*self.queues, self.later):
                self._drop(queue)

    def _drop(self, queue: MutableSequence[Event]) -> None:
        """Drop the stale entries of a queue, in place: the loop may be in it."""
        entries = list(queue)
        queue.clear()
        for event in entries:
            if event.stale:
                event.stale -= 1
                self.stale -= 1
            else:
                queue.append(event)

    def check_priority(self, priority: int) -> None:
        """Raise ArgumentError when there is no such priority."""
        if not 0 <= whole_number(priority, "a priority") < self.npriorities:
            raise ArgumentError(f"priority {priority!r} is not in 0..{self.npriorities - 1}")

    def set_priority(self, event: Event, priority: int) -> None:
        """Move `event`.  Raises StateError when active, ArgumentError out of range."""
        self.check_priority(priority)
        if event.is_active:
            raise StateError("the priority of an active event cannot change")
        self.drop_stale(event)
        event.rank = priority

    def drop_stale(self, event: Event) -> None:
        """Remove what deleting `event` left behind; it must not be active."""
        if event.stale:
            for queue in (self.queues[event.rank], self.later):
                self._drop(queue)
            event.stale = 0  # those that a closed base had

    def resize(self, npriorities: int) -> None:
        """Have `npriorities` queues.  Raises as `EventBase.priority_init` says."""
        if not 1 <= whole_number(npriorities, "the number of priorities") <= MAX_PRIORITIES:
            raise ArgumentError(f"the number of priorities is 1..{MAX_PRIORITIES}: {npriorities}")
        if self.count:
            raise StateError("priorities cannot change while events are active")
        self.npriorities = npriorities
        self.middle_priority = npriorities // 2
        # Never shortened: an event made before keeps its number, and its place.
        while len(self.queues) < npriorities:
            self.queues.append(deque())

    def clear(self) -> None:
        """Drop the stale entries, and with them what they keep alive; none may be live."""
        for queue in (*self.queues, self.later):
            queue.clear()
        self.stale = 0

    def __iter__(self) -> Iterator[Event]:
        for queue in (*self.queues, self.later):
            for event in queue:
                if event.is_active:
                    yield event
