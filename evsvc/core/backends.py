"""The kernel's ways to wait for many descriptors, one small class each.

All five have the same operations, libevent's struct eventop: init (the constructor), add, delete,
dispatch, dealloc.  A backend knows descriptors and interests (`EV_READ | EV_WRITE`, with
`EV_CLOSED` and `EV_ET` where its features say so), never events: `EvMap` tells it the union of
what a descriptor's events want.  `add(fd, old, new)` widens that union from `old` by `new`,
`delete(fd, old, gone)` narrows it.

An error or a hang-up wakes every direction, so that whoever waits sees it from his own recv or
send, and nobody is left to spin.  A descriptor that was closed behind our back is dropped in
silence on delete: the kernel has forgotten it already.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from typing import Any, Protocol

from .flags import Feature

READ, WRITE, CLOSED, ET = 0x02, 0x04, 0x80, 0x20
BOTH = READ | WRITE
ALL = BOTH | CLOSED

# One wait takes at most this many descriptors; the rest are reported by the next one.
MAX_READY = 512

Ready = list[tuple[int, int]]


class Backend(Protocol):
    """What `EventBase` needs of a way to wait."""

    name: str
    features: Feature

    def add(self, fd: int, old: int, new: int) -> None:
        """Watch `fd` for `new` besides `old`.  Raises OSError or ValueError when it cannot be."""

    def delete(self, fd: int, old: int, gone: int) -> None:
        """Stop watching `fd` for `gone` out of `old`; silent when `fd` is closed already."""

    def dispatch(self, timeout: float | None) -> Ready:
        """Wait at most `timeout` seconds (None: for ever) and return what is ready."""

    def dealloc(self) -> None:
        """Give the kernel's object back."""


class SelectBackend:
    """select(2): everywhere, and slow with many descriptors."""

    __slots__ = ("_read", "_write")

    name = "select"
    features = Feature.EV_FEATURE_FDS

    def __init__(self) -> None:
        self._read: set[int] = set()
        self._write: set[int] = set()

    def add(self, fd: int, old: int, new: int) -> None:
        """Watch.  Raises ValueError past FD_SETSIZE."""
        select.select([fd], [], [], 0)
        if new & READ:
            self._read.add(fd)
        if new & WRITE:
            self._write.add(fd)

    def delete(self, fd: int, old: int, gone: int) -> None:
        """Stop watching."""
        left = old & ~gone
        if not left & READ:
            self._read.discard(fd)
        if not left & WRITE:
            self._write.discard(fd)

    def dispatch(self, timeout: float | None) -> Ready:
        """Wait; a descriptor that was closed under us is reported as readable and writable."""
        try:
            readable, writable, broken = select.select(
                self._read, self._write, self._write, timeout
            )
        except OSError as exc:
            if exc.errno != errno.EBADF:
                raise
            return [(fd, BOTH) for fd in self._read | self._write if not _is_open(fd)]
        ready = dict.fromkeys(readable, READ)
        for fd in (*writable, *broken):
            ready[fd] = ready.get(fd, 0) | WRITE
        return list(ready.items())

    def dealloc(self) -> None:
        """Forget everything."""
        self._read.clear()
        self._write.clear()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _require_open(fd: int) -> None:
    if not _is_open(fd):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


class PollBackend:
    """poll(2)."""

    __slots__ = ("_poll", "_table")

    name = "poll"
    features = Feature.EV_FEATURE_FDS | (
        Feature.EV_FEATURE_EARLY_CLOSE if hasattr(select, "POLLRDHUP") else Feature(0)
    )

    def __init__(self, api: Any = select) -> None:
        self._poll = self._open(api)
        hup = getattr(api, "POLLRDHUP", 0)
        self._table = (api.POLLIN, api.POLLOUT, hup, api.POLLERR | api.POLLHUP | api.POLLNVAL)

    def add(self, fd: int, old: int, new: int) -> None:
        """Watch."""
        _require_open(fd)
        self._poll.register(fd, self._mask(old | new))

    def delete(self, fd: int, old: int, gone: int) -> None:
        """Stop watching."""
        left = old & ~gone & ALL
        if left:
            self._poll.register(fd, self._mask(left))
        else:
            self._poll.unregister(fd)

    def dispatch(self, timeout: float | None) -> Ready:
        """Wait."""
        readable, writable, closed, broken = self._table
        ready: Ready = []
        for fd, mask in self._poll.poll(None if timeout is None else timeout * 1000):
            what = READ if mask & readable else 0
            if mask & writable:
                what |= WRITE
            if mask & closed:
                what |= CLOSED
            if mask & broken:
                what = ALL
            ready.append((fd, what))
        return ready

    def dealloc(self) -> None:
        """Forget everything; poll(2) holds nothing in the kernel."""

    def _open(self, api: Any) -> Any:
        return api.poll()

    def _mask(self, what: int) -> int:
        readable, writable, closed, _ = self._table
        mask = readable if what & READ else 0
        if what & WRITE:
            mask |= writable
        if what & CLOSED:
            mask |= closed
        return int(mask)


class DevPollBackend(PollBackend):
    """Solaris's /dev/poll: poll(2)'s masks on a kernel object that remembers them."""

    __slots__ = ()

    name = "devpoll"
    features = Feature.EV_FEATURE_O1 | Feature.EV_FEATURE_FDS

    def add(self, fd: int, old: int, new: int) -> None:
        """Watch; what a second registration does is undefined, so the old one goes first."""
        _require_open(fd)
        if old:
            self._poll.unregister(fd)
        self._poll.register(fd, self._mask(old | new))

    def delete(self, fd: int, old: int, gone: int) -> None:
        """Stop watching, or start again for what is left."""
        self._poll.unregister(fd)
        left = old & ~gone & ALL
        if left:
            self._poll.register(fd, self._mask(left))

    def dealloc(self) -> None:
        """Close the device."""
        self._poll.close()

    def _open(self, api: Any) -> Any:
        return api.devpoll()


