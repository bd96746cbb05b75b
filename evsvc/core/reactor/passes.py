"""The pass: what the loop does again and again.

In libevent's order: wait for descriptors until the nearest timeout, activate what is ready,
activate expired timers, run the callbacks of the most urgent priority that has any, and send what
those callbacks wrote.  Then the next pass.

Invariants
    * User code runs only from the thread that is in `loop`, one callback at a time.
    * A callback that raises leaves the base whole: the rest stays active and runs in the next
      `loop`.
    * `_cached_time` is set from the end of the wait to the end of the pass, and only then; with
      EVENT_BASE_FLAG_NO_CACHE_TIME never.
    * With locking the loop holds the lock, but for waits and the program's callbacks.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from ..debug import note_new_base
from ..flags import (
    EVENT_FLAGS,
    IO,
    PERSIST,
    SIGNAL,
    TIMEOUT,
    BaseFlag,
)
from ..thread import new_base_lock
from .active import NOTHING_RUNS
from .clock import Clock, MonotonicClock
from .flushlist import FlushList
from .fork import PartedBackend
from .locked import LockedRegistry
from .registry import Registry
from .watch import CheckInfo, PrepareInfo

if TYPE_CHECKING:
    from collections import deque

    from .config import EventConfig
    from .event import Event
    from .evmap import EvMap
    from .wakeup import Wakeup
    from .watch import Watcher

# The longest single wait: some kernels overflow on more (epoll counts milliseconds in an int).
MAX_WAIT_S = 35 * 60.0

_ONCE, NONBLOCK, _NO_EXIT_ON_EMPTY = 0x01, 0x02, 0x04

ExceptionHandler = Callable[[Exception], object]


class Passes:
    """The machinery of an event base; `EventBase` is what a program sees of it."""

    __slots__ = (
        "_active",
        "_backend",
        "_break",
        "_cached_time",
        "_caches_time",
        "_check_watchers",
        "_clock",
        "_debug",
        "_evmap",
        "_exit",
        "_flush_list",
        "_limits",
        "_locked",
        "_monotonic",
        "_prepare_watchers",
        "_registry",
        "_timers",
        "_wakeup",
        "exception_handler",
    )

    _wakeup: Wakeup

    def __init__(self, config: EventConfig, clock: Clock | None) -> None:
        self._backend = config.choose_backend()
        self._caches_time = not config.flags & BaseFlag.EVENT_BASE_FLAG_NO_CACHE_TIME
        self._clock: Clock = clock or MonotonicClock()
        self._monotonic = self._clock.monotonic
        self._cached_time: float | None = None
        self._debug = note_new_base()
        lock = None if config.flags & BaseFlag.EVENT_BASE_FLAG_NOLOCK else new_base_lock()
        self._locked: LockedRegistry | None = None
        if lock is None:
            self._registry = Registry(self._backend, debug=self._debug)
        else:
            self._registry = self._locked = LockedRegistry(self._backend, lock, debug=self._debug)
        self._evmap: EvMap = self._registry.evmap
        self._timers = self._registry.timers
        self._active = self._registry.active
        self._flush_list = FlushList()
        self._limits = config.limits
        self._prepare_watchers: list[Watcher] = []
        self._check_watchers: list[Watcher] = []
        self._exit = self._break = False
        self.exception_handler: ExceptionHandler | None = None

    @property
    def now(self) -> float:
        """The loop's time in monotonic seconds: one value for all callbacks of a pass.

        Outside the loop, the present time.
        """
        cached = self._cached_time
        return self._monotonic() if cached is None else cached

    def _run_passes(self, flags: int) -> int:
        once = flags & _ONCE
        nonblock = flags & NONBLOCK
        stay = flags & _NO_EXIT_ON_EMPTY
        active = self._active
        locked = self._locked
        flush_list = self._flush_list
        ran = self._flush() if flush_list.waiting else 0
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
            if self._prepare_watchers:
                self._run_watchers(self._prepare_watchers, PrepareInfo(timeout))
            self._cached_time = None
            self._registry.prepare_wait()
            self._wakeup.waits = True
            if locked is None:
                ready = self._wait(timeout)
            else:
                locked.give_up()
                try:
                    ready = self._wait(timeout)
                finally:
                    locked.take_back()
            self._wakeup.waits = False
            now = self._monotonic()
            if self._caches_time:
                self._cached_time = now
            self._registry.pass_number += 1
            if self._check_watchers:
                # Queued first: what was found ready is not lost when a watcher raises.
                self._activate_ready(ready)
                ready = []
                self._run_watchers(self._check_watchers, CheckInfo())
            if ready and self._is_simple(now):
                ran += self._run_ready(ready)
            else:
                if ready:
                    self._activate_ready(ready)
                self._activate_expired(now)
                self._registry.note(active.count)
                if nonblock and not (active.count or flush_list.waiting):
                    return 0
            if active.count and not (self._break or active.preempted):
                ran += self._run_active()
            if flush_list.waiting and not self._break:
                ran += self._flush()
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

    def _wait(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait in the backend.

        Where nothing is ready, a fake clock jumps to the timeout; without one it waits for I/O.
        """
        if not self._clock.jumps:
            return self._backend.dispatch(timeout)
        ready = self._backend.dispatch(0)
        if ready:
            return ready
        if timeout is None:
            return self._backend.dispatch(None)
        self._clock.advance(timeout)
        return []

    def _is_simple(self, now: float) -> bool:
        """Whether the order of the callbacks is the order in which descriptors were found ready:
        one priority, nothing active already, no timer due."""
        active = self._active
        if active.count or len(active.queues) > 1 or self._limits is not None:
            return False
        if self._locked is not None:
            return False
        deadline = self._timers.next_deadline()
        return deadline is None or deadline > now

    def _run_ready(self, ready: list[tuple[int, int]]) -> bool:
        """Run the callbacks of what is ready as it was found; return whether any ran.

        Queueing each event first would cost 0.4 of 0.7 us.  What does not go so, one of several
        events on a descriptor or one that is not persistent, is queued and runs after these; so
        is what is left when a callback raises or breaks the loop.
        """
        registry = self._registry
        active = self._active
        sole = self._evmap.sole
        registry.note(len(ready))
        turns = iter(ready)
        try:
            for fd, mask in turns:
                event = sole.get(fd)
                if event is None or event.is_active:
                    self._activate_ready([(fd, mask)])
                    continue
                told = event.told[mask]
                if told is None:
                    continue
                registry.running = event
                try:
                    event.call(fd, told, event.arg)
                except Exception as exc:
                    if self.exception_handler is None:
                        raise
                    self.exception_handler(exc)
                if self._break or active.preempted:
                    break
        finally:
            self._activate_ready(list(turns))
        ran = registry.running is not None
        registry.running = None
        return ran

    def _activate_ready(self, ready: list[tuple[int, int]]) -> None:
        """Queue the events of what is ready, but for those that were added since it was found."""
        by_fd = self._evmap.by_fd
        number = self._registry.pass_number
        for fd, mask in ready:
            interest = by_fd.get(fd)
            if interest is None:
                continue
            for event in interest.events:
                told = event.told[mask]
                if told is not None and event.born != number:
                    self._active.activate(event, told._value_)

    def _activate_expired(self, now: float) -> None:
        while (event := self._timers.pop_due(now)) is not None:
            flags = event.flags
            if flags & IO and event.inserted and not (flags & PERSIST or event.is_active):
                # As in libevent: what becomes ready before the callback runs is not merged in.
                self._registry.unlist(event)
            self._active.activate(event, TIMEOUT)

    def _run_watchers(self, watchers: list[Watcher], info: PrepareInfo | CheckInfo) -> None:
        self._registry.give_up()
        try:
            for watcher in tuple(watchers):
                try:
                    watcher.run(info)
                except Exception as exc:
                    if self.exception_handler is None:
                        raise
                    self.exception_handler(exc)
        finally:
            self._registry.take_back()

    def _flush(self) -> int:
        """Let everyone send who has something to send; return how many did."""
        if isinstance(self._backend, PartedBackend):
            return 0  # the output is the parent's, who sends it
        self._registry.give_up()
        try:
            return self._flush_list.run(self)
        finally:
            self._registry.take_back()

    def _run_active(self) -> int:
        """Run the most urgent priority that has a user's callback; return how many ran."""
        active = self._active
        limits = self._limits
        most: float = inf
        until: float = inf
        for priority, queue in enumerate(active.queues):
            if queue:
                active.running_priority = priority
                if limits is not None and priority >= limits.min_priority:
                    most = inf if limits.max_callbacks is None else limits.max_callbacks
                    if limits.max_interval is not None:
                        until = self._monotonic() + limits.max_interval
                ran = self._run_queue(queue, most, until)
                if ran or self._break or active.preempted:
                    break
        else:
            ran = 0
        active.running_priority = NOTHING_RUNS
        return ran

    def _run_queue(self, queue: deque[Event], most: float, until: float) -> int:
        active = self._active
        registry = self._registry
        locked = self._locked
        ran = 0
        while queue:
            event = queue.popleft()
            if event.stale:
                event.stale -= 1
                active.stale -= 1
                continue
            active.count -= 1
            event.is_active = False
            what = event.result
            if event.flags & PERSIST:
                if event.interval is not None:
                    self._timers.restart(event, self.now, on_beat=bool(what & TIMEOUT))
            elif event.inserted or event.timer_key:
                registry.unlist(event)
            registry.running = event
            if not event.internal:
                ran += 1
                if locked is not None:
                    locked.give_up()
            try:
                if event.flags & SIGNAL and what != TIMEOUT:
                    self._wakeup.signals.call(self, event, what)
                else:
                    event.call(event.number, EVENT_FLAGS[what], event.arg)
            except Exception as exc:
                if self.exception_handler is None:
                    raise
                self.exception_handler(exc)
            finally:
                if locked is not None and not event.internal:
                    locked.take_back()
            if self._break or active.preempted or ran >= most:
                break
            if until != inf and self._monotonic() >= until:
                break
        registry.running = None
        return ran
