"""What a connection stands on: any bufferevent, made by the program or by the server."""

from __future__ import annotations

import logging
import socket

import pytest

from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    BUFFEREVENT_SSL_ACCEPTING,
    EV_READ,
    EV_WRITE,
    EVLOOP_NONBLOCK,
    ArgumentError,
    ArgumentTypeError,
    BufferEvent,
    EventBase,
    FilterBufferEvent,
    PairBufferEvent,
    StateError,
    TlsBufferEvent,
)
from evsvc.http import HttpServer, ServerOptions
from tests.core.kinds import KINDS, flip
from tests.core.tls_ends import contexts
from tests.http.conftest import echo
from tests.http.peers import request
from tests.http.tls_peers import tls_peer


class Far:
    """A client whose end is a bufferevent."""

    def __init__(self, base: EventBase, bev) -> None:
        self.base = base
        self.bev = bev
        self.received = b""
        self.ends: list[int] = []
        bev.setcb(self._read, None, lambda bev, what, ctx: self.ends.append(int(what)))
        bev.enable(EV_READ | EV_WRITE)

    def _read(self, bev, ctx) -> None:
        self.received += bev.read()

    def settle(self) -> None:
        for _ in range(20):
            self.base.loop(EVLOOP_NONBLOCK)

    def ask(self, data: bytes) -> bytes:
        self.received = b""
        self.bev.write(data)
        self.settle()
        return self.received


@pytest.fixture
def server(base):
    with HttpServer(base) as made:
        made.set_gencb(echo)
        yield made


@pytest.fixture(params=KINDS)
def far(request, base, server):
    """A client of `server`, over each kind of bufferevent."""
    near, other = KINDS[request.param](base, 0)
    made = Far(base, other)
    server.serve(near, ("192.0.2.1", 80))
    yield made
    other.close()


class TestServe:
    def test_requests_are_answered_one_after_another(self, far) -> None:
        for number in range(3):
            reply = far.ask(request(f"/{number}"))
            assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
            assert reply.endswith(f"GET /{number} 1 0 ".encode())

    def test_pipelined_requests_and_a_body_in_parts(self, far) -> None:
        reply = far.ask(request("/a") + request("/b") + request("/c", "Content-Length: 2"))
        assert [reply.count(target) for target in (b"/a", b"/b", b"/c")] == [1, 1, 0]
        assert far.ask(b"xy").endswith(b"GET /c 1 2 xy")

    def test_a_large_reply_arrives_whole(self, server, far) -> None:
        body = bytes(range(256)) * 4096
        server.set_gencb(lambda got, arg: got.send_reply(200, None, body))
        assert far.ask(request("/")).partition(b"\r\n\r\n")[2] == body

    def test_the_last_reply_comes_before_the_end(self, server, far) -> None:
        assert far.ask(request("/", "Connection: close")).endswith(b"GET / 1 0 ")
        assert far.ends
        far.bev.close()
        far.settle()
        assert server.connection_count == 0

    def test_what_cannot_be_read_is_refused_before_the_end(self, server, far) -> None:
        assert far.ask(b"illegal request\r\nmore").startswith(b"HTTP/1.1 400 ")
        far.bev.close()
        far.settle()
        assert server.connection_count == 0

    def test_a_handler_sees_the_peer_that_was_told(self, server, far) -> None:
        seen = []
        server.set_gencb(
            lambda got, arg: (seen.append((got.remote_host, got.remote_port)), echo(got, arg))
        )
        far.ask(request("/"))
        assert seen == [("192.0.2.1", 80)]

    def test_callbacks_of_pieces_and_of_the_end_come(self, server, far) -> None:
        told = []

        def answer(got, arg):
            got.set_on_complete_cb(lambda got, arg: told.append("complete"))
            got.send_reply_start(200)
            got.send_reply_chunk(b"one", lambda connection, arg: (told.append("sent"), end(got)))

        def end(got):
            got.send_reply_chunk(b"two")
            got.send_reply_end()

        server.set_gencb(answer)
        assert far.ask(request("/")).endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
        assert told == ["sent", "complete"]

    def test_a_client_that_goes_while_its_request_is_in_hand_is_told(self, server, far) -> None:
        told, held = [], []

        def hold(got, arg):
            got.set_on_gone_cb(lambda got, arg: told.append("gone"))
            held.append(got)

        server.set_gencb(hold)
        far.ask(request("/"))
        assert told == []
        far.bev.close()
        far.settle()
        assert told == ["gone"]
        held[0].send_reply(200)
        far.settle()
        assert server.connection_count == 0

    def test_a_silent_client_is_closed_in_time(self, server, far, clock) -> None:
        far.ask(request("/"))
        clock.advance(server.options.idle_s)
        far.settle()
        assert far.ends
        clock.advance(server.options.linger_s)  # where a goodbye of its is waited for
        far.settle()
        assert server.connection_count == 0

    def test_a_stop_answers_what_has_arrived(self, server, far) -> None:
        far.settle()
        far.bev.write(request("/last"))
        if isinstance(far.bev, PairBufferEvent):
            done = []
            server.shutdown(done.append)
        else:
            far.base.loop(EVLOOP_NONBLOCK)
            done = []
            server.shutdown(done.append)
        far.settle()
        far.bev.close()
        far.settle()
        assert far.received.endswith(b"GET /last 1 0 ")
        assert done == [server]


