"""A bufferevent whose bytes go through functions of the program, to and from another one.

Invariants
    * The bufferevent below reads exactly while this one wants to: reading is suspended there
      otherwise, at our high watermark, too.  What it has read by then waits in its input.
    * A filter never runs inside itself.  What is added or drained meanwhile is seen to by the run
      under way, or by the next.
    * Filters run without the lock of BEV_OPT_THREADSAFE.
    * Filters run in the loop, but for the output filter, which runs inside `write`, and both inside
      `flush`.  What one raises always comes out of the loop; its bytes stay where they are.
    * An end that comes from below waits until the bytes before it are through.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..buffer.chain import Mark
from ..errors import ArgumentError, ArgumentTypeError, StateError
from ..flags import (
    BEV_ERROR,
    BEV_NEED_MORE,
    BEV_OK,
    BOTH,
    CLOSE_ON_FREE,
    EOF,
    ERROR,
    READ,
    READING,
    THREADSAFE,
    WRITE,
    WRITING,
    BufferEventFilterResult,
    FlushMode,
    TriggerOption,
)
from ..thread import call_unlocked
from .abstract import AbstractBufferEvent, directions_of, options_of
from .below import Below

if TYPE_CHECKING:
    import socket

    from ..buffer import EvBuffer

_log = logging.getLogger("evsvc.core")

FilterCallback = Callable[["EvBuffer", "EvBuffer", int | None, FlushMode, Any], int]
"""Called as `cb(source, destination, limit, mode, ctx)`: takes from the one, adds to the other.

