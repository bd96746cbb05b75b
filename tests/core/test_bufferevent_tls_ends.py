"""How TLS ends: nothing that was sent is lost, half-close, and letting go with `finish`."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator

import pytest

from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    BEV_EVENT_WRITING,
    BEV_OPT_CLOSE_ON_FREE,
    BUFFEREVENT_SSL_ACCEPTING,
    BUFFEREVENT_SSL_CONNECTING,
    BUFFEREVENT_SSL_OPEN,
    EV_READ,
    EV_WRITE,
    EVENT_BASE_COUNT_ADDED,
    BevEvent,
    BufferEvent,
    EventBase,
    FakeClock,
    FilterBufferEvent,
    PairBufferEvent,
    StateError,
    TlsBufferEvent,
)
from tests.core.bevs import LOOPBACK, Log, Pair, never
from tests.core.tls_ends import (
    HOST,
    Over,
    TlsEnds,
    client_context_for,
    contexts,
    issue,
    run_until,
    server_context_for,
    settle,
    shaken_engines,
)

CONNECTING, ACCEPTING = BUFFEREVENT_SSL_CONNECTING, BUFFEREVENT_SSL_ACCEPTING
READING_EOF = BEV_EVENT_READING | BEV_EVENT_EOF
READ_ERROR = BEV_EVENT_READING | BEV_EVENT_ERROR
WRITE_ERROR = BEV_EVENT_WRITING | BEV_EVENT_ERROR
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]

# Within one record, one batch, the kernel's buffers, and beyond all of them.
SIZES = [100, 200_000, 1_000_000, 8_000_000]


@pytest.fixture(params=["socket", "filter"])
def over(request: pytest.FixtureRequest) -> Over:
    return Over(request.param)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def tcp() -> Iterator[Pair]:
    """Return a TCP connection, where unread bytes turn a close into a reset."""
    with socket.create_server((LOOPBACK, 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        other = listening.accept()[0]
    with one, other:
        yield one, other


def ends_over_filters(base: EventBase, tcp: Pair) -> TlsEnds:
    """Return both ends over a filter over a socket."""
    client, server = (
        TlsBufferEvent.filter_new(
            FilterBufferEvent(
                BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE), None, None, BEV_OPT_CLOSE_ON_FREE
            ),
            context,
            state,
            BEV_OPT_CLOSE_ON_FREE,
            server_hostname=HOST,
        )
        for sock, context, state in zip(tcp, contexts(), (CONNECTING, ACCEPTING), strict=True)
    )
    return client, server


def ends_over_a_pair(base: EventBase, tcp: Pair) -> TlsEnds:
    client, server = (
        TlsBufferEvent.filter_new(
            below, context, state, BEV_OPT_CLOSE_ON_FREE, server_hostname=HOST
        )
        for below, context, state in zip(
            PairBufferEvent.new(base), contexts(), (CONNECTING, ACCEPTING), strict=True
        )
    )
    return client, server


def ends_over_sockets(base: EventBase, tcp: Pair) -> TlsEnds:
    over = Over("socket")
    return over.client(base, tcp[0]), over.server(base, tcp[1])


def ends_with_tls_1_2(base: EventBase, tcp: Pair) -> TlsEnds:
    context = client_context_for()
    context.maximum_version = VERSIONS[0]
    over = Over("socket")
    return over.client(base, tcp[0], context=context), over.server(base, tcp[1])


MAKERS = pytest.mark.parametrize(
    "make", [ends_over_sockets, ends_with_tls_1_2, ends_over_filters, ends_over_a_pair]
)


@MAKERS
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [0, 1], ids=["client", "server"])
def test_who_only_sends_and_closes_at_the_last_callback_loses_nothing(
    base: EventBase,
    tcp: Pair,
    log: Log,
    make: Callable[[EventBase, Pair], TlsEnds],
    size: int,
    side: int,
) -> None:
    """Though the peer's tickets, or its own data, are never read, and it reads late itself."""
    ends = make(base, tcp)
    sender, receiver = ends[side], ends[1 - side]
    with sender, receiver:
        sender.setcb(None, lambda bev, ctx: len(bev.output) or bev.close(), None)
        sender.write(bytes(size))
        sender.shutdown_write()
        receiver.setcb(None, None, log.event)
        if make is not ends_over_a_pair:  # whose partner knows at once that it is gone
            receiver.write(b"nobody reads this")
        run_until(base, lambda: log.events)
        base.post(lambda: log.attach(receiver).enable(EV_READ))
        run_until(base, lambda: len(log.events) == 2)
        assert log.events == [BEV_EVENT_CONNECTED, READING_EOF]
        assert len(log.data) == size
        assert sender.closed
        assert receiver.error is None


