"""The contract of all bufferevents: what is common to every kind, and what a kind must add.

A bufferevent is two buffers, callbacks, and something below that moves bytes between the buffers
and the world: a socket, a partner, another bufferevent.  All but that something is here, and in
its parts: flow.py (whether bytes may move), deferral.py (what waits to be told), timeouts.py and
rate_limit.py.

What a kind implements
    `_update_reading()`   Start or stop moving bytes into `input`, as `flow.wanted & READ` says.
                          Called when reading was enabled, disabled, suspended or resumed; that is,
                          also when the program has drained the input below its high watermark.
    `_update_writing()`   The same for `flow.wanted & WRITE`, and called whenever output was added.
    `_on_close()`         Give up what lies below.  Called once, when the last reference has gone.
and where the default does not fit
    `_asked_to_write()`   The program has enabled EV_WRITE by name (nothing).
    `_waits_to_write()`   Whether the write time-out has something to run for (output is there).
    `_read_expired()`, `_write_expired()`   What a time-out does (disable the direction, tell).  One
                          that does not disable calls `_update_timers()` to start it again.
    `_flush(events, mode)`   Push bytes through; whether any moved (False).
    `unsent()`            Whether output waits to be sent, here or below (output is there).
    `_io_events()`        Its own events, for `priority` (StateError: it has none).
    `_move_to(base)`      Go over to another base (StateError).
    `says_goodbye`, `has_unread()`, `watch_end(endcb)`   of the end of either direction (False, the
                          input's, nothing).
    `fd`, `setfd`, `replacefd`, `underlying`   -1, StateError and None unless it has one.

What a kind calls
    `input.take_from(source, size)`   to put bytes of a buffer into `input`, frozen ends or not;
    `_bytes_came()`       after it has put bytes into `input`;
    `_bytes_left()`       after bytes have left `output`;
    `_ended(what)`        at an end of file: disables reading, tells BEV_EVENT_EOF | what;
    `_failed(READ, exc)`  on an error, or WRITE: sets `error`, disables the direction, tells it;
    `_run_eventcb(what)`  for any other event;
    `_update_timers()`    when what `_waits_to_write()` says may have changed;
    `flow.suspend_reading(reason)`, `flow.resume_reading(reason)`   with a SUSPENDED_ bit of its
                          own, and the same for writing;
    `_room_to_read()`     for how much `input` takes below its high watermark;
    `_max_to_read()`, `_max_to_write()`   for how much one system call may move now; then, if there
                          is a `_limiter`, `note_read(size)` or `note_written(size)` of it.  Only
                          kinds that do system calls do so: pairs and filters move freely;
    `_new_event(...)`     for each event of its own: it has the priority, and holds the lock;
    `_run_in_loop(function)`   for what it does inside calls of the program, where these may come
                          from another thread: with BEV_OPT_THREADSAFE only the loop moves bytes.

Rules
    * Bytes move in a direction only while it is enabled and nothing suspends it: `flow.wanted` is
      both in one.  It is 0 once nothing is left of the bufferevent.
    * What tells, may run a callback of the program, which may close the bufferevent, add output,
      set other callbacks: tell last, or look at `_references` (0: nothing is left) and
      `flow.wanted` again.  After `close` telling does nothing.
    * `_update_reading` and `_update_writing` run inside calls of the program, as do buffer
      callbacks inside `take_from`.  Tell with `defer=True` from there, or guard against re-entry:
      a callback that drains would else run inside itself.
    * Where a kind is always deferred it adds BEV_OPT_DEFER_CALLBACKS to the options.
    * A kind that stands on another bufferevent takes a reference (`incref`): a `close` from
      elsewhere then clears the callbacks of that one, and its bytes still move.
    * The input's end and the output's start are the kind's, and frozen for others.
    * Bad input never raises out of the loop: it is `_failed` or `_ended`.

Life
    The program that made it holds one reference until it calls `close`; `incref` takes more.  With
    the last one goes what lies below the buffers, at once.

The lock
    With BEV_OPT_THREADSAFE the lock is held by whoever changes bytes and marks, the loop or a call
    of the program, and no code of the program runs meanwhile: callbacks are always deferred, what
    is to be told is taken with the lock and told without it.  So two loops that relay to each
    other's bufferevents never wait for each other's callbacks; and `close` from another thread
    does not wait for a callback that is running.  The base's lock is only ever taken after it.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable
from sys import maxsize
from typing import TYPE_CHECKING, Any

from ..buffer import EvBuffer
from ..buffer.transfer import MOST_MAX_READ_BYTES
from ..checks import check_timeout, flag_bits, require_callable, whole_number
from ..closing import Closing
from ..errors import ArgumentError, ArgumentTypeError, StateError
from ..flags import (
    BEV_EVENTS,
    BOTH,
    DEFER_CALLBACKS,
    EOF,
    ERROR,
    FINALIZE,
    READ,
    READING,
    THREADSAFE,
    TIMED_OUT,
    UNLOCK_CALLBACKS,
    WRITE,
    WRITING,
    BevEvent,
    EventFlag,
    FlushMode,
    TriggerOption,
)
from ..reactor.base import EventBase
from ..reactor.event import Event
from ..thread import CallbackLock, call_unlocked, holding_lock
from .deferral import Deferral
from .finishing import Finish
from .flow import (
    MAX_SINGLE_READ_BYTES,
    MAX_SINGLE_WRITE_BYTES,
    SUSPENDED_WATERMARK,
    Flow,
)
from .rate_buckets import EV_RATE_LIMIT_MAX, TokenBucketCfg
from .rate_group import RateLimitGroup
from .rate_limit import RateLimit, Side
from .timeouts import Timeouts

if TYPE_CHECKING:
    import socket

    from ..descriptors import HasFileno
    from ..reactor.event import EventCallback as EventFunction
    from ..thread import Lock

DataCallback = Callable[[Any, Any], object]
"""Called as `cb(bev, ctx)`."""
EventCallback = Callable[[Any, BevEvent, Any], object]
"""Called as `cb(bev, what, ctx)`."""
StreamCallback = Callable[[Any, bytes, Any], object]
"""Called as `cb(bev, data, ctx)`; `data` is not empty."""

_IGNORE_WATERMARKS = int(TriggerOption.BEV_TRIG_IGNORE_WATERMARKS)
_DEFER = int(TriggerOption.BEV_TRIG_DEFER_CALLBACKS)
_OPTIONS = 0x0F
_DEFERRING = DEFER_CALLBACKS | THREADSAFE
_ENDS = EOF | ERROR
_ERROR_IN = {
    READ: READING | ERROR,
    WRITE: WRITING | ERROR,
}


FINISH_TIMEOUT_S = 30.0
"""How long `finish` waits for the rest to be sent and for the peer to end, unless told."""

# Which ends of a bufferevent have come.
_INPUT_OVER = 0x01  # the end of what the peer sends, or the failure of reading, is told
_OUTPUT_TO_END = 0x02  # `shutdown_write` was called, and output is still to be sent
_OUTPUT_ENDED = 0x04  # the peer sees the end
_OUTPUT_DEAD = 0x08  # writing has failed, and what is written is dropped

_log = logging.getLogger("evsvc.core")


class AbstractBufferEvent(Closing):
    """What every bufferevent is to a program.

    A fresh one has EV_WRITE enabled and EV_READ not.  `ctx` goes to each callback.
    `error` is the OSError behind the last BEV_EVENT_ERROR, else None.
    """

    __slots__ = (
        "_base",
        "_bounded",
        "_ctx",
        "_datacb",
        "_deferral",
        "_ends",
        "_eventcb",
        "_limiter",
        "_lock",
        "_max_single_read",
        "_max_single_write",
        "_options",
        "_owned",
        "_priority",
        "_readcb",
        "_references",
        "_timeouts",
        "_writecb",
        "error",
        "flow",
        "input",
        "output",
    )

    def __init__(self, base: EventBase, options: int = 0, lock: Lock | None = None) -> None:
        """Be a bufferevent of `base`; with BEV_OPT_THREADSAFE under `lock`, or one of its own."""
        _require_base(base)
        options = options_of(options)
        base.reactor.require_open()
        self._base = base
        self._options = options
        self._priority = base.npriorities // 2
        self._owned = True
        self._references = 1
        self._readcb: DataCallback | None = None
        self._writecb: DataCallback | None = None
        self._eventcb: EventCallback | None = None
        self._datacb: StreamCallback | None = None
        self._ctx: Any = None
        self._ends = 0  # which ends have come, and how: _INPUT_OVER and the others
        self._bounded = False  # a high watermark of reading or a rate limit is set
        self._deferral: Deferral | None = None
        self._limiter: RateLimit | None = None
        self._timeouts: Timeouts | None = None
        self._max_single_read = MAX_SINGLE_READ_BYTES
        self._max_single_write = MAX_SINGLE_WRITE_BYTES
        self.error: OSError | None = None
        self.flow = Flow(self._flow_changed)
        self.input = incoming = EvBuffer()
        self.output = output = EvBuffer()
        incoming.frozen_end = True
        output.frozen_start = True
        output.on_add = self._update_writing
        self._lock: Lock | None = None
        if options & THREADSAFE:
            self._lock = lock or CallbackLock()
            incoming.enable_locking(self._lock)
            output.enable_locking(self._lock)

    @abstractmethod
    def _update_reading(self) -> None:
        """Start or stop reading, as `flow.wanted` says."""

    @abstractmethod
    def _update_writing(self) -> None:
        """Start or stop writing, as `flow.wanted` says, or see to the output that was added."""

    @abstractmethod
    def _on_close(self) -> None:
        """Give up what lies below the buffers."""

    # Life.

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._owned

    @property
    def mutex(self) -> Lock | None:
        """The lock of BEV_OPT_THREADSAFE, for what stands on this one to share."""
        return self._lock

    @holding_lock
    def close(self) -> None:
        """End it: no callback runs any more, unsent output is dropped; see `finish`.

        What the kernel has taken of the output is not destroyed: see lingering.py.  Where someone
        holds a reference (`incref`, `lock`), the bytes go on moving until that one is given back.
        Safe to repeat, and safe from inside any of its callbacks.  With BEV_OPT_THREADSAFE another
        thread's call does not wait for a callback that has begun.  Source: bufferevent_free.
        """
        if self._owned:
            self._owned = False
            self._forget_callbacks()
            self._give_back()

    @holding_lock
    def shutdown_write(self) -> None:
        """Let the peer see the end when all output is sent; nothing more can be written.

        What the peer sends still comes.  Like the output before it, the end waits while EV_WRITE
        is disabled, and for a connection that is not there yet.  Over a socket it is shutdown(); a
        pair tells its partner; a filter is flushed with BEV_FINISHED, and what is below it ends,
        too; TLS sends a close_notify.  Safe to repeat.  Raises StateError when closed.
        """
        self._require_open()
        if not self._ends & (_OUTPUT_TO_END | _OUTPUT_ENDED):
            self._ends |= _OUTPUT_TO_END
            self.output.freeze(at_front=False)
            self._end_output_if_due()

    def _end_output_if_due(self) -> None:
        """Let the peer see the end, if that is asked for and all output is sent."""
        is_due = self._ends & _OUTPUT_TO_END and self.flow.wanted & WRITE
        if is_due and not self.output.length:
            self._ends ^= _OUTPUT_TO_END | _OUTPUT_ENDED
            if not self._end_output():
                self._ends ^= _OUTPUT_TO_END | _OUTPUT_ENDED

    def _end_output(self) -> bool:
        """Let the peer see the end; return False when it is too early for it."""
        return True

    @property
    def _input_is_over(self) -> bool:
        """Whether nothing can come any more: the end is told, or reading has failed."""
        return bool(self._ends & _INPUT_OVER)

    def _begin_anew(self) -> None:
        """There is another connection: what had ended over the last one has not over this."""
        if self._ends & _OUTPUT_ENDED:
            self.output.unfreeze(at_front=False)
        if self._ends & _OUTPUT_DEAD:
            self._accept_output()
        self._ends &= _OUTPUT_TO_END

    @holding_lock
    def finish(self, timeout: float = FINISH_TIMEOUT_S) -> None:
        """Let it go: send the rest, end the output, and close when the peer has ended, too.

        Or when either direction fails, or `timeout` seconds from the call on are over; the loop
        has to run for it.  To the program it is closed at once: no callback comes any more, and
        what still arrives is thrown away; only filters of the program run, and `free_context` at
        the end.  Rate limits hold, time-outs of the program do not.  Where someone else holds a
        reference, that one is waited for as after `close`.  Does nothing after `close` or
        `finish`.  Raises ArgumentError for a negative timeout, ArgumentTypeError for no number.
        """
        check_timeout(timeout)
        if not self._owned:
            return
        self._owned = False
        self._forget_callbacks()
        if self._base.reactor.closed or self._ends & _OUTPUT_DEAD or not self._can_finish():
            self._give_back()
            return
        timeouts, self._timeouts = self._timeouts, None
        if timeouts is not None:
            timeouts.close()
        flow = self.flow
        flow.read_low = flow.read_high = flow.write_low = 0
        self._bounded = self._limiter is not None
        finish = Finish(
            self._base,
            timeout,
            bool(self._ends & _INPUT_OVER),
            self._has_sent_all,
            self._guarded(self._finished),
        )
        self._readcb, self._writecb, self._eventcb = finish.read, finish.wrote, finish.told
        self._ctx = finish
        try:
            self._check_high_watermark()
            self.input.drop(self.input.length)
            self.shutdown_write()
            self.enable(WRITE if finish.input_over else BOTH)
        except (OSError, StateError):  # such as a descriptor that is gone
            self._finished()
        else:
            finish.look()

    def _has_sent_all(self) -> bool:
        return bool(self._ends & _OUTPUT_ENDED) and not self.unsent()

    def _can_finish(self) -> bool:
        """Return True when there is, or is to be, a peer to send the rest to."""
        return True

    def _finished(self) -> None:
        """`finish` is over, in whichever way."""
        finish = self._ctx
        if isinstance(finish, Finish):
            self._ends |= _INPUT_OVER  # nothing more is waited for
            self._forget_callbacks()
            finish.close()
            self._give_back()

    @holding_lock
    def incref(self) -> None:
        """Take another reference: `close` does not end the transport before `decref`.

        Raises StateError when nothing is left of it.  Source: bufferevent_incref.
        """
        self._require_open()
        self._references += 1

    @holding_lock
    def decref(self) -> bool:
        """Give back a reference that `incref` took; return True when it was the last of all.

        Raises StateError when there is none to give back; the owner's goes with `close`.
        Source: bufferevent_decref.
        """
        if self._references <= self._owned:
            raise StateError("there is no reference to give back")
        return self._give_back()

    def lock(self) -> None:
        """Keep the loop and other threads out, and hold a reference, until `unlock`.

        Without BEV_OPT_THREADSAFE there is the reference only.  May be nested.  Raises StateError
        when nothing is left of it.  Source: bufferevent_lock.
        """
        if self._lock is not None:
            self._lock.acquire()
        try:
            self.incref()
        except StateError:
            if self._lock is not None:
                self._lock.release()
            raise

    def unlock(self) -> None:
        """Undo one `lock` (bufferevent_unlock).

        Raises StateError when it is not locked, or another thread has locked it.
        """
        lock = self._lock
        if lock is None:
            self.decref()
            return
        if not lock.acquire(blocking=False):
            raise StateError("another thread has locked the bufferevent")
        try:
            self.decref()
        finally:
            lock.release()
        lock.release()  # the one of `lock`

    def _give_back(self) -> bool:
        self._references -= 1
        if self._references:
            return False
        self._destroy()
        return True

    def _destroy(self) -> None:
        """Go through all the steps, whatever one of them raises."""
        self.flow.close()
        timeouts, self._timeouts = self._timeouts, None
        if timeouts is not None:
            timeouts.close()
        try:
            self._on_close()
        finally:
            try:
                if self._limiter is not None:
                    self._limiter.close()
                    self._set_limiter(None)
            finally:
                try:
                    self.input.close()
                finally:
                    self.output.close()

    def _require_open(self) -> None:
        if not self._references:
            raise StateError("the bufferevent is closed")

    # The lock, and the loop.

    def _guarded(self, function: Callable[..., object]) -> Callable[..., object]:
        """Return `function`, or with BEV_OPT_THREADSAFE one that holds the lock meanwhile.

        For what the loop calls: it may have to wait for the lock until another thread has closed
        the bufferevent, and does nothing then.
        """
        lock = self._lock
        if lock is None:
            return function

        def locked(*args: Any) -> object:
            with lock:
                return function(*args) if self._references else None

        return locked

    def _run_in_loop(self, function: Callable[[], object]) -> None:
        """Call `function`: at once, or with BEV_OPT_THREADSAFE by the loop's thread alone.

        With that option it is called without the lock, so it takes it itself where bytes and marks
        change.
        """
        if self._lock is None:
            function()
        elif self._base.reactor.in_loop_thread():
            call_unlocked(function)
        elif not self._base.reactor.closed:
            self._base.reactor.post(function)

    def _new_event(self, fd: int | HasFileno, events: int, callback: EventFunction) -> Event:
        """Return an event with our priority, whose callback runs with the lock held.

        With a lock, deleting it does not wait for a callback that waits for the lock.
        """
        if self._lock is not None:
            events |= FINALIZE
        event = Event(self._base, fd, events, self._guarded(callback))
        if event.rank != self._priority:
            event.priority = self._priority
        return event

    def _now(self) -> float:
        return self._base.reactor.now

    @property
    def base(self) -> EventBase:
        """The event base (bufferevent_get_base, bufferevent_base_set).

        Setting moves an idle bufferevent over a descriptor; see there for what it raises.  Raises
        StateError in a rate limit group, ArgumentTypeError for what is no base.
        """
        return self._base

    @base.setter
    def base(self, base: EventBase) -> None:
        self._require_open()
        _require_base(base)
        if self.rate_limit_group is not None:
            raise StateError("a bufferevent in a rate limit group cannot move to another base")
        self._move_to(base)

    def _move_to(self, base: EventBase) -> None:
        raise StateError(f"{type(self).__name__} cannot move to another base")

    @property
    def priority(self) -> int:
        """The priority of all its callbacks (bufferevent_get_priority, bufferevent_priority_set).

        The middle one of the base's as of creation.  Setting raises StateError while one of them
        is due and for a kind without a descriptor, ArgumentError out of range.
        """
        return self._priority

    @priority.setter
    def priority(self, priority: int) -> None:
        self._require_open()
        self._base.reactor.check_priority(priority)
        events = self._events()
        if any(event.is_active for event in events):
            raise StateError("the priority cannot change while a callback is due")
        self._prioritize_below(priority)
        for event in events:
            event.priority = priority
        self._priority = priority

    def _prioritize_below(self, priority: int) -> None:
        """Have the same priority in what is ours below; raises as setting it there does."""

    def _events(self) -> list[Event]:
        """Return all events that the bufferevent has now."""
        events = self._io_events()
        if self._timeouts is not None:
            events += self._timeouts.events()
        if self._deferral is not None:
            events.append(self._deferral.record)
        if self._limiter is not None and self._limiter.refill is not None:
            events.append(self._limiter.refill)
        return events

    def _io_events(self) -> list[Event]:
        """Return the events of the kind itself, in a list of its own."""
        raise StateError(f"{type(self).__name__} has no events of its own to give a priority")

    # What the program is told.

    @holding_lock
    def setcb(
        self,
        readcb: DataCallback | None,
        writecb: DataCallback | None,
        eventcb: EventCallback | None,
        ctx: object = None,
    ) -> None:
        """Set the callbacks; what happens without one is not told later (bufferevent_setcb).

        Raises ArgumentTypeError for what is no callback and not None, StateError when closed.
        """
        for callback in (readcb, writecb, eventcb):
            if callback is not None:
                require_callable(callback)
        if not self._owned:
            raise StateError("the bufferevent is closed")
        self._readcb, self._writecb, self._eventcb, self._ctx = readcb, writecb, eventcb, ctx

    def set_datacb(self, datacb: StreamCallback | None) -> None:
        """Give what comes to `datacb(bev, data, ctx)`, past the input where that can be.

        For a protocol that keeps its own state: over a socket it saves a way into a buffer and out
        again, 0.7 of 12 us a request in the HTTP server.  The read callback and the watermarks of
        reading are not in use then; `disable(EV_READ)` holds the peer back.  None ends it.  Raises
        ArgumentTypeError for what cannot be called, StateError when closed.
        """
        self._require_open()
        if datacb is not None:
            require_callable(datacb)
        self._datacb = datacb

    def getcb(self) -> tuple[DataCallback | None, DataCallback | None, EventCallback | None, Any]:
        """Return the callbacks and their argument (bufferevent_getcb)."""
        return self._readcb, self._writecb, self._eventcb, self._ctx

    @holding_lock
    def trigger(self, events: int, options: int = 0) -> None:
        """Run the read or write callback as if bytes had moved (bufferevent_trigger).

        The low watermarks hold unless BEV_TRIG_IGNORE_WATERMARKS; BEV_TRIG_DEFER_CALLBACKS
        defers.  Other bits of `options` mean nothing.  Raises StateError when closed.
        """
        self._require_open()
        events, options = int(events), int(options)
        ignore = options & _IGNORE_WATERMARKS
        defer = bool(options & _DEFER)
        if events & READ and (ignore or self.input.length >= self.flow.read_low):
            self._run_readcb(defer)
        if events & WRITE and (ignore or self.output.length <= self.flow.write_low):
            self._run_writecb(defer)

    @holding_lock
    def trigger_event(self, what: int, options: int = 0) -> None:
        """Give the event callback any flags (bufferevent_trigger_event).

        At once, or deferred with BEV_TRIG_DEFER_CALLBACKS.  Raises StateError when closed.
        """
        self._require_open()
        self._run_eventcb(int(what), bool(int(options) & _DEFER))

    def _run_readcb(self, defer: bool = False) -> None:
        if self._readcb is None and self._datacb is None:
            return
        if self._options & _DEFERRING or defer:
            self._defer(READ, 0)
        else:
            self._call_readcb()

    def _run_writecb(self, defer: bool = False) -> None:
        if self._writecb is None:
            return
        if self._options & _DEFERRING or defer:
            self._defer(WRITE, 0)
        else:
            self._writecb(self, self._ctx)

    def _run_eventcb(self, what: int, defer: bool = False) -> None:
        if self._eventcb is None:
            return
        deferral = self._deferral
        # What happened before, and waits to be told, comes first.
        if self._options & _DEFERRING or defer or (deferral is not None and deferral.waits):
            self._defer(0, what)
        else:
            self._eventcb(self, _told(what), self._ctx)

    def _call_readcb(self) -> None:
        datacb = self._datacb
        if datacb is not None:
            data = self.read()
            if data:
                datacb(self, data, self._ctx)
            return
        if self._readcb is None:
            return
        try:
            self._readcb(self, self._ctx)
        except BaseException:
            # Where the input is full nothing else would bring the callback again.
            if self.flow.read_suspended & SUSPENDED_WATERMARK:
                self._guarded(self._call_again)()
            raise

    def _call_again(self) -> None:
        """Call a program that has left something in a full input; once a pass, for the others."""
        if self.flow.enabled & READ and self._readcb is not None:
            self._defer(READ, 0, to_next_pass=True)

    def _call_writecb(self) -> None:
        if self._writecb is not None:
            self._writecb(self, self._ctx)

    def _call_eventcb(self, what: int) -> None:
        if self._eventcb is not None:
            self._eventcb(self, _told(what), self._ctx)

    def _defer(self, data: int, what: int, *, to_next_pass: bool = False) -> None:
        if self._base.reactor.closed:
            return  # nobody tells any more
        deferral = self._deferral
        if deferral is None:
            deferral = self._deferral = Deferral(
                self._base,
                self._priority,
                self._lock,
                self._call_readcb,
                self._call_writecb,
                self._call_eventcb,
            )
        deferral.add(data, what, to_next_pass=to_next_pass)

    def _forget_callbacks(self) -> None:
        self._readcb = self._writecb = self._eventcb = self._datacb = None
        self._ctx = None
        deferral, self._deferral = self._deferral, None
        if deferral is not None:
            deferral.close()

    def _ended(self, what: int, defer: bool = False) -> None:
        """The other side has ended: stop reading, and tell."""
        self._ends |= _INPUT_OVER
        self._stop(READ)
        self._run_eventcb(EOF | what, defer)

    def _failed(self, direction: int, error: OSError, defer: bool = False) -> None:
        """Reading or writing has failed: stop it, and tell."""
        self.error = error.with_traceback(None)  # it would hold this frame, and us with it
        self._stop(direction)
        if direction == WRITE:
            self._refuse_output()
        else:
            self._ends |= _INPUT_OVER
        self._run_eventcb(_ERROR_IN[direction], defer)

    def _note_ends(self, what: int) -> None:
        """Note what else is told of an end: of reading, or for good of writing."""
        if what & READING and what & _ENDS:
            self._ends |= _INPUT_OVER
        if what & WRITING and what & ERROR:
            self._refuse_output()

    def _refuse_output(self) -> None:
        """Writing has failed: what is written from here on is dropped, until it is enabled."""
        if not self._ends & _OUTPUT_DEAD and self._references:
            self._ends |= _OUTPUT_DEAD
            self.output.on_add = self._drop_output

    def _accept_output(self) -> None:
        self._ends &= ~_OUTPUT_DEAD
        self.output.on_add = self._update_writing

    def _drop_output(self) -> None:
        """Drop what nobody can be sent, with what was there before it; say so once."""
        output = self.output
        if output.length:
            output.on_add = self._drop_more_output
            _log.warning(
                "%s: writing has failed (%s): %d bytes of output are dropped, and all after them",
                type(self).__name__,
                self.error,
                output.length,
            )
            output.drop(output.length)

    def _drop_more_output(self) -> None:
        self.output.drop(self.output.length)

    # Whether bytes move.

    @property
    def enabled(self) -> EventFlag:
        """EV_READ and EV_WRITE as enabled (bufferevent_get_enabled)."""
        return EventFlag(self.flow.enabled)

    @holding_lock
    def enable(self, events: int) -> None:
        """Enable EV_READ, EV_WRITE or both (bufferevent_enable).

        What is suspended starts when it is resumed.  Over a descriptor, enabling EV_WRITE gets one
        write callback even with an empty output.  Raises StateError when closed, ArgumentError for
        other flags, SocketError when the kernel refuses to watch the descriptor; what is enabled
        is then as before.
        """
        self._require_open()
        events = directions_of(events)
        before = self.flow.enabled
        self.flow.set_enabled(before | events)
        try:
            if events & WRITE:
                if self._ends & _OUTPUT_DEAD:
                    self._accept_output()
                self._asked_to_write()
            self._update(events)
        except BaseException:
            self._stop(events & ~before)
            raise

    @holding_lock
    def disable(self, events: int) -> None:
        """Disable EV_READ, EV_WRITE or both; buffered bytes stay (bufferevent_disable).

        Raises StateError when closed, ArgumentError for other flags.
        """
        self._require_open()
        self._stop(directions_of(events))

    def _stop(self, directions: int) -> None:
        self.flow.set_enabled(self.flow.enabled & ~directions)
        self._update(directions)

    def _update(self, directions: int) -> None:
        """Have the kind, and the time-outs, follow what `flow` says now."""
        if directions & READ:
            self._update_reading()
        if directions & WRITE:
            self._update_writing()
            if self._ends & _OUTPUT_TO_END:
                self._end_output_if_due()
        if self._timeouts is not None:
            self._update_timers()

    def _flow_changed(self, direction: int) -> None:
        """A direction was suspended or resumed: what the kernel refuses then is an event."""
        if self._base.reactor.closed:
            return
        try:
            self._update(direction)
        except OSError as exc:
            self._failed(direction, exc, defer=True)

    def _asked_to_write(self) -> None:
        """EV_WRITE is enabled by name; `_update_writing` follows."""

    @holding_lock
    def setwatermark(self, events: int, low: int, high: int) -> None:
        """Set when callbacks run and reading pauses, in bytes (bufferevent_setwatermark).

        Reading: the read callback runs from `low` bytes in the input on; at `high` (0: no limit)
        reading pauses until the program takes some.  Writing: the write callback runs when the
        output is down to `low`; what `high` bounds is up to the kind, for sockets nothing.  No
        callback runs for the setting.  While the input is full, the read callback comes again only
        when the program has taken something.  Raises ArgumentError when one is negative, `low` is
        above a `high` that is not 0, or `events` is neither, StateError when closed.
        """
        self._require_open()
        if whole_number(low, "a watermark") < 0 or whole_number(high, "a watermark") < 0:
            raise ArgumentError(f"a watermark is 0 or more: {low!r}, {high!r}")
        if high and low > high:
            raise ArgumentError(f"the low watermark is above the high one: {low!r}, {high!r}")
        if not directions_of(events):
            raise ArgumentError(f"EV_READ, EV_WRITE or both are wanted: {events!r}")
        flow = self.flow
        if events & WRITE:
            flow.write_low, flow.write_high = low, high
        if events & READ:
            flow.read_low, flow.read_high = low, high
            self._bounded = bool(high) or self._limiter is not None
            self._check_high_watermark()

    def getwatermark(self, events: int) -> tuple[int, int]:
        """Return (low, high) of one direction (bufferevent_getwatermark).

        Raises ArgumentError for both or none.
        """
        if events == READ:
            return self.flow.read_low, self.flow.read_high
        if events == WRITE:
            return self.flow.write_low, self.flow.write_high
        raise ArgumentError(f"EV_READ or EV_WRITE is wanted: {events!r}")

    def _check_high_watermark(self) -> None:
        flow = self.flow
        if flow.read_high and self.input.length >= flow.read_high:
            self.input.on_drain = self._input_taken
            if not flow.read_suspended & SUSPENDED_WATERMARK:
                flow.suspend_reading(SUSPENDED_WATERMARK)
        elif flow.read_suspended & SUSPENDED_WATERMARK:
            self.input.on_drain = None
            flow.resume_reading(SUSPENDED_WATERMARK)

    def _input_taken(self) -> None:
        """The program has taken something of a full input."""
        if self.input.length >= self.flow.read_high:
            self._call_again()
        else:
            self._check_high_watermark()

    def _room_to_read(self) -> int:
        """How many bytes the input takes before it is at its high watermark."""
        high = self.flow.read_high
        return max(high - self.input.length, 0) if high else maxsize

    def _bytes_came(self, defer: bool = False) -> None:
        """The input has grown: a sign of life, and something to tell."""
        if self._timeouts is not None:
            self._timeouts.note_read()
        if self._datacb is None:
            self._tell_input(defer)
        else:
            self._run_readcb(defer)

    def _tell_input(self, defer: bool = False) -> None:
        """Pause at the high watermark, and tell the program from the low one on."""
        flow = self.flow
        if flow.read_high:
            self._check_high_watermark()
        if self.input.length < flow.read_low or self._readcb is None:
            return
        if defer or self._options & _DEFERRING or flow.read_high:
            self._run_readcb(defer)
        else:
            self._readcb(self, self._ctx)

    def _bytes_left(self, defer: bool = False) -> None:
        """The output has shrunk: a sign of life, and to be told from the low watermark down."""
        if self._timeouts is not None:
            self._timeouts.note_written()
            self._update_timers()
        if self._ends & _OUTPUT_TO_END:
            self._end_output_if_due()
        if self.output.length <= self.flow.write_low:
            self._run_writecb(defer)

    # Time-outs.

    @holding_lock
    def set_timeouts(self, read_s: float | None, write_s: float | None) -> None:
        """Limit the silence in each direction; None or 0 is no limit (bufferevent_set_timeouts).

        Reading counts while it is enabled and not paused, writing while something waits to be
        sent; from when that began, from the last bytes that moved, or from this call, whichever
        came last, by the clock at that moment.  When the time is over the direction is disabled,
        and the event callback gets BEV_EVENT_TIMEOUT with BEV_EVENT_READING or BEV_EVENT_WRITING.
        Raises ArgumentError when negative, StateError when closed.
        """
        self._require_open()
        for limit in (read_s, write_s):
            if limit is not None:
                check_timeout(limit)
        old, self._timeouts = self._timeouts, None
        if old is not None:
            old.close()
        if read_s or write_s:
            self._timeouts = Timeouts(
                self._new_event,
                self._base.reactor.monotonic,
                read_s,
                write_s,
                self._read_expired,
                self._write_expired,
            )
            self._update_timers()

    def _update_timers(self) -> None:
        """Start or stop the time-outs; one that runs runs on."""
        timeouts = self._timeouts
        if timeouts is not None:
            wanted = self.flow.wanted
            timeouts.update(wanted & READ, wanted & WRITE and self._waits_to_write())

    def _waits_to_write(self) -> bool:
        return self.output.length > 0

    def _read_expired(self) -> None:
        self._stop(READ)
        self._run_eventcb(TIMED_OUT | READING)

    def _write_expired(self) -> None:
        self._stop(WRITE)
        self._run_eventcb(TIMED_OUT | WRITING)

    # The bytes, and what is below them.

    @property
    def fd(self) -> int:
        """The descriptor, or -1 when there is none (bufferevent_getfd)."""
        return -1

    @property
    def says_goodbye(self) -> bool:
        """Whether the end of the output is said in bytes, as by a close_notify of TLS.

        `shutdown_write` and `finish` say it then, `close` does not.
        """
        return False

    def has_unread(self) -> bool:
        """Return True when bytes of the peer have come and are not read: in the input, or below."""
        return self.input.length > 0

    def watch_end(self, endcb: Callable[[], object] | None) -> None:
        """Call `endcb()` once when the peer has ended its side, though nothing is read.

        For who holds a peer back, and is not to learn only with its next read that there is none.
        From the loop; not at all where the kind or the backend cannot see it (only epoll and
        kqueue can for a socket).  None takes it back.  Raises StateError when closed.
        """
        self._require_open()

    @property
    def underlying(self) -> AbstractBufferEvent | None:
        """The bufferevent below this one; None where there is none (bufferevent_get_underlying)."""
        return None

    def setfd(self, fd: socket.socket | int | None) -> None:
        """Use another descriptor; the old one stays open (bufferevent_setfd).

        Raises StateError for a kind that has none.
        """
        raise StateError(f"{type(self).__name__} has no descriptor to set")

    def replacefd(self, fd: socket.socket | int | None) -> None:
        """Use another descriptor and close the old one (bufferevent_replacefd).

        Raises StateError for a kind that has none.
        """
        raise StateError(f"{type(self).__name__} has no descriptor to replace")

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append to the output; it is sent after the callbacks of this pass (bufferevent_write).

        Raises ArgumentTypeError for anything but bytes, StateError when closed.
        """
        if not self._references:
            self._require_open()
        self.output.add(data)

    def write_buffer(self, buffer: EvBuffer) -> None:
        """Move a buffer's contents to the output (bufferevent_write_buffer).

        Raises ArgumentTypeError for what is no buffer, StateError when closed.
        """
        if not self._references:
            self._require_open()
        _require_buffer(buffer)
        self.output.add_buffer(buffer)

    def read(self, size: int = -1) -> bytes:
        """Take up to `size` bytes (-1: all) from the input (bufferevent_read).

        Nothing comes while the program has frozen the input's start.
        """
        return b"" if self.input.frozen_start else self.input.remove(size)

    def read_buffer(self, buffer: EvBuffer) -> None:
        """Move the input's contents to `buffer` (bufferevent_read_buffer).

        Raises ArgumentTypeError for what is no buffer.
        """
        _require_buffer(buffer)
        buffer.add_buffer(self.input)

    @property
    def carries_bytes(self) -> bool:
        """Whether bytes can move; where not, BEV_EVENT_CONNECTED tells when they can."""
        return True

    def unsent(self) -> bool:
        """Return True while output waits to be sent, here or in what is below."""
        return self.output.length > 0

    def flush(self, events: int, mode: int = FlushMode.BEV_NORMAL) -> bool:
        """Push the bytes of EV_READ, EV_WRITE or both through; return True when any moved.

        mode: BEV_NORMAL, BEV_FLUSH, or BEV_FINISHED for the last bytes there will be.  Raises
        ArgumentError for another mode, StateError when closed.  Source: bufferevent_flush.
        """
        self._require_open()
        try:
            mode = FlushMode(mode)
        except ValueError:
            raise ArgumentError(f"a flush mode is wanted: {mode!r}") from None
        return self._flush(int(events) & BOTH, mode)

    def _flush(self, events: int, mode: FlushMode) -> bool:
        return False

    @property
    def max_single_read(self) -> int:
        """The most bytes that one readiness brings.

        Setting 0, or more than 2**31 - 1, sets the default, 16 KiB; `input.max_read` follows.
        Raises ArgumentError when negative.
        Source: bufferevent_get_max_single_read, bufferevent_set_max_single_read.
        """
        return self._max_single_read

    @max_single_read.setter
    def max_single_read(self, size: int) -> None:
        self._max_single_read = _checked_size(size) or MAX_SINGLE_READ_BYTES
        self.input.max_read = self._max_single_read

    @property
    def max_single_write(self) -> int:
        """The most bytes that the kernel is offered at once.

        Setting 0, or more than 2**31 - 1, sets the default, 256 KiB.  Raises ArgumentError when
        negative.
        Source: bufferevent_get_max_single_write, bufferevent_set_max_single_write.
        """
        return self._max_single_write

    @max_single_write.setter
    def max_single_write(self, size: int) -> None:
        self._max_single_write = _checked_size(size) or MAX_SINGLE_WRITE_BYTES

    # Rate limits.  They are kept by the kinds over a descriptor, which move bytes with system
    # calls; others are only held back while a bucket of their own is empty.

    @property
    def rate_limit(self) -> TokenBucketCfg | None:
        """Its own rate limit, or None (bufferevent_get_token_bucket_cfg)."""
        return None if self._limiter is None else self._limiter.cfg

    def set_rate_limit(self, cfg: TokenBucketCfg | None) -> None:
        """Limit how fast it reads and writes; None is without limit (bufferevent_set_rate_limit).

        At first one tick's worth may move.  Another limit takes nothing of what is there but what
        is over its burst.  Raises StateError when closed, ArgumentTypeError for what is neither.
        """
        self._require_open()
        if cfg is not None:
            if not isinstance(cfg, TokenBucketCfg):
                raise ArgumentTypeError(
                    f"a rate limit is a TokenBucketCfg or None, not {type(cfg).__name__}"
                )
            self._own_limiter().set_cfg(cfg)
        elif self._limiter is not None:
            self._limiter.remove_cfg()

    @property
    def read_limit(self) -> int:
        """How many bytes its own limit lets it read now; below 0 when in debt.

        EV_RATE_LIMIT_MAX without a limit.  Source: bufferevent_get_read_limit.
        """
        limits = self._limiter
        return EV_RATE_LIMIT_MAX if limits is None else limits.level(limits.read)

    @property
    def write_limit(self) -> int:
        """How many bytes its own limit lets it write now; below 0 when in debt.

        EV_RATE_LIMIT_MAX without a limit.  Source: bufferevent_get_write_limit.
        """
        limits = self._limiter
        return EV_RATE_LIMIT_MAX if limits is None else limits.level(limits.write)

    def decrement_read_limit(self, size: int) -> None:
        """Take `size` bytes from what it may read; a negative size gives them back.

        For what is read past it.  Reading is suspended when nothing is left, and goes on at once
        when something is again.  Raises StateError without a limit of its own, or when closed,
        ArgumentTypeError for a size that is no whole number.
        Source: bufferevent_decrement_read_limit.
        """
        limits = self._require_limits()
        limits.decrement(limits.read, whole_number(size, "a size"))

    def decrement_write_limit(self, size: int) -> None:
        """Take `size` bytes from what it may write; a negative size gives them back.

        As with `decrement_read_limit`.  Source: bufferevent_decrement_write_limit.
        """
        limits = self._require_limits()
        limits.decrement(limits.write, whole_number(size, "a size"))

    @property
    def max_to_read(self) -> int:
        """How many bytes may be read now: its own limit, or else `max_single_read`, and no more
        than its share of the group's (bufferevent_get_max_to_read)."""
        most = self._max_single_read
        return most if self._limiter is None else self._limiter.room(self._limiter.read, most)

    @property
    def max_to_write(self) -> int:
        """How many bytes may be written now: its own limit, or else `max_single_write`, and no
        more than its share of the group's (bufferevent_get_max_to_write)."""
        most = self._max_single_write
        return most if self._limiter is None else self._limiter.room(self._limiter.write, most)

    @property
    def rate_limit_group(self) -> RateLimitGroup | None:
        """The group whose limit it shares, or None."""
        return None if self._limiter is None else self._limiter.group

    def add_to_rate_limit_group(self, group: RateLimitGroup) -> None:
        """Share the limit of `group` from now on, and leave the one before.

        In a group that has used up its limit it waits as the others do.  Raises ArgumentError for
        a group of another base, ArgumentTypeError for what is no group, StateError when either is
        closed.
        Source: bufferevent_add_to_rate_limit_group.
        """
        self._require_open()
        if not isinstance(group, RateLimitGroup):
            raise ArgumentTypeError(f"a RateLimitGroup is wanted, not {type(group).__name__}")
        group.require_open()
        if group.base is not self._base:
            raise ArgumentError("the rate limit group is of another event base")
        if group is not self.rate_limit_group:
            self.remove_from_rate_limit_group()
            self._own_limiter().join_group(group)

    def remove_from_rate_limit_group(self) -> None:
        """Leave the group, if it is in one, and go on at once if it waited for it.

        Source: bufferevent_remove_from_rate_limit_group.
        """
        if self._limiter is not None:
            self._limiter.leave_group()

    def _own_limiter(self) -> RateLimit:
        if self._limiter is None:
            flow, lock = self.flow, self._lock
            self._set_limiter(
                RateLimit(
                    Side(flow.suspend_reading, flow.resume_reading, self._wants_to_read, lock),
                    Side(flow.suspend_writing, flow.resume_writing, self._wants_to_write, lock),
                    self._now,
                    self._new_event,
                    self._guarded,
                    self._limits_ended,
                )
            )
            assert self._limiter is not None
        return self._limiter

    def _limits_ended(self) -> None:
        self._set_limiter(None)

    def _set_limiter(self, limiter: RateLimit | None) -> None:
        self._limiter = limiter
        self._bounded = bool(self.flow.read_high) or limiter is not None

    def _require_limits(self) -> RateLimit:
        self._require_open()
        if self._limiter is None:
            raise StateError("the bufferevent has no rate limit")
        return self._limiter

    def _wants_to_read(self) -> bool:
        return bool(self.flow.wanted & READ)

    def _wants_to_write(self) -> bool:
        return bool(self.flow.wanted & WRITE) and self._waits_to_write()

    def _max_to_read(self) -> int:
        """How many bytes one system call may read now."""
        most = self._max_single_read
        return most if self._limiter is None else self._limiter.max_to_read(most)

    def _max_to_write(self) -> int:
        """How many bytes one system call may write now."""
        most = self._max_single_write
        return most if self._limiter is None else self._limiter.max_to_write(most)


