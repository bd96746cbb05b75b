"""Turns: the event of a descriptor that cannot be watched, as it never makes anyone wait.

epoll refuses regular files and the likes of /dev/null (EPERM); poll and select say that they are
always ready.  So a bufferevent over one has a turn in each pass, one bounded read or write, between
which everyone else has theirs.  A read of a file may wait for its disk, as it does anywhere.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ..errors import SocketError
from ..flags import FINALIZE
from ..reactor.event import Event

if TYPE_CHECKING:
    from ..flags import EventFlag
    from ..reactor.event import EventCallback


class Turns(Event):
    """An event that happens in every pass, from `add` until `delete`."""

    __slots__ = ("_on", "_ready")

    def __init__(self, refused: Event) -> None:
        """Take the place of an event of a descriptor, which is closed."""
        ready = refused.callback
        assert ready is not None
        super().__init__(refused.base, -1, int(refused.events) & FINALIZE, self._run)
        self._ready: EventCallback = ready
        self._on = False
        if self.rank != refused.rank:
            self.priority = refused.rank
        refused.close()

    def add(self, timeout: float | None = None) -> None:
        """Have turns from the next pass on."""
        self._on = True
        self.base.reactor.defer(self, to_next_pass=True)

    def delete(self) -> None:
        """Have none any more."""
        self._on = False
        super().delete()

    def close(self) -> None:
        """Have none any more, for good; let go of the callback."""
        super().close()
        self._ready = self.call

    def _run(self, fd: int, what: EventFlag, arg: object) -> None:
        try:
            self._ready(fd, what, arg)
        finally:
            if self._on and self.initialized:
                self.add()


def watch(event: Event) -> Event:
    """Add an event of a descriptor; return it, or what stands for it where it cannot be watched.

    Raises as `Event.add` when the kernel refuses it for another reason.
    """
    try:
        event.add()
    except SocketError as exc:
        if exc.errno != errno.EPERM:
            raise
    else:
        return event
    turns = Turns(event)
    turns.add()
    return turns
