"""The sum of all workers' counters: whom to ask, whose answer is missing, what was before.  No I/O.

What a worker counted last is kept when it ends, so that no sum is less than an earlier one; what
it had in hand is not.

One round of questions goes at a time.  Who asks while one goes on wants counters from now on, and
so waits for the next.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from ..http import MetricsReading

Worker = TypeVar("Worker")


class Tally(Generic[Worker]):
    """Collects counters.  total: of all workers, as far as they are known."""

    __slots__ = ("_askers", "_known", "_missing", "_next_askers", "_of_the_dead")

    def __init__(self) -> None:
        self._of_the_dead = MetricsReading()
        self._known: dict[Worker, MetricsReading] = {}
        self._missing: set[Worker] = set()  # who was asked, and has not answered
        self._askers: list[Worker] = []  # of this round
        self._next_askers: list[Worker] = []

    @property
    def total(self) -> MetricsReading:
        """The sum of what is known: of who lives, and of who has ended."""
        return sum(self._known.values(), self._of_the_dead)

    def ask(self, asker: Worker) -> None:
        """Know that a worker wants the sum; a second time changes nothing."""
        if asker not in self._next_askers:
            self._next_askers.append(asker)

    def begin(self, workers: list[Worker]) -> list[Worker]:
        """Return whom to ask now: of `workers`, if a round is wanted, and none goes on."""
        if self._askers or not self._next_askers:
            return []
        self._askers, self._next_askers = self._next_askers, []
        self._missing = set(workers)
        return workers

    def count(self, worker: Worker, reading: MetricsReading) -> None:
        """Take the counters of a worker."""
        self._known[worker] = reading
        self._missing.discard(worker)

    def forget(self, worker: Worker) -> None:
        """Know that a worker has ended, and keep what it has counted."""
        reading = self._known.pop(worker, None)
        if reading is not None:
            self._of_the_dead += reading.counters()
        self._missing.discard(worker)
        for askers in (self._askers, self._next_askers):
            if worker in askers:
                askers.remove(worker)

    def end(self, *, is_late: bool = False) -> list[Worker]:
        """Return who gets the `total` now: nobody while an answer is missing, unless it is late."""
        if self._missing and not is_late:
            return []
        self._missing = set()
        askers, self._askers = self._askers, []
        return askers
