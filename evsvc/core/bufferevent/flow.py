"""When the bytes of a bufferevent move: enabled, suspended, watermarks, limits, time-outs.

Invariants
    * `_wanted` is `_enabled` less the directions that anything suspends.
    * `_bounded` is set exactly while a high watermark of reading or a limiter is.
    * Reading is suspended for its watermark from when the input reaches it until it is below.
    * A time-out runs exactly while its direction is wanted and, for writing, something waits.
"""

from __future__ import annotations

from abc import abstractmethod
from sys import maxsize
from typing import TYPE_CHECKING, Protocol

from ..buffer.transfer import MOST_MAX_READ_BYTES
from ..checks import check_timeout, whole_number
from ..errors import ArgumentError
from ..flags import BOTH, READ, WRITE, BevEvent, EventFlag
from ..reactor.event import Event
from ..thread import holding_lock
from .callbacks import Callbacks
from .inactivity import Inactivity

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..reactor.base import EventBase

MAX_SINGLE_READ_BYTES = 16384

# libevent offers the kernel 16 KiB at a time; a larger reply then takes a pass for each.
MAX_SINGLE_WRITE_BYTES = 256 * 1024

# Why a direction stands still though it is enabled (BEV_SUSPEND_*).
SUSPENDED_WATERMARK = 0x01  # the input is at its high watermark
SUSPENDED_BANDWIDTH = 0x02  # the bufferevent has used up its rate limit
SUSPENDED_GROUP = 0x04  # its group has
SUSPENDED_LOOKUP = 0x08  # the host name to connect to is being looked up
SUSPENDED_FILTER = 0x10  # the filter above does not want to read


class Limiter(Protocol):
    """What a bufferevent needs of a rate limit; it suspends and resumes the bufferevent itself.

    One that answers 0 has suspended the direction, or is about to.
    """

    def max_to_read(self, most: int) -> int:
        """Return how much of `most` bytes may be read now."""

    def max_to_write(self, most: int) -> int:
        """Return how much of `most` bytes may be written now."""

    def note_read(self, size: int) -> None:
        """Charge for bytes that were read."""

    def note_written(self, size: int) -> None:
        """Charge for bytes that were written."""

    def close(self) -> None:
        """Forget the bufferevent: nothing is left of it."""


