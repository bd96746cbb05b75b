"""What is told of a wire that cannot write any more, and what is left of an engine that failed."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    BEV_EVENT_WRITING,
    BEV_OPT_CLOSE_ON_FREE,
    BEV_OPT_DEFER_CALLBACKS,
    BUFFEREVENT_SSL_BATCH_WRITE,
    BUFFEREVENT_SSL_CONNECTING,
    BUFFEREVENT_SSL_OPEN,
    EV_READ,
    EV_WRITE,
    BevEvent,
    EvBuffer,
    EventBase,
    TlsBufferEvent,
    TokenBucketCfg,
)
from tests.core.bevs import Boom, Log, Pair, never
from tests.core.tls_ends import HOST, Over, TlsEnds, contexts, settle, shaken_engines

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
        assert log.events[-1] & WRITE_ERROR == WRITE_ERROR  # the end of reading may come before
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


@pytest.mark.parametrize("when", ["in the handshake", "afterwards", "time is over"])
def test_what_is_written_after_a_failure_is_dropped_with_one_line(
    fake_base: EventBase, over: Over, pair: Pair, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    """It would lie there for ever; enabling EV_WRITE does not help an engine that has failed."""
    if when == "afterwards":
        bev = over.new(fake_base, pair[0], shaken_engines()[1], BUFFEREVENT_SSL_OPEN)
        pair[1].send(b"\x17\x03\x03\x00\x20" + bytes(32))
        bev.enable(EV_READ)
    else:
        bev = over.server(fake_base, pair[0], handshake_timeout_s=3)
        if when == "in the handshake":
            pair[1].send(b"\x16\x03\x01\x00\x05hello")
    with bev:
        bev.setcb(never, never, lambda *args: None)
        settle(fake_base)
        if when == "time is over":
            fake_base.loopexit(4)
            fake_base.dispatch()
        for _ in range(3):
            bev.enable(EV_READ | EV_WRITE)
            bev.write(bytes(1000))
            settle(fake_base)
            assert len(bev.output) == 0
        (record,) = caplog.records
        assert record.name == "evsvc.core"
        assert "1000 bytes" in record.getMessage()


def test_after_a_lost_batch_nothing_more_is_encrypted(
    base: EventBase, over: Over, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    """The peer could not decrypt what follows; what it has sent is still read."""
    one, other = over.ends(base)
    with one, other:
        settle(base)
        one.write(b"heard")
        settle(base)
        one.close()
        log.attach(other)
        other.write(bytes(1000))
        settle(base)
        assert log.events == [WRITE_ERROR]
        other.enable(EV_READ | EV_WRITE)
        other.write(b"more")
        settle(base)
        assert log.data == b"heard"
        assert len(other.output) == 0
        assert log.events[1:] == [log.events[1]]
        assert log.events[1] & BEV_EVENT_ERROR
        assert len(caplog.records) == 1


def test_an_engine_that_has_said_its_last_cannot_write(
    base: EventBase, over: Over, pair: Pair, log: Log
) -> None:
    """A program may have ended it before it handed it in."""
    engine = shaken_engines()[0]
    engine.close_notify()
    with log.attach(over.new(base, pair[0], engine, BUFFEREVENT_SSL_OPEN)) as bev:
        bev.write(b"x")
        settle(base)
        assert log.events == [WRITE_ERROR]
        assert isinstance(bev.error, BrokenPipeError)
        assert bev.error.errno


@pytest.mark.parametrize("left", [0, 1, 4096, 70_000])
@pytest.mark.parametrize("flags", [0, int(BUFFEREVENT_SSL_BATCH_WRITE)])
def test_a_file_that_gets_shorter_fails_that_connection_alone(
    base: EventBase, tmp_path: Path, over: Over, log: Log, left: int, flags: int
) -> None:
    """While it is sent, or before; what was there of it may have gone."""
    path = tmp_path / "file"
    path.write_bytes(bytes(10_000_000))
    sender, receiver = over.ends(base)
    others = over.ends(base)
    received: list[int] = []
    with sender, receiver, others[0], others[1]:
        receiver.setcb(lambda bev, ctx: received.append(len(bev.read())), None, None)
        settle(base)
        sender.ssl_flags = flags  # type: ignore[assignment]
        log.attach(sender)
        sender.write(b"head")
        sender.output.add_file(os.open(path, os.O_RDONLY))
        sender.write(b"tail")
        if left != 70_000:
            settle(base)  # as much as the kernel takes
        os.truncate(path, left)
        receiver.enable(EV_READ)
        settle(base)
        assert log.events == [WRITE_ERROR]
        assert isinstance(sender.error, OSError)
        assert sender.error.errno
        assert sender.enabled == 0
        assert sum(received) < 10_000_008
        others[1].enable(EV_READ)
        others[0].write(b"goes on")
        settle(base)
        assert others[1].read() == b"goes on"


@pytest.mark.parametrize("what", ["refused", "garbage", "gone"])
def test_tls_over_tls_hears_that_there_is_no_connection(
    base: EventBase, pair: Pair, log: Log, what: str
) -> None:
    """The handshake below fails before the one above has begun."""
    name = "other.example" if what == "refused" else HOST
    below = Over("socket").client(base, pair[0], server_hostname=name)
    with log.attach(
        TlsBufferEvent.filter_new(
            below,
            contexts()[0],
            BUFFEREVENT_SSL_CONNECTING,
            BEV_OPT_CLOSE_ON_FREE,
            server_hostname=HOST,
        )
    ) as bev:
        settle(base)
        if what == "refused":
            with Over("socket").server(base, pair[1]):
                settle(base)
        elif what == "garbage":
            pair[1].send(b"\x16\x03\x01\x00\x05hello")
        else:
            pair[1].close()
        settle(base)
        assert len(log.events) == 1
        assert log.events[0] & BEV_EVENT_ERROR
        assert bev.error is below.error


def test_tls_over_tls_that_is_cut_off_is_cut_off(base: EventBase, pair: Pair, log: Log) -> None:
    """What came before is told first, whatever the one below says of it."""
    ends = [
        TlsBufferEvent.filter_new(
            Over("filter").new(base, sock, outer, BUFFEREVENT_SSL_OPEN),
            inner,
            BUFFEREVENT_SSL_OPEN,
            BEV_OPT_CLOSE_ON_FREE,
        )
        for sock, outer, inner in zip(pair, shaken_engines(), shaken_engines(), strict=True)
    ]
    with ends[0], log.attach(ends[1]):
        ends[1].enable(EV_READ)
        ends[0].write(b"the last")
        settle(base)
        ends[0].close()
        settle(base)
        assert log.data == b"the last"
        assert log.calls[-1] == "event"
        assert log.events == [BEV_EVENT_ERROR]
        assert isinstance(ends[1].error, ssl.SSLEOFError)
        assert not ends[1].enabled & EV_READ


def test_a_handshake_that_cannot_be_sent_is_an_error(
    base: EventBase, over: Over, pair: Pair, log: Log
) -> None:
    """The peer hears nothing, and has not ended itself."""
    with log.attach(over.client(base, pair[0])) as client:
        pair[1].shutdown(socket.SHUT_RD)
        settle(base)
        assert log.events == [WRITE_ERROR]
        assert isinstance(client.error, BrokenPipeError)
        assert client.enabled == 0


def test_a_limited_reader_hears_all_before_the_error_of_writing(
    fake_base: EventBase, over: Over, log: Log
) -> None:
    """It takes its time, and what the peer had sent is there."""
    one, other = over.ends(fake_base)
    with one, other:
        settle(fake_base)
        one.write(bytes(5000))
        settle(fake_base)
        one.close()
        log.attach(other)
        other.set_rate_limit(TokenBucketCfg(100, 1000, 10_000, 10_000))
        other.decrement_read_limit(100)
        other.enable(EV_READ)
        other.write(b"lost")
        settle(fake_base)
        assert log.calls == []
        fake_base.loopexit(100)
        fake_base.dispatch()
        assert len(log.data) == 5000
        assert log.calls.index("event") == log.calls.count("read")
        assert log.events[-1] & WRITE_ERROR == WRITE_ERROR


class StubbornObject:
    """An SSLObject some of whose writes are refused, as in a renegotiation, which Python's ssl
    cannot begin."""

    def __init__(self, ssl_object: ssl.SSLObject, refusals: list[ssl.SSLError]) -> None:
        self.ssl_object = ssl_object
        self.refusals = refusals

    def write(self, data: bytes) -> int:
        if self.refusals:
            raise self.refusals.pop(0)
        return self.ssl_object.write(data)

    def unwrap(self) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.ssl_object.unwrap()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ssl_object, name)


def stubborn(
    over: Over, base: EventBase, pair: Pair, *refusals: ssl.SSLError
) -> tuple[TlsBufferEvent, TlsBufferEvent]:
    engine, peer = shaken_engines()
    stub: Any = StubbornObject(engine.ssl, list(refusals))
    engine.ssl = stub
    return (
        over.new(base, pair[0], engine, BUFFEREVENT_SSL_OPEN),
        over.new(base, pair[1], peer, BUFFEREVENT_SSL_OPEN),
    )


@pytest.mark.parametrize("enabled", [0, int(EV_READ)])
def test_a_write_that_waits_for_the_peer_goes_on_with_its_bytes(
    base: EventBase, over: Over, pair: Pair, log: Log, enabled: int
) -> None:
    """Though the program reads nothing; in the order in which it was written."""
    waits = [ssl.SSLWantReadError(), ssl.SSLWantReadError()]
    bev, peer = stubborn(over, base, pair, *waits)
    with bev, peer:
        log.attach(bev)
        bev.enable(enabled)
        peer.enable(EV_READ)
        bev.write(b"first ")
        bev.write_buffer(buffer_of(b"second "))
        bev.shutdown_write()
        settle(base)
        assert log.calls == []
        assert len(bev.output) == len(b"first second ")
        for _ in waits:
            assert peer.read() == b""
            peer.write(b"x")
            settle(base)
        assert peer.read() == b"first second "
        assert log.calls.count("write") == 1
        bev.enable(EV_READ)
        settle(base)
        assert log.data == b"xx"


def buffer_of(data: bytes) -> EvBuffer:
    buffer = EvBuffer()
    buffer.add(data)
    return buffer


@pytest.mark.parametrize("when", ["at once", "later", "at the end"])
def test_an_engine_that_fails_in_writing_is_an_error(
    base: EventBase, over: Over, pair: Pair, log: Log, when: str
) -> None:
    failure = ssl.SSLError(1, "no more")
    failure.reason = "NO_MORE"
    refusals = [ssl.SSLWantReadError(), failure] if when == "later" else [failure]
    bev, peer = stubborn(over, base, pair, *refusals)
    with bev, peer:
        log.attach(bev).enable(EV_READ)
        if when == "at the end":
            bev.shutdown_write()
        else:
            bev.write(b"first")
            bev.write(b"second")
        settle(base)
        peer.write(b"x")
        settle(base)
        assert log.events == [WRITE_ERROR]
        assert bev.error is failure
        assert bev.get_openssl_error() is failure
        assert bev.enabled == 0


def test_a_close_notify_waits_for_the_end_of_a_renegotiation(
    base: EventBase, over: Over, pair: Pair, log: Log
) -> None:
    busy = ssl.SSLError(1, "shutdown while in init")
    busy.reason = "SHUTDOWN_WHILE_IN_INIT"
    bev, peer = stubborn(over, base, pair, busy)
    with bev, log.attach(peer):
        bev.enable(EV_READ)
        peer.enable(EV_READ)
        bev.shutdown_write()
        settle(base)
        assert log.events == []
        peer.write(b"the peer's part of it")
        settle(base)
        assert log.events == [READING_EOF]


def test_a_buffer_callback_that_raises_loses_nothing(base: EventBase, over: Over, log: Log) -> None:
    one, other = over.ends(base)
    caught: list[Exception] = []
    base.exception_handler = caught.append
    with one, other:
        log.attach(other)
        calls: list[object] = []

        def raise_once(*told: object) -> None:
            calls.append(told)
            if len(calls) == 1:
                raise Boom

        other.input.add_cb(raise_once)
        other.enable(EV_READ)
        one.write(b"first")
        settle(base)
        assert len(caught) == 1
        assert log.data == b"first"
        one.write(b" second")
        settle(base)
        assert log.data == b"first second"


def test_a_datacb_may_close_or_begin_anew(fake_base: EventBase, over: Over, log: Log) -> None:
    """In the middle of what has come; and what it is given is a sign of life."""
    one, other = over.ends(fake_base)
    pieces: list[bytes] = []

    def take(bev: TlsBufferEvent, data: bytes, ctx: object) -> None:
        pieces.append(data)
        if len(pieces) == 3:
            bev.close()

    with one, other:
        other.setcb(None, None, log.event)
        other.set_datacb(take)
        other.set_timeouts(10, None)
        other.enable(EV_READ)
        settle(fake_base)
        for _ in range(2):
            one.write(b"x")
            fake_base.loopexit(8)
            fake_base.dispatch()
        assert log.events == [BEV_EVENT_CONNECTED]
        for _ in range(3):
            one.write(b"y")
        settle(fake_base)
        assert pieces == [b"x", b"x", b"y"]
        assert other.closed
