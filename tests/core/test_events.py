"""Events: readiness, time-outs, persistence, activation, deletion; and what is refused."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

import pytest

from evsvc.core import (
    EV_CLOSED,
    EV_ET,
    EV_FEATURE_EARLY_CLOSE,
    EV_FEATURE_ET,
    EV_PERSIST,
    EV_READ,
    EV_SIGNAL,
    EV_TIMEOUT,
    EV_WRITE,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    ArgumentError,
    ArgumentTypeError,
    Error,
    Event,
    EventBase,
    EventFlag,
    FakeClock,
    SocketError,
    StateError,
    event_self_cbarg,
)

Pair = tuple[socket.socket, socket.socket]
Call = tuple[float, EventFlag]


def never(*args: object) -> None:
    pytest.fail("a callback ran that must not")


def test_a_large_transfer_through_one_shot_events(base: EventBase, pair: Pair) -> None:
    """Reading and writing on both ends, each event added again in its callback."""
    payload = os.urandom(300_000)
    sent, received = bytearray(payload), bytearray()

    def writable(fd: int, what: int, event: Event) -> None:
        del sent[: pair[0].send(sent[:40_000])]
        if sent:
            event.add()

    def readable(fd: int, what: int, event: Event) -> None:
        received.extend(pair[1].recv(65536))
        if len(received) < len(payload):
            event.add()

    Event(base, pair[0], EV_WRITE, writable, event_self_cbarg).add()
    Event(base, pair[1], EV_READ, readable, event_self_cbarg).add()
    assert base.dispatch() == 1
    assert received == payload


def test_a_one_shot_read_event_fires_once_with_data_left(base: EventBase, pair: Pair) -> None:
    calls: list[EventFlag] = []
    event = Event(base, pair[0], EV_READ, lambda fd, what, arg: calls.append(what))
    pair[1].send(b"left over")
    event.add()
    assert base.dispatch() == 1
    assert calls == [EV_READ]
    event.add()
    base.dispatch()
    assert calls == [EV_READ, EV_READ]


def test_two_events_on_one_descriptor_both_work(base: EventBase, pair: Pair) -> None:
    """Deleting one keeps the other."""
    calls: list[EventFlag] = []
    reader = Event(base, pair[0], EV_READ | EV_PERSIST, lambda fd, what, arg: calls.append(what))
    writer = Event(base, pair[0], EV_WRITE | EV_PERSIST, lambda fd, what, arg: calls.append(what))
    pair[1].send(b"x")
    reader.add()
    writer.add()
    base.loop(EVLOOP_NONBLOCK | EVLOOP_ONCE)
    assert calls == [EV_WRITE, EV_READ]  # newest first
    writer.delete()
    base.loop(EVLOOP_NONBLOCK | EVLOOP_ONCE)
    assert calls == [EV_WRITE, EV_READ, EV_READ]


def test_an_event_deleted_in_the_same_batch_does_not_run(base: EventBase, pair: Pair) -> None:
    events: list[Event] = []
    ran: list[int] = []

    def first(fd: int, what: int, other: int) -> None:
        ran.append(other)
        events[other].delete()

    for index, sock in enumerate(pair):
        events.append(Event(base, sock, EV_WRITE, first, 1 - index))
        events[index].add()
    base.dispatch()
    assert len(ran) == 1


def test_an_event_that_re_adds_an_active_one_does_not_keep_it(base: EventBase, pair: Pair) -> None:
    """The add on the still active second is lost, the second's add of the first sticks."""
    ran: list[int] = []
    events: list[Event] = []

    def ready(fd: int, what: int, index: int) -> None:
        ran.append(index)
        events[1 - index].add()

    for index, sock in enumerate(pair):
        sock.send(b"x")
        events.append(Event(base, sock, EV_READ, ready, index))
    for event in events:
        event.add()
    base.loop(EVLOOP_ONCE)
    assert sorted(ran) == [0, 1]
    first, second = ran
    assert events[first].pending() == EV_READ
    assert not events[second].pending()


def test_an_active_event_that_is_not_pending_is_not_inserted_by_add(
    base: EventBase, pair: Pair
) -> None:
    ran: list[EventFlag] = []
    event = Event(base, pair[0], EV_READ, lambda fd, what, arg: ran.append(what))
    event.active(EV_READ)
    event.add()
    assert base.dispatch() == 1
    assert ran == [EV_READ]


