"""A bufferevent's own rate limit: what moves, when it pauses and goes on, by hand and by time."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Callable

import pytest

from evsvc.core import (
    BEV_EVENT_READING,
    BEV_EVENT_TIMEOUT,
    BEV_OPT_THREADSAFE,
    EV_RATE_LIMIT_MAX,
    EV_READ,
    EV_WRITE,
    EVENT_BASE_COUNT_ADDED,
    EVLOOP_NONBLOCK,
    ArgumentError,
    BufferEvent,
    ChangeInfo,
    EventBase,
    FakeClock,
    PairBufferEvent,
    RateLimitGroup,
    StateError,
    TokenBucketCfg,
)
from evsvc.core.bufferevent.flow import MAX_SINGLE_READ_BYTES, MAX_SINGLE_WRITE_BYTES
from tests.core.bevs import Log, Pair, close_bev, count_sends

CFG = TokenBucketCfg(100, 1000, 50, 500)


class Watched(BufferEvent):
    """One that a weak reference can tell of."""

    __slots__ = ("__weakref__",)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def filled(pair: Pair) -> socket.socket:
    """Return a socket that 5000 bytes wait in."""
    pair[1].send(b"x" * 5000)
    return pair[0]


def run(base: EventBase, seconds: float) -> None:
    """Run the loop for so long."""
    base.loopexit(seconds)
    base.dispatch()


def received(sock: socket.socket) -> int:
    try:
        return len(sock.recv(100_000))
    except BlockingIOError:
        return 0


def test_without_a_limit_there_is_none(base: EventBase, pair: Pair) -> None:
    """SSIZE_MAX if unlimited; what moves at once is then up to the single-io caps."""
    with BufferEvent(base, pair[0]) as bev:
        assert bev.rate_limit is None
        assert bev.rate_limit_group is None
        assert bev.read_limit == bev.write_limit == EV_RATE_LIMIT_MAX
        assert (bev.max_to_read, bev.max_to_write) == (
            MAX_SINGLE_READ_BYTES,
            MAX_SINGLE_WRITE_BYTES,
        )
        assert bev._limiter is None
        bev.set_rate_limit(None)
        bev.remove_from_rate_limit_group()
        assert bev._limiter is None
        for call in (bev.decrement_read_limit, bev.decrement_write_limit):
            with pytest.raises(StateError, match="no rate limit"):
                call(1)


def test_a_first_limit_starts_at_the_rate(fake_base: EventBase, pair: Pair) -> None:
    """First attach: buckets start at rate, not burst; the bucket replaces the single-io cap."""
    with BufferEvent(fake_base, pair[0]) as bev:
        bev.max_single_read = bev.max_single_write = 10
        bev.set_rate_limit(CFG)
        assert bev.rate_limit is CFG
        assert (bev.read_limit, bev.write_limit) == (100, 50)
        assert (bev.max_to_read, bev.max_to_write) == (100, 50)


def test_asking_brings_the_bucket_up_to_date(
    fake_base: EventBase, clock: FakeClock, pair: Pair
) -> None:
    """Tokens left now, updated first, and never more than the burst."""
    with BufferEvent(fake_base, pair[0]) as bev:
        bev.set_rate_limit(CFG)
        clock.advance(3)
        assert (bev.read_limit, bev.write_limit) == (400, 200)
        clock.advance(1000)
        assert (bev.max_to_read, bev.max_to_write) == (1000, 500)


def test_reading_keeps_to_the_rate(fake_base: EventBase, filled: socket.socket, log: Log) -> None:
    """Bucket <= 0 after io suspends and arms a one-tick timer, repeated until positive."""
    with log.attach(BufferEvent(fake_base, filled)) as bev:
        bev.set_rate_limit(CFG)
        bev.enable(EV_READ)
        amounts = []
        for _ in range(4):
            run(fake_base, 0.999)
            amounts.append(len(log.data))
            run(fake_base, 0.001)
        assert amounts == [100, 200, 300, 400]
        assert bev.max_to_read == 100 - (len(log.data) - 400)


def test_writing_keeps_to_the_rate(fake_base: EventBase, pair: Pair, log: Log) -> None:
    """No system call is made for what may not be sent."""
    with log.attach(BufferEvent(fake_base, pair[0])) as bev:
        sends = count_sends(bev)
        bev.set_rate_limit(CFG)
        bev.write(b"y" * 175)
        run(fake_base, 0.999)
        assert received(pair[1]) == 50
        assert not fake_base.reactor.virtual_count()
        run(fake_base, 2.5)
        assert received(pair[1]) == 125
        assert sends == [50, 50, 50, 25]
        assert log.calls == ["write"]


def test_a_burst_is_what_was_saved_up(fake_base: EventBase, clock: FakeClock, pair: Pair) -> None:
    with BufferEvent(fake_base, pair[0]) as bev:
        bev.set_rate_limit(CFG)
        clock.advance(1000)
        bev.write(b"y" * 5000)
        run(fake_base, 0.5)
        assert received(pair[1]) == 500


def test_reading_and_writing_are_apart(
    fake_base: EventBase, filled: socket.socket, log: Log
) -> None:
    with log.attach(BufferEvent(fake_base, filled)) as bev:
        sends = count_sends(bev)
        bev.set_rate_limit(TokenBucketCfg(100, 100, EV_RATE_LIMIT_MAX, EV_RATE_LIMIT_MAX))
        bev.enable(EV_READ)
        bev.write(b"z" * 3000)
        run(fake_base, 0.5)
        assert len(log.data) == 100
        assert sends == [3000]


def test_a_read_is_still_capped_by_what_is_read_at_once(
    fake_base: EventBase, filled: socket.socket, log: Log
) -> None:
    """Reads are still capped by the input buffer's max_read, writes are not capped twice."""
    lengths: list[int] = []
    with BufferEvent(fake_base, filled) as bev:
        sends = count_sends(bev)
        bev.max_single_read = bev.max_single_write = 40
        bev.setcb(lambda bev, ctx: lengths.append(len(bev.read())), None, None)
        bev.set_rate_limit(TokenBucketCfg(100, 100, 100, 100))
        bev.enable(EV_READ)
        bev.write(b"z" * 100)
        run(fake_base, 0.5)
        assert lengths == [40, 40, 20]
        assert sends == [100]


