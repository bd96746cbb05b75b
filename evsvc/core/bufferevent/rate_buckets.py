"""Token buckets: how many bytes may move, by the ticks of a clock.  Does no I/O, reads no clock.

Invariants
    * Times are monotonic seconds, always passed in.
    * Ticks are absolute: number n begins n tick lengths after the clock's zero.  So the first
      refill of a bucket may come early, and what is asked for often gets no more by it.
    * A refill brings the rate once per tick that has begun, up to the burst.
    * A clock that is set back brings nothing until it is where it was.
    * A bucket may be in debt: its level is below 0 when more was moved than it held.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..checks import whole_number
from ..errors import ArgumentError, ArgumentTypeError

EV_RATE_LIMIT_MAX = sys.maxsize
"""The rate and burst that are no limit."""

DEFAULT_MIN_SHARE_BYTES = 64
"""The least that one member of a group gets at once, unless the group's rate is less."""

MIN_TICK_S = 0.001
MAX_TICK_S = 2_147_483  # libevent counts a tick's milliseconds in an int

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class TokenBucketCfg:
    """How fast a bucket fills, in bytes, and how full it gets, for reading and for writing.

    A rate is what comes with each tick; a burst, no less than its rate, the most that is saved up.
    EV_RATE_LIMIT_MAX for both is no limit.  tick: its length in seconds, 1 ms at least.  Raises
    ArgumentError unless 1 <= rate <= burst <= EV_RATE_LIMIT_MAX, or for a tick out of range,
    ArgumentTypeError for bytes that are no whole number, or a tick that is no number.
    Source: ev_token_bucket_cfg_new.
    """

    read_rate: int
    read_burst: int
    write_rate: int
    write_burst: int
    tick: float = 1.0

    def __post_init__(self) -> None:
        for rate, burst in (
            (self.read_rate, self.read_burst),
            (self.write_rate, self.write_burst),
        ):
            whole_number(rate, "a rate")
            whole_number(burst, "a burst")
            if not 1 <= rate <= burst <= EV_RATE_LIMIT_MAX:
                raise ArgumentError(f"1 <= rate <= burst is wanted: {rate!r}, {burst!r}")
        if not isinstance(self.tick, (int, float)):
            raise ArgumentTypeError(
                f"a tick is in seconds, not {self.tick!r} ({type(self.tick).__name__})"
            )
        if not MIN_TICK_S <= self.tick <= MAX_TICK_S:
            raise ArgumentError(
                f"a tick is from {MIN_TICK_S} s to {MAX_TICK_S} s long: {self.tick!r}"
            )

    def tick_number(self, now: float) -> int:
        """Return the number of the tick that `now`, in seconds, belongs to.

        Counted in whole microseconds, so that one tick after `now` the next one has begun.
        """
        return round(now * _MICROSECONDS) // round(self.tick * _MICROSECONDS)


class TokenBucket:
    """The bytes that may move in one direction now; it begins with one tick's worth."""

    __slots__ = ("burst", "level", "rate")

    def __init__(self, rate: int, burst: int) -> None:
        self.level = self.rate = rate
        self.burst = burst

    def refill(self, ticks: int) -> None:
        """Add what so many ticks bring."""
        self.level = min(self.level + ticks * self.rate, self.burst)

    def configure(self, rate: int, burst: int) -> None:
        """Fill by another rate from now on; of what is there, only what is too much goes."""
        self.rate = rate
        self.burst = burst
        self.level = min(self.level, burst)


class SharedBucket(TokenBucket):
    """A bucket that many draw from, each a share at a time.

    All get the same share from one refill to the next: one that is asked later is not given less.
    The last share may put the bucket into debt, by less than `min_share`.

    total: the bytes charged since the last reset.  exhausted: set from when the bucket is empty
    until a refill brings at least `min_share`.
    """

    __slots__ = ("_divided", "exhausted", "min_share", "total")

    def __init__(self, rate: int, burst: int) -> None:
        super().__init__(rate, burst)
        self.min_share = min(DEFAULT_MIN_SHARE_BYTES, rate)
        self.total = 0
        self.exhausted = False
        self._divided = self.level  # what is shared out until the next refill

    def share(self, members: int) -> int:
        """Return what one of so many members may move at once; 0 when exhausted."""
        if self.exhausted:
            return 0
        share = max(self._divided // members, self.min_share)
        return min(share, max(self.level, self.min_share))

    def charge(self, size: int) -> None:
        """Take what a member has moved."""
        self.total += size
        self.level -= size
        if self.level <= 0:
            self.exhausted = True

    def drain(self, size: int) -> None:
        """Take from the bucket by hand, or give back with a negative size; `total` stays."""
        self.level -= size
        self._divided -= size
        self.exhausted = self.level <= 0

    def refill(self, ticks: int) -> None:
        """Add what `ticks` ticks bring, and share it out anew."""
        super().refill(ticks)
        self._divided = self.level
        if self.level >= self.min_share:
            self.exhausted = False

    def configure(self, rate: int, burst: int) -> None:
        """Fill by another rate; what is too much goes, and is not shared out."""
        super().configure(rate, burst)
        self._divided = min(self._divided, burst)


Bucket = TypeVar("Bucket", bound=TokenBucket)


class BucketPair(Generic[Bucket]):
    """A bucket for reading and one for writing, filled by one configuration.

    make: called with rate and burst for each of them.
    """

    __slots__ = ("_tick", "cfg", "read", "write")

    def __init__(self, cfg: TokenBucketCfg, now: float, make: Callable[[int, int], Bucket]) -> None:
        self.cfg = cfg
        self.read = make(cfg.read_rate, cfg.read_burst)
        self.write = make(cfg.write_rate, cfg.write_burst)
        self._tick = cfg.tick_number(now)

    def update(self, now: float) -> None:
        """Refill both with the ticks that have begun since the last time."""
        tick = self.cfg.tick_number(now)
        ticks = tick - self._tick
        if ticks > 0:
            self._tick = tick
            self.read.refill(ticks)
            self.write.refill(ticks)

    def configure(self, cfg: TokenBucketCfg, now: float) -> None:
        """Fill by another configuration from now on."""
        self.update(now)
        self.cfg = cfg
        self.read.configure(cfg.read_rate, cfg.read_burst)
        self.write.configure(cfg.write_rate, cfg.write_burst)
        self._tick = cfg.tick_number(now)