def test_what_was_received_before_is_read_first(base, server) -> None:
    near, other = PairBufferEvent.new(base)
    far = Far(base, other)
    other.write(request("/early")[:10])
    near.enable(EV_READ)
    far.settle()
    assert len(near.input) == 10
    server.serve(near)
    assert far.ask(request("/early")[10:]).endswith(b"GET /early 1 0 ")


def test_the_connection_that_is_served_is_the_one_that_handlers_see(base, server) -> None:
    near, other = PairBufferEvent.new(base)
    handle = server.serve(near)
    seen = []
    server.set_gencb(lambda got, arg: (seen.append(got.connection), echo(got, arg)))
    Far(base, other).ask(request("/"))
    assert seen == [handle]
    assert handle.bufferevent is near
    assert handle.peer == ("", 0)
    assert handle.tls is None
    assert server.connection_count == 1


def test_what_is_served_counts_and_may_be_too_many(base) -> None:
    options = ServerOptions(max_connections=1, max_refused=1)
    with HttpServer(base, options) as server:
        pairs = [PairBufferEvent.new(base) for _ in range(3)]
        fars = [Far(base, other) for _, other in pairs]
        handles = [server.serve(near) for near, _ in pairs]
        for far in fars:
            far.settle()
        assert [handle is not None for handle in handles] == [True, False, False]
        assert fars[1].received.startswith(b"HTTP/1.1 503 ")
        assert (fars[2].received, bool(fars[2].ends)) == (b"", True)


def test_what_cannot_be_served_is_refused_at_the_call(base, server) -> None:
    near, _ = PairBufferEvent.new(base)
    with EventBase() as other_base:
        stranger, _ = PairBufferEvent.new(other_base)
        with pytest.raises(ArgumentError, match="base"):
            server.serve(stranger)
    with pytest.raises(ArgumentTypeError, match="5"):
        server.serve(5)
    near.close()
    with pytest.raises(StateError):
        server.serve(near)
    near, _ = PairBufferEvent.new(base)
    server.close()
    with pytest.raises(StateError):
        server.serve(near)


