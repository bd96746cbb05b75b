"""Signals as events: a handler that does nothing, and a wake-up socket that carries the numbers.

Python's C-level handler writes each signal's number as one byte into the wake-up socket; the loop
reads them and activates the events, each as often as its signal came.  The disposition that was
there before comes back when the last event of a signal goes, the wake-up socket when the last
event of any signal goes.

A process has one wake-up socket: the base that last added a signal event, or last entered its
loop with one, has the signals.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from ..errors import ArgumentError, StateError
from ..flags import EVENT_FLAGS, SIGNAL, TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .reactor import Reactor
    from .record import EventRecord
    from .registry import Registry

logger = logging.getLogger("evsvc.core")

_Handler = Callable[[int, FrameType | None], object] | int | None

# A wake-up descriptor with its open file's device and number: none.
_NO_WAKEUP = (-1, 0, 0)


class _Catcher:
    """One base's handler of one signal: keeps the default action away, and does no more."""

    __slots__ = ("live", "previous")

    def __init__(self) -> None:
        self.live = True
        self.previous: _Handler = None

    def __call__(self, signum: int, frame: object) -> None:
        """Do nothing: the number travels through the wake-up socket."""

    def give_back(self, signum: int) -> None:
        """Restore what was there before, unless someone has taken the signal over since.

        Another base's catcher that has gone by now is passed over for what it found itself.
        """
        self.live = False
        if signal.getsignal(signum) is not self:
            return
        found: _Handler = self
        while isinstance(found, _Catcher) and not found.live:
            found = found.previous
        # None: a handler that C code installed, which Python cannot put back.
        signal.signal(signum, signal.SIG_DFL if found is None else found)


class SignalMap:
    """The signal events of one base."""

    __slots__ = ("_catchers", "_events", "_old_wakeup", "_wakeup_fd")

    def __init__(self, wakeup_fd: int) -> None:
        self._wakeup_fd = wakeup_fd
        self._old_wakeup = _NO_WAKEUP
        self._events: dict[int, list[EventRecord]] = {}
        self._catchers: dict[int, _Catcher] = {}

    def add(self, event: EventRecord) -> None:
        """Catch the event's signal.  Raises ArgumentError for a number that is no signal or
        cannot be caught, StateError outside the main thread."""
        signum = event.number
        _check_signal(signum)
        _require_main_thread(signum)
        if signum not in self._events:
            catcher = _Catcher()
            try:
                catcher.previous = signal.signal(signum, catcher)
            except OSError as exc:
                raise ArgumentError(f"signal {signum} cannot be caught: {exc.strerror}") from exc
            signal.siginterrupt(signum, False)
            self._catchers[signum] = catcher
        first = not self._events
        if first and self._another_has_signals():
            logger.warning(
                "another event base has signals: from now on they come to the one that added "
                "signal %d, until the other enters its loop",
                signum,
            )
        self._events.setdefault(signum, []).insert(0, event)
        found = self.take_over()
        if first:
            self._old_wakeup = _open_file(found)

    def _another_has_signals(self) -> bool:
        handlers = map(signal.getsignal, signal.valid_signals())
        theirs = [each for each in handlers if isinstance(each, _Catcher) and each.live]
        return len(theirs) > len(self._catchers)

    def remove(self, event: EventRecord) -> None:
        """Forget the event, and with the last one of a signal restore what was there before.

        Raises StateError outside the main thread.
        """
        signum = event.number
        events = self._events[signum]
        if len(events) == 1:
            _require_main_thread(signum)
        events.remove(event)
        if events:
            return
        del self._events[signum]
        self._catchers.pop(signum).give_back(signum)
        if not self._events:
            self._restore_wakeup_fd()

    def take_over(self) -> int:
        """Get the signals of the process, as far as this thread may decide it.

        Returns the wake-up descriptor that was set until now, or -1.
        """
        if not self._events or threading.current_thread() is not threading.main_thread():
            return -1
        return signal.set_wakeup_fd(self._wakeup_fd, warn_on_full_buffer=False)

    def move_wakeup_fd(self, fd: int) -> None:
        """Have the numbers written to `fd`, if it is this base that has the signals."""
        old, self._wakeup_fd = self._wakeup_fd, fd
        if not self._events or threading.current_thread() is not threading.main_thread():
            return
        current = signal.set_wakeup_fd(-1)
        if current == old:
            current = fd
        signal.set_wakeup_fd(current, warn_on_full_buffer=False)

    def _restore_wakeup_fd(self) -> None:
        current = signal.set_wakeup_fd(-1)
        if current == self._wakeup_fd:
            current = self._old_wakeup[0]
            # Closed meanwhile, its number may be anyone's; signal bytes must not go there.
            if _open_file(current) != self._old_wakeup:
                return
        with contextlib.suppress(OSError, ValueError):
            signal.set_wakeup_fd(current)

    def deliver(self, registry: Registry, numbers: bytes) -> None:
        """Activate the events of the signals that came, each as often as it came."""
        for signum, times in Counter(numbers).items():
            for event in self._events.get(signum, ()):
                count_calls(event, times)
                registry.activate(event, SIGNAL)

    def call(self, reactor: Reactor, event: EventRecord, what: int) -> None:
        """Call back as often as the signal came, until the event is deleted or the loop broken.

        Calls that an exception cut off come in the next pass.
        """
        flags = EVENT_FLAGS[what]
        try:
            while event.calls > 0:
                event.calls -= 1
                event.call(event.number, flags, event.arg)
                if reactor.broken:
                    event.calls = 0
        finally:
            if event.calls > 0:
                reactor.registry.activate_later(event, what)

    def __iter__(self) -> Iterator[EventRecord]:
        for events in self._events.values():
            yield from events


def count_calls(event: EventRecord, times: int) -> None:
    """Have the callback of a signal event run `times` times, besides what is outstanding."""
    counts = event.is_active and event.result != TIMEOUT  # a time-out has no calls
    event.calls = event.calls + times if counts else times


def forget_calls(event: EventRecord) -> None:
    """Have the callback of a signal event run no more; that which runs now is the last."""
    event.calls = 0


def _check_signal(signum: int) -> None:
    if signum not in signal.valid_signals():
        raise ArgumentError(f"no such signal: {signum!r}")


def _open_file(fd: int) -> tuple[int, int, int]:
    """Return `fd` with what tells its open file from another one under the same number."""
    if fd < 0:
        return _NO_WAKEUP
    try:
        status = os.fstat(fd)
    except OSError:
        return _NO_WAKEUP
    return fd, status.st_dev, status.st_ino


def _require_main_thread(signum: int) -> None:
    if threading.current_thread() is not threading.main_thread():
        raise StateError(f"signal {signum}: only the main thread can catch and release signals")