def options_of(options: int, always: int = 0) -> int:
    """Return BEV_OPT_ options as a plain int, with those that a kind has always.

    Raises ArgumentError for those that do not fit, ArgumentTypeError for what is no int.
    """
    options = flag_bits(options, "bufferevent options", _OPTIONS) | always
    if options & UNLOCK_CALLBACKS and not options & DEFER_CALLBACKS:
        raise ArgumentError("BEV_OPT_UNLOCK_CALLBACKS goes with BEV_OPT_DEFER_CALLBACKS only")
    return options


def _told(what: int) -> BevEvent:
    """Return what the event callback is given."""
    return BEV_EVENTS[what] if 0 <= what < len(BEV_EVENTS) else BevEvent(what)


def directions_of(events: int) -> int:
    """Return EV_READ, EV_WRITE or both as a plain int; raise ArgumentError for anything else."""
    return flag_bits(events, "directions", BOTH)


def _checked_size(size: int) -> int:
    if whole_number(size, "a size") < 0:
        raise ArgumentError(f"a size is 0 or more: {size!r}")
    return size if size <= MOST_MAX_READ_BYTES else 0


def _require_base(base: object) -> None:
    if not isinstance(base, EventBase):
        raise ArgumentTypeError(f"an event base is wanted, not {type(base).__name__}")


def _require_buffer(buffer: object) -> None:
    if not isinstance(buffer, EvBuffer):
        raise ArgumentTypeError(f"a buffer is wanted, not {type(buffer).__name__}")
