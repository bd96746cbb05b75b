"""Rate limits of one bufferevent: its own buckets, and its place in a group.

Invariants
    * A direction is suspended with SUSPENDED_BANDWIDTH from when its own bucket is empty until the
      refill timer, or the program by hand, finds something in it.  The timer runs meanwhile.
    * A bufferevent without any limit has no RateLimit, and pays nothing.
    * What answers 0 has suspended the direction, or is about to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import StateError
from .flow import SUSPENDED_BANDWIDTH, SUSPENDED_GROUP
from .rate_buckets import EV_RATE_LIMIT_MAX, BucketPair, TokenBucket, TokenBucketCfg

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..reactor.event import Event
    from ..thread import Lock
    from .rate_group import Lane, RateLimitGroup
    from .timeouts import NewEvent


class Side:
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


class RateLimit:
    """All that limits one bufferevent; it suspends and resumes the two directions itself.

    now: the loop's time.  guarded: returns a function that holds the lock of the bufferevent, and
    does nothing once that is over.  ended: called when there is no limit any more.
    """

    __slots__ = (
        "_buckets",
        "_ended",
        "_guarded",
        "_new_event",
        "_now",
        "group",
        "read",
        "refill",
        "write",
    )

    def __init__(
        self,
        read: Side,
        write: Side,
        now: Callable[[], float],
        new_event: NewEvent,
        guarded: Callable[[Callable[[], object]], Callable[[], object]],
        ended: Callable[[], object],
    ) -> None:
        self.read = read
        self.write = write
        self._now = now
        self._new_event = new_event
        self._guarded = guarded
        self._ended = ended
        self._buckets: BucketPair[TokenBucket] | None = None
        self.refill: Event | None = None
        self.group: RateLimitGroup | None = None

    @property
    def cfg(self) -> TokenBucketCfg | None:
        """How the own buckets are filled; None without."""
        return None if self._buckets is None else self._buckets.cfg

    def set_cfg(self, cfg: TokenBucketCfg) -> None:
        """Have own buckets, or fill them by another configuration."""
        now = self._now()
        if self._buckets is None or self.refill is None:
            self._buckets = BucketPair(cfg, now, TokenBucket)
            self.read.bucket = self._buckets.read
            self.write.bucket = self._buckets.write
            self.refill = self._new_event(-1, 0, self._on_refill)
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
        self.read.lane, self.write.lane = group.join(self)

    def leave_group(self) -> None:
        """Share no group's buckets any more, and go on."""
        if self.group is not None:
            self._quit_group()
            self._guarded(self._go_on_without_group)()

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

    def room(self, side: Side, most: int) -> int:
        """Return how much one side may move now, where `most` counts without an own bucket."""
        self._update()
        return side.room(most)

    def level(self, side: Side) -> int:
        """Return what the own bucket of a side holds now; EV_RATE_LIMIT_MAX without one."""
        self._update()
        return EV_RATE_LIMIT_MAX if side.bucket is None else side.bucket.level

    def decrement(self, side: Side, size: int) -> None:
        """Take from the own bucket of a side by hand, or give back."""
        if side.bucket is None:
            raise StateError("the bufferevent has no rate limit of its own")
        self._update()
        side.bucket.level -= size
        self._judge(side)

    def _ask(self, side: Side, most: int) -> int:
        allowed = self.room(side, most)
        if not allowed:
            if side.bucket is not None and side.bucket.level <= 0:
                self._hold_back(side)
            elif side.lane is not None:
                side.lane.wait(side)
        return allowed

    def _charge(self, side: Side, size: int) -> None:
        if side.bucket is not None:
            side.bucket.level -= size
            if side.bucket.level <= 0:
                self._hold_back(side)
        if side.lane is not None:
            side.lane.take(side, size)

    def _update(self) -> None:
        if self._buckets is not None:
            self._buckets.update(self._now())

    def _judge(self, side: Side) -> None:
        """Let a side go on if its own bucket has something, else hold it back."""
        if side.bucket is None:
            return
        if side.bucket.level > 0:
            side.resume(SUSPENDED_BANDWIDTH)
        else:
            self._hold_back(side)

    def _hold_back(self, side: Side) -> None:
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
            group.leave(self)
            self.read.lane = self.write.lane = None

    def _go_on_without_group(self) -> None:
        self.read.resume(SUSPENDED_GROUP)
        self.write.resume(SUSPENDED_GROUP)
        self._end_without_limit()

    def _end_without_limit(self) -> None:
        if self.group is None and self._buckets is None:
            self._ended()
