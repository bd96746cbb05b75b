"""`wsgi.input`: a body that the loop receives, and the application's thread reads.

The loop puts pieces in, and holds the client back while more than `max_bytes` of them wait; the
thread takes what there is, or waits.

No thread waits for what a slow client has still to send of its first `max_bytes`: `when_ready`
tells when they are here.  But a client that waits for 100 Continue gets that by the application's
first read.

Invariants
    * `_pieces`, `_waiting_bytes`, `_is_held_up` and `_end` are touched under `_changed` alone.
    * `_held` belongs to the thread: it has taken these bytes, and the application has not.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..http import LocalProtocolError
from ..http.errors import ClientGone

if TYPE_CHECKING:
    from ..http import ServerRequest


class End(enum.Enum):
    """How a body has ended."""

    WHOLE = enum.auto()
    BROKEN = enum.auto()


class BodyInput:
    """The body of one request, as PEP 3333 has it (section "Input and Error Streams").

    post: has a function called in the loop, from any thread; raises ClientGone when the loop is
    gone.  on_broken: called in the loop when the rest of the body does not come.
    """

    __slots__ = (
        "_changed",
        "_end",
        "_held",
        "_is_asked_for",
        "_is_held_up",
        "_max_bytes",
        "_on_broken",
        "_on_ready",
        "_pieces",
        "_post",
        "_request",
        "_waiting_bytes",
    )

    def __init__(
        self,
        request: ServerRequest,
        max_bytes: int,
        post: Callable[[Callable[[], object]], object],
        on_broken: Callable[[], object],
    ) -> None:
        self._request = request
        self._max_bytes = max_bytes
        self._post = post
        self._on_broken = on_broken
        self._on_ready: Callable[[], object] | None = None
        self._changed = threading.Condition()
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        self._is_asked_for = self._is_held_up = False
        self._held = bytearray()
        self._end: End | None = None
        if not request.streams_body:
            self._held += request.take_body()
            self._end = End.WHOLE

    def when_ready(self, cb: Callable[[], object]) -> None:
        """Call `cb()` in the loop once, when a thread would find the body, or much of it, here.

        At once where there is none, or where the client waits to be asked for it.
        """
        if self._end is not None or "expect" in self._request.input_headers:
            cb()
        else:
            self._on_ready = cb
            self._is_asked_for = True
            self._ask()

    def read(self, size: int | None = -1) -> bytes:
        """Return `size` bytes, or as many as are left; -1 and None are all.

        Waits for them.  Raises ClientGone when they do not come.
        """
        if size is None or size < 0:
            while self._more():
                pass
            return self._take(len(self._held))
        while len(self._held) < size and self._more():
            pass
        return self._take(min(size, len(self._held)))

    def readline(self, size: int | None = -1) -> bytes:
        """Return a line with its end, or `size` bytes of it; the last may have none.

        Waits for it.  Raises ClientGone when it does not come.
        """
        most = None if size is None or size < 0 else size
        looked_at = 0
        while True:
            at = self._held.find(b"\n", looked_at, most)
            if at >= 0:
                return self._take(at + 1)
            looked_at = len(self._held)
            if (most is not None and looked_at >= most) or not self._more():
                return self._take(looked_at if most is None else min(looked_at, most))

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """Return the lines that are left, or with `hint` those that have so many bytes or more.

        Raises as `readline`.
        """
        lines = []
        size = 0
        for line in self:
            lines.append(line)
            size += len(line)
            if hint is not None and 0 < hint <= size:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines that are left."""
        return iter(self.readline, b"")

    def _take(self, size: int) -> bytes:
        data = bytes(self._held[:size])
        del self._held[:size]
        return data

    def _more(self) -> bool:
        """Wait for a piece and take it; whether there was one.  Raises ClientGone."""
        with self._changed:
            if not self._is_asked_for and self._end is None:
                self._is_asked_for = True
                self._post(self._ask)
            while not self._pieces and self._end is None:
                self._changed.wait()
            if not self._pieces:
                if self._end is End.BROKEN:
                    raise ClientGone("the rest of the body does not come")
                return False
            self._held += b"".join(self._pieces)
            self._pieces.clear()
            self._waiting_bytes = 0
            if self._is_held_up:
                self._is_held_up = False
                self._post(self._go_on)
            return True

    def _ask(self) -> None:
        try:
            self._request.set_body_cbs(self._on_data, self._on_end)
        except LocalProtocolError:  # it has ended since
            self._on_end(self._request, False, None)

    def _go_on(self) -> None:
        self._request.resume_body()

    def _on_data(self, request: ServerRequest, data: bytes, arg: object) -> None:
        with self._changed:
            self._pieces.append(data)
            self._waiting_bytes += len(data)
            is_held_up = self._is_held_up = self._waiting_bytes >= self._max_bytes
            self._changed.notify()
        if is_held_up:
            request.pause_body()
            self._tell_ready()

    def _on_end(self, request: ServerRequest, is_whole: bool, arg: object) -> None:
        """No more comes; what has come can still be read."""
        with self._changed:
            self._end = End.WHOLE if is_whole else End.BROKEN
            self._changed.notify()
        if not is_whole:
            self._on_broken()
        self._tell_ready()

    def _tell_ready(self) -> None:
        on_ready, self._on_ready = self._on_ready, None
        if on_ready is not None:
            on_ready()
