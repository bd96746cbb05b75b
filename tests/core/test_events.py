"""Events on descriptors: readiness, one-shot and persistent, several of them, deletion."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest

from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    Event,
    EventBase,
    EventFlag,
    StateError,
    event_self_cbarg,
)

pytestmark = pytest.mark.every_backend

Pair = tuple[socket.socket, socket.socket]


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


def test_both_ends_read_and_write_at_once(base: EventBase, pair: Pair) -> None:
    """Combined read and write: four one-shot events, each added again until its work is done."""
    payloads = [os.urandom(150_000), os.urandom(150_000)]
    to_send = [bytearray(payload) for payload in payloads]
    received = [bytearray(), bytearray()]

    def work(fd: int, what: EventFlag, end: int) -> None:
        sock, mine, peers = pair[end], to_send[end], payloads[1 - end]
        if what & EV_WRITE:
            del mine[: sock.send(mine[:20_000])]
        else:
            received[end].extend(sock.recv(30_000))
        if mine if what & EV_WRITE else len(received[end]) < len(peers):
            events[end, what].add()

    events = {
        (end, flag): Event(base, pair[end], flag, work, end)
        for end in (0, 1)
        for flag in (EV_READ, EV_WRITE)
    }
    for event in events.values():
        event.add()
    assert base.dispatch() == 1
    assert received == [payloads[1], payloads[0]]


def test_a_one_shot_read_event_fires_once_with_data_left(base: EventBase, pair: Pair) -> None:
    """Read only once: without EV_PERSIST it is silent about what is left until added again."""
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
    """One READ, one WRITE; activated newest-added first; deleting one keeps the other."""
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
    """event_del of the other of two ready events on a socketpair, by the first callback."""
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
    """Two ready one-shot READ events that each add the other: both run; the first's add of the
    still active second is lost, the second's add of the first sticks."""
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


def test_once_calls_each_kind_with_its_flags(fake_base: EventBase, pair: Pair) -> None:
    """event_base_once: a read, a 50 ms timer, two immediate ones in their order; exit at 75 ms,
    so a 10 s one is never called."""
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


def test_a_read_event_without_descriptor_keeps_the_loop_a_persistent_one_does_not(
    fake_base: EventBase,
) -> None:
    """fd -1 with READ is pending; with PERSIST alone and no timeout it is on no queue."""
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
    """del/add leaves it pending, and it runs once a pass; the last del leaves it disabled."""
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


def test_an_event_deleted_added_and_deleted_in_its_callback_is_disabled(
    base: EventBase, pair: Pair
) -> None:
    """del/add/del of the event itself: nothing of it is left to spin on, in one pass or more."""
    ran: list[int] = []

    def writable(fd: int, what: int, event: Event) -> None:
        ran.append(fd)
        event.delete()
        event.add()
        event.delete()

    event = Event(base, pair[0], EV_WRITE | EV_PERSIST, writable, event_self_cbarg)
    event.add()
    Event(base, pair[1], EV_READ, never).add()
    for _ in range(3):
        assert base.loop(EVLOOP_NONBLOCK) == 0
    assert ran == [pair[0].fileno()]
    assert not event.pending()


def test_the_base_keeps_pending_events_alive(base: EventBase, pairs: Callable[[], Pair]) -> None:
    """A program may drop its own reference to an event that is added or active."""
    ran: list[int] = []
    Event(base, pairs()[0], EV_WRITE, lambda *_: ran.append(1)).add()
    base.timer(lambda *_: ran.append(2)).add(0)
    base.timer(lambda *_: ran.append(3)).active(0)
    base.dispatch()
    assert sorted(ran) == [1, 2, 3]
