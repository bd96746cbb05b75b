"""Whether a client is too slow: with a body that it sends, and with a reply that it takes.

Reads no clock: the time comes in as an argument.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...core import CallbackEntry, EvBuffer
    from ..options import ServerOptions


class BodyPace:
    """How a request's body comes: how long in all, at which rate, and since when nothing.

    While the program holds the client back no time goes by here.  counted_bytes: what the body
    has in the server's account of bodies.
    """

    __slots__ = ("_begun", "_held_since", "_last", "_received_bytes", "counted_bytes")

    def __init__(self, now: float) -> None:
        self._begun = self._last = now
        self._held_since: float | None = None
        self._received_bytes = 0
        self.counted_bytes = 0

    def note(self, now: float, size: int) -> None:
        """A piece has come."""
        self._last = now
        self._received_bytes += size

    def hold(self, now: float) -> None:
        """The program holds the client back.  Safe to repeat."""
        if self._held_since is None:
            self._held_since = now

    def go_on(self, now: float) -> None:
        """It does so no longer."""
        if self._held_since is not None:
            self._begun += now - self._held_since
            self._held_since = None
        self._last = now

    def left(self, now: float, options: ServerOptions) -> float:
        """Return how long it may take from `now` on without another byte; 0 or less is too slow."""
        late = self._last + options.body_s
        if options.body_total_s is not None:
            late = min(late, self._begun + options.body_total_s)
        if options.body_min_bytes_per_s is not None:
            earned_s = self._received_bytes / options.body_min_bytes_per_s
            late = min(late, self._begun + options.body_grace_s + earned_s)
        return late - now


class OutputPace:
    """How a client takes what waits to be sent, from `now` on.  It listens until `close`."""

    __slots__ = ("_entry", "_output", "_since", "_taken_bytes")

    def __init__(self, output: EvBuffer, now: float) -> None:
        self._output = output
        self._entry: CallbackEntry | None = output.add_cb(self._on_change)
        self._since = now
        self._taken_bytes = 0

    def _on_change(self, buffer: EvBuffer, info: Any, arg: object) -> None:
        self._taken_bytes += info.n_deleted

    def is_too_slow(self, now: float, options: ServerOptions) -> bool:
        """Whether less was taken than the lowest rate asks for."""
        rate = options.write_min_bytes_per_s
        counts_s = now - self._since - options.write_grace_s
        return rate is not None and self._taken_bytes < rate * counts_s

    def close(self) -> None:
        """Listen no longer.  Safe to repeat."""
        entry, self._entry = self._entry, None  # which knows what it called, and that this
        if entry is not None:
            self._output.remove_cb_entry(entry)
