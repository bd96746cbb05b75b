"""TLS bufferevents come and go: closing anywhere, another descriptor, threads, nothing left."""

from __future__ import annotations

import gc
import itertools
import socket
import threading
from collections.abc import Callable

import pytest

from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_WRITING,
    BEV_OPT_CLOSE_ON_FREE,
    BEV_OPT_DEFER_CALLBACKS,
    BEV_OPT_THREADSAFE,
    BUFFEREVENT_SSL_ACCEPTING,
    BUFFEREVENT_SSL_CONNECTING,
    BUFFEREVENT_SSL_OPEN,
    EV_READ,
    EV_WRITE,
    EVENT_BASE_COUNT_ADDED,
    ArgumentError,
    BufferEvent,
    EventBase,
    PairBufferEvent,
    StateError,
    TlsBufferEvent,
    thread,
)
from evsvc.core.bufferevent.tls import MOVES, Phase, Step
from evsvc.core.tls_engine import moved
from tests.core.bevs import LOOPBACK, Boom, Log, Pair, boom, never
from tests.core.test_leaks import growth
from tests.core.tls_ends import (
    HOST,
    Over,
    contexts,
    open_ends_over_a_pair,
    run_until,
    settle,
    shaken_engines,
)

CONNECTING, ACCEPTING = BUFFEREVENT_SSL_CONNECTING, BUFFEREVENT_SSL_ACCEPTING


@pytest.fixture(params=["socket", "filter"])
def over(request: pytest.FixtureRequest) -> Over:
    return Over(request.param)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.mark.parametrize("options", [0, int(BEV_OPT_DEFER_CALLBACKS)], ids=["at once", "deferred"])
@pytest.mark.parametrize("which", ["read", "write", "event"])
@pytest.mark.parametrize("side", [0, 1])
def test_each_callback_may_close_from_the_handshake_on(
    base: EventBase, over: Over, options: int, which: str, side: int
) -> None:
    """After it none runs, and nothing stays registered."""
    ends = over.ends(base, options)
    closed: list[TlsBufferEvent] = []

    def callback(name: str) -> Callable[..., None]:
        def run(bev: TlsBufferEvent, *args: object) -> None:
            assert bev not in closed
            if name == which and bev is ends[side]:
                closed.append(bev)
                bev.close()

        return run

    for bev in ends:
        bev.setcb(callback("read"), callback("write"), callback("event"))
        bev.enable(EV_READ)
        bev.write(bytes(50_000))
    settle(base)
    assert closed == [ends[side]]
    assert ends[side].ssl is None
    for bev in ends:
        bev.close()
    settle(base)
    assert base.num_events(EVENT_BASE_COUNT_ADDED) == 0


@pytest.mark.parametrize("when", ["at once", "after one pass"])
def test_closing_before_the_handshake_is_over(base: EventBase, over: Over, when: str) -> None:
    one, other = over.ends(base)
    with other:
        one.setcb(never, never, never)
        if when == "after one pass":
            base.post(one.close)
            settle(base)
        one.close()
        one.close()
        settle(base)
        assert one.closed
        assert one.fd == -1


def test_without_close_on_free_the_socket_stays_open(base: EventBase, pair: Pair) -> None:
    for fd in (pair[0], pair[0].fileno()):
        TlsBufferEvent.socket_new(base, fd, contexts()[0], CONNECTING, server_hostname=HOST).close()
        pair[0].send(b"x")
        assert pair[1].recv(9) == b"x"


def test_what_is_below_can_be_used_further(base: EventBase) -> None:
    """Without BEV_OPT_CLOSE_ON_FREE it has no callbacks, and reads as before."""
    one, other = PairBufferEvent.new(base)
    with one, other:
        bev = TlsBufferEvent.filter_new(one, contexts()[1], ACCEPTING)
        settle(base)
        bev.disable(EV_READ)
        bev.close()
        assert one.getcb() == (None, None, None, None)
        other.write(b"clear text")
        settle(base)
        assert one.read() == b"clear text"


def test_another_that_took_over_the_one_below_keeps_its_callbacks(base: EventBase) -> None:
    below, other = PairBufferEvent.new(base)
    with below, other:
        first = TlsBufferEvent.filter_new(below, contexts()[1], ACCEPTING)
        below.setcb(never, never, never, "another")
        first.close()
        assert below.getcb() == (never, never, never, "another")


