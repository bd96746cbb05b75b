"""Signals as events: a handler that does nothing, and a wake-up socket that carries the numbers.

Python's C-level handler writes each signal's number as one byte into the wake-up socket; the loop
reads them and activates the events, each as often as its signal came.  The dispositions and the
wake-up socket that were there before come back when the last event of a signal goes.

A process has one wake-up socket: the base that added a signal event last has the signals.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from .errors import StateError
from .event import check_signal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .base import EventBase
    from .event import Event

SIGNAL = 0x08


def _handler(signum: int, frame: object) -> None:
    """Keep the default action away; the number travels through the wake-up socket."""


class SignalMap:
    """The signal events of one base."""

    __slots__ = ("_base", "_events", "_old_handlers", "_old_wakeup_fd", "_wakeup_fd")

    def __init__(self, base: EventBase, wakeup_fd: int) -> None:
        self._base = base
        self._wakeup_fd = wakeup_fd
        self._old_wakeup_fd = -1
        self._events: dict[int, list[Event]] = {}
        self._old_handlers: dict[int, Any] = {}

    def add(self, event: Event) -> None:
        """Catch the event's signal.  Raises ArgumentError for a number that is no signal or
        cannot be caught, StateError outside the main thread."""
        signum = event._fd
        check_signal(signum)
        if signum not in self._events:
            if threading.current_thread() is not threading.main_thread():
                raise StateError(f"signal {signum}: only the main thread can catch signals")
            self._old_handlers[signum] = signal.signal(signum, _handler)
            signal.siginterrupt(signum, False)
            if not self._events:
                self._old_wakeup_fd = signal.set_wakeup_fd(
                    self._wakeup_fd, warn_on_full_buffer=False
                )
            self._events[signum] = []
        self._events[signum].insert(0, event)

    def remove(self, event: Event) -> None:
        """Forget the event, and with the last one of a signal restore what was there before."""
        signum = event._fd
        events = self._events[signum]
        events.remove(event)
        if events:
            return
        del self._events[signum]
        old = self._old_handlers.pop(signum)
        # None: a handler that C code installed, which Python cannot put back.
        signal.signal(signum, signal.SIG_DFL if old is None else old)
        if not self._events:
            self._restore_wakeup_fd()

    def _restore_wakeup_fd(self) -> None:
        current = signal.set_wakeup_fd(-1)
        # Another base may have taken over meanwhile; and what was there before may be closed.
        restored = self._old_wakeup_fd if current == self._wakeup_fd else current
        with contextlib.suppress(OSError, ValueError):
            signal.set_wakeup_fd(restored)

    def deliver(self, numbers: bytes) -> None:
        """Activate the events of the signals that came, each as often as it came."""
        for signum, times in Counter(numbers).items():
            for event in self._events.get(signum, ()):
                event._calls = event._calls + times if event._active else times
                self._base._active.activate(event, SIGNAL)

    def __iter__(self) -> Iterator[Event]:
        for events in self._events.values():
            yield from events
