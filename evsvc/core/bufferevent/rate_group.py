"""Rate limits that several bufferevents share.

Who finds the group's bucket empty is suspended, and waits.  Members that move nothing are left
alone: what a tick costs depends on how many want the tokens, not on how many members there are.

Invariants
    * A side waits in its lane exactly while it is suspended with SUSPENDED_GROUP, and once only.
    * Sides take turns, so that each gets something even where a tick is not enough for all.
    * As many go on as the tokens are shares; when one moves less than its share, others follow.
    * Who is known to have nothing to move goes on without taking up a turn.
"""

from __future__ import annotations

from bisect import insort
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from ..checks import whole_number
from ..closing import Closing
from ..errors import ArgumentError, ArgumentTypeError, StateError
from ..flags import PERSIST
from ..reactor.event import Event
from ..thread import CallbackLock
from .rate_buckets import (
    DEFAULT_MIN_SHARE_BYTES,
    EV_RATE_LIMIT_MAX,
    BucketPair,
    SharedBucket,
    TokenBucketCfg,
)

if TYPE_CHECKING:
    from ..reactor.base import EventBase
    from .rate_limit import RateLimit, Side


class GroupTotals(NamedTuple):
    """How many bytes the members of a group have moved."""

    read: int
    written: int


class Turn(NamedTuple):
    """The number that a side was called by, and the one that it waits with once it has moved."""

    number: int
    next_number: int


class Lane(SharedBucket):
    """One direction of a group: the bucket, whose it is, and whose turn it is.

    Who has to wait draws a number, and the lowest goes on first.  The number for the turn after is
    drawn when one is called, not when it is served: else those would get ahead that a backend
    always finds first.

    The lock is for members that other threads close.  No other lock is waited for while it is held,
    and no code of the program runs.
    """

    __slots__ = ("_called", "_lock", "_numbers", "_queued", "_sides", "_waiting")

    def __init__(self, rate: int, burst: int) -> None:
        super().__init__(rate, burst)
        self._lock = CallbackLock()
        self._numbers = count(1)
        self._sides: set[Side] = set()
        self._waiting: list[tuple[int, Side]] = []  # sorted
        self._queued: set[Side] = set()  # those that are in it
        self._called: dict[Side, Turn] = {}  # let go on, and have moved nothing yet

    def join(self, side: Side) -> None:
        """Share with one more; it waits at once when there is nothing to share."""
        with self._lock:
            self._sides.add(side)
            if self.exhausted:
                self.wait(side)

    def leave(self, side: Side) -> None:
        """Share with one less."""
        with self._lock:
            self._sides.discard(side)
            self._called.pop(side, None)
            self._queued.discard(side)
            self._waiting = [entry for entry in self._waiting if entry[1] is not side]

    def most(self) -> int:
        """Return how much a side may move now."""
        return self.share(len(self._sides))

    def wait(self, side: Side) -> None:
        """Suspend a side until it is its turn; one that was called in vain keeps its number."""
        with self._lock:
            turn = self._called.pop(side, None)
            self._enqueue(side, turn and turn.number)

    def take(self, side: Side, size: int) -> None:
        """Charge for what a side has moved; where others want to move, too, it is their turn.

        Those that were called may have nothing to move after all: for them alone, only a side that
        has had its share stands back.
        """
        with self._lock:
            had_its_share = size >= self.most()
            self.charge(size)
            turn = self._called.pop(side, None)
            if self.exhausted or self._waiting or (self._called and had_its_share):
                self._enqueue(side, turn and turn.next_number)
                self._call()

    def drain(self, size: int) -> None:
        """Take from the bucket by hand, or give back: then those that wait go on at once."""
        with self._lock:
            super().drain(size)
            self._call()

    def begin_tick(self) -> None:
        """Let others go on in the place of those that have not used their turn."""
        with self._lock:
            self._called.clear()
            self._call()

    def _enqueue(self, side: Side, number: int | None) -> None:
        if side in self._queued:  # a TLS handshake moves bytes while its side is suspended
            return
        self._queued.add(side)
        insort(self._waiting, (number or next(self._numbers), side))
        side.wait_for_group()

    def _call(self) -> None:
        """Let as many go on as there are shares, those first that have waited longest.

        What is less than a share is for the first, when all that were called have had theirs.
        """
        if not self._waiting or self.exhausted:
            return
        shares = self.level // self.most() - len(self._called)
        if not self._called and self.level % self.most():
            shares += 1
        busy: list[tuple[int, Side]] = []
        while shares > 0 and self._waiting:
            number, side = self._waiting.pop(0)
            self._queued.discard(side)
            self._called[side] = Turn(number, next(self._numbers))
            if not side.go_on():
                del self._called[side]
                self._queued.add(side)
                busy.append((number, side))
            elif side.wants_to_move():
                shares -= 1
            else:
                self._called.pop(side, None)
        self._waiting[:0] = busy


