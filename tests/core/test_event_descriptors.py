"""What the kernel says of a descriptor: half-closes, edges, numbers used again, refusals."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator

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
    CheckWatcher,
    Event,
    EventBase,
    EventFlag,
    PrepareWatcher,
    SocketError,
)
from evsvc.core.backends import BACKENDS, Backend, ChangelistEpollBackend
from evsvc.core.util import socket_geterror

pytestmark = pytest.mark.every_backend

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


# What the kernel goes on to report when a descriptor was closed before its event was deleted, and a
# dup or a forked child has the file: only epoll does, but the rules hold everywhere.


def passes_to_rest(base: EventBase) -> int:
    """Let the fake clock come to a timer; return how many passes it took, 50 for no end of them."""
    passes: list[int] = []

    def count(*_: object) -> None:
        passes.append(1)
        if len(passes) == 50:
            base.loopbreak()

    with PrepareWatcher(base, count):
        base.timer(lambda *_: base.loopbreak()).add(1000)
        base.dispatch()
    return len(passes)


def says(caplog: pytest.LogCaptureFixture, base: EventBase) -> int:
    """Return how often it was said that a report had no owner; backends but epoll have none."""
    said = sum("no event waits for" in message for message in caplog.messages)
    assert said == len(caplog.messages)
    assert not said or base.method.startswith("epoll")
    return said


class Orphan:
    """A file that is readable and writable for ever, was watched, and closed here too early."""

    def __init__(self, base: EventBase, events: int = EV_READ) -> None:
        ours, self.peer = socket.socketpair()
        self.holder = ours.dup()
        self.number = ours.fileno()
        self.event = Event(base, ours, events | EV_PERSIST, never)
        self.event.add()
        self.peer.send(b"x")
        ours.close()

    def reuse(self, sock: socket.socket) -> socket.socket:
        """Give the number to a copy of `sock`."""
        os.dup2(sock.fileno(), self.number)
        return socket.socket(fileno=self.number)

    def close(self) -> None:
        self.holder.close()
        self.peer.close()


OrphanMaker = Callable[..., Orphan]


@pytest.fixture
def orphans(fake_base: EventBase) -> Iterator[OrphanMaker]:
    """Return a maker of orphans.  Their number is free, so what else a test opens comes first."""
    made: list[Orphan] = []

    def make(events: int = EV_READ) -> Orphan:
        made.append(Orphan(fake_base, events))
        return made[-1]

    yield make
    for orphan in made:
        orphan.close()


@pytest.mark.parametrize("npriorities", [1, 2])
def test_a_report_that_no_event_owns_comes_once(
    fake_base: EventBase, orphans: OrphanMaker, caplog: pytest.LogCaptureFixture, npriorities: int
) -> None:
    """By the loop's short way and its long one."""
    fake_base.priority_init(npriorities)
    orphan = orphans()
    orphan.event.delete()
    assert passes_to_rest(fake_base) <= 3
    assert says(caplog, fake_base) == fake_base.method.startswith("epoll")


def test_a_report_that_no_event_owns_is_found_with_check_watchers(
    fake_base: EventBase, orphans: OrphanMaker
) -> None:
    orphans().event.delete()
    with CheckWatcher(fake_base, lambda *_: None):
        assert passes_to_rest(fake_base) <= 3


def test_a_forked_child_that_holds_the_file_does_not_keep_the_loop_busy(
    fake_base: EventBase, pairs: Callable[[], Pair]
) -> None:
    ours, peer = pairs()
    until, release = pairs()
    event = Event(fake_base, ours, EV_READ | EV_PERSIST, never)
    event.add()
    child = os.fork()
    if child == 0:
        until.setblocking(True)
        release.close()
        until.recv(1)
        os._exit(0)
    peer.send(b"x")
    ours.close()
    event.delete()
    try:
        assert passes_to_rest(fake_base) <= 3
    finally:
        release.close()
        os.waitpid(child, 0)


def test_many_reports_that_no_event_owns_are_one_renewal(
    fake_base: EventBase, orphans: OrphanMaker, caplog: pytest.LogCaptureFixture
) -> None:
    for orphan in [orphans() for _ in range(5)]:
        orphan.event.delete()
    assert passes_to_rest(fake_base) <= 3
    assert says(caplog, fake_base) == fake_base.method.startswith("epoll")


