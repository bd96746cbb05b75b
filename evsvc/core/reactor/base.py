"""EventBase: the loop as a program sees it; `reactor` is how it runs."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from time import time
from typing import TYPE_CHECKING, Any, TextIO

from ..checks import check_timeout, flag_bits, require_callable, whole_number
from ..closing import Closing
from ..descriptors import fd_of
from ..errors import ArgumentError, ArgumentTypeError
from ..flags import (
    EVENT_FLAGS,
    IO,
    PERSIST,
    SIGNAL,
    TIMEOUT,
    Feature,
    LoopFlag,
)
from . import inspection
from .config import EventConfig
from .event import Event
from .finalizers import run_finalizers
from .reactor import MAX_WAIT_S, Reactor
from .wakeup import Wakeup

if TYPE_CHECKING:
    from ..descriptors import HasFileno
    from .clock import Clock
    from .event import EventCallback
    from .reactor import ExceptionHandler
    from .timers import CommonTimeout


# How old the distance between wall clock and monotonic clock may be; libevent's number.
CLOCK_SYNC_INTERVAL_S = 5.0

_EVENT_FLAGS = len(EVENT_FLAGS) - 1
_LOOP_FLAGS = int(
    LoopFlag.EVLOOP_ONCE | LoopFlag.EVLOOP_NONBLOCK | LoopFlag.EVLOOP_NO_EXIT_ON_EMPTY
)


class EventBase(Closing):
    """The loop that waits for events and calls their callbacks, in one thread.

    config: which backend to take (default: the platform's best); clock: the monotonic clock.
    Raises NoBackendError when no backend satisfies the configuration, ArgumentTypeError for what
    is no configuration or no clock.  Other threads may `post` and `loopbreak`; for the rest see
    `thread.use_pthreads`.  Source: event_base_new.

    reactor: not for programs: what the rest of the core knows of a base.
    """

    __slots__ = ("__weakref__", "_wall_measured", "_wall_offset", "reactor")

    def __init__(self, config: EventConfig | None = None, *, clock: Clock | None = None) -> None:
        if config is not None and not isinstance(config, EventConfig):
            raise ArgumentTypeError(f"a configuration is an EventConfig, not {config!r}")
        if clock is not None:
            _check_clock(clock)
        self._wall_offset = 0.0
        self._wall_measured = -inf
        self.reactor = Reactor(config or EventConfig(), clock)
        try:
            wakeup = Wakeup(self)
        except BaseException:
            self.reactor.backend.dealloc()
            raise
        try:
            self.reactor.connect(wakeup)
        except BaseException:
            self.close_nofinalize()
            raise

    @property
    def exception_handler(self) -> ExceptionHandler | None:
        """What is called as `handler(exc)` with what a callback raised; the loop then goes on.

        With None, as in a new base and in a closed one, the exception leaves `loop`, as
        KeyboardInterrupt and SystemExit always do.  Setting raises ArgumentTypeError for what
        cannot be called.
        """
        return self.reactor.exception_handler

    @exception_handler.setter
    def exception_handler(self, handler: ExceptionHandler | None) -> None:
        if handler is not None:
            require_callable(handler, "the exception handler")
        self.reactor.exception_handler = handler

    def dispatch(self) -> int:
        """Run until nothing is pending or the loop is stopped (event_base_dispatch).

        Returns 1 when no event was left, 0 when `loopexit` or `loopbreak` ended it.
        """
        return self.loop(0)

    def loop(self, flags: int = 0) -> int:
        """Run passes: with EVLOOP_ONCE until callbacks ran, with EVLOOP_NONBLOCK without waiting.

        With EVLOOP_NO_EXIT_ON_EMPTY it goes on when no event is left.  Returns 1 when it ended for
        lack of events, else 0.  Raises StateError when this base's loop is running already, and
        whatever a callback raised when there is no `exception_handler`.  Source: event_base_loop.
        """
        return self.reactor.loop(flag_bits(flags, "loop flags", _LOOP_FLAGS))

    def run_pass(self, wait_s: float | None = None) -> bool:
        """Run one pass: wait, run the callbacks of one priority, send what waits to be sent.

        For a program that has a loop of its own around this one.  wait_s: the most seconds to wait,
        None for as long as nothing happens, also when no event is pending.  While something is
        active it does not wait.  Returns False when `loopexit` or `loopbreak` was called
        meanwhile, else True.  Raises as `loop` does, ArgumentError for a negative time, and
        ArgumentTypeError for what is no number.
        """
        if wait_s is not None:
            check_timeout(wait_s)
            wait_s = min(wait_s, MAX_WAIT_S)
        reactor = self.reactor
        reactor.run_pass(wait_s)
        return not (reactor.exited or reactor.broken)

    def loopexit(self, timeout: float | None = None) -> None:
        """Stop after the callbacks that are active now, or `timeout` seconds from now on.

        Works before the loop starts, too.  Raises as `Event.add` does for a timeout.
        Source: event_base_loopexit.
        """
        reactor = self.reactor
        reactor.require_open()
        if reactor.parted:
            reactor.end()  # no more callbacks run here
            return
        event = Event(self, -1, TIMEOUT, self._on_loopexit)
        if timeout is not None:
            check_timeout(timeout)
        if not timeout:
            reactor.registry.activate(event, TIMEOUT)
        else:
            event.add(timeout)
        reactor.wakeup.wake()

    def loopbreak(self) -> None:
        """Stop after the callback that is running; the rest stays active, and what was written
        stays unsent, until the next `loop`.  Thread-safe.

        Without effect when the loop is not running.  Source: event_base_loopbreak.
        """
        self.reactor.break_off()

    def loopcontinue(self) -> None:
        """Leave the rest of this pass active and wait again (event_base_loopcontinue)."""
        self.reactor.leave_pass()

    @property
    def got_exit(self) -> bool:
        """Whether `loopexit` ended the last run (event_base_got_exit)."""
        return self.reactor.exited

    @property
    def got_break(self) -> bool:
        """Whether `loopbreak` ended the last run (event_base_got_break)."""
        return self.reactor.broken

    @property
    def now(self) -> float:
        """The loop's time in monotonic seconds: one value for all callbacks of a pass.

        Outside the loop, the present time.
        """
        reactor = self.reactor
        cached = reactor.cached_time  # as `reactor.now`, without the call: it is asked for often
        return reactor.monotonic() if cached is None else cached

    def timer(self, cb: EventCallback, arg: object = None) -> Event:
        """Make a one-shot timer; start it with `add(seconds)` (evtimer_new)."""
        return Event(self, -1, 0, cb, arg)

    def signal(self, signum: int, cb: EventCallback, arg: object = None) -> Event:
        """Make a persistent signal event; start it with `add()`, in the main thread (evsignal_new).

        After each signal its callback is called at least once; signals that come together may be
        one call.
        """
        return Event(self, signum, SIGNAL | PERSIST, cb, arg)

    def once(
        self,
        fd: int | HasFileno,
        events: int,
        cb: EventCallback,
        arg: object = None,
        timeout: float | None = None,
    ) -> None:
        """Call `cb(fd, what, arg)` once, when the descriptor is ready or the time is over.

        events: EV_READ, EV_WRITE, EV_CLOSED, or EV_TIMEOUT alone, which without a timeout is
        activated at once, in the order of the calls: from inside a callback, for the next pass.
        timeout: seconds from now on.  Raises ArgumentError for EV_SIGNAL,
        EV_PERSIST or no flag, and as `Event.add` does.  Source: event_base_once.
        """
        flags = flag_bits(events, "event flags", _EVENT_FLAGS)
        if flags & (SIGNAL | PERSIST) or not flags & (TIMEOUT | IO):
            raise ArgumentError(f"once() cannot wait for {EVENT_FLAGS[flags]!r}")
        event = Event(self, fd, flags, cb, arg)
        if not flags & IO and not timeout:
            if timeout is not None:
                check_timeout(timeout)
            self.reactor.registry.activate_in_turn(event, TIMEOUT)
        else:
            event.add(timeout)

    def init_common_timeout(self, seconds: float) -> CommonTimeout:
        """Return a timeout to give to `Event.add` for many events: each then costs O(1).

        It is rounded to microseconds, and the same ones give the same timeout; one of this base
        gives itself, and one of another base counts as its number.  Raises ArgumentError for a
        negative number, StateError for the 257th of a base.
        Source: event_base_init_common_timeout.
        """
        self.reactor.require_open()
        with self.reactor.registry.guard:
            return self.reactor.timers.init_common(seconds)

    def post(self, fn: Callable[..., object], *args: object) -> None:
        """Run `fn(*args)` from the loop, after what is active now.  Thread-safe.

        Calls run in the order in which they were posted, at the middle priority, and ready
        descriptors and due timers get their turn after every 32.  What is not posted yet keeps no
        loop alive: while threads work, keep an event pending or loop with EVLOOP_NO_EXIT_ON_EMPTY.
        """
        self.reactor.require_open()
        require_callable(fn, "what is posted")
        self.reactor.wakeup.post(fn, args)

    def update_cache_time(self) -> None:
        """Read the clock again, in the middle of a pass (event_base_update_cache_time)."""
        self.reactor.refresh_time()

    def gettime_monotonic(self) -> float:
        """Read the base's clock: monotonic seconds, never cached (event_gettime_monotonic)."""
        return self.reactor.monotonic()

    def gettimeofday_cached(self) -> float:
        """Return the wall clock's seconds since 1970: one value for all callbacks of a pass.

        Outside the loop and with EVENT_BASE_FLAG_NO_CACHE_TIME, the present time.  Inside, the
        loop's time and the distance between the two clocks, which is measured again after
        `CLOCK_SYNC_INTERVAL_S`: so late is a wall clock followed that is set meanwhile.
        Source: event_base_gettimeofday_cached.
        """
        cached = self.reactor.cached_time
        if cached is None:
            return time()
        if cached >= self._wall_measured + CLOCK_SYNC_INTERVAL_S:
            self._wall_offset = time() - self.reactor.monotonic()
            self._wall_measured = cached
        return cached + self._wall_offset

    @property
    def method(self) -> str:
        """The backend's name (event_base_get_method)."""
        return self.reactor.backend.name

    @property
    def signal_method(self) -> str:
        """How signals reach the loop: always "signal" (event_base_get_signal_method)."""
        return "signal"

    @property
    def features(self) -> Feature:
        """What the backend can do (event_base_get_features)."""
        return self.reactor.backend.features

    @property
    def running_event(self) -> Event | None:
        """The event whose callback is running; for the loop's thread, None for any other.

        Source: event_base_get_running_event.
        """
        running = self.reactor.registry.running if self.reactor.in_loop_thread() else None
        return running  # type: ignore[return-value]  # every record is an Event

    @property
    def npriorities(self) -> int:
        """How many priorities there are; 1 in a new base (event_base_get_npriorities)."""
        return self.reactor.active.npriorities

    def priority_init(self, npriorities: int) -> None:
        """Have `npriorities` priorities, 0 the most urgent; new events get the middle one.

        Raises ArgumentError outside 1..255, StateError while events are active.
        Source: event_base_priority_init.
        """
        reactor = self.reactor
        with reactor.registry.guard:
            reactor.registry.queue_batch()
            reactor.active.resize(npriorities)
        reactor.wakeup.set_post_priority(npriorities // 2)

    def close(self) -> None:
        """Delete every event and give the kernel's objects back.  Safe to repeat.

        Finalizers that wait run, and those that they queue; no other callback does.  Descriptors
        of the program stay open.  Raises StateError from inside the loop or a finalizer, while
        another loop runs it, and with signal events from another thread than the main; with no
        `exception_handler`, in the end what a finalizer raised.  Source: event_base_free.
        """
        reactor = self.reactor
        if reactor.closed:
            return
        reactor.require_closable()
        reactor.looping = True
        try:
            run_finalizers(reactor.registry, reactor.exception_handler)
        finally:
            reactor.looping = False
            reactor.close()

    def close_nofinalize(self) -> None:
        """Do as `close` does, but run no finalizer (event_base_free_nofinalize)."""
        if not self.reactor.closed:
            self.reactor.close()

    def reinit(self) -> None:
        """Go on with this base in a forked child (event_reinit).

        The backend and the wake-up sockets are made anew, and every inserted event is registered
        again, signals too.  Timers and active events are as they were, so what was active or
        posted at the fork runs in both.

        A child that does not go on touches nothing of its parent's: deleting events and closing
        the base only closes the child's copies, and signals do what they did before the base had
        them.  `loop`, and adding an event with a descriptor or a signal, raise StateError there; a
        loop in whose callback the child was forked ends by StateError after that callback, or in
        peace after `loopbreak` or `loopexit`.

        Raises SocketError, with the rest done, when a descriptor is refused: its events keep their
        timeouts alone.  Raises StateError when the base is closed, and with signal events in
        another thread than the child's main.
        """
        self.reactor.reinit()

    def num_events(self, kinds: int) -> int:
        """Return the sum of the counters that `kinds` asks for (event_base_get_num_events).

        EVENT_BASE_COUNT_ADDED counts an event once for each place that it is in: its descriptor
        or signal, its timeout, the active queue.  ACTIVE counts active events, VIRTUAL what keeps
        the loop alive and is no event: posted calls, and output that waits to be sent.  Raises
        ArgumentError for an unknown kind.
        """
        return inspection.count(self.reactor, kinds)

    def max_events(self, kinds: int, clear: bool = False) -> int:
        """Return the sum of the highest values so far; with `clear` they begin again from 0.

        VIRTUAL has no history and gives its present value.  Source: event_base_get_max_events.
        """
        return inspection.most(self.reactor, kinds, clear)

    def foreach_event(self, cb: Callable[[Any, Event, Any], object], arg: object = None) -> object:
        """Call `cb(base, event, arg)` for each pending or active event, once.

        By descriptor, then signals, timers, and what is only active.  A true result of `cb` ends
        it and is returned, else None.  Source: event_base_foreach_event.
        """
        require_callable(cb)
        for event in inspection.all_events(self.reactor):
            if verdict := cb(self, event, arg):  # type: ignore[arg-type]  # every record is one
                return verdict
        return None

    def dump_events(self, output: TextIO) -> None:
        """Write the inserted and the active events, a line each (event_base_dump_events)."""
        inspection.dump(self.reactor, output)

    def active_by_fd(self, fd: int, what: int) -> None:
        """Activate the pending events of `fd` that wait for any of `what`.

        With EV_TIMEOUT among them, only those with a timeout.  From inside a callback, for the
        next pass.  Nothing happens for a descriptor that no event has.
        Source: event_base_active_by_fd.
        """
        flags = flag_bits(what, "event flags", _EVENT_FLAGS)
        inspection.activate_by_fd(self.reactor, fd_of(fd), flags)

    def active_by_signal(self, signum: int) -> None:
        """Activate the pending events of a signal, once each (event_base_active_by_signal)."""
        number = whole_number(signum, "a signal's number")
        inspection.activate_by_signal(self.reactor, number)

    def _on_loopexit(self, fd: int, what: int, arg: object) -> None:
        self.reactor.end()


def _check_clock(clock: Clock) -> None:
    """Raise ArgumentTypeError for what is no Clock."""
    if not hasattr(clock, "jumps"):
        raise ArgumentTypeError(f"a clock is wanted, not {clock!r}")
    for name in ("monotonic", "advance"):
        require_callable(getattr(clock, name, None), f"the clock's `{name}`")
