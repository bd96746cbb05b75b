"""TLS bufferevents over sockets and over other bufferevents: data, ends, errors."""

from __future__ import annotations

import socket
import ssl

import pytest

from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    BEV_OPT_DEFER_CALLBACKS,
    BUFFEREVENT_SSL_ACCEPTING,
    BUFFEREVENT_SSL_BATCH_WRITE,
    BUFFEREVENT_SSL_CONNECTING,
    BUFFEREVENT_SSL_DIRTY_SHUTDOWN,
    BUFFEREVENT_SSL_OPEN,
    EV_READ,
    ArgumentError,
    BevEvent,
    BufferEvent,
    EventBase,
    StateError,
    TlsBufferEvent,
)
from evsvc.core.bufferevent.tls import MAX_STORED_ERRORS
from tests.core.bevs import Log, Pair, never
from tests.core.tls_ends import (
    HOST,
    Over,
    contexts,
    issue,
    server_context_for,
    settle,
    shaken_engines,
)

OPTIONS = pytest.mark.parametrize(
    "options", [0, int(BEV_OPT_DEFER_CALLBACKS)], ids=["at once", "deferred"]
)
EOF = BEV_EVENT_EOF
READING_EOF = BEV_EVENT_READING | BEV_EVENT_EOF


@pytest.fixture(params=["socket", "filter"])
def over(request: pytest.FixtureRequest) -> Over:
    return Over(request.param)


@pytest.fixture
def log() -> Log:
    return Log()


class Player:
    """One side of a ping-pong: answers each number with the next one."""

    def __init__(self, bev: TlsBufferEvent, last: int) -> None:
        self.bev = bev
        self.last = last
        self.seen: list[int] = []
        self.connected = 0
        self.others: list[BevEvent] = []
        bev.setcb(self.read, None, self.event)
        bev.enable(EV_READ)

    def serve(self) -> None:
        self.bev.write(b"1\n")

    def read(self, bev: TlsBufferEvent, ctx: object) -> None:
        while (line := bev.input.readln()) is not None:
            self.seen.append(int(line))
            if self.seen[-1] < self.last:
                bev.write(b"%d\n" % (self.seen[-1] + 1))

    def event(self, bev: TlsBufferEvent, what: BevEvent, ctx: object) -> None:
        if what == BEV_EVENT_CONNECTED:
            self.connected += 1
        else:
            self.others.append(what)


@OPTIONS
@pytest.mark.parametrize("when", ["before", "connected"])
def test_ping_pong_of_1001_lines(base: EventBase, over: Over, options: int, when: str) -> None:
    """Over both kinds, written before the handshake or in the connected callback: both sides are
    told CONNECTED once; the client sees a peer certificate, the server does not."""
    one, other = over.ends(base, options)
    client, server = Player(one, 1001), Player(other, 1001)
    if when == "before":
        client.serve()
    else:
        client.event = lambda bev, what, ctx: client.serve()  # type: ignore[method-assign]
        one.setcb(client.read, None, client.event)
        client.connected = 1
    with one, other:
        settle(base)
        assert server.seen == list(range(1, 1002, 2))
        assert client.seen == list(range(2, 1001, 2))
        assert (client.connected, server.connected) == (1, 1)
        assert client.others == server.others == []
        assert one.ssl is not None
        assert other.ssl is not None
        assert dict(one.ssl.getpeercert() or {})["subjectAltName"][0] == ("DNS", HOST)
        assert not other.ssl.getpeercert()


@OPTIONS
@pytest.mark.parametrize("dirty", [False, True])
def test_the_side_closed_first_is_an_error_to_the_other_unless_dirty_is_allowed(
    base: EventBase, over: Over, log: Log, options: int, dirty: bool
) -> None:
    """One error normally; one EOF and no error with dirty shutdown.  Over a socket with READING,
    over another bufferevent bare.  `close` sends no close_notify."""
    one, other = over.ends(base, options)
    with one, other:
        one.enable(EV_READ)  # what is not read of the server's tickets would make it a reset
        settle(base)
        log.attach(other).enable(EV_READ)
        other.allow_dirty_shutdown = dirty
        one.close()
        settle(base)
        reading = BEV_EVENT_READING if over.kind == "socket" else BevEvent(0)
        if dirty:
            assert log.events == [BEV_EVENT_EOF | reading]
            assert other.error is None
        else:
            assert log.events == [BEV_EVENT_ERROR | reading]
            assert isinstance(other.error, ssl.SSLEOFError)
            assert other.get_openssl_error() is None
        assert not other.enabled & EV_READ


@OPTIONS
def test_an_open_engine_needs_no_handshake(
    base: EventBase, pair: Pair, over: Over, options: int
) -> None:
    """Starting in OPEN state on an already negotiated SSL object works, without CONNECTED."""
    engines = shaken_engines()
    one, other = (
        over.new(base, sock, engine, BUFFEREVENT_SSL_OPEN, options)
        for sock, engine in zip(pair, engines, strict=True)
    )
    with one, other:
        players = Player(one, 10), Player(other, 10)
        players[0].serve()
        assert one.ssl is engines[0].ssl
        settle(base)
        assert players[1].seen == [1, 3, 5, 7, 9]
        assert players[0].seen == [2, 4, 6, 8, 10]
        assert [player.connected for player in players] == [0, 0]


