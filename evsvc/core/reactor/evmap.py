"""Which events want which descriptor: the map between events and the backend (evmap.c).

Invariants
    * The backend watches exactly the union of what a descriptor's inserted events want.
    * The events of a descriptor are kept newest first, and are activated in that order.
    * When the backend refuses an event, the map is as it was.
    * What has changed since the last wait is in `_fresh`.  So what that wait found, and no event
      waits for, is news that came too late when it is there, and a registration that is nobody's
      when it is not (see backends/epoll.py).
    * What is in `sole` is alone on its descriptor, and there is nothing but its callback to be
      called when that is ready: persistent, level-triggered, no timeout, not the base's own,
      inserted before the last wait.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from ..backends.protocol import interests_of
from ..errors import ArgumentError, DebugError, SocketError
from ..flags import ET, EVENT_FLAGS, IO, PERSIST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..backends import Backend
    from ..flags import EventFlag
    from .record import EventRecord

logger = logging.getLogger("evsvc.core")

# Far above any real limit; keeps a wild number away from backends that index by descriptor.
MAX_FD = 1 << 26

# In `_fresh`: whatever the last wait found, it was of another list.
_ALL_FRESH = -1

Told = dict[int, "EventFlag | None"]


class ToldTables(dict[int, Told]):
    """What an event is told, by the event's interest and the backend's mask: None for nothing.

    Made at first need, and shared by all events of one interest.
    """

    __slots__ = ("_meanings", "_supported")

    def __init__(self, meanings: Mapping[int, int], supported: int) -> None:
        super().__init__()
        self._meanings = meanings
        self._supported = supported

    def __missing__(self, interest: int) -> Told:
        table: Told = {}
        possible = interest & self._supported
        for mask, what in self._meanings.items():
            hit = what & possible & IO
            table[mask] = EVENT_FLAGS[hit | possible & ET] if hit else None
        self[interest] = table
        return table


class FdInterest:
    """The events of one descriptor and the union of their interests."""

    __slots__ = ("events", "union")

    def __init__(self) -> None:
        self.events: list[EventRecord] = []
        self.union = 0


class EvMap:
    """Events by descriptor, in step with a backend."""

    __slots__ = ("_backend", "_fresh", "by_fd", "sole", "supported", "told")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.supported = interests_of(backend.features)
        self.told = ToldTables(backend.meanings, self.supported)
        self.by_fd: dict[int, FdInterest] = {}
        self.sole: dict[int, EventRecord] = {}
        self._fresh: set[int] = set()  # what has changed, and may belong to `sole` at the next wait

    def add(self, event: EventRecord) -> None:
        """Insert an event.  Raises ArgumentError for a number that cannot be a descriptor, or is
        too large for the backend, SocketError when the kernel refuses it."""
        fd = event.number
        if not 0 <= fd < MAX_FD:
            raise ArgumentError(f"not a descriptor: {fd!r}")
        interest = self.by_fd.get(fd)
        if interest is None:
            interest = FdInterest()
        old = interest.union
        new = event.flags & self.supported & ~old
        if new:
            try:
                self._backend.add(fd, old, new)
            except OSError as exc:
                raise _refusal(fd, exc) from exc
            except ValueError as exc:
                raise ArgumentError(f"{self._backend.name} cannot watch {fd}: {exc}") from exc
        interest.union = old | new
        event.told = self.told[event.flags & (IO | ET)]
        interest.events.insert(0, event)
        self.by_fd[fd] = interest
        self._note_change(fd)

    def remove(self, event: EventRecord) -> None:
        """Take an event out; never fails, whatever became of the descriptor."""
        fd = event.number
        interest = self.by_fd[fd]
        events = interest.events
        events.remove(event)
        self._note_change(fd)
        old = interest.union
        union = 0
        for other in events:
            union |= other.flags & self.supported
        if not events:
            del self.by_fd[fd]
        if union != old:
            interest.union = union
            self._backend.delete(fd, old, old & ~union)

    def _note_change(self, fd: int) -> None:
        self.sole.pop(fd, None)
        self._fresh.add(fd)

    def find_sole(self) -> None:
        """Find the new ones for `sole`, before a wait."""
        if not self._fresh:
            return
        for fd in self._fresh:
            interest = self.by_fd.get(fd)
            if interest is not None and len(interest.events) == 1:
                event = interest.events[0]
                if (
                    event.flags & (PERSIST | ET) == PERSIST
                    and event.interval is None
                    and not event.internal
                ):
                    self.sole[fd] = event
        self._fresh.clear()

    def note_interval(self, event: EventRecord) -> None:
        """Know that an inserted event has a persistent timeout now."""
        self.sole.pop(event.number, None)

    def use(self, backend: Backend) -> None:
        """Tell `backend` of changes from now on, and nothing of what is here already."""
        self._backend = backend

    def drop_stray(self, fd: int) -> list[EventRecord]:
        """Know that `fd` was reported ready for what none of its events waits for.

        Where only the kernel can be wrong, the backend is made anew, so that the loop does not
        spin.  Returns the events that the backend refuses now, as their descriptors are closed:
        nothing else would tell them.
        """
        if fd in self._fresh or _ALL_FRESH in self._fresh:
            return []
        logger.warning(
            "%s reports descriptor %d, which no event waits for: it was closed before its event "
            "was deleted, and the file is open elsewhere",
            self._backend.name,
            fd,
        )
        return [event for lost in self._renew() for event in self.by_fd[lost].events]

    def reinit(self) -> tuple[list[EventRecord], SocketError | None]:
        """Have the backend made anew in a forked child, and watch what it did.

        Returns the events that are here no more, and the first refusal: those whose descriptors
        are refused, and the base's own, which is added again with its new descriptor.
        """
        gone = [fd for fd, interest in self.by_fd.items() if interest.events[0].internal]
        lost = [self._take(fd) for fd in gone]
        refused = self._renew()
        lost += [self._take(fd) for fd in refused]
        refusals = (_refusal(fd, exc) for fd, exc in refused.items())
        return [event for events in lost for event in events], next(refusals, None)

    def _take(self, fd: int) -> list[EventRecord]:
        self.sole.pop(fd, None)
        return self.by_fd.pop(fd).events

    def _renew(self) -> dict[int, OSError]:
        """Have the backend watch all anew; return what it refuses."""
        self._backend.renew()
        self._fresh.add(_ALL_FRESH)
        refused: dict[int, OSError] = {}
        for fd, interest in self.by_fd.items():
            if interest.union:
                try:
                    self._backend.add(fd, 0, interest.union)
                except OSError as exc:
                    refused[fd] = exc
        return refused

    def repair(self) -> None:
        """Make good what an interrupt cut off, and tell the backend all anew.

        What was cut off in the middle of an addition or a removal is here no more.
        """
        self.sole.clear()
        for fd, interest in list(self.by_fd.items()):
            interest.events = [event for event in interest.events if event.inserted]
            interest.union = 0
            for event in interest.events:
                interest.union |= event.flags & self.supported
            if not interest.events:
                del self.by_fd[fd]
            with contextlib.suppress(OSError, ValueError, KeyError):  # whatever it knows of it
                self._backend.delete(fd, self.supported, self.supported)
            if interest.union:
                with contextlib.suppress(OSError, ValueError):  # the program has closed it
                    self._backend.add(fd, 0, interest.union)
            self._fresh.add(fd)

    def __iter__(self) -> Iterator[EventRecord]:
        for interest in self.by_fd.values():
            yield from interest.events


class DebugEvMap(EvMap):
    """An EvMap that refuses what would go wrong later."""

    __slots__ = ()

    def add(self, event: EventRecord) -> None:
        """Insert an event.  Raises DebugError where level- and edge-triggered would be mixed."""
        interest = self.by_fd.get(event.number)
        if interest is not None and (interest.events[0].flags ^ event.flags) & ET:
            raise DebugError(
                f"descriptor {event.number} would be level- and edge-triggered at once"
            )
        super().add(event)


def _refusal(fd: int, exc: OSError) -> SocketError:
    return SocketError(exc.errno, f"cannot watch descriptor {fd}: {exc.strerror}")