def test_another_limit_only_clips(fake_base: EventBase, clock: FakeClock, pair: Pair) -> None:
    """Replacement only clips down; the same cfg is a no-op."""
    with BufferEvent(fake_base, pair[0]) as bev:
        bev.set_rate_limit(CFG)
        clock.advance(1)
        bev.set_rate_limit(TokenBucketCfg(1000, 1000, 10, 20))
        assert (bev.read_limit, bev.write_limit) == (200, 20)
        bev.set_rate_limit(TokenBucketCfg(1000, 1000, 10, 20))
        assert (bev.read_limit, bev.write_limit) == (200, 20)


def test_setting_the_same_limit_again_and_again_puts_nothing_off(
    fake_base: EventBase, filled: socket.socket, log: Log
) -> None:
    with log.attach(BufferEvent(fake_base, filled)) as bev:
        bev.set_rate_limit(CFG)
        bev.enable(EV_READ)
        for _ in range(4):
            run(fake_base, 0.75)
            bev.set_rate_limit(CFG)
        assert len(log.data) == 300


def test_a_limit_with_shorter_ticks_comes_into_force_at_once(
    fake_base: EventBase, filled: socket.socket, log: Log
) -> None:
    with log.attach(BufferEvent(fake_base, filled)) as bev:
        bev.set_rate_limit(TokenBucketCfg(100, 100, 100, 100, 3600))
        bev.enable(EV_READ)
        run(fake_base, 0.05)
        bev.set_rate_limit(TokenBucketCfg(10, 100, 10, 100, 0.1))
        run(fake_base, 0.95)
        assert len(log.data) == 190


def test_no_limit_lifts_the_suspension(
    fake_base: EventBase, filled: socket.socket, log: Log
) -> None:
    with log.attach(BufferEvent(fake_base, filled)) as bev:
        bev.set_rate_limit(CFG)
        bev.enable(EV_READ)
        bev.write(b"w" * 300)
        run(fake_base, 0.5)
        assert (len(log.data), len(bev.output)) == (100, 250)
        bev.set_rate_limit(None)
        assert bev.rate_limit is None
        assert bev._limiter is None
        assert not bev._bounded
        fake_base.loop(EVLOOP_NONBLOCK)
        assert (len(log.data), len(bev.output)) == (5000, 0)


def test_taking_tokens_by_hand(fake_base: EventBase, filled: socket.socket, log: Log) -> None:
    """Crossing to <= 0 suspends; crossing to > 0 resumes at once.  May be negative."""
    with log.attach(BufferEvent(fake_base, filled)) as bev:
        bev.set_rate_limit(CFG)
        bev.enable(EV_READ)
        bev.decrement_read_limit(99)
        assert bev.flow.wanted & EV_READ
        bev.decrement_read_limit(1)
        assert not bev.flow.wanted & EV_READ
        bev.decrement_read_limit(5)
        assert (bev.read_limit, bev.max_to_read) == (-5, 0)
        fake_base.loop(EVLOOP_NONBLOCK)
        assert log.data == b""
        bev.decrement_read_limit(-6)
        assert bev.read_limit == 1
        fake_base.loop(EVLOOP_NONBLOCK)
        assert len(log.data) == 1


