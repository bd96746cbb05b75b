"""Time-outs of a bufferevent: what counts as silence, and what it ends."""

from __future__ import annotations

import pytest

from evsvc.core import (
    BEV_EVENT_READING,
    BEV_EVENT_TIMEOUT,
    BEV_EVENT_WRITING,
    BEV_OPT_DEFER_CALLBACKS,
    EV_READ,
    EV_WRITE,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    ArgumentError,
    BevEvent,
    BufferEvent,
    EventBase,
    FakeClock,
)
from tests.core.bevs import Log, Pair, never


@pytest.fixture
def log() -> Log:
    return Log()


def test_timeouts_fire_once_and_disable_their_direction(
    fake_base: EventBase, clock: FakeClock
) -> None:
    """Without a descriptor: READ 150 ms and WRITE 100 ms; no data callback."""
    start = clock.monotonic()
    told: list[tuple[float, BevEvent]] = []
    with BufferEvent(fake_base) as bev:
        bev.setcb(
            never, never, lambda bev, what, ctx: told.append((clock.monotonic() - start, what))
        )
        bev.set_timeouts(0.15, 0.1)
        bev.enable(EV_READ | EV_WRITE)
        assert fake_base.dispatch() == 1
        assert told == [
            (pytest.approx(0.1), BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING),
            (pytest.approx(0.15), BEV_EVENT_TIMEOUT | BEV_EVENT_READING),
        ]
        assert bev.enabled == 0


def test_a_direction_that_is_disabled_or_has_nothing_to_do_does_not_time_out(
    fake_base: EventBase, pair: Pair
) -> None:
    with BufferEvent(fake_base, pair[0]) as bev:
        bev.setcb(None, None, never)
        bev.set_timeouts(1, 1)
        assert fake_base.dispatch() == 1
        bev.enable(EV_READ)
        bev.disable(EV_READ)
        assert fake_base.dispatch() == 1
        bev.enable(EV_READ)
        bev.set_timeouts(None, 0)
        fake_base.loopexit(5)
        assert fake_base.dispatch() == 0


def test_each_read_restarts_the_read_timeout_and_writes_do_not(
    fake_base: EventBase, pair: Pair, clock: FakeClock, log: Log
) -> None:
    start = clock.monotonic()
    ended: list[float] = []
    with log.attach(BufferEvent(fake_base, pair[0])) as bev:
        bev.setcb(log.read, None, lambda *_: ended.append(clock.monotonic() - start))
        bev.set_timeouts(10, None)
        bev.enable(EV_READ)
        for seconds in (6, 12):
            fake_base.timer(lambda *_: pair[1].send(b"x")).add(seconds)
        for seconds in (15, 18, 21):
            fake_base.timer(lambda *_: bev.write(b"y")).add(seconds)
        assert fake_base.dispatch() == 1
    assert ended == [pytest.approx(22)]


def test_a_peer_that_does_not_read_times_the_writer_out_whatever_is_added(
    fake_base: EventBase, pair: Pair, clock: FakeClock
) -> None:
    start = clock.monotonic()
    ended: list[tuple[float, BevEvent]] = []

    with BufferEvent(fake_base, pair[0]) as bev:
        bev.setcb(
            None, None, lambda bev, what, ctx: ended.append((clock.monotonic() - start, what))
        )
        bev.set_timeouts(None, 10)
        bev.write(bytes(4_000_000))
        for seconds in (4, 8, 12):
            fake_base.timer(lambda *_: bev.write(b"more")).add(seconds)
        fake_base.dispatch()
        assert bev.enabled == 0
    assert ended == [(pytest.approx(10), BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING)]


def test_negative_timeouts_are_refused(base: EventBase, pair: Pair) -> None:
    with BufferEvent(base, pair[0]) as bev:
        for values in ((-1, None), (None, -1), (float("nan"), None)):
            with pytest.raises(ArgumentError):
                bev.set_timeouts(*values)


def test_changing_a_time_out_restarts_it(
    fake_base: EventBase, pair: Pair, clock: FakeClock
) -> None:
    start = clock.monotonic()
    ended: list[float] = []
    with BufferEvent(fake_base, pair[0]) as bev:
        bev.setcb(None, None, lambda *_: ended.append(clock.monotonic() - start))
        bev.set_timeouts(10, None)
        bev.enable(EV_READ)
        fake_base.timer(lambda *_: bev.set_timeouts(10, None)).add(6)
        assert fake_base.dispatch() == 1
    assert ended == [pytest.approx(16)]


