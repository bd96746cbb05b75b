"""The bufferevent that another one stands on: taken over, held, given back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .flow import SUSPENDED_FILTER

if TYPE_CHECKING:
    from .abstract import AbstractBufferEvent, DataCallback, EventCallback


class Below:
    """What a filter or TLS knows of the bufferevent below, `bev`.

    closes: whether it is closed with the one above.  From the start on a reference is held, so that
    a `close` from elsewhere leaves its bytes moving; `give_back` ends all.
    """

    __slots__ = ("_drained", "_eventcb", "_readcb", "_writecb", "bev", "closes")

    def __init__(
        self,
        bev: AbstractBufferEvent,
        closes: bool,
        readcb: DataCallback,
        writecb: DataCallback,
        eventcb: EventCallback,
        drained: Callable[[], object],
    ) -> None:
        self.bev = bev
        self.closes = closes
        self._readcb: DataCallback | None = readcb
        self._writecb: DataCallback | None = writecb
        self._eventcb: EventCallback | None = eventcb
        self._drained: Callable[[], object] | None = drained
        bev.incref()

    def take(self) -> None:
        """Replace its callbacks by ours, hear what leaves its output, and hold its reading."""
        bev = self.bev
        bev.setcb(self._readcb, self._writecb, self._eventcb)
        bev.output.on_drain = self._drained
        self.hold()

    def enable(self, directions: int) -> None:
        """Enable those of the directions that are not.  Raises as its `enable` does."""
        missing = directions & ~self.bev.flow.enabled
        if missing:
            self.bev.enable(missing)

    @property
    def held(self) -> bool:
        """Whether its reading is held."""
        return bool(self.bev.flow.read_suspended & SUSPENDED_FILTER)

    def hold(self) -> None:
        """Have it read no more, for now."""
        self.bev.flow.suspend_reading(SUSPENDED_FILTER)

    def release(self) -> None:
        """Have it read on."""
        self.bev.flow.resume_reading(SUSPENDED_FILTER)

    def room(self) -> int | None:
        """Return how many bytes its output takes below its high watermark; None is any number."""
        high = self.bev.flow.write_high
        return high - self.bev.output.length if high else None

    def unsent(self) -> bool:
        """Return True while it, or what is below it, has something to send."""
        return self.bev.unsent()

    def give_back(self) -> None:
        """Close it, or have it read on without us and without callbacks; give up the reference."""
        bev = self.bev
        # The program may have put something else there by now.
        if bev.getcb()[0] == self._readcb:
            bev.setcb(None, None, None)
        if bev.output.on_drain == self._drained:
            bev.output.on_drain = None
        # They are of the one above, which holds us.
        self._readcb = self._writecb = self._eventcb = self._drained = None
        is_gone = False
        try:
            if self.closes:
                bev.close()
        finally:
            is_gone = bev.decref()
        if not is_gone:
            self.release()
