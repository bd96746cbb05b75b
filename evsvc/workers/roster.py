"""Which worker is to be started, told to stop, or killed, and when.  No processes, no clock.

Invariants
    * A slot has at most two processes: the one that serves, and either a successor that is not
      ready yet, or a predecessor that finishes what is in flight.
    * The one that serves is told to stop only when its successor is ready.
    * One slot after the other is renewed, and none when a successor has failed: who serves, serves.
    * Until a worker was ready for the first time only the first slot is tried, so that a setup
      that fails is told once, and not by every worker.
    * Times are monotonic seconds, always passed in.
"""

from __future__ import annotations

import enum
import logging
from collections import deque
from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from .phases import Phase, Step, advance

if TYPE_CHECKING:
    from .options import WorkerOptions

logger = logging.getLogger("evsvc.workers")

CUT_OFF: Final = 1
"""The exit code when a worker had to be killed for the end."""

SETUP_FAILED: Final = 3
"""The exit code when no worker's setup has ever succeeded; a worker's own, when its has failed."""

MAX_DOUBLINGS: Final = 32
"""Of the back-off: more would leave the range of numbers long after any sensible bound."""


_NEVER: Final = (inf, "")


class Action(enum.Enum):
    """What is to be done with a process."""

    START = enum.auto()
    STOP = enum.auto()
    KILL = enum.auto()


class Member:
    """One process, from before its start to behind its end.

    number: that of its slot, from 0.
    """

    __slots__ = ("_limit", "_sentence", "number", "phase", "started_at")

    def __init__(self, number: int, started_at: float) -> None:
        self.number = number
        self.phase = Phase.STARTING
        self.started_at = started_at
        self._limit = _NEVER  # of its phase
        self._sentence = _NEVER  # for what it has done

    @property
    def kill_at(self) -> float:
        """When it is to be killed, if it has not ended by then."""
        return min(self._limit, self._sentence)[0]

    def limit(self, at: float, why: str) -> None:
        """Have it killed when its phase has not ended by then; `inf` is for never."""
        self._limit = at, why

    def kill(self, at: float, why: str) -> None:
        """Have it killed at a time, whatever phase it is in; an earlier time stays."""
        if self.phase is not Phase.KILLED:
            self._sentence = min(self._sentence, (at, why))

    def killed(self) -> None:
        """Be killed now."""
        logger.error("worker %d is killed: %s", self.number, min(self._limit, self._sentence)[1])
        self.step(Step.KILL)
        self._limit = self._sentence = _NEVER

    def step(self, step: Step) -> None:
        """Go on to another phase."""
        self.phase = advance(self.phase, step)


class Order(NamedTuple):
    """What is to be done with whom.  With START, the member has no process yet."""

    action: Action
    member: Member


class _Slot:
    """A place for a worker, with sockets of its own."""

    __slots__ = ("current", "failures", "leaving", "start_at", "successor")

    def __init__(self) -> None:
        self.current: Member | None = None
        self.successor: Member | None = None
        self.leaving: Member | None = None
        self.failures = 0  # deaths in a row that were quick
        self.start_at = -inf  # when a current one may be started

    def members(self) -> Iterator[Member]:
        for member in (self.current, self.successor, self.leaving):
            if member is not None:
                yield member


