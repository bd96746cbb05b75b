"""Event: an interest in a descriptor, a signal or a moment, with a callback.

An event is *pending* after `add` and *active* from the moment that it happened until its callback
runs.  Without EV_PERSIST it stops being pending just before its callback; with it, it stays, and
its timeout starts anew.  The base holds a reference while the event is pending or active, so a
program may drop its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..checks import flag_bits, require_callable, whole_number
from ..closing import Closing
from ..debug import require_nonblocking
from ..descriptors import HasFileno, fd_of
from ..errors import (
    ArgumentError,
    ArgumentTypeError,
    DebugError,
    StateError,
)
from ..flags import ET, EVENT_FLAGS, FINALIZE, IO, PERSIST, SIGNAL, TIMEOUT, EventFlag
from ..log import debug_topics
from .finalizers import Ending, finalize, queue_finalizer
from .record import EventRecord

if TYPE_CHECKING:
    from .base import EventBase
    from .reactor import Reactor

logger = logging.getLogger("evsvc.core")

_ALL = len(EVENT_FLAGS) - 1
_ALLOWED = TIMEOUT | IO | SIGNAL | PERSIST | ET | FINALIZE

EventCallback = Callable[[int, EventFlag, Any], object]
"""Called as `cb(fd, what, arg)`: the descriptor or signal number, and what happened."""


FinalizeCallback = Callable[["Event", Any], object]
"""Called as `cb(event, arg)`, with the event's own argument."""


class _SelfArg:
    __slots__ = ()

    def __repr__(self) -> str:
        return "event_self_cbarg"


event_self_cbarg = _SelfArg()
"""Give this as `arg`, and the callback gets the event itself (event_self_cbarg)."""


def _closed_callback(fd: int, what: EventFlag, arg: object) -> None:
    """Stand in for the callback of a closed event; the loop never gets to call it."""


def _unassigned_callback(fd: int, what: EventFlag, arg: object) -> None:
    """Stand in for the callback of an event that debug mode has unassigned."""


class Assignment(NamedTuple):
    """What an event was made with, or assigned last (event_get_assignment)."""

    base: EventBase
    fd: int
    events: EventFlag
    callback: EventCallback
    arg: Any


