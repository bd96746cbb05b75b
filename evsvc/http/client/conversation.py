"""What is said over one connected carrier: requests out, their answers in, one after the other.

A conversation begins with the carrier, and ends with it, for ever.  What becomes of requests then
is not its affair: it tells.

Invariants
    * `turn` moves as `NEXT_TURN` says, and no other way.
    * The first request of the line is the one under way in HELD, WAITING and BODY.  The line says
      how many behind it are sent, too; the reader knows of the first alone.
    * After each call of the program's code `turn` is looked at again: it is OVER for good when
      that has cancelled or closed.
    * The server's silence counts from when all of the request is sent.  Its not taking anything is
      the carrier's own time-out, `write_s`.
    * Where the last connection has ended with something under way, nothing is sent behind the first
      request before that is answered: `is_wary` (RFC 9112 9.3.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Final

from ...core import (
    BEV_EVENT_EOF,
    BEV_EVENT_TIMEOUT,
    BEV_EVENT_WRITING,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    AbstractBufferEvent,
    BufferEvent,
    EvBuffer,
    TlsBufferEvent,
)
from ..errors import ConnectionClosed, HttpError, InvalidResponse, RequestTimeout
from ..wire.headers import Headers
from ..wire.response_reader import ResponseReader
from .keeping import Keeping
from .line import IDEMPOTENT
from .phases import NEXT_TURN, Turn, TurnStep
from .upload import MAX_WAITING_BYTES, Upload, UploadState

if TYPE_CHECKING:
    from ..options import ClientOptions
    from ..wire.limits import ReaderLimits
    from ..wire.response_head import ResponseHead
    from .deadline import Deadline
    from .line import Line
    from .request import CompletionCallback, HttpRequest

LARGE_READ_BYTES: Final = 128 * 1024
"""How much is read at once of a body that fills the usual reads: a third less CPU time a byte."""

_READY, _HELD, _WAITING, _BODY, _OVER = Turn.READY, Turn.HELD, Turn.WAITING, Turn.BODY, Turn.OVER


class Conversation:
    """What is said over `bev`, which is connected, to the server at `address`.

    line: the requests.  deadline: when the present turn is over; who has it says so by
    `time_is_over`.  is_wary: one request has to be answered before others go with it.

    It tells by these, each of which may end it:

    answered: called with the request whose answer is whole.
    failed: called with an error, which is that of the request under way if there is one.
    raised: called with a request, what its callback has raised, and a text that says which it was.
    refused: the request under way has to go again, over another carrier.
    taken_over: called with the request behind whose answer another protocol follows.

    options: may be replaced; they hold from the next request on.  is_reused: it has brought a
    response already.
    """

    __slots__ = (
        "_address",
        "_answered",
        "_deadline",
        "_failed",
        "_interim_count",
        "_is_paused",
        "_is_wary",
        "_keeping",
        "_line",
        "_queue",
        "_raised",
        "_reader",
        "_refused",
        "_request_bytes",
        "_taken_over",
        "_upload",
        "bev",
        "is_reused",
        "options",
        "turn",
    )

    def __init__(
        self,
        bev: AbstractBufferEvent,
        address: str,
        line: Line,
        options: ClientOptions,
        deadline: Deadline,
        *,
        is_wary: bool,
        answered: Callable[[HttpRequest], object],
        failed: Callable[[HttpError], object],
        raised: Callable[[HttpRequest, Exception, str], object],
        refused: Callable[[], object],
        taken_over: Callable[[HttpRequest], object],
    ) -> None:
        self.bev = bev
        self._address = address
        self._line = line
        self._queue = line.requests
        self.options = options
        self._deadline = deadline
        self._is_wary = is_wary
        self._answered = answered
        self._failed = failed
        self._raised = raised
        self._refused = refused
        self._taken_over = taken_over
        self._keeping = Keeping(bev, options.idle_s)
        reader = self._reader = ResponseReader(options.limits, options.leniency)
        reader.limits_for = self._limits_for
        if options.max_stream_bytes is not None:
            reader.max_whole_bytes = min(reader.max_whole_bytes, options.max_stream_bytes)
        self.turn = _READY
        self.is_reused = False
        self._is_paused = False  # the program takes nothing now
        self._upload: Upload | None = None  # of the request under way, while it is not at its end
        self._interim_count = 0  # interim responses to the request under way
        self._request_bytes = 0  # of the request under way, as far as it was written

    def start(self) -> None:
        """Listen to the carrier."""
        bev = self.bev
        self.be_idle()
        if isinstance(bev, (BufferEvent, TlsBufferEvent)):
            bev.setcb(None, self._on_written, self._on_event)
            bev.set_datacb(self._on_data)
        else:
            bev.setcb(self._on_readable, self._on_written, self._on_event)
        bev.set_timeouts(None, self.options.write_s)
        bev.enable(EV_READ)

    def be_idle(self) -> None:
        """No request follows: from now on counts how long the carrier is kept."""
        self._deadline.begin(self._keeping.idle_s)

    def end(self) -> None:
        """Say and hear nothing any more; the carrier is left as it is."""
        self._step(TurnStep.END)
        self._upload = None
        self._reader.limits_for = None

    def give_up_carrier(self) -> tuple[AbstractBufferEvent, bytes]:
        """End it, and return the carrier for whatever follows, and the bytes that came behind."""
        bev = self.bev
        rest = self._reader.rest()
        self.end()
        if isinstance(bev, (BufferEvent, TlsBufferEvent)):
            bev.set_datacb(None)
        bev.setcb(None, None, None)
        bev.set_timeouts(None, None)
        bev.enable(EV_READ | EV_WRITE)
        return bev, rest

    # What is asked of it.

    def serves(self, request: HttpRequest) -> bool:
        """Whether a request is the one under way."""
        queue, turn = self._queue, self.turn
        return bool(queue) and queue[0] is request and turn is not _READY and turn is not _OVER

    def is_stale(self) -> bool:
        """Whether an idle carrier has ended, or has bytes that no request has asked for."""
        if self._keeping.look(0):
            return True
        return self._deadline.is_over()

    def may_go_again(self, request: HttpRequest) -> bool:
        """Whether the request under way may go over another carrier, as this one has ended."""
        if request.went_again or not request.can_be_repeated:
            return False
        if request.connection is None:
            return False  # nobody waits for it any more
        if self.turn is not _WAITING and self.turn is not _HELD:
            return False
        if self._interim_count or not self._reader.exhausted:
            return False
        unsent_bytes = self.bev.output.length - self._line.bytes_behind(1)
        is_unsent = unsent_bytes == self._request_bytes
        return is_unsent or (self.is_reused and request.method in IDEMPOTENT)

    # What the program wants.

    def pause(self) -> None:
        """Take nothing more from the server."""
        if not self._is_paused:
            self._is_paused = True
            self._deadline.due = inf
            self.bev.disable(EV_READ)

    def resume(self) -> None:
        """Take again; what is here is given from the loop."""
        if self._is_paused:
            self._take_again()
            self._count_silence()
            self.read_later()

    def _take_again(self) -> None:
        self._is_paused = False
        self.bev.enable(EV_READ)

    def read_later(self) -> None:
        """Read what is here from the loop."""
        self.bev.base.once(-1, EV_TIMEOUT, self._on_turn, self._queue[0])

    def _on_turn(self, fd: int, what: int, request: HttpRequest) -> None:
        if self.serves(request) and not self._is_paused:
            self._read_on()

    def resume_upload(self) -> None:
        """Ask a producer again, from the loop."""
        upload = self._upload
        if upload is not None and not upload.is_awake:
            upload.is_awake = True
            self.bev.base.once(-1, EV_TIMEOUT, self._on_upload_turn, upload)

    def _on_upload_turn(self, fd: int, what: int, upload: Upload) -> None:
        if self._upload is upload:
            upload.is_awake = False
            if upload.state is UploadState.ASLEEP:
                self._pull(upload)

    # Sending.

    def send(self, request: HttpRequest) -> None:
        """Send the first request of the line."""
        bev = self.bev
        self._reader.expect(request.method)
        self._interim_count = 0
        self._deadline.due = inf
        head, body = request.head, request.body
        if request.expects_continue:
            self._step(TurnStep.HOLD)
            self._request_bytes = len(head)
            self._deadline.begin(self.options.continue_s)
        elif type(body) is bytes:
            self.turn = _WAITING  # by TurnStep.SEND
            if request.extras is not None:
                self._upload = request.extras.upload
            if body:
                head += body
            self._request_bytes = len(head)
        else:
            self._step(TurnStep.SEND)
            self._request_bytes = len(head) + len(body)
            bev.output.add(head)
            _add_reference(bev, body)  # not moved: it may have to go again
            return
        bev.output.add(head)

    def send_behind(self) -> None:
        """Send more, as far as the options let it, before what is sent is answered."""
        if self.turn is not _WAITING and self.turn is not _BODY:
            return
        options, line, bev = self.options, self._line, self.bev
        most = 1 if self._is_wary and not self.is_reused else options.max_pipelined
        while (request := line.next_to_send(most, options.pipelines_all)) is not None:
            line.behind += 1
            if type(request.body) is bytes:
                bev.output.add(request.head + request.body)
            else:
                bev.output.add(request.head)
                _add_reference(bev, request.body)

    def _send_body(self, request: HttpRequest) -> None:
        """The server wants the body, or has not said that it does not."""
        self._step(TurnStep.SEND_BODY)
        body = request.body
        self._deadline.due = inf
        if request.extras is not None and request.extras.upload is not None:
            self._upload = request.extras.upload
            self._pull(self._upload)
        else:
            self._request_bytes += len(body)
            _add_reference(self.bev, body)

    def _pull(self, upload: Upload) -> None:
        """Ask the program for more of a body, while there is room for it."""
        request, bev = self._queue[0], self.bev
        while self._upload is upload and bev.output.length < MAX_WAITING_BYTES:
            try:
                piece = upload.next_piece(request)
            except Exception as exc:
                self._raised(request, exc, "the body could not be had")
                return
            if self._upload is not upload:
                return  # the producer has cancelled, or closed
            if piece:
                self._request_bytes += len(piece)
                bev.output.add(piece)
            if upload.state is UploadState.DONE:
                self._upload = None
                self._count_silence()
            elif upload.state is UploadState.ASLEEP:
                return

    def _on_written(self, bev: AbstractBufferEvent, ctx: object) -> None:
        """There is nothing more to send now: from the last of it on the server's silence counts."""
        upload = self._upload
        if upload is not None:
            if upload.state is not UploadState.ASLEEP:
                self._pull(upload)
        elif self.turn is _WAITING:
            self._deadline.begin(self.options.read_s)
        else:
            self._count_silence()

    # Time.

    def _count_silence(self) -> None:
        """Give the server its time, where it is to do something, and the program takes it."""
        is_asked = self.turn is _WAITING or self.turn is _BODY
        if is_asked and not self._is_paused and self._upload is None and not self.bev.output.length:
            self._deadline.begin(self.options.read_s)

    def time_is_over(self) -> None:
        """The present turn has lasted too long."""
        if self.turn is _HELD:
            self._send_body(self._queue[0])
        else:
            self._failed(RequestTimeout(f"{self._address}: silent for too long"))

    # What comes.

    def _on_event(self, bev: AbstractBufferEvent, what: int, ctx: object) -> None:
        if what & BEV_EVENT_EOF and self.turn is not _READY:
            self._reader.receive_eof()
            self._read_on()
        elif what & BEV_EVENT_TIMEOUT:
            self._failed(RequestTimeout(f"{self._address}: it takes nothing for too long"))
        elif what & BEV_EVENT_WRITING and self.turn is not _READY:
            # A server may refuse a request before it has read all of it, and close: the response
            # is still to be read, and those to what was sent behind it.  What follows them, or
            # silence, ends the wait.
            self._upload = None
            self._queue[self._line.behind].keep_alive = False
            self._deadline.begin(self.options.read_s)
        else:
            self._failed(ConnectionClosed(f"{self._address}: {bev.error}"))

    def _on_readable(self, bev: AbstractBufferEvent, ctx: object) -> None:
        self._on_data(bev, bev.input.remove())

    def _on_data(self, bev: AbstractBufferEvent, data: bytes, ctx: object = None) -> None:
        """Make what has come into a response: at once where it is an ordinary one, and whole."""
        if self.turn is not _WAITING:
            self._on_more(bev, data)
            return
        reader, line = self._reader, self._line
        while True:
            try:
                head = reader.next_head(data)
            except HttpError as exc:
                self._failed(exc)
                return
            if head is None:
                self._count_silence()
                return
            request = self._queue[0]
            extras = request.extras
            body: bytes | None = None
            if (
                (extras is None or extras.takes_whole)
                and head.status >= 200
                and not request.expects_continue
                and request.method != "CONNECT"
            ):
                body = reader.whole_body()
            if body is None:
                if self._take_head(request, head):
                    self._read_on()
                return
            if head is not self._keeping.last_head:
                self._keeping.note(head)
            request.set_response(head, body)
            is_last = not line.behind
            self._answered(request)
            if is_last or not self._goes_on():
                return
            data = b""  # the answer to the next has come with it

    def _goes_on(self) -> bool:
        """Whether an answer to the request that is under way now may be here already."""
        return self.turn is _WAITING and not self._is_paused and not self._reader.exhausted

    def _on_more(self, bev: AbstractBufferEvent, data: bytes) -> None:
        """Bytes have come behind a head, or while a body waits for consent, or unasked for."""
        if self.turn is _READY:
            self._failed(InvalidResponse(f"{self._address}: bytes that nobody has asked for"))
        elif self.turn is not _OVER:
            self._reader.receive(data)
            if self._deadline.due < inf and self.turn is _BODY:
                self._deadline.begin(self.options.read_s)
                if len(data) == bev.max_single_read < LARGE_READ_BYTES:
                    bev.max_single_read = LARGE_READ_BYTES  # a read was full: it is a long body
            self._read_on()

    def _read_on(self) -> None:
        """Read what is here, as far as the program takes it."""
        goes_on = True
        while goes_on:
            while self.turn is _WAITING or self.turn is _HELD:
                try:
                    head = self._reader.next_head()
                except HttpError as exc:
                    self._failed(exc)
                    return
                if head is None or not self._take_head(self._queue[0], head):
                    return
            goes_on = self.turn is _BODY and not self._is_paused and self._read_body()

    def _take_head(self, request: HttpRequest, head: ResponseHead) -> bool:
        """Take the head of a response; whether to read on."""
        status = head.status
        if status < 200 and status != 101:
            return self._take_interim(request, head)
        if status == 417 and request.expects_continue and request.can_be_repeated:
            request.expect_nothing()
            self._refused()
            return False
        is_held = self.turn is _HELD
        self._step(TurnStep.HEAD)
        request.set_response(head)
        if is_held:
            request.keep_alive = False  # the body is never sent: what was announced is missing
        self._count_silence()
        if head is not self._keeping.last_head:
            self._keeping.note(head)
        extras = request.extras
        if status == 101 or (request.method == "CONNECT" and status < 300):
            # Another protocol follows (RFC 9110 9.3.6, 15.2.2).
            request.keep_alive = False
            if extras is not None and extras.upgrade_cb is not None:
                self._taken_over(request)
                return False
            if status == 101 and not request.asks_to_upgrade:
                text = "101 Switching Protocols, and nobody has asked for it"
                self._failed(InvalidResponse(text))
                return False
        if extras is not None and extras.header_cb is not None:
            verdict = self._call(request, extras.header_cb)
            if isinstance(verdict, int) and verdict < 0 and self.serves(request):
                self._failed(ConnectionClosed("the header callback gave the request up"))
        return True

    def _take_interim(self, request: HttpRequest, head: ResponseHead) -> bool:
        self._interim_count += 1
        if self._interim_count > self.options.max_interim:
            text = f"more than {self.options.max_interim} interim responses to one request"
            self._failed(InvalidResponse(text))
            return False
        extras = request.extras
        if extras is not None and extras.interim_cb is not None:
            try:
                headers = Headers.from_block(head.block)
                extras.interim_cb(request, head.status, headers, request.arg)
            except Exception as exc:
                self._raised(request, exc, "a callback of the request raised")
            if self.turn is _OVER:
                return False
        if head.status == 100 and self.turn is _HELD:
            self._send_body(request)
        self._count_silence()
        return True

    def _read_body(self) -> bool:
        """Read a piece of the body; whether there may be more to read, of it or behind it."""
        request = self._queue[0]
        try:
            piece = self._reader.read_body()
        except HttpError as exc:
            self._failed(exc)
            return False
        if piece is None:
            trailers = self._reader.trailers
            if trailers:
                request.trailers = trailers
            self._answered(request)
            return self._goes_on()
        if not piece:
            return False
        if request.connection is None:
            return True  # nobody waits for it any more
        buffer = request.input_buffer
        buffer.add(piece)
        extras = request.extras
        if extras is not None and extras.chunked_cb is not None:
            self._call(request, extras.chunked_cb)
            buffer.drain(len(buffer))
        return self.turn is _BODY

    def _call(self, request: HttpRequest, cb: CompletionCallback) -> object:
        """Run a callback in the middle of a response; where it raises, the request has failed."""
        try:
            return cb(request, request.arg)
        except Exception as exc:
            self._raised(request, exc, "a callback of the request raised an exception")
            return None

    def _limits_for(self, head: ResponseHead) -> ReaderLimits:
        """Return the limits of the body behind a head: a stream's where the program takes it so."""
        extras = self._queue[0].extras
        options = self.options
        if extras is None or extras.chunked_cb is None:
            return options.limits
        return replace(options.limits, max_body_bytes=options.max_stream_bytes)

    # What follows an answer.

    def turn_to_rest(self, answered: HttpRequest) -> bool:
        """Be ready for another request; whether the carrier is of use for one."""
        if (
            answered.keep_alive
            and self._reader.exhausted
            and not self.bev.output.length
            and self._upload is None
        ):
            self.turn = _READY  # by TurnStep.DONE
            self.is_reused = True
            self._deadline.due = inf  # `be_idle` says, where no request follows
            if self._is_paused:
                self._take_again()
            return True
        return False

    def turn_to_next(self) -> None:
        """Await the answer to the first request of the line, which was sent behind another."""
        self.turn = _WAITING  # by TurnStep.NEXT
        following = self._queue[0]
        self._reader.expect(following.method)
        self._request_bytes = following.sent_bytes
        self.is_reused = True
        self._interim_count = 0
        self._deadline.due = inf
        if self._is_paused:
            self._take_again()
        self._count_silence()

    def _step(self, step: TurnStep) -> None:
        self.turn = NEXT_TURN[self.turn, step]


def _add_reference(bev: AbstractBufferEvent, body: bytes | EvBuffer) -> None:
    if isinstance(body, EvBuffer):
        bev.output.add_buffer_reference(body)
    else:
        bev.output.add(body)