class Roster:
    """Decides for a supervisor, which tells it what has happened and carries its orders out."""

    __slots__ = (
        "_again",
        "_options",
        "_slots",
        "_to_renew",
        "_was_ready",
        "exit_code",
        "is_stopping",
    )

    def __init__(self, slots: int, options: WorkerOptions) -> None:
        self._options = options
        self._slots = [_Slot() for _ in range(slots)]
        self._to_renew: deque[Member] = deque()
        self._again = False  # asked for while they were being renewed
        self._was_ready = False
        self.is_stopping = False
        self.exit_code = 0

    @property
    def is_over(self) -> bool:
        """Whether nobody is left, and nobody is to come."""
        return self.is_stopping and not any(self.members())

    @property
    def is_reloading(self) -> bool:
        """Whether a rolling restart is going on."""
        return bool(self._to_renew)

    @property
    def serving(self) -> int:
        """How many workers serve."""
        return sum(member.phase is Phase.SERVING for member in self.members())

    def members(self) -> Iterator[Member]:
        """Yield everyone whose process is not known to have ended."""
        for slot in self._slots:
            yield from slot.members()

    def ready(self, member: Member, now: float) -> None:
        """Know that a worker's setup is done."""
        member.step(Step.READY)
        if member.phase is not Phase.SERVING:
            return
        member.limit(*_NEVER)
        self._was_ready = True
        slot = self._slots[member.number]
        if member is slot.successor:
            slot.successor = None
            slot.leaving, slot.current = slot.current, member
            self._forget_renewed()

    def exited(self, member: Member, now: float) -> None:
        """Know that a process has ended, or could not be started."""
        was, lived_s = member.phase, now - member.started_at
        member.step(Step.EXIT)
        slot = self._slots[member.number]
        if member is slot.leaving:
            slot.leaving = None
        elif member is slot.successor:
            slot.successor = None
            self._renewal_failed(slot, now)
        else:
            slot.current = None
            was_quick = was is not Phase.SERVING or lived_s < self._options.healthy_s
            self._count_death(slot, now, was_quick)
        self._forget_renewed()

    def reload(self, now: float) -> None:
        """Replace every worker by a new one, one slot after the other."""
        for slot in self._slots:
            if slot.current is None:
                slot.failures = 0
                slot.start_at = now
        if self._to_renew:
            self._again = True
        else:
            self._to_renew.extend(slot.current for slot in self._slots if slot.current is not None)

    def stop(self) -> None:
        """Have everyone finish, and start nobody any more."""
        self.is_stopping = True
        self._to_renew.clear()

    def cut(self, now: float) -> None:
        """Do as `stop`, and wait for nobody."""
        self.stop()
        for member in self.members():
            member.kill(now, "all are to end at once")

    def due(self, now: float) -> list[Order]:
        """Return what is to be done now; the roster takes it as done."""
        orders = [self._kill(member) for member in self.members() if member.kill_at <= now]
        to_stop = self.members() if self.is_stopping else (slot.leaving for slot in self._slots)
        orders += [
            self._stop(member, now)
            for member in to_stop
            if member is not None and member.phase in (Phase.STARTING, Phase.SERVING)
        ]
        if self.is_stopping:
            return orders
        for number, slot in enumerate(self._may_start()):
            if slot.current is None and slot.successor is None and slot.start_at <= now:
                slot.current = self._new_member(number, now)
                orders.append(Order(Action.START, slot.current))
        if self._to_renew and self._was_ready:
            slot = self._slots[self._to_renew[0].number]
            if slot.successor is None and slot.leaving is None:
                slot.successor = self._new_member(self._to_renew[0].number, now)
                orders.append(Order(Action.START, slot.successor))
        return orders

    def next_deadline(self) -> float:
        """Return when time alone makes something due, or `inf`."""
        deadlines = [member.kill_at for member in self.members()]
        if not self.is_stopping:
            deadlines += [
                slot.start_at
                for slot in self._may_start()
                if slot.current is None and slot.successor is None
            ]
        return min(deadlines, default=inf)

    def _may_start(self) -> list[_Slot]:
        return self._slots if self._was_ready else self._slots[:1]

    def _new_member(self, number: int, now: float) -> Member:
        member = Member(number, now)
        member.limit(now + self._options.start_s, "its setup takes too long")
        return member

    def _stop(self, member: Member, now: float) -> Order:
        member.step(Step.STOP)
        member.limit(now + self._options.stop_s + self._options.kill_s, "its stop takes too long")
        return Order(Action.STOP, member)

    def _kill(self, member: Member) -> Order:
        if self.is_stopping:
            self.exit_code = self.exit_code or CUT_OFF
        member.killed()
        return Order(Action.KILL, member)

    def _count_death(self, slot: _Slot, now: float, was_quick: bool) -> None:
        slot.failures = slot.failures + 1 if was_quick else 0
        slot.start_at = now + self._backoff_s(slot.failures)
        tries = self._options.start_tries
        if not self._was_ready and slot.failures >= tries and not self.is_stopping:
            logger.critical("the setup of a worker has failed %d times: giving up", tries)
            self.exit_code = SETUP_FAILED
            self.stop()

    def _backoff_s(self, failures: int) -> float:
        if not failures:
            return 0.0
        doublings = min(failures - 1, MAX_DOUBLINGS)
        return min(self._options.backoff_s * 2.0**doublings, self._options.max_backoff_s)

    def _renewal_failed(self, slot: _Slot, now: float) -> None:
        if slot.current is None:
            self._count_death(slot, now, True)
        elif not self.is_stopping:
            logger.error("the rolling restart is given up: who serves goes on serving")
            self._to_renew.clear()
            self._begin_again()

    def _forget_renewed(self) -> None:
        """Go on to the next who is to be renewed, and still has its slot."""
        if not self._to_renew:
            return
        while (
            self._to_renew
            and self._slots[self._to_renew[0].number].current is not self._to_renew[0]
        ):
            self._to_renew.popleft()
        if not self._to_renew:
            self._begin_again()

    def _begin_again(self) -> None:
        if self._again:
            self._again = False
            self._to_renew.extend(slot.current for slot in self._slots if slot.current is not None)
