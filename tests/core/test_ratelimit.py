"""Token buckets by themselves: what a configuration takes, what ticks bring, how many share."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.core import (
    EV_RATE_LIMIT_MAX,
    ArgumentError,
    ArgumentTypeError,
    TokenBucketCfg,
)
from evsvc.core.bufferevent.rate_buckets import (
    DEFAULT_MIN_SHARE_BYTES,
    MAX_TICK_S,
    MIN_TICK_S,
    BucketPair,
    SharedBucket,
    TokenBucket,
)

NOON = 1000.0  # where FakeClock begins, too


def pair(cfg: TokenBucketCfg, now: float = NOON) -> BucketPair[TokenBucket]:
    return BucketPair(cfg, now, TokenBucket)


def test_a_tick_is_a_second_unless_said_otherwise() -> None:
    cfg = TokenBucketCfg(1, 2, 3, 4)
    assert (cfg.read_rate, cfg.read_burst, cfg.write_rate, cfg.write_burst) == (1, 2, 3, 4)
    assert cfg.tick == 1.0


@pytest.mark.parametrize("tick", [MIN_TICK_S, MAX_TICK_S])
def test_ticks_that_are_taken(tick: float) -> None:
    """INT_MAX/1000 seconds are accepted."""
    assert MAX_TICK_S == (2**31 - 1) // 1000
    assert TokenBucketCfg(1, 1, 1, 1, tick).tick == tick


@pytest.mark.parametrize("tick", [0, -1, MIN_TICK_S / 2, MAX_TICK_S + 1, float("nan")])
def test_ticks_that_are_refused(tick: float) -> None:
    """Tick 0 and ticks above INT_MAX/1000 s are refused."""
    with pytest.raises(ArgumentError, match=str(tick)):
        TokenBucketCfg(1, 1, 1, 1, tick)


@pytest.mark.parametrize(
    ("rate", "burst"),
    [(0, 10), (-1, 10), (11, 10), (1, EV_RATE_LIMIT_MAX + 1)],
)
def test_rates_that_are_refused(rate: int, burst: int) -> None:
    """1 <= rate <= burst <= EV_RATE_LIMIT_MAX, in either direction."""
    for rates in ((rate, burst, 1, 1), (1, 1, rate, burst)):
        with pytest.raises(ArgumentError, match=str(burst)):
            TokenBucketCfg(*rates)


def test_a_rate_is_whole_bytes() -> None:
    rate: Any = 1e6
    with pytest.raises(ArgumentTypeError, match=r"1000000\.0"):
        TokenBucketCfg(1, 1, rate, rate)


def test_the_maximum_is_no_limit() -> None:
    assert sys.maxsize == EV_RATE_LIMIT_MAX
    bucket = pair(TokenBucketCfg(EV_RATE_LIMIT_MAX, EV_RATE_LIMIT_MAX, 1, 1)).read
    bucket.refill(1000)
    assert bucket.level == EV_RATE_LIMIT_MAX


def test_a_bucket_begins_with_one_tick_and_not_with_the_burst() -> None:
    """First attach: buckets start at the rate."""
    buckets = pair(TokenBucketCfg(10, 100, 20, 200))
    assert (buckets.read.level, buckets.write.level) == (10, 20)


def test_a_refill_is_ticks_times_rate_up_to_the_burst() -> None:
    buckets = pair(TokenBucketCfg(10, 100, 20, 30, 0.1))
    buckets.update(NOON + 0.3)
    assert (buckets.read.level, buckets.write.level) == (40, 30)
    buckets.update(NOON + 0.35)
    assert buckets.read.level == 40
    buckets.update(NOON + 10**9)
    assert buckets.read.level == 100


def test_ticks_are_absolute() -> None:
    """The first refill may come early: what counts is when a tick begins."""
    buckets = pair(TokenBucketCfg(10, 100, 10, 100), NOON + 0.9)
    buckets.update(NOON + 1.0)
    assert buckets.read.level == 20


def test_a_clock_that_goes_back_brings_nothing() -> None:
    """A clock step back gives no refill, nor does its way back to where it was."""
    buckets = pair(TokenBucketCfg(10, 100, 10, 100))
    for back in (NOON - 500, NOON - 1, NOON):
        buckets.update(back)
        assert buckets.read.level == 10
    buckets.update(NOON + 1)
    assert buckets.read.level == 20


@given(
    ticks_ms=st.integers(1, 10_000),
    start_ms=st.integers(0, 10**10),
    count=st.integers(1, 1000),
)
def test_one_tick_later_the_next_has_begun(ticks_ms: int, start_ms: int, count: int) -> None:
    """Else a timer of one tick would now and then find nothing new."""
    cfg = TokenBucketCfg(1, 1, 1, 1, ticks_ms / 1000)
    now = start_ms / 1000
    assert cfg.tick_number(now + count * cfg.tick) - cfg.tick_number(now) == count


@given(
    rate=st.integers(1, 1000),
    extra=st.integers(0, 5000),
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(0, 2000)), max_size=40),
)
def test_no_more_moves_than_the_rate_over_time_and_one_burst(
    rate: int, extra: int, steps: list[tuple[float, int]]
) -> None:
    cfg = TokenBucketCfg(rate, rate + extra, 1, 1, 0.5)
    buckets = pair(cfg)
    now = NOON
    moved = 0
    for seconds, wanted in steps:
        now += seconds
        buckets.update(now)
        assert buckets.read.level <= cfg.read_burst
        taken = max(min(wanted, buckets.read.level), 0)
        buckets.read.level -= taken
        moved += taken
    assert moved <= rate * (1 + cfg.tick_number(now) - cfg.tick_number(NOON))


def test_another_configuration_only_clips() -> None:
    """Replacement clips down, and never tops up."""
    buckets = pair(TokenBucketCfg(100, 1000, 100, 1000))
    buckets.configure(TokenBucketCfg(500, 500, 10, 50), NOON)
    assert (buckets.read.level, buckets.write.level) == (100, 50)
    buckets.update(NOON + 1)
    assert (buckets.read.level, buckets.write.level) == (500, 50)


def test_another_tick_counts_from_the_change_on() -> None:
    """What the old ticks brought is kept, and the new ones are numbered by their length."""
    buckets = pair(TokenBucketCfg(1, 1000, 1, 1000, 1.0))
    buckets.configure(TokenBucketCfg(1, 1000, 1, 1000, 0.001), NOON + 2)
    assert buckets.read.level == 3
    buckets.update(NOON + 2.005)
    assert buckets.read.level == 8
    buckets.configure(TokenBucketCfg(1, 1000, 1, 1000, 100.0), NOON + 2.005)
    buckets.update(NOON + 100)
    assert buckets.read.level == 9


def test_a_share_is_the_members_part_of_the_bucket() -> None:
    """Group member quantum = max(group tokens / number of members, min share)."""
    bucket = SharedBucket(1000, 1000)
    assert [bucket.share(members) for members in (1, 3, 10, 1000)] == [1000, 333, 100, 64]
    assert bucket.min_share == DEFAULT_MIN_SHARE_BYTES == 64


def test_the_share_of_one_does_not_depend_on_who_came_before() -> None:
    bucket = SharedBucket(1000, 1000)
    shares = []
    for _ in range(4):
        shares.append(bucket.share(4))
        bucket.charge(shares[-1])
    assert shares == [250, 250, 250, 250]
    assert bucket.exhausted
    assert bucket.share(4) == 0
    assert bucket.total == 1000


def test_the_last_share_is_what_is_left_but_no_less_than_the_least() -> None:
    bucket = SharedBucket(1000, 1000)
    bucket.charge(900)
    assert bucket.share(1) == 100
    bucket.charge(90)
    assert bucket.share(1) == 64
    bucket.charge(64)
    assert bucket.level == -54


def test_a_drain_by_hand_is_nobodys_share() -> None:
    bucket = SharedBucket(1000, 1000)
    bucket.drain(500)
    assert bucket.share(2) == 250
    assert bucket.total == 0
    bucket.drain(500)
    assert bucket.exhausted
    bucket.drain(-100)
    assert bucket.share(1) == 100


def test_an_exhausted_bucket_waits_for_the_least_share() -> None:
    """Group suspends at <= 0, resumes at a tick when tokens >= min share."""
    bucket = SharedBucket(100, 1000)
    bucket.charge(137)
    assert bucket.exhausted
    bucket.refill(1)
    assert (bucket.level, bucket.exhausted) == (63, True)
    bucket.refill(1)
    assert (bucket.level, bucket.exhausted) == (163, False)
    bucket.charge(200)
    bucket.refill(1)
    assert (bucket.level, bucket.exhausted) == (63, True)
    bucket.min_share = 63
    bucket.refill(0)
    assert not bucket.exhausted


def test_the_least_share_is_no_more_than_a_tick_brings() -> None:
    """Else a slow group would never go on."""
    bucket = SharedBucket(10, 10)
    assert bucket.min_share == 10
