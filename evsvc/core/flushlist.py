"""The optimistic write: who has something to send when the pass's callbacks are done.

Adding to an output buffer only puts its owner on this list.  After the callbacks, before the next
wait, each owner sends once, with one system call for all that the callbacks left there; EV_WRITE
is armed only for what the kernel did not take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .passes import Passes


class Flushable(Protocol):
    """Something with output to send."""

    def _flush_output(self) -> None: ...


class FlushList:
    """The owners that wait to send, in the order in which they came."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: list[Flushable] = []

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
                    owner._flush_output()
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
