"""The timer heap, and the queues of common timeouts: which event is due next.

Does no I/O and reads no clock.

Invariants
    * Deadlines are monotonic seconds, always passed in.
    * Removing is O(1): the heap entry stays behind, dead, and is dropped when it surfaces.
    * After an insertion, and during a wait, no more entries are dead than live, and `SLACK`
      besides: adding and deleting for ever does not grow the heap.
    * Equal deadlines come out in the order in which they were added.
    * Events with one common timeout become due in the order in which they were added, so they wait
      in a queue.  Its head is live, and alone of them in the heap; when it goes, the next live one
      takes its place.  Dead entries are bounded as in the heap.
    * A deadline before the last of its queue (a persistent event that keeps its beat while another
      was added late) goes into the heap as any other.
    * An entry comes before the mark that speaks of it, `timer_key`, and goes after it.  What an
      interrupt cuts off in the middle is then a dead entry, and `repair` counts anew.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING

from ..checks import check_timeout
from ..errors import StateError
from ..flags import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .record import EventRecord

SLACK = 64

# libevent's number: each needs a place in the heap, and none is ever given back.
MAX_COMMON_TIMEOUTS = 256

_Entry = tuple[float, int, "EventRecord"]


class CommonTimeout(float):
    """A timeout in seconds that many events have: adding one that takes it costs no heap operation.

    Made by `EventBase.init_common_timeout`, for that base; anywhere else it is the plain number.
    """

    __slots__ = ("mark", "waiting")

    def __init__(self, seconds: float, mark: object = None) -> None:
        self.mark = mark  # the heap's whose it is
        self.waiting = CommonQueue()

    def __new__(cls, seconds: float, mark: object = None) -> CommonTimeout:
        """Return a new one, which is no base's but for the mark of its heap."""
        return super().__new__(cls, seconds)


class CommonQueue:
    """The events that wait for one common timeout, by deadline."""

    __slots__ = ("entries", "live")

    def __init__(self) -> None:
        self.entries: deque[_Entry] = deque()
        self.live = 0

    def append(self, entry: _Entry) -> None:
        """Put an entry last."""
        self.entries.append(entry)
        self.live += 1

    def pop_head(self) -> _Entry | None:
        """Drop the head, and return the next live entry, if there is one."""
        entries = self.entries
        self.live -= 1
        entries.popleft()
        while entries and entries[0][2].timer_key != entries[0][1]:
            entries.popleft()
        return entries[0] if entries else None

    def note_dead(self) -> None:
        """Count an entry behind the head as dead, and drop the dead ones if they are too many."""
        self.live -= 1
        if len(self.entries) > 2 * self.live + SLACK:
            self.entries = deque(e for e in self.entries if e[2].timer_key == e[1])


