"""The reactor: how a pass of the loop runs.

A pass, in libevent's order
    1. What waited for this pass is queued: activations by hand, calls that were posted, deferred
       callbacks beyond the first 32.  If the loop was told to end, or nothing can happen any more,
       it ends here.
    2. The prepare watchers are told how long the wait will be.  What they change counts: the end
       of the loop, a nearer timer, an activation.
    3. The wait, until a descriptor is ready or the nearest timer is due; not at all while anything
       is active or waits to be sent.  Then the loop's time is read, once for the whole pass.
    4. The check watchers.
    5. Queued are the events of what was found ready, in the order of the backend, newest first
       where several share a descriptor; then those of due timers, in the order of their deadlines.
    6. The callbacks of one priority run, the most urgent that has any of the program's.  The others
       wait for a pass of their own, after another look at descriptors and timers.
    7. The flush list: whoever has put something into an output buffer sends once, with one system
       call for all that the callbacks of the pass have left there.  EV_WRITE is armed only for what
       the kernel did not take.

What is seen when
    * What the program activates, or posts, or asks for with `once`, during a pass runs in the next
      one, so that nothing which asks for its own next turn keeps timers and sockets from theirs.
      Two things join the pass under way, as in libevent, and bounded: deferred callbacks, so that
      what they write is sent in it, and `loopexit`, which ends the loop after them.
    * Something more urgent that becomes active ends the pass after the callback that is running;
      so does `loopcontinue`.  What is left keeps its place.
    * An event that a callback deletes does not run any more in the pass.  One that it adds is not
      told what was found before.
    * With one priority, and no timer due, the callbacks are called straight from what the wait
      found, without a queue, which would cost 0.4 of 0.7 us.  Nobody can tell: what would see that
      the rest is not queued queues it first (`Registry.batch`).

When a callback raises
    * An Exception goes to the exception handler, and the pass goes on.  Without one it leaves the
      loop; the rest of the pass stays active, and runs when the loop is entered again.
    * Anything else (KeyboardInterrupt, SystemExit) leaves the loop at once.  As it may have come
      from a signal handler, between any two steps of ours, all that is kept twice is compared then
      (`Registry.repair`): the loop can be entered again.  One callback that was about to run may
      be lost.

Who may do what
    * Callbacks run only in the thread that is in `loop`, one at a time.  Other threads may `post`
      and `loopbreak`.  With locking they may do the rest, too: the loop holds the lock but for the
      wait and for the program's callbacks, see `locked`.
    * A forked child that goes on with the loop calls `reinit` first; what is active or posted at
      the fork then runs in both.

Invariants
    * `cached_time` is set from the end of the wait to the end of the pass, and only then; with
      EVENT_BASE_FLAG_NO_CACHE_TIME never.  Time-outs count from the present time all the same.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..debug import note_new_base
from ..errors import StateError
from ..flags import EVENT_FLAGS, PERSIST, SIGNAL, TIMEOUT, BaseFlag
from ..thread import new_base_lock
from .active import NOTHING_RUNS
from .clock import Clock, MonotonicClock
from .fork import PartedBackend, leave_at_fork, part_at_fork, refuse_in_child
from .locked import LockedRegistry
from .registry import Registry

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..backends import Backend
    from .config import EventConfig
    from .record import EventRecord
    from .wakeup import Wakeup

# The longest single wait: some kernels overflow on more (epoll counts milliseconds in an int).
MAX_WAIT_S = 35 * 60.0

MAX_DEFERRED_PER_PASS = 32
"""How many deferred callbacks join the pass under way, as in libevent; more wait for the next."""

# As many callbacks as there are; small enough for the interpreter to compare fast.
ANY_NUMBER = 1 << 29

ONCE, NONBLOCK, NO_EXIT_ON_EMPTY = 0x01, 0x02, 0x04
SINGLE_PASS = 0x08  # with ONCE: the first pass is the last, whether or not anything ran

ExceptionHandler = Callable[[Exception], object]


class Flushable(Protocol):
    """Something with output to send."""

    def flush_output(self) -> None: ...


class PrepareInfo(NamedTuple):
    """What a prepare watcher is told: the seconds of the wait to come, None for no limit.

    Source: evwatch_prepare_get_timeout.
    """

    timeout: float | None


class CheckInfo(NamedTuple):
    """What a check watcher is told: so far nothing, as in libevent."""


class CallInfo(NamedTuple):
    """What a call watcher is told: an event, its callback that has run, and how long that took.

    event: an `Event`, which its callback may have closed or assigned anew.
    """

    event: EventRecord
    callback: Callable[[int, Any, Any], object]
    seconds: float


WatchInfo = PrepareInfo | CheckInfo | CallInfo


class Watching(Protocol):
    """A watcher, as the loop knows it."""

    def run(self, info: WatchInfo) -> None: ...

    def close(self) -> None: ...


class Reactor:
    """The machinery of one event base, and the door of the base for the other rooms of core.

    For them: `now`, `monotonic`, `closed`, `require_open`, `registry`, `post`, `in_loop_thread`,
    `runs_elsewhere`, `ask_to_flush`, `defer`, `check_priority`, and the lists of watchers.
    For a loop around this one: `lend`, `end_lending`, `next_wait_s`, `backend.fileno`.

    monotonic: reads the clock, in seconds.
    ask_to_flush: has an owner of output send what it has at the end of the pass.
    cached_time: the loop's time, or None outside of a pass.
    lent: an outer loop runs the passes, one by one.
    parted: this is a forked child's copy of its parent's, before `reinit`.
    exited, broken: whether `loopexit` or `loopbreak` has ended the loop, or is about to.
    """

    __slots__ = (
        "__weakref__",
        "_caches_time",
        "_clock",
        "_deferred_count",
        "_deferred_pass",
        "_limits",
        "_locked",
        "_waiting",
        "active",
        "ask_to_flush",
        "backend",
        "broken",
        "cached_time",
        "call_watchers",
        "check_watchers",
        "closed",
        "debug",
        "exception_handler",
        "exited",
        "lent",
        "looping",
        "monotonic",
        "parted",
        "prepare_watchers",
        "registry",
        "timers",
        "wakeup",
    )

    wakeup: Wakeup

    def __init__(self, config: EventConfig, clock: Clock | None) -> None:
        self.backend: Backend = config.choose_backend()
        self._caches_time = not config.flags & BaseFlag.EVENT_BASE_FLAG_NO_CACHE_TIME
        self._clock: Clock = clock or MonotonicClock()
        self.monotonic = self._clock.monotonic
        self.cached_time: float | None = None
        self.debug = note_new_base()
        lock = None if config.flags & BaseFlag.EVENT_BASE_FLAG_NOLOCK else new_base_lock()
        self._locked: LockedRegistry | None = None
        if lock is None:
            self.registry = Registry(self.backend, debug=self.debug)
        else:
            self.registry = self._locked = LockedRegistry(self.backend, lock, debug=self.debug)
        self.timers = self.registry.timers
        self.active = self.registry.active
        self._waiting: deque[Flushable] = deque()  # owners of output, in the order they came
        self.ask_to_flush = self._waiting.append
        self._deferred_pass = self._deferred_count = 0
        self._limits = config.limits
        self.prepare_watchers: list[Watching] = []
        self.check_watchers: list[Watching] = []
        self.call_watchers: list[Watching] = []
        self.looping = self.lent = self.closed = self.parted = False
        self.exited = self.broken = False
        self.exception_handler: ExceptionHandler | None = None

    def connect(self, wakeup: Wakeup) -> None:
        """Get the wake-up, before anything else, and watch for it.

        Raises SocketError when the backend cannot.
        """
        self.wakeup = wakeup
        self.registry.connect(wakeup)
        wakeup.start()
        part_at_fork(self)

    @property
    def now(self) -> float:
        """The loop's time in monotonic seconds: one value for all callbacks of a pass.

        Outside the loop, the present time.
        """
        cached = self.cached_time
        return self.monotonic() if cached is None else cached

    def refresh_time(self) -> None:
        """Read the clock again, in the middle of a pass."""
        if self.cached_time is not None:
            self.cached_time = self.monotonic()

    def require_open(self) -> None:
        """Raise StateError when the base is closed."""
        if self.closed:
            raise StateError("the event base is closed")

    def require_closable(self) -> None:
        """Raise StateError while the loop is running, or a finalizer at the end, and where this
        thread may not delete the signal events."""
        if (self.looping or self.lent) and not self.parted:
            raise StateError("a base cannot be closed while its loop is running")
        self.wakeup.signals.require_closable()

    def in_loop_thread(self) -> bool:
        """Return True when this thread runs the loop."""
        return self.wakeup.is_loop_thread()

    def runs_elsewhere(self) -> bool:
        """Return True when another thread runs the loop."""
        return self.wakeup.thread_id not in (0, threading.get_ident())

    def post(self, fn: Callable[..., object], *args: object) -> None:
        """Run `fn(*args)` from the loop; see `EventBase.post`."""
        self.wakeup.post(fn, args)

    def check_priority(self, priority: int) -> None:
        """Raise ArgumentError when there is no such priority."""
        self.active.check_priority(priority)

    def defer(self, event: EventRecord, *, to_next_pass: bool = False) -> None:
        """Activate the event of deferred callbacks, in this pass while it has room.

        Does nothing when it is active already.  Source: event_deferred_cb_schedule_.
        """
        if event.is_active:
            return
        number = self.registry.pass_number
        if number != self._deferred_pass:
            self._deferred_pass = number
            self._deferred_count = 0
        if to_next_pass or self._deferred_count >= MAX_DEFERRED_PER_PASS:
            self.registry.activate_later(event, 0)
        else:
            self._deferred_count += 1
            self.registry.activate(event, 0)

    def virtual_count(self) -> int:
        """Return how many things that are no events keep the loop alive."""
        return len(self.wakeup.posted) + len(self._waiting)

    def end(self) -> None:
        """End the loop when the callbacks that run now are done."""
        self.exited = True

    def break_off(self) -> None:
        """End the loop after the callback that is running."""
        self.broken = True
        self.wakeup.wake()

    def leave_pass(self) -> None:
        """End the pass after the callback that is running."""
        self.active.preempted = True
        self.registry.wake()

    def loop(self, flags: int, longest_wait_s: float | None = None) -> int:
        """Run passes; see `EventBase.loop`."""
        registry = self.registry
        lock = None if self._locked is None else self._locked.lock
        entered = interrupted = False
        try:
            if lock is not None:
                lock.acquire()
            self.require_open()
            if self.looping or (self.lent and not flags & SINGLE_PASS):
                raise StateError("the loop of this base is running already")
            if self.parted:
                refuse_in_child()
            self.looping = entered = True
            self.exited = self.broken = False
            self.wakeup.enter_loop(waits=not flags & NONBLOCK)
            return self._run_passes(flags, longest_wait_s)
        except Exception:
            raise
        except BaseException:
            interrupted = entered
            raise
        finally:
            # Up to the release there is no point at which the interpreter looks for signals: one
            # that comes now finds the loop ended, and the lock free.
            if entered:
                self.looping = False
                self.cached_time = None
                self.wakeup.thread_id = 0
                self.wakeup.waits = False
                self.active.running_priority = NOTHING_RUNS
                last, self.active.popped = self.active.popped, None
            if lock is not None:
                try:  # noqa: SIM105  # `suppress` would be such a call
                    lock.release()
                except RuntimeError:  # an interrupt came while it was given up
                    pass
            if entered:
                self.wakeup.leave_loop()
                registry.end_loop()
            if interrupted and not self.parted:
                registry.repair(last, self.monotonic())
                self.wakeup.repair()

    def _has_events(self) -> bool:
        registry = self.registry
        return bool(
            registry.inserted_count
            or self.active.count
            or self.timers.live
            or self._waiting
            or self.wakeup.posted
        )

    def run_pass(self, longest_wait_s: float | None) -> None:
        """Run one pass; see `EventBase.run_pass`."""
        flags = ONCE | SINGLE_PASS | NO_EXIT_ON_EMPTY
        self.loop(flags if longest_wait_s != 0 else flags | NONBLOCK, longest_wait_s)

    def lend(self, on_work: Callable[[], object] | None) -> None:
        """Let an outer loop run the passes, one by one: `loop` refuses until `end_lending`.

        on_work: called, from any thread, when the base is asked for what no descriptor tells:
        output to send, an active event, a timer.  Posted calls and signals are told by a
        descriptor.  None where the outer loop waits in the passes, and so need not be told.
        Raises StateError when the loop runs, or is lent already, and when the base is closed.
        """
        self.require_open()
        if self.looping or self.lent:
            raise StateError("the loop of this base is running already")
        self.lent = True
        self.wakeup.lend_loop(waits_elsewhere=on_work is not None)
        if on_work is None:
            return
        self.registry.on_work = on_work
        ask = self._waiting.append

        def ask_to_flush(owner: Flushable) -> None:
            ask(owner)
            on_work()

        self.ask_to_flush = ask_to_flush

    def end_lending(self) -> None:
        """Let `loop` run again.  Safe to repeat."""
        if self.lent:
            self.lent = False
            self.registry.on_work = None
            self.ask_to_flush = self._waiting.append
            self.wakeup.end_lending()

    def next_wait_s(self) -> float | None:
        """Return for how long nothing but a descriptor has work for a pass; None is for ever."""
        if self.active.count or self._waiting:
            return 0.0
        deadline = self.timers.next_deadline()
        return None if deadline is None else max(deadline - self.monotonic(), 0.0)

    def _run_passes(self, flags: int, longest_wait_s: float | None) -> int:
        once = flags & ONCE
        single = flags & SINGLE_PASS
        nonblock = flags & NONBLOCK
        stay = flags & NO_EXIT_ON_EMPTY
        active = self.active
        registry = self.registry
        wakeup = self.wakeup
        locked = self._locked
        waiting = self._waiting
        slow = locked is not None or self._limits is not None
        total = self._flush() if waiting else 0  # what has run for EVLOOP_ONCE
        while True:
            active.preempted = False
            # A Python signal handler that posts or ends the loop from here on is seen below, or
            # wakes the wait.
            wakeup.waits = True
            if self.exited or self.broken:
                return 0
            if not stay and not self._has_events():
                return 1
            hurry = nonblock or (once and total)
            timeout = self._begin_pass(hurry, longest_wait_s)
            if self.prepare_watchers:
                wakeup.waits = False
                self._run_watchers(self.prepare_watchers, PrepareInfo(timeout))
                wakeup.waits = True
                if self.broken:
                    return 0
                if not stay and not self._has_events():
                    return 1
                timeout = self._begin_pass(hurry, longest_wait_s)
            self.cached_time = None
            registry.prepare_wait()
            if locked is None:
                ready = self._wait(timeout)
            else:
                try:
                    locked.give_up()
                    ready = self._wait(timeout)
                finally:
                    locked.take_back()
            wakeup.waits = False
            now = self.monotonic()
            if self._caches_time:
                self.cached_time = now
            registry.pass_number += 1
            if self.check_watchers:
                # Queued first: what was found ready is not lost when a watcher raises.
                registry.activate_ready(ready)
                ready = []
                self._run_watchers(self.check_watchers, CheckInfo())
            ran = 0
            if ready and not slow and self._is_simple(now):
                ran = self._run_ready(ready)
            else:
                if ready:
                    registry.activate_ready(ready)
                registry.activate_expired(now)
                registry.note(active.count)
            if active.count and not (self.broken or active.preempted):
                ran += self._run_active()
            elif nonblock and not (ran or active.count or waiting):
                return 0
            if waiting and not self.broken:
                ran += self._flush()
            total += ran
            if once and (single or (total and active.count == len(active.later))):
                return 0

    def _begin_pass(self, hurry: int, longest_wait_s: float | None) -> float | None:
        """Queue what waited for this pass, and return how long the wait may be."""
        active = self.active
        if active.later:
            active.promote_later()
        if hurry or active.count or self._waiting:
            return 0.0
        deadline = self.timers.next_deadline()
        if deadline is None:
            return longest_wait_s
        longest = MAX_WAIT_S if longest_wait_s is None else longest_wait_s
        return min(max(deadline - self.monotonic(), 0.0), longest)

    def _wait(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait in the backend.

        Where nothing is ready, a fake clock jumps to the timeout; without one it waits for I/O.
        """
        if not self._clock.jumps:
            return self.backend.dispatch(timeout)
        ready = self.backend.dispatch(0)
        if ready:
            return ready
        if timeout is None:
            return self.backend.dispatch(None)
        self._clock.advance(timeout)
        return []

    def _is_simple(self, now: float) -> bool:
        """Return True when the order of the callbacks is that in which descriptors were found
        ready, one priority, nothing active already, no timer due; and nobody watches them."""
        active = self.active
        if active.count or len(active.queues) > 1 or self.call_watchers:
            return False
        deadline = self.timers.next_deadline()
        return deadline is None or deadline > now

    def _run_ready(self, ready: list[tuple[int, int]]) -> int:
        """Run the callbacks of what is ready as it was found; return how many ran.

        From the first on that does not go so (one of several events on a descriptor, one that is
        not persistent), or that a callback could miss in the queues, the rest is queued; so is
        what is left when a callback raises or ends the pass.
        """
        registry = self.registry
        active = self.active
        sole = registry.evmap.sole
        registry.note(len(ready))
        ran = 0
        registry.batch = batch = iter(ready)
        active.running_priority = 0
        try:
            for fd, mask in batch:
                event = sole.get(fd)
                if event is None:
                    registry.batch = chain(((fd, mask),), batch)
                    break
                told = event.told[mask]
                if told is None:
                    registry.drop_stray(fd)
                    continue
                registry.running = event
                ran += 1
                try:
                    event.call(fd, told, event.arg)
                except Exception as exc:
                    if self.exception_handler is None:
                        raise
                    self.exception_handler(exc)
                if self.broken or active.preempted:
                    break
        finally:
            registry.running = None
            active.running_priority = NOTHING_RUNS
            registry.queue_batch()
        return ran

    def _run_watchers(self, watchers: list[Watching], info: WatchInfo) -> None:
        registry = self.registry
        try:
            registry.give_up()
            for watcher in tuple(watchers):
                try:
                    watcher.run(info)
                except Exception as exc:
                    if self.exception_handler is None:
                        raise
                    self.exception_handler(exc)
        finally:
            registry.take_back()

    def _flush(self) -> int:
        """Let every owner of output send once, and return how many did.

        Owners that come back meanwhile wait for the next time.  Those that were not reached,
        because a callback raised or broke the loop, stay on the list.
        """
        if self.parted:
            return 0  # the output is the parent's, who sends it
        waiting = self._waiting
        ran = 0
        try:
            self.registry.give_up()
            for _ in range(len(waiting)):
                owner = waiting.popleft()
                ran += 1
                try:
                    owner.flush_output()
                except Exception as exc:
                    if self.exception_handler is None:
                        raise
                    self.exception_handler(exc)
                if self.broken:
                    break
        finally:
            self.registry.take_back()
        return ran

    def _run_active(self) -> int:
        """Run the most urgent priority that has a user's callback; return how many ran."""
        active = self.active
        limits = self._limits
        most = ANY_NUMBER
        until: float | None = None
        for priority, queue in enumerate(active.queues):
            if queue:
                active.running_priority = priority
                if limits is not None and priority >= limits.min_priority:
                    most = ANY_NUMBER if limits.max_callbacks is None else limits.max_callbacks
                    if limits.max_interval is not None:
                        until = self.monotonic() + limits.max_interval
                ran = self._run_queue(queue, most, until)
                if ran or self.broken or active.preempted:
                    break
        else:
            ran = 0
        active.running_priority = NOTHING_RUNS
        return ran

    def _run_queue(self, queue: deque[EventRecord], most: int, until: float | None) -> int:
        active = self.active
        registry = self.registry
        locked = self._locked
        watchers = self.call_watchers
        ran = 0
        while (event := active.pop(queue)) is not None:
            what = event.result
            given_up = False
            call = event.call
            started = self.monotonic() if watchers and not event.internal else None
            try:
                if event.flags & PERSIST:
                    interval = event.interval
                    if interval is not None:
                        on_beat = bool(what & TIMEOUT)
                        now = self.now if on_beat else self.monotonic()
                        self.timers.restart(event, interval, now, on_beat=on_beat)
                elif event.inserted or event.timer_key:
                    registry.unlist(event)
                registry.running = event
                if not event.internal:
                    ran += 1
                    if locked is not None:
                        given_up = True
                        locked.give_up()
                if event.flags & SIGNAL and what != TIMEOUT:
                    self.wakeup.signals.call(self, event, what)
                else:
                    call(event.number, EVENT_FLAGS[what], event.arg)
            except Exception as exc:
                if self.exception_handler is None:
                    raise
                self.exception_handler(exc)
            finally:
                if given_up:
                    registry.take_back()
            if started is not None:
                self._run_watchers(watchers, CallInfo(event, call, self.monotonic() - started))
            if self.broken or active.preempted or ran >= most:
                break
            if until is not None and self.monotonic() >= until:
                break
        registry.running = active.popped = None
        return ran

    def close(self) -> None:
        """Delete every event and give the kernel's objects back; no finalizer runs."""
        self.require_closable()
        self.closed = True  # nothing may be added for what is let go of now
        try:
            self.registry.clear()
        except BaseException:  # signals are the main thread's
            self.closed = False
            raise
        self.wakeup.close()
        leave_at_fork(self)
        self._waiting.clear()
        for watcher in (*self.prepare_watchers, *self.check_watchers, *self.call_watchers):
            watcher.close()
        self.exception_handler = None
        self.backend.dealloc()

    @property
    def caught_signals(self) -> Collection[int]:
        """The numbers of the signals that there are pending events of."""
        return self.wakeup.signals.numbers

    def part(self) -> None:
        """Let go of what the parent process has, in a child that was forked just now."""
        self._part()
        self.wakeup.signals.part()

    def _part(self) -> None:
        if self.parted:
            return
        if self.looping and not self.in_loop_thread():
            # The thread that was in the loop did not come along.
            self.looping = False
            self.cached_time = None
            self.wakeup.leave_loop()
            self.active.running_priority = NOTHING_RUNS
            self.registry.running = None
        self.active.preempted = True  # what else is active in this pass is the parent's
        self.registry.renew_lock()
        self.parted = True
        self.backend = PartedBackend(self.backend)
        self.registry.evmap.use(self.backend)
        self.wakeup.part()

    def reinit(self) -> None:
        """Go on in a forked child; see `EventBase.reinit`."""
        self.require_open()
        self._part()
        assert isinstance(self.backend, PartedBackend)
        self.backend = self.backend.parents
        self.registry.evmap.use(self.backend)
        self.parted = False
        refusal = self.registry.reinit()
        self.wakeup.reinit()
        if refusal is not None:
            raise refusal
