"""One client's connection: reads requests, has them answered in order, writes the replies.

A request's way: bufferevent -> reader -> router -> the program's callback -> writer -> bufferevent.
One request is in hand at a time; what the client pipelines behind it waits in the reader, and past
PIPELINE_BYTES no more is read.

Invariants
    * `_request` is the request in hand in BODY and REPLY, and None otherwise.
    * `_deadline` is right in HEAD, BODY and LINGER.  The timer may be set for an earlier moment,
      never for a later one, nor for more than `idle_s` ahead: a deadline that moves back, or
      becomes the idle one, costs one store, and the timer, when it fires early, is set again.
    * The program's callback may close the connection: after each, `_phase` is looked at again.
    * A reply from outside the reading starts no other callback before it returns: programs that
      answer one client from the callback of another would recurse as deep as clients pipeline.
"""

from __future__ import annotations

import enum
import logging
import socket
from typing import TYPE_CHECKING, Any

from ...core import (
    BEV_EVENT_EOF,
    BEV_OPT_CLOSE_ON_FREE,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    BufferEvent,
    Event,
)
from ..errors import RemoteProtocolError
from ..wire.request_reader import RequestReader
from ..wire.writer import CONTINUE
from .pages import error_page, final_page, not_found_page
from .request import ReplyState, ServerRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core import EventBase
    from ..wire.request_head import RequestHead
    from .server import HttpServer

logger = logging.getLogger("evsvc.http")
access_logger = logging.getLogger("evsvc.http.access")

# Bytes that may wait unread behind a request in hand.
PIPELINE_BYTES = 64 * 1024


class Phase(enum.Enum):
    """What the connection is about to do."""

    HEAD = enum.auto()  # read a request's head, or wait for one
    BODY = enum.auto()  # read its body
    REPLY = enum.auto()  # the program has it
    BACKLOG = enum.auto()  # read no further until the client has taken what it asked for
    DRAIN = enum.auto()  # send what is left, then close
    LINGER = enum.auto()  # all is sent; throw away what still comes, until the peer closes
    CLOSED = enum.auto()


_HEAD, _BODY, _REPLY = Phase.HEAD, Phase.BODY, Phase.REPLY
_BACKLOG, _DRAIN, _CLOSED = Phase.BACKLOG, Phase.DRAIN, Phase.CLOSED