def test_in_the_event_callback_the_fd_is_right_and_closing_is_fine(
    base: EventBase, over: Over
) -> None:
    one, other = over.ends(base)
    fds: list[int] = []

    def on_event(bev: TlsBufferEvent, what: BevEvent, ctx: object) -> None:
        fds.append(bev.fd)
        bev.close()

    with one, other:
        expected = [one.fd, other.fd]
        one.setcb(never, never, on_event)
        other.setcb(never, never, on_event)
        settle(base)
        assert sorted(fds) == sorted(expected)
        assert one.closed
        assert other.closed


def test_the_handshake_reads_though_reading_is_disabled(
    base: EventBase, over: Over, log: Log
) -> None:
    """Data written before it is kept and sent afterwards."""
    one, other = over.ends(base)
    with one, other:
        log.attach(one)
        one.write(b"early ")
        one.write(b"words")
        assert one.state is BUFFEREVENT_SSL_CONNECTING
        assert other.state is BUFFEREVENT_SSL_ACCEPTING
        settle(base)
        assert one.state is other.state is BUFFEREVENT_SSL_OPEN
        assert log.calls == ["event", "write"]
        assert log.events == [BEV_EVENT_CONNECTED]
        assert other.read() == b""
        other.enable(EV_READ)
        settle(base)
        assert other.read() == b"early words"


def test_connected_alone_runs_no_write_callback(base: EventBase, over: Over, log: Log) -> None:
    one, other = over.ends(base)
    with one, other:
        log.attach(one).enable(EV_READ)
        settle(base)
        assert log.calls == ["event"]


def test_shutdown_is_a_clean_end_after_all_output(base: EventBase, over: Over, log: Log) -> None:
    """A close_notify is READING|EOF, after the data before it.  The write callback says that it
    is on its way; nothing can be written after it."""
    one, other = over.ends(base)
    mine = Log()
    with one, other:
        settle(base)
        mine.attach(one)
        log.attach(other).enable(EV_READ)
        one.write(b"last words")
        one.shutdown()
        one.shutdown()
        with pytest.raises(StateError, match="frozen"):
            one.write(b"more")
        settle(base)
        assert mine.calls == ["write"]
        assert log.calls == ["read", "event"]
        assert log.data == b"last words"
        assert log.events == [READING_EOF]
        assert other.error is None
        one.close()
        settle(base)
        assert log.events == [READING_EOF]


def test_closing_in_the_write_callback_loses_nothing(base: EventBase, over: Over, log: Log) -> None:
    """The output is not empty before the wire has sent it; so it is with the close_notify."""
    one, other = over.ends(base)
    left: list[int] = []

    def wrote(bev: TlsBufferEvent, ctx: object) -> None:
        left.append(len(bev.output))
        bev.close()

    with one, other:
        log.attach(other).enable(EV_READ)
        one.setcb(None, wrote, None)
        one.enable(EV_READ)
        one.write(bytes(1_000_000))
        one.shutdown()
        settle(base)
        assert left == [0]
        assert log.data == bytes(1_000_000)
        assert log.events == [BEV_EVENT_CONNECTED, READING_EOF]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_after_our_close_notify_the_peer_may_still_send(
    base: EventBase, over: Over, pair: Pair, log: Log, version: ssl.TLSVersion
) -> None:
    """Also what it had sent already when ours was written, and the program had not taken."""
    context = server_context_for(issue(HOST))
    context.maximum_version = version
    one, other = over.client(base, pair[0]), over.server(base, pair[1], context=context)
    with one, other:
        other.setcb(None, None, lambda bev, what, ctx: bev.write(b"after") if what & EOF else None)
        other.enable(EV_READ)
        settle(base)
        assert one.ssl is not None
        assert one.ssl.version() == version.name.replace("_", ".")
        other.write(b"before ")
        settle(base)
        one.setwatermark(EV_READ, 0, 3)
        one.enable(EV_READ)
        settle(base)
        assert one.read() == b"bef"
        one.shutdown()
        log.attach(one)
        one.setwatermark(EV_READ, 0, 0)
        settle(base)
        assert log.data == b"ore after"
        other.shutdown()
        settle(base)
        assert log.events == [READING_EOF]


@OPTIONS
def test_data_decoded_in_the_same_pass_come_before_the_end(
    base: EventBase, over: Over, log: Log, options: int
) -> None:
    one, other = over.ends(base, options)
    with one, other:
        settle(base)
        one.write(b"cut off")
        settle(base)
        one.close()
        log.attach(other).enable(EV_READ)
        settle(base)
        assert log.calls == ["read", "event"]
        assert log.data == b"cut off"
        assert log.events[0] & BEV_EVENT_ERROR


