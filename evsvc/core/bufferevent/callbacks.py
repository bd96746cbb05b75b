"""What a bufferevent tells the program: three callbacks, called at once or deferred.

Invariants
    * After `close` no callback runs.  Every callback may close: look again after each.
    * Deferred callbacks collapse: what happens again before the deferred run is told once.
    * A deferred run tells BEV_EVENT_CONNECTED first, then read, then write, and then all other
      events in one call.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, ArgumentTypeError, StateError
from ..flags import FINALIZE, READ, WRITE, BevEvent, BevOption, TriggerOption
from ..reactor.event import Event
from ..thread import holding_lock
from .lifetime import Lifetime

if TYPE_CHECKING:
    from ..buffer import EvBuffer
    from ..descriptors import HasFileno
    from ..reactor.base import EventBase
    from ..reactor.event import EventCallback as EventFunction

DataCallback = Callable[[Any, Any], object]
"""Called as `cb(bev, ctx)`."""
EventCallback = Callable[[Any, BevEvent, Any], object]
"""Called as `cb(bev, what, ctx)`."""

_CONNECTED = int(BevEvent.BEV_EVENT_CONNECTED)
_IGNORE_WATERMARKS = int(TriggerOption.BEV_TRIG_IGNORE_WATERMARKS)
_DEFER = int(TriggerOption.BEV_TRIG_DEFER_CALLBACKS)
_OPTIONS = 0x0F


class Callbacks(Lifetime):
    """The callbacks of a bufferevent, and when they are called."""

    __slots__ = (
        "_base",
        "_ctx",
        "_deferred",
        "_deferred_data",
        "_deferred_what",
        "_defers",
        "_enabled",
        "_eventcb",
        "_options",
        "_priority",
        "_read_high",
        "_read_low",
        "_readcb",
        "_write_high",
        "_write_low",
        "_writecb",
        "input",
        "output",
    )

    input: EvBuffer
    output: EvBuffer

    def __init__(self, base: EventBase, options: int) -> None:
        options = int(options)
        if options & ~_OPTIONS:
            raise ArgumentError(f"unknown bufferevent options: {options & ~_OPTIONS:#x}")
        if options & BevOption.BEV_OPT_UNLOCK_CALLBACKS and not (
            options & BevOption.BEV_OPT_DEFER_CALLBACKS
        ):
            raise ArgumentError("BEV_OPT_UNLOCK_CALLBACKS goes with BEV_OPT_DEFER_CALLBACKS only")
        base.reactor.require_open()
        super().__init__(bool(options & BevOption.BEV_OPT_THREADSAFE))
        self._base = base
        self._options = options
        self._defers = bool(options & BevOption.BEV_OPT_DEFER_CALLBACKS)
        self._priority = base.npriorities // 2
        self._enabled = WRITE
        self._read_low = self._read_high = self._write_low = self._write_high = 0
        self._readcb: DataCallback | None = None
        self._writecb: DataCallback | None = None
        self._eventcb: EventCallback | None = None
        self._ctx: Any = None
        self._deferred: Event | None = None
        self._deferred_data = 0  # READ and WRITE callbacks that wait
        self._deferred_what = 0  # what the event callback will be told

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
            if callback is not None and not callable(callback):
                raise ArgumentTypeError(f"the callback cannot be called: {callback!r}")
        if not self._owned:
            raise StateError("the bufferevent is closed")
        self._readcb, self._writecb, self._eventcb, self._ctx = readcb, writecb, eventcb, ctx

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
        if events & READ and (ignore or self.input.length >= self._read_low):
            self._run_readcb(defer)
        if events & WRITE and (ignore or self.output.length <= self._write_low):
            self._run_writecb(defer)

    @holding_lock
    def trigger_event(self, what: int, options: int = 0) -> None:
        """Give the event callback any flags (bufferevent_trigger_event).

        At once, or deferred with BEV_TRIG_DEFER_CALLBACKS.  Raises StateError when closed.
        """
        self._require_open()
        self._run_eventcb(int(what), bool(int(options) & _DEFER))

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
        for event in events:
            event.priority = priority
        self._priority = priority

    @abstractmethod
    def _events(self) -> list[Event]:
        """Return all events that the bufferevent has now."""

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

    def _run_readcb(self, defer: bool = False) -> None:
        if self._readcb is None:
            return
        if self._defers or defer:
            self._deferred_data |= READ
            self._defer()
        else:
            self._call_readcb()

    def _call_readcb(self) -> None:
        if self._readcb is None:
            return
        try:
            self._readcb(self, self._ctx)
        finally:
            if self._read_high and self.input.length >= self._read_high:
                self._call_again()

    def _call_again(self) -> None:
        """Call a program that takes a little at a time, or raises, until it is below the mark.

        Once a pass: it starves nobody.
        """
        if self._enabled & READ and self._readcb is not None:
            self._deferred_data |= READ
            self._defer(to_next_pass=True)

    def _run_writecb(self, defer: bool = False) -> None:
        if self._writecb is None:
            return
        if self._defers or defer:
            self._deferred_data |= WRITE
            self._defer()
        else:
            self._writecb(self, self._ctx)

    def _run_eventcb(self, what: int, defer: bool = False) -> None:
        if self._eventcb is None:
            return
        if self._defers or defer:
            self._deferred_what |= what
            self._defer()
        else:
            self._eventcb(self, BevEvent(what), self._ctx)

    def _defer(self, to_next_pass: bool = False) -> None:
        event = self._deferred
        if event is None:
            # Not through _new_event: whether the lock is held depends on the options.
            flags = 0 if self._lock is None else FINALIZE
            event = self._deferred = Event(self._base, -1, flags, self._run_deferred)
            if event.rank != self._priority:
                event.priority = self._priority
        self._base.reactor.defer(event, to_next_pass=to_next_pass)

    def _run_deferred(self, fd: int, flags: int, arg: object) -> None:
        """Run what waits, with the lock held unless BEV_OPT_UNLOCK_CALLBACKS says not to."""
        if self._lock is None:
            self._tell_deferred(*self._take_deferred())
            return
        with self._lock:
            data, what = self._take_deferred()
            if not self._options & BevOption.BEV_OPT_UNLOCK_CALLBACKS:
                self._tell_deferred(data, what)
                return
        self._tell_deferred(data, what)

    def _take_deferred(self) -> tuple[int, int]:
        data, self._deferred_data = self._deferred_data, 0
        what, self._deferred_what = self._deferred_what, 0
        return data, what

    def _tell_deferred(self, data: int, what: int) -> None:
        """Run the callbacks in their order.  When one of them raises, the rest waits on."""
        try:
            if what & _CONNECTED:
                what &= ~_CONNECTED
                if self._eventcb is not None:
                    self._eventcb(self, BevEvent.BEV_EVENT_CONNECTED, self._ctx)
            if data & READ:
                data &= ~READ
                self._call_readcb()
            if data & WRITE:
                data &= ~WRITE
                if self._writecb is not None:
                    self._writecb(self, self._ctx)
            last, what = what, 0
            if last and self._eventcb is not None:
                self._eventcb(self, BevEvent(last), self._ctx)
        finally:
            if (data or what) and self._owned:
                self._deferred_data |= data
                self._deferred_what |= what
                self._defer(to_next_pass=True)

    def _forget_callbacks(self) -> None:
        self._readcb = self._writecb = self._eventcb = None
        self._ctx = None
        self._deferred_data = self._deferred_what = 0
        if self._deferred is not None:
            self._deferred.close()
            self._deferred = None
