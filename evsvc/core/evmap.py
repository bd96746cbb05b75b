"""Which events want which descriptor: the map between `Event` and the backend (evmap.c).

Invariants
    * The backend watches exactly the union of what a descriptor's inserted events want.
    * The events of a descriptor are kept newest first, and are activated in that order.
    * When the backend refuses an event, the map is as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import ArgumentError, SocketError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .backends import Backend
    from .event import Event

# Far above any real limit; keeps a wild number away from backends that index by descriptor.
MAX_FD = 1 << 26


class FdInterest:
    """The events of one descriptor and the union of their interests."""

    __slots__ = ("events", "sole", "union")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.sole: Event | None = None  # the one event, where there is one and it is plain
        self.union = 0

    def find_sole(self) -> None:
        """Note the event that can be called without more ado; see EventBase._run_ready."""
        self.sole = self.events[0] if len(self.events) == 1 and self.events[0]._plain else None


class EvMap:
    """Events by descriptor, in step with a backend."""

    __slots__ = ("_backend", "by_fd")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.by_fd: dict[int, FdInterest] = {}

    def add(self, event: Event) -> None:
        """Insert an event.  Raises ArgumentError for a number that cannot be a descriptor, or is
        too large for the backend, SocketError when the kernel refuses it."""
        fd = event._fd
        if not 0 <= fd < MAX_FD:
            raise ArgumentError(f"not a descriptor: {fd!r}")
        interest = self.by_fd.get(fd)
        if interest is None:
            interest = FdInterest()
        old = interest.union
        new = event._interest & ~old
        if new:
            try:
                self._backend.add(fd, old, new)
            except OSError as exc:
                raise _refusal(fd, exc) from exc
            except ValueError as exc:
                raise ArgumentError(f"{self._backend.name} cannot watch {fd}: {exc}") from exc
        interest.union = old | new
        interest.events.insert(0, event)
        interest.find_sole()
        self.by_fd[fd] = interest

    def remove(self, event: Event) -> None:
        """Take an event out; never fails, whatever became of the descriptor."""
        fd = event._fd
        interest = self.by_fd[fd]
        interest.events.remove(event)
        interest.find_sole()
        old = interest.union
        union = 0
        for other in interest.events:
            union |= other._interest
        if union != old:
            interest.union = union
            self._backend.delete(fd, old, old & ~union)
        if not interest.events:
            del self.by_fd[fd]

    def reinit(self, backend: Backend) -> tuple[list[Event], SocketError | None]:
        """Have `backend`, a new one, watch what the old one does; call nothing of the old one.

        Returns the events whose descriptors it refuses, which are here no more, and the first
        refusal.
        """
        self._backend = backend
        lost: list[Event] = []
        first: SocketError | None = None
        for fd, interest in list(self.by_fd.items()):
            if not interest.union:
                continue
            try:
                backend.add(fd, 0, interest.union)
            except OSError as exc:
                first = first or _refusal(fd, exc)
                lost += interest.events
                del self.by_fd[fd]
        return lost, first

    def __iter__(self) -> Iterator[Event]:
        for interest in self.by_fd.values():
            yield from interest.events


def _refusal(fd: int, exc: OSError) -> SocketError:
    return SocketError(exc.errno, f"cannot watch descriptor {fd}: {exc.strerror}")
