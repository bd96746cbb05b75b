"""The timer heap: which event is due next.  Does no I/O and reads no clock.

Invariants
    * Deadlines are monotonic seconds, always passed in.
    * Removing is O(1): the heap entry stays behind, dead, and is dropped when it surfaces.
    * A removal that leaves more dead entries than live ones, and `SLACK` besides, rebuilds the
      heap: adding and deleting for ever does not grow it.
    * Equal deadlines come out in the order in which they were added.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .event import Event

SLACK = 64


class TimerHeap:
    """Events by deadline.  An event carries `_timer_key`, its live entry's number, or 0."""

    __slots__ = ("_heap", "_keys", "_live")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Event]] = []
        self._keys = count(1)
        self._live = 0

    def __len__(self) -> int:
        return self._live

    def push(self, event: Event, deadline: float) -> None:
        """Schedule `event`; one that is already here is moved."""
        if event._timer_key:
            self.remove(event)
        key = event._timer_key = next(self._keys)
        self._live += 1
        heapq.heappush(self._heap, (deadline, key, event))

    def restart(self, event: Event, now: float, *, on_beat: bool) -> None:
        """Schedule a persistent event anew: one interval after its deadline, or from now on when
        something else than the deadline woke it, or a beat was missed."""
        interval = event._interval
        assert interval is not None
        deadline = (event._deadline if on_beat else now) + interval
        if deadline < now:
            deadline = now + interval
        event._deadline = deadline
        self.push(event, deadline)

    def remove(self, event: Event) -> None:
        """Forget `event`'s deadline, if it has one."""
        if event._timer_key:
            event._timer_key = 0
            self._live -= 1
            if len(self._heap) > 2 * self._live + SLACK:
                self._heap = [entry for entry in self._heap if entry[2]._timer_key == entry[1]]
                heapq.heapify(self._heap)

    def next_deadline(self) -> float | None:
        """When the earliest event is due, or None when there is none."""
        heap = self._heap
        while heap:
            deadline, key, event = heap[0]
            if event._timer_key == key:
                return deadline
            heapq.heappop(heap)
        return None

    def pop_due(self, now: float) -> Event | None:
        """Take the earliest event that is due at `now`, or None."""
        deadline = self.next_deadline()
        if deadline is None or deadline > now:
            return None
        event = heapq.heappop(self._heap)[2]
        event._timer_key = 0
        self._live -= 1
        return event

    def clear(self) -> None:
        """Drop the dead entries, and with them what they keep alive; none may be live."""
        self._heap.clear()

    def __iter__(self) -> Iterator[Event]:
        for _, key, event in self._heap:
            if event._timer_key == key:
                yield event