def test_reading_does_not_time_out_while_it_is_paused(
    fake_base: EventBase, pair: Pair, clock: FakeClock
) -> None:
    """At the high watermark the silence is the program's; it counts anew from the drain."""
    start = clock.monotonic()
    ended: list[float] = []
    with BufferEvent(fake_base, pair[0]) as bev:
        bev.setcb(None, None, lambda *_: ended.append(clock.monotonic() - start))
        bev.setwatermark(EV_READ, 0, 4)
        bev.set_timeouts(10, None)
        bev.enable(EV_READ)
        pair[1].send(b"1234")
        fake_base.timer(lambda *_: bev.read()).add(50)
        assert fake_base.dispatch() == 1
    assert ended == [pytest.approx(60)]


@pytest.mark.parametrize("priority", [0, 1, 2])
@pytest.mark.parametrize("set_first", ["priority", "timeouts"])
def test_a_time_out_together_with_readiness_is_readiness(
    fake_base: EventBase, pair: Pair, clock: FakeClock, log: Log, priority: int, set_first: str
) -> None:
    """Whatever the priority; the silence counts from then on."""
    fake_base.priority_init(3)
    with log.attach(BufferEvent(fake_base, pair[0])) as bev:
        if set_first == "priority":
            bev.priority = priority
        bev.set_timeouts(10, None)
        bev.priority = priority
        bev.enable(EV_READ)
        pair[1].send(b"in time")
        clock.advance(11)
        fake_base.loop(EVLOOP_NONBLOCK)
        assert log.calls == ["read"]
        clock.advance(9)
        fake_base.loop(EVLOOP_NONBLOCK)
        assert log.calls == ["read"]
        clock.advance(1)
        fake_base.loop(EVLOOP_NONBLOCK)
        assert log.events == [BEV_EVENT_TIMEOUT | BEV_EVENT_READING]


def test_what_timed_out_can_be_enabled_again(
    fake_base: EventBase, pair: Pair, clock: FakeClock, log: Log
) -> None:
    """Only the direction that was silent is disabled; enabled, it counts anew."""
    with log.attach(BufferEvent(fake_base, pair[0])) as bev:
        bev.set_timeouts(10, None)
        bev.enable(EV_READ)
        assert fake_base.dispatch() == 1
        assert bev.enabled == EV_WRITE
        bev.enable(EV_READ)
        assert fake_base.dispatch() == 1
        assert log.events == [BEV_EVENT_TIMEOUT | BEV_EVENT_READING] * 2


@pytest.mark.parametrize("options", [0, BEV_OPT_DEFER_CALLBACKS])
def test_a_time_out_may_close(fake_base: EventBase, pair: Pair, options: int) -> None:
    told: list[BevEvent] = []
    bev = BufferEvent(fake_base, pair[0], options)
    bev.setcb(never, never, lambda bev, what, ctx: (told.append(what), bev.close()))
    bev.set_timeouts(10, 10)
    bev.enable(EV_READ)
    bev.write(bytes(4_000_000))
    assert fake_base.dispatch() == 1
    assert len(told) == 1
    assert bev.closed


def test_a_write_that_the_kernel_takes_at_once_never_times_out(
    fake_base: EventBase, pair: Pair
) -> None:
    """The time-out of writing runs while a write is pending, and no longer."""
    with BufferEvent(fake_base, pair[0]) as bev:
        bev.setcb(None, None, never)
        bev.set_timeouts(None, 1)
        for seconds in (1, 5, 9):
            fake_base.timer(lambda *_: bev.write(b"x")).add(seconds)
        assert fake_base.dispatch() == 1
        assert bev.enabled == EV_WRITE


@pytest.mark.parametrize("how", ["set", "enabled", "read", "sent"])
def test_after_long_work_a_time_out_is_whole(
    fake_base: EventBase, clock: FakeClock, pair: Pair, how: str
) -> None:
    """It counts from that moment, not from when the pass began."""
    start = clock.monotonic()
    told: list[tuple[float, BevEvent]] = []

    def busy(fd: int, what: int, arg: object) -> None:
        clock.advance(8)
        if how == "set":
            bev.set_timeouts(10, None)
        elif how == "enabled":
            bev.enable(EV_READ)
        elif how == "read":
            pair[1].send(b"x")
        else:
            bev.write(bytes(10_000_000))

    with BufferEvent(fake_base, pair[0]) as bev:
        bev.setcb(None, None, lambda bev, what, ctx: told.append((clock.monotonic() - start, what)))
        if how != "enabled":
            bev.enable(EV_READ)
        if how != "set":
            bev.set_timeouts(None if how == "sent" else 10, 10)
        fake_base.timer(busy).add(1)
        while not told:
            fake_base.loop(EVLOOP_ONCE)
    direction = BEV_EVENT_WRITING if how == "sent" else BEV_EVENT_READING
    assert told == [(pytest.approx(19), BEV_EVENT_TIMEOUT | direction)]