class RateLimitGroup(Closing):
    """A rate limit that bufferevents share; see `BufferEvent.add_to_rate_limit_group`.

    Each member gets an equal share of the bucket, `min_share` at least.  The group's timer keeps
    the loop running until `close`.  A group is used from its loop's thread; members with
    BEV_OPT_THREADSAFE may be closed from any.  Raises StateError when the base is closed,
    ArgumentTypeError for what is no configuration.
    Source: bufferevent_rate_limit_group_new.
    """

    __slots__ = ("_base", "_buckets", "_members", "_min_share", "_timer")

    def __init__(self, base: EventBase, cfg: TokenBucketCfg) -> None:
        _require_cfg(cfg)
        self._base = base
        self._members: set[RateLimit] = set()
        self._buckets = BucketPair(cfg, base.now, Lane)
        self._timer = Event(base, -1, PERSIST, self._on_tick)
        self._timer.add(cfg.tick)
        self.set_min_share(DEFAULT_MIN_SHARE_BYTES)

    @property
    def base(self) -> EventBase:
        """The event base whose clock it goes by."""
        return self._base

    @property
    def cfg(self) -> TokenBucketCfg:
        """How the bucket is filled."""
        return self._buckets.cfg

    def set_cfg(self, cfg: TokenBucketCfg) -> None:
        """Fill the bucket by another configuration; what is over its burst is lost.

        A tick of another length starts now.  Raises StateError when closed, ArgumentTypeError for
        what is no configuration.
        Source: bufferevent_rate_limit_group_set_cfg.
        """
        self.require_open()
        _require_cfg(cfg)
        old = self.cfg
        self._buckets.configure(cfg, self._base.now)
        if cfg.tick != old.tick:
            self._timer.add(cfg.tick)
        self.set_min_share(self._min_share)

    @property
    def min_share(self) -> int:
        """The least that a member may move at once: as set, or a rate where that is less."""
        return self._buckets.read.min_share

    def set_min_share(self, share: int) -> None:
        """Let a member move `share` bytes at once even where its part of the bucket is less.

        64 at first; the lower rate counts instead where it is less.  Raises ArgumentError outside
        1..EV_RATE_LIMIT_MAX, ArgumentTypeError for no whole number, StateError when closed.
        Source: bufferevent_rate_limit_group_set_min_share.
        """
        self.require_open()
        if not 1 <= whole_number(share, "a share") <= EV_RATE_LIMIT_MAX:
            raise ArgumentError(f"a share is 1 or more bytes: {share!r}")
        self._min_share = share
        effective = min(share, self.cfg.read_rate, self.cfg.write_rate)
        self._buckets.read.min_share = self._buckets.write.min_share = effective

    @property
    def read_limit(self) -> int:
        """How many bytes members may read, as of the last tick; below 0 when in debt.

        Source: bufferevent_rate_limit_group_get_read_limit.
        """
        return self._buckets.read.level

    @property
    def write_limit(self) -> int:
        """How many bytes members may write, as of the last tick; below 0 when in debt.

        Source: bufferevent_rate_limit_group_get_write_limit.
        """
        return self._buckets.write.level

    def decrement_read(self, size: int) -> None:
        """Take `size` bytes from the reading bucket by hand; a negative size gives them back.

        Members that waited go on as soon as there is something.  Raises StateError when closed,
        ArgumentTypeError for a size that is no whole number.
        Source: bufferevent_rate_limit_group_decrement_read.
        """
        self.require_open()
        self._buckets.read.drain(whole_number(size, "a size"))

    def decrement_write(self, size: int) -> None:
        """Take `size` bytes from the writing bucket by hand; a negative size gives them back.

        As with `decrement_read`.  Source: bufferevent_rate_limit_group_decrement_write.
        """
        self.require_open()
        self._buckets.write.drain(whole_number(size, "a size"))

    @property
    def totals(self) -> GroupTotals:
        """What members have moved since the last reset; what was taken by hand is not in it.

        Source: bufferevent_rate_limit_group_get_totals.
        """
        return GroupTotals(self._buckets.read.total, self._buckets.write.total)

    def reset_totals(self) -> None:
        """Count from 0 again (bufferevent_rate_limit_group_reset_totals)."""
        self._buckets.read.total = self._buckets.write.total = 0

    def close(self) -> None:
        """Let the members go and stop the timer.  Safe to repeat.

        Source: bufferevent_rate_limit_group_free.
        """
        self._timer.close()
        for member in tuple(self._members):
            member.leave_group()

    def join(self, member: RateLimit) -> tuple[Lane, Lane]:
        """Take a member; return its lanes, of reading and of writing."""
        self._members.add(member)
        self._buckets.read.join(member.read)
        self._buckets.write.join(member.write)
        return self._buckets.read, self._buckets.write

    def leave(self, member: RateLimit) -> None:
        """Have one member less."""
        self._members.discard(member)
        self._buckets.read.leave(member.read)
        self._buckets.write.leave(member.write)

    def require_open(self) -> None:
        """Raise StateError when the group is closed."""
        if not self._timer.initialized:
            raise StateError("the rate limit group is closed")

    def _on_tick(self, fd: int, what: int, arg: object) -> None:
        self._buckets.update(self._base.now)
        self._buckets.read.begin_tick()
        self._buckets.write.begin_tick()


def _require_cfg(cfg: object) -> None:
    if not isinstance(cfg, TokenBucketCfg):
        raise ArgumentTypeError(f"a TokenBucketCfg is wanted, not {type(cfg).__name__}")
