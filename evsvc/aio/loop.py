"""An asyncio event loop that waits in an event base."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple

from ..core import Error, Event, EventBase
from ..core.errors import ArgumentTypeError
from .callback_errors import CallbackErrors
from .selector import BaseSelector

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class EventLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose wait is `base`: asyncio's tasks and evsvc's callbacks in one thread.

    base: which to wait in; without one the loop makes its own, and closes it in `close`.

    The loop's time is the base's.  While it runs, what a callback of the base raises goes to the
    base's `exception_handler`, or without one to `call_exception_handler`; KeyboardInterrupt and
    SystemExit leave `run_forever`.  `loopexit` and `loopbreak` of the base stop the loop as `stop`
    does.  Each turn of asyncio is one pass of the base, whose callbacks come before asyncio's.
    Raises ArgumentTypeError for what is no base, StateError for one that is closed.
    """

    _closed = True  # for asyncio's finalizer, where `__init__` has raised

    def __init__(self, base: EventBase | None = None) -> None:
        if base is not None and not isinstance(base, EventBase):
            raise ArgumentTypeError(f"a loop waits in an EventBase, not in {base!r}")
        self._base = EventBase() if base is None else base
        self._base.reactor.require_open()
        self._owns_base = base is None
        self._signals: dict[int, Event] = {}
        super().__init__(BaseSelector(self._base, self.stop))

    @property
    def base(self) -> EventBase:
        """The base in which the loop waits."""
        return self._base

    def time(self) -> float:
        """Return the base's monotonic seconds."""
        return self._base.gettime_monotonic()

    def run_forever(self) -> None:
        """Run until `stop` is called, or `loopexit` or `loopbreak` of the base.

        Raises RuntimeError when the loop runs, or another one in this thread, and when it is
        closed; StateError (a RuntimeError) when the loop of its base runs, or the base is closed.
        """
        reactor = self._base.reactor
        errors = CallbackErrors(self._base, self)
        reactor.lend(None)
        try:
            errors.begin()
            super().run_forever()
        finally:
            errors.end()
            reactor.end_lending()

    def add_signal_handler(self, sig: int, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        """Call `callback(*args)` from the loop after a signal, in place of what was called before.

        Raises TypeError for a coroutine or what is no number, ValueError for no signal, and
        RuntimeError for one that cannot be caught, or outside of the main thread.
        """
        if asyncio.iscoroutine(callback) or asyncio.iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        _check_signal(sig)
        if self.is_closed():
            raise RuntimeError("Event loop is closed")

        def on_signal(signum: int, what: int, arg: object) -> None:
            self.call_soon(callback, *args)

        event = self._base.signal(sig, on_signal)
        try:
            event.add()
        except Error as exc:
            raise RuntimeError(f"sig {sig} cannot be caught: {exc}") from exc
        self.remove_signal_handler(sig)
        self._signals[sig] = event

    def remove_signal_handler(self, sig: int) -> bool:
        """Undo `add_signal_handler`, and return whether there was one.

        Python's handler is what it was before it, unlike in asyncio, which has the default then.
        """
        _check_signal(sig)
        event = self._signals.pop(sig, None)
        if event is None:
            return False
        event.close()
        return True

    def close(self) -> None:
        """Close what the loop has made; a base that was handed in stays open.

        Raises RuntimeError while the loop runs.
        """
        if self.is_closed():
            return
        super().close()
        for event in self._signals.values():
            event.close()
        self._signals.clear()
        if self._owns_base:
            self._base.close()


def run(
    main: Coroutine[Any, Any, T], *, base: EventBase | None = None, debug: bool | None = None
) -> T:
    """Run a coroutine on a new `EventLoop`, as `asyncio.run` does, and return its result.

    base: what the loop waits in; it stays open.  debug: asyncio's debug mode.  Raises what the
    coroutine raises, RuntimeError when `loopexit` or `loopbreak` of the base ends the loop before,
    and as `asyncio.run` does where a loop runs already.
    """
    with asyncio.Runner(debug=debug, loop_factory=lambda: EventLoop(base)) as runner:
        return runner.run(main)


def _check_signal(sig: object) -> None:
    """Raise TypeError for what is no number, ValueError for what is no signal."""
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, not {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"invalid signal number {sig}")
