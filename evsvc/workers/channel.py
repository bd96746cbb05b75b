"""The way between a supervisor and one of its workers: messages over a pair of sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..core import (
    BEV_OPT_CLOSE_ON_FREE,
    EV_READ,
    EV_WRITE,
    BufferEvent,
)
from ..core.closing import Closing
from .messages import LENGTH_BYTES, MAX_MESSAGE_BYTES, MessageError, encode, take_message

if TYPE_CHECKING:
    from ..core import AbstractBufferEvent, EventBase
    from .messages import Message

MAX_UNSENT_BYTES: Final = 256 * 1024
"""A peer that lets more than this wait is as good as dead."""


class Channel(Closing):
    """One end of it, which owns its socket.

    received: called with each message.  ended: called once, when no more can come, with why: ""
    when the peer has closed its end, else what was wrong.  Both from the loop.
    """

    __slots__ = ("_bev", "_ended", "_received")

    def __init__(
        self,
        base: EventBase,
        sock: socket.socket,
        received: Callable[[Message], object],
        ended: Callable[[str], object],
    ) -> None:
        self._received = received
        self._ended = ended
        sock.setblocking(False)
        self._bev = BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE)
        self._bev.setcb(self._on_readable, None, self._on_event)
        self._bev.setwatermark(EV_READ, 0, LENGTH_BYTES + MAX_MESSAGE_BYTES)
        self._bev.enable(EV_READ | EV_WRITE)

    @property
    def closed(self) -> bool:
        """Whether nothing can be said any more."""
        return self._bev.closed

    def send(self, message: Message) -> None:
        """Send a message; nothing happens when the channel is closed."""
        if self._bev.closed:
            return
        self._bev.write(encode(message))
        if len(self._bev.output) > MAX_UNSENT_BYTES:
            self._end("it does not read what it is told")

    def when_sent(self, sent: Callable[[], object]) -> None:
        """Call `sent()` from the loop when all is on its way, or cannot be."""
        base = self._bev.base
        if self._bev.closed or not self._bev.output:
            base.post(sent)
            return
        self._bev.setcb(self._on_readable, lambda bev, ctx: sent(), self._on_event)
        self._ended = lambda why: sent()

    def has_unread(self) -> bool:
        """Whether the peer has said something that was not looked at yet."""
        return not self._bev.closed and self._bev.has_unread()

    def close(self) -> None:
        """Say and hear nothing more.  Safe to repeat."""
        self._bev.close()

    def _on_readable(self, bev: AbstractBufferEvent, ctx: object) -> None:
        while not bev.closed:
            try:
                message = take_message(bev.input)
            except MessageError as exc:
                self._end(str(exc))
                return
            if message is None:
                return
            self._received(message)

    def _on_event(self, bev: AbstractBufferEvent, what: int, ctx: object) -> None:
        self._end("" if bev.error is None else str(bev.error))

    def _end(self, why: str) -> None:
        self._bev.close()
        self._ended(why)
