"""How long TLS bufferevents wait: for the handshake, for the peer, for room on the wire."""

from __future__ import annotations

import socket

import pytest

from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_READING,
    BEV_EVENT_TIMEOUT,
    BEV_EVENT_WRITING,
    BUFFEREVENT_SSL_CONNECTING,
    EV_READ,
    EV_WRITE,
    EVENT_BASE_COUNT_ADDED,
    ArgumentError,
    BevEvent,
    BufferEvent,
    EventBase,
    FakeClock,
    PrepareWatcher,
    TlsBufferEvent,
)
from evsvc.core.bufferevent.tls import HANDSHAKE_TIMEOUT_S
from tests.core.bevs import Log, Pair, never
from tests.core.tls_ends import HOST, Over, contexts, settle

READ_TIMEOUT = BEV_EVENT_TIMEOUT | BEV_EVENT_READING
WRITE_TIMEOUT = BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING

# More than the kernel and a batch hold for a peer that does not read.
MORE_THAN_FITS = 4 * 1024 * 1024


class Times:
    """An event callback that writes down when it was called, and with what."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.start = clock.monotonic()
        self.told: list[tuple[float, BevEvent]] = []

    def event(self, bev: TlsBufferEvent, what: BevEvent, ctx: object) -> None:
        self.told.append((round(self.clock.monotonic() - self.start, 6), what))


@pytest.fixture(params=["socket", "filter"])
def over(request: pytest.FixtureRequest) -> Over:
    return Over(request.param)


@pytest.fixture
def times(clock: FakeClock) -> Times:
    return Times(clock)


def run_for(base: EventBase, seconds: float) -> None:
    base.loopexit(seconds)
    base.dispatch()


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_peer_that_never_answers_is_a_bare_timeout(
    fake_base: EventBase, over: Over, pair: Pair, times: Times, side: str
) -> None:
    """TIMEOUT only, no CONNECTED, no error; then it is over, also for an answer that is late."""
    bev = getattr(over, side)(fake_base, pair[0])
    peer = over.server if side == "client" else over.client
    with bev:
        bev.setcb(never, never, times.event)
        bev.enable(EV_READ)
        run_for(fake_base, 60)
        assert times.told == [(HANDSHAKE_TIMEOUT_S, BEV_EVENT_TIMEOUT)]
        assert bev.error is None
        assert bev.enabled == 0
        bev.enable(EV_READ | EV_WRITE)
        with peer(fake_base, pair[1]):
            settle(fake_base)
        assert len(times.told) == 1
        assert fake_base.num_events(EVENT_BASE_COUNT_ADDED) == 0


@pytest.mark.parametrize(("limit_s", "told"), [(2.5, [(2.5, BEV_EVENT_TIMEOUT)]), (None, [])])
def test_the_time_for_the_handshake_can_be_set(
    fake_base: EventBase,
    over: Over,
    pair: Pair,
    times: Times,
    limit_s: float | None,
    told: list[tuple[float, BevEvent]],
) -> None:
    with over.client(fake_base, pair[0], handshake_timeout_s=limit_s) as bev:
        bev.setcb(None, None, times.event)
        run_for(fake_base, 3600)
        assert times.told == told


def test_the_handshake_has_no_limit_of_zero(fake_base: EventBase, over: Over, pair: Pair) -> None:
    with pytest.raises(ArgumentError, match="0"):
        TlsBufferEvent.socket_new(
            fake_base,
            pair[0],
            contexts()[0],
            BUFFEREVENT_SSL_CONNECTING,
            server_hostname=HOST,
            handshake_timeout_s=0,
        )


def test_a_peer_just_in_time_is_connected(
    fake_base: EventBase, over: Over, pair: Pair, times: Times
) -> None:
    """After it the limit is of no more account."""
    with over.client(fake_base, pair[0]) as bev:
        bev.setcb(None, None, times.event)
        run_for(fake_base, HANDSHAKE_TIMEOUT_S - 0.5)
        with over.server(fake_base, pair[1]):
            settle(fake_base)
            run_for(fake_base, 60)
        assert times.told[0] == (HANDSHAKE_TIMEOUT_S - 0.5, BEV_EVENT_CONNECTED)
        assert not any(what & BEV_EVENT_TIMEOUT for _, what in times.told)


def test_the_time_starts_with_the_connection(fake_base: EventBase, times: Times) -> None:
    """Connecting has limits of its own."""
    with TlsBufferEvent.socket_new(
        fake_base, None, contexts()[0], BUFFEREVENT_SSL_CONNECTING, server_hostname=HOST
    ) as bev:
        bev.setcb(None, None, times.event)
        run_for(fake_base, 60)
        assert times.told == []


def test_timeouts_in_the_handshake_are_bare(fake_base: EventBase, pair: Pair, times: Times) -> None:
    """And fire again each interval, over a socket: nothing is disabled."""
    with Over("socket").client(fake_base, pair[0], handshake_timeout_s=None) as bev:
        bev.setcb(None, None, times.event)
        bev.set_timeouts(3, None)
        bev.enable(EV_READ)
        run_for(fake_base, 10)
        assert times.told == [
            (3, BEV_EVENT_TIMEOUT),
            (6, BEV_EVENT_TIMEOUT),
            (9, BEV_EVENT_TIMEOUT),
        ]
        assert bev.enabled == EV_READ | EV_WRITE


def test_silence_times_reading_out(
    fake_base: EventBase, over: Over, pair: Pair, times: Times
) -> None:
    """TIMEOUT|READING; over a socket the direction is not disabled, so it fires each interval;
    over another bufferevent it is, and it fires once."""
    with over.client(fake_base, pair[0]) as bev, over.server(fake_base, pair[1]) as peer:
        settle(fake_base)
        bev.setcb(lambda bev, ctx: bev.read(), never, times.event)
        bev.set_timeouts(10, 10)
        bev.enable(EV_READ)
        fake_base.timer(lambda *_: peer.write(b"x")).add(4)
        run_for(fake_base, 35)
        once = [(14.0, READ_TIMEOUT)]
        again = [(24.0, READ_TIMEOUT), (34.0, READ_TIMEOUT)]
        assert times.told == (once + again if over.kind == "socket" else once)
        assert bool(bev.enabled & EV_READ) is (over.kind == "socket")


def test_a_peer_that_does_not_read_times_writing_out(
    fake_base: EventBase, over: Over, pair: Pair, times: Times
) -> None:
    with over.client(fake_base, pair[0]) as bev, over.server(fake_base, pair[1]):
        settle(fake_base)
        bev.setcb(never, never, times.event)
        bev.set_timeouts(None, 10)
        bev.write(bytes(MORE_THAN_FITS))
        run_for(fake_base, 25)
        once, again = [(10.0, WRITE_TIMEOUT)], [(20.0, WRITE_TIMEOUT)]
        assert times.told == (once + again if over.kind == "socket" else once)
        assert bool(bev.enabled & EV_WRITE) is (over.kind == "socket")


def test_a_slow_peer_does_not_time_writing_out(
    fake_base: EventBase, over: Over, pair: Pair, times: Times
) -> None:
    """Each piece that the wire takes of a batch is a sign of life."""
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    with over.client(fake_base, pair[0]) as bev, over.server(fake_base, pair[1]) as peer:
        settle(fake_base)
        bev.setcb(None, None, times.event)
        bev.set_timeouts(None, 15)
        peer.setwatermark(EV_READ, 0, 30_000)
        peer.enable(EV_READ)
        bev.write(bytes(MORE_THAN_FITS))
        for second in range(0, 60, 6):
            fake_base.timer(lambda *_: peer.input.drain(30_000)).add(second)
        run_for(fake_base, 55)
        assert times.told == []
        assert len(bev.output) > MORE_THAN_FITS // 2


def test_writing_that_is_done_does_not_time_out(
    fake_base: EventBase, over: Over, pair: Pair, times: Times
) -> None:
    with over.client(fake_base, pair[0]) as bev, over.server(fake_base, pair[1]):
        settle(fake_base)
        bev.setcb(None, None, times.event)
        bev.set_timeouts(None, 10)
        bev.write(b"x")
        run_for(fake_base, 60)
        assert times.told == []


def test_a_timeout_of_the_one_below_is_passed_up(
    fake_base: EventBase, pair: Pair, times: Times
) -> None:
    """We sure did not set it."""
    below = BufferEvent(fake_base, pair[0])
    below.set_timeouts(2, None)
    with (
        below,
        TlsBufferEvent.filter_new(
            below, contexts()[0], BUFFEREVENT_SSL_CONNECTING, server_hostname=HOST
        ) as bev,
    ):
        bev.setcb(None, None, times.event)
        run_for(fake_base, 5)
        assert times.told == [(2, READ_TIMEOUT)]


def test_a_late_server_does_not_keep_the_client_busy(
    fake_base: EventBase, over: Over, pair: Pair
) -> None:
    """Accepting side that begins only after 1 s: under 100 reads and writes, and passes."""
    log = Log()
    passes: list[float | None] = []
    watcher = PrepareWatcher(fake_base, lambda watcher, info, arg: passes.append(info.timeout))
    with watcher, log.attach(over.client(fake_base, pair[0])) as client:
        client.enable(EV_READ)
        client.write(b"ping")
        run_for(fake_base, 1)
        with over.server(fake_base, pair[1]) as server:
            server.setcb(lambda bev, ctx: bev.write(bev.read()), None, None)
            server.enable(EV_READ)
            settle(fake_base)
        assert log.data == b"ping"
        assert len(passes) < 100
        assert len(log.calls) < 100


@pytest.mark.parametrize("busy_s", [0.0, 7.0, 30.0])
def test_the_time_for_the_handshake_counts_from_the_connection_by_the_clock(
    fake_base: EventBase, clock: FakeClock, over: Over, pair: Pair, times: Times, busy_s: float
) -> None:
    """Not from the beginning of a pass in which other callbacks took long."""
    made: list[TlsBufferEvent] = []

    def accept(*args: object) -> None:
        clock.advance(busy_s)
        bev = over.server(fake_base, pair[0])
        bev.setcb(None, None, times.event)
        made.append(bev)

    fake_base.timer(accept).add(0)
    run_for(fake_base, 100)
    assert times.told == [(busy_s + HANDSHAKE_TIMEOUT_S, BEV_EVENT_TIMEOUT)]
    made[0].close()
