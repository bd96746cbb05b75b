"""Looking into a base: counting, visiting, listing and waking its events.

Functions over a reactor, which `EventBase` calls; they change nothing but what they activate.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, TextIO

from ..checks import flag_bits
from ..errors import ArgumentError
from ..flags import EVENT_FLAGS, IO, SIGNAL, TIMEOUT, CountKind

if TYPE_CHECKING:
    from .reactor import Reactor
    from .record import EventRecord

_KINDS = int(
    CountKind.EVENT_BASE_COUNT_ACTIVE
    | CountKind.EVENT_BASE_COUNT_VIRTUAL
    | CountKind.EVENT_BASE_COUNT_ADDED
)


def count(reactor: Reactor, kinds: int) -> int:
    """Return the sum of the counters that `kinds` asks for; see `EventBase.num_events`."""
    registry = reactor.registry
    with registry.guard:
        registry.queue_batch()
    active = registry.active.count
    return _sum(reactor, kinds, active, registry.pending_count + active)


def most(reactor: Reactor, kinds: int, clear: bool) -> int:
    """Return the sum of the highest values so far; see `EventBase.max_events`."""
    registry = reactor.registry
    total = _sum(reactor, kinds, registry.most_active, registry.most_added)
    if clear:
        registry.forget_most(
            active=bool(kinds & CountKind.EVENT_BASE_COUNT_ACTIVE),
            added=bool(kinds & CountKind.EVENT_BASE_COUNT_ADDED),
        )
    return total


def _sum(reactor: Reactor, kinds: int, active: int, added: int) -> int:
    wanted = flag_bits(kinds, "kinds of count", _KINDS)
    if not wanted:
        raise ArgumentError("no kinds of count: 0x0")
    total = active if wanted & CountKind.EVENT_BASE_COUNT_ACTIVE else 0
    if wanted & CountKind.EVENT_BASE_COUNT_VIRTUAL:
        total += reactor.virtual_count()
    if wanted & CountKind.EVENT_BASE_COUNT_ADDED:
        total += added
    return total


def all_events(reactor: Reactor) -> list[EventRecord]:
    """Return each pending or active event, once; see `EventBase.foreach_event`."""
    with reactor.registry.guard:
        return list(reactor.registry)


def dump(reactor: Reactor, output: TextIO) -> None:
    """Write the inserted and the active events, a line each."""
    events = all_events(reactor)
    later = {id(event) for event in reactor.active.later}
    offset = time() - reactor.now
    output.write("Inserted events:\n")
    for event in events:
        if event.inserted or event.timer_key:
            output.write(f"  {_describe(event, event.flags)}{_deadline(event, offset)}\n")
    output.write("Active events:\n")
    for event in events:
        if event.is_active:
            what = _describe(event, event.result)
            next_pass = " [NEXT PASS]" if id(event) in later else ""
            output.write(f"  {what} [priority={event.rank}]{next_pass}\n")


def activate_by_fd(reactor: Reactor, fd: int, what: int) -> None:
    """Activate the pending events of `fd`; see `EventBase.active_by_fd`."""
    if fd < 0:
        return
    registry = reactor.registry
    with registry.guard:
        if what & TIMEOUT:
            for event in list(registry.timers):
                if event.number == fd and not event.flags & SIGNAL:
                    registry.activate_in_turn(event, TIMEOUT)
            return
        interest = registry.evmap.by_fd.get(fd)
        for event in () if interest is None else tuple(interest.events):
            if hit := event.flags & what & IO:
                registry.activate_in_turn(event, hit)


def activate_by_signal(reactor: Reactor, signum: int) -> None:
    """Activate the pending events of a signal, for one call each."""
    registry = reactor.registry
    with registry.guard:
        for event in list(registry.signals):
            if event.number == signum:
                registry.activate_in_turn(event, SIGNAL)


def _describe(event: EventRecord, flags: int) -> str:
    kind = "sig" if event.flags & SIGNAL else "fd"
    names = "|".join(flag.name or "" for flag in EVENT_FLAGS[flags & 0xFF]) or "0"
    internal = " Internal" if event.internal else ""
    return f"{kind} {event.number} {names}{internal}"


def _deadline(event: EventRecord, offset: float) -> str:
    return f" Timeout={event.due_at + offset:.6f}" if event.timer_key else ""
