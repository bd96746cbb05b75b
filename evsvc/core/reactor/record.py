"""EventRecord: what the reactor's parts share of one event."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .evmap import Told
    from .timers import CommonQueue


class EventRecord:
    """One event as the reactor knows it; an `Event` is one with a base and methods.

    Every part reads every slot.  It writes its own, and nobody else does, but for the constructor
    of `Event`; a test holds every file of core to this table.

    =========== ============== ===============================================================
    slot        owner          meaning
    =========== ============== ===============================================================
    number      event, wakeup  the descriptor or signal, or -1 for neither
    flags       event          EV_*, without EV_TIMEOUT
    call        event          what the loop calls: `call(number, what, arg)`
    arg         event          the argument
    finalized   event          its last callback waits or has run, and no other comes any more
    told        evmap          while in the map: what to tell the callback, by the backend's mask
    rank        active         the priority: 0 is the most urgent
    is_active   active         it waits for its callback
    result      active         while active: what happened
    stale       active         entries of the queues that a deactivation left behind
    calls       signals        how often a signal's callback is still to run
    inserted    registry       it is in the map of descriptors, or that of signals
    born        registry       the pass in which it was inserted; what its wait had found is older
    interval    registry       what a persistent time-out starts anew with
    due_at      timers         while timer_key is set: monotonic seconds
    timer_key   timers         the number of its live entry in the timer heap, or 0
    queue       timers         the queue of the common time-out that this entry is in
    internal    wakeup         the loop's own: it counts nowhere, and is no callback of the program
    =========== ============== ===============================================================
    """

    __slots__ = (
        "arg",
        "born",
        "call",
        "calls",
        "due_at",
        "finalized",
        "flags",
        "inserted",
        "internal",
        "interval",
        "is_active",
        "number",
        "queue",
        "rank",
        "result",
        "stale",
        "timer_key",
        "told",
    )

    # The constructor of `Event` sets them all, but for those that mean nothing yet.
    number: int
    flags: int
    call: Callable[[int, Any, Any], object]
    arg: Any
    rank: int
    internal: bool
    finalized: bool
    inserted: bool
    born: int
    told: Told
    interval: float | None
    timer_key: int
    due_at: float
    queue: CommonQueue | None
    is_active: bool
    result: int
    stale: int
    calls: int

    def let_go(self) -> None:
        """Hold nothing that holds this record, now that its base is closed."""
