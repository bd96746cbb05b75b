"""One client's connection: reads requests, has them answered in order, writes the replies.

A request's way: carrier -> reader -> router -> the program's callback -> writer -> carrier.
One request is in hand at a time; what the client pipelines behind it waits in the reader, and past
PIPELINE_BYTES no more is read.

Invariants
    * `_phase` moves as `NEXT` says, and no other way.
    * `_request` is the request in hand in BODY and REPLY, and None otherwise.
    * `_deadline` counts in every phase but CLOSED, and counts `idle_s` whenever a whole request is
      in hand or none has begun: a request moves it with one store.  What it means when its time is
      over depends on the phase; a client that is slow, but not silent, is looked at then.
    * Nothing here knows what the carrier is: a socket, TLS, half of a pair in memory.
    * The client's end is looked for in every phase, also while the program has its request; it is
      told, and not acted on while the request may still be answered.
    * The program's callback may close the connection: after each, `_phase` is looked at again.
      What it raises ends its exchange, and nothing else.
    * A reply from outside the reading starts no other callback before it returns: programs that
      answer one client from the callback of another would recurse as deep as clients pipeline.
"""

from __future__ import annotations

import enum
import logging
from typing import TYPE_CHECKING, Any

from ...core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_ERROR,
    BEV_EVENT_TIMEOUT,
    BEV_TRIG_DEFER_CALLBACKS,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    ArgumentTypeError,
)
from ...core.bufferevent.timeouts import Deadline
from ..errors import RemoteProtocolError
from ..wire.request_reader import RequestReader
from ..wire.writer import CONTINUE
from .body_intake import BodyIntake
from .extras import Extras
from .forwarded import Client
from .handle import ServerConnection
from .listening.tls import tls_below
from .observing.observers import PROMPT_BYTES, Ending
from .pace import BodyPace, OutputPace
from .pages import error_page, final_page, not_found_page
from .request import ReplyState, ServerRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core import AbstractBufferEvent
    from ..wire.limits import ReaderLimits
    from ..wire.request_head import Head
    from .listening.bound_socket import BoundSocket
    from .observing.observers import Watch
    from .router import Route
    from .server import HttpServer

logger = logging.getLogger("evsvc.http")

# Bytes that may wait unread behind a request in hand.
PIPELINE_BYTES = 64 * 1024


class Phase(enum.Enum):
    """What the connection is about to do."""

    HEAD = enum.auto()  # read a request's head, or wait for one
    BODY = enum.auto()  # read its body
    REPLY = enum.auto()  # the program has it
    SKIP = enum.auto()  # it is answered: read the rest of its body, and throw it away
    BACKLOG = enum.auto()  # read no further until the client has taken what it asked for
    DRAIN = enum.auto()  # send what is left, then close
    LINGER = enum.auto()  # all is sent; throw away what still comes, until the peer closes
    CLOSED = enum.auto()


class Step(enum.Enum):
    """What takes a connection from one phase to another."""

    HEAD_WITH_BODY = enum.auto()
    REQUEST = enum.auto()  # it is whole: the program gets it
    REPLIED = enum.auto()
    REPLIED_TOO_MUCH = enum.auto()  # more waits to be sent than `max_output_bytes`
    TAKEN = enum.auto()  # by the client, all of it
    LAST = enum.auto()  # nothing more is read as a request
    SENT = enum.auto()
    CLOSE = enum.auto()


NEXT: dict[tuple[Phase, Step], Phase] = {
    (Phase.HEAD, Step.HEAD_WITH_BODY): Phase.BODY,
    (Phase.HEAD, Step.REQUEST): Phase.REPLY,
    (Phase.BODY, Step.REQUEST): Phase.REPLY,
    (Phase.REPLY, Step.REPLIED): Phase.HEAD,
    (Phase.REPLY, Step.REPLIED_TOO_MUCH): Phase.BACKLOG,
    (Phase.BODY, Step.REPLIED): Phase.SKIP,
    (Phase.SKIP, Step.REQUEST): Phase.HEAD,
    (Phase.SKIP, Step.LAST): Phase.DRAIN,
    (Phase.BACKLOG, Step.TAKEN): Phase.HEAD,
    (Phase.HEAD, Step.LAST): Phase.DRAIN,
    (Phase.BODY, Step.LAST): Phase.DRAIN,
    (Phase.REPLY, Step.LAST): Phase.DRAIN,
    (Phase.BACKLOG, Step.LAST): Phase.DRAIN,
    (Phase.DRAIN, Step.LAST): Phase.DRAIN,
    (Phase.DRAIN, Step.SENT): Phase.LINGER,
    **{(phase, Step.CLOSE): Phase.CLOSED for phase in Phase},
}

