"""CarriedClientRequest: a call that a client makes over a shared WebSocket.

To the pool, to `RpcCall` and `ClientStream`, and to hooks it is the HTTP request that they know;
here is how its head and body go, and how the response comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ...http import HttpRequest
from ...http.client.request import CompletionCallback
from ...http.client.upload import Producer
from ...http.errors import BodyTooLong, HttpError
from .flow import Flow, Phase
from .frames import FrameError, Kind, credit_of, encode, encode_credit, encode_head, head_of
from .intake import Intake
from .outgoing import Outgoing

if TYPE_CHECKING:
    from ...core import EventBase
    from .frames import Frame
    from .options import RpcWebSocketOptions
    from .outbox import Outbox


class CallSocket(Protocol):
    """What a call needs of the WebSocket that it shares."""

    outbox: Outbox
    options: RpcWebSocketOptions

    @property
    def base(self) -> EventBase:
        """The event base."""

    def forget(self, request: CarriedClientRequest) -> None:
        """Know that a call is over; it may be told so twice."""

    def heard_of(self, request: CarriedClientRequest) -> None:
        """Know that the server's silence begins anew."""

    def callback_failed(self, exc: Exception) -> None:
        """Log what a callback of the program raised, and tell it."""


class CarriedClientRequest(HttpRequest):
    """One call; see HttpRequest for what the program and the pool do with it.

    call_id: its number.  silence_s: how long the server may be silent when all is sent.
    """

    __slots__ = (
        "_flow",
        "_gathered",
        "_intake",
        "_max_body_bytes",
        "_outgoing",
        "_producer",
        "_socket",
        "call_id",
        "silence_s",
    )

    def __init__(self, cb: CompletionCallback | None = None, arg: object = None) -> None:
        super().__init__(cb, arg)
        self.call_id = 0
        self.silence_s = 0.0
        self._socket: CallSocket | None = None
        self._producer: tuple[Producer, Any] | None = None
        self._intake: Intake | None = None
        self._gathered = bytearray()

    # What a pool and its calls do.

    def stream_body(
        self, producer: Producer, length: int | None = None, arg: object = None
    ) -> None:
        """Send a body piece by piece: `producer(request, arg)` is asked while there is credit."""
        self._producer = (producer, arg)

    def resume_body(self) -> None:
        """Have the producer asked again, which had nothing."""
        if self._socket is not None:
            self._socket.outbox.kick(self._outgoing)

    def pause(self) -> None:
        """Take nothing more of the call until `resume`: the server gets no more credit for it."""
        if self._intake is not None:
            self._intake.pause()

    def resume(self) -> None:
        """Undo `pause`, from the loop."""
        if self._intake is not None:
            self._intake.resume()

    def cancel(self) -> None:
        """Give the call up: its callback does not run, and the server is told."""
        socket = self._socket
        if socket is not None:
            if self._outgoing.has_begun and not self.is_answered:
                socket.outbox.send_at_once(encode(Kind.CANCEL, self.call_id))
            self._let_go(socket)

    # What the WebSocket does.

    @property
    def has_begun(self) -> bool:
        """Whether the server may know of it."""
        return self._socket is not None and self._outgoing.has_begun

    @property
    def is_sent(self) -> bool:
        """Whether all of it has gone."""
        return self._outgoing.is_ended

    @property
    def can_be_repeated(self) -> bool:
        """Whether all of it is still here: no streamed body has begun."""
        return self._producer is None or not self.has_begun

    @property
    def is_answered(self) -> bool:
        """Whether the response is here, if not taken."""
        return self._flow.incoming is Phase.ENDED

    @property
    def awaits_server(self) -> bool:
        """Whether all is up to the server, whose silence counts then: it is to answer, or to give
        credit, and the program takes what comes."""
        outgoing, intake = self._outgoing, self._intake
        is_taken = intake is None or not intake.is_paused
        return is_taken and (outgoing.is_ended or (outgoing.has_begun and outgoing.has_pieces))

    def begin(self, socket: CallSocket, name: str, max_body_bytes: int | None) -> None:
        """Be sent as the call `call_id`.

        Raises ArgumentError when the head is longer than may be.
        """
        options = socket.options
        self._flow = Flow(options.call_window_bytes)
        head = encode_head(name, self.output_headers, options.max_head_bytes)
        self._outgoing = Outgoing(self.call_id, self._flow, self._heard)
        self._outgoing.begin(Kind.BEGIN, head)
        self._max_body_bytes = max_body_bytes
        if self._producer is None:
            body = self.body or self._output_buffer or b""
            self._outgoing.put(body if isinstance(body, bytes) else body.remove())
            self._outgoing.finish()
        else:
            self._outgoing.draw_from(self._draw)
        extras = self.extras
        if extras is not None and extras.chunked_cb is not None:
            self._intake = Intake(socket.base, self._give, self._taken, self._end, is_paused=False)
        self._socket = socket
        socket.outbox.kick(self._outgoing)

    def receive(self, frame: Frame) -> None:
        """Take a frame.  Raises FrameError when it is not its turn."""
        kind = frame.kind
        socket = self._socket
        assert socket is not None  # else nobody would have found it
        if not frame.is_last:
            self._heard()
        if kind is Kind.CREDIT:
            self._flow.receive_credit(credit_of(frame))
            socket.outbox.kick(self._outgoing)
            return
        body = frame.payload
        if kind is Kind.REPLY:
            self._flow.receive_head()
            if not self.has_begun:
                raise FrameError(f"a REPLY to call {self.call_id}, which was not sent")
            first, self._input_headers, body = head_of(frame, socket.options.max_head_bytes)
            if len(first) != 3 or not first.isdecimal() or not "200" <= first <= "599":
                raise FrameError(f"a REPLY with the status {first}")
            self.response_code = int(first)
        if body or frame.is_last:
            self._receive_body(body, is_last=frame.is_last)

    def fail(self, error: HttpError) -> None:
        """End without a whole response, for this reason; behind what has come of it."""
        self.error = error
        if self._intake is not None:
            self._intake.receive(b"", is_last=True)
        else:
            self._finish(None)

    def _receive_body(self, body: bytes, *, is_last: bool) -> None:
        self._flow.receive_body(len(body), is_last=is_last)
        if is_last:
            self._outgoing.drop()  # the call is over for the server
        if self._intake is not None:
            self._intake.receive(body, is_last=is_last)
            return
        self._taken(len(body))
        gathered, most = self._gathered, self._max_body_bytes
        if most is not None and len(gathered) + len(body) > most:
            self.give_up(BodyTooLong(f"a reply of more than {most} bytes"))
        elif not is_last:
            gathered += body
        else:
            self._received = bytes(gathered + body) if gathered else body
            gathered.clear()
            self._end()

    def give_up(self, error: HttpError) -> None:
        """End for a reason of ours; the server is told that nobody waits."""
        if self._socket is not None:
            self._socket.outbox.send_at_once(encode(Kind.CANCEL, self.call_id))
            self.error = error
            self._finish(None)

    def _heard(self) -> None:
        """The server has been heard of, or what it is to answer is sent: its silence begins."""
        if self._socket is not None:
            self._socket.heard_of(self)

    def _draw(self) -> bytes | None:
        assert self._producer is not None
        producer, arg = self._producer
        return producer(self, arg)

    def _give(self, piece: bytes) -> None:
        extras = self.extras
        if extras is not None and extras.chunked_cb is not None:
            buffer = self.input_buffer
            buffer.add(piece)
            extras.chunked_cb(self, self.arg)
            buffer.drain(len(buffer))

    def _taken(self, size: int) -> None:
        count = self._flow.take(size)
        if count and self._socket is not None:
            self._socket.outbox.send_at_once(encode_credit(self.call_id, count))

    def _end(self) -> None:
        """The response is whole, or no more of it will come."""
        self._finish(self if self.error is None else None)

    def _finish(self, response: CarriedClientRequest | None) -> None:
        socket, callback, arg = self._socket, self.callback, self.arg
        if socket is None:
            return
        self._let_go(socket)
        if callback is not None:
            try:
                callback(response, arg)
            except Exception as exc:
                socket.callback_failed(exc)

    def _let_go(self, socket: CallSocket) -> None:
        """Be over: forget whoever refers to us."""
        self._socket = self._producer = None
        self._outgoing.drop()
        if self._intake is not None:
            self._intake.close()
        socket.forget(self)
        self.drop()