limit: how many bytes to add at most, None for any number; more is no error.  mode: BEV_NORMAL, or
what the program flushes with, after which nothing should be held back; with BEV_FINISHED these are
the last bytes.  Returns BEV_OK when it has done something and can go on, BEV_NEED_MORE when it
waits for more in `source`, BEV_ERROR when it makes no sense of it.
"""
ContextCallback = Callable[[Any], object]
"""Called as `cb(ctx)`."""


_ENDS = EOF | ERROR
_NORMAL = FlushMode.BEV_NORMAL
_PULL = TriggerOption.BEV_TRIG_DEFER_CALLBACKS | TriggerOption.BEV_TRIG_IGNORE_WATERMARKS


def pass_through(
    source: EvBuffer, destination: EvBuffer, limit: int | None, mode: FlushMode, ctx: object
) -> BufferEventFilterResult:
    """Be the filter where there is none."""
    size = len(source) if limit is None else limit
    return BEV_OK if source.remove_buffer(destination, size) else BEV_NEED_MORE


class _Way:
    """One direction: bytes of `source`, through `function`, into `destination`."""

    __slots__ = ("busy", "destination", "function", "said_ok", "source")

    def __init__(
        self, function: FilterCallback | None, source: EvBuffer, destination: EvBuffer
    ) -> None:
        self.function = pass_through if function is None else function
        self.source = source
        self.destination = destination
        self.busy = False
        self.said_ok = False  # some call of the last run returned BEV_OK

    def run(
        self,
        mode: FlushMode,
        ctx: object,
        room: Callable[[], int | None],
        goes_on: Callable[[], object],
        *,
        forced: bool,
    ) -> None:
        """Call the function while it says BEV_OK and there are bytes and room, and `goes_on()`.

        room: how many bytes there is room for, None for any number.  With `forced` the first call
        comes in any case where there is room.
        """
        source, destination = self.source, self.destination
        self.said_ok = False
        frozen = source.frozen_start, destination.frozen_end
        source.unfreeze(at_front=True)
        destination.unfreeze(at_front=False)
        try:
            while forced or (source.length and goes_on()):
                forced = False
                limit = room()
                if (limit is not None and limit <= 0) or not self._call(limit, mode, ctx):
                    break
        finally:
            source.frozen_start = frozen[0]
            destination.frozen_end = frozen[1]

    def _call(self, limit: int | None, mode: FlushMode, ctx: object) -> bool:
        """Call the function once; return True when it may be called again."""
        source, destination = self.source, self.destination
        source_before, destination_before = Mark(source), Mark(destination)
        result = self.function(source, destination, limit, mode, ctx)
        if result == BEV_OK:
            self.said_ok = True
            # One that has moved nothing would say so for ever.
            return not (source_before.fits(source) and destination_before.fits(destination))
        if result == BEV_ERROR:
            _log.warning("the filter %r says BEV_ERROR to %d bytes", self.function, len(source))
        elif result != BEV_NEED_MORE:
            raise ArgumentError(
                f"a filter returns BEV_OK, BEV_NEED_MORE or BEV_ERROR, not {result!r}"
            )
        return False


class FilterBufferEvent(AbstractBufferEvent):
    """A bufferevent on top of another, with a function that changes the bytes of each direction.

    underlying: any bufferevent.  Its callbacks are replaced; it is enabled, and read from while
    this one has EV_READ enabled and is below its high watermark.  input_filter, output_filter: None
    is one that changes nothing.  free_context: called as `free_context(ctx)`, once, when nothing
    is left of this one.  With BEV_OPT_CLOSE_ON_FREE it closes the underlying one; else that can
    be used further, without callbacks.  BEV_OPT_THREADSAFE wants one that has it; they have one
    lock.  Where `underlying` has a high watermark of writing, its output is filled no further, and
    the rest waits here until it is down to the low one.

    The write callback comes when `underlying` has written what was made of the output.  What the
    event callback of `underlying` would be told is told here, but an end waits for the bytes
    before it; `error` is the same.  A filter that says BEV_ERROR is not told to the program: a
    record is logged, and it gets the same bytes again with the next.

    Raises ArgumentTypeError for what is no bufferevent or function, ArgumentError for other
    options, StateError when `underlying` is closed.  Source: bufferevent_filter_new.
    """

    __slots__ = (
        "_below",
        "_context",
        "_due",
        "_end_below",
        "_free_context",
        "_incoming",
        "_is_ending",
        "_outgoing",
        "_pull_due",
    )

    def __init__(
        self,
        underlying: AbstractBufferEvent,
        input_filter: FilterCallback | None = None,
        output_filter: FilterCallback | None = None,
        options: int = 0,
        free_context: ContextCallback | None = None,
        ctx: object = None,
    ) -> None:
        _check_arguments(underlying, input_filter, output_filter, free_context)
        if underlying.mutex is None and options_of(options) & THREADSAFE:
            raise ArgumentError("BEV_OPT_THREADSAFE wants it in the underlying bufferevent, too")
        super().__init__(underlying.base, options, underlying.mutex)
        self._incoming = _Way(input_filter, underlying.input, self.input)
        self._outgoing = _Way(output_filter, self.output, underlying.output)
        self._free_context = free_context
        self._context = ctx
        self._due = False  # the write callback is, as soon as what is below has written
        self._end_below = 0  # what ended there, while bytes before it wait
        self._is_ending = False  # the output filter is still to say its last
        self._pull_due = False  # the read callback of what is below is to come
        self._below = Below(
            underlying,
            bool(self._options & CLOSE_ON_FREE),
            self._below_read,
            self._below_wrote,
            self._below_event,
            self._below_drained,
        )
        self._below.take()
        try:
            self._below.enable(BOTH)
        except BaseException:  # what is below, and the context, stay the program's
            self._below.closes = False
            self._free_context = None
            self.close()
            raise

    @property
    def underlying(self) -> AbstractBufferEvent:
        """The bufferevent below this one (bufferevent_get_underlying)."""
        return self._below.bev

    @property
    def fd(self) -> int:
        """The descriptor of the bufferevent below, or -1 (bufferevent_getfd)."""
        return self._below.bev.fd

    @property
    def carries_bytes(self) -> bool:
        """Whether bytes can move over what is below."""
        return self._below.bev.carries_bytes

    @property
    def says_goodbye(self) -> bool:
        """Whether the end of the output is said in bytes: the functions may have last ones."""
        return True

    def has_unread(self) -> bool:
        """Return True when bytes of the peer have come and are not read, filtered or not."""
        return self.input.length > 0 or self._below.bev.has_unread()

    def watch_end(self, endcb: Callable[[], object] | None) -> None:
        """Call `endcb()` once when the peer has ended its side below; see AbstractBufferEvent."""
        self._require_open()
        self._below.bev.watch_end(endcb)

    def setfd(self, fd: socket.socket | int | None) -> None:
        """Have the bufferevent below use another descriptor (bufferevent_setfd).

        Raises as there, and StateError when closed.
        """
        self._require_open()
        self._below.bev.setfd(fd)

    def replacefd(self, fd: socket.socket | int | None) -> None:
        """Do as `setfd` does, and close the old descriptor (bufferevent_replacefd).

        Raises as `setfd`.
        """
        self._require_open()
        self._below.bev.replacefd(fd)

    def enable(self, events: int) -> None:
        """Enable EV_READ, EV_WRITE or both, here and below (bufferevent_enable).

        What came from below before is filtered then.  Raises StateError when closed.
        """
        self._require_open()
        # Where an end is still to be told, it is not to be found a second time.
        self._below.enable(directions_of(events) & (WRITE if self._end_below else BOTH))
        super().enable(events)

    def _update_reading(self) -> None:
        below = self._below
        if not self.flow.wanted & READ:
            below.hold()
            return
        below.release()
        if below.bev.input.length or self._end_below:
            self._pull_due = True
            below.bev.trigger(READ, _PULL)

    def _update_writing(self) -> None:
        self._run_in_loop(self._push_what_is_new)
        self._update_timers()

    def _push_what_is_new(self) -> None:
        self._step(self._push, _NORMAL, forced=False)

    def _asked_to_write(self) -> None:
        if not (self._due or self.output.length):
            self._due = True
            self._below.bev.enable(WRITE)

    def _waits_to_write(self) -> bool:
        return self._due or self.output.length > 0

    def unsent(self) -> bool:
        """Return True while output waits to be sent, here or in what is below."""
        return self.output.length > 0 or self._is_ending or self._below.unsent()

    def _end_output(self) -> bool:
        self._is_ending = True
        self._run_in_loop(self._end_below_output)
        return True

    def _end_below_output(self) -> None:
        """Have the filter say its last, and what is below end after it."""
        if self._references:
            self._step(self._push, FlushMode.BEV_FINISHED, forced=True)
        self._is_ending = False
        if self._references:
            self._below.bev.shutdown_write()

    def _flush(self, events: int, mode: FlushMode) -> bool:
        """Run the filters at least once, then flush below; return True when one said BEV_OK.

        Without limits and though disabled, but for BEV_NORMAL.  Raises as the flush below does.
        """
        said_ok = False
        if events & READ:
            said_ok = self._step(self._pull, mode, forced=True)
        if events & WRITE:
            said_ok |= self._step(self._push, mode, forced=True)
        if self._references:
            self._below.bev.flush(events, mode)
        return said_ok

    def _step(self, step: Callable[..., bool], mode: FlushMode, *, forced: bool) -> bool:
        """Filter inside a call of the program: what a filter raises comes out of the loop."""
        try:
            return step(mode, forced=forced, defer=True)
        except Exception as exc:
            self._base.reactor.post(_raise, exc)
            return False

    def _pull(self, mode: FlushMode, *, forced: bool = False, defer: bool = False) -> bool:
        """Filter what came from below; return True when the filter said BEV_OK."""
        if not self._guarded(self._begin)(self._incoming):
            return False
        tell = self._guarded(self._tell_pulled)
        try:
            self._run(self._incoming, READ, mode, self._room_here, forced)
        except BaseException:
            tell(True)  # what came through before
            raise
        tell(defer)
        return self._incoming.said_ok

    def _push(self, mode: FlushMode, *, forced: bool = False, defer: bool = False) -> bool:
        """Filter the output; return True when the filter said BEV_OK."""
        if not self._guarded(self._begin)(self._outgoing):
            return False
        self._run(self._outgoing, WRITE, mode, self._below.room, forced)
        if not self._outgoing.said_ok:
            return False
        self._due = True
        if not self._below.unsent():
            self._guarded(self._tell_pushed)(defer)
        return True

    def _begin(self, way: _Way) -> bool:
        """Have a way to ourselves; return False when it is under way, or nothing is left of us."""
        if way.busy or not self._references:
            return False
        way.busy = True
        self._references += 1
        return True

    def _run(
        self,
        way: _Way,
        direction: int,
        mode: FlushMode,
        room: Callable[[], int | None],
        forced: bool,
    ) -> None:
        """Run a filter, without the lock.  It may close us; its context lives until it returns."""

        def goes_on() -> bool:
            return self._references > 1 and bool(mode or self.flow.wanted & direction)

        try:
            way.run(mode, self._context, _no_limit if mode else room, goes_on, forced=forced)
        finally:
            way.busy = False
            self._guarded(self._give_back)()

    def _room_here(self) -> int | None:
        return self._room_to_read() if self.flow.read_high else None

    def _tell_pulled(self, defer: bool) -> None:
        if self._end_below and self._reads_on():
            what, self._end_below = self._end_below, 0
            self._pass_up(what, defer=True)  # after the read callback
        if self._incoming.said_ok and self.input.length:
            self._bytes_came(defer)

    def _tell_pushed(self, defer: bool = False) -> None:
        self._due = False
        self._bytes_left(defer)

    def _reads_on(self) -> bool:
        """Whether what the input filter has left, it has left for more to come."""
        return bool(self.flow.wanted & READ) and self._room_to_read() > 0

    def _below_read(self, below: AbstractBufferEvent, ctx: object) -> None:
        self._pull_due = False
        self._pull(_NORMAL)

    def _below_wrote(self, below: AbstractBufferEvent, ctx: object) -> None:
        if not self._push(_NORMAL) and self._due:
            self._guarded(self._tell_pushed)()

    def _below_drained(self) -> None:
        """The peer takes what was written: a sign of life, for a filter above us, too."""
        if self._outgoing.busy:
            return  # no sign: what we write has passed through at once
        if self._timeouts is not None:
            self._timeouts.note_written()
        if self.output.on_drain is not None:
            self.output.on_drain()

    def _below_event(self, below: AbstractBufferEvent, what: int, ctx: object) -> None:
        self._guarded(self._hear_below)(int(what))

    def _hear_below(self, what: int) -> None:
        waits = self._pull_due or not self._reads_on()
        if what & READING and what & _ENDS and waits:
            self._end_below |= what
        else:
            self._pass_up(what)

    def _pass_up(self, what: int, defer: bool = False) -> None:
        """Tell what happened below, with what is disabled there disabled here."""
        below = self._below.bev
        if what & ERROR:
            self.error = below.error
        directions = READ if what & READING else 0
        if what & WRITING:
            directions |= WRITE
        self._note_ends(what)
        self._stop(directions & ~below.flow.enabled)
        self._run_eventcb(what, defer)

    def _on_close(self) -> None:
        self._incoming.function = self._outgoing.function = pass_through
        self._below.give_back()

    def _destroy(self) -> None:
        try:
            super()._destroy()
        finally:
            free_context, self._free_context = self._free_context, None
            ctx, self._context = self._context, None
            if free_context is not None:
                call_unlocked(free_context, ctx)


def _no_limit() -> None:
    return None


def _raise(error: Exception) -> None:
    raise error


def _check_arguments(underlying: object, *functions: object) -> None:
    if not isinstance(underlying, AbstractBufferEvent):
        raise ArgumentTypeError(f"a bufferevent is wanted, not {type(underlying).__name__}")
    if underlying.closed:
        raise StateError("the underlying bufferevent is closed")
    for function in functions:
        if function is not None and not callable(function):
            raise ArgumentTypeError(f"a function is wanted, not {type(function).__name__}")
