"""Signals as events.

Who does what when a signal comes
    * Python's C-level handler, at once: marks the signal as due, and writes its number as one byte
      to the wake-up descriptor of the process.  While a loop runs in the main thread, that is the
      loop's own (see `wakeup`), so that a wait ends which has begun or is about to.  Where its
      socket is full, the byte is dropped.
    * Our handler in Python (`_Catcher`), in the main thread as soon as that runs Python code:
      counts its call for one base, and wakes that base's loop, whatever thread that is in.
    * The loop, woken: activates the events of each signal that was counted.

So the pipe only wakes, and a byte that is dropped loses nothing.  What is promised: after each
signal its events are called, at least once.  Python may join signals of one kind that come in
quick succession, and call the handler once for all of them.  Their bytes tell how many there were,
and the events are called so often, where the loop is in the main thread and the bytes were not
dropped.

One `_Catcher` is the handler of a signal for all bases with events of it, and the base that added a
signal event last or entered its loop last is told.  When no base is left, the main thread puts back
what was there before.  A loop in another thread may be the last to let go, which may not: the
catcher then stays until the main thread comes to it, and does meanwhile what would have been done
without it.
"""

from __future__ import annotations

import itertools
import logging
import signal
import threading
from collections.abc import Callable
from operator import attrgetter
from types import FrameType
from typing import TYPE_CHECKING

from ..errors import ArgumentError, StateError
from ..flags import EVENT_FLAGS, SIGNAL, TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from .reactor import Reactor
    from .record import EventRecord
    from .registry import Registry

logger = logging.getLogger("evsvc.core")

_Handler = Callable[[int, FrameType | None], object] | int | None


class _Caught:
    """One signal of one base: its events, and how often it came."""

    __slots__ = ("_ahead", "_ran", "_told", "_wake", "catcher", "events", "turn")

    def __init__(self, wake: Callable[[], object]) -> None:
        self.events: list[EventRecord] = []
        self.catcher: _Catcher | None = None
        self.turn = 0  # of those who share a catcher, the last one is told
        self._wake = wake
        self._ran = 0  # calls of the handler; only the main thread writes it
        self._told = 0  # those of them that `take` has returned
        self._ahead = 0  # those that it returned last, and whose bytes it had not seen

    def count(self) -> None:
        """Know that the handler was called."""
        self._ran += 1
        self._wake()

    def take(self, written: int) -> int:
        """Return how often the signal came since the last time; `written` bytes were read since."""
        ran = self._ran - self._told
        self._told += ran
        written = max(written - self._ahead, 0)
        self._ahead = max(ran - written, 0)
        return max(ran, written) if ran else 0

    def forget(self) -> None:
        """Forget what came and was not taken."""
        self._told = self._ran
        self._ahead = 0


