"""What every bufferevent has: two buffers, callbacks, watermarks, time-outs, deferral.

A kind of bufferevent (socket, pair, filter, TLS) says in the `_update_*` methods how its bytes
move, and calls `_bytes_came`, `_bytes_left` and `_run_eventcb` as they do.

Invariants
    * No callback runs inside a call that the program makes, `trigger` apart.
    * After `close` no callback runs.  Every callback may close: look again after each.
    * The input's end and the output's start belong to the bufferevent and are frozen for others.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..buffer import EvBuffer
from ..closing import Closing
from ..errors import ArgumentError, StateError
from ..event import READ, WRITE, Event
from ..flags import BevEvent, BevOption, EventFlag
from .inactivity import Inactivity

if TYPE_CHECKING:
    from ..base import EventBase

DataCallback = Callable[[Any, Any], object]
"""Called as `cb(bev, ctx)`."""
EventCallback = Callable[[Any, BevEvent, Any], object]
"""Called as `cb(bev, what, ctx)`."""

BEV_TRIG_IGNORE_WATERMARKS = 1 << 16
BEV_TRIG_DEFER_CALLBACKS = 4

# Why reading stands still though it is enabled.
SUSPENDED_WATERMARK, SUSPENDED_LOOKUP = 0x01, 0x02

_CONNECTED = int(BevEvent.BEV_EVENT_CONNECTED)
_OPTIONS = 0x0F


class AbstractBufferEvent(Closing):
    """The contract of all bufferevents.

    A fresh one has EV_WRITE enabled and EV_READ not.  `ctx` goes to each callback.
    `error` is the OSError behind the last BEV_EVENT_ERROR, else None.
    """

    __slots__ = (
        "_base",
        "_closed",
        "_ctx",
        "_deferred",
        "_deferred_data",
        "_deferred_what",
        "_defers",
        "_enabled",
        "_eventcb",
        "_options",
        "_priority",
        "_read_high",
        "_read_low",
        "_read_suspended",
        "_read_timer",
        "_readcb",
        "_write_high",
        "_write_low",
        "_write_timer",
        "_writecb",
        "error",
        "input",
        "output",
    )

    def __init__(self, base: EventBase, options: int = 0) -> None:
        options = int(options)
        if options & ~_OPTIONS:
            raise ArgumentError(f"unknown bufferevent options: {options & ~_OPTIONS:#x}")
        if options & BevOption.BEV_OPT_UNLOCK_CALLBACKS and not (
            options & BevOption.BEV_OPT_DEFER_CALLBACKS
        ):
            raise ArgumentError("BEV_OPT_UNLOCK_CALLBACKS goes with BEV_OPT_DEFER_CALLBACKS only")
        base._require_open()
        self._base = base
        self._options = options
        self._defers = bool(options & BevOption.BEV_OPT_DEFER_CALLBACKS)
        self._closed = False
        self._priority = base.npriorities // 2
        self._readcb: DataCallback | None = None
        self._writecb: DataCallback | None = None
        self._eventcb: EventCallback | None = None
        self._ctx: Any = None
        self._enabled = WRITE
        self._read_low = self._read_high = self._write_low = self._write_high = 0
        self._read_suspended = 0
        self._read_timer: Inactivity | None = None
        self._write_timer: Inactivity | None = None
        self._deferred: Event | None = None
        self._deferred_data = 0  # READ and WRITE callbacks that wait
        self._deferred_what = 0  # what the event callback will be told
        self.error: OSError | None = None
        self.input = EvBuffer()
        self.output = EvBuffer()
        self.input.freeze(at_front=False)
        self.output.freeze(at_front=True)
        self.output._on_add = self._update_writing

    @abstractmethod
    def _update_reading(self) -> None:
        """Start or stop reading, as `_wants_to_read` says."""

    @abstractmethod
    def _update_writing(self) -> None:
        """Start or stop writing: the output, or whether EV_WRITE is enabled, has changed."""

    @abstractmethod
    def _on_close(self) -> None:
        """Give up what lies below the buffers."""

    @property
    def base(self) -> EventBase:
        """The event base (bufferevent_get_base)."""
        return self._base

    @property
    def enabled(self) -> EventFlag:
        """EV_READ and EV_WRITE as enabled (bufferevent_get_enabled)."""
        return EventFlag(self._enabled)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def setcb(
        self,
        readcb: DataCallback | None,
        writecb: DataCallback | None,
        eventcb: EventCallback | None,
        ctx: object = None,
    ) -> None:
        """Set the callbacks; what happens without one is not told later (bufferevent_setcb)."""
        self._require_open()
        self._readcb, self._writecb, self._eventcb, self._ctx = readcb, writecb, eventcb, ctx

    def getcb(self) -> tuple[DataCallback | None, DataCallback | None, EventCallback | None, Any]:
        """Return the callbacks and their argument (bufferevent_getcb)."""
        return self._readcb, self._writecb, self._eventcb, self._ctx

    def enable(self, events: int) -> None:
        """Enable EV_READ, EV_WRITE or both (bufferevent_enable).

        Enabling EV_WRITE explicitly gets one write callback even with an empty output.
        """
        self._require_open()
        self._enabled |= int(events) & (READ | WRITE)
        if events & READ:
            self._update_reading()
        if events & WRITE:
            self._update_writing()

    def disable(self, events: int) -> None:
        """Disable EV_READ, EV_WRITE or both; buffered bytes stay (bufferevent_disable)."""
        self._require_open()
        self._enabled &= ~(int(events) & (READ | WRITE))
        if events & READ:
            self._update_reading()
        if events & WRITE:
            self._update_writing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append to the output; it is sent after the callbacks of this pass (bufferevent_write).

        Raises ArgumentTypeError for anything but bytes, StateError when closed.
        """
        self._require_open()
        self.output.add(data)

    def write_buffer(self, buffer: EvBuffer) -> None:
        """Move a buffer's contents to the output (bufferevent_write_buffer)."""
        self._require_open()
        self.output.add_buffer(buffer)

    def read(self, size: int = -1) -> bytes:
        """Take up to `size` bytes (-1: all) from the input (bufferevent_read)."""
        return self.input.remove(size)

    def read_buffer(self, buffer: EvBuffer) -> None:
        """Move the input's contents to `buffer` (bufferevent_read_buffer)."""
        buffer.add_buffer(self.input)

    def setwatermark(self, events: int, low: int, high: int) -> None:
        """Set when callbacks run and reading pauses, in bytes (bufferevent_setwatermark).

        Reading: the read callback runs from `low` bytes in the input on; at `high` (0: no limit)
        reading pauses until the program takes some.  Writing: the write callback runs when the
        output is down to `low`.  Raises ArgumentError when negative.
        """
        self._require_open()
        if low < 0 or high < 0:
            raise ArgumentError(f"a watermark is 0 or more: {low!r}, {high!r}")
        if events & WRITE:
            self._write_low, self._write_high = low, high
        if events & READ:
            self._read_low, self._read_high = low, high
            self._check_high_watermark()

    def getwatermark(self, events: int) -> tuple[int, int]:
        """Return (low, high) of one direction.  Raises ArgumentError for both or none."""
        if events == READ:
            return self._read_low, self._read_high
        if events == WRITE:
            return self._write_low, self._write_high
        raise ArgumentError(f"EV_READ or EV_WRITE is wanted: {events!r}")

    def set_timeouts(self, read_s: float | None, write_s: float | None) -> None:
        """Limit the silence in each direction; None or 0 is no limit (bufferevent_set_timeouts).

        Reading counts while it is enabled and not paused, writing while something waits to be
        sent.  When the time is over the direction is disabled, and the event callback gets
        BEV_EVENT_TIMEOUT with BEV_EVENT_READING or BEV_EVENT_WRITING.
        """
        self._require_open()
        for limit in (read_s, write_s):
            if limit is not None and not limit >= 0:
                raise ArgumentError(f"a timeout is seconds, 0 or more: {limit!r}")
        for old in (self._read_timer, self._write_timer):
            if old is not None:
                old.close()
        base = self._base
        self._read_timer = Inactivity(base, read_s, self._read_expired) if read_s else None
        self._write_timer = Inactivity(base, write_s, self._write_expired) if write_s else None
        self._update_timers()

    def trigger(self, events: int, options: int = 0) -> None:
        """Run the read or write callback as if bytes had moved (bufferevent_trigger).

        Watermarks hold unless BEV_TRIG_IGNORE_WATERMARKS; BEV_TRIG_DEFER_CALLBACKS defers.
        """
        self._require_open()
        ignore = options & BEV_TRIG_IGNORE_WATERMARKS
        defer = bool(options & BEV_TRIG_DEFER_CALLBACKS)
        if events & READ and (ignore or len(self.input) >= self._read_low):
            self._run_readcb(defer)
        if events & WRITE and not self._closed and (ignore or len(self.output) <= self._write_low):
            self._run_writecb(defer)

    def trigger_event(self, what: int, options: int = 0) -> None:
        """Give the event callback any flags (bufferevent_trigger_event)."""
        self._require_open()
        self._run_eventcb(int(what), bool(options & BEV_TRIG_DEFER_CALLBACKS))

    def close(self) -> None:
        """End it: no callback runs any more, unsent output is dropped.  Safe to repeat, and safe
        from inside any of its callbacks (bufferevent_free)."""
        if self._closed:
            return
        self._closed = True
        self._readcb = self._writecb = self._eventcb = None
        self._ctx = None
        self._enabled = 0
        for timer in (self._read_timer, self._write_timer, self._deferred):
            if timer is not None:
                timer.close()
        self._read_timer = self._write_timer = self._deferred = None
        self._on_close()
        self.input.close()
        self.output.close()

    def _wants_to_read(self) -> bool:
        return bool(self._enabled & READ) and not self._read_suspended

    def _bytes_came(self) -> None:
        """The input has grown: pause at the high watermark, tell the program from the low one."""
        if self._read_high:
            self._check_high_watermark()
        if self.input._length >= self._read_low:
            self._run_readcb()

    def _bytes_left(self) -> None:
        """The output has shrunk: tell the program from the low watermark down."""
        if self.output._length <= self._write_low:
            self._run_writecb()

    def _suspend_reading(self, reason: int) -> None:
        self._read_suspended |= reason
        self._update_reading()

    def _resume_reading(self, reason: int) -> None:
        self._read_suspended &= ~reason
        self._update_reading()

    def _check_high_watermark(self) -> None:
        if self._read_high and self.input._length >= self._read_high:
            self._suspend_reading(SUSPENDED_WATERMARK)
            self.input._on_drain = self._check_high_watermark
        elif self._read_suspended & SUSPENDED_WATERMARK:
            self.input._on_drain = None
            self._resume_reading(SUSPENDED_WATERMARK)

    def _update_timers(self) -> None:
        """Have each time-out run exactly while its direction is wanted; one that runs runs on."""
        now = self._base.now
        if self._read_timer is not None:
            if self._wants_to_read():
                self._read_timer.start(now)
            else:
                self._read_timer.stop()
        if self._write_timer is not None:
            if self._enabled & WRITE and self._waits_to_write():
                self._write_timer.start(now)
            else:
                self._write_timer.stop()

    def _stop_timers(self) -> None:
        for timer in (self._read_timer, self._write_timer):
            if timer is not None:
                timer.stop()

    def _waits_to_write(self) -> bool:
        return self.output._length > 0

    def _read_expired(self) -> None:
        self.disable(READ)
        self._run_eventcb(BevEvent.BEV_EVENT_TIMEOUT | BevEvent.BEV_EVENT_READING)

    def _write_expired(self) -> None:
        self.disable(WRITE)
        self._run_eventcb(BevEvent.BEV_EVENT_TIMEOUT | BevEvent.BEV_EVENT_WRITING)

    def _run_readcb(self, defer: bool = False) -> None:
        if self._readcb is None:
            return
        if self._defers or defer:
            self._deferred_data |= READ
            self._activate_deferred()
        else:
            self._call_readcb()

    def _call_readcb(self) -> None:
        if self._readcb is None:
            return
        try:
            self._readcb(self, self._ctx)
        finally:
            if self._read_high and self.input._length >= self._read_high:
                self._call_again()

    def _call_again(self) -> None:
        """Call a program that takes a little at a time, or raises, until it is below the mark."""
        if self._enabled & READ:
            self._run_readcb(defer=True)

    def _run_writecb(self, defer: bool = False) -> None:
        if self._writecb is None:
            return
        if self._defers or defer:
            self._deferred_data |= WRITE
            self._activate_deferred()
        else:
            self._writecb(self, self._ctx)

    def _run_eventcb(self, what: int, defer: bool = False) -> None:
        if self._eventcb is None:
            return
        if self._defers or defer:
            self._deferred_what |= what
            self._activate_deferred()
        else:
            self._eventcb(self, BevEvent(what), self._ctx)

    def _activate_deferred(self) -> None:
        if self._deferred is None:
            self._deferred = Event(self._base, -1, 0, self._run_deferred)
            self._deferred._priority = self._priority
        # In the next pass: a program that is called until it has read enough starves nobody.
        self._base._registry.activate_later(self._deferred, 0)

    def _run_deferred(self, fd: int, flags: int, arg: object) -> None:
        """Run what waits: connected, read, write, then the other events in one call.

        When one of them raises, the rest waits on.
        """
        data, self._deferred_data = self._deferred_data, 0
        what, self._deferred_what = self._deferred_what, 0
        try:
            if what & _CONNECTED:
                what &= ~_CONNECTED
                if self._eventcb is not None:
                    self._eventcb(self, BevEvent.BEV_EVENT_CONNECTED, self._ctx)
            if data & READ:
                data &= ~READ
                self._call_readcb()
            if data & WRITE:
                data &= ~WRITE
                if self._writecb is not None:
                    self._writecb(self, self._ctx)
            last, what = what, 0
            if last and self._eventcb is not None:
                self._eventcb(self, BevEvent(last), self._ctx)
        finally:
            if (data or what) and not self._closed:
                self._deferred_data |= data
                self._deferred_what |= what
                self._activate_deferred()

    def _require_open(self) -> None:
        if self._closed:
            raise StateError("the bufferevent is closed")