def test_manual_activation_adds_flags_up_and_runs_once(base: EventBase) -> None:
    ran: list[EventFlag] = []
    event = Event(base, -1, EV_READ, lambda fd, what, arg: ran.append(what))
    event.active(EV_WRITE)
    event.active(EV_READ)
    assert event.pending() == EV_READ | EV_WRITE
    assert event.pending(EV_WRITE) == EV_WRITE
    assert event.pending(0) == 0
    base.dispatch()
    assert ran == [EV_READ | EV_WRITE]


def test_a_user_event_is_called_with_no_flags(base: EventBase) -> None:
    ran: list[int] = []
    event = base.timer(lambda fd, what, arg: ran.append(int(what)))
    event.active(0)
    assert base.dispatch() == 1
    assert ran == [0]


def test_activation_and_an_elapsed_timeout_are_one_call(
    fake_base: EventBase, clock: FakeClock
) -> None:
    ran: list[EventFlag] = []
    event = Event(fake_base, -1, EV_READ, lambda fd, what, arg: ran.append(what))
    event.add(0.1)
    clock.advance(0.2)
    event.active(EV_READ)
    fake_base.dispatch()
    assert ran == [EV_READ | EV_TIMEOUT]


def test_a_new_timeout_cancels_an_activation_by_the_old(fake_base: EventBase) -> None:
    """With the READ that was merged into it."""
    ran: list[Call] = []
    start = fake_base.now
    late = Event(
        fake_base, -1, EV_READ, lambda fd, what, arg: ran.append((fake_base.now - start, what))
    )

    def restart(*args: object) -> None:
        late.active(EV_READ)
        late.add(5)

    fake_base.timer(restart).add(1)
    late.add(1)
    fake_base.dispatch()
    assert ran == [(pytest.approx(6), EV_TIMEOUT)]


def test_add_without_a_timeout_keeps_the_one_that_runs(
    fake_base: EventBase, clock: FakeClock
) -> None:
    fired: list[float] = []
    event = fake_base.timer(lambda *_: fired.append(clock.monotonic()))
    start = clock.monotonic()
    event.add(2)
    event.add()
    assert event.deadline == start + 2
    event.add(1)
    fake_base.dispatch()
    assert fired == [start + 1]
    assert event.deadline is None


def test_a_timeout_given_in_a_callback_counts_from_the_cached_time(
    fake_base: EventBase, clock: FakeClock
) -> None:
    start = clock.monotonic()
    event = fake_base.timer(lambda *_: None)

    def busy(*args: object) -> None:
        clock.advance(0.05)
        event.add(1)

    fake_base.timer(busy).add(0)
    fake_base.loop(EVLOOP_ONCE)
    assert event.deadline == start + 1


def test_a_persistent_timer_repeats_until_deleted(fake_base: EventBase, clock: FakeClock) -> None:
    start = clock.monotonic()
    fired: list[float] = []

    def tick(fd: int, what: int, event: Event) -> None:
        fired.append(round(clock.monotonic() - start, 6))
        if len(fired) == 4:
            event.delete()

    Event(fake_base, -1, EV_PERSIST, tick, event_self_cbarg).add(0.01)
    assert fake_base.dispatch() == 1
    assert fired == [0.01, 0.02, 0.03, 0.04]


def test_missed_beats_are_dropped(fake_base: EventBase, clock: FakeClock) -> None:
    """A 100 ms timer, the loop entered 300 ms late, exit at +50 ms: exactly one call."""
    ran: list[EventFlag] = []
    event = Event(fake_base, -1, EV_PERSIST, lambda fd, what, arg: ran.append(what))
    event.add(0.1)
    clock.advance(0.3)
    fake_base.loopexit(0.05)
    assert fake_base.dispatch() == 0
    assert ran == [EV_TIMEOUT]


def test_an_activation_moves_the_beat(fake_base: EventBase, clock: FakeClock) -> None:
    """A 200 ms timer activated with READ at 100 ms: 100 READ, 300 TIMEOUT, 500 TIMEOUT."""
    start = clock.monotonic()
    ran: list[tuple[float, EventFlag]] = []
    event = Event(
        fake_base,
        -1,
        EV_PERSIST,
        lambda fd, what, arg: ran.append((round(clock.monotonic() - start, 6), what)),
    )
    event.add(0.2)
    fake_base.timer(lambda *_: event.active(EV_READ)).add(0.1)
    fake_base.loopexit(0.55)
    fake_base.dispatch()
    assert ran == [(0.1, EV_READ), (0.3, EV_TIMEOUT), (0.5, EV_TIMEOUT)]


