"""epoll(7): the kernel keeps the list, and each change of it is a system call."""

from __future__ import annotations

import contextlib
import logging
import select

from ..flags import (
    CLOSED,
    ET,
    READ,
    WRITE,
    Feature,
)
from .protocol import (
    ALL,
    MAX_READY,
    Ready,
    every_mask,
)

logger = logging.getLogger("evsvc.core")

# Written out, because the module is imported where there is no epoll, too.
_IN, _OUT, _ERR, _HUP, _RDHUP, _EDGE = 0x001, 0x004, 0x008, 0x010, 0x2000, 1 << 31

# select(2) takes descriptors below this number.
_FD_SETSIZE = 1024


class EpollBackend:
    """epoll, level-triggered unless EV_ET is asked for.

    The registration lives in the kernel under (descriptor number, open file).  When a number is
    closed and opened again between two calls, our idea of `old` and the kernel's differ: a modify
    then answers ENOENT and a register EEXIST, and each is retried as the other.

    precise: have waits end at the microsecond (EVENT_BASE_FLAG_PRECISE_TIMER) for one more system
    call each; the kernel counts milliseconds, which are rounded up.
    """

    __slots__ = ("_epoll", "_precise")

    name = "epoll"
    features = Feature.EV_FEATURE_ET | Feature.EV_FEATURE_O1 | Feature.EV_FEATURE_EARLY_CLOSE
    meanings = every_mask(((_IN, READ), (_OUT, WRITE), (_RDHUP, CLOSED), (_ERR, ALL), (_HUP, ALL)))

    def __init__(self, *, precise: bool = False) -> None:
        self._epoll = select.epoll()
        # The wait itself is select(2)'s, on the epoll descriptor.
        self._precise = precise and self._epoll.fileno() < _FD_SETSIZE

    def add(self, fd: int, old: int, new: int) -> None:
        """Watch.  Raises OSError (EPERM for a regular file, EBADF for no file)."""
        self._set(fd, _mask(old | new), known=bool(old))

    def delete(self, fd: int, old: int, gone: int) -> None:
        """Stop watching; whatever the kernel has to say of a closed descriptor is no news."""
        left = old & ~gone
        with contextlib.suppress(OSError):
            if left & ALL:
                self._epoll.modify(fd, _mask(left))
            else:
                self._epoll.unregister(fd)

    def dispatch(self, timeout: float | None) -> Ready:
        """Wait; the kernel counts milliseconds, and the fraction is rounded up."""
        if timeout is None:
            timeout = -1
        elif self._precise and timeout:
            select.select([self._epoll], [], [], timeout)
            timeout = 0
        return self._epoll.poll(timeout, MAX_READY)

    def dealloc(self) -> None:
        """Close the kernel's object."""
        self._epoll.close()

    def renew(self) -> EpollBackend:
        """Return another one."""
        return type(self)(precise=self._precise)

    def _set(self, fd: int, mask: int, *, known: bool) -> None:
        try:
            if known:
                self._epoll.modify(fd, mask)
            else:
                self._epoll.register(fd, mask)
        except FileNotFoundError:
            self._epoll.register(fd, mask)
        except FileExistsError:
            self._epoll.modify(fd, mask)


class _Change:
    """What happened since the last wait to a descriptor that the kernel watches."""

    __slots__ = ("anew", "known", "wanted")

    def __init__(self, known: int) -> None:
        self.known = self.wanted = known  # what the kernel watches for, and what it shall
        self.anew = False  # added after it was deleted: it may be another file by now


class ChangelistEpollBackend(EpollBackend):
    """epoll that is told of changes just before the next wait, and only of what is left of them.

    Only a descriptor that it does not watch yet is told at once, so that a refusal raises.  One
    that was deleted and is added again before the wait may be another file by then, and a refusal
    of that one is logged.  Source: EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST.
    """

    __slots__ = ("_changes",)

    name = "epoll (with changelist)"

    def __init__(self, *, precise: bool = False) -> None:
        super().__init__(precise=precise)
        self._changes: dict[int, _Change] = {}

    def add(self, fd: int, old: int, new: int) -> None:
        """Watch.  Raises OSError as epoll does, for a descriptor that was not watched before."""
        change = self._changes.get(fd)
        if change is None:
            if not old:
                super().add(fd, old, new)
                return
            change = self._changes[fd] = _Change(old)
        elif not old:
            change.anew = True
        change.wanted = old | new

    def delete(self, fd: int, old: int, gone: int) -> None:
        """Stop watching."""
        change = self._changes.get(fd)
        if change is None:
            change = self._changes[fd] = _Change(old)
        left = old & ~gone
        change.wanted = left if left & ALL else 0

    def dispatch(self, timeout: float | None) -> Ready:
        """Tell the kernel what has changed, and wait."""
        if self._changes:
            self._apply()
        return super().dispatch(timeout)

    def _apply(self) -> None:
        changes, self._changes = self._changes, {}
        for fd, change in changes.items():
            if not change.wanted:
                super().delete(fd, change.known, change.known)
                continue
            if change.wanted == change.known and not change.anew:
                continue
            try:
                self._set(fd, _mask(change.wanted), known=True)
            except OSError as exc:
                logger.warning("epoll cannot watch descriptor %d: %s", fd, exc.strerror)


def _mask(what: int) -> int:
    mask = _IN if what & READ else 0
    if what & WRITE:
        mask |= _OUT
    if what & CLOSED:
        mask |= _RDHUP
    if what & ET:
        mask |= _EDGE
    return mask