def clog(sock: socket.socket) -> None:
    """Write until the kernel takes no more."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(65536))


def drain(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.recv(1 << 20)


@pytest.mark.parametrize(
    ("deleted", "wants"),
    [
        ("closed", EV_READ),
        ("closed", EV_WRITE),
        ("closed", EV_READ | EV_WRITE),
        ("reused", EV_READ),
        ("reused", EV_WRITE),
        ("reused", EV_READ | EV_WRITE),
        ("watched", EV_WRITE),
        ("watched", EV_READ | EV_WRITE),
    ],
)
@pytest.mark.parametrize("persist", [0, EV_PERSIST])
def test_a_number_that_is_another_file_now_hears_nothing_of_the_old_one(
    fake_base: EventBase,
    orphans: OrphanMaker,
    pairs: Callable[[], Pair],
    deleted: str,
    wants: int,
    persist: int,
) -> None:
    """The old event is deleted while the number is closed, or is another file, or is one with an
    event of its own already; the new file, which is not ready, is watched all the same."""
    ours, peer = pairs()
    clog(ours)
    ran: list[EventFlag] = []
    orphan = orphans()
    if deleted == "closed":
        orphan.event.delete()
    with orphan.reuse(ours) as again:
        if deleted == "reused":
            orphan.event.delete()
        fresh = Event(fake_base, again, wants | persist, lambda fd, what, arg: ran.append(what))
        fresh.add()
        if deleted == "watched":
            orphan.event.delete()
        assert passes_to_rest(fake_base) <= 4
        assert ran == []
        drain(peer)
        peer.send(b"x")
        fake_base.loop(EVLOOP_ONCE)
        assert ran == [wants]
        fresh.delete()


def test_a_wider_old_interest_is_not_told_to_a_new_events_owner(
    fake_base: EventBase,
    pair: Pair,
    orphans: OrphanMaker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The old file is writable, too; the new event, which reads, hears nothing of it."""
    orphan = orphans(EV_READ | EV_WRITE)
    orphan.event.delete()
    with orphan.reuse(pair[0]) as again:
        fresh = Event(fake_base, again, EV_READ | EV_PERSIST, never)
        fresh.add()
        assert passes_to_rest(fake_base) <= 4
        fresh.delete()
    assert says(caplog, fake_base) == fake_base.method.startswith("epoll")


def test_a_number_that_was_closed_too_early_is_of_use_again(
    fake_base: EventBase, pairs: Callable[[], Pair], caplog: pytest.LogCaptureFixture
) -> None:
    """Closed before its event was deleted, but nobody else has the file: nothing stays behind, and
    whatever the number becomes is watched, told of errors and of a close in its turn."""
    ran: list[EventFlag] = []
    for number in range(3):
        ours, peer = socket.socketpair()
        event = Event(fake_base, ours, EV_READ | EV_PERSIST, lambda fd, what, arg: ran.append(what))
        event.add()
        peer.send(b"x")
        fake_base.loop(EVLOOP_ONCE)
        assert ran == [EV_READ] * (2 * number + 1)
        ours.recv(1)
        peer.close()
        fake_base.loop(EVLOOP_ONCE)
        assert ran == [EV_READ] * (2 * number + 2)
        ours.close()
        event.delete()
    assert caplog.messages == []


def test_the_rest_is_watched_as_before_when_a_report_had_no_owner(
    fake_base: EventBase, orphans: OrphanMaker, pairs: Callable[[], Pair]
) -> None:
    """Every interest, the edge of one, and the loop's own wake-up."""
    reads, writes, edge = pairs(), pairs(), pairs()
    clog(writes[0])
    ran: list[tuple[str, EventFlag]] = []

    def note(fd: int, what: EventFlag, name: str) -> None:
        ran.append((name, what))

    Event(fake_base, reads[0], EV_READ, note, "reads").add()
    Event(fake_base, writes[0], EV_WRITE, note, "writes").add()
    Event(fake_base, edge[0], EV_READ | EV_ET, note, "edge").add()
    orphans().event.delete()
    assert passes_to_rest(fake_base) <= 4
    assert ran == []
    reads[1].send(b"x")
    edge[1].send(b"x")
    drain(writes[1])
    fake_base.loop(EVLOOP_ONCE)
    is_edge = EV_ET if fake_base.features & EV_FEATURE_ET else 0
    assert sorted(ran) == [("edge", EV_READ | is_edge), ("reads", EV_READ), ("writes", EV_WRITE)]
    waker = threading.Thread(target=fake_base.post, args=(ran.clear,))
    waker.start()
    waker.join()
    fake_base.loop(EVLOOP_ONCE)
    assert ran == []


