"""kqueue(2) of the BSDs and macOS."""

from __future__ import annotations

import contextlib
import select
from typing import Any

from ..flags import BOTH, ET, READ, WRITE, Feature
from .protocol import INTERESTS, MAX_READY, Ready


class KqueueBackend:
    """kqueue(2) of the BSDs and macOS: one filter for reading, one for writing."""

    __slots__ = ("_api", "_kqueue")

    name = "kqueue"
    features = Feature.EV_FEATURE_ET | Feature.EV_FEATURE_O1 | Feature.EV_FEATURE_FDS
    meanings = INTERESTS

    def __init__(self, api: Any = select) -> None:
        self._api = api
        self._kqueue = api.kqueue()

    def add(self, fd: int, old: int, new: int) -> None:
        """Watch, in each new direction or in none.  Raises OSError."""
        api = self._api
        flags = api.KQ_EV_ADD | (api.KQ_EV_CLEAR if (old | new) & ET else 0)
        try:
            self._change(fd, new, flags)
        except OSError:
            self.delete(fd, old | new, new)
            raise

    def delete(self, fd: int, old: int, gone: int) -> None:
        """Stop watching; one filter may be gone with the file, and the other one not."""
        for direction in (READ, WRITE):
            with contextlib.suppress(OSError):
                self._change(fd, gone & direction, self._api.KQ_EV_DELETE)

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

    def renew(self) -> None:
        """Close it and take another one, which may get its number: a fork takes no kqueue along."""
        with contextlib.suppress(OSError):
            self._kqueue.close()
        self._kqueue = self._api.kqueue()

    def fileno(self) -> int:
        """Return the kqueue's descriptor, which another loop can watch."""
        number: int = self._kqueue.fileno()
        return number

    def _change(self, fd: int, what: int, flags: int) -> None:
        api = self._api
        changes = []
        if what & READ:
            changes.append(api.kevent(fd, api.KQ_FILTER_READ, flags))
        if what & WRITE:
            changes.append(api.kevent(fd, api.KQ_FILTER_WRITE, flags))
        if changes:
            self._kqueue.control(changes, 0, 0)