def test_a_slow_reader_gets_all_of_a_closed_client(base: EventBase, tcp: Pair, log: Log) -> None:
    """One that takes a little in each pass, of more than the kernel holds."""
    client, server = ends_over_sockets(base, tcp)
    size = 4_000_000
    received = bytearray()

    def take(bev: TlsBufferEvent, ctx: object) -> None:
        received.extend(bev.read(20_000))

    with client, server:
        server.setcb(take, None, log.event)
        server.setwatermark(EV_READ, 0, 20_000)
        server.enable(EV_READ)
        client.setcb(None, lambda bev, ctx: len(bev.output) or bev.close(), None)
        client.write(bytes(size))
        client.shutdown_write()
        run_until(base, lambda: len(log.events) == 2)
        received.extend(server.read())
        assert len(received) == size
        assert log.events == [BEV_EVENT_CONNECTED, READING_EOF]


@pytest.mark.parametrize("when", ["before the handshake", "after it"])
def test_a_half_close_leaves_the_other_direction_open(
    base: EventBase, over: Over, tcp: Pair, log: Log, when: str
) -> None:
    """It is a close_notify: what is below is not ended by it."""
    client, server = over.client(base, tcp[0]), over.server(base, tcp[1])
    mine = Log()
    with client, server:
        mine.attach(client).enable(EV_READ)
        log.attach(server).enable(EV_READ)
        if when == "after it":
            run_until(base, lambda: mine.events and log.events)
        client.write(b"question")
        client.shutdown_write()
        client.shutdown_write()
        with pytest.raises(StateError, match="frozen"):
            client.write(b"more")
        run_until(base, lambda: len(log.events) == 2)
        assert log.events == [BEV_EVENT_CONNECTED, READING_EOF]
        assert log.data == b"question"
        assert mine.calls.count("write") == 1
        server.write(b"answer")
        run_until(base, lambda: mine.data == b"answer")
        server.shutdown()
        run_until(base, lambda: len(mine.events) == 2)
        assert mine.events == [BEV_EVENT_CONNECTED, READING_EOF]


def test_a_half_close_waits_while_writing_is_disabled(
    base: EventBase, over: Over, log: Log
) -> None:
    one, other = over.ends(base)
    with one, other:
        log.attach(other).enable(EV_READ)
        settle(base)
        one.disable(EV_WRITE)
        one.shutdown_write()
        settle(base)
        assert log.events == [BEV_EVENT_CONNECTED]
        one.enable(EV_WRITE)
        settle(base)
        assert log.events == [BEV_EVENT_CONNECTED, READING_EOF]


@MAKERS
@pytest.mark.parametrize("when", ["before the handshake", "after it"])
def test_finish_sends_the_rest_and_closes_when_the_peer_has(
    base: EventBase, tcp: Pair, log: Log, make: Callable[[EventBase, Pair], TlsEnds], when: str
) -> None:
    """To the program it is closed at once; the peer sees a clean end, and may take its time."""
    client, server = make(base, tcp)
    with client, server:
        client.setcb(never, never, never if when == "before the handshake" else None)
        log.attach(server).enable(EV_READ)
        if when == "after it":
            run_until(base, lambda: log.events)
        client.write(bytes(1_000_000))
        client.finish()
        client.finish()
        assert client.closed
        run_until(base, lambda: len(log.events) == 2)
        assert log.events == [BEV_EVENT_CONNECTED, READING_EOF]
        assert len(log.data) == 1_000_000
        server.write(b"nobody hears this")
        settle(base)
        assert server.error is None
        assert client.ssl is not None
        server.finish()
        run_until(base, lambda: client.ssl is None and server.ssl is None)
        assert base.num_events(EVENT_BASE_COUNT_ADDED) == 0


def test_finish_ends_what_is_below_too(base: EventBase, over: Over, tcp: Pair) -> None:
    """After the close_notify, which then is not the first of two ends to be waited for."""
    engine, peer = shaken_engines()
    bev = over.new(base, tcp[0], engine, BUFFEREVENT_SSL_OPEN)
    with bev:
        bev.shutdown_write()
        settle(base)
        peer.handshake()
        peer.feed(tcp[1].recv(9999))
        assert peer.decrypt() == b""
        tcp[1].setblocking(False)
        with pytest.raises(BlockingIOError):
            tcp[1].recv(9999)
        bev.finish()
        settle(base)
        assert tcp[1].recv(9999) == b""
        assert bev.fd != -1
        tcp[1].close()
        run_until(base, lambda: bev.fd == -1)