def test_an_event_of_a_closed_descriptor_is_called_when_only_its_old_report_is_lost(
    fake_base: EventBase, orphans: OrphanMaker
) -> None:
    """Its file is open elsewhere, so that it was told; made anew, epoll would not tell it any more.
    It is called, its owner sees the error, and that is all."""
    ran: list[EventFlag] = []
    ours, peer = socket.socketpair()
    holder = ours.dup()

    def close_it(fd: int, what: EventFlag, arg: object) -> None:
        ran.append(what)
        event.delete()

    event = Event(fake_base, ours, EV_READ | EV_PERSIST, close_it)
    event.add()
    orphan = orphans()
    ours.close()
    orphan.event.delete()
    assert passes_to_rest(fake_base) <= 4
    assert ran == [EV_READ]
    peer.close()
    holder.close()


@pytest.mark.parametrize("npriorities", [1, 2])
@pytest.mark.parametrize("narrowed", [False, True])
def test_news_that_a_callback_has_made_old_is_no_report_without_an_owner(
    base: EventBase,
    pairs: Callable[[], Pair],
    caplog: pytest.LogCaptureFixture,
    npriorities: int,
    narrowed: bool,
) -> None:
    """Whoever is called first deletes, or narrows, the other, which was found ready by the same
    wait: nothing is made anew."""
    base.priority_init(npriorities)
    both = pairs(), pairs()
    events: list[tuple[Event, Event]] = []
    ran: list[int] = []

    def first(fd: int, what: EventFlag, index: int) -> None:
        ran.append(index)
        events[index][0].delete()
        reader, writer = events[1 - index]
        reader.delete()
        if not narrowed:
            writer.delete()
            both[1 - index][0].close()

    for index, (ours, peer) in enumerate(both):
        clog(ours)
        peer.send(b"x")
        reader = Event(base, ours, EV_READ | EV_PERSIST, first, index)
        writer = Event(base, ours, EV_WRITE | EV_PERSIST, never)
        reader.add()
        writer.add()
        events.append((reader, writer))
    for _ in range(3):
        base.loop(EVLOOP_NONBLOCK)
    assert len(ran) == 1
    assert caplog.messages == []


def test_news_that_another_thread_has_made_old_is_no_report_without_an_owner(
    base: EventBase, pair: Pair, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event goes while the loop waits, and the wait has found it ready before."""
    event = Event(base, pair[0], EV_READ | EV_PERSIST, never)
    event.add()
    pair[1].send(b"x")
    kinds = [*BACKENDS, ChangelistEpollBackend]
    backend = next(kind for kind in kinds if kind.name == base.method)
    real = backend.dispatch

    def dispatch(self: Backend, timeout: float | None) -> list[tuple[int, int]]:
        ready = real(self, timeout)
        event.delete()
        return ready

    monkeypatch.setattr(backend, "dispatch", dispatch)
    for _ in range(3):
        base.loop(EVLOOP_NONBLOCK)
    assert caplog.messages == []


def test_a_closed_descriptor_with_an_event_starves_nobody(fake_base: EventBase, pair: Pair) -> None:
    """poll and select report it again and again, and beside it what else is ready."""
    ran: list[str] = []
    ours, peer = socket.socketpair()
    closed = Event(fake_base, ours, EV_READ | EV_PERSIST, lambda *_: None)
    closed.add()
    ours.close()
    peer.close()
    Event(fake_base, pair[0], EV_READ, lambda *_: ran.append("ready")).add()
    pair[1].send(b"x")
    for _ in range(3):
        fake_base.loop(EVLOOP_NONBLOCK | EVLOOP_ONCE)
    closed.delete()
    assert ran == ["ready"]
    assert passes_to_rest(fake_base) <= 2


def test_urgent_data_wakes_no_writer(fake_base: EventBase) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    ours.setblocking(False)
    clog(ours)
    Event(fake_base, ours, EV_WRITE | EV_PERSIST, never).add()
    peer.send(b"!", socket.MSG_OOB)
    select.select([], [], [ours])
    assert passes_to_rest(fake_base) <= 2
    peer.close()
    ours.close()
