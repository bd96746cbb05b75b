"""Outbox: whose turn it is to send on a WebSocket that calls share.

Calls with something to send take turns, a frame each, as long as little waits in the WebSocket: so
none starves the others, and what waits there stays far below its own limit.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...http.websocket import WsConnection
    from .outgoing import Outgoing


class Outbox:
    """Sends the frames of all calls.  Before `open` and after `close` it keeps them."""

    __slots__ = ("_is_watching", "_max_unsent_bytes", "_ready", "_unsent", "_ws")

    def __init__(self, max_unsent_bytes: int) -> None:
        self._max_unsent_bytes = max_unsent_bytes
        self._is_watching = False  # for the WebSocket's output to be empty
        self._ready: deque[Outgoing] = deque()
        self._unsent: dict[Outgoing, None] = {}  # who wants to know when all has gone
        self._ws: WsConnection | None = None

    def open(self, ws: WsConnection) -> None:
        """Begin to send."""
        self._ws = ws
        self._run()

    def close(self) -> None:
        """Send nothing more, and forget all calls."""
        if self._ws is not None:
            self._ws.set_drainedcb(None)
        self._ws = None
        self._ready.clear()
        self._unsent.clear()

    def kick(self, outgoing: Outgoing) -> None:
        """A call has something to send, or more credit for it."""
        if not outgoing.is_queued:
            outgoing.is_queued = True
            self._ready.append(outgoing)
        self._run()

    def tell_when_sent(self, outgoing: Outgoing) -> None:
        """Call its `on_sent` once, from the loop, when all that it has now has gone."""
        self._unsent[outgoing] = None
        self._watch()

    def send_at_once(self, frame: bytes) -> None:
        """Send a frame without a body, which waits for no turn; to nobody if there is no peer."""
        if self._ws is not None and self._ws.is_open:
            self._ws.send_binary(frame)

    def _run(self) -> None:
        ws = self._ws
        if ws is None:
            return
        ready = self._ready
        while ready and ws.is_open and ws.unsent_bytes < self._max_unsent_bytes:
            outgoing = ready.popleft()
            frame = outgoing.next_frame()
            if frame is None:
                outgoing.is_queued = False
                continue
            ws.send_binary(frame)
            if outgoing.is_ended:
                outgoing.is_queued = False
                if outgoing.on_ended is not None:
                    outgoing.on_ended()
            else:
                ready.append(outgoing)
        if ready:
            self._watch()

    def _watch(self) -> None:
        if self._ws is not None and self._ws.is_open and not self._is_watching:
            self._is_watching = True
            self._ws.set_drainedcb(self._on_drained)

    def _on_drained(self, ws: WsConnection, arg: object) -> None:
        self._run()
        gone = [each for each in self._unsent if not each.has_pieces]
        for each in gone:
            del self._unsent[each]
        if not self._ready and not self._unsent:
            self._is_watching = False
            ws.set_drainedcb(None)
        for each in gone:
            on_sent, each.on_sent = each.on_sent, None
            if on_sent is not None:
                on_sent()
