"""The end of a pass: who has something to send, and who may still join it with a callback.

The optimistic write: adding to an output buffer only puts its owner on this list.  After the
callbacks, before the next wait, each owner sends once, with one system call for all that the
callbacks left there; EV_WRITE is armed only for what the kernel did not take.

Deferred callbacks run in the pass that deferred them, so that what they write is sent in it, too.
Only so many do: callbacks that defer each other for ever must not keep the loop from the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .event import Event
    from .passes import Passes

MAX_DEFERRED_PER_PASS = 32
"""How many deferred callbacks join the pass under way, as in libevent; more wait for the next."""


class Flushable(Protocol):
    """Something with output to send."""

    def flush_output(self) -> None: ...


class FlushList:
    """The owners that wait to send, in the order in which they came."""

    __slots__ = ("_deferred_count", "_pass_number", "waiting")

    def __init__(self) -> None:
        self.waiting: list[Flushable] = []
        self._pass_number = 0
        self._deferred_count = 0

    def run(self, base: Passes) -> int:
        """Let every owner send once and return how many did.

        Owners that come back meanwhile wait for the next run.  An exception goes to the base's
        handler, or without one to the caller.  Those that were not reached, because of it or
        because a callback broke the loop, stay on the list.
        """
        turn, self.waiting = self.waiting, []
        owners = iter(turn)
        try:
            for owner in owners:
                try:
                    owner.flush_output()
                except Exception as exc:
                    if base.exception_handler is None:
                        raise
                    base.exception_handler(exc)
                if base._break:
                    break
        finally:
            left = list(owners)
            if left:
                self.waiting[:0] = left
        return len(turn) - len(left)

    def defer(self, base: Passes, event: Event, *, to_next_pass: bool = False) -> None:
        """Activate the event of deferred callbacks, in this pass while it has room.

        Does nothing when it is active already.  Source: event_deferred_cb_schedule_.
        """
        if event.is_active:
            return
        number = base._registry.pass_number
        if number != self._pass_number:
            self._pass_number = number
            self._deferred_count = 0
        if to_next_pass or self._deferred_count >= MAX_DEFERRED_PER_PASS:
            base._registry.activate_later(event, 0)
        else:
            self._deferred_count += 1
            base._registry.activate(event, 0)
