"""Event: an interest in a descriptor, a signal or a moment, with a callback.

An event is *pending* after `add` and *active* from the moment that it happened until its callback
runs.  Without EV_PERSIST it stops being pending just before its callback; with it, it stays, and
its timeout starts anew.  The base holds a reference while the event is pending or active, so a
program may drop its own.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .closing import Closing
from .errors import ArgumentError, ArgumentTypeError, StateError
from .flags import EVENT_FLAGS, EventFlag

if TYPE_CHECKING:
    from .base import EventBase
    from .timers import CommonQueue

TIMEOUT, READ, WRITE, SIGNAL, PERSIST, ET, CLOSED = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x80
FINALIZE = 0x40
IO = READ | WRITE | CLOSED
_ALLOWED = TIMEOUT | IO | SIGNAL | PERSIST | ET

EventCallback = Callable[[int, EventFlag, Any], object]
"""Called as `cb(fd, what, arg)`: the descriptor or signal number, and what happened."""


FinalizeCallback = Callable[["Event", Any], object]
"""Called as `cb(event, arg)`, with the event's own argument."""


class HasFileno(Protocol):
    """Anything with a descriptor, such as a socket."""

    def fileno(self) -> int:
        """Return the descriptor, or -1 when it is closed."""


class _SelfArg:
    __slots__ = ()

    def __repr__(self) -> str:
        return "event_self_cbarg"


event_self_cbarg = _SelfArg()
"""Give this as `arg`, and the callback gets the event itself (event_self_cbarg)."""


def _closed_callback(fd: int, what: EventFlag, arg: object) -> None:
    """Stand in for the callback of a closed event; the loop never gets to call it."""


def fd_of(fd: int | HasFileno) -> int:
    """Return the descriptor number of an int or of an object with `fileno()`.

    Raises ArgumentError when the object is closed, ArgumentTypeError for anything else.
    """
    if isinstance(fd, int):
        return fd
    if not hasattr(fd, "fileno"):
        raise ArgumentTypeError(f"a descriptor is wanted, not {type(fd).__name__}")
    number = fd.fileno()
    if number < 0:
        raise ArgumentError(f"the object is closed: {fd!r}")
    return number


class Assignment(NamedTuple):
    """What an event was made with, or assigned last (event_get_assignment)."""

    base: EventBase
    fd: int
    events: EventFlag
    callback: EventCallback
    arg: Any


