"""What a bufferevent has yet to tell: it adds up, and the loop tells it in one run.

Invariants
    * What happens again before the run is told once.
    * A run tells BEV_EVENTCONNECTED first, then that there is input, then that output has gone,
      and then all other events in one call.
    * What is told is taken with the lock of the bufferevent held, and told without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..flags import (
    CONNECTED,
    FINALIZE,
    READ,
    WRITE,
)
from ..reactor.event import Event

if TYPE_CHECKING:
    from ..reactor.base import EventBase
    from ..thread import Lock


class Deferral:
    """What waits to be told, and the event that tells it.

    lock: of the bufferevent, or None; it is held by who calls `add` and `close`.  read, write,
    event: the callbacks of the program, each of which may close this.
    """

    __slots__ = ("_data", "_event", "_lock", "_read", "_what", "_write", "record")

    def __init__(
        self,
        base: EventBase,
        priority: int,
        lock: Lock | None,
        read: Callable[[], object],
        write: Callable[[], object],
        event: Callable[[int], object],
    ) -> None:
        # EV_FINALIZE: a thread that closes the bufferevent has its lock, and must not wait for a
        # run that waits for the lock.
        self.record = Event(base, -1, 0 if lock is None else FINALIZE, self._run)
        if self.record.rank != priority:
            self.record.priority = priority
        self._lock = lock
        self._read = read
        self._write = write
        self._event = event
        self._data = 0  # READ and WRITE callbacks that wait
        self._what = 0  # what the event callback will be told

    @property
    def waits(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self._data or self._what)

    def add(self, data: int, what: int, *, to_next_pass: bool = False) -> None:
        """Have the loop tell these, in this pass while it has room; or in the next."""
        self._data |= data
        self._what |= what
        record = self.record
        record.base.reactor.defer(record, to_next_pass=to_next_pass)

    def close(self) -> None:
        """Tell nothing any more."""
        self._data = self._what = 0
        self.record.close()

    def _take(self) -> tuple[int, int]:
        data, self._data = self._data, 0
        what, self._what = self._what, 0
        return data, what

    def _put_back(self, data: int, what: int) -> None:
        if self.record.initialized:
            self.add(data, what, to_next_pass=True)

    def _run(self, fd: int, flags: int, arg: object) -> None:
        """Run the callbacks in their order.  When one of them raises, the rest waits on."""
        if self._lock is None:
            data, what = self._take()
        else:
            with self._lock:
                data, what = self._take()
        try:
            if what & CONNECTED:
                what &= ~CONNECTED
                self._event(CONNECTED)
            if data & READ:
                data &= ~READ
                self._read()
            if data & WRITE:
                data &= ~WRITE
                self._write()
            last, what = what, 0
            if last:
                self._event(last)
        finally:
            if data or what:
                if self._lock is None:
                    self._put_back(data, what)
                else:
                    with self._lock:
                        self._put_back(data, what)
