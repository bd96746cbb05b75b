"""How much TLS bufferevents take in, hold and send: watermarks, backlogs, rates, records."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path

import pytest

from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    BEV_OPT_DEFER_CALLBACKS,
    BUFFEREVENT_SSL_BATCH_WRITE,
    BUFFEREVENT_SSL_OPEN,
    EV_READ,
    EV_WRITE,
    EVLOOP_NONBLOCK,
    BufferEvent,
    EventBase,
    FakeClock,
    SocketError,
    TlsBufferEvent,
    TokenBucketCfg,
)
from evsvc.core.bufferevent.flow import MAX_SINGLE_READ_BYTES, MAX_SINGLE_WRITE_BYTES
from evsvc.core.bufferevent.tls import MAX_ROUNDS_PER_TURN
from evsvc.core.tls_engine import RECORD_BYTES
from tests.core.bevs import Log, Pair, never
from tests.core.tls_ends import Over, open_ends_over_a_pair, settle, shaken_engines

# A record of TLS 1.3 is 5 bytes of header, 1 of type and 16 of tag longer than its data.
RECORD_OVERHEAD_BYTES = 22
HEADER_BYTES = 5


@pytest.fixture(params=["socket", "filter"])
def over(request: pytest.FixtureRequest) -> Over:
    return Over(request.param)


@pytest.fixture
def log() -> Log:
    return Log()


def open_over(over: Over, base: EventBase, pair: Pair) -> tuple[TlsBufferEvent, TlsBufferEvent]:
    one, other = (
        over.new(base, sock, engine, BUFFEREVENT_SSL_OPEN)
        for sock, engine in zip(pair, shaken_engines(), strict=True)
    )
    return one, other


def records_in(data: bytes) -> list[int]:
    """Return how many bytes of data there are in each record of some wire bytes."""
    sizes = []
    while data:
        size = HEADER_BYTES + int.from_bytes(data[3:HEADER_BYTES], "big")
        sizes.append(size - RECORD_OVERHEAD_BYTES)
        data = data[size:]
    return sizes


@pytest.mark.parametrize("options", [0, int(BEV_OPT_DEFER_CALLBACKS)], ids=["at once", "deferred"])
def test_all_comes_through_a_high_watermark(fake_base: EventBase, over: Over, options: int) -> None:
    """High watermark 5 KiB with 1 KiB payloads echoed, reader draining slowly: both sides reach
    the full 40 KiB."""
    kib, total = 1024, 40 * 1024
    client, server = over.ends(fake_base, options)
    counts = {client: 0, server: 0}

    def take(bev: TlsBufferEvent, ctx: object) -> None:
        assert len(bev.input) <= 5 * kib
        counts[bev] += len(bev.read(kib // 2))
        if bev is server:
            bev.write(bytes(kib // 2))

    with client, server:
        for bev in client, server:
            bev.setcb(take, None, lambda bev, what, ctx: None)
            bev.setwatermark(EV_READ, 0, 5 * kib)
            bev.enable(EV_READ)
        for _ in range(total // kib):
            client.write(bytes(kib))

        def drain_slowly(fd: int, what: int, arg: object) -> None:
            for bev in client, server:
                if len(bev.input):
                    take(bev, None)
            if counts != {client: total, server: total}:
                timer.add(0.1)

        timer = fake_base.timer(drain_slowly)
        timer.add(0.1)
        fake_base.loopexit(30)
        fake_base.dispatch()
        assert counts == {client: total, server: total}


@pytest.mark.parametrize("high", [1, RECORD_BYTES - 1, RECORD_BYTES, RECORD_BYTES + 1])
def test_the_input_is_never_above_its_high_watermark(
    base: EventBase, over: Over, pair: Pair, high: int
) -> None:
    """libevent may overrun it by a record.  What the engine has decrypted already comes as soon
    as there is room, without waiting for the socket."""
    payload = os.urandom(3 * RECORD_BYTES if high > 1 else RECORD_BYTES + 1)
    received, most = bytearray(), 0
    sender, receiver = open_over(over, base, pair)
    with sender, receiver:
        receiver.setwatermark(EV_READ, 0, high)
        receiver.enable(EV_READ)
        sender.write(payload)
        while len(received) < len(payload):
            settle(base)
            most = max(most, len(receiver.input))
            received += receiver.read(8192)
        assert received == payload
        assert most <= high


def test_what_is_not_wanted_is_held_by_the_peer(base: EventBase, over: Over, pair: Pair) -> None:
    """With reading off, or at the mark, there is one read of the wire at most below the input."""
    sender, receiver = open_over(over, base, pair)
    with sender, receiver:
        sender.write(bytes(8 * 1024 * 1024))
        settle(base)
        wire = receiver._below.bev
        assert len(wire.input) == len(receiver.input) == 0
        receiver.setwatermark(EV_READ, 0, 10)
        receiver.enable(EV_READ)
        settle(base)
        assert receiver._engine is not None
        below = len(wire.input) + len(receiver._plain) + receiver._engine.incoming.pending
        assert len(receiver.input) == 10
        assert 0 < below <= MAX_SINGLE_READ_BYTES + RECORD_BYTES
        assert receiver._engine.ssl.pending() == 0


def test_one_batch_is_encrypted_ahead(base: EventBase, over: Over, pair: Pair) -> None:
    """The rest stays as it is until the peer has taken that; all of it counts as output."""
    sender, receiver = open_over(over, base, pair)
    with sender, receiver:
        sender.write(bytes(4 * MAX_SINGLE_WRITE_BYTES))
        sender.write(bytes(4 * MAX_SINGLE_WRITE_BYTES))
        settle(base)
        records = MAX_SINGLE_WRITE_BYTES // RECORD_BYTES
        most = MAX_SINGLE_WRITE_BYTES + records * RECORD_OVERHEAD_BYTES
        assert 0 < len(sender._below.bev.output) <= most
        left = len(sender.output)
        sender.write(b"x")
        settle(base)
        assert len(sender.output) == left + 1
        assert len(sender._below.bev.output) <= most


@pytest.mark.parametrize("high", [1000, 1001])
def test_the_high_watermark_of_the_one_below_bounds_a_batch(
    base: EventBase, pair: Pair, high: int
) -> None:
    """SSL stops pushing to an underlying output at or above its write high."""
    below = BufferEvent(base, pair[0], BEV_OPT_CLOSE_ON_FREE)
    below.setwatermark(EV_WRITE, 0, high)
    with TlsBufferEvent.filter_new(below, shaken_engines()[0], BUFFEREVENT_SSL_OPEN) as bev, below:
        below.disable(EV_WRITE)
        below.write(b"clear")
        bev.write(bytes(5000))
        settle(base)
        assert len(below.output) == high + RECORD_OVERHEAD_BYTES
        below.enable(EV_WRITE)
        settle(base)
        assert len(bev.output) == 0
        sizes = records_in(pair[1].recv(99999)[len(b"clear") :])
        assert sizes[0] == high - len(b"clear")
        assert sum(sizes) == 5000
        assert max(sizes) == high


def test_the_watermarks_of_reading_of_the_one_below_are_removed(
    base: EventBase, pair: Pair
) -> None:
    """SSL over another bufferevent takes over its callbacks, and removes its read watermarks."""
    below = BufferEvent(base, pair[0], BEV_OPT_CLOSE_ON_FREE)
    below.setwatermark(EV_READ, 1_000_000, 1_000_000)
    client, server = shaken_engines()
    with TlsBufferEvent.filter_new(below, client, BUFFEREVENT_SSL_OPEN) as bev, below:
        assert below.getwatermark(EV_READ) == (0, 0)
        bev.enable(EV_READ)
        server.ssl.write(b"through")
        pair[1].send(server.outgoing.read())
        settle(base)
        assert bev.read() == b"through"


@pytest.mark.parametrize(
    ("flags", "sizes"), [(0, [10, 20, 30]), (int(BUFFEREVENT_SSL_BATCH_WRITE), [60])]
)
def test_batch_write_makes_fewer_records(
    base: EventBase, over: Over, pair: Pair, flags: int, sizes: list[int]
) -> None:
    """It joins the whole output into one piece before encrypting."""
    with over.new(base, pair[0], shaken_engines()[0], BUFFEREVENT_SSL_OPEN) as bev:
        bev.ssl_flags = flags  # type: ignore[assignment]
        for size in (10, 20, 30):
            bev.write(bytes(size))
        settle(base)
        assert records_in(pair[1].recv(9999)) == sizes


def test_a_large_output_is_records_of_full_size(base: EventBase, over: Over, pair: Pair) -> None:
    with over.new(base, pair[0], shaken_engines()[0], BUFFEREVENT_SSL_OPEN) as bev:
        bev.write(bytes(2 * RECORD_BYTES + 1))
        settle(base)
        sizes = records_in(pair[1].recv(99999))
        assert sizes == [RECORD_BYTES, RECORD_BYTES, 1]


def test_rate_limits_count_wire_bytes(fake_base: EventBase, clock: FakeClock, over: Over) -> None:
    """A handshake and 3000 bytes at 1000 bytes a second take three seconds, and a bit more."""
    client, server = over.ends(fake_base)
    with client, server:
        start = clock.monotonic()
        done: list[float] = []

        def readable(bev: TlsBufferEvent, ctx: object) -> None:
            if len(bev.input) == 3000:
                done.append(clock.monotonic() - start)

        server.setcb(readable, None, None)
        server.enable(EV_READ)
        client.set_rate_limit(TokenBucketCfg(1000, 1000, 1000, 1000))
        client.write(bytes(3000))
        settle(fake_base)
        assert client.write_limit <= 0  # by the handshake alone, and what followed it
        fake_base.loopexit(60)
        fake_base.dispatch()
        assert len(done) == 1
        assert 2 < done[0] < 6


def test_reading_keeps_to_its_rate(fake_base: EventBase, clock: FakeClock, over: Over) -> None:
    client, server = over.ends(fake_base)
    with client, server:
        settle(fake_base)
        server.set_rate_limit(TokenBucketCfg(1000, 1000, 1000, 1000))
        server.enable(EV_READ)
        for _ in range(100):
            client.write(bytes(100))
        seen: list[int] = []
        for _ in range(5):
            fake_base.loopexit(1)
            fake_base.dispatch()
            seen.append(len(server.input))
        assert seen == sorted(seen)
        assert 3000 < seen[-1] < 6000


def test_a_pair_of_endless_writers_lets_others_run(fake_base: EventBase) -> None:
    """Over what moves at once, rounds are counted: the loop gets its turn."""
    one, other = open_ends_over_a_pair(fake_base, BEV_OPT_CLOSE_ON_FREE)
    written = 0

    def more(bev: TlsBufferEvent, ctx: object) -> None:
        nonlocal written
        written += 1
        assert written < 50 * MAX_ROUNDS_PER_TURN
        bev.write(b"x" * 100)

    with one, other:
        other.setcb(lambda bev, ctx: bev.read(), None, never)
        other.enable(EV_READ)
        one.setcb(None, more, never)
        one.write(b"x")
        fake_base.timer(lambda *_: fake_base.loopbreak()).add(0)
        fake_base.dispatch()
        for _ in range(10):
            fake_base.post(fake_base.loopbreak)
            fake_base.loop(EVLOOP_NONBLOCK)
        assert written > 0


def test_a_file_is_sent_encrypted(base: EventBase, over: Over, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(100_000))
    one, other = over.ends(base)
    with one, other:
        other.enable(EV_READ)
        one.write(b"head ")
        one.output.add_file(os.open(path, os.O_RDONLY), 10, 90_000)
        settle(base)
        assert other.read() == b"head " + path.read_bytes()[10:90_010]


def test_a_file_that_cannot_be_read_is_an_error(
    base: EventBase, over: Over, log: Log, tmp_path: Path
) -> None:
    """It has become shorter since it was added."""
    path = tmp_path / "file"
    path.write_bytes(bytes(10_000))
    one, other = over.ends(base)
    with one, other:
        settle(base)
        log.attach(one)
        one.output.add_file(os.open(path, os.O_RDONLY), 0, 10_000)
        path.write_bytes(b"")
        settle(base)
        assert [int(what) for what in log.events] == [0x22]
        assert isinstance(one.error, SocketError)


def test_the_wires_first_read_may_hold_the_handshake_and_data(base: EventBase) -> None:
    """Data that come in one piece with the last of the handshake are not left behind."""
    one, other = socket.socketpair()
    client = Over("socket").client(base, one)
    with client, Over("socket").server(base, other) as server:
        server.enable(EV_READ)
        client.write(b"with the handshake")
        settle(base)
        assert server.read() == b"with the handshake"
        assert server.ssl is not None
        assert server.ssl.version() == ssl.TLSVersion.TLSv1_3.name.replace("_", ".")
