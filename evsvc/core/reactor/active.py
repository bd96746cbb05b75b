"""Active events: what happened and waits for its callback, one queue per priority.

Invariants
    * An active event has one live entry, in the queue of its priority or in `later`; `count`
      counts those.
    * Deactivating is O(1): the entry stays behind as stale, and `event.stale` counts such
      entries.  `pop` drops that many of the event's entries, and takes the one after them.
    * A deactivation that leaves more stale entries than live ones, and `SLACK` besides, drops them
      all: activating and deleting for ever does not grow the queues.
    * What is put in `later` waits until the kernel was asked again, so that callbacks that
      activate themselves for ever starve nobody.
    * `preempted` is set when something more urgent than what runs now becomes active: the pass
      is then left after the callback that is running.
    * An entry comes before the mark that speaks of it, and goes after it.  What an interrupt cuts
      off in the middle is then an entry without a mark, which `repair` drops.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..checks import whole_number
from ..errors import ArgumentError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .record import EventRecord

MAX_PRIORITIES = 255

SLACK = 64

# The running priority when nothing runs: not less urgent than anything, so nothing preempts it.
NOTHING_RUNS = -1


class ActiveQueues:
    """The active events of one base."""

    __slots__ = (
        "_kept",
        "count",
        "later",
        "middle_priority",
        "npriorities",
        "popped",
        "preempted",
        "queues",
        "running_priority",
        "stale",
    )

    def __init__(self) -> None:
        self.npriorities = 1
        self.middle_priority = 0  # that of a new event
        self.queues: list[deque[EventRecord]] = [deque()]
        self.later: deque[EventRecord] = deque()
        self.count = 0
        self.stale = 0  # entries of deleted events
        self.running_priority = NOTHING_RUNS
        self.preempted = False
        self.popped: EventRecord | None = None  # what `pop` gave last, until the loop is done
        self._kept: list[EventRecord] = []  # out of their queue while it is tidied

    def activate(self, event: EventRecord, what: int) -> None:
        """Queue `event` with the flags `what`; flags of one that is queued already add up."""
        if event.is_active:
            event.result |= what
            return
        priority = event.rank
        self.queues[priority].append(event)
        event.result = what
        event.is_active = True
        self.count += 1
        if priority < self.running_priority:
            self.preempted = True

    def activate_later(self, event: EventRecord, what: int) -> None:
        """Do as `activate` does, but for the next pass (event_active_later_)."""
        if event.is_active:
            event.result |= what
            return
        self.later.append(event)
        event.result = what
        event.is_active = True
        self.count += 1
        if event.rank < self.running_priority:
            self.preempted = True

    def activate_in_turn(self, event: EventRecord, what: int) -> None:
        """Do as `activate` does, but for the next pass if callbacks are running now."""
        if self.running_priority == NOTHING_RUNS:
            self.activate(event, what)
        else:
            self.activate_later(event, what)

    def promote_later(self) -> None:
        """Begin a pass: queue what waited for it."""
        later = self.later
        while later:
            event = later[0]
            self.queues[event.rank].append(event)
            del later[0]

    def pop(self, queue: deque[EventRecord]) -> EventRecord | None:
        """Take the next active event of a queue, which is then active no more; None if it is empty.

        It keeps its `result`.
        """
        while queue:
            event = queue[0]
            del queue[0]  # unlike `popleft()`, no point at which a signal is looked for
            if event.stale:
                event.stale -= 1
                self.stale -= 1
                continue
            self.popped = event
            event.is_active = False
            self.count -= 1
            return event
        return None

    def deactivate(self, event: EventRecord) -> None:
        """Forget that `event` is active."""
        event.is_active = False
        event.stale += 1
        self.count -= 1
        self.stale += 1
        if self.stale > self.count + SLACK:
            for queue in (*self.queues, self.later):
                self._drop(queue)

    def _drop(self, queue: deque[EventRecord]) -> None:
        """Drop the stale entries of a queue, in place: the loop may be in it."""
        kept = []
        for event in queue:
            if event.stale:
                event.stale -= 1
                self.stale -= 1
            else:
                kept.append(event)
        self._kept = kept
        queue.clear()
        queue.extend(kept)
        self._kept = []

    def check_priority(self, priority: int) -> None:
        """Raise ArgumentError when there is no such priority, ArgumentTypeError for no number."""
        if not 0 <= whole_number(priority, "a priority") < self.npriorities:
            raise ArgumentError(f"priority {priority!r} is not in 0..{self.npriorities - 1}")

    def set_priority(self, event: EventRecord, priority: int) -> None:
        """Move `event`.  Raises StateError when active, ArgumentError out of range."""
        self.check_priority(priority)
        if event.is_active:
            raise StateError("the priority of an active event cannot change")
        self.drop_stale(event)
        event.rank = priority

    def adopt(self, event: EventRecord, priority: int) -> None:
        """Give an event that is new here a priority that there is, or was."""
        event.rank = priority

    def drop_stale(self, event: EventRecord) -> None:
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

    def repair(self) -> None:
        """Make good what an interrupt cut off: one entry for each active event, and the count."""
        entries = [*self._kept, *(event for queue in self.queues for event in queue), *self.later]
        last = {id(event): event for event in reversed(entries) if event.is_active}
        for event in entries:
            event.stale = 0
        self.clear()
        for event in reversed(last.values()):
            self.queues[event.rank].append(event)
        self.count = len(last)
        self.running_priority = NOTHING_RUNS

    def clear(self) -> None:
        """Drop the stale entries, and with them what they keep alive; none may be live."""
        for queue in (*self.queues, self.later):
            queue.clear()
        self._kept = []
        self.stale = 0

    def __iter__(self) -> Iterator[EventRecord]:
        for queue in (*self.queues, self.later):
            for event in queue:
                if event.is_active:
                    yield event