class TimerHeap:
    """Events by deadline.  An event carries `due_at`, its deadline; `timer_key`, its live entry's
    number, or 0; and `queue`, the common timeout's queue that the entry is in, or None."""

    __slots__ = ("_common", "_dead", "_heap", "_last_key", "_mark", "_waiting", "live")

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._last_key = 0
        self._mark = object()  # what our common timeouts have, and no other heap's
        self._dead = 0  # entries in the heap that a removal left behind
        self.live = 0  # how many events have a deadline here
        self._waiting = 0  # how many of those wait behind the head of a queue
        self._common: dict[int, CommonTimeout] = {}  # by microseconds

    def __len__(self) -> int:
        return self.live

    def init_common(self, seconds: float) -> CommonTimeout:
        """Return the common timeout of `seconds`; see `EventBase.init_common_timeout`."""
        check_timeout(seconds)
        microseconds = round(seconds * 1_000_000)
        common = self._common.get(microseconds)
        if common is None:
            if len(self._common) >= MAX_COMMON_TIMEOUTS:
                raise StateError(f"{seconds!r} s: {MAX_COMMON_TIMEOUTS} common timeouts are there")
            common = CommonTimeout(microseconds / 1_000_000, self._mark)
            self._common[microseconds] = common
        return common

    def push(self, event: EventRecord, deadline: float, timeout: float = 0.0) -> None:
        """Schedule `event`, in the queue of `timeout` if it is one of this heap's common ones.

        An event that is already here is moved.
        """
        if event.timer_key:
            self.remove(event)
        if self._dead > SLACK:
            self.drop_dead()
        self._last_key = key = self._last_key + 1
        event.due_at = deadline
        entry = (deadline, key, event)
        if not (type(timeout) is CommonTimeout and self._waits_behind(entry, timeout)):
            heappush(self._heap, entry)
        event.timer_key = key
        self.live += 1

    def _waits_behind(self, entry: _Entry, timeout: CommonTimeout) -> bool:
        """Put an entry into the queue of its common timeout; whether others are before it."""
        if timeout.mark is not self._mark:
            return False
        queue = timeout.waiting
        first = not queue.entries
        if not first and queue.entries[-1][0] > entry[0]:
            return False
        queue.append(entry)
        entry[2].queue = queue
        if not first:
            self._waiting += 1
        return not first

    def restart(self, event: EventRecord, interval: float, now: float, *, on_beat: bool) -> None:
        """Schedule a persistent event anew: one interval after its deadline, or from now on when
        something else than the deadline woke it, or a beat was missed."""
        deadline = (event.due_at if on_beat else now) + interval
        if deadline < now:
            deadline = now + interval
        self.push(event, deadline, interval)

    def remove(self, event: EventRecord) -> None:
        """Forget `event`'s deadline, if it has one."""
        key = event.timer_key
        if not key:
            return
        event.timer_key = 0
        self.live -= 1
        queue = event.queue
        if queue is not None:
            event.queue = None
            if queue.entries[0][1] != key:
                self._waiting -= 1
                queue.note_dead()
                return
            self._promote(queue)
        self._dead += 1

    def drop_dead(self) -> None:
        """Rebuild the heap if more of it is dead than `SLACK` and what is live."""
        if 2 * self._dead > len(self._heap) + SLACK:
            self._heap = [entry for entry in self._heap if entry[2].timer_key == entry[1]]
            heapify(self._heap)
            self._dead = 0

    def _promote(self, queue: CommonQueue) -> None:
        """Let the next of a queue take the place of its head, which has gone."""
        head = queue.pop_head()
        if head is not None:
            self._waiting -= 1
            heappush(self._heap, head)

    def next_deadline(self) -> float | None:
        """When the earliest event is due, or None when there is none."""
        heap = self._heap
        while heap:
            deadline, key, event = heap[0]
            if event.timer_key == key:
                return deadline
            heappop(heap)
            self._dead -= 1
        return None

    def expire(
        self,
        now: float,
        activate: Callable[[EventRecord, int], object],
        note_inserted: Callable[[EventRecord], object],
    ) -> None:
        """Activate each event that is due at `now` with EV_TIMEOUT, and forget its deadline.

        The earliest come first; what is inserted besides is noted before.  Neither function adds
        or removes anything here.
        """
        heap = self._heap
        while heap:
            deadline, key, event = heap[0]
            if event.timer_key != key:
                heappop(heap)
                self._dead -= 1
                continue
            if deadline > now:
                return
            if event.inserted:
                note_inserted(event)
            activate(event, TIMEOUT)
            event.timer_key = 0
            self.live -= 1
            heappop(heap)
            queue = event.queue
            if queue is not None:
                event.queue = None
                self._promote(queue)

    def repair(self) -> None:
        """Make good what an interrupt cut off: the live entries, and how many there are."""
        queues = [common.waiting for common in self._common.values()]
        entries = list(self._heap)
        for queue in queues:
            entries += queue.entries
            queue.entries.clear()
            queue.live = 0
        for _, _, event in entries:
            event.queue = None
        live = {entry[1]: entry for entry in entries if entry[2].timer_key == entry[1]}
        self._heap = list(live.values())
        heapify(self._heap)
        self.live = len(live)
        self._dead = self._waiting = 0

    def clear(self) -> None:
        """Drop the dead entries, and with them what they keep alive; none may be live."""
        self._heap.clear()
        self._dead = 0
        for common in self._common.values():
            common.waiting.entries.clear()

    def __iter__(self) -> Iterator[EventRecord]:
        for _, key, event in self._heap:
            if event.timer_key == key:
                yield event
        for common in self._common.values():
            for _, key, event in islice(common.waiting.entries, 1, None):
                if event.timer_key == key:
                    yield event
