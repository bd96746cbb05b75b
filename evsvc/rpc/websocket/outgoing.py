"""Outgoing: one call's frames, as its credit lets them go.  Does no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .flow import Flow, Phase, Step
from .frames import MAX_BODY_BYTES, Kind, encode

Source = Callable[[], bytes | None]
"""Called for the next piece of a body: None is the end, b"" that there is nothing now."""


class Outgoing:
    """What waits to be sent of one call.

    call_id, flow: of the call.  is_queued: whether it waits for its turn; the outbox keeps it.
    is_whole: whether no more of the body will come.
    on_sent:  called when all that there was has gone; cleared then.
    on_ended: called when its last frame goes.
    """

    __slots__ = (
        "_head",
        "_kind",
        "_pieces",
        "_source",
        "call_id",
        "flow",
        "is_queued",
        "is_whole",
        "on_ended",
        "on_sent",
    )

    def __init__(self, call_id: int, flow: Flow, on_ended: Callable[[], object] | None) -> None:
        self.call_id = call_id
        self.flow = flow
        self.on_ended = on_ended
        self.on_sent: Callable[[], object] | None = None
        self.is_queued = False
        self._kind = Kind.DATA
        self._head = b""
        self._pieces: deque[bytes | memoryview] = deque()
        self._source: Source | None = None
        self.is_whole = False

    @property
    def has_begun(self) -> bool:
        """Whether anything of it was sent."""
        return self.flow.outgoing is not Phase.AWAITED

    @property
    def has_pieces(self) -> bool:
        """Whether some of the body is here, and not sent."""
        return bool(self._pieces)

    @property
    def is_ended(self) -> bool:
        """Whether its last frame has gone, or nothing more is to go."""
        return self.flow.outgoing is Phase.ENDED

    def begin(self, kind: Kind, head: bytes) -> None:
        """Have a head, which goes before all."""
        self._kind, self._head = kind, head

    def put(self, piece: bytes) -> None:
        """Have more of the body."""
        if piece and not self.is_whole:
            self._pieces.append(piece)

    def finish(self) -> None:
        """There is no more of the body."""
        self.is_whole = True

    def draw_from(self, source: Source) -> None:
        """Ask `source` for pieces, when there is room for them."""
        self._source = source

    def drop(self) -> None:
        """Send nothing more."""
        self.flow.outgoing = Phase.ENDED
        self._pieces.clear()
        self._source = self.on_sent = self.on_ended = None

    def next_frame(self) -> bytes | None:
        """Return what is to be sent now, or None: it has ended, waits for credit, or for more."""
        flow = self.flow
        if flow.outgoing is Phase.ENDED:
            return None
        body = self._next_body()
        is_last = self.is_whole and not self._pieces
        if flow.outgoing is Phase.AWAITED:
            if not self._head:
                return None
            flow.send(Step.HEAD)
            kind, payload, self._head = self._kind, self._head + body, b""
        elif body or is_last:
            kind, payload = Kind.DATA, body
        else:
            return None
        flow.credit -= len(body)
        flow.send(Step.END if is_last else Step.DATA)
        return encode(kind, self.call_id, payload, is_last=is_last)

    def _next_body(self) -> bytes:
        """Take as much of the body as may go in one frame."""
        pieces = self._pieces
        room = min(self.flow.credit, MAX_BODY_BYTES)
        parts: list[bytes | memoryview] = []
        while pieces or self._draw():
            if room <= 0:
                break
            piece = pieces.popleft()
            if len(piece) > room:
                view = memoryview(piece)
                pieces.appendleft(view[room:])
                piece = view[:room]
            parts.append(piece)
            room -= len(piece)
        return parts[0] if len(parts) == 1 and type(parts[0]) is bytes else b"".join(parts)

    def _draw(self) -> bool:
        """Ask for one more piece; whether there is one."""
        if self._source is None or self.is_whole:
            return False
        piece = self._source()
        if piece is None:
            self.is_whole = True
        elif piece:
            self._pieces.append(piece)
        return bool(piece)
