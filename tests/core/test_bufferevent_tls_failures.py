"""What is told of a wire that cannot write any more, and what is left of an engine that failed."""

from __future__ import annotations

import socket

import pytest

from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    BEV_EVENT_WRITING,
    BEV_OPT_DEFER_CALLBACKS,
    BUFFEREVENT_SSL_OPEN,
    EV_READ,
    EV_WRITE,
    BevEvent,
    EventBase,
    TlsBufferEvent,
)
from tests.core.bevs import Log, Pair
from tests.core.tls_ends import Over, TlsEnds, settle, shaken_engines

READING_EOF = BEV_EVENT_READING | BEV_EVENT_EOF
WRITE_ERROR = BEV_EVENT_WRITING | BEV_EVENT_ERROR
GONE = BrokenPipeError | ConnectionResetError
OPTIONS = pytest.mark.parametrize(
    "options", [0, int(BEV_OPT_DEFER_CALLBACKS)], ids=["at once", "deferred"]
)


@pytest.fixture(params=["socket", "filter"])
def over(request: pytest.FixtureRequest) -> Over:
    return Over(request.param)


@pytest.fixture
def log() -> Log:
    return Log()


def hurried_client(ends: TlsEnds) -> None:
    """Have the client write, shut down and close before it has read the server's tickets."""
    client = ends[0]
    client.setcb(None, lambda bev, ctx: bev.close(), None)
    client.write(bytes(100_000))
    client.shutdown()


@OPTIONS
def test_tickets_that_cannot_be_sent_are_no_error(
    base: EventBase, over: Over, log: Log, options: int
) -> None:
    """The client's data and its close_notify are read as if the server had sent none."""
    one, other = socket.socketpair()
    ends = over.client(base, one), over.server(base, other, options=options)
    with ends[0], log.attach(ends[1]) as server:
        server.enable(EV_READ)
        hurried_client(ends)
        settle(base)
        assert isinstance(server._write_error, GONE)
        assert log.events == [BEV_EVENT_CONNECTED, READING_EOF]
        assert log.data == bytes(100_000)
        assert server.error is None


def test_after_lost_tickets_what_is_written_is_an_error(
    base: EventBase, over: Over, log: Log
) -> None:
    ends = over.ends(base)
    with ends[0], log.attach(ends[1]) as server:
        server.enable(EV_READ)
        hurried_client(ends)
        settle(base)
        server.write(b"too late")
        settle(base)
        assert log.events == [BEV_EVENT_CONNECTED, READING_EOF, WRITE_ERROR]
        assert isinstance(server.error, GONE)
        assert not server.enabled & EV_WRITE


def test_after_lost_tickets_a_shutdown_is_an_error(base: EventBase, over: Over, log: Log) -> None:
    ends = over.ends(base)
    with ends[0], log.attach(ends[1]) as server:
        server.enable(EV_READ)
        hurried_client(ends)
        settle(base)
        server.shutdown()
        settle(base)
        assert log.events == [BEV_EVENT_CONNECTED, READING_EOF, WRITE_ERROR]


def test_with_lost_tickets_a_program_that_asks_to_write_is_called(
    base: EventBase, over: Over, log: Log
) -> None:
    """Enabling EV_WRITE gets one callback; it does not wait for tickets that never go."""
    ends = over.ends(base)

    def on_event(bev: TlsBufferEvent, what: BevEvent, ctx: object) -> None:
        log.event(bev, what, ctx)  # type: ignore[arg-type]
        if what == BEV_EVENT_CONNECTED:
            bev.enable(EV_READ | EV_WRITE)

    with ends[0], ends[1] as server:
        server.setcb(log.read, log.write, on_event)
        hurried_client(ends)
        settle(base)
        assert isinstance(server._write_error, GONE)
        assert log.calls.count("write") == 1
        assert log.events == [BEV_EVENT_CONNECTED, READING_EOF]


@OPTIONS
def test_what_can_be_read_comes_before_an_error_of_writing(
    base: EventBase, over: Over, log: Log, options: int
) -> None:
    """Here what we write is lost, and told; but what the peer had sent is not, nor its end."""
    one, other = over.ends(base, options)
    with one, other:
        settle(base)
        one.write(bytes(50_000))
        settle(base)
        one.close()
        log.attach(other)
        other.enable(EV_READ)
        other.write(b"lost")
        settle(base)
        assert log.data == bytes(50_000)
        assert log.calls.index("event") == log.calls.count("read")
        assert log.events[-1] & WRITE_ERROR == WRITE_ERROR
        assert not other.enabled


def test_an_error_of_writing_does_not_wait_for_a_full_input(
    base: EventBase, over: Over, log: Log
) -> None:
    """A program that takes no more before it can write would wait for ever."""
    one, other = over.ends(base)
    with one, other:
        settle(base)
        one.write(bytes(50_000))
        settle(base)
        one.close()
        other.setcb(None, None, log.event)
        other.setwatermark(EV_READ, 0, 4)
        other.enable(EV_READ)
        other.write(b"lost")
        settle(base)
        assert log.events == [WRITE_ERROR]
        assert other.read() == bytes(4)


def test_an_error_of_writing_does_not_wait_for_a_silent_peer(
    base: EventBase, over: Over, pair: Pair, log: Log
) -> None:
    """One that reads no more may still send, and take its time."""
    server = shaken_engines()[1]
    with log.attach(over.new(base, pair[0], server, BUFFEREVENT_SSL_OPEN)) as bev:
        bev.enable(EV_READ)
        pair[1].shutdown(socket.SHUT_RD)
        bev.write(b"lost")
        settle(base)
        assert log.events == [WRITE_ERROR]
        assert bev.enabled == EV_READ


@pytest.mark.parametrize("when", ["in the handshake", "afterwards"])
def test_an_engine_that_has_failed_is_disabled_both_ways(
    base: EventBase, over: Over, pair: Pair, log: Log, when: str
) -> None:
    """So the program sees that nothing will be written any more, either."""
    if when == "afterwards":
        bev = over.new(base, pair[0], shaken_engines()[1], BUFFEREVENT_SSL_OPEN)
        garbage = b"\x17\x03\x03\x00\x20" + bytes(32)
    else:
        bev = over.server(base, pair[0])
        garbage = b"\x16\x03\x01\x00\x05hello"
    enabled: list[int] = []
    with bev:
        bev.setcb(None, None, lambda bev, what, ctx: enabled.append(int(bev.enabled)))
        bev.enable(EV_READ | EV_WRITE)
        pair[1].send(garbage)
        settle(base)
        assert enabled == [0]
        assert bev.enabled == 0


def test_an_end_in_the_handshake_disables_both_ways(
    base: EventBase, over: Over, pair: Pair
) -> None:
    with over.client(base, pair[0]) as client:
        client.enable(EV_READ | EV_WRITE)
        settle(base)
        pair[1].close()
        settle(base)
        assert client.enabled == 0


def test_after_a_failure_another_descriptor_can_be_written_to(
    base: EventBase, over: Over, pair: Pair
) -> None:
    """As a fresh one can, without being enabled."""
    second = socket.socketpair()
    with over.server(base, pair[0]) as server:
        pair[1].send(b"\x16\x03\x01\x00\x05hello")
        settle(base)
        server.replacefd(second[0])
        assert server.enabled == EV_WRITE
        with over.client(base, second[1]) as client:
            client.enable(EV_READ)
            server.write(b"hello")
            settle(base)
            assert client.read() == b"hello"
