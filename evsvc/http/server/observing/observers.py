"""What is known of an exchange when it is over, for logs and counters.

A connection has a `Watch` while somebody observes; without one nothing is measured.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..request import ReplyState

if TYPE_CHECKING:
    from ....core import EventBase
    from ...exchange import AbstractRequest
    from ..request import ServerRequest

PROMPT_BYTES = 16 * 1024
"""A reply is told as over when it is handed to the kernel; with no more than this unsent at once,
as the kernel takes so much."""


class Ending(enum.Enum):
    """Why an exchange is over.

    WHOLE: the reply was handed over to its end, or the connection to another protocol.
    BROKEN_OFF: the connection ended before.  REFUSED: what came was no good request, or one too
    many, or the program's new-request callback did not want it; the server has answered by itself,
    or not at all.
    """

    WHOLE = "whole"
    BROKEN_OFF = "broken off"
    REFUSED = "refused"


class FinishedExchange(NamedTuple):
    """A request and its reply, which are over.

    request: None where what came never was one.  peer: (address, port), ("", 0) on a Unix socket.
    status: the reply's, 0 where none was begun.  sent_bytes: of the reply's body, as far as the
    kernel took them.  received_bytes: of the request's body.  started_at: when the head was
    judged, in seconds since 1970.  duration_s: from then to the end of the reply.
    """

    request: ServerRequest | None
    peer: tuple[str, int]
    status: int
    sent_bytes: int
    received_bytes: int
    started_at: float
    duration_s: float
    ending: Ending

    @property
    def client_address(self) -> str:
        """Who asked, through the proxies that are trusted: the peer where nobody knows better."""
        return self.peer[0] if self.request is None else self.request.client.address


Observer = Callable[[FinishedExchange], object]
"""Called as `observer(exchange)`."""


class SessionExchange(NamedTuple):
    """A request and its reply, which are over, and which a session has carried: a call over a
    WebSocket that calls share.

    request: what stands for an HTTP request there.  status: the reply's, 0 where none was begun.
    duration_s: from its head to the reply's last frame.  ending: REFUSED where it was one call too
    many.
    """

    request: AbstractRequest
    status: int
    duration_s: float
    ending: Ending


SessionObserver = Callable[[SessionExchange], object]
"""Called as `observer(exchange)`."""


class _Begun(NamedTuple):
    """A request whose reply is whole, and waits to be sent."""

    request: ServerRequest
    received_bytes: int
    started_at: float
    started: float


class Watch:
    """Measures the exchanges of one connection.

    received_bytes: of the request in hand.  ending: of one that a closing cuts short.
    """

    __slots__ = (
        "_base",
        "_peer",
        "_started",
        "_started_at",
        "_tell",
        "_unsent",
        "ending",
        "received_bytes",
    )

    def __init__(self, base: EventBase, tell: Observer, peer: tuple[str, int]) -> None:
        self._base = base
        self._tell = tell
        self._unsent: list[_Begun] = []
        self.begin(peer)

    def begin(self, peer: tuple[str, int]) -> None:
        """A head has been judged."""
        self._peer = peer
        self._started = self._base.gettime_monotonic()
        self._started_at = self._base.gettimeofday_cached()
        self.received_bytes = 0
        self.ending = Ending.BROKEN_OFF

    def end(self, request: ServerRequest) -> None:
        """The reply is with the kernel, or as good as that."""
        self._finish(self._begun(request), request.bytes_sent, Ending.WHOLE)

    def end_when_sent(self, request: ServerRequest) -> None:
        """The reply is whole, and much of it waits to be sent: `sent` or `cut` tells the rest."""
        self._unsent.append(self._begun(request))

    def sent(self, request: object, arg: object) -> None:
        """The first of those that wait has been sent; called as a completion callback is."""
        if self._unsent:
            begun = self._unsent.pop(0)
            self._finish(begun, begun.request.bytes_sent, Ending.WHOLE)

    def refuse(
        self, request: ServerRequest | None, peer: tuple[str, int], status: int, sent_bytes: int
    ) -> None:
        """The server has answered by itself what it could not take as a request."""
        if request is None:
            self.begin(peer)
        duration_s = self._base.gettime_monotonic() - self._started
        measured = (sent_bytes, self._received(request), self._started_at, duration_s)
        self._tell(FinishedExchange(request, self._peer, status, *measured, Ending.REFUSED))

    def cut(self, request: ServerRequest | None, unsent_bytes: int) -> None:
        """The connection is closed: what waits, and the request in hand, are broken off."""
        cut, self._unsent = self._unsent, []
        endings = [Ending.BROKEN_OFF] * len(cut)
        if request is not None:
            cut.append(self._begun(request))
            endings.append(self.ending)
        sizes = [_sent_bytes(each.request) for each in cut]
        for index in reversed(range(len(sizes))):  # what came last is what was not sent
            lost = min(unsent_bytes, sizes[index])
            unsent_bytes -= lost
            sizes[index] -= lost
        for begun, size, ending in zip(cut, sizes, endings, strict=True):
            self._finish(begun, size, ending)

    def _begun(self, request: ServerRequest) -> _Begun:
        return _Begun(request, self._received(request), self._started_at, self._started)

    def _received(self, request: ServerRequest | None) -> int:
        """Return what has come of a body: one that is gathered is counted when it is whole."""
        return self.received_bytes or (0 if request is None else request.gathered_bytes)

    def _finish(self, begun: _Begun, sent_bytes: int, ending: Ending) -> None:
        request, received_bytes, started_at, started = begun
        status = 0 if request.state is ReplyState.PENDING else request.response_code
        duration_s = self._base.gettime_monotonic() - started
        measured = (sent_bytes, received_bytes, started_at, duration_s)
        self._tell(FinishedExchange(request, self._peer, status, *measured, ending))


def _sent_bytes(request: ServerRequest) -> int:
    return 0 if request.state is ReplyState.PENDING else request.bytes_sent