def test_taking_tokens_of_writing_by_hand(fake_base: EventBase, pair: Pair) -> None:
    with BufferEvent(fake_base, pair[0]) as bev:
        bev.set_rate_limit(CFG)
        bev.decrement_write_limit(175)
        bev.write(b"v" * 10)
        run(fake_base, 2.9)
        assert (received(pair[1]), bev.write_limit) == (0, -25)
        run(fake_base, 0.2)
        assert (received(pair[1]), bev.write_limit) == (10, 15)


def test_tokens_that_were_due_are_there_before_some_are_taken(
    fake_base: EventBase, clock: FakeClock, pair: Pair
) -> None:
    with BufferEvent(fake_base, pair[0]) as bev:
        bev.set_rate_limit(TokenBucketCfg(100, 100, 100, 100))
        clock.advance(10)
        bev.decrement_read_limit(60)
        assert bev.read_limit == 40


def test_reading_goes_on_only_when_nothing_else_suspends_it(
    fake_base: EventBase, filled: socket.socket
) -> None:
    """Suspension is a set of reasons: io resumes when all are gone and it is enabled."""
    with BufferEvent(fake_base, filled) as bev:
        bev.set_rate_limit(CFG)
        bev.setwatermark(EV_READ, 0, 100)
        bev.enable(EV_READ)
        run(fake_base, 5)
        assert len(bev.input) == 100
        bev.decrement_read_limit(10_000)
        bev.input.drain(100)
        run(fake_base, 5)
        assert len(bev.input) == 0
        bev.disable(EV_READ)
        bev.decrement_read_limit(-20_000)
        run(fake_base, 1)
        assert len(bev.input) == 0
        bev.enable(EV_READ)
        run(fake_base, 0.5)
        assert len(bev.input) == 100


def test_a_suspended_direction_has_no_timeout(
    fake_base: EventBase, filled: socket.socket, log: Log
) -> None:
    """Time-outs apply only while the direction is enabled and not suspended."""
    with log.attach(BufferEvent(fake_base, filled)) as bev:
        bev.set_rate_limit(TokenBucketCfg(2500, 2500, 1, 1, 60.0))
        bev.set_timeouts(1.0, None)
        bev.enable(EV_READ)
        run(fake_base, 59)
        assert log.events == []
        run(fake_base, 120)
        assert len(log.data) == 5000
        assert log.events == [BEV_EVENT_TIMEOUT | BEV_EVENT_READING]


def test_what_goes_past_the_input_is_charged_too(
    fake_base: EventBase, filled: socket.socket
) -> None:
    got: list[int] = []
    with BufferEvent(fake_base, filled) as bev:
        bev.set_rate_limit(CFG)
        bev.set_datacb(lambda bev, data, ctx: got.append(len(data)))
        bev.enable(EV_READ)
        run(fake_base, 1.5)
        assert got == [100, 100]


def test_what_is_sent_is_charged_though_writing_is_disabled_meanwhile(
    fake_base: EventBase, pair: Pair
) -> None:
    """A callback of the output may do that; the bytes are sent all the same."""

    def disable(info: ChangeInfo) -> None:
        if info.n_deleted:
            bev.disable(EV_WRITE)

    with BufferEvent(fake_base, pair[0]) as bev:
        bev.set_rate_limit(CFG)
        bev.output.add_cb(lambda buffer, info, arg: disable(info))
        bev.write(b"u" * 30)
        fake_base.loop(EVLOOP_NONBLOCK)
        assert bev.write_limit == 20


@pytest.mark.parametrize("end", ["close", "no limit"])
def test_a_callback_may_end_the_limit(
    fake_base: EventBase, filled: socket.socket, end: str
) -> None:
    calls: list[int] = []

    def on_read(bev: BufferEvent, ctx: object) -> None:
        calls.append(len(bev.read()))
        if end == "close":
            bev.close()
        else:
            bev.set_rate_limit(None)

    with BufferEvent(fake_base, filled) as bev:
        bev.setcb(on_read, None, None)
        bev.set_rate_limit(CFG)
        bev.enable(EV_READ)
        run(fake_base, 10)
        assert calls == ([100] if end == "close" else [100, 4900])