def test_remove_timer_leaves_only_reads(fake_base: EventBase, pair: Pair) -> None:
    """The timer of a persistent event does not come back after a read."""
    ran: list[EventFlag] = []

    def readable(fd: int, what: EventFlag, arg: object) -> None:
        ran.append(what)
        pair[0].recv(9)

    event = Event(fake_base, pair[0], EV_READ | EV_PERSIST, readable)
    event.add(0.075)
    event.remove_timer()
    fake_base.timer(lambda *_: pair[1].send(b"x")).add(0.2)
    fake_base.timer(lambda *_: pair[1].send(b"x")).add(0.4)
    fake_base.loopexit(1)
    fake_base.dispatch()
    assert ran == [EV_READ, EV_READ]
    assert event.pending() == EV_READ


def test_a_removed_pure_timer_never_fires(fake_base: EventBase) -> None:
    event = fake_base.timer(never)
    event.add(0.1)
    event.remove_timer()
    event.remove_timer()
    assert fake_base.dispatch() == 1


def test_once_calls_each_kind_with_its_flags(fake_base: EventBase, pair: Pair) -> None:
    """A read, a 50 ms timer and two immediate ones; a 10 s one is never called."""
    calls: list[tuple[str, EventFlag]] = []

    def note(fd: int, what: EventFlag, name: str) -> None:
        calls.append((name, what))

    pair[1].send(b"x")
    fake_base.once(pair[0], EV_READ, note, "read")
    fake_base.once(-1, EV_TIMEOUT, note, "timer", 0.05)
    fake_base.once(-1, EV_TIMEOUT, note, "at once")
    fake_base.once(-1, EV_TIMEOUT, note, "at once too", 0)
    fake_base.once(-1, EV_TIMEOUT, never, None, 10)
    fake_base.loopexit(0.075)
    fake_base.dispatch()
    assert calls == [
        ("at once", EV_TIMEOUT),
        ("at once too", EV_TIMEOUT),
        ("read", EV_READ),
        ("timer", EV_TIMEOUT),
    ]


@pytest.mark.parametrize(
    "events", [0, EV_SIGNAL, EV_READ | EV_PERSIST, EV_TIMEOUT | EV_PERSIST, EV_ET]
)
def test_once_refuses_what_it_cannot_wait_for(base: EventBase, events: int) -> None:
    with pytest.raises(ArgumentError):
        base.once(-1, events, never)


def test_a_read_event_without_descriptor_keeps_the_loop_a_persistent_one_does_not(
    fake_base: EventBase,
) -> None:
    Event(fake_base, -1, EV_PERSIST, never).add()
    assert fake_base.dispatch() == 1
    event = Event(fake_base, -1, EV_READ, never)
    event.add()
    assert event.pending() == EV_READ
    fake_base.loopexit(1)
    assert fake_base.dispatch() == 0


def test_an_event_can_close_itself_in_its_callback(base: EventBase, pair: Pair) -> None:
    event = Event(base, pair[0], EV_WRITE | EV_PERSIST, lambda *_: event.close())
    event.add(60)
    assert base.dispatch() == 1
    assert event.callback is None
    assert not event.initialized
    for refused in (event.add, lambda: event.active(EV_READ), lambda: event.base):
        with pytest.raises(StateError):
            refused()
    event.close()
    event.delete()


def test_an_event_added_deleted_and_added_again_in_its_callback_works(
    base: EventBase, pair: Pair
) -> None:
    """del/add/del leaves it disabled; del/add leaves it pending, and it runs once a pass."""
    ran: list[int] = []

    def writable(fd: int, what: int, event: Event) -> None:
        ran.append(1)
        event.delete()
        event.add()
        event.active(EV_WRITE)
        event.delete()
        if len(ran) < 3:
            event.add()

    Event(base, pair[0], EV_WRITE | EV_PERSIST, writable, event_self_cbarg).add()
    assert base.dispatch() == 1
    assert len(ran) == 3


def test_stale_entries_run_nothing_and_follow_no_priority(base: EventBase) -> None:
    base.priority_init(3)
    ran: list[str] = []
    event = base.timer(lambda *_: ran.append("event"))
    for _ in range(3):
        event.active(EV_TIMEOUT)
        event.delete()
    event.priority = 0
    event.active(EV_TIMEOUT)
    other = base.timer(lambda *_: ran.append("other"))
    other.active(EV_TIMEOUT)
    assert base.dispatch() == 1
    assert ran == ["event", "other"]


