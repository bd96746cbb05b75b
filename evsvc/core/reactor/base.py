"""EventBase: the loop as a program sees it; `passes` is how it runs, `inspection` looks into it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import inf
from time import time
from typing import TYPE_CHECKING, Self

from ..closing import Closing
from ..descriptors import fd_of
from ..errors import ArgumentError, StateError
from ..flags import (
    EVENT_FLAGS,
    IO,
    PERSIST,
    SIGNAL,
    TIMEOUT,
    Feature,
)
from .active import NOTHING_RUNS
from .config import EventConfig
from .event import Event
from .finalizers import Ending, queue_finalizer, run_finalizers
from .fork import PartedBackend, leave_at_fork, part_at_fork, refuse_in_child
from .inspection import Inspection
from .passes import NONBLOCK
from .wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..descriptors import HasFileno
    from .clock import Clock
    from .event import EventCallback, FinalizeCallback
    from .flushlist import Flushable
    from .registry import Registry
    from .timers import CommonTimeout
    from .watch import Watcher


# How old the distance between wall clock and monotonic clock may be; libevent's number.
CLOCK_SYNC_INTERVAL_S = 5.0


class EventBase(Inspection, Closing):
    """The loop that waits for events and calls their callbacks, in one thread.

    config: which backend to take (default: the platform's best); clock: the monotonic clock.
    Raises NoBackendError when no backend satisfies the configuration.  Other threads may `post`
    and `loopbreak`; for the rest see `thread.use_pthreads`.  Source: event_base_new.

    exception_handler: called as `handler(exc)` with what a callback raised; the loop goes on.
    With None the exception leaves `loop`, as KeyboardInterrupt and SystemExit always do.
    """

    __slots__ = ("__weakref__", "_closed", "_looping", "_wall_measured", "_wall_offset")

    def __init__(self, config: EventConfig | None = None, *, clock: Clock | None = None) -> None:
        super().__init__(config or EventConfig(), clock)
        self._looping = self._closed = False
        self._wall_offset = 0.0
        self._wall_measured = -inf
        try:
            self._wakeup = Wakeup(self)
        except BaseException:
            self._backend.dealloc()
            raise
        self._registry.connect(self._wakeup)
        try:
            self._wakeup.start()
        except BaseException:
            self.close_nofinalize()
            raise
        part_at_fork(self)

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
        flags = int(flags)
        registry = self._registry
        registry.take_back()
        try:
            self._require_open()
            if self._looping:
                raise StateError("the loop of this base is running already")
            if self.parted:
                refuse_in_child()
            self._looping = True
            try:
                self._wakeup.enter_loop(waits=not flags & NONBLOCK)
                self._exit = self._break = False
                return self._run_passes(flags)
            finally:
                self._stop_looping()
        finally:
            registry.give_up()

    def _stop_looping(self) -> None:
        self._looping = False
        self._wakeup.leave_loop()
        self._cached_time = None
        self._registry.running = None
        self._active.running_priority = NOTHING_RUNS

    def loopexit(self, timeout: float | None = None) -> None:
        """Stop after the callbacks that are active now, or after `timeout` seconds.

        Works before the loop starts, too.  Source: event_base_loopexit.
        """
        if self.parted:
            self._exit = True  # no more callbacks run here
            return
        self.once(-1, TIMEOUT, self._on_loopexit, None, timeout)
        self._wakeup.wake()

    def loopbreak(self) -> None:
        """Stop after the callback that is running; the rest stays active, and what was written
        stays unsent, until the next `loop`.  Thread-safe.

        Without effect when the loop is not running.  Source: event_base_loopbreak.
        """
        self._break = True
        self._wakeup.wake()

    def loopcontinue(self) -> None:
        """Leave the rest of this pass active and wait again (event_base_loopcontinue)."""
        self._active.preempted = True
        self._registry.wake()

    def got_exit(self) -> bool:
        """Whether `loopexit` ended the last run (event_base_got_exit)."""
        return self._exit

    def got_break(self) -> bool:
        """Whether `loopbreak` ended the last run (event_base_got_break)."""
        return self._break

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
        activated at once, in the order of the calls.  Raises ArgumentError for EV_SIGNAL,
        EV_PERSIST or no flag, and as `Event.add` does.  Source: event_base_once.
        """
        flags = int(events)
        if flags & (SIGNAL | PERSIST) or not flags & (TIMEOUT | IO):
            raise ArgumentError(f"once() cannot wait for {EVENT_FLAGS[flags & 0xFF]!r}")
        event = Event(self, fd_of(fd), flags, cb, arg)
        if not flags & IO and not timeout:
            self._registry.activate(event, TIMEOUT)
        else:
            event.add(timeout)

    def init_common_timeout(self, seconds: float) -> CommonTimeout:
        """Return a timeout to give to `Event.add` for many events: each then costs O(1).

        The same seconds give the same one, one of this base gives itself, and one of another base
        counts as its number.  Raises ArgumentError for a negative number, StateError for the
        257th of a base.  Source: event_base_init_common_timeout.
        """
        self._require_open()
        with self._registry.guard:
            return self._timers.init_common(seconds)

    def post(self, fn: Callable[..., object], *args: object) -> None:
        """Run `fn(*args)` from the loop, after what is active now.  Thread-safe.

        Calls run in the order in which they were posted, at the middle priority, and ready
        descriptors and due timers get their turn after every 32.  What is not posted yet keeps no
        loop alive: while threads work, keep an event pending or loop with EVLOOP_NO_EXIT_ON_EMPTY.
        """
        self._require_open()
        self._wakeup.post(fn, args)

    def update_cache_time(self) -> None:
        """Read the clock again, in the middle of a pass (event_base_update_cache_time)."""
        if self._cached_time is not None:
            self._cached_time = self._monotonic()

    def gettime_monotonic(self) -> float:
        """Read the base's clock: monotonic seconds, never cached (event_gettime_monotonic)."""
        return self._monotonic()

    def gettimeofday_cached(self) -> float:
        """Return the wall clock's seconds since 1970: one value for all callbacks of a pass.

        Outside the loop and with EVENT_BASE_FLAG_NO_CACHE_TIME, the present time.  Inside, the
        loop's time and the distance between the two clocks, which is measured again after
        `CLOCK_SYNC_INTERVAL_S`: so late is a wall clock followed that is set meanwhile.
        Source: event_base_gettimeofday_cached.
        """
        cached = self._cached_time
        if cached is None:
            return time()
        if cached >= self._wall_measured + CLOCK_SYNC_INTERVAL_S:
            self._wall_offset = time() - self._monotonic()
            self._wall_measured = cached
        return cached + self._wall_offset

    @property
    def method(self) -> str:
        """The backend's name (event_base_get_method)."""
        return self._backend.name

    @property
    def signal_method(self) -> str:
        """How signals reach the loop: always "signal" (event_base_get_signal_method)."""
        return "signal"

    @property
    def features(self) -> Feature:
        """What the backend can do (event_base_get_features)."""
        return self._backend.features

    @property
    def running_event(self) -> Event | None:
        """The event whose callback is running; for the loop's thread, None for any other.

        Source: event_base_get_running_event.
        """
        return self._registry.running if self._wakeup.is_loop_thread() else None

    @property
    def npriorities(self) -> int:
        """How many priorities there are; 1 in a new base (event_base_get_npriorities)."""
        return self._active.npriorities

    def priority_init(self, npriorities: int) -> None:
        """Have `npriorities` priorities, 0 the most urgent; new events get the middle one.

        Raises ArgumentError outside 1..255, StateError while events are active.
        Source: event_base_priority_init.
        """
        with self._registry.guard:
            self._active.resize(npriorities)
        self._wakeup.set_post_priority(npriorities // 2)

    def close(self) -> None:
        """Delete every event and give the kernel's objects back.  Safe to repeat.

        Finalizers that wait run, and those that they queue; no other callback does.  Descriptors
        of the program stay open.  Raises StateError from inside the loop or a finalizer, and with
        signal events from another thread than the main; with no `exception_handler`, in the end
        what a finalizer raised.  Source: event_base_free.
        """
        if self._closed:
            return
        self._require_closable()
        self._looping = True
        try:
            run_finalizers(self)
        finally:
            self._looping = False
            self.close_nofinalize()

    def close_nofinalize(self) -> None:
        """Do as `close` does, but run no finalizer (event_base_free_nofinalize)."""
        if self._closed:
            return
        self._require_closable()
        self._registry.clear()
        self._wakeup.close()
        self._closed = True
        leave_at_fork(self)
        self._flush_list.waiting.clear()
        for watcher in (*self._prepare_watchers, *self._check_watchers):
            watcher.close()
        self._backend.dealloc()

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
        self._require_open()
        self._part()
        self._backend = self._backend.renew()
        refusal = self._registry.reinit(self._backend)
        self._wakeup.reinit()
        if refusal is not None:
            raise refusal

    def part(self) -> None:
        """Let go of what the parent process has, in a child that was forked just now."""
        self._part()
        self._wakeup.signals.part()

    def _part(self) -> None:
        if self.parted:
            return
        if self._looping and not self._wakeup.is_loop_thread():
            self._stop_looping()  # the thread that was in the loop did not come along
        self._active.preempted = True  # what else is active in this pass is the parent's
        self._registry.renew_lock()
        self._backend = PartedBackend(self._backend)
        self._evmap.use(self._backend)
        self._wakeup.part()

    @property
    def parted(self) -> bool:
        """Whether this is a forked child's copy of its parent's base, before `reinit`."""
        return isinstance(self._backend, PartedBackend)

    @property
    def caught_signals(self) -> Collection[int]:
        """The numbers of the signals that there are pending events of."""
        return self._wakeup.signals.numbers

    # The door for the other rooms of core: `base.reactor`.

    @property
    def reactor(self) -> Self:
        """Be the door `reactor` of the reactor."""
        return self

    @property
    def closed(self) -> bool:
        """Be the door `closed` of the reactor."""
        return self._closed

    @property
    def registry(self) -> Registry:
        """Be the door `registry` of the reactor."""
        return self._registry

    @property
    def prepare_watchers(self) -> list[Watcher]:
        """Be the door `prepare_watchers` of the reactor."""
        return self._prepare_watchers

    @property
    def check_watchers(self) -> list[Watcher]:
        """Be the door `check_watchers` of the reactor."""
        return self._check_watchers

    def require_open(self) -> None:
        """Be the door `require_open` of the reactor."""
        self._require_open()

    def in_loop_thread(self) -> bool:
        """Be the door `in_loop_thread` of the reactor."""
        return self._wakeup.is_loop_thread()

    def runs_elsewhere(self) -> bool:
        """Be the door `runs_elsewhere` of the reactor."""
        return self._wakeup.thread_id not in (0, threading.get_ident())

    def ask_to_flush(self, owner: Flushable) -> None:
        """Be the door `ask_to_flush` of the reactor."""
        self._flush_list.waiting.append(owner)

    def defer(self, record: Event, *, to_next_pass: bool = False) -> None:
        """Be the door `defer` of the reactor."""
        self._flush_list.defer(self, record, to_next_pass=to_next_pass)

    def check_priority(self, priority: int) -> None:
        """Be the door `check_priority` of the reactor."""
        self._active.check_priority(priority)

    def _require_open(self) -> None:
        if self._closed:
            raise StateError("the event base is closed")

    def _require_closable(self) -> None:
        if self._looping and not self.parted:
            raise StateError("a base cannot be closed while its loop is running")
        self._wakeup.signals.require_closable()

    def _queue_finalizer(self, event: Event, callback: FinalizeCallback, closes: bool) -> None:
        queue_finalizer(Ending(self, event, callback, event.arg, closes))

    def _on_loopexit(self, fd: int, what: int, arg: object) -> None:
        self._exit = True
