"""How far an application may run ahead of a client that takes its reply slowly."""

from __future__ import annotations

import threading

from ..http.errors import ClientGone


class OutputGate:
    """Counts the bytes that were handed to the loop, and holds the thread while they are too many.

    The thread comes by `add`; the loop opens by `taken`, or by `close` for good.
    """

    __slots__ = ("_changed", "_is_closed", "_max_bytes", "_waiting_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._waiting_bytes = 0
        self._is_closed = False

    def add(self, size: int) -> None:
        """Count `size` bytes more, and wait until no more than `max_bytes` wait with them.

        Raises ClientGone when nobody takes them any more.
        """
        with self._changed:
            self._waiting_bytes += size
            while self._waiting_bytes > self._max_bytes and not self._is_closed:
                self._changed.wait()
            if self._is_closed:
                raise ClientGone("the client has gone within the reply")

    def taken(self, size: int) -> None:
        """Know in the loop that the client has taken `size` bytes."""
        with self._changed:
            self._waiting_bytes -= size
            self._changed.notify()

    def close(self) -> None:
        """Know in the loop that the client has gone.  Safe to repeat."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
