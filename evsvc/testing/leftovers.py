"""What a test has left on its base: descriptors that nobody closed, signals that are still caught.

Timers alone are none: they end with the base, and a request that was given up may have left one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core import EV_CLOSED, EV_READ, EV_SIGNAL, EV_WRITE

if TYPE_CHECKING:
    from ..core import Event, EventBase

_WATCHED = EV_READ | EV_WRITE | EV_CLOSED | EV_SIGNAL


def leftovers(base: EventBase) -> list[str]:
    """Return a line for each pending event of a descriptor or a signal, but the base's own.

    It says whose callback the event has.  Raises what `EventBase.foreach_event` raises.
    """
    found: list[str] = []

    def look(base: EventBase, event: Event, arg: object) -> None:
        if event.events & _WATCHED and not event.internal:
            found.append(_describe(event))

    base.foreach_event(look)
    return found


def _describe(event: Event) -> str:
    what = f"signal {event.signal}" if event.events & EV_SIGNAL else f"descriptor {event.fd}"
    name = getattr(event.callback, "__qualname__", repr(event.callback))
    return f"{what}, for {name}"