def test_an_end_waits_for_a_reader_that_is_not_ready(base: EventBase, over: Over, log: Log) -> None:
    """What is above the high watermark comes first, without another byte on the wire."""
    one, other = over.ends(base)
    with one, other:
        settle(base)
        other.setcb(None, None, log.event)
        other.setwatermark(EV_READ, 0, 4)
        other.enable(EV_READ)
        one.write(b"0123456789")
        settle(base)
        one.close()
        for expected in (b"0123", b"4567"):
            settle(base)
            assert log.events == []
            assert other.read() == expected
        settle(base)
        assert len(log.events) == 1
        assert other.read() == b"89"


def test_garbage_is_an_error_with_its_reason(
    base: EventBase, over: Over, pair: Pair, log: Log
) -> None:
    """In the handshake; the peer gets an alert before the socket is closed."""
    with log.attach(over.server(base, pair[0])) as server:
        server.setcb(log.read, log.write, lambda *args: (log.event(*args), server.close()))
        pair[1].send(b"\x16\x03\x01\x00\x05hello")
        settle(base)
        assert log.events == [BEV_EVENT_READING | BEV_EVENT_ERROR]
        assert isinstance(server.error, ssl.SSLError)
        assert server.error.reason == "UNEXPECTED_MESSAGE"
        assert pair[1].recv(99)[:1] == b"\x15"  # an alert record


def test_a_bad_record_is_one_error(base: EventBase, pair: Pair, over: Over, log: Log) -> None:
    """Later news of the wire are not told after it; the error can be popped once."""
    server = shaken_engines()[1]
    with log.attach(over.new(base, pair[0], server, BUFFEREVENT_SSL_OPEN)) as bev:
        bev.enable(EV_READ)
        pair[1].send(b"\x17\x03\x03\x00\x20" + bytes(32))
        pair[1].shutdown(socket.SHUT_WR)
        settle(base)
        assert log.events == [BEV_EVENT_READING | BEV_EVENT_ERROR]
        error = bev.get_openssl_error()
        assert error is bev.error
        assert isinstance(error, ssl.SSLError)
        assert "MAC" in str(error.reason)
        assert bev.get_openssl_error() is None


def test_the_last_few_errors_are_kept(base: EventBase, over: Over) -> None:
    one, other = over.ends(base)
    with one, other:
        errors = [ssl.SSLError(number) for number in range(MAX_STORED_ERRORS + 1)]
        one._engine_errors.extend(errors)
        popped = [one.get_openssl_error() for _ in range(MAX_STORED_ERRORS + 1)]
        assert popped == [*errors[:0:-1], None]


def test_an_end_in_the_handshake_is_an_error(
    base: EventBase, over: Over, pair: Pair, log: Log
) -> None:
    with log.attach(over.client(base, pair[0])) as client:
        settle(base)
        pair[1].close()
        settle(base)
        assert len(log.events) == 1
        assert log.events[0] & BEV_EVENT_ERROR
        client.enable(EV_READ)
        client.write(b"into the void")
        settle(base)
        assert len(log.events) == 1


def test_flags_are_set_one_by_one(base: EventBase, over: Over) -> None:
    one, other = over.ends(base)
    with one, other:
        assert one.ssl_flags == 0
        assert one.allow_dirty_shutdown is False
        one.ssl_flags |= BUFFEREVENT_SSL_DIRTY_SHUTDOWN | BUFFEREVENT_SSL_BATCH_WRITE
        assert one.allow_dirty_shutdown is True
        one.allow_dirty_shutdown = False
        assert one.ssl_flags == BUFFEREVENT_SSL_BATCH_WRITE
        one.allow_dirty_shutdown = True
        one.ssl_flags &= ~BUFFEREVENT_SSL_BATCH_WRITE
        assert one.ssl_flags == BUFFEREVENT_SSL_DIRTY_SHUTDOWN
        with pytest.raises(ArgumentError, match="0x4"):
            one.ssl_flags = 4


def test_the_underlying_one_is_ours_over_a_socket(base: EventBase, pair: Pair) -> None:
    """get_underlying: the inner bufferevent of an SSL filter; none otherwise."""
    client = contexts()[0]
    with TlsBufferEvent.socket_new(
        base, pair[0], client, BUFFEREVENT_SSL_CONNECTING, server_hostname=HOST
    ) as bev:
        assert bev.underlying is None
        assert bev.socket is pair[0]
        assert bev.fd == pair[0].fileno()
    with (
        BufferEvent(base, pair[1]) as below,
        TlsBufferEvent.filter_new(
            below, client, BUFFEREVENT_SSL_CONNECTING, server_hostname=HOST
        ) as bev,
    ):
        assert bev.underlying is below
        assert bev.socket is pair[1]
        assert bev.fd == pair[1].fileno()


def test_data_can_come_past_the_input(base: EventBase, over: Over) -> None:
    one, other = over.ends(base)
    pieces: list[tuple[TlsBufferEvent, bytes, object]] = []
    with one, other:
        other.setcb(never, None, None, "ctx")
        other.set_datacb(lambda bev, data, ctx: pieces.append((bev, data, ctx)))
        other.enable(EV_READ)
        one.write(b"x")
        settle(base)
        assert pieces == [(other, b"x", "ctx")]
        other.setcb(None, None, None)
        other.set_datacb(None)
        one.write(b"y")
        settle(base)
        assert other.read() == b"y"
