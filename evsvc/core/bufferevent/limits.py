"""Rate limits of one bufferevent: its own buckets, and its place in a group.

Invariants
    * A direction is suspended with SUSPENDED_BANDWIDTH from when its own bucket is empty until the
      refill timer, or the program by hand, finds something in it.  The timer runs meanwhile.
    * A bufferevent without any limit has no limiter, and pays nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..checks import whole_number
from ..errors import ArgumentError, ArgumentTypeError, StateError
from ..flags import READ, WRITE
from ..ratelimit import (
    EV_RATE_LIMIT_MAX,
    BucketPair,
    TokenBucket,
    TokenBucketCfg,
)
from .flow import SUSPENDED_BANDWIDTH, SUSPENDED_GROUP, Flow
from .group import RateLimitGroup

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..reactor.event import Event
    from ..thread import Lock
    from .group import Lane


class LimitedSide:
    """One direction of a bufferevent, and who has a say in how much moves there."""

    __slots__ = ("_lock", "bucket", "lane", "resume", "suspend", "wants_to_move")

    def __init__(
        self,
        suspend: Callable[[int], None],
        resume: Callable[[int], None],
        wants_to_move: Callable[[], bool],
        lock: Lock | None,
    ) -> None:
        self.suspend = suspend
        self.resume = resume
        self.wants_to_move = wants_to_move
        self._lock = lock
        self.bucket: TokenBucket | None = None
        self.lane: Lane | None = None

    def room(self, most: int) -> int:
        """Return how much may move: what is in the own bucket, or `most` without; or the share."""
        if self.bucket is not None:
            most = self.bucket.level
        if self.lane is not None:
            most = min(most, self.lane.most())
        return max(most, 0)

    def wait_for_group(self) -> None:
        """Suspend the direction."""
        self.suspend(SUSPENDED_GROUP)

    def go_on(self) -> bool:
        """Resume the direction, unless another thread holds the lock of the bufferevent.

        To wait for it could be for ever: whose turn it is is found out with another's lock held.
        """
        if self._lock is None:
            self.resume(SUSPENDED_GROUP)
        elif self._lock.acquire(blocking=False):
            try:
                self.resume(SUSPENDED_GROUP)
            finally:
                self._lock.release()
        else:
            return False
        return True


class Limits:
    """All that limits one bufferevent; the `flow.Limiter` of this package."""

    __slots__ = ("_bev", "_buckets", "group", "read", "refill", "write")

    def __init__(self, bev: RateLimited) -> None:
        self._bev = bev
        self.read = LimitedSide(
            bev._suspend_reading, bev._resume_reading, bev._wants_to_read, bev._lock
        )
        self.write = LimitedSide(
            bev._suspend_writing, bev._resume_writing, bev._wants_to_write, bev._lock
        )
        self._buckets: BucketPair[TokenBucket] | None = None
        self.refill: Event | None = None
        self.group: RateLimitGroup | None = None
        bev._set_limiter(self)

    @property
    def cfg(self) -> TokenBucketCfg | None:
        """How the own buckets are filled; None without."""
        return None if self._buckets is None else self._buckets.cfg

    def set_cfg(self, cfg: TokenBucketCfg) -> None:
        """Have own buckets, or fill them by another configuration."""
        now = self._bev._base.now
        if self._buckets is None or self.refill is None:
            self._buckets = BucketPair(cfg, now, TokenBucket)
            self.read.bucket = self._buckets.read
            self.write.bucket = self._buckets.write
            self.refill = self._bev._new_event(-1, 0, self._on_refill)
        elif cfg != self._buckets.cfg:
            self._buckets.configure(cfg, now)
            self.refill.delete()  # where it is still needed it runs for one of the new ticks
            self._judge(self.read)
            self._judge(self.write)

    def remove_cfg(self) -> None:
        """Have no own buckets any more."""
        self._forget_buckets()
        self.read.resume(SUSPENDED_BANDWIDTH)
        self.write.resume(SUSPENDED_BANDWIDTH)
        self._end_without_limit()

    def join_group(self, group: RateLimitGroup) -> None:
        """Share a group's buckets."""
        self.group = group
        self.read.lane, self.write.lane = group._join(self)

    def leave_group(self) -> None:
        """Share no group's buckets any more, and go on."""
        if self.group is not None:
            self._quit_group()
            self._bev._guarded(self._go_on_without_group)()

    def close(self) -> None:
        """Forget the bufferevent: nothing is left of it."""
        self._quit_group()
        self._forget_buckets()

    def max_to_read(self, most: int) -> int:
        """Return how much may be read now, `most` at most; reading is suspended when nothing is."""
        return min(self._ask(self.read, most), most)

    def max_to_write(self, most: int) -> int:
        """Return how much may be written now; writing is suspended when nothing is.

        An own bucket counts instead of `most`: what goes out at once is up to the kernel.
        """
        return self._ask(self.write, most)

    def note_read(self, size: int) -> None:
        """Charge for bytes that were read."""
        self._charge(self.read, size)

    def note_written(self, size: int) -> None:
        """Charge for bytes that were written."""
        self._charge(self.write, size)

    def room(self, side: LimitedSide, most: int) -> int:
        """Return how much one side may move now, where `most` counts without an own bucket."""
        self._update()
        return side.room(most)

    def level(self, side: LimitedSide) -> int:
        """Return what the own bucket of a side holds now; EV_RATE_LIMIT_MAX without one."""
        self._update()
        return EV_RATE_LIMIT_MAX if side.bucket is None else side.bucket.level

    def decrement(self, side: LimitedSide, size: int) -> None:
        """Take from the own bucket of a side by hand, or give back."""
        if side.bucket is None:
            raise StateError("the bufferevent has no rate limit of its own")
        self._update()
        side.bucket.level -= size
        self._judge(side)

    def _ask(self, side: LimitedSide, most: int) -> int:
        allowed = self.room(side, most)
        if not allowed:
            if side.bucket is not None and side.bucket.level <= 0:
                self._hold_back(side)
            elif side.lane is not None:
                side.lane.wait(side)
        return allowed

    def _charge(self, side: LimitedSide, size: int) -> None:
        if side.bucket is not None:
            side.bucket.level -= size
            if side.bucket.level <= 0:
                self._hold_back(side)
        if side.lane is not None:
            side.lane.take(side, size)

    def _update(self) -> None:
        if self._buckets is not None:
            self._buckets.update(self._bev._base.now)

    def _judge(self, side: LimitedSide) -> None:
        """Let a side go on if its own bucket has something, else hold it back."""
        if side.bucket is None:
            return
        if side.bucket.level > 0:
            side.resume(SUSPENDED_BANDWIDTH)
        else:
            self._hold_back(side)

    def _hold_back(self, side: LimitedSide) -> None:
        if self._buckets is not None and self.refill is not None:
            if not self.refill.pending():
                self.refill.add(self._buckets.cfg.tick)
            side.suspend(SUSPENDED_BANDWIDTH)

    def _on_refill(self, fd: int, what: int, arg: object) -> None:
        self._update()
        self._judge(self.read)
        self._judge(self.write)

    def _forget_buckets(self) -> None:
        if self.refill is not None:
            self.refill.close()
        self.refill = self._buckets = self.read.bucket = self.write.bucket = None

    def _quit_group(self) -> None:
        if self.group is not None:
            group, self.group = self.group, None
            group._leave(self)
            self.read.lane = self.write.lane = None

    def _go_on_without_group(self) -> None:
        self.read.resume(SUSPENDED_GROUP)
        self.write.resume(SUSPENDED_GROUP)
        self._end_without_limit()

    def _end_without_limit(self) -> None:
        if self.group is None and self._buckets is None:
            self._bev._set_limiter(None)