def test_the_write_callback_may_close_it(fake_base: EventBase, pair: Pair) -> None:
    with BufferEvent(fake_base, pair[0]) as bev:
        bev.setcb(None, close_bev, None)
        bev.set_rate_limit(TokenBucketCfg(1, 1, 10, 10))
        bev.write(b"t" * 20)
        assert fake_base.dispatch() == 1
        assert bev.closed
        assert received(pair[1]) == 20


def test_a_callback_of_the_output_may_close_it(fake_base: EventBase, pair: Pair) -> None:
    with BufferEvent(fake_base, pair[0]) as bev:
        bev.set_rate_limit(TokenBucketCfg(1, 1, 10, 10))
        bev.write(b"t" * 10)
        bev.output.add_cb(lambda buffer, info, arg: bev.close())
        assert fake_base.dispatch() == 1
        assert bev.closed
        assert received(pair[1]) == 10


def test_closed_it_says_so(base: EventBase, pair: Pair) -> None:
    bev = BufferEvent(base, pair[0])
    bev.set_rate_limit(CFG)
    bev.decrement_read_limit(200)
    bev.close()
    assert base.dispatch() == 1
    calls: list[Callable[[], None]] = [
        lambda: bev.set_rate_limit(CFG),
        lambda: bev.set_rate_limit(None),
        lambda: bev.decrement_read_limit(1),
    ]
    for call in calls:
        with pytest.raises(StateError, match="closed"):
            call()


def test_the_refill_has_the_priority_and_the_base_of_its_bufferevent(
    base: EventBase, pair: Pair
) -> None:
    base.priority_init(3)
    with BufferEvent(base, pair[0]) as bev, EventBase() as other:
        bev.set_rate_limit(CFG)
        bev.priority = 2
        assert bev._limiter is not None
        assert bev._limiter.refill is not None
        assert bev._limiter.refill.priority == 2
        bev.base = other
        bev.decrement_read_limit(1000)
        assert other.num_events(EVENT_BASE_COUNT_ADDED) == 1
        with pytest.raises(StateError, match="not idle"):
            bev.base = base


def test_in_a_group_it_stays_on_its_base(base: EventBase, pair: Pair) -> None:
    with (
        RateLimitGroup(base, CFG) as group,
        BufferEvent(base, pair[0]) as bev,
        EventBase() as other,
        RateLimitGroup(other, CFG) as foreign,
    ):
        bev.add_to_rate_limit_group(group)
        with pytest.raises(StateError, match="group"):
            bev.base = other
        with pytest.raises(ArgumentError, match="another event base"):
            bev.add_to_rate_limit_group(foreign)
        assert bev.rate_limit_group is group


@pytest.mark.parametrize("options", [0, BEV_OPT_THREADSAFE])
def test_nothing_of_it_outlives_the_close(fake_base: EventBase, pair: Pair, options: int) -> None:
    """No reference cycle is left for the collector."""
    gc.disable()
    try:
        with RateLimitGroup(fake_base, CFG) as group:
            bev = Watched(fake_base, pair[0], options)
            bev.set_rate_limit(CFG)
            bev.add_to_rate_limit_group(group)
            bev.decrement_read_limit(1000)
            gone = weakref.ref(bev)
            bev.close()
            del bev
            assert gone() is None
    finally:
        gc.enable()


def test_what_is_noted_after_the_close_counts_for_nothing(fake_base: EventBase, pair: Pair) -> None:
    """A system call may have been under way."""
    with RateLimitGroup(fake_base, CFG) as group:
        bev = BufferEvent(fake_base, pair[0])
        bev.set_rate_limit(CFG)
        bev.add_to_rate_limit_group(group)
        limits = bev._limiter
        bev.close()
        assert limits is not None
        limits.note_read(10_000)
        limits.note_written(10_000)
        assert group.totals == (0, 0)
        assert group.read_limit == 100


def test_what_makes_no_system_calls_is_held_back_by_an_empty_bucket_only(
    fake_base: EventBase,
) -> None:
    """Pairs move data without any limit; they merely honour suspension."""
    one, other = PairBufferEvent.new(fake_base)
    with one, other:
        for bev in (one, other):
            bev.set_rate_limit(CFG)
            bev.enable(EV_READ)
        one.write(b"s" * 5000)
        fake_base.loop(EVLOOP_NONBLOCK)
        assert len(other.input) == 5000
        assert (one.write_limit, other.read_limit) == (50, 100)
        other.decrement_read_limit(100)
        one.write(b"s" * 5000)
        fake_base.loop(EVLOOP_NONBLOCK)
        assert len(other.input) == 5000
        run(fake_base, 1)
        assert len(other.input) == 10_000