class Event(Closing):
    """An event on `base`: for a descriptor, a signal number, or (-1) a timeout alone.

    events: EV_READ, EV_WRITE, EV_CLOSED or EV_SIGNAL, with EV_PERSIST and EV_ET (edge-triggered
    where the backend can).  EV_SIGNAL goes with no descriptor flag.  The event gets the middle
    priority of its base.  The callback is `callback(fd, what, arg)`.  A backend without
    EV_FEATURE_EARLY_CLOSE never reports EV_CLOSED.  Raises ArgumentError for flags that do not
    go together, ArgumentTypeError for what is no callback or descriptor, StateError when the base
    is closed.  Source: event_new.
    """

    __slots__ = (
        "_active",
        "_arg",
        "_base",
        "_born",
        "_callback",
        "_calls",
        "_deadline",
        "_events",
        "_fd",
        "_finalized",
        "_inserted",
        "_interest",
        "_internal",
        "_interval",
        "_persist",
        "_plain",
        "_priority",
        "_queue",
        "_result",
        "_stale",
        "_timer_key",
    )

    def __init__(
        self,
        base: EventBase,
        fd: int | HasFileno,
        events: int,
        callback: EventCallback,
        arg: object = None,
    ) -> None:
        flags = int(events)
        if flags & ~_ALLOWED:
            raise ArgumentError(f"unknown event flags: {flags & ~_ALLOWED:#x}")
        if flags & SIGNAL and flags & IO:
            raise ArgumentError(f"EV_SIGNAL goes with no descriptor flag: {EVENT_FLAGS[flags]!r}")
        if not callable(callback):
            raise ArgumentTypeError(f"the callback cannot be called: {callback!r}")
        base._require_open()
        number = fd_of(fd)
        # Nothing is stored before everything is checked: `assign` relies on it.
        self._base: EventBase | None = base
        self._fd = number
        self._events = flags & ~TIMEOUT
        self._interest = flags & base._supported if flags & IO else 0  # the backend's part
        self._persist = bool(flags & PERSIST)
        # Nothing but calling it to be done when its descriptor is ready; see EventBase._run_ready.
        self._plain = self._persist and not flags & (SIGNAL | ET)
        self._callback = callback
        self._arg: Any = self if arg is event_self_cbarg else arg
        self._priority = base.npriorities // 2
        self._internal = False
        self._finalized = False
        self._inserted = False  # in the base's descriptor or signal map
        self._born = 0  # the pass in which it was inserted: what that pass's wait found is older
        self._timer_key = 0  # this event's live entry in the timer heap
        self._queue: CommonQueue | None = None  # that of the common timeout it waits for
        self._deadline = 0.0  # monotonic; means something while _timer_key is set
        self._interval: float | None = None  # what a persistent timeout starts anew with
        self._active = False
        self._result = 0  # what happened, while active
        self._calls = 0  # how often the callback runs, for a signal
        self._stale = 0  # entries in the active queue that a delete left behind

    def assign(
        self,
        base: EventBase,
        fd: int | HasFileno,
        events: int,
        callback: EventCallback,
        arg: object = None,
    ) -> None:
        """Make another event of this one, as if it were new; its priority, too.

        Raises as the constructor does, and StateError while the event is pending or active, and
        once it is closed or finalized; it is then what it was.  Source: event_assign.
        """
        self._require_idle()._active.drop_stale(self)
        Event.__init__(self, base, fd, events, callback, arg)

    def add(self, timeout: float | None = None) -> None:
        """Make the event pending, with a timeout in seconds from the loop's time if given.

        None keeps a timeout that is already running; a number replaces it; a common timeout of
        the base saves the heap operation.  Adding twice is one pending event.  Raises
        ArgumentError for a negative timeout or a descriptor or signal number that cannot be
        watched, SocketError when the kernel refuses it, StateError when the event is closed or
        finalized, or its base is closed.  Source: event_add.
        """
        base = self._base
        if base is None or self._finalized:
            raise StateError(f"the event is {'closed' if base is None else 'finalized'}")
        base._require_open()
        base._registry.add(self, timeout, base.now)

    def delete(self) -> None:
        """Take back what `add` and `active` did: the callback does not run.

        Fine on an event that is neither.  Source: event_del.
        """
        if self._base is not None:
            self._base._registry.delete(self)

    def remove_timer(self) -> None:
        """Forget the timeout, and keep the rest pending (event_remove_timer)."""
        if self._base is not None and self._timer_key:
            self._base._timers.remove(self)
            self._interval = None

    def active(self, what: int, calls: int = 1) -> None:
        """Activate by hand with the flags `what`, whether pending or not.

        Repeated before the callback runs, the flags add up and it runs once.  `calls` is how
        often a signal event's callback runs.  Raises ArgumentError for unknown flags, StateError
        when the event or its base is closed.  A finalized event stays idle.  Source: event_active.
        """
        base = self._live_base()
        base._require_open()
        if self._finalized:
            return
        if not 0 <= what < len(EVENT_FLAGS):
            raise ArgumentError(f"unknown event flags: {int(what):#x}")
        self._calls = calls
        base._registry.activate(self, int(what))

    def pending(self, what: int = 0xFF) -> EventFlag:
        """Return those of the flags `what` for which the event is pending or active.

        Source: event_pending.
        """
        flags = 0
        if self._inserted:
            flags |= self._events & (IO | SIGNAL)
        if self._active:
            flags |= self._result
        if self._timer_key:
            flags |= TIMEOUT
        return EVENT_FLAGS[flags & int(what) & (TIMEOUT | IO | SIGNAL)]

    def finalize(self, callback: FinalizeCallback) -> None:
        """Delete the event, and have `callback(event, arg)` called as the last of it.

        By the loop, at the event's priority, or else when the base is closed.  From here on `add`
        raises StateError, `delete` and `active` do nothing, and no other callback of the event
        begins.  Raises ArgumentTypeError for what is no callback, StateError when the event is
        finalized already, or it or its base is closed.  Source: event_finalize.
        """
        self._finalize(callback, closes=False)

    def free_finalize(self, callback: FinalizeCallback) -> None:
        """Do as `finalize` does, and close the event after the callback (event_free_finalize)."""
        self._finalize(callback, closes=True)

    def _finalize(self, callback: FinalizeCallback, *, closes: bool) -> None:
        base = self._live_base()
        base._require_open()
        if not callable(callback):
            raise ArgumentTypeError(f"the callback cannot be called: {callback!r}")
        if self._finalized:
            raise StateError(f"the event is finalized already: {self!r}")
        self.delete()
        self._finalized = True
        base._queue_finalizer(self, callback, closes)

    def close(self) -> None:
        """Delete the event for good; the descriptor stays open.  Safe to repeat (event_free).

        A finalizer that waits still runs.
        """
        self.delete()
        self._base = None
        self._callback = _closed_callback
        self._arg = None

    @property
    def initialized(self) -> bool:
        """Whether the event can be added, that is, is not closed (event_initialized)."""
        return self._base is not None

    @property
    def base(self) -> EventBase:
        """The event's base (event_get_base, event_base_set).  Raises StateError once closed.

        Setting moves the event, which gets the new base's middle priority.  Raises StateError
        while the event is pending or active or once finalized, and when either is closed.
        """
        return self._live_base()

    @base.setter
    def base(self, base: EventBase) -> None:
        old_base = self._require_idle()
        base._require_open()
        old_base._active.drop_stale(self)
        self._calls = 0
        self._base = base
        self._interest = self._events & base._supported if self._events & IO else 0
        self._priority = base.npriorities // 2

    @property
    def assignment(self) -> Assignment:
        """Base, descriptor, flags, callback and argument at once.  Raises StateError once closed.

        Source: event_get_assignment.
        """
        base = self._live_base()
        return Assignment(base, self._fd, self.events, self._callback, self._arg)

    @property
    def fd(self) -> int:
        """The descriptor, or -1 (event_get_fd)."""
        return self._fd

    @property
    def signal(self) -> int:
        """The signal number (event_get_signal)."""
        return self._fd

    @property
    def events(self) -> EventFlag:
        """The flags that the event was made with (event_get_events)."""
        return EVENT_FLAGS[self._events]

    @property
    def callback(self) -> EventCallback | None:
        """The callback; None once closed (event_get_callback)."""
        return None if self._base is None else self._callback

    @property
    def callback_arg(self) -> Any:
        """The callback's argument (event_get_callback_arg)."""
        return self._arg

    @property
    def deadline(self) -> float | None:
        """When the timeout runs out, in the base's monotonic seconds; None without one."""
        return self._deadline if self._timer_key else None

    @property
    def priority(self) -> int:
        """The priority; 0 is the most urgent (event_get_priority, event_priority_set).

        Setting raises StateError while the event is active, ArgumentError out of range.
        """
        return self._priority

    @priority.setter
    def priority(self, priority: int) -> None:
        self._live_base()._active.set_priority(self, priority)

    def _live_base(self) -> EventBase:
        if self._base is None:
            raise StateError("the event is closed")
        return self._base

    def _require_idle(self) -> EventBase:
        base = self._live_base()
        if self._inserted or self._timer_key or self._active:
            raise StateError(f"the event is pending or active: {self!r}")
        if self._finalized:
            raise StateError(f"the event is finalized: {self!r}")
        return base

    def __repr__(self) -> str:
        if self._base is None:
            return "<Event closed>"
        what = f"signal {self._fd}" if self._events & SIGNAL else f"fd {self._fd}"
        return f"<Event {what} {EVENT_FLAGS[self._events]!r} pending={self.pending()!r}>"


def check_signal(signum: int) -> None:
    """Raise ArgumentError unless `signum` is a signal of this system."""
    if signum not in signal.valid_signals():
        raise ArgumentError(f"no such signal: {signum!r}")