class Flow(Callbacks):
    """What decides whether a bufferevent reads and writes."""

    __slots__ = (
        "_bounded",
        "_limiter",
        "_max_single_read",
        "_max_single_write",
        "_read_suspended",
        "_read_timer",
        "_wanted",
        "_write_suspended",
        "_write_timer",
    )

    def __init__(self, base: EventBase, options: int) -> None:
        super().__init__(base, options)
        self._wanted = self._enabled
        self._read_suspended = self._write_suspended = 0
        self._bounded = False
        self._limiter: Limiter | None = None
        self._max_single_read = MAX_SINGLE_READ_BYTES
        self._max_single_write = MAX_SINGLE_WRITE_BYTES
        self._read_timer: Inactivity | None = None
        self._write_timer: Inactivity | None = None

    @abstractmethod
    def _update_reading(self) -> None:
        """Start or stop reading, as `_wanted` says."""

    @abstractmethod
    def _update_writing(self) -> None:
        """Start or stop writing, as `_wanted` says, or see to the output that was added."""

    @property
    def enabled(self) -> EventFlag:
        """EV_READ and EV_WRITE as enabled (bufferevent_get_enabled)."""
        return EventFlag(self._enabled)

    @holding_lock
    def enable(self, events: int) -> None:
        """Enable EV_READ, EV_WRITE or both (bufferevent_enable).

        What is suspended starts when it is resumed.  Over a descriptor, enabling EV_WRITE gets one
        write callback even with an empty output.  Raises StateError when closed.
        """
        self._require_open()
        events = int(events) & BOTH
        self._enabled |= events
        if events & WRITE:
            self._asked_to_write()
        self._settle(events)

    @holding_lock
    def disable(self, events: int) -> None:
        """Disable EV_READ, EV_WRITE or both; buffered bytes stay (bufferevent_disable).

        Raises StateError when closed.
        """
        self._require_open()
        self._stop(int(events) & BOTH)

    @property
    def max_single_read(self) -> int:
        """The most bytes that one readiness brings.

        Setting 0, or more than 2**31 - 1, sets the default, 16 KiB; `input.max_read` follows.
        Raises ArgumentError when negative.
        Source: bufferevent_get_max_single_read, bufferevent_set_max_single_read.
        """
        return self._max_single_read

    @max_single_read.setter
    def max_single_read(self, size: int) -> None:
        self._max_single_read = _checked_size(size) or MAX_SINGLE_READ_BYTES
        self.input.max_read = self._max_single_read

    @property
    def max_single_write(self) -> int:
        """The most bytes that the kernel is offered at once.

        Setting 0, or more than 2**31 - 1, sets the default, 256 KiB.  Raises ArgumentError when
        negative.
        Source: bufferevent_get_max_single_write, bufferevent_set_max_single_write.
        """
        return self._max_single_write

    @max_single_write.setter
    def max_single_write(self, size: int) -> None:
        self._max_single_write = _checked_size(size) or MAX_SINGLE_WRITE_BYTES

    @holding_lock
    def setwatermark(self, events: int, low: int, high: int) -> None:
        """Set when callbacks run and reading pauses, in bytes (bufferevent_setwatermark).

        Reading: the read callback runs from `low` bytes in the input on; at `high` (0: no limit)
        reading pauses until the program takes some.  Writing: the write callback runs when the
        output is down to `low`; what `high` bounds is up to the kind, for sockets nothing.  No
        callback runs for the setting.  Raises ArgumentError when negative, StateError when closed.
        """
        self._require_open()
        if whole_number(low, "a watermark") < 0 or whole_number(high, "a watermark") < 0:
            raise ArgumentError(f"a watermark is 0 or more: {low!r}, {high!r}")
        if events & WRITE:
            self._write_low, self._write_high = low, high
        if events & READ:
            self._read_low, self._read_high = low, high
            self._bounded = bool(high) or self._limiter is not None
            self._check_high_watermark()

    def getwatermark(self, events: int) -> tuple[int, int]:
        """Return (low, high) of one direction (bufferevent_getwatermark).

        Raises ArgumentError for both or none.
        """
        if events == READ:
            return self._read_low, self._read_high
        if events == WRITE:
            return self._write_low, self._write_high
        raise ArgumentError(f"EV_READ or EV_WRITE is wanted: {events!r}")

    @holding_lock
    def set_timeouts(self, read_s: float | None, write_s: float | None) -> None:
        """Limit the silence in each direction; None or 0 is no limit (bufferevent_set_timeouts).

        Reading counts while it is enabled and not paused, writing while something waits to be
        sent.  When the time is over the direction is disabled, and the event callback gets
        BEV_EVENT_TIMEOUT with BEV_EVENT_READING or BEV_EVENT_WRITING.  Time-outs that run start
        anew.  Raises ArgumentError when negative, StateError when closed.
        """
        self._require_open()
        for limit in (read_s, write_s):
            if limit is not None:
                check_timeout(limit)
        for old in (self._read_timer, self._write_timer):
            if old is not None:
                old.close()
        self._read_timer = self._timer(read_s, self._read_expired)
        self._write_timer = self._timer(write_s, self._write_expired)
        self._update_timers()

    def _asked_to_write(self) -> None:
        """EV_WRITE is enabled by name; `_update_writing` follows."""

    def _waits_to_write(self) -> bool:
        return self.output.length > 0

    def _read_expired(self) -> None:
        self._stop(READ)
        self._run_eventcb(BevEvent.BEV_EVENT_TIMEOUT | BevEvent.BEV_EVENT_READING)

    def _write_expired(self) -> None:
        self._stop(WRITE)
        self._run_eventcb(BevEvent.BEV_EVENT_TIMEOUT | BevEvent.BEV_EVENT_WRITING)

    def _stop(self, directions: int) -> None:
        self._enabled &= ~directions
        self._settle(directions)

    def _settle(self, directions: int) -> None:
        """Have the kind, and the time-outs, follow what is enabled and suspended now."""
        wanted = self._enabled
        if self._read_suspended:
            wanted &= ~READ
        if self._write_suspended:
            wanted &= ~WRITE
        self._wanted = wanted
        if directions & READ:
            self._update_reading()
        if directions & WRITE:
            self._update_writing()
        if self._read_timer is not None or self._write_timer is not None:
            self._update_timers()

    def _suspend_reading(self, reason: int) -> None:
        self._read_suspended |= reason
        self._settle(READ)

    def _resume_reading(self, reason: int) -> None:
        if self._read_suspended & reason:
            self._read_suspended &= ~reason
            self._settle(READ)

    def _suspend_writing(self, reason: int) -> None:
        self._write_suspended |= reason
        self._settle(WRITE)

    def _resume_writing(self, reason: int) -> None:
        if self._write_suspended & reason:
            self._write_suspended &= ~reason
            self._settle(WRITE)

    def _set_limiter(self, limiter: Limiter | None) -> None:
        self._limiter = limiter
        self._bounded = bool(self._read_high) or limiter is not None

    def _room_to_read(self) -> int:
        """How many bytes the input takes before it is at its high watermark."""
        if not self._read_high:
            return maxsize
        return max(self._read_high - self.input.length, 0)

    def _max_to_read(self) -> int:
        """How many bytes one system call may read now."""
        most = self._max_single_read
        return most if self._limiter is None else self._limiter.max_to_read(most)

    def _max_to_write(self) -> int:
        """How many bytes one system call may write now."""
        most = self._max_single_write
        return most if self._limiter is None else self._limiter.max_to_write(most)

    def _bytes_came(self, defer: bool = False) -> None:
        """The input has grown: a sign of life, and something to tell."""
        if self._read_timer is not None:
            self._read_timer.last = self._base.now
        self._tell_input(defer)

    def _tell_input(self, defer: bool = False) -> None:
        """Pause at the high watermark, and tell the program from the low one on."""
        if self._read_high:
            self._check_high_watermark()
        if self.input.length < self._read_low or self._readcb is None:
            return
        if defer or self._defers or self._read_high:
            self._run_readcb(defer)
        else:
            self._readcb(self, self._ctx)

    def _bytes_left(self, defer: bool = False) -> None:
        """The output has shrunk: a sign of life, and to be told from the low watermark down."""
        if self._write_timer is not None:
            self._write_timer.last = self._base.now
            self._update_timers()
        if self.output.length <= self._write_low:
            self._run_writecb(defer)

    def _check_high_watermark(self) -> None:
        if self._read_high and self.input.length >= self._read_high:
            self.input.on_drain = self._check_high_watermark
            if not self._read_suspended & SUSPENDED_WATERMARK:
                self._suspend_reading(SUSPENDED_WATERMARK)
        elif self._read_suspended & SUSPENDED_WATERMARK:
            self.input.on_drain = None
            self._resume_reading(SUSPENDED_WATERMARK)

    def _timer(self, limit_s: float | None, expired: Callable[[], object]) -> Inactivity | None:
        if not limit_s:
            return None
        return Inactivity(self._new_event, limit_s, expired)

    def _timers(self) -> list[Inactivity]:
        return [timer for timer in (self._read_timer, self._write_timer) if timer is not None]

    def _update_timers(self) -> None:
        """Start or stop the time-outs; one that runs runs on."""
        now = self._base.now
        if self._read_timer is not None:
            self._read_timer.run(now, bool(self._wanted & READ))
        if self._write_timer is not None:
            self._write_timer.run(now, bool(self._wanted & WRITE) and self._waits_to_write())

    def _events(self) -> list[Event]:
        events = self._io_events() + [timer.event for timer in self._timers()]
        return events if self._deferred is None else [*events, self._deferred]

    @abstractmethod
    def _io_events(self) -> list[Event]:
        """Return the events of the kind itself."""


def _checked_size(size: int) -> int:
    if whole_number(size, "a size") < 0:
        raise ArgumentError(f"a size is 0 or more: {size!r}")
    return size if size <= MOST_MAX_READ_BYTES else 0
