"""A base inside of a loop that is not ours: asyncio's own, uvloop's, or another EventLoop.

The outer loop waits, and runs a pass of the base, which then does not wait, when one of three
things tells it to:
    * the backend's own descriptor is readable: a descriptor of the base is ready, a call was
      posted, a signal came;
    * a timer of the outer loop, for the base's next one.  It is never put off, as most of the
      base's deadlines move all the time: it fires, and finds that there is nothing to do yet;
    * something was asked of the base between two passes that no descriptor shows: output to send,
      an active event, a nearer timer.  The pass for all of it comes in the outer loop's next turn.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from ..core import ArgumentError, ArgumentTypeError, EventBase
from ..core.closing import Closing
from .callback_errors import CallbackErrors

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Handle, TimerHandle

TIMER_SLACK_S = 0.001
"""How much later than due the base's timers may come, so that the loop's is set less often."""


class Attachment(Closing):
    """A base that a loop of asyncio drives, until `close`; `attach` makes it."""

    __slots__ = ("_base", "_errors", "_fd", "_is_due", "_loop", "_thread_id", "_timer", "_turn")

    def __init__(self, base: EventBase, loop: AbstractEventLoop) -> None:
        reactor = base.reactor
        reactor.require_open()
        self._fd = reactor.backend.fileno()
        if self._fd < 0:
            raise ArgumentError(
                f"a base with the backend {base.method!r} has no descriptor that another loop "
                "can watch; those with epoll and kqueue have"
            )
        self._base = base
        self._errors = CallbackErrors(base, loop)
        self._loop: AbstractEventLoop | None = loop
        self._thread_id = threading.get_ident()
        self._timer: TimerHandle | None = None
        self._turn: Handle | None = None
        self._is_due = False  # a pass is running, or will in the outer loop's next turn
        reactor.lend(self._on_work)
        try:
            loop.add_reader(self._fd, self._run_pass)
        except BaseException:
            reactor.end_lending()
            raise
        self._errors.begin()
        self._plan()

    @property
    def base(self) -> EventBase:
        """The base that is driven."""
        return self._base

    @property
    def attached(self) -> bool:
        """Whether the base is still driven."""
        return self._loop is not None

    def detach(self) -> None:
        """Drive the base no more: `dispatch` works again, and what is pending stays so.

        In the outer loop's thread.  Safe to repeat, and from a callback of the base.
        """
        loop, self._loop = self._loop, None
        if loop is None:
            return
        if not loop.is_closed():
            loop.remove_reader(self._fd)
        for handle in (self._timer, self._turn):
            if handle is not None:
                handle.cancel()
        self._errors.end()
        self._base.reactor.end_lending()

    def close(self) -> None:
        """Do as `detach` does."""
        self.detach()

    def _on_work(self) -> None:
        """Know that the base was asked for something, in any thread."""
        if self._is_due:
            return
        if threading.get_ident() == self._thread_id:
            self._ask()
        else:
            self._base.post(_nothing)

    def _ask(self) -> None:
        loop = self._loop
        if loop is not None:
            self._is_due = True
            self._turn = loop.call_soon(self._run_pass)

    def _run_pass(self) -> None:
        if self._loop is None:
            return
        if self._turn is not None:  # the descriptor was quicker
            self._turn.cancel()
            self._turn = None
        self._is_due = True
        goes_on = True
        try:
            goes_on = self._base.run_pass(0)
        finally:
            self._is_due = False
            if goes_on:
                self._plan()
            else:
                self.detach()

    def _plan(self) -> None:
        """Have the next pass run in time."""
        loop = self._loop
        wait_s = None if loop is None else self._base.reactor.next_wait_s()
        if loop is None or wait_s is None:
            return
        if not wait_s:
            self._ask()
            return
        due = loop.time() + wait_s
        timer = self._timer
        if timer is not None:
            if timer.when() <= due + TIMER_SLACK_S:
                return
            timer.cancel()
        self._timer = loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._run_pass()


def attach(base: EventBase, loop: AbstractEventLoop | None = None) -> Attachment:
    """Have a loop of asyncio drive a base: its callbacks run in the loop's thread, between tasks.

    loop: the one that is running, where none is named; any that has `add_reader`, uvloop's too.
    Call it in the loop's thread.  Until the attachment is closed the base's own loop is taken:
    `dispatch` and `close` of the base raise StateError.  `loopexit` and `loopbreak` of the base
    detach it.  What a callback raises goes to the base's `exception_handler`, or without one to the
    loop's `call_exception_handler`.

    Raises ArgumentTypeError for what is no base, ArgumentError for one whose backend has no
    descriptor (poll, select), StateError when the base's loop runs, or is driven already, or the
    base is closed, RuntimeError where no loop is named and none runs.
    """
    if not isinstance(base, EventBase):
        raise ArgumentTypeError(f"a loop drives an EventBase, not {base!r}")
    return Attachment(base, asyncio.get_running_loop() if loop is None else loop)


def _nothing() -> None:
    """Do nothing: being posted has woken the base."""