class RateLimited(Flow):
    """What a program may say of the rate limits of a bufferevent.

    Limits are kept by the kinds over a descriptor, which move bytes with system calls; others
    are only held back while a bucket of their own is empty.
    """

    __slots__ = ()

    _limiter: Limits | None

    @property
    def rate_limit(self) -> TokenBucketCfg | None:
        """Its own rate limit, or None (bufferevent_get_token_bucket_cfg)."""
        return None if self._limiter is None else self._limiter.cfg

    def set_rate_limit(self, cfg: TokenBucketCfg | None) -> None:
        """Limit how fast it reads and writes; None is without limit (bufferevent_set_rate_limit).

        At first one tick's worth may move.  Another limit takes nothing of what is there but what
        is over its burst.  Raises StateError when closed, ArgumentTypeError for what is neither.
        """
        self._require_open()
        if cfg is not None:
            if not isinstance(cfg, TokenBucketCfg):
                raise ArgumentTypeError(
                    f"a rate limit is a TokenBucketCfg or None, not {type(cfg).__name__}"
                )
            (self._limiter or Limits(self)).set_cfg(cfg)
        elif self._limiter is not None:
            self._limiter.remove_cfg()

    @property
    def read_limit(self) -> int:
        """How many bytes its own limit lets it read now; below 0 when in debt.

        EV_RATE_LIMIT_MAX without a limit.  Source: bufferevent_get_read_limit.
        """
        limits = self._limiter
        return EV_RATE_LIMIT_MAX if limits is None else limits.level(limits.read)

    @property
    def write_limit(self) -> int:
        """How many bytes its own limit lets it write now; below 0 when in debt.

        EV_RATE_LIMIT_MAX without a limit.  Source: bufferevent_get_write_limit.
        """
        limits = self._limiter
        return EV_RATE_LIMIT_MAX if limits is None else limits.level(limits.write)

    def decrement_read_limit(self, size: int) -> None:
        """Take `size` bytes from what it may read; a negative size gives them back.

        For what is read past it.  Reading is suspended when nothing is left, and goes on at once
        when something is again.  Raises StateError without a limit of its own, or when closed,
        ArgumentTypeError for a size that is no whole number.
        Source: bufferevent_decrement_read_limit.
        """
        limits = self._require_limits()
        limits.decrement(limits.read, whole_number(size, "a size"))

    def decrement_write_limit(self, size: int) -> None:
        """Take `size` bytes from what it may write; a negative size gives them back.

        As with `decrement_read_limit`.  Source: bufferevent_decrement_write_limit.
        """
        limits = self._require_limits()
        limits.decrement(limits.write, whole_number(size, "a size"))

    @property
    def max_to_read(self) -> int:
        """How many bytes may be read now: its own limit, or else `max_single_read`, and no more
        than its share of the group's (bufferevent_get_max_to_read)."""
        most = self._max_single_read
        return most if self._limiter is None else self._limiter.room(self._limiter.read, most)

    @property
    def max_to_write(self) -> int:
        """How many bytes may be written now: its own limit, or else `max_single_write`, and no
        more than its share of the group's (bufferevent_get_max_to_write)."""
        most = self._max_single_write
        return most if self._limiter is None else self._limiter.room(self._limiter.write, most)

    @property
    def rate_limit_group(self) -> RateLimitGroup | None:
        """The group whose limit it shares, or None."""
        return None if self._limiter is None else self._limiter.group

    def add_to_rate_limit_group(self, group: RateLimitGroup) -> None:
        """Share the limit of `group` from now on, and leave the one before.

        In a group that has used up its limit it waits as the others do.  Raises ArgumentError for
        a group of another base, ArgumentTypeError for what is no group, StateError when either is
        closed.
        Source: bufferevent_add_to_rate_limit_group.
        """
        self._require_open()
        if not isinstance(group, RateLimitGroup):
            raise ArgumentTypeError(f"a RateLimitGroup is wanted, not {type(group).__name__}")
        group._require_open()
        if group.base is not self._base:
            raise ArgumentError("the rate limit group is of another event base")
        if group is not self.rate_limit_group:
            self.remove_from_rate_limit_group()
            (self._limiter or Limits(self)).join_group(group)

    def remove_from_rate_limit_group(self) -> None:
        """Leave the group, if it is in one, and go on at once if it waited for it.

        Source: bufferevent_remove_from_rate_limit_group.
        """
        if self._limiter is not None:
            self._limiter.leave_group()

    def _wants_to_read(self) -> bool:
        return bool(self._wanted & READ)

    def _wants_to_write(self) -> bool:
        return bool(self._wanted & WRITE) and self._waits_to_write()

    def _require_limits(self) -> Limits:
        self._require_open()
        if self._limiter is None:
            raise StateError("the bufferevent has no rate limit")
        return self._limiter

    def _events(self) -> list[Event]:
        events = super()._events()
        refill = None if self._limiter is None else self._limiter.refill
        return events if refill is None else [*events, refill]