def test_one_filter_of_tls_stands_on_a_bufferevent(base: EventBase) -> None:
    """Also where the program has replaced the callbacks; when it is closed, another may."""
    below, other = PairBufferEvent.new(base)
    with below, other:
        with TlsBufferEvent.filter_new(below, contexts()[1], ACCEPTING) as first:
            callbacks = below.getcb()
            for _ in range(2):
                with pytest.raises(StateError, match="TLS already"):
                    TlsBufferEvent.filter_new(below, contexts()[1], ACCEPTING)
                assert below.getcb() == callbacks
                callbacks = (never, never, never, None)
                below.setcb(*callbacks)
            with TlsBufferEvent.filter_new(first, contexts()[1], ACCEPTING) as inner:
                assert inner.underlying is first
        TlsBufferEvent.filter_new(below, contexts()[1], ACCEPTING).close()


def test_no_step_follows_the_one_that_closed_it(
    base: EventBase, over: Over, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may close between two steps."""
    one, other = over.ends(base)
    with one, other:
        settle(base)
        steps: list[TlsBufferEvent] = []

        def close(bev: TlsBufferEvent) -> bool:
            steps.append(bev)
            bev.close()
            return True

        monkeypatch.setattr(TlsBufferEvent, "_round", close)
        one._run()
        assert steps == [one]


def test_the_one_below_lives_as_long_as_it_is_needed(base: EventBase) -> None:
    """Its owner may close it first."""
    ends = PairBufferEvent.new(base)
    one, other = (
        TlsBufferEvent.filter_new(below, engine, BUFFEREVENT_SSL_OPEN)
        for below, engine in zip(ends, shaken_engines(), strict=True)
    )
    for below in ends:
        below.close()
    with one, other:
        one.setcb(None, None, never)
        one.write(b"x")
        settle(base)
    assert ends[0]._references == ends[1]._references == 0


def test_setfd_begins_anew(base: EventBase, over: Over, log: Log) -> None:
    """In the original state, with another handshake; the old descriptor stays open."""
    first, second = socket.socketpair(), socket.socketpair()
    client = log.attach(over.client(base, first[0]))
    with client, first[0], first[1], over.server(base, second[1]) as server:
        settle(base)
        client.write(b"kept")
        client.setfd(second[0])
        assert first[0].fileno() != -1
        assert client.fd == second[0].fileno()
        server.enable(EV_READ)
        settle(base)
        assert log.events == [BEV_EVENT_CONNECTED]
        assert server.read() == b"kept"
        client.shutdown()
        settle(base)
        client.setfd(None)
        assert client.fd == -1
        assert client.state is CONNECTING
        second[0].close()
        client.write(b"possible again after a shutdown")
        settle(base)
        assert log.events == [BEV_EVENT_CONNECTED]


def test_after_an_error_another_descriptor_is_as_good_as_new(
    base: EventBase, over: Over, log: Log
) -> None:
    first, second = socket.socketpair(), socket.socketpair()
    with log.attach(over.server(base, first[0])) as server:
        first[1].send(b"\x16\x03\x01\x00\x05hello")
        settle(base)
        assert log.events[0] & BEV_EVENT_ERROR
        first[1].close()
        server.replacefd(second[0])
        assert first[0].fileno() == -1
        server.enable(EV_READ)
        with over.client(base, second[1]) as client:
            client.write(b"hello")
            settle(base)
        assert log.events[1] == BEV_EVENT_CONNECTED
        assert log.data == b"hello"


@pytest.mark.parametrize("clean", [False, True])
def test_after_an_end_it_can_connect_again(base: EventBase, log: Log, clean: bool) -> None:
    """What the end has disabled below is enabled again."""
    context = contexts()[0]
    with (
        socket.create_server((LOOPBACK, 0)) as listening,
        log.attach(TlsBufferEvent.socket_new(base, None, context, CONNECTING)) as client,
    ):
        for turn in (1, 2):
            client.enable(EV_READ)
            client.connect(listening.getsockname())
            run_until(base, lambda: client.fd != -1)
            sock = listening.accept()[0]
            with Over("socket").server(base, sock) as server:
                server.write(b"hello")
                run_until(base, lambda: log.data == b"hello" * turn)  # noqa: B023
                if clean:
                    server.shutdown()
                    run_until(base, lambda: len(log.events) == 2 * turn)  # noqa: B023
            run_until(base, lambda: len(log.events) == 2 * turn)  # noqa: B023
            client.replacefd(None)
            assert client.ssl is None
        assert log.events[::2] == [BEV_EVENT_CONNECTED] * 2
        ends = log.events[1::2]
        assert all(bool(what & BEV_EVENT_EOF) is clean for what in ends)


def test_without_descriptor_below_there_is_none_to_set(base: EventBase) -> None:
    one, other = open_ends_over_a_pair(base, 0)
    with one, other:
        assert one.fd == -1
        assert one.socket is None
        assert one.dns_error == 0
        for call in (one.setfd, one.replacefd):
            with pytest.raises(StateError, match="PairBufferEvent"):
                call(-1)


def test_a_restart_from_a_callback(base: EventBase, log: Log) -> None:
    """The rest of what the old connection had brought is not the new one's."""
    over = Over("socket")
    first, second = socket.socketpair(), socket.socketpair()
    client = over.client(base, first[0])
    server = over.server(base, first[1])
    seen = bytearray()

    def readable(bev: TlsBufferEvent, ctx: object) -> None:
        seen.extend(bev.read())
        if seen == b"o":
            bev.replacefd(second[0])

    with client, server, over.server(base, second[1]) as successor:
        client.setcb(readable, None, log.event)
        client.setwatermark(EV_READ, 0, 1)
        client.enable(EV_READ)
        server.write(b"old")
        successor.write(b"new")
        settle(base)
        assert seen == b"onew"
        assert log.events == [BEV_EVENT_CONNECTED] * 2


def test_an_exception_in_a_callback_does_not_stop_the_rest(base: EventBase, over: Over) -> None:
    one, other = over.ends(base)
    caught: list[Exception] = []
    base.exception_handler = caught.append
    received = bytearray()

    def readable(bev: TlsBufferEvent, ctx: object) -> None:
        received.extend(bev.read())
        raise Boom

    with one, other:
        one.setcb(None, boom, boom)
        other.setcb(readable, None, boom)
        other.enable(EV_READ)
        one.write(bytes(1_000_000))
        settle(base)
        assert received == bytes(1_000_000)
        assert all(isinstance(exc, Boom) for exc in caught)
        assert len(caught) > 3


def test_a_write_that_fails_is_told_with_its_direction(
    base: EventBase, over: Over, log: Log
) -> None:
    one, other = over.ends(base)
    with one, other:
        settle(base)
        log.attach(one)
        other.close()
        one.write(bytes(100))
        settle(base)
        assert log.events == [BEV_EVENT_WRITING | BEV_EVENT_ERROR]
        assert isinstance(one.error, BrokenPipeError | ConnectionResetError)
        assert not one.enabled & EV_WRITE


def test_the_priority_is_that_of_all_it_does(pair: Pair, over: Over) -> None:
    """Refused for filters of functions and pairs, not for TLS."""
    with EventBase() as base:
        base.priority_init(3)
        with over.client(base, pair[0]) as bev:
            assert bev.priority == 1
            with pytest.raises(StateError, match="due"):
                bev.priority = 0
            settle(base)
            bev.priority = 2
            assert bev._turn.priority == 2
            assert bev._handshake_limit is not None
            assert bev._handshake_limit.event.priority == 2


def test_it_does_not_move_to_another_base(base: EventBase, over: Over) -> None:
    one, other = over.ends(base)
    with one, other, EventBase() as second, pytest.raises(StateError, match="base"):
        one.base = second


def test_another_thread_may_write(monkeypatch: pytest.MonkeyPatch, over: Over, log: Log) -> None:
    """With BEV_OPT_THREADSAFE; the one below has the same lock."""
    monkeypatch.setattr(thread._settings, "locking", True)
    lines = 200
    with EventBase() as base:
        sockets = socket.socketpair()
        options = BEV_OPT_CLOSE_ON_FREE | BEV_OPT_THREADSAFE
        ends = []
        for sock, context, state in zip(sockets, contexts(), (CONNECTING, ACCEPTING), strict=True):
            if over.kind == "socket":
                bev = TlsBufferEvent.socket_new(
                    base, sock, context, state, options, server_hostname=HOST
                )
            else:
                below = BufferEvent(base, sock, options)
                bev = TlsBufferEvent.filter_new(
                    below, context, state, options, server_hostname=HOST
                )
            assert bev.mutex is bev._below.bev.mutex
            ends.append(bev)
        with ends[0], ends[1]:
            log.attach(ends[1]).enable(EV_READ)

            def write() -> None:
                for number in range(lines):
                    ends[0].write(b"%d\n" % number)

            writer = threading.Thread(target=write)
            writer.start()
            run_until(base, lambda: log.data.count(b"\n") == lines)
            writer.join()
            assert log.data == b"".join(b"%d\n" % number for number in range(lines))


def test_threadsafe_wants_it_below(base: EventBase, pair: Pair) -> None:
    with (
        BufferEvent(base, pair[0]) as below,
        pytest.raises(ArgumentError, match="THREADSAFE"),
    ):
        TlsBufferEvent.filter_new(below, contexts()[1], ACCEPTING, BEV_OPT_THREADSAFE)
    settle(base)
    pair[0].send(b"x")


@pytest.mark.no_cover
@pytest.mark.parametrize("ending", ["clean", "cut", "refused"])
def test_a_thousand_handshakes_leave_nothing(over: Over, ending: str) -> None:
    """With the cyclic collector off; ended by both, cut off, or refused for the host name."""
    with EventBase() as base:

        def one() -> None:
            sockets = socket.socketpair()
            client = over.client(
                base, sockets[0], server_hostname="no.example" if ending == "refused" else HOST
            )
            server = over.server(base, sockets[1])
            for bev in (client, server):
                bev.setcb(lambda bev, ctx: bev.read(), None, lambda bev, what, ctx: None, bev)
                bev.enable(EV_READ)
                bev.write(b"0123456789")
            settle(base)
            if ending == "clean":
                client.shutdown()
                server.shutdown()
                settle(base)
            client.close()
            settle(base)
            server.close()

        gc.collect()
        gc.disable()
        try:
            assert growth(one, 1000 if ending == "clean" else 200) < 200
        finally:
            gc.enable()


@pytest.mark.parametrize(("phase", "step"), list(itertools.product(Phase, Step)))
def test_only_listed_moves_are_legal(phase: Phase, step: Step) -> None:
    if (phase, step) in MOVES:
        assert moved(MOVES, phase, step) is MOVES[phase, step]
    else:
        with pytest.raises(StateError, match=f"{step.name} is not legal .* {phase.name}"):
            moved(MOVES, phase, step)


def test_every_phase_leads_to_the_end_and_back() -> None:
    for phase in Phase:
        assert phase is Phase.DEAD or MOVES[phase, Step.FAIL] is Phase.DEAD
        assert MOVES[phase, Step.RESTART] is Phase.WAITING
    assert set(MOVES.values()) == set(Phase)


@pytest.mark.parametrize("which", ["read", "write", "event", "data"])
def test_no_callback_runs_under_the_lock(
    monkeypatch: pytest.MonkeyPatch, over: Over, which: str
) -> None:
    """Else a program's thread that waits for the lock, and is waited for, would wait for ever."""
    monkeypatch.setattr(thread._settings, "locking", True)
    options = BEV_OPT_CLOSE_ON_FREE | BEV_OPT_THREADSAFE
    free: list[bool] = []

    def look(bev: TlsBufferEvent) -> None:
        bev.lock()
        bev.unlock()
        free.append(True)

    def callback(name: str) -> Callable[..., None]:
        def run(bev: TlsBufferEvent, *args: object) -> None:
            if name == which:
                other = threading.Thread(target=look, args=(bev,), daemon=True)
                other.start()
                other.join(10)
                if not free:
                    base.loopbreak()

        return run

    with EventBase() as base:
        sockets = socket.socketpair()
        bevs = []
        for sock, context, state in zip(sockets, contexts(), (CONNECTING, ACCEPTING), strict=True):
            if over.kind == "socket":
                bev = TlsBufferEvent.socket_new(
                    base, sock, context, state, options, server_hostname=HOST
                )
            else:
                below = BufferEvent(base, sock, options)
                bev = TlsBufferEvent.filter_new(
                    below, context, state, options, server_hostname=HOST
                )
            bevs.append(bev)
        with bevs[0], bevs[1]:
            bevs[0].setcb(None, callback("write"), callback("event"))
            bevs[1].setcb(callback("read"), None, None)
            if which == "data":
                bevs[1].set_datacb(callback("data"))
            bevs[1].enable(EV_READ)
            bevs[0].write(b"hello")
            settle(base)
            assert free == [True]


def test_what_is_below_a_socket_has_the_same_priority(pair: Pair) -> None:
    """Also for the events that it makes later."""
    with EventBase() as base:
        base.priority_init(3)
        with Over("socket").client(base, pair[0]) as bev:
            settle(base)
            bev.priority = 2
            assert bev._below.bev.priority == 2
        below = BufferEvent(base, pair[1], BEV_OPT_CLOSE_ON_FREE)
        with TlsBufferEvent.filter_new(
            below, contexts()[1], ACCEPTING, BEV_OPT_CLOSE_ON_FREE
        ) as bev:
            settle(base)
            bev.priority = 2
            assert below.priority == 1
