"""Looking into a base: counts, visits, dumps, activation by descriptor and by signal."""

from __future__ import annotations

import contextlib
import io
import signal
import socket

import pytest

from evsvc.core import (
    EV_CLOSED,
    EV_ET,
    EV_PERSIST,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    EVENT_BASE_COUNT_ACTIVE,
    EVENT_BASE_COUNT_ADDED,
    EVENT_BASE_COUNT_VIRTUAL,
    ArgumentError,
    BufferEvent,
    Event,
    EventBase,
    EventFlag,
)


def nothing(fd: int, what: int, arg: object) -> None:
    """Do nothing."""


def fill(sock: socket.socket) -> None:
    """Send until the kernel takes no more."""
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(65536))


def counts(base: EventBase) -> tuple[int, int, int]:
    return (
        base.num_events(EVENT_BASE_COUNT_ACTIVE),
        base.num_events(EVENT_BASE_COUNT_VIRTUAL),
        base.num_events(EVENT_BASE_COUNT_ADDED),
    )


def test_counts_of_an_event_with_a_timeout(base: EventBase) -> None:
    """Fresh added event (fd -1, READ, 100 ms): ACTIVE 0, VIRTUAL 0, ADDED 2; activated: 1, ADDED 3,
    ACTIVE|ADDED 4; after the loop all 0."""
    event = Event(base, -1, EV_READ, nothing)
    event.add(0.1)
    assert counts(base) == (0, 0, 2)
    event.active(EV_READ)
    assert counts(base) == (1, 0, 3)
    assert base.num_events(EVENT_BASE_COUNT_ACTIVE | EVENT_BASE_COUNT_ADDED) == 4
    base.dispatch()
    assert counts(base) == (0, 0, 0)


def test_what_keeps_the_loop_alive_without_an_event_is_virtual(base: EventBase) -> None:
    """A virtual event alone makes VIRTUAL 1 and leaves ADDED 0."""
    ours, theirs = socket.socketpair()
    with ours, theirs, BufferEvent(base, ours) as bev:
        bev.write(b"x")
        assert counts(base) == (0, 1, 0)
        base.dispatch()
        assert counts(base) == (0, 0, 0)


def test_high_water_marks(base: EventBase) -> None:
    """Two events added then one deleted leaves max ADDED 4; activation does not raise it; after
    reading with clear all maxima are 0 until something new happens."""
    first, second = Event(base, -1, EV_READ, nothing), Event(base, -1, EV_READ, nothing)
    first.add(0.1)
    second.add(0.1)
    second.delete()
    assert base.max_events(EVENT_BASE_COUNT_ADDED) == 4
    first.active(EV_READ)
    assert base.max_events(EVENT_BASE_COUNT_ADDED) == 4
    assert base.max_events(EVENT_BASE_COUNT_ACTIVE, clear=True) == 1
    assert base.max_events(EVENT_BASE_COUNT_ADDED, clear=True) == 4
    assert base.max_events(EVENT_BASE_COUNT_ACTIVE | EVENT_BASE_COUNT_ADDED) == 0
    second.add(0.1)
    assert base.max_events(EVENT_BASE_COUNT_ADDED) == 5


@pytest.mark.parametrize("kinds", [0, 8, 0x101])
def test_unknown_kinds_of_count_are_refused(base: EventBase, kinds: int) -> None:
    with pytest.raises(ArgumentError, match=f"{kinds:#x}"):
        base.num_events(kinds)


