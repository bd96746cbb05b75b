"""CarriedServerRequest: a call that came over a shared WebSocket, as the RPC server sees it.

It does what `evsvc.http.ServerRequest` does for calls that come by POST: see `CallCarrier`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ...core import EvBuffer
from ...core.errors import ArgumentError
from ...http.errors import LocalProtocolError
from ...http.exchange import AbstractRequest
from ...http.wire.headers import Headers
from ...http.wire.status import HTTP_SERVUNAVAIL
from ..definition import PATH_PREFIX
from ..errors import RpcErrorCode
from ..failures import CONTENT_TYPE, encode_failure
from .flow import Flow
from .frames import MAX_HEAD_BYTES, Kind, credit_of, encode_credit, encode_head
from .intake import Intake
from .outgoing import Outgoing

if TYPE_CHECKING:
    from ...core import EventBase
    from ...http import Client, ServerConnection
    from .frames import Frame
    from .gathering import Gathering
    from .outbox import Outbox


_log = logging.getLogger("evsvc.rpc")

FAILURE_HEAD = encode_head(
    str(HTTP_SERVUNAVAIL), Headers((("Content-Type", CONTENT_TYPE),)), MAX_HEAD_BYTES
)
"""The head of a failure that has no metadata."""


class Caller(Protocol):
    """Who calls, on a shared WebSocket."""

    outbox: Outbox
    gathering: Gathering
    client: Client
    peer_certificate: dict[str, Any] | None
    connection: ServerConnection
    window_bytes: int
    max_head_bytes: int

    @property
    def base(self) -> EventBase:
        """The event base."""

    def forget(self, request: CarriedServerRequest) -> None:
        """Know that a call is over."""

    def run(self, callback: tuple[Callable[[Any, Any], object], Any], about: object) -> None:
        """Call the program; what it raises is logged and told."""


class CarriedServerRequest(AbstractRequest):
    """One call; lives until its last frame has gone, or nobody waits for it.

    call_id: its number.  gone: whether nobody waits.  began: when its head came, by the base's
    clock; None where nobody observes.
    """

    __slots__ = (
        "_caller",
        "_datacb",
        "_endcb",
        "_flow",
        "_gone_cb",
        "_intake",
        "_outgoing",
        "began",
        "call_id",
        "gone",
    )

    def __init__(
        self, caller: Caller, call_id: int, name: str, fields: Headers, *, is_stream: bool
    ) -> None:
        self.method, self.uri, self.minor, self.response_code = "POST", PATH_PREFIX + name, 1, 0
        self._input_headers, self._output_headers = fields, None
        self._input_buffer = self._output_buffer = None
        self._received = b""
        self.call_id = call_id
        self.gone = False
        self.began: float | None = None
        self._caller = caller
        self._flow = Flow(caller.window_bytes)
        self._flow.receive_head()
        self._outgoing = Outgoing(call_id, self._flow, self._on_ended)
        self._gone_cb: tuple[Callable[[Any, Any], object], Any] | None = None
        self._datacb: tuple[Callable[[Any, bytes, Any], object], Any] | None = None
        self._endcb: Callable[[Any, bool, Any], object] | None = None
        self._intake: Intake | None = None
        if is_stream:
            self._intake = Intake(
                caller.base, self._give, self._taken, self._on_whole, is_paused=True
            )

    # What a call needs of it.

    @property
    def connection(self) -> ServerConnection | None:
        """The connection that became the WebSocket; None once nobody waits."""
        return None if self.gone else self._caller.connection

    @property
    def remote_host(self) -> str:
        """The client's address; "" on a Unix socket, or once nobody waits."""
        return "" if self.gone else self._caller.connection.peer[0]

    @property
    def remote_port(self) -> int:
        """The client's port; 0 on a Unix socket, or once nobody waits."""
        return 0 if self.gone else self._caller.connection.peer[1]

    @property
    def client(self) -> Client:
        """Who opened the WebSocket, through the proxies that are trusted."""
        return self._caller.client

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The client's certificate, where TLS has one."""
        return self._caller.peer_certificate

    def set_on_gone_cb(self, cb: Callable[[Any, Any], object], arg: object = None) -> None:
        """Call `cb(request, arg)` once, when nobody waits any more, before it is answered."""
        if not self.gone:
            self._gone_cb = (cb, arg)

    def set_body(self, body: bytes) -> None:
        """Have a body that has come whole."""
        self._received = body

    def set_body_cbs(
        self,
        datacb: Callable[[Any, bytes, Any], object],
        endcb: Callable[[Any, bool, Any], object] | None = None,
        arg: object = None,
        *,
        is_paced: bool = True,
    ) -> None:
        """Take the body as it comes, from the loop; the caller may be slow in any case.

        Raises LocalProtocolError when there is none to be taken.
        """
        if self._intake is None or self._datacb is not None:
            raise LocalProtocolError(f"there is no body to be taken: {self!r}")
        self._datacb, self._endcb = (datacb, arg), endcb
        self._intake.resume()

    def pause_body(self) -> None:
        """Hold the caller back: it gets no more credit.  Safe to repeat."""
        if self._intake is not None:
            self._intake.pause()

    def resume_body(self) -> None:
        """Take pieces again, from the loop.  Safe to repeat."""
        if self._intake is not None:
            self._intake.resume()

    def send_reply(self, code: int, reason: str | None = None, body: Any = None) -> None:
        """Answer at once; an EvBuffer is drained.  Raises LocalProtocolError the second time."""
        self._begin(code)
        if self.gone:
            return
        self._outgoing.put(body.remove() if isinstance(body, EvBuffer) else bytes(body or b""))
        self._finish()

    def send_reply_start(self, code: int, reason: str | None = None) -> None:
        """Begin an answer in pieces.  Raises LocalProtocolError the second time."""
        self._begin(code)

    def send_reply_chunk(self, data: bytes, cb: Callable[[Any, Any], object] | None = None) -> None:
        """Send a piece; `cb(connection, None)` is called, from the loop, when all has gone."""
        if self.gone:
            return
        self._outgoing.put(data)
        if cb is not None:
            connection = self._caller.connection
            self._outgoing.on_sent = lambda: cb(connection, None)
            self._caller.outbox.tell_when_sent(self._outgoing)
        self._caller.outbox.kick(self._outgoing)

    def send_reply_end(self) -> None:
        """Finish an answer in pieces."""
        self._finish()

    # What the WebSocket tells.

    def receive(self, frame: Frame) -> None:
        """Take a frame.  Raises FrameError when it is not its turn."""
        kind = frame.kind
        if kind is Kind.DATA:
            self.receive_body(frame.payload, is_last=frame.is_last)
        elif kind is Kind.CREDIT:
            self._flow.receive_credit(credit_of(frame))
            self._caller.outbox.kick(self._outgoing)
        else:
            self.caller_gone()

    def receive_body(self, piece: bytes, *, is_last: bool) -> None:
        """Take some of the body; raises as `receive`."""
        if not piece and not is_last:
            return  # a BEGIN without body
        self._flow.receive_body(len(piece), is_last=is_last)
        if self._outgoing.is_whole:
            return  # it is answered: nobody wants the rest
        if self._intake is not None:
            self._intake.receive(piece, is_last=is_last)
        else:
            self._taken(len(piece))
            self._caller.gathering.take(self, piece, is_last=is_last)

    def caller_gone(self) -> None:
        """Know that nobody waits any more: it was cancelled, or the WebSocket has ended."""
        gone_cb, self._gone_cb = self._gone_cb, None
        self.gone = True
        self._outgoing.drop()
        self._let_go()
        self._caller.forget(self)
        if gone_cb is not None:
            self._caller.run(gone_cb, self)

    def _begin(self, code: int) -> None:
        if self.response_code:
            raise LocalProtocolError(f"it is answered already: {self!r}")
        self.response_code = code
        max_bytes = self._caller.max_head_bytes
        try:
            head = encode_head(str(code), self.output_headers, max_bytes)
        except ArgumentError as exc:
            _log.error("%s: the reply is refused: %s", self.uri, exc)
            self.response_code = HTTP_SERVUNAVAIL
            self._outgoing.begin(Kind.REPLY, FAILURE_HEAD)
            self._outgoing.put(encode_failure("the reply is too long", RpcErrorCode.INTERNAL))
            self._outgoing.finish()
        else:
            self._outgoing.begin(Kind.REPLY, head)

    def _finish(self) -> None:
        self._let_go()
        self._outgoing.finish()
        if not self.gone:
            self._caller.outbox.kick(self._outgoing)

    def _let_go(self) -> None:
        """Take no more of the body, and forget who took it."""
        self._datacb = self._endcb = None
        if self._intake is not None:
            self._intake.close()

    def _on_ended(self) -> None:
        """The last frame has gone."""
        self._gone_cb = self._outgoing.on_ended = None
        self._caller.forget(self)

    def _give(self, piece: bytes) -> None:
        if self._datacb is not None:
            datacb, arg = self._datacb
            datacb(self, piece, arg)

    def _taken(self, size: int) -> None:
        count = self._flow.take(size)
        if count:
            self._caller.outbox.send_at_once(encode_credit(self.call_id, count))

    def _on_whole(self) -> None:
        if self._datacb is not None and self._endcb is not None:
            endcb, arg = self._endcb, self._datacb[1]
            self._let_go()
            endcb(self, True, arg)
