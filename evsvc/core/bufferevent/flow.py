"""Whether bytes of a bufferevent move: what is enabled, what stands still and why, the watermarks.

Knows neither buffers nor descriptors: it decides, and says so through one function.

Invariants
    * `wanted` is `enabled` less the directions that anything suspends.
    * Suspension is a set of reasons: a direction goes on when the last of them has gone.
"""

from __future__ import annotations

from collections.abc import Callable

from ..flags import READ, WRITE

MAX_SINGLE_READ_BYTES = 16384

# libevent offers the kernel 16 KiB at a time; a larger reply then takes a pass for each.
MAX_SINGLE_WRITE_BYTES = 256 * 1024

# Why a direction stands still though it is enabled (BEV_SUSPEND_*).
SUSPENDED_WATERMARK = 0x01  # the input is at its high watermark
SUSPENDED_BANDWIDTH = 0x02  # the bufferevent has used up its rate limit
SUSPENDED_GROUP = 0x04  # its group has
SUSPENDED_LOOKUP = 0x08  # the host name to connect to is being looked up
SUSPENDED_FILTER = 0x10  # what stands on the bufferevent does not want to read


def _ignore(directions: int) -> None:
    """Stand in for the owner once it is over; also, so that they do not hold each other."""


class Flow:
    """What decides whether a bufferevent reads and writes.

    update: called with READ or WRITE when a direction was suspended or resumed.  All the numbers
    are to be read by anyone; the watermarks are set by the bufferevent.
    """

    __slots__ = (
        "_update",
        "enabled",
        "read_high",
        "read_low",
        "read_suspended",
        "wanted",
        "write_high",
        "write_low",
        "write_suspended",
    )

    def __init__(self, update: Callable[[int], object]) -> None:
        self._update = update
        self.enabled = self.wanted = WRITE
        self.read_suspended = self.write_suspended = 0
        self.read_low = self.read_high = self.write_low = self.write_high = 0

    def set_enabled(self, directions: int) -> None:
        """Enable these directions and no others.  Who asks for it sees to what follows."""
        self.enabled = directions
        self._decide()

    def suspend_reading(self, reason: int) -> None:
        """Have reading stand still, for one more reason."""
        self.read_suspended |= reason
        self._decide()
        self._update(READ)

    def resume_reading(self, reason: int) -> None:
        """Take a reason back; reading goes on if it was the last."""
        if self.read_suspended & reason:
            self.read_suspended &= ~reason
            self._decide()
            self._update(READ)

    def suspend_writing(self, reason: int) -> None:
        """Have writing stand still, for one more reason."""
        self.write_suspended |= reason
        self._decide()
        self._update(WRITE)

    def resume_writing(self, reason: int) -> None:
        """Take a reason back; writing goes on if it was the last."""
        if self.write_suspended & reason:
            self.write_suspended &= ~reason
            self._decide()
            self._update(WRITE)

    def close(self) -> None:
        """Want nothing any more, and call nobody."""
        self.enabled = self.wanted = 0
        self._update = _ignore

    def _decide(self) -> None:
        wanted = self.enabled
        if self.read_suspended:
            wanted &= ~READ
        if self.write_suspended:
            wanted &= ~WRITE
        self.wanted = wanted