def test_a_deleted_deferred_activation_does_not_eat_a_new_one(base: EventBase) -> None:
    ran: list[int] = []
    event = base.timer(lambda *_: ran.append(1))
    base._active.activate_later(event, EV_TIMEOUT)
    event.delete()
    event.active(EV_TIMEOUT)
    assert base.dispatch() == 1
    assert ran == [1]


def test_the_priority_of_an_active_event_is_fixed(base: EventBase) -> None:
    base.priority_init(2)
    event = base.timer(lambda *_: None)
    event.add(60)
    event.priority = 0
    event.active(EV_TIMEOUT)
    with pytest.raises(StateError):
        event.priority = 1
    event.delete()
    for priority in (-1, 2):
        with pytest.raises(ArgumentError, match=str(priority)):
            event.priority = priority
    assert event.priority == 0


def test_half_close_is_seen_without_reading(fake_base: EventBase, pair: Pair) -> None:
    """With unread data; a backend that cannot see it lets the timeout come."""
    ran: list[EventFlag] = []
    pair[1].send(b"unread")
    pair[1].shutdown(socket.SHUT_WR)
    Event(fake_base, pair[0], EV_CLOSED, lambda fd, what, arg: ran.append(what)).add(5)
    fake_base.dispatch()
    sees = fake_base.features & EV_FEATURE_EARLY_CLOSE
    assert ran == [EV_CLOSED if sees else EV_TIMEOUT]


@pytest.mark.parametrize("events", [EV_READ, EV_WRITE, EV_CLOSED])
def test_a_gone_peer_wakes_whoever_waits_and_nobody_spins(
    fake_base: EventBase, pair: Pair, events: int
) -> None:
    ran: list[EventFlag] = []
    pair[1].close()
    Event(fake_base, pair[0], events, lambda fd, what, arg: ran.append(what)).add(5)
    fake_base.dispatch()
    missed = events == EV_CLOSED and not fake_base.features & EV_FEATURE_EARLY_CLOSE
    assert ran == [EV_TIMEOUT if missed else events]


def test_a_pipe_whose_writer_has_gone_is_readable(base: EventBase) -> None:
    """A hang-up without half-close wakes a reader."""
    read_fd, write_fd = os.pipe()
    os.close(write_fd)
    ran: list[EventFlag] = []
    Event(base, read_fd, EV_READ, lambda fd, what, arg: ran.append(what)).add()
    base.dispatch()
    os.close(read_fd)
    assert ran == [EV_READ]


@pytest.mark.parametrize(("persist", "edge"), [(EV_PERSIST, EV_ET), (EV_PERSIST, 0)])
def test_an_edge_triggered_event_fires_once_for_what_it_leaves(
    base: EventBase, pair: Pair, persist: int, edge: int
) -> None:
    """One byte of many read, two runs: 1 call and the flag, or 2 calls without it."""
    calls: list[EventFlag] = []

    def readable(fd: int, what: EventFlag, arg: object) -> None:
        calls.append(what)
        pair[0].recv(1)

    pair[1].send(b"many")
    Event(base, pair[0], EV_READ | persist | edge, readable).add()
    for _ in range(2):
        base.loop(EVLOOP_NONBLOCK | EVLOOP_ONCE)
    if edge and base.features & EV_FEATURE_ET:
        assert calls == [EV_READ | EV_ET]
    else:
        assert calls == [EV_READ, EV_READ]


def test_an_edge_stays_when_the_other_edge_event_goes(base: EventBase, pair: Pair) -> None:
    """READ and WRITE edge events on one descriptor; READ deleted."""
    calls: list[EventFlag] = []
    flags = EV_PERSIST | EV_ET
    reader = Event(base, pair[0], EV_READ | flags, never)
    writer = Event(base, pair[0], EV_WRITE | flags, lambda fd, what, arg: calls.append(what))
    reader.add()
    writer.add()
    reader.delete()
    for _ in range(2):
        base.loop(EVLOOP_NONBLOCK | EVLOOP_ONCE)
    if base.features & EV_FEATURE_ET:
        assert calls == [EV_WRITE | EV_ET]
    else:
        assert calls == [EV_WRITE, EV_WRITE]


def test_a_reused_descriptor_number_is_watched_anew(base: EventBase) -> None:
    """Closed behind the base's back and opened again, with a different interest."""
    ours, peer = socket.socketpair()
    old_number = ours.fileno()
    stale = Event(base, ours, EV_READ | EV_PERSIST, lambda *_: None)
    stale.add()
    ours.close()
    again, other_peer = socket.socketpair()
    assert again.fileno() == old_number
    ran: list[EventFlag] = []
    fresh = Event(base, again, EV_WRITE, lambda fd, what, arg: ran.append(what))
    fresh.add()
    base.loop(EVLOOP_ONCE)
    stale.delete()
    assert ran == [EV_WRITE]
    for sock in (peer, again, other_peer):
        sock.close()
    assert base.dispatch() == 1