class Event(EventRecord, Closing):
    """An event on `base`: for a descriptor, a signal number, or (-1) a timeout alone.

    fd: a number, or an object with `fileno()`, such as a socket, which the event then keeps alive
    until it is closed or assigned anew: deleted, it can be added again.
    events: EV_READ, EV_WRITE, EV_CLOSED or EV_SIGNAL, with EV_PERSIST, EV_ET (edge-triggered
    where the backend can) and EV_FINALIZE (deleting it from another thread does not wait for its
    callback).  EV_SIGNAL goes with no descriptor flag.  The event gets the middle priority of its
    base.  The callback is `callback(fd, what, arg)`.  A backend without EV_FEATURE_EARLY_CLOSE
    never reports EV_CLOSED.  Raises ArgumentError for flags that do not go together,
    ArgumentTypeError for what is no callback or descriptor, StateError when the base is closed,
    in debug mode DebugError for a blocking descriptor.  Source: event_new.
    """

    __slots__ = ("_base", "_file")

    def __init__(
        self,
        base: EventBase,
        fd: int | HasFileno,
        events: int,
        callback: EventCallback,
        arg: object = None,
    ) -> None:
        flags = events
        if type(flags) is not int:
            flags = flag_bits(events, "event flags", _ALLOWED)
        elif flags & ~_ALLOWED:
            raise ArgumentError(f"unknown event flags: {flags & ~_ALLOWED:#x}")
        if flags & SIGNAL and flags & IO:
            raise ArgumentError(f"EV_SIGNAL goes with no descriptor flag: {EVENT_FLAGS[flags]!r}")
        if not callable(callback):
            require_callable(callback)
        try:
            reactor: Reactor = base.reactor
        except AttributeError:
            raise ArgumentTypeError(f"an event base is wanted, not {base!r}") from None
        if reactor.closed:
            reactor.require_open()
        number = fd if type(fd) is int else fd_of(fd)
        if reactor.debug and flags & IO:
            require_nonblocking(number)
        # Nothing is stored before everything is checked: `assign` relies on it.
        self._base: EventBase | None = base
        self._file = fd
        self.number = number
        self.flags = flags & ~TIMEOUT
        self.call = callback
        self.arg = self if arg is event_self_cbarg else arg
        self.rank = reactor.active.middle_priority
        self.internal = False
        self.finalized = False
        self.inserted = False
        self.timer_key = 0
        self.queue = None
        self.interval = None
        self.is_active = False
        self.stale = 0

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
        if self.call is not _unassigned_callback:
            self._require_idle().reactor.registry.drop_stale(self)
        Event.__init__(self, base, fd, events, callback, arg)

    def debug_unassign(self) -> None:
        """In debug mode, forget the assignment: every use raises DebugError until `assign`.

        Without debug mode nothing happens.  Raises StateError while the event is pending or
        active, and when it is closed or finalized.  Source: event_debug_unassign.
        """
        base = self._live_base()
        if base.reactor.debug:
            self._require_idle().reactor.registry.drop_stale(self)
            self._base = None
            self._file = -1
            self.call = _unassigned_callback
            self.arg = None

    def add(self, timeout: float | None = None) -> None:
        """Make the event pending, with a timeout in seconds from now on if given.

        None keeps a timeout that is already running; a number replaces it; a common timeout of
        the base saves the heap operation.  Adding twice is one pending event.  Raises
        ArgumentError for a negative timeout or a descriptor or signal number that cannot be
        watched, SocketError when the kernel refuses it, StateError when the event is closed or
        finalized, or its base is closed.  In the event's own callback a finalized event stays as
        it is, for it cannot know what another thread has done meanwhile.  Source: event_add.
        """
        if debug_topics.on:
            logger.debug("event_add: %r, timeout %r", self, timeout)
        base = self._base
        if base is None or self.finalized or (reactor := base.reactor).closed:
            self._refuse_add()
            return
        if timeout is None:
            reactor.registry.add(self, None, 0.0)
        else:
            reactor.registry.add(self, timeout, reactor.monotonic())

    def _refuse_add(self) -> None:
        base = self._base
        if base is None or base.reactor.closed or base.running_event is not self:
            raise self._unusable()

    def delete(self) -> None:
        """Take back what `add` and `active` did: the callback does not run.

        Fine on an event that is neither.  With `thread.use_pthreads`, and from another thread
        than the loop's, waits until a callback of the event that is running has returned, unless
        the event has EV_FINALIZE.  Raises StateError, with nothing done, for the last event of a
        signal in a thread that is neither the main nor the loop's.  Source: event_del.
        """
        if debug_topics.on:
            logger.debug("event_del: %r", self)
        base = self._base
        if base is not None:
            base.reactor.registry.delete(self)
        else:
            self._require_assigned()

    def delete_block(self) -> None:
        """Do as `delete` does, and wait with EV_FINALIZE, too (event_del_block)."""
        self._require_assigned()
        if self._base is not None:
            self._base.reactor.registry.delete_block(self)

    def delete_noblock(self) -> None:
        """Do as `delete` does, and never wait for a callback (event_del_noblock)."""
        self._require_assigned()
        if self._base is not None:
            self._base.reactor.registry.delete_noblock(self)

    def remove_timer(self) -> None:
        """Forget the timeout, and keep the rest pending (event_remove_timer)."""
        self._require_assigned()
        if self._base is not None:
            self._base.reactor.registry.remove_timer(self)

    def active(self, what: int, calls: int = 1) -> None:
        """Activate by hand with the flags `what`, whether pending or not.

        From inside a callback, for the next pass.  Repeated before the callback runs, the flags add
        up and it runs once.  `calls` is how often a signal event's callback runs, besides what is
        outstanding of it.  Raises ArgumentError for unknown flags, StateError
        when the event or its base is closed.  A finalized event stays idle.  Source: event_active.
        """
        reactor = self._live_base().reactor
        reactor.require_open()
        if self.finalized:
            return
        flags = flag_bits(what, "event flags", _ALL)
        if whole_number(calls, "the number of calls") < 0:
            raise ArgumentError(f"the number of calls is 0 or more: {calls!r}")
        reactor.registry.activate_in_turn(self, flags, calls)

    def pending(self, what: int = 0xFF) -> EventFlag:
        """Return those of the flags `what` for which the event is pending or active.

        Source: event_pending.
        """
        flags = 0
        if self.inserted:
            flags |= self.flags & (IO | SIGNAL)
        if self.is_active:
            flags |= self.result
        if self.timer_key:
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
        registry = base.reactor.registry
        base.reactor.require_open()
        require_callable(callback)
        with registry.guard:
            if self.finalized:
                raise StateError(f"the event is finalized already: {self!r}")
            registry.delete_noblock(self)
            self.finalized = True
            ending = Ending(registry, self, callback, self.arg, self.close if closes else None)
            queue_finalizer(Event(base, -1, 0, finalize, ending), ending)

    def close(self) -> None:
        """Delete the event for good; the descriptor stays open.  Safe to repeat (event_free).

        A finalizer that waits still runs.
        """
        self.delete()
        self._base = None
        self._file = -1
        self.call = _closed_callback
        self.arg = None

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
        try:
            active = base.reactor.active
        except AttributeError:
            raise ArgumentTypeError(f"an event base is wanted, not {base!r}") from None
        base.reactor.require_open()
        old_base.reactor.registry.drop_stale(self)
        self._base = base
        if self.arg is event_self_cbarg:
            self.arg = self
        active.adopt(self, active.middle_priority)

    @property
    def assignment(self) -> Assignment:
        """Base, descriptor, flags, callback and argument at once.  Raises StateError once closed.

        Source: event_get_assignment.
        """
        base = self._live_base()
        return Assignment(base, self.number, self.events, self.call, self.callback_arg)

    @property
    def fd(self) -> int:
        """The descriptor, or -1 (event_get_fd)."""
        return self.number

    @property
    def signal(self) -> int:
        """The signal number (event_get_signal)."""
        return self.number

    @property
    def events(self) -> EventFlag:
        """The flags that the event was made with (event_get_events)."""
        return EVENT_FLAGS[self.flags]

    @property
    def callback(self) -> EventCallback | None:
        """The callback; None once closed (event_get_callback)."""
        return None if self._base is None else self.call

    @property
    def callback_arg(self) -> Any:
        """The callback's argument (event_get_callback_arg)."""
        return self if self.arg is event_self_cbarg else self.arg

    @property
    def deadline(self) -> float | None:
        """When the timeout runs out, in the base's monotonic seconds; None without one."""
        return self.due_at if self.timer_key else None

    @property
    def priority(self) -> int:
        """The priority; 0 is the most urgent (event_get_priority, event_priority_set).

        Setting raises StateError while the event is active, ArgumentError out of range.
        """
        return self.rank

    @priority.setter
    def priority(self, priority: int) -> None:
        self._live_base().reactor.registry.set_priority(self, priority)

    def let_go(self) -> None:
        """Hold itself no more, when its base is closed."""
        if self.arg is self:
            self.arg = event_self_cbarg

    def _live_base(self) -> EventBase:
        if self._base is None:
            raise self._unusable()
        return self._base

    def _require_assigned(self) -> None:
        if self.call is _unassigned_callback:
            raise self._unusable()

    def _unusable(self) -> StateError:
        if self.call is _unassigned_callback:
            return DebugError("the event is not assigned")
        if self._base is None:
            return StateError("the event is closed")
        base_closed = self._base.reactor.closed
        return StateError(f"the event {'base is closed' if base_closed else 'is finalized'}")

    def _require_idle(self) -> EventBase:
        base = self._live_base()
        if self.inserted or self.timer_key or self.is_active:
            raise StateError(f"the event is pending or active: {self!r}")
        if self.finalized:
            raise StateError(f"the event is finalized: {self!r}")
        return base

    def __repr__(self) -> str:
        if self._base is None:
            unassigned = self.call is _unassigned_callback
            return f"<Event {'not assigned' if unassigned else 'closed'}>"
        what = f"signal {self.number}" if self.flags & SIGNAL else f"fd {self.number}"
        return f"<Event {what} {EVENT_FLAGS[self.flags]!r} pending={self.pending()!r}>"
