"""A bounded number of threads, for work that would hold the loop up.

Everything but `_work` runs in the loop's thread, so that nothing here needs a lock: a thread takes
its next job from a queue, and posts to the loop when it has done it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING

from ..core.closing import Closing
from ..core.errors import StateError

if TYPE_CHECKING:
    from ..core import EventBase

Job = Callable[[], object]


class ThreadPool(Closing):
    """Threads that run jobs in the order in which they came.

    threads: so many jobs run at once; a thread is started when it is needed first.  max_queued: so
    many more may wait.  Threads do not keep the process alive: who wants jobs to end waits for
    that.

    held: how many jobs are running, or wait.
    """

    __slots__ = ("_base", "_closed", "_idle_cb", "_most", "_name", "_queue", "_threads", "held")

    def __init__(self, base: EventBase, threads: int, max_queued: int, name: str) -> None:
        self._base = base
        self._most = (threads, threads + max_queued)
        self._name = name
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle_cb: Callable[[], object] | None = None
        self._closed = False
        self.held = 0

    @property
    def is_full(self) -> bool:
        """Whether no more jobs are taken."""
        return self._closed or self.held >= self._most[1]

    def submit(self, job: Job) -> None:
        """Have a thread call `job()`, which must not raise.  Raises StateError when it is full,
        RuntimeError when there can be no thread."""
        if self.is_full:
            raise StateError(f"{self.held} jobs run or wait, and no more are taken")
        count = len(self._threads)
        if count < self._most[0] and count <= self.held:
            name = f"{self._name}-{count + 1}"
            args = (self._queue, self._base, self._done)
            thread = threading.Thread(target=_work, args=args, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        self.held += 1
        self._queue.put(job)

    def when_idle(self, cb: Callable[[], object] | None) -> None:
        """Call `cb()` once from the loop, when no job runs or waits any more; None: call nothing.

        It is called before the return when there is none now.
        """
        self._idle_cb = cb
        self._check_idle()

    def close(self) -> None:
        """Take no more jobs; the threads end when they have done those that wait."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._queue.put(None)

    def join(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for each thread to end, after `close`; whether all have."""
        for thread in self._threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    def _done(self) -> None:
        self.held -= 1
        self._check_idle()

    def _check_idle(self) -> None:
        if not self.held and self._idle_cb is not None:
            cb, self._idle_cb = self._idle_cb, None
            cb()


def _work(queue: SimpleQueue[Job | None], base: EventBase, done: Callable[[], object]) -> None:
    """Be a thread of the pool."""
    while (job := queue.get()) is not None:
        job()
        del job  # while it waits a thread keeps no request alive
        try:
            base.post(done)
        except StateError:
            return  # the base is closed: nobody counts any more