@pytest.mark.parametrize("when", ["in the handshake", "afterwards"])
def test_finish_has_its_time(
    fake_base: EventBase, clock: FakeClock, over: Over, pair: Pair, when: str
) -> None:
    """A peer that says nothing, or does not end, is not waited for longer."""
    client = over.client(fake_base, pair[0], handshake_timeout_s=None)
    server = None if when == "in the handshake" else over.server(fake_base, pair[1])
    with client:
        settle(fake_base)
        start = clock.monotonic()
        client.finish(7)
        if server is not None:
            server.enable(EV_READ)
        fake_base.dispatch()
        assert client.fd == -1
        assert clock.monotonic() - start == pytest.approx(7)
    if server is not None:
        server.close()


@pytest.mark.parametrize("what", ["garbage", "handshake_timeout", "refused"])
def test_finish_is_over_when_the_engine_fails(
    fake_base: EventBase, clock: FakeClock, over: Over, pair: Pair, what: str
) -> None:
    with over.client(fake_base, pair[0], handshake_timeout_s=3) as client:
        settle(fake_base)
        client.write(b"never sent")
        client.finish()
        start = clock.monotonic()
        if what == "garbage":
            pair[1].send(b"\x16\x03\x01\x00\x05hello")
        elif what == "refused":
            pair[1].close()
        fake_base.dispatch()
        assert client.fd == -1
        assert client.ssl is None
        assert clock.monotonic() - start == pytest.approx(3 if what == "handshake_timeout" else 0)


def test_finish_of_one_that_never_had_a_connection_closes_it(base: EventBase) -> None:
    with TlsBufferEvent.socket_new(base, None, contexts()[0], CONNECTING) as client:
        client.finish()
        assert client.ssl is None
        settle(base)
        assert base.num_events(EVENT_BASE_COUNT_ADDED) == 0


@pytest.mark.parametrize("make", [ends_over_sockets, ends_over_filters])
def test_what_the_peer_said_comes_before_an_error_of_our_writing(
    base: EventBase, tcp: Pair, log: Log, make: Callable[[EventBase, Pair], TlsEnds]
) -> None:
    """It says why it refuses, then resets, while we still send and are busy."""
    client, server = make(base, tcp)
    with client, server:
        log.attach(client).enable(EV_READ)
        server.setcb(None, None, None)
        run_until(base, lambda: log.events)
        client.write(bytes(8_000_000))
        settle(base)
        server.write(b"552 too big\n")
        settle(base)
        tcp[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.close()
        run_until(base, lambda: len(log.events) == 3)
        assert log.data == b"552 too big\n"
        assert log.calls.index("read") < log.calls.index("event", 1)
        assert log.events[1:] == [READ_ERROR, WRITE_ERROR]
        assert isinstance(client.error, OSError)
        assert client.error.errno


def test_the_peers_alert_is_the_error_and_not_what_became_of_our_writing(
    base: EventBase, tcp: Pair, log: Log
) -> None:
    """A client without certificate: the server says so and has gone before the client writes."""
    asking = server_context_for(issue(HOST), asks_clients=True)
    over = Over("socket")
    client = log.attach(over.client(base, tcp[0]))
    server = over.server(base, tcp[1], context=asking)
    with client, server:
        server.setcb(None, None, lambda bev, what, ctx: bev.close())
        client.setcb(None, None, log.event)
        run_until(base, lambda: server.closed)
        client.write(bytes(100_000))
        client.enable(EV_READ)
        run_until(base, lambda: len(log.events) == 2)
        assert log.events == [BEV_EVENT_CONNECTED, READ_ERROR]
        assert "CERTIFICATE_REQUIRED" in str(getattr(client.error, "reason", ""))


def test_an_end_is_told_once(base: EventBase, over: Over, pair: Pair) -> None:
    """Whatever is enabled and written afterwards."""
    told: list[BevEvent] = []
    engine, peer = shaken_engines()
    with over.new(base, pair[0], engine, BUFFEREVENT_SSL_OPEN) as bev:
        bev.setcb(None, None, lambda bev, what, ctx: told.append(what))
        bev.enable(EV_READ)
        peer.close_notify()
        pair[1].send(peer.data_to_send())
        settle(base)
        bev.enable(EV_READ)
        bev.write(b"still possible")
        settle(base)
        assert told == [READING_EOF]
        peer.feed(pair[1].recv(999))
        assert peer.handshake()
        assert peer.decrypt() == b"still possible"