class ServerConnection:
    """A connection of an HttpServer (struct evhttp_connection on the server's side).

    peer: the client's (address, port); ("", 0) on a Unix socket.  options: the server's, as they
    were when the client came.  keep_alive: whether the connection may outlive the reply in hand.
    send: puts bytes of a reply into the output.  date: the server's Date line.
    """

    __slots__ = (
        "_base",
        "_bev",
        "_chunk_cb",
        "_closecb",
        "_completed",
        "_deadline",
        "_head_is_timed",
        "_linger",
        "_logs_access",
        "_peer_is_done",
        "_phase",
        "_pumping",
        "_reader",
        "_request",
        "_requests_left",
        "_server",
        "_timer",
        "date",
        "keep_alive",
        "options",
        "peer",
        "send",
    )

    def __init__(self, server: HttpServer, sock: socket.socket, peer: tuple[str, int]) -> None:
        self._server = server
        self._base = base = server.base
        options = self.options = server.options
        self.peer = peer
        self._reader = RequestReader(options.limits)
        self._phase = _HEAD
        self._request: ServerRequest | None = None
        self.keep_alive = True
        self._requests_left = options.max_requests
        self._pumping = False
        self._linger = False
        self._peer_is_done = False
        self._head_is_timed = False
        self._completed: list[ServerRequest] = []
        self._chunk_cb: tuple[Callable[[Any, Any], object], Any] | None = None
        self._closecb: tuple[Callable[[Any, Any], object], Any] | None = None
        self._logs_access = access_logger.isEnabledFor(logging.INFO)
        self._deadline = base.now + options.idle_s
        self._timer = Event(base, -1, 0, self._on_timer)
        self._timer.add(options.idle_s)
        bev = self._bev = BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE)
        bev.set_timeouts(None, options.write_s)
        bev.setcb(None, None, self._on_event)
        bev.set_datacb(self._pump)
        bev.enable(EV_READ)
        self.send = bev.output.add
        self.date = server.date

    @property
    def base(self) -> EventBase:
        """The event base (evhttp_connection_get_base)."""
        return self._base

    @property
    def server(self) -> HttpServer:
        """The server (evhttp_connection_get_server)."""
        return self._server

    @property
    def bufferevent(self) -> BufferEvent:
        """What carries the bytes (evhttp_connection_get_bufferevent)."""
        return self._bev

    def set_closecb(self, cb: Callable[[Any, Any], object] | None, arg: object = None) -> None:
        """Call `cb(connection, arg)` once, when the connection ends, whoever ends it.

        Source: evhttp_connection_set_closecb.
        """
        self._closecb = None if cb is None else (cb, arg)

    def close(self) -> None:
        """End it at once; unsent output is dropped.  Safe to repeat (evhttp_connection_free)."""
        if self._phase is _CLOSED:
            return
        self._phase = _CLOSED
        self._timer.close()
        self._bev.close()
        if self._request is not None:
            self._request.connection = None
            self._completed.append(self._request)
        while self._completed:
            self._completed.pop().take_complete_cb()
        self._request = None
        self._chunk_cb = None
        self._server._forget(self)
        closecb, self._closecb = self._closecb, None
        if closecb is not None:
            closecb[0](self, closecb[1])

    def finish(self) -> None:
        """Close after the request in hand, or now when there is none."""
        self._requests_left = 0
        self.keep_alive = False
        if (self._phase is _HEAD or self._phase is _BACKLOG) and self._reader.exhausted:
            self._close_after_output()

    def turn_away(self) -> None:
        """Answer 503 without having read a request, and close: there are too many clients."""
        self._refuse(RemoteProtocolError("there are too many connections", 503))

    def _pump(self, bev: BufferEvent, data: bytes, ctx: object = None) -> None:
        """Read on, until a request is in the program's hands or more bytes must come."""
        phase = self._phase
        if phase is not _HEAD:
            if phase is not _BODY:
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
                if reader.exhausted:
                    break
        finally:
            self._pumping = False
        if self._phase is _HEAD:
            if head is None or self._peer_is_done:
                self._await_rest()
            else:
                self._deadline = self._base.now + self.options.idle_s

    def _hold(self, data: bytes) -> None:
        """Bytes have come while none are wanted: they wait, or what follows the end is dropped."""
        if self._phase is _REPLY or self._phase is _BACKLOG:
            self._reader.receive(data)
            if self._reader.buffered > PIPELINE_BYTES:
                self._bev.disable(EV_READ)
        else:
            self._linger = True

    def _await_rest(self) -> None:
        """A head is not whole, or has not begun; or no more will come."""
        begun = not self._reader.exhausted
        if self._peer_is_done:
            if begun:
                self.close()  # there is nothing to answer
            else:
                self._close_after_output()
        elif not begun:
            self._deadline = self._base.now + self.options.idle_s
        elif not self._head_is_timed:
            self._head_is_timed = True
            self._set_deadline(self.options.head_s)

    def _begin(self, head: RequestHead) -> None:
        request = self._request = ServerRequest(self, head)
        method, _, _, _, content_length, keep_alive, _, expect_continue = head
        self._head_is_timed = False
        self._requests_left -= 1
        self.keep_alive = keep_alive and self._requests_left > 0
        if method not in self._server.methods:
            if content_length:
                self.keep_alive = False
                self._linger = True
            self._phase = _REPLY
            request.send_error(501)
        elif content_length:
            self._phase = _BODY
            if expect_continue and self._reader.exhausted:
                self.send(CONTINUE)
            self._read_body()
            if self._phase is _BODY:
                self._set_deadline(self.options.body_s)
        else:
            self._answer(request)

    def _read_body(self) -> None:
        """Take what has come of the body; at its end, have the request answered."""
        request = self._request
        assert request is not None
        try:
            while (piece := self._reader.read_body()) is not None:
                if not piece:
                    if self._peer_is_done:
                        self.close()
                    return
                request.input_buffer.add(piece)
                self._deadline = self._base.now + self.options.body_s
        except RemoteProtocolError as fault:
            self._refuse(fault)
            return
        request.trailers = self._reader.trailers
        self._answer(request)

    def _answer(self, request: ServerRequest) -> None:
        self._phase = _REPLY
        route = self._server.router.find(request)
        if route is None:
            request.send_page(404, not_found_page(request.uri))
        elif route.methods is not None and request.method not in route.methods:
            allow = ", ".join(sorted(route.methods))
            request.send_page(405, error_page(405, None), ("Allow", allow))
        else:
            try:
                route.callback(request, route.arg)
            except Exception:
                self._callback_failed(request)
                raise

    def _callback_failed(self, request: ServerRequest) -> None:
        """The program's callback raised: tell the client what is still to be told."""
        if self._phase is _CLOSED:
            return
        if request.state is ReplyState.PENDING:
            self.keep_alive = False
            request.send_error(500)
        elif request.state is ReplyState.STREAMING:
            self.close()  # the missing end tells the client that the body is not whole
        elif self._phase is _HEAD:
            self._go_on()  # it was answered in full, so the client need not know

    def _refuse(self, fault: RemoteProtocolError) -> None:
        """Answer bytes that are no good request, and close (RFC 9112 9.6)."""
        logger.info("%s port %d: %d: %s", *self.peer, fault.status, fault)
        request, self._request = self._request, None
        if request is not None:
            request.connection = None
        self._linger = True
        self.send(final_page(fault.status, self.date))
        self._close_after_output()

    def when_sent(self, cb: Callable[[Any, Any], object], arg: object) -> None:
        """Call `cb(self, arg)` from the loop when the output is empty; replaces one that waits."""
        self._chunk_cb = (cb, arg)
        self._watch_output()

    def reply_done(self, request: ServerRequest, keep_alive: bool) -> None:
        """The request in hand is answered: go on with the next, or close."""
        self._request = None
        if self._logs_access:
            access_logger.info("%s %s", self.peer[0] or "-", request.summary())
        if request._complete_cb is not None:
            self._completed.append(request)
            self._watch_output()
        if not keep_alive:
            self._close_after_output()
        elif self._bev.output.length > self.options.max_output_bytes:
            self._phase = _BACKLOG
            self._watch_output()
        else:
            self._phase = _HEAD
            if not self._pumping:
                self._go_on()

    def _go_on(self) -> None:
        """Wait for the next request; one that has waited is read in a turn of its own."""
        self._deadline = self._base.now + self.options.idle_s
        if not self._peer_is_done:
            self._bev.enable(EV_READ)
        if self._peer_is_done or not self._reader.exhausted:
            self._base.once(-1, EV_TIMEOUT, self._on_turn)

    def _on_turn(self, fd: int, what: int, arg: object) -> None:
        if self._phase is _HEAD:
            self._pump(self._bev, b"")

    def _watch_output(self) -> None:
        """Have `_on_sent` called when the output is empty: from the loop even where it is now."""
        self._bev.setcb(None, self._on_sent, self._on_event)
        if not self._bev.output.length:
            self._bev.enable(EV_WRITE)

    def _on_sent(self, bev: BufferEvent, ctx: object) -> None:
        """The output is empty: tell whoever waits for that, and go on or close."""
        bev.setcb(None, None, self._on_event)
        try:
            self._tell_sent()
        finally:
            if self._phase is not _CLOSED:
                self._after_output()

    def _tell_sent(self) -> None:
        """Run the callbacks that wait; what one of them adds waits for the output that it wrote."""
        for _ in range(len(self._completed)):
            if not self._completed:
                return  # closed
            request = self._completed.pop(0)
            if (complete_cb := request.take_complete_cb()) is not None:
                complete_cb[0](request, complete_cb[1])
        if self._chunk_cb is not None and not self._bev.output.length:
            (cb, arg), self._chunk_cb = self._chunk_cb, None
            cb(self, arg)

    def _after_output(self) -> None:
        if self._completed or self._chunk_cb is not None:
            self._watch_output()  # a callback has raised, or asked for another turn
        elif self._phase is _DRAIN:
            self._close_after_output()
        elif self._phase is _BACKLOG:
            if self._bev.output.length:
                self._watch_output()
            else:
                self._phase = _HEAD
                self._go_on()

    def _close_after_output(self) -> None:
        self._phase = _DRAIN
        self._timer.delete()
        if not self._reader.exhausted:
            self._linger = True
        if self._bev.output.length or self._completed or self._chunk_cb is not None:
            self._watch_output()
        else:
            self._end_output()

    def _end_output(self) -> None:
        """All is sent.  Closing now would reset the connection if unread bytes are left, and the
        client might never see the reply: then half-close, and read what comes for a while
        (RFC 9112 9.6)."""
        if not self._linger or self._peer_is_done:
            self.close()
            return
        self._phase = Phase.LINGER
        assert self._bev.socket is not None
        try:
            self._bev.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self._bev.enable(EV_READ)
        self._set_deadline(self.options.linger_s)

    def _on_event(self, bev: BufferEvent, what: int, ctx: object) -> None:
        if not what & BEV_EVENT_EOF:
            self.close()
            return
        self._peer_is_done = True
        if self._phase is Phase.LINGER:
            self.close()
        elif self._phase is _HEAD or self._phase is _BODY:
            self._pump(bev, b"")

    def _set_deadline(self, seconds: float) -> None:
        self._deadline = self._base.now + seconds
        self._timer.add(min(seconds, self.options.idle_s))

    def _on_timer(self, fd: int, what: int, arg: object) -> None:
        idle_s = self.options.idle_s
        left = self._deadline - self._base.now
        if self._phase is _REPLY or self._phase is _BACKLOG:
            self._timer.add(idle_s)
        elif left > 0:
            self._timer.add(min(left, idle_s))
        elif self._phase is _BODY or (self._phase is _HEAD and not self._reader.exhausted):
            self._refuse(RemoteProtocolError("the request did not come in time", 408))
        elif self._bev.output.length:
            self._timer.add(idle_s)  # not idle: it is still taking a reply, in `write_s`
        else:
            self.close()
