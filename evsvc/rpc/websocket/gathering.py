"""Gathering: requests that are answered when they are whole, and how much of them is here.

What HTTP's `ServerOptions` say of bodies holds for them: of the length of each, of all together,
and of how slowly one may come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ...http.client.timeouts import Timeouts
from ...http.wire.status import HTTP_ENTITYTOOLARGE, HTTP_SERVUNAVAIL
from ..errors import RpcErrorCode

if TYPE_CHECKING:
    from ...core import EventBase
    from ...http.server.service import Service
    from .server_request import CarriedServerRequest

REQUEST_TIMEOUT = 408

WholeCallback = Callable[["CarriedServerRequest", bytes], object]
"""Called as `cb(request, body)`."""
RefuseCallback = Callable[["CarriedServerRequest", str, RpcErrorCode, int], object]
"""Called as `cb(request, text, code, status)`; `forget` is to be called then, too."""


class _Part:
    """What is here of one request, and how much it was when that was looked at."""

    __slots__ = ("body", "seen_bytes")

    def __init__(self) -> None:
        self.body = bytearray()
        self.seen_bytes = 0


class Gathering:
    """The requests of one WebSocket that are not whole yet."""

    __slots__ = ("_base", "_on_refused", "_on_whole", "_pace", "_pace_s", "_parts", "_service")

    def __init__(
        self,
        base: EventBase,
        service: Service,
        on_whole: WholeCallback,
        on_refused: RefuseCallback,
    ) -> None:
        self._base = base
        self._service = service
        self._on_whole: WholeCallback | None = on_whole
        self._on_refused: RefuseCallback | None = on_refused
        self._parts: dict[CarriedServerRequest, _Part] = {}
        self._pace: Timeouts[CarriedServerRequest] | None = None  # few clients need it
        self._pace_s = service.options.body_s

    def take(self, request: CarriedServerRequest, piece: bytes, *, is_last: bool) -> None:
        """Take more of a request."""
        service, part = self._service, self._parts.get(request)
        options = service.options
        most, most_together = options.limits.max_body_bytes, options.max_bodies_bytes
        size = len(piece) if part is None else len(part.body) + len(piece)
        if most is not None and size > most:
            text = f"a request of more than {most} bytes"
            self._refuse(request, text, RpcErrorCode.INVALID_ARGUMENT, HTTP_ENTITYTOOLARGE)
        elif is_last:
            body = piece if part is None else bytes(part.body + piece)
            self.forget(request)
            if self._on_whole is not None:
                self._on_whole(request, body)
        elif most_together is not None and service.bodies_bytes + len(piece) > most_together:
            text = f"all requests together have more than {most_together} bytes"
            self._refuse(request, text, RpcErrorCode.RESOURCE_EXHAUSTED, HTTP_SERVUNAVAIL)
        else:
            if part is None:
                part = self._parts[request] = _Part()
                self._begin_pace(request)
            part.body += piece
            service.bodies_bytes += len(piece)

    def forget(self, request: CarriedServerRequest) -> None:
        """Have nothing more of a request; safe to repeat."""
        part = self._parts.pop(request, None)
        if part is not None:
            self._service.bodies_bytes -= len(part.body)
            if self._pace is not None:
                self._pace.discard(request, self._pace_s)

    def close(self) -> None:
        """Have nothing more at all."""
        for request in list(self._parts):
            self.forget(request)
        self._on_whole = self._on_refused = None
        pace, self._pace = self._pace, None
        if pace is not None:
            pace.close()

    def _refuse(
        self, request: CarriedServerRequest, text: str, code: RpcErrorCode, status: int
    ) -> None:
        self.forget(request)
        if self._on_refused is not None:
            self._on_refused(request, text, code, status)

    def _begin_pace(self, request: CarriedServerRequest) -> None:
        if self._pace is None:
            self._pace = Timeouts(self._base, self._on_pace)
        self._pace.add(request, self._pace_s)

    def _on_pace(self, request: CarriedServerRequest) -> None:
        """Look how far a request has come since the last time."""
        part, least = self._parts[request], self._service.options.body_min_bytes_per_s or 0
        if len(part.body) - part.seen_bytes < max(1.0, least * self._pace_s):
            text = f"the request has come too slowly for {self._pace_s} s"
            self._refuse(request, text, RpcErrorCode.DEADLINE_EXCEEDED, REQUEST_TIMEOUT)
        else:
            part.seen_bytes = len(part.body)
            self._begin_pace(request)
