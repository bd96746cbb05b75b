"""What the kernel says of a descriptor: half-closes, edges, numbers used again, refusals."""

from __future__ import annotations

import errno
import os
import signal
import socket

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
    Event,
    EventBase,
    EventFlag,
    SocketError,
)
from evsvc.core.util import socket_geterror

Pair = tuple[socket.socket, socket.socket]


def never(*args: object) -> None:
    pytest.fail("a callback ran that must not")


def test_half_close_is_seen_without_reading(fake_base: EventBase, pair: Pair) -> None:
    """EV_CLOSED with unread data, not reading; a backend that cannot see it lets the timeout
    come."""
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
    """EPOLLHUP is READ and WRITE to whoever asked for either, and CLOSED where it is known."""
    ran: list[EventFlag] = []
    pair[1].close()
    Event(fake_base, pair[0], events, lambda fd, what, arg: ran.append(what)).add(5)
    fake_base.dispatch()
    missed = events == EV_CLOSED and not fake_base.features & EV_FEATURE_EARLY_CLOSE
    assert ran == [EV_TIMEOUT if missed else events]


def test_a_pipe_whose_writer_has_gone_is_readable(base: EventBase) -> None:
    """A hang-up without half-close information is delivered as READ."""
    read_fd, write_fd = os.pipe()
    os.close(write_fd)
    ran: list[EventFlag] = []
    Event(base, read_fd, EV_READ, lambda fd, what, arg: ran.append(what)).add()
    base.dispatch()
    os.close(read_fd)
    assert ran == [EV_READ]


@pytest.mark.parametrize("persist", [0, EV_PERSIST])
def test_a_half_close_is_told_only_to_those_who_asked(
    base: EventBase, pair: Pair, persist: int
) -> None:
    """RDHUP is CLOSED to the event with EV_CLOSED, READ to the reader, and both to one of both."""
    ran: dict[str, EventFlag] = {}

    def note(fd: int, what: EventFlag, name: str) -> None:
        ran[name] = what

    for name, events in (
        ("reader", EV_READ),
        ("closer", EV_CLOSED),
        ("both", EV_READ | EV_CLOSED),
        ("writer", EV_WRITE),
    ):
        Event(base, pair[0], events | persist, note, name).add()
    pair[1].shutdown(socket.SHUT_WR)
    base.loop(EVLOOP_ONCE)
    expected = {"reader": EV_READ, "both": EV_READ, "writer": EV_WRITE}
    if base.features & EV_FEATURE_EARLY_CLOSE:
        expected |= {"closer": EV_CLOSED, "both": EV_READ | EV_CLOSED}
    assert ran == expected


@pytest.mark.parametrize("events", [EV_WRITE, EV_READ, EV_READ | EV_WRITE])
def test_a_failed_connect_wakes_whoever_waits(base: EventBase, events: EventFlag) -> None:
    """EPOLLERR is delivered as READ and WRITE, so that a writer learns of it."""
    with socket.socket() as refusing, socket.socket() as sock:
        refusing.bind(("127.0.0.1", 0))  # and does not listen
        sock.setblocking(False)
        sock.connect_ex(refusing.getsockname())
        ran: list[EventFlag] = []
        Event(base, sock, events, lambda fd, what, arg: ran.append(what)).add()
        assert base.dispatch() == 1
        assert ran == [events]
        assert socket_geterror(sock) == errno.ECONNREFUSED


def test_a_closed_descriptor_is_readable_so_that_its_error_is_seen(fake_base: EventBase) -> None:
    """poll and select report it; epoll forgets it with the close, and the timeout comes."""
    ours, peer = socket.socketpair()
    ran: list[EventFlag] = []
    Event(fake_base, ours, EV_READ, lambda fd, what, arg: ran.append(what)).add(5)
    ours.close()
    assert fake_base.dispatch() == 1
    peer.close()
    assert ran == [EV_TIMEOUT if fake_base.method.startswith("epoll") else EV_READ]


@pytest.mark.parametrize(("persist", "edge"), [(EV_PERSIST, EV_ET), (EV_PERSIST, 0)])
def test_an_edge_triggered_event_fires_once_for_what_it_leaves(
    base: EventBase, pair: Pair, persist: int, edge: int
) -> None:
    """EV_ET, one byte of many read, two runs: 1 call and the flag, or 2 calls without it where the
    backend is level-triggered."""
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
    """READ and WRITE EV_ET events on one fd: after deleting READ, WRITE stays edge-triggered."""
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


def test_edges_show_only_to_events_that_asked_for_them(base: EventBase, pair: Pair) -> None:
    """EV_ET in what a callback gets: on an event made with it, and where the backend can."""
    calls: dict[str, EventFlag] = {}
    for name, flags in (("edge", EV_WRITE | EV_ET), ("level", EV_WRITE)):
        Event(base, pair[0], flags, lambda fd, what, name: calls.update({name: what}), name).add()
    base.dispatch()
    edge = EV_ET if base.features & EV_FEATURE_ET else 0
    assert calls == {"edge": EV_WRITE | edge, "level": EV_WRITE}


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


@pytest.mark.parametrize("same_file", [True, False])
@pytest.mark.parametrize("deleted", ["before", "after"])
def test_a_duplicate_closed_and_made_again_is_watched_anew(
    base: EventBase, pair: Pair, same_file: bool, deleted: str
) -> None:
    """dup: the open file outlives its number, so epoll may know (EEXIST) or miss (ENOENT) what the
    event map does not; the interest differs from before, and registers all the same."""
    number = os.dup(pair[0].fileno())
    stale = Event(base, number, EV_READ | EV_PERSIST, never)
    stale.add()
    os.close(number)
    if deleted == "before":
        stale.delete()
    assert os.dup(pair[0 if same_file else 1].fileno()) == number
    ran: list[EventFlag] = []
    fresh = Event(base, number, EV_WRITE, lambda fd, what, arg: ran.append(what))
    fresh.add()
    base.loop(EVLOOP_ONCE)
    assert ran == [EV_WRITE]
    stale.delete()
    os.close(number)
    assert base.dispatch() == 1


def test_a_descriptor_closed_first_is_deleted_in_silence(base: EventBase) -> None:
    """Removing the last interest after the close: EBADF and ENOENT are no news."""
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
    """Signals -1 and NSIG, descriptors INT_MAX and INT_MAX/2 fail cleanly; freeing them is fine."""
    event = Event(base, fd, flags, never)
    with pytest.raises(ArgumentError, match=str(int(fd))):
        event.add(1)
    assert not event.pending()
    event.close()
    assert base.dispatch() == 1


def test_a_number_that_is_no_open_file_is_refused_with_errno(base: EventBase) -> None:
    """event_add fails and leaves the event as it was."""
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
        if base.method.startswith("epoll"):
            with pytest.raises(SocketError):
                event.add()
        else:
            event.add()
            base.dispatch()
    assert ran == ([] if base.method.startswith("epoll") else [EV_READ])
