"""EventBase: the loop.

One pass, in libevent's order: wait for descriptors until the nearest timeout, activate what is
ready, activate expired timers, run the callbacks of the most urgent priority that has any, and
send what those callbacks wrote.  Then the next pass.

Invariants
    * User code runs only from the thread that is in `loop`, one callback at a time.
    * A callback that raises leaves the base whole: the rest stays active and runs in the next
      `loop`.
    * `_cached_time` is set from the end of the wait to the end of the pass, and only then; with
      EVENT_BASE_FLAG_NO_CACHE_TIME never.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from .active import NOTHING_RUNS
from .backends import interests_of
from .clock import Clock, MonotonicClock
from .config import EventConfig
from .errors import ArgumentError, StateError
from .event import ET, IO, PERSIST, SIGNAL, TIMEOUT, Event, fd_of
from .flags import EVENT_FLAGS, BaseFlag, Feature
from .flushlist import FlushList
from .registry import Registry
from .wakeup import Wakeup

if TYPE_CHECKING:
    from collections import deque
    from types import TracebackType

    from .event import EventCallback, HasFileno

# The longest single wait: some kernels overflow on more (epoll counts milliseconds in an int).
MAX_WAIT_S = 35 * 60.0

_ONCE, _NONBLOCK, _NO_EXIT_ON_EMPTY = 0x01, 0x02, 0x04

ExceptionHandler = Callable[[Exception], object]


class EventBase:
    """The loop that waits for events and calls their callbacks, in one thread.

    config: which backend to take (default: the platform's best); clock: the monotonic clock.
    Raises NoBackendError when no backend satisfies the configuration.  Source: event_base_new.

    exception_handler: called as `handler(exc)` with what a callback raised; the loop goes on.
    With None the exception leaves `loop`, as KeyboardInterrupt and SystemExit always do.
    """

    __slots__ = (
        "_active",
        "_backend",
        "_break",
        "_cached_time",
        "_caches_time",
        "_clock",
        "_closed",
        "_exit",
        "_flush_list",
        "_looping",
        "_monotonic",
        "_registry",
        "_running",
        "_supported",
        "_timers",
        "_wakeup",
        "exception_handler",
    )

    def __init__(self, config: EventConfig | None = None, *, clock: Clock | None = None) -> None:
        config = config or EventConfig()
        self._backend = config.choose_backend()
        self._supported = interests_of(self._backend.features)
        self._caches_time = not config.flags & BaseFlag.EVENT_BASE_FLAG_NO_CACHE_TIME
        self._clock: Clock = clock or MonotonicClock()
        self._monotonic = self._clock.monotonic
        self._cached_time: float | None = None
        self._registry = Registry(self._backend)
        self._timers = self._registry.timers
        self._active = self._registry.active
        self._flush_list = FlushList()
        self._looping = self._exit = self._break = self._closed = False
        self._running: Event | None = None
        self.exception_handler: ExceptionHandler | None = None
        try:
            self._wakeup = Wakeup(self)
            self._registry.signals = self._wakeup.signals
        except BaseException:
            self._backend.dealloc()
            raise

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
        self._require_open()
        if self._looping:
            raise StateError("the loop of this base is running already")
        self._looping = True
        self._wakeup.thread_id = threading.get_ident()
        self._wakeup.signals.take_over()
        self._exit = self._break = False
        try:
            return self._run_passes(int(flags))
        finally:
            self._looping = False
            self._wakeup.thread_id = 0
            self._cached_time = None
            self._running = None
            self._active.running_priority = NOTHING_RUNS

    def loopexit(self, timeout: float | None = None) -> None:
        """Stop after the callbacks that are active now, or after `timeout` seconds.

        Works before the loop starts, too.  Source: event_base_loopexit.
        """
        self.once(-1, TIMEOUT, self._on_loopexit, None, timeout)

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
        """Make a persistent signal event; start it with `add()` (evsignal_new)."""
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
            self._active.activate(event, TIMEOUT)
        else:
            event.add(timeout)

    def post(self, fn: Callable[..., object], *args: object) -> None:
        """Run `fn(*args)` from the loop, after what is active now.  Thread-safe.

        Calls run in the order in which they were posted, at the middle priority; one that posts
        again lets ready descriptors and due timers come first.
        """
        self._require_open()
        self._wakeup.post(fn, args)

    @property
    def now(self) -> float:
        """The loop's time in monotonic seconds: one value for all callbacks of a pass.

        Outside the loop, the present time.
        """
        cached = self._cached_time
        return self._monotonic() if cached is None else cached

    def update_cache_time(self) -> None:
        """Read the clock again, in the middle of a pass (event_base_update_cache_time)."""
        if self._cached_time is not None:
            self._cached_time = self._monotonic()

    @property
    def method(self) -> str:
        """The backend's name (event_base_get_method)."""
        return self._backend.name

    @property
    def features(self) -> Feature:
        """What the backend can do (event_base_get_features)."""
        return self._backend.features

    @property
    def running_event(self) -> Event | None:
        """The event whose callback is running (event_base_get_running_event)."""
        return self._running

    @property
    def npriorities(self) -> int:
        """How many priorities there are; 1 in a new base (event_base_get_npriorities)."""
        return self._active.npriorities

    def priority_init(self, npriorities: int) -> None:
        """Have `npriorities` priorities, 0 the most urgent; new events get the middle one.

        Raises ArgumentError outside 1..255, StateError while events are active.
        Source: event_base_priority_init.
        """
        self._active.resize(npriorities)
        self._wakeup.set_post_priority(npriorities // 2)

    def close(self) -> None:
        """Delete every event and give the kernel's objects back.  Safe to repeat.

        No callback runs; descriptors of the program stay open.  Raises StateError from inside the
        loop, and with signal events from another thread than the main.  Source: event_base_free.
        """
        if self._closed:
            return
        if self._looping:
            raise StateError("a base cannot be closed while its loop is running")
        self._registry.clear()
        self._wakeup.close()
        self._closed = True
        self._flush_list.waiting.clear()
        self._backend.dealloc()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run_passes(self, flags: int) -> int:
        once = flags & _ONCE
        nonblock = flags & _NONBLOCK
        stay = flags & _NO_EXIT_ON_EMPTY
        active = self._active
        flush_list = self._flush_list
        ran = flush_list.run(self) if flush_list.waiting else 0
        while True:
            active.preempted = False
            if self._exit or self._break:
                return 0
            if not stay and not self._has_events():
                return 1
            if active.later:
                active.promote_later()
            hurry = nonblock or active.count or flush_list.waiting or (once and ran)
            timeout = 0.0 if hurry else self._time_to_wait()
            self._cached_time = None
            ready = self._backend.dispatch(0 if self._clock.jumps else timeout)
            if self._clock.jumps and not ready:
                ready = self._jump(timeout)
            now = self._monotonic()
            if self._caches_time:
                self._cached_time = now
            self._registry.pass_number += 1
            if ready and self._is_simple(now):
                ran += self._run_ready(ready)
            else:
                if ready:
                    self._activate_ready(ready)
                self._activate_expired(now)
                if nonblock and not (active.count or flush_list.waiting):
                    return 0
            if active.count and not (self._break or active.preempted):
                ran += self._run_active()
            if flush_list.waiting and not self._break:
                ran += flush_list.run(self)
            if once and ran and not active.count:
                return 0
            ran = 0

    def _has_events(self) -> bool:
        return bool(self._registry or self._flush_list.waiting or self._wakeup.posted)

    def _time_to_wait(self) -> float | None:
        deadline = self._timers.next_deadline()
        if deadline is None:
            return None
        return min(max(deadline - self._monotonic(), 0.0), MAX_WAIT_S)

    def _jump(self, timeout: float | None) -> list[tuple[int, int]]:
        """Let a fake clock pass `timeout`; with no timer to wait for, wait for real I/O."""
        if timeout is None:
            return self._backend.dispatch(None)
        self._clock.advance(timeout)
        return []

    def _is_simple(self, now: float) -> bool:
        """Whether the order of the callbacks is the order in which descriptors were found ready:
        one priority, nothing active already, no timer due."""
        if self._active.count or len(self._active.queues) > 1:
            return False
        deadline = self._timers.next_deadline()
        return deadline is None or deadline > now

    def _run_ready(self, ready: list[tuple[int, int]]) -> int:
        """Run the callbacks of what is ready as it was found; return how many ran.

        Queueing each event first would cost 0.4 of 0.7 us.  What does not go so, one of several
        events on a descriptor or one that is not persistent, is queued and runs after these; so
        is what is left when a callback raises or breaks the loop.
        """
        active = self._active
        by_fd = self._registry.evmap.by_fd
        number = self._registry.pass_number
        ran = 0
        turns = iter(ready)
        try:
            for fd, what in turns:
                interest = by_fd.get(fd)
                if interest is None:
                    continue
                event = interest.sole
                if event is None or event._active or event._interval is not None:
                    self._activate_ready([(fd, what)])
                    continue
                hit = event._interest & what
                if not hit or event._born == number:
                    continue
                self._running = event
                ran += 1
                try:
                    event._callback(fd, EVENT_FLAGS[hit], event._arg)
                except Exception as exc:
                    if self.exception_handler is None:
                        raise
                    self.exception_handler(exc)
                if self._break or active.preempted:
                    break
        finally:
            self._activate_ready(list(turns))
        self._running = None
        return ran

    def _activate_ready(self, ready: list[tuple[int, int]]) -> None:
        """Queue the events of what is ready, but for those that were added since it was found."""
        by_fd = self._registry.evmap.by_fd
        number = self._registry.pass_number
        for fd, what in ready:
            interest = by_fd.get(fd)
            if interest is None:
                continue
            for event in interest.events:
                hit = event._interest & what
                if hit and event._born != number:
                    self._active.activate(event, hit | event._interest & ET)

    def _activate_expired(self, now: float) -> None:
        while (event := self._timers.pop_due(now)) is not None:
            self._active.activate(event, TIMEOUT)

    def _run_active(self) -> int:
        """Run the most urgent priority that has a user's callback; return how many ran."""
        active = self._active
        for priority, queue in enumerate(active.queues):
            if queue:
                active.running_priority = priority
                ran = self._run_queue(queue)
                if ran or self._break or active.preempted:
                    active.running_priority = NOTHING_RUNS
                    return ran
        active.running_priority = NOTHING_RUNS
        return 0

    def _run_queue(self, queue: deque[Event]) -> int:
        active = self._active
        ran = 0
        while queue:
            event = queue.popleft()
            if event._stale:
                event._stale -= 1
                continue
            active.count -= 1
            event._active = False
            what = event._result
            if event._persist:
                if event._interval is not None:
                    self._timers.restart(event, self.now, on_beat=bool(what & TIMEOUT))
            elif event._inserted or event._timer_key:
                self._registry.unlist(event)
            self._running = event
            if not event._internal:
                ran += 1
            try:
                if event._events & SIGNAL and what != TIMEOUT:
                    self._wakeup.signals.call(self, event, what)
                else:
                    event._callback(event._fd, EVENT_FLAGS[what], event._arg)
            except Exception as exc:
                if self.exception_handler is None:
                    raise
                self.exception_handler(exc)
            if self._break or active.preempted:
                break
        self._running = None
        return ran

    def _require_open(self) -> None:
        if self._closed:
            raise StateError("the event base is closed")

    def _on_loopexit(self, fd: int, what: int, arg: object) -> None:
        self._exit = True