def test_a_descriptor_closed_first_is_deleted_in_silence(base: EventBase) -> None:
    ours, peer = socket.socketpair()
    event = Event(base, ours, EV_READ | EV_WRITE, never)
    event.add()
    ours.close()
    peer.close()
    event.delete()
    assert base.dispatch() == 1


@pytest.mark.parametrize(
    ("fd", "flags"),
    [
        (-1, EV_SIGNAL),
        (signal.NSIG, EV_SIGNAL),
        (signal.SIGKILL, EV_SIGNAL),
        (-2, EV_READ),
        (2**31 - 1, EV_READ),
        (2**30, EV_WRITE),
    ],
)
def test_what_cannot_be_watched_is_refused_by_add(base: EventBase, fd: int, flags: int) -> None:
    event = Event(base, fd, flags, never)
    with pytest.raises(ArgumentError, match=str(int(fd))):
        event.add(1)
    assert not event.pending()
    event.close()
    assert base.dispatch() == 1


def test_a_number_that_is_no_open_file_is_refused_with_errno(base: EventBase) -> None:
    read_fd, write_fd = os.pipe()
    os.close(write_fd)
    os.close(read_fd)
    event = Event(base, read_fd, EV_READ, never)
    with pytest.raises(SocketError, match=str(read_fd)) as caught:
        event.add()
    assert caught.value.errno == 9
    assert not event.pending()
    assert base.dispatch() == 1


def test_a_regular_file_is_refused_or_ready(base: EventBase) -> None:
    """epoll refuses regular files; the others find them ready at all times."""
    ran: list[EventFlag] = []
    with open(__file__, "rb") as file:
        event = Event(base, file, EV_READ, lambda fd, what, arg: ran.append(what))
        if base.method == "epoll":
            with pytest.raises(SocketError):
                event.add()
        else:
            event.add()
            base.dispatch()
    assert ran == ([] if base.method == "epoll" else [EV_READ])


@pytest.mark.parametrize(
    "flags", [EV_SIGNAL | EV_READ, EV_SIGNAL | EV_CLOSED, EventFlag.EV_FINALIZE, 0x100, -1]
)
def test_flags_that_do_not_go_together_are_refused(base: EventBase, flags: int) -> None:
    with pytest.raises(ArgumentError):
        Event(base, -1, flags, never)


def test_arguments_of_a_wrong_kind_are_refused(base: EventBase, pair: Pair) -> None:
    with pytest.raises(ArgumentTypeError, match="callback"):
        Event(base, -1, 0, None)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="str"):
        Event(base, "1", EV_READ, never)  # type: ignore[arg-type]
    pair[0].close()
    with pytest.raises(ArgumentError, match="closed"):
        Event(base, pair[0], EV_READ, never)
    event = base.timer(never)
    for timeout in (-0.1, float("nan")):
        with pytest.raises(ArgumentError, match=str(timeout)):
            event.add(timeout)
    for what in (0x100, -1):
        with pytest.raises(ArgumentError, match="flags"):
            event.active(what)
    assert isinstance(ArgumentError("x"), Error)


def test_accessors_tell_how_an_event_was_made(base: EventBase, pair: Pair) -> None:
    event = Event(base, pair[0], EV_READ | EV_PERSIST | EV_TIMEOUT, never, "arg")
    assert event.fd == pair[0].fileno()
    assert event.base is base
    assert event.events == EV_READ | EV_PERSIST
    assert event.callback is never
    assert event.callback_arg == "arg"
    assert base.signal(signal.SIGUSR1, never).signal == signal.SIGUSR1
    own: Event = Event(base, -1, 0, never, event_self_cbarg)
    assert own.callback_arg is own
    with own:
        assert "fd -1" in repr(own)
    assert repr(own) == "<Event closed>"


def test_the_base_keeps_pending_events_alive(base: EventBase, pairs: Callable[[], Pair]) -> None:
    ran: list[int] = []
    Event(base, pairs()[0], EV_WRITE, lambda *_: ran.append(1)).add()
    base.timer(lambda *_: ran.append(2)).add(0)
    base.timer(lambda *_: ran.append(3)).active(0)
    base.dispatch()
    assert sorted(ran) == [1, 2, 3]