_HEAD, _BODY, _REPLY = Phase.HEAD, Phase.BODY, Phase.REPLY
_BACKLOG, _DRAIN, _CLOSED = Phase.BACKLOG, Phase.DRAIN, Phase.CLOSED
_SKIP = Phase.SKIP


class Connection:
    """What the server keeps of one client; the ReplyPath of its requests.

    peer: the client's (address, port); ("", 0) on a Unix socket.  options: the server's, as they
    were when the client came.  keep_alive: whether the connection may outlive the reply in hand.
    source: the listening socket by which it came, or None.  peer_is_done: the client has ended its
    side.  send, send_buffer, date: see ReplyPath.
    """

    __slots__ = (
        "_base",
        "_deadline",
        "_extras",
        "_handle",
        "_head_is_timed",
        "_idle_s",
        "_linger",
        "_phase",
        "_pumping",
        "_reader",
        "_request",
        "_requests_left",
        "_route",
        "_server",
        "_service",
        "_watches_end",
        "carrier",
        "compression",
        "date",
        "default_content_type",
        "gone",
        "keep_alive",
        "options",
        "peer",
        "peer_is_done",
        "send",
        "send_buffer",
        "source",
    )

    def __init__(
        self,
        server: HttpServer,
        carrier: AbstractBufferEvent,
        peer: tuple[str, int],
        source: BoundSocket | None = None,
    ) -> None:
        self._server = server
        service = self._service = server.service
        self._base = base = service.base
        options = self.options = service.options
        self.default_content_type = options.default_content_type
        self.compression = service.compression
        self.peer = peer
        self.source = source
        self._reader = RequestReader(options.limits)
        self._reader.limits_for = self._limits_for
        self._reader.max_whole_bytes = service.max_whole_bytes
        self._phase = _HEAD
        self._request: ServerRequest | None = None
        self._route: Route | None = None  # of a request whose body is read
        self.keep_alive = True
        self.gone = self.peer_is_done = False
        self._requests_left = options.max_requests
        self._pumping = False
        self._linger = False
        self._head_is_timed = False
        self._extras: Extras | None = None
        self._handle: ServerConnection | None = None
        self._watches_end = False  # while reading stands still
        watch = service.watch(peer)
        if watch is not None:
            self.extras().watch = watch
        self._deadline = Deadline(base, self._on_deadline)
        self._idle_s = options.idle_s
        self._deadline.start(options.idle_s)
        self.carrier = carrier
        carrier.set_timeouts(None, options.write_s)
        carrier.setcb(None, None, self._on_event)
        carrier.set_datacb(self._pump)
        carrier.enable(EV_READ)
        if carrier.input.length:  # it was in use before
            self._reader.receive(carrier.input.remove())
            base.once(-1, EV_TIMEOUT, self._on_turn)
        self.send = carrier.output.add
        self.send_buffer = carrier.output.add_buffer
        self.date = service.date

    def extras(self) -> Extras:
        """Return what few connections have; from here on this one has it."""
        if self._extras is None:
            self._extras = Extras()
        return self._extras

    def handle(self) -> ServerConnection:
        """Return the connection as the program sees it: always the same object."""
        if self._handle is None:
            self._handle = ServerConnection(self, self._server)
        return self._handle

    def client(self, request: ServerRequest) -> Client:
        """Return who sent a request; see ServerRequest.client."""
        scheme = "https" if tls_below(self.carrier) is not None else "http"
        seen = Client(*self.peer, scheme, request.host)
        proxies = self._service.proxies
        return seen if proxies is None else proxies.client_of(request, seen)

    def set_closecb(self, cb: Callable[[Any, Any], object] | None, arg: object = None) -> None:
        """Have the program told of the end; see ServerConnection.set_closecb."""
        if cb is not None and not callable(cb):
            raise ArgumentTypeError(f"the callback cannot be called: {cb!r}")
        self.extras().closecb = None if cb is None else (cb, arg)

    def close(self) -> None:
        """End it at once; see ServerConnection.close."""
        if self._phase is _CLOSED:
            return
        self._end(None)

    def _end(self, goodbye_s: float | None) -> None:
        """Be closed, and have it told; the carrier may have so long to say goodbye."""
        request, unsent_bytes = self._request, self.carrier.output.length
        self._unwatch_end()
        if self._extras is not None:
            self._extras.forget_output()
        if goodbye_s is None:
            self.carrier.close()
        else:
            self.carrier.finish(goodbye_s)
        self._let_go()
        self._tell_end()
        self._handle = None
        extras = self._extras
        if extras is not None and extras.watch is not None:
            extras.watch.cut(request, unsent_bytes)

    def _let_go(self) -> None:
        """Be closed, but for the carrier."""
        self._step(Step.CLOSE)
        self.gone = True
        self._deadline.close()
        self._reader.limits_for = None
        if self._extras is not None:
            self._extras.let_go()
            self._end_pace(self._extras)
            self._end_intake(self._extras, False)
            self._tell_gone(self._extras)
        self._request = self._route = None
        self.compression = None  # which may know a request
        self._server.forget(self)

    def break_off(self) -> None:
        """End it, so that the client notices that a reply is not whole."""
        self.close()

    @property
    def holds(self) -> tuple[bool, int, int]:
        """Whether a request is in hand; bytes that were received, and that wait to be sent."""
        request = self._request
        received = self._reader.buffered + (0 if request is None else request.gathered_bytes)
        return request is not None, received, self.carrier.output.length

    def watch(self) -> None:
        """Measure exchanges from here on, if somebody observes."""
        extras = self._extras
        if extras is None or extras.watch is None:
            self.extras().watch = self._service.watch(self.peer)

    def take_over(self, request: ServerRequest) -> tuple[AbstractBufferEvent, bytes]:
        """Have no more to do with the carrier, and return it, with the unread bytes."""
        self._unwatch_end()
        carrier, rest = self.carrier, self._reader.rest()
        carrier.set_datacb(None)
        carrier.setcb(None, None, None)
        carrier.set_timeouts(None, None)
        extras = self._extras
        if extras is not None:
            extras.closecb = extras.gone_cb = None
            extras.forget_output()
        self._let_go()
        if not self.peer_is_done:
            carrier.enable(EV_READ | EV_WRITE)
        if extras is not None and extras.watch is not None:
            extras.watch.end(request)
        return carrier, rest

    def finish(self, idle_s: float = 0.0) -> None:
        """Close after what has arrived is answered, or now when there is nothing.

        idle_s: a client that was told that the connection stays has so long to send one more
        request, which may be under way.  It is answered, and told that it was the last.
        """
        phase = self._phase
        if idle_s and not self.peer_is_done and self._was_told_to_stay():
            self._requests_left = 1
            self._idle_s = min(idle_s, self.options.idle_s)
            if phase is _HEAD and self._reader.exhausted:
                self._deadline.start(self._idle_s)
            return
        self._requests_left = 0
        self.keep_alive = False
        if self.peer_is_done and phase is _REPLY:
            self.close()  # who asked has gone, as far as can be known
        elif (phase is _HEAD or phase is _BACKLOG) and self._reader.exhausted:
            if phase is _BACKLOG or not self._has_arrived():
                self._close_after_output()
            else:
                self._requests_left = 1

    def _was_told_to_stay(self) -> bool:
        """Whether the client may send a request that nobody has told it not to send."""
        if self._phase is _REPLY:
            assert self._request is not None
            return bool(self.keep_alive and self._request.response_code)
        return self._phase in (_HEAD, _BACKLOG, _SKIP)

    def turn_away(self) -> None:
        """Answer 503 without having read a request, and close: there are too many clients."""
        self._refuse(RemoteProtocolError("there are too many connections", 503))

    def _has_arrived(self) -> bool:
        """Whether bytes of the client are there that are not read yet, or it is still shaking
        hands and would send its request next."""
        return self.carrier.has_unread() or not self.carrier.carries_bytes

    def _step(self, step: Step) -> None:
        self._phase = NEXT[self._phase, step]

    def _pump(self, bev: AbstractBufferEvent, data: bytes, ctx: object = None) -> None:
        """Read on, until a request is in the program's hands or more bytes must come."""
        phase = self._phase
        if phase is not _HEAD:
            if phase is not _BODY and phase is not _SKIP:
                self._hold(data)
                return
            self._reader.receive(data)
            data = b""
        head = None
        reader = self._reader
        self._pumping = True
        try:
            if phase is _BODY:
                self._read_body()
            elif phase is _SKIP:
                self._skip_body()
            while self._phase is _HEAD:
                try:
                    head = reader.next_head(data)
                except RemoteProtocolError as fault:
                    self._refuse(fault)
                    break
                data = b""
                if head is None:
                    break
                self._begin(head)
                if not reader.has_more:
                    break
        finally:
            self._pumping = False
        if self._phase is _HEAD:
            if head is None or self.peer_is_done:
                self._await_rest()
            else:
                deadline = self._deadline
                deadline.last = deadline.clock()

    def _hold(self, data: bytes) -> None:
        """Bytes have come while none are wanted: they wait, or what follows the end is dropped."""
        if self._phase is _REPLY or self._phase is _BACKLOG:
            self._reader.receive(data)
            if self._reader.buffered > PIPELINE_BYTES:
                self.carrier.disable(EV_READ)
                self._watch_end()
        else:
            self._linger = True

    def _await_rest(self) -> None:
        """A head is not whole, or has not begun; or no more will come."""
        begun = not self._reader.exhausted
        if self.peer_is_done:
            if begun:
                self.close()  # there is nothing to answer
            else:
                self._close_after_output()
        elif not begun:
            deadline = self._deadline
            deadline.last = deadline.clock()
        elif not self._head_is_timed:
            self._head_is_timed = True
            self._deadline.start(self.options.head_s)

    def _count_idle(self) -> None:
        """Count `idle_s` from now on."""
        idle_s, deadline = self._idle_s, self._deadline
        if deadline.seconds > idle_s:
            deadline.start(idle_s)
        else:  # its event may come too early, and never too late
            deadline.seconds = idle_s
            deadline.last = deadline.clock()

    def _begin(self, head: Head) -> None:
        request = self._request = ServerRequest(self, head)
        method, _, _, _, content_length, keep_alive, _, expect_continue = head
        if self._head_is_timed:
            self._head_is_timed = False
            self._count_idle()
        extras = self._extras
        if extras is not None and extras.watch is not None:
            extras.watch.begin(self.peer)
        left = self._requests_left = self._requests_left - 1
        self.keep_alive = keep_alive and left > 0
        service = self._service
        route = service.find_route(request)
        if service.newreq_cb is not None and not service.admits(request):
            if extras is not None and extras.watch is not None:
                extras.watch.ending = Ending.REFUSED
            self.close()
            return
        if method not in service.methods and (
            route is None or route.methods is None or method not in route.methods
        ):
            if content_length:
                self.keep_alive = False
                self._linger = True
            self._step(Step.REQUEST)
            request.send_error(501)
        elif content_length:
            streams = route is not None and route.streams and _takes(route, method)
            may_be_whole = not streams or (route is not None and route.takes_whole)
            if may_be_whole and (body := self._reader.whole_body()) is not None:
                request.set_body(body)
                if extras is not None and extras.watch is not None:
                    extras.watch.received_bytes = len(body)
                self._answer(request, route)
                return
            self._step(Step.HEAD_WITH_BODY)
            self._route = route
            if expect_continue:
                self.extras().expects_continue = True
            if streams:
                assert route is not None
                intake = self.extras().intake = BodyIntake(self._body_wanted, self._body_unwanted)
                request.stream_body(intake)
                self.carrier.disable(EV_READ)
                self._watch_end()
                try:
                    route.callback(request, route.arg)
                except Exception as exc:
                    self._callback_failed(request, exc)
                return
            if expect_continue and (fault := self._lacks_room(content_length)) is not None:
                self._refuse(fault)  # before a byte of it is sent
                return
            self._send_continue()
            self._read_body()
            if self._phase is _BODY:
                self._begin_pace(self.extras(), request)
        else:
            self._answer(request, route)

    def _limits_for(self, head: Head) -> ReaderLimits:
        """Return the limits of the body behind a head: a stream's where its route streams."""
        service = self._service
        if service.hosts.streams and service.streams_body(head):
            return service.stream_limits
        return self.options.limits

    def _send_continue(self) -> None:
        extras = self._extras
        if extras is not None and extras.expects_continue:
            extras.expects_continue = False
            if self._reader.exhausted:
                self.send(CONTINUE)

    def _body_wanted(self) -> None:
        """The program takes the body, or goes on taking it: from the loop, as it may be here by
        way of a callback of the body."""
        if self._phase is _BODY:
            self._send_continue()
            extras, deadline = self.extras(), self._deadline
            if extras.body_pace is None:
                extras.body_pace = BodyPace(deadline.clock())
            now = deadline.clock()
            extras.body_pace.go_on(now)
            deadline.start(max(extras.body_pace.left(now, self.options), 0.0))
            self._unwatch_end()
            self.carrier.enable(EV_READ)
            self._base.once(-1, EV_TIMEOUT, self._on_turn)

    def _body_unwanted(self) -> None:
        if self._phase is _BODY:
            pace = self.extras().body_pace
            if pace is not None:
                pace.hold(self._deadline.clock())
            self.carrier.disable(EV_READ)
            self._watch_end()

    def _begin_pace(self, extras: Extras, request: ServerRequest) -> None:
        """Look from here on how a body comes that is gathered, and of which a part is here."""
        deadline = self._deadline
        now = deadline.clock()
        pace = extras.body_pace = BodyPace(now)
        deadline.start(pace.left(now, self.options))
        try:
            self._note_piece(pace, request.gathered_bytes, is_gathered=True)
        except RemoteProtocolError as fault:
            self._refuse(fault)

    def _note_piece(self, pace: BodyPace, size: int, *, is_gathered: bool) -> None:
        """A piece of a body has come.  Raises RemoteProtocolError when there is no room for it."""
        pace.note(self._deadline.clock(), size)
        if is_gathered:
            pace.counted_bytes += size
            self._service.bodies_bytes += size
            fault = self._lacks_room(0)
            if fault is not None:
                raise fault

    def _lacks_room(self, size: int) -> RemoteProtocolError | None:
        """Return the fault of a body of so many bytes more, if all would be too much together."""
        most = self.options.max_bodies_bytes
        if most is None or self._service.bodies_bytes + size <= most:
            return None
        return RemoteProtocolError(f"all bodies together are longer than {most} bytes", 503)

    def _end_pace(self, extras: Extras) -> None:
        """A request is over, and its body with it."""
        pace, extras.body_pace = extras.body_pace, None
        if pace is not None:
            self._service.bodies_bytes -= pace.counted_bytes

    def _end_intake(self, extras: Extras, is_whole: bool) -> None:
        intake, extras.intake = extras.intake, None
        request = self._request
        if intake is not None and request is not None:
            try:
                intake.end(request, is_whole)
            except Exception as exc:
                self._callback_failed(request, exc)

    def _read_body(self) -> None:
        """Take what has come of the body; at its end, have the request answered."""
        request, extras = self._request, self._extras
        intake = None if extras is None else extras.intake
        assert request is not None
        try:
            while intake is None or intake.is_wanted:
                piece = self._reader.read_body()
                if piece is None:
                    break
                if not piece:
                    if self.peer_is_done:
                        self.close()
                    return
                if extras is not None and extras.body_pace is not None:
                    self._note_piece(extras.body_pace, len(piece), is_gathered=intake is None)
                if intake is None:
                    request.input_buffer.add(piece)
                elif not self._give(self.extras(), intake, request, piece):
                    return
            else:
                return  # the program pauses
        except RemoteProtocolError as fault:
            self._refuse(fault)
            return
        request.trailers = self._reader.trailers  # None where the body was not chunked
        self._count_idle()
        if extras is not None:
            if extras.watch is not None and intake is None:
                extras.watch.received_bytes = request.gathered_bytes
            if intake is not None:
                self._phase = _REPLY
                self._end_intake(extras, True)
                return
        self._answer(request, self._route)

    def _give(
        self, extras: Extras, intake: BodyIntake, request: ServerRequest, piece: bytes
    ) -> bool:
        """Give the program a piece of a body; whether it is still to be read."""
        if extras.watch is not None:
            extras.watch.received_bytes += len(piece)
        try:
            intake.give(request, piece)
        except Exception as exc:
            self._callback_failed(request, exc)
        return self._phase is _BODY

    def _skip_body(self) -> None:
        """Throw away the rest of a body whose request is answered: within a bound, or close."""
        extras = self.extras()
        try:
            while (piece := self._reader.read_body()) is not None:
                extras.skipped_bytes += len(piece)
                if self.peer_is_done or extras.skipped_bytes > self.options.max_skip_bytes:
                    self._close_after_output()
                    return
                if not piece:
                    return
        except RemoteProtocolError as fault:
            logger.info("%s port %d: behind a request: %s", *self.peer, fault)
            self._close_after_output()
            return
        self._step(Step.REQUEST)
        self._count_idle()
        if not self._pumping:
            self._go_on()

    def _answer(self, request: ServerRequest, route: Route | None) -> None:
        self._phase = _REPLY  # by Step.REQUEST; a look into the table is 0.1 of 8 us
        if route is None and request.uri == "*" and request.method == "OPTIONS":
            self._tell_methods(request, self._service.methods)
        elif route is None:
            page = self.error_page(request, 404, None) if self._service.error_cb else b""
            request.send_page(404, page or not_found_page(request.uri))
        elif route.methods is None or request.method in route.methods:
            try:
                route.callback(request, route.arg)
            except Exception as exc:
                self._callback_failed(request, exc)
        elif request.method == "OPTIONS":
            self._tell_methods(request, route.methods)
        else:
            request.send_error(405, None, ("Allow", ", ".join(sorted(route.methods))))
        if self.peer_is_done and self._phase is _REPLY:
            self._end_in_hand()

    def _tell_methods(self, request: ServerRequest, methods: frozenset[str]) -> None:
        """Answer OPTIONS where the program does not (RFC 9110 9.3.7)."""
        allow = ", ".join(sorted(methods | {"OPTIONS"}))
        request.output_headers.add("Allow", allow)
        request.send_reply(204)

    def error_page(self, request: ServerRequest, code: int, reason: str | None) -> bytes:
        """Return the page for an error, the program's where it makes one."""
        return self._service.error_page(request, code, reason)

    def _callback_failed(self, request: ServerRequest, exc: Exception) -> None:
        """The program's callback raised: tell the client what is still to be told, and the
        program."""
        if self._phase is _CLOSED:
            pass
        elif request.state is ReplyState.PENDING:
            request.send_error(500)
        elif request.state is ReplyState.STREAMING:
            self.break_off()  # the missing end tells the client that the body is not whole
        self._service.callback_failed(exc, request)

    def _refuse(self, fault: RemoteProtocolError) -> None:
        """Answer bytes that are no good request, and close (RFC 9112 9.6)."""
        logger.info("%s port %d: %d: %s", *self.peer, fault.status, fault)
        request = self._request
        has_no_body = self._reader.asks_for_head if request is None else request.method == "HEAD"
        extras = self._extras
        if extras is not None:
            self._end_intake(extras, False)
            self._tell_gone(extras)
            if self._phase is _CLOSED:
                return
            extras.complete_cb = None
            self._end_pace(extras)
        self._linger = True
        if request is not None and request.state is not ReplyState.PENDING:
            # The program's own reply was first; within it a page would be a piece of the body.
            if request.state is ReplyState.STREAMING:
                self.break_off()
            else:
                self._close_after_output()
            return
        self._request = self._route = None
        self.gone = True  # for a program that has the request still: it is answered
        self.send(final_page(fault.status, self.date, has_no_body))
        self._close_after_output()
        if extras is not None and extras.watch is not None:
            page_bytes = 0 if has_no_body else len(error_page(fault.status, None))
            extras.watch.refuse(request, self.peer, fault.status, page_bytes)

    def when_sent(self, cb: Callable[[Any, Any], object], arg: object) -> None:
        """Call `cb(connection, arg)` from the loop when the output is empty; see ReplyPath."""
        self.extras().chunk_cb = (cb, arg)
        self._watch_output()

    def set_gone_cb(self, cb: Callable[[Any, Any], object], arg: object) -> None:
        """Call `cb(request, arg)` when the client of the request in hand ends; see ReplyPath."""
        self.extras().gone_cb = (cb, arg)

    def _tell_gone(self, extras: Extras) -> None:
        gone_cb, extras.gone_cb = extras.gone_cb, None
        if gone_cb is not None and self._request is not None:
            self._service.run(gone_cb, self._request)

    def set_complete_cb(self, cb: Callable[[Any, Any], object], arg: object) -> None:
        """Call `cb(request, arg)` when the reply in hand is sent; see ReplyPath."""
        self.extras().complete_cb = (cb, arg)

    def reply_done(self, request: ServerRequest, keep_alive: bool) -> None:
        """The request in hand is answered: go on with the next, or close."""
        extras = self._extras
        if extras is not None:
            self._end_exchange(extras, request)
        self._request = None
        if not keep_alive:
            if (self.keep_alive or self._requests_left <= 0) and not self._server.closing:
                self._linger = True  # we end it, and the client may be sending its next request
            self._close_after_output()
        elif self._phase is _BODY:
            self._begin_skip()
        elif self.carrier.output.length > self.options.max_output_bytes:
            self._step(Step.REPLIED_TOO_MUCH)
            self._watch_output()
        else:
            self._phase = _HEAD  # by Step.REPLIED
            if not self._pumping:
                self._go_on()
        if extras is not None and extras.watch is not None:
            self._tell_observers(extras, extras.watch, request)

    def _end_exchange(self, extras: Extras, request: ServerRequest) -> None:
        """A reply is whole: nobody hears of its body or its client any more."""
        if extras.intake is not None:
            self._end_intake(extras, False)
        self._end_pace(extras)
        extras.gone_cb = None
        if extras.complete_cb is not None:
            extras.completed.append((request, extras.complete_cb))
            extras.complete_cb = None
            self._watch_output()

    def _tell_observers(self, extras: Extras, watch: Watch, request: ServerRequest) -> None:
        """A reply is whole.  This comes last, as an observer may close the connection."""
        if self._phase is _CLOSED or self.carrier.output.length <= PROMPT_BYTES:
            watch.end(request)
        else:
            watch.end_when_sent(request)
            extras.completed.append((request, (watch.sent, None)))
            self._watch_output()

    def _begin_skip(self) -> None:
        """The program has answered before the end of the body."""
        self._step(Step.REPLIED)
        extras = self.extras()
        extras.skipped_bytes = 0
        if extras.expects_continue:  # the client may or may not send it (RFC 9110 10.1.1)
            self._linger = True
            self._close_after_output()
            return
        self._deadline.start(self.options.body_s)
        self._unwatch_end()
        self.carrier.enable(EV_READ)
        self._base.once(-1, EV_TIMEOUT, self._on_turn)

    def _go_on(self) -> None:
        """Wait for the next request; one that has waited is read in a turn of its own."""
        self._count_idle()
        if not self.peer_is_done:
            self._unwatch_end()
            self.carrier.enable(EV_READ)
        if self.peer_is_done or not self._reader.exhausted:
            self._base.once(-1, EV_TIMEOUT, self._on_turn)

    def _on_turn(self, fd: int, what: int, arg: object) -> None:
        if self._phase is _HEAD or self._phase is _BODY or self._phase is _SKIP:
            self._pump(self.carrier, b"")

    def _watch_output(self) -> None:
        """Have `_on_sent` called when the output is empty: from the loop even where it is now."""
        self.carrier.setcb(None, self._on_sent, self._on_event)
        if not self.carrier.output.length:
            self.carrier.trigger(EV_WRITE, BEV_TRIG_DEFER_CALLBACKS)

    def _on_sent(self, bev: AbstractBufferEvent, ctx: object) -> None:
        """The output is empty: tell whoever waits for that, and go on or close."""
        bev.setcb(None, None, self._on_event)
        extras = self._extras
        try:
            if extras is not None:
                self._tell_sent(extras)
        finally:
            if self._phase is not _CLOSED:
                self._after_output()

    def _tell_sent(self, extras: Extras) -> None:
        """Run the callbacks that wait; what one of them adds waits for the output that it wrote."""
        for _ in range(len(extras.completed)):
            if not extras.completed:
                return  # closed
            request, complete_cb = extras.completed.pop(0)
            self._service.run(complete_cb, request)
        if extras.chunk_cb is not None and not self.carrier.output.length:
            (cb, arg), extras.chunk_cb = extras.chunk_cb, None
            request_in_hand = self._request
            try:
                cb(self.handle(), arg)
            except Exception as exc:
                if request_in_hand is not None:
                    self._callback_failed(request_in_hand, exc)
                else:
                    self._service.callback_failed(exc, self.handle())

    @property
    def _waits_for_output(self) -> bool:
        return self._extras is not None and self._extras.waits_for_output

    def _after_output(self) -> None:
        if self._waits_for_output:
            self._watch_output()  # a callback has asked for another turn
        elif self._phase is _DRAIN:
            self._close_after_output()
        elif self._phase is _BACKLOG:
            if self.carrier.output.length:
                self._watch_output()
            else:
                self._step(Step.TAKEN)
                self._go_on()

    def _close_after_output(self) -> None:
        self._step(Step.LAST)
        if not self._reader.exhausted:
            self._linger = True
        if self.carrier.output.length or self._waits_for_output:
            self._count_idle()
            self._watch_output()
        else:
            self._deadline.stop()
            self._end_output()

    def _end_output(self) -> None:
        """All is sent.  Closing now would reset the connection if unread bytes are left, and the
        client might never see the reply: then half-close, and read what comes for a while
        (RFC 9112 9.6).  TLS says its end in any case."""
        carrier = self.carrier
        if not (self._linger or carrier.says_goodbye):
            self.close()
        elif self.peer_is_done:
            self._end(self.options.linger_s)
        else:
            self._step(Step.SENT)
            carrier.shutdown_write()
            self._unwatch_end()
            carrier.enable(EV_READ)
            self._deadline.start(self.options.linger_s)

    def _on_event(self, bev: AbstractBufferEvent, what: int, ctx: object) -> None:
        if what & BEV_EVENT_CONNECTED:
            self._deadline.touch()
            return
        if what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT):
            if tls_below(bev) is not None:
                why = bev.error if what & BEV_EVENT_ERROR else "its time is over"
                logger.info("%s port %d: TLS ends: %s", *self.peer, why)
            self.close()
            return
        self.peer_is_done = True
        if tls_below(bev) is not None and not bev.carries_bytes:
            logger.info("%s port %d: TLS ends: the client has gone", *self.peer)
        if self._phase is Phase.LINGER:
            self.close()
        elif self._phase is _HEAD or self._phase is _BODY or self._phase is _SKIP:
            self._pump(bev, b"")
        elif self._phase is _REPLY:
            self._end_in_hand()

    def _end_in_hand(self) -> None:
        """The client sends no more, and may have gone, while the program has its request.

        It may as well have closed only its sending side: the program is told, and has `idle_s` to
        answer.
        """
        self._deadline.start(self.options.idle_s)
        if self._extras is not None:
            self._tell_gone(self._extras)
        self._tell_end()

    def _tell_end(self) -> None:
        extras = self._extras
        if extras is not None and extras.closecb is not None:
            closecb, extras.closecb = extras.closecb, None
            self._service.run(closecb, self.handle())

    def _watch_end(self) -> None:
        """Look for the client's end while nothing is read, where that can be seen."""
        if not self._watches_end:
            self._watches_end = True
            self.carrier.watch_end(self._on_end_behind)

    def _unwatch_end(self) -> None:
        if self._watches_end:
            self._watches_end = False
            self.carrier.watch_end(None)

    def _on_end_behind(self) -> None:
        """The client has ended behind bytes that are not read yet."""
        if self._phase is _REPLY:
            self._end_in_hand()
        elif self._phase is _BODY:  # which the program holds back
            self._tell_gone(self.extras())

    def _on_deadline(self) -> None:
        phase, extras = self._phase, self._extras
        if phase is _BODY:
            self._look_at_body(self.extras())
        elif phase is _SKIP:
            self._close_after_output()
        elif phase is _HEAD and not self._reader.exhausted:
            self._refuse(RemoteProtocolError("the request did not come in time", 408))
        elif phase is Phase.LINGER or (self.peer_is_done and phase is _REPLY):
            self.close()
        elif self.carrier.output.length:  # not idle: it still takes a reply
            self._look_at_output(self.extras())
        elif phase is _HEAD:
            self._close_after_output()
        else:  # the program has its request
            if extras is not None:
                extras.forget_output()
            self._deadline.start(self.options.idle_s)

    def _look_at_body(self, extras: Extras) -> None:
        """Time has passed in which a body should have come."""
        pace, options, deadline = extras.body_pace, self.options, self._deadline
        intake = extras.intake
        if pace is None or (intake is not None and not (intake.is_wanted and intake.is_paced)):
            deadline.start(options.idle_s)  # the program holds the client back, or lets it be
            return
        left_s = pace.left(deadline.clock(), options)
        if left_s > 0:
            deadline.start(left_s)
        else:
            self._refuse(RemoteProtocolError("the request's body did not come in time", 408))

    def _look_at_output(self, extras: Extras) -> None:
        """A client has been taking a reply for long: at what rate?"""
        now, options = self._deadline.clock(), self.options
        pace = extras.output_pace
        if pace is None:
            extras.output_pace = OutputPace(self.carrier.output, now)
        elif pace.is_too_slow(now, options):
            logger.info("%s port %d: takes its reply too slowly", *self.peer)
            self.close()
            return
        self._deadline.start(options.idle_s)


def _takes(route: Route, method: str) -> bool:
    return route.methods is None or method in route.methods