class TestBevCallback:
    def make_filter(self, base, sock, arg):
        below = BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE)
        return FilterBufferEvent(below, flip, flip, BEV_OPT_CLOSE_ON_FREE)

    def test_it_makes_what_carries_each_connection(self, serve) -> None:
        site = serve(echo)
        made = []

        def make(base, sock, arg):
            made.append((base, sock.getsockname()[1], arg))
            return self.make_filter(base, sock, arg)

        site.server.set_bevcb(make, "arg")
        peer = site.connect()
        flipped = bytes(255 - byte for byte in range(256))
        peer.send(request("/", "Connection: close").translate(flipped))
        assert peer.read_to_end().translate(flipped).endswith(b"GET / 1 0 ")
        assert made == [(site.base, site.bound.port, "arg")]

    def test_none_is_the_usual_one(self, serve) -> None:
        site = serve(echo)
        site.server.set_bevcb(lambda base, sock, arg: None)
        site.bound.set_bevcb(lambda base, sock, arg: None)
        assert site.connect().get().status == 200

    @pytest.mark.parametrize("tls", [False, True])
    def test_one_without_a_descriptor_gets_the_socket(self, base, serve, tls) -> None:
        """As with libevent, whose callback gets no socket."""
        client, context = contexts()

        def make(base, sock, arg):
            if not tls:
                return BufferEvent(base, None, BEV_OPT_CLOSE_ON_FREE)
            state = BUFFEREVENT_SSL_ACCEPTING
            return TlsBufferEvent.socket_new(base, None, context, state, BEV_OPT_CLOSE_ON_FREE)

        site = serve(echo)
        site.server.set_bevcb(make)
        peer = tls_peer(base, site.bound.port, client) if tls else site.connect()
        assert peer.get("/x").body == b"GET /x 1 0 "
        peer.close()

    def test_a_sockets_own_comes_before_the_servers(self, serve) -> None:
        site = serve(echo)
        asked = []
        site.server.set_bevcb(lambda base, sock, arg: asked.append("server"))
        site.bound.set_bevcb(lambda base, sock, arg: asked.append("socket"))
        assert site.connect().get().status == 200
        assert asked == ["socket", "server"]
        site.bound.set_bevcb(None)
        site.server.set_bevcb(None)
        assert site.connect().get().status == 200
        assert asked == ["socket", "server"]

    @pytest.mark.parametrize("wrong", ["raises", "returns"])
    def test_one_that_fails_ends_that_connection(self, serve, caplog, wrong) -> None:
        site = serve(echo)
        told = []
        site.base.exception_handler = told.append

        def fail(base, sock, arg):
            if wrong == "raises":
                raise OSError("no bufferevent")
            return 5

        site.server.set_bevcb(fail)
        with caplog.at_level(logging.ERROR, logger="evsvc.http"):
            peer = site.connect()
            assert peer.read_to_end() == b""
        assert [type(error) for error in told] == [
            OSError if wrong == "raises" else ArgumentTypeError
        ]
        assert len(caplog.records) == 1
        site.server.set_bevcb(None)
        assert site.connect().get().status == 200

    def test_it_can_be_called(self, serve) -> None:
        site = serve()
        for owner in (site.server, site.bound):
            with pytest.raises(ArgumentTypeError, match="5"):
                owner.set_bevcb(5)

    def test_who_cannot_even_be_refused_costs_no_bufferevent(self, serve) -> None:
        site = serve(max_connections=1, max_refused=1)
        made = []
        site.server.set_bevcb(lambda base, sock, arg: made.append(sock.fileno()))
        peers = [site.connect() for _ in range(3)]
        assert len(made) == 2
        assert peers[2].read_to_end() == b""


def test_an_accepted_socket_may_stay_in_the_programs_hands(base, serve) -> None:
    """A callback may wire something else to it, such as half a pair."""
    site = serve(echo)
    fars = []

    def make(base, sock, arg):
        sock.close()
        near, other = PairBufferEvent.new(base)
        fars.append(Far(base, other))
        return near

    site.server.set_bevcb(make)
    with socket.create_connection(("127.0.0.1", site.bound.port)):
        site.peers[0].settle() if site.peers else base.loop(EVLOOP_NONBLOCK)
        assert fars[0].ask(request("/")).endswith(b"GET / 1 0 ")