class EpollBackend:
    """epoll(7), level-triggered unless EV_ET is asked for.

    The registration lives in the kernel under (descriptor number, open file).  When a number is
    closed and opened again between two calls, our idea of `old` and the kernel's differ: a modify
    then answers ENOENT and a register EEXIST, and each is retried as the other.
    """

    __slots__ = ("_epoll",)

    name = "epoll"
    features = Feature.EV_FEATURE_ET | Feature.EV_FEATURE_O1 | Feature.EV_FEATURE_EARLY_CLOSE

    _IN, _OUT, _ERR, _HUP, _RDHUP, _EDGE = 0x001, 0x004, 0x008, 0x010, 0x2000, 1 << 31

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def add(self, fd: int, old: int, new: int) -> None:
        """Watch.  Raises OSError (EPERM for a regular file, EBADF for no file)."""
        mask = self._mask(old | new)
        try:
            if old:
                self._epoll.modify(fd, mask)
            else:
                self._epoll.register(fd, mask)
        except FileNotFoundError:
            self._epoll.register(fd, mask)
        except FileExistsError:
            self._epoll.modify(fd, mask)

    def delete(self, fd: int, old: int, gone: int) -> None:
        """Stop watching; whatever the kernel has to say of a closed descriptor is no news."""
        left = old & ~gone
        with contextlib.suppress(OSError):
            if left & ALL:
                self._epoll.modify(fd, self._mask(left))
            else:
                self._epoll.unregister(fd)

    def dispatch(self, timeout: float | None) -> Ready:
        """Wait; the kernel counts milliseconds, and the fraction is rounded up."""
        table = _EPOLL_READY
        ready = self._epoll.poll(-1 if timeout is None else timeout, MAX_READY)
        return [(fd, table[mask]) for fd, mask in ready]

    def dealloc(self) -> None:
        """Close the kernel's object."""
        self._epoll.close()

    def _mask(self, what: int) -> int:
        mask = self._IN if what & READ else 0
        if what & WRITE:
            mask |= self._OUT
        if what & CLOSED:
            mask |= self._RDHUP
        if what & ET:
            mask |= self._EDGE
        return mask

    @classmethod
    def ready_table(cls) -> dict[int, int]:
        """Return every mask that the kernel can report, with its meaning."""
        meanings = (
            (cls._IN, READ),
            (cls._OUT, WRITE),
            (cls._RDHUP, CLOSED),
            (cls._ERR, ALL),
            (cls._HUP, ALL),
        )
        table = {0: 0}
        for bit, meaning in meanings:
            table |= {mask | bit: what | meaning for mask, what in table.items()}
        return table


_EPOLL_READY = EpollBackend.ready_table()


class KqueueBackend:
    """kqueue(2) of the BSDs and macOS: one filter for reading, one for writing."""

    __slots__ = ("_api", "_kqueue")

    name = "kqueue"
    features = Feature.EV_FEATURE_ET | Feature.EV_FEATURE_O1 | Feature.EV_FEATURE_FDS

    def __init__(self, api: Any = select) -> None:
        self._api = api
        self._kqueue = api.kqueue()

    def add(self, fd: int, old: int, new: int) -> None:
        """Watch."""
        api = self._api
        flags = api.KQ_EV_ADD | (api.KQ_EV_CLEAR if (old | new) & ET else 0)
        self._change(fd, new, flags)

    def delete(self, fd: int, old: int, gone: int) -> None:
        """Stop watching."""
        with contextlib.suppress(OSError):
            self._change(fd, gone, self._api.KQ_EV_DELETE)

    def dispatch(self, timeout: float | None) -> Ready:
        """Wait; both filters of one descriptor come as two entries."""
        api = self._api
        ready: Ready = []
        for event in self._kqueue.control(None, MAX_READY, timeout):
            if event.flags & api.KQ_EV_ERROR:
                what = BOTH
            elif event.filter == api.KQ_FILTER_WRITE:
                what = WRITE
            else:
                what = READ
            ready.append((event.ident, what))
        return ready

    def dealloc(self) -> None:
        """Close the kernel's object."""
        self._kqueue.close()

    def _change(self, fd: int, what: int, flags: int) -> None:
        api = self._api
        changes = []
        if what & READ:
            changes.append(api.kevent(fd, api.KQ_FILTER_READ, flags))
        if what & WRITE:
            changes.append(api.kevent(fd, api.KQ_FILTER_WRITE, flags))
        if changes:
            self._kqueue.control(changes, 0, 0)


# Best first, as libevent orders them.
_KNOWN: tuple[tuple[str, type[Backend]], ...] = (
    ("epoll", EpollBackend),
    ("kqueue", KqueueBackend),
    ("devpoll", DevPollBackend),
    ("poll", PollBackend),
    ("select", SelectBackend),
)

BACKENDS: tuple[type[Backend], ...] = tuple(
    backend for name, backend in _KNOWN if hasattr(select, name)
)


def interests_of(features: Feature) -> int:
    """Return the interests that a backend with `features` understands."""
    interests = BOTH
    if features & Feature.EV_FEATURE_ET:
        interests |= ET
    if features & Feature.EV_FEATURE_EARLY_CLOSE:
        interests |= CLOSED
    return interests


def supported_methods() -> list[str]:
    """Return the names of the backends that this platform has, best first.

    Source: event_get_supported_methods.
    """
    return [backend.name for backend in BACKENDS]