def test_every_pending_or_active_event_is_visited_once(base: EventBase) -> None:
    """foreach: added, added and active, active only are visited exactly once each; idle never."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        added = Event(base, ours, EV_READ, nothing)
        both = Event(base, theirs, EV_READ | EV_PERSIST, nothing)
        only_active = Event(base, -1, 0, nothing)
        timed = base.timer(nothing)
        Event(base, -1, 0, nothing)
        for event in (added, both):
            event.add()
        timed.add(10)
        both.active(EV_READ)
        only_active.active(0)
        seen: list[Event] = []
        base.foreach_event(lambda base, event, arg: seen.append(event))
        ours_seen = [event for event in seen if not event.internal]
        assert sorted(map(id, ours_seen)) == sorted(map(id, [added, both, timed, only_active]))
        for event in (added, both):
            event.delete()


def test_a_visit_stops_at_the_first_true_result(base: EventBase) -> None:
    for _ in range(3):
        base.timer(nothing).add(10)
    seen: list[object] = []

    def visit(base: EventBase, event: Event, arg: str) -> str | None:
        seen.append(event)
        return arg if len(seen) == 2 else None

    assert base.foreach_event(visit, "enough") == "enough"
    assert len(seen) == 2


def test_a_dump_has_both_sections_and_a_line_for_each_event(base: EventBase) -> None:
    timer = base.timer(nothing)
    timer.add(10)
    user = Event(base, -1, 0, nothing)
    user.active(EV_WRITE)
    output = io.StringIO()
    base.dump_events(output)
    inserted, _, active = output.getvalue().partition("Active events:\n")
    assert inserted.startswith("Inserted events:\n")
    assert "Internal" in inserted
    assert "Timeout=" in inserted
    assert active.splitlines() == ["  fd -1 EV_WRITE [priority=0]"]


def test_visits_go_by_descriptor_then_signal_then_timer(base: EventBase) -> None:
    """event_base_foreach_event: io, signals, heap timers, common timeouts, then active only."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        named = {
            "active": Event(base, -1, 0, nothing),
            "common": base.timer(nothing),
            "timer": base.timer(nothing),
            "signal": base.signal(signal.SIGUSR1, nothing),
            "io": Event(base, ours, EV_READ, nothing),
        }
        named["active"].active(0)
        common = base.init_common_timeout(3)
        base.timer(nothing).add(common)  # the head, which is in the heap
        named["common"].add(common)
        named["timer"].add(5)
        named["signal"].add()
        named["io"].add(7)
        seen: list[Event] = []
        base.foreach_event(lambda base, event, arg: seen.append(event))
        assert any(event.internal for event in seen)
        names = [name for event in seen for name in named if named[name] is event]
        assert names == ["io", "signal", "timer", "common", "active"]
        for event in named.values():
            event.close()


def test_activation_by_descriptor_for_writing_wakes_its_writers_alone(base: EventBase) -> None:
    """event_base_active_by_fd: WRITE activates only writers of that fd; ET matches nothing."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fired: list[tuple[str, EventFlag]] = []

        def note(fd: int, what: EventFlag, name: str) -> None:
            fired.append((name, what))

        for sock in (ours, theirs):  # full, so that no writer is ready by itself
            fill(sock)
        for name, sock, flags in (
            ("unready", ours, EV_CLOSED),
            ("writer", ours, EV_WRITE),
            ("both", ours, EV_CLOSED | EV_WRITE | EV_ET),
            ("other", theirs, EV_WRITE),
        ):
            Event(base, sock, flags | EV_PERSIST, note, name).add(600)
        base.active_by_fd(ours.fileno(), EV_ET)
        assert base.num_events(EVENT_BASE_COUNT_ACTIVE) == 0
        base.active_by_fd(ours.fileno(), EV_WRITE)
        base.loopexit()
        base.dispatch()
        assert sorted(fired) == [("both", EV_WRITE), ("writer", EV_WRITE)]


def test_activation_by_descriptor_wakes_those_that_wait_for_it(base: EventBase) -> None:
    """event_base_active_by_fd: READ then TIMEOUT on the same fd gives a single callback with
    READ|TIMEOUT for events with a timer, READ only for those without."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fired: list[tuple[str, EventFlag]] = []

        def note(fd: int, what: EventFlag, name: str) -> None:
            fired.append((name, what))

        reader = Event(base, ours, EV_READ, note, "reader")
        timed = Event(base, ours, EV_READ, note, "timed")
        other = Event(base, theirs, EV_READ, note, "other")
        reader.add()
        timed.add(600)
        other.add(600)
        base.active_by_fd(ours.fileno(), EV_WRITE)
        base.active_by_fd(99999, EV_READ)
        assert base.num_events(EVENT_BASE_COUNT_ACTIVE) == 0
        base.active_by_fd(ours.fileno(), EV_READ)
        base.active_by_fd(ours.fileno(), EV_TIMEOUT)
        base.loopexit()
        base.dispatch()
        assert sorted(fired) == [("reader", EV_READ), ("timed", EV_READ | EV_TIMEOUT)]


def test_activation_by_signal_wakes_each_event_once(base: EventBase) -> None:
    fired: list[int] = []
    events = [
        base.signal(signal.SIGUSR1, lambda fd, what, arg: fired.append(arg), n) for n in (1, 2)
    ]
    for event in events:
        event.add()
    base.active_by_signal(signal.SIGUSR1)
    base.active_by_signal(1000)
    base.loopexit()
    base.dispatch()
    assert sorted(fired) == [1, 2]
    for event in events:
        event.close()
