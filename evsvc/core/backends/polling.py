"""select(2), poll(2) and /dev/poll: the kernel is given the whole list again for each wait."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import sys
from typing import Any

from ..flags import BOTH, CLOSED, READ, WRITE, Feature
from .protocol import ALL, INTERESTS, Ready, every_mask


class SelectBackend:
    """select(2): everywhere, and slow with many descriptors."""

    __slots__ = ("_read", "_write")

    name = "select"
    features = Feature.EV_FEATURE_FDS
    meanings = INTERESTS

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
        return self._wait(self._read, self._write, timeout)

    def _wait(self, read: set[int], write: set[int], timeout: float | None) -> Ready:
        # Windows tells of a failed connect by the third set, which is urgent data elsewhere.
        connecting = write if sys.platform == "win32" else ()
        try:
            readable, writable, broken = select.select(read, write, connecting, timeout)
        except OSError as exc:
            if exc.errno != errno.EBADF:
                raise
            closed = {fd for fd in read | write if not _is_open(fd)}
            return [(fd, BOTH) for fd in closed] + self._wait(read - closed, write - closed, 0)
        ready = dict.fromkeys(readable, READ)
        for fd in (*writable, *broken):
            ready[fd] = ready.get(fd, 0) | WRITE
        return list(ready.items())

    def dealloc(self) -> None:
        """Forget everything."""
        self._read.clear()
        self._write.clear()

    def renew(self) -> None:
        """Forget everything."""
        self.dealloc()

    def fileno(self) -> int:
        """Return -1: select and poll have no descriptor."""
        return -1


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

    __slots__ = ("_api", "_poll", "meanings")

    name = "poll"
    features = Feature.EV_FEATURE_FDS | (
        Feature.EV_FEATURE_EARLY_CLOSE if hasattr(select, "POLLRDHUP") else Feature(0)
    )

    def __init__(self, api: Any = select) -> None:
        self._api = api
        self._poll = self._open()
        troubles = [(bit, ALL) for bit in (api.POLLERR, api.POLLHUP, api.POLLNVAL)]
        if hup := getattr(api, "POLLRDHUP", 0):
            troubles.append((hup, CLOSED))
        self.meanings = every_mask([(api.POLLIN, READ), (api.POLLOUT, WRITE), *troubles])

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
            with contextlib.suppress(KeyError):
                self._poll.unregister(fd)

    def dispatch(self, timeout: float | None) -> Ready:
        """Wait; the kernel counts milliseconds, and the fraction is rounded up."""
        ready: Ready = self._poll.poll(None if timeout is None else timeout * 1000)
        return ready

    def dealloc(self) -> None:
        """Forget everything; poll(2) holds nothing in the kernel."""

    def renew(self) -> None:
        """Give it back and take another one."""
        self.dealloc()
        self._poll = self._open()

    def fileno(self) -> int:
        """Return -1: there is none that another loop could watch."""
        return -1

    def _open(self) -> Any:
        return self._api.poll()

    def _mask(self, what: int) -> int:
        api = self._api
        mask = api.POLLIN if what & READ else 0
        if what & WRITE:
            mask |= api.POLLOUT
        if what & CLOSED:
            mask |= getattr(api, "POLLRDHUP", 0)
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

    def _open(self) -> Any:
        return self._api.devpoll()