class _Catcher:
    """The handler of one signal, for every base that has events of it."""

    __slots__ = ("_previous", "_signum", "_turns", "takers")

    _previous: _Handler

    def __init__(self, signum: int) -> None:
        self.takers: list[_Caught] = []
        self._signum = signum
        self._previous = signal.getsignal(signum)
        self._turns = itertools.count(1)

    def join(self, caught: _Caught) -> None:
        """Tell `caught` from now on.  Raises OSError for a signal that cannot be caught."""
        # A signal may come between any two of these lines.
        self.prefer(caught)
        self.takers.append(caught)
        if not self._is_installed():
            try:
                signal.signal(self._signum, self)
            except OSError:
                self.takers.remove(caught)
                raise
            signal.siginterrupt(self._signum, False)
        caught.catcher = self

    def _is_installed(self) -> bool:
        return signal.getsignal(self._signum) is self

    def prefer(self, caught: _Caught) -> None:
        """Tell `caught`, and none of the others."""
        caught.turn = next(self._turns)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Count the call for the base that has the signal."""
        takers = self.takers.copy()
        if takers:
            max(takers, key=attrgetter("turn")).count()
        else:
            self._stand_aside(frame)

    def _stand_aside(self, frame: FrameType | None) -> None:
        """Do what would be done if this catcher were not there."""
        self.give_back()
        previous = self._previous
        if callable(previous):
            previous(self._signum, frame)
        elif previous != signal.SIG_IGN:
            # The default may end the process, stop it for a while, or be nothing at all.
            installed = signal.signal(self._signum, signal.SIG_DFL)
            signal.raise_signal(self._signum)
            signal.signal(self._signum, signal.SIG_DFL if installed is None else installed)

    def give_back(self) -> None:
        """Restore what was there before, unless a base or someone else has the signal by now."""
        if not self.takers and self._is_installed():
            previous = self._previous
            # None: a handler that C code installed, which Python cannot put back.
            signal.signal(self._signum, signal.SIG_DFL if previous is None else previous)


class SignalMap:
    """The signal events of one base.

    wake: makes the base's loop call `deliver`, from any thread and any signal handler;
    in_loop_thread: whether the thread that asks is the one in the loop.
    """

    __slots__ = ("_caught", "_in_loop_thread", "_left_behind", "_parted", "_wake")

    def __init__(self, wake: Callable[[], object], in_loop_thread: Callable[[], bool]) -> None:
        self._wake = wake
        self._in_loop_thread = in_loop_thread
        self._caught: dict[int, _Caught] = {}
        self._left_behind: list[_Catcher] = []  # that a thread could not give back
        self._parted = False

    @property
    def numbers(self) -> Collection[int]:
        """The signals that there are events of."""
        return tuple(self._caught)

    def add(self, event: EventRecord) -> None:
        """Catch the event's signal.  Raises ArgumentError for a number that is no signal or
        cannot be caught, StateError outside the main thread, and in a forked child."""
        signum = event.number
        _check_signal(signum)
        _require_main_thread(signum)
        if self._parted:
            raise StateError(f"signal {signum}: in a forked child, call reinit() first")
        caught = self._caught.get(signum)
        if caught is None:
            caught = _Caught(self._wake)
            self._catch(signum, caught)
            self._caught[signum] = caught
        caught.events.insert(0, event)
        self.take_over()

    def _catch(self, signum: int, caught: _Caught) -> None:
        catcher = signal.getsignal(signum)
        if not isinstance(catcher, _Catcher):
            catcher = _Catcher(signum)
        if catcher.takers:
            logger.warning(
                "another event base has events of signal %d: it comes from now on to the one that "
                "added it last, until the other enters its loop",
                signum,
            )
        try:
            catcher.join(caught)
        except OSError as exc:
            raise ArgumentError(f"signal {signum} cannot be caught: {exc.strerror}") from exc

    def remove(self, event: EventRecord) -> None:
        """Forget the event, and with the last one of a signal restore what was there before.

        Raises StateError, with nothing done, for the last one of a signal in a thread that is
        neither the main nor the loop's.
        """
        signum = event.number
        caught = self._caught[signum]
        if len(caught.events) == 1:
            self._require_may_let_go(signum)
        caught.events.remove(event)
        if not caught.events:
            del self._caught[signum]
            self._let_go(caught)

    def require_closable(self) -> None:
        """Raise StateError when this thread may not delete what is here."""
        for signum in self._caught:
            self._require_may_let_go(signum)

    def _require_may_let_go(self, signum: int) -> None:
        if not (self._parted or self._in_loop_thread()):
            _require_main_thread(signum)

    def _let_go(self, caught: _Caught) -> None:
        catcher, caught.catcher = caught.catcher, None
        if catcher is None:
            return
        catcher.takers.remove(caught)
        self._left_behind.append(catcher)
        self._give_back()

    def _give_back(self) -> None:
        if self._left_behind and _is_main_thread():
            left, self._left_behind = self._left_behind, []
            for catcher in left:
                catcher.give_back()

    def take_over(self) -> None:
        """Have the signals, also those that other bases have, too."""
        self._give_back()
        for caught in self._caught.values():
            if caught.catcher is not None:
                caught.catcher.prefer(caught)

    def part(self) -> None:
        """In a forked child, leave the signals to what there was before, and forget what came."""
        self._parted = True
        for caught in self._caught.values():
            self._let_go(caught)
            caught.forget()

    def reinit(self) -> None:
        """End what `part` began.  Raises StateError outside the main thread."""
        self._parted = False
        for signum, caught in self._caught.items():
            if caught.catcher is None:
                _require_main_thread(signum)
                self._catch(signum, caught)

    def close(self) -> None:
        """Let go of the wake-up.  There are no events by now."""
        self._give_back()
        del self._wake, self._in_loop_thread

    def deliver(self, registry: Registry, numbers: bytes) -> None:
        """Activate the events of the signals that came, each as often as it came.

        numbers: what Python's C-level handler has written.
        """
        for signum, caught in self._caught.items():
            times = caught.take(numbers.count(signum))
            if not times:
                continue
            for event in caught.events:
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

    def __bool__(self) -> bool:
        """Whether there is anything to do for signals."""
        return bool(self._caught or self._left_behind)

    def __iter__(self) -> Iterator[EventRecord]:
        for caught in self._caught.values():
            yield from caught.events


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


def _is_main_thread() -> bool:
    """Return True when this is the thread that Python runs signal handlers in."""
    return threading.current_thread() is threading.main_thread()


def _require_main_thread(signum: int) -> None:
    if not _is_main_thread():
        raise StateError(f"signal {signum}: only the main thread can catch and release signals")
