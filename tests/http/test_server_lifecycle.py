"""How a server ends, gracefully or at once, and that nothing stays behind."""

from __future__ import annotations

import contextlib
import gc
import logging
import socket

import pytest

from evsvc.http import HttpServer
from tests.http.peers import Peer, request
from tests.ports import held_port


class TestShutdown:
    def test_idle_connections_close_and_the_loop_ends(self, base, serve) -> None:
        site = serve(lambda got, arg: got.send_reply(200))
        used, fresh = site.connect(), site.connect()
        used.get()
        site.server.shutdown()
        assert not used.is_open()
        assert not fresh.is_open()
        assert base.dispatch() == 1

    def test_a_request_in_hand_finishes_and_says_close(self, base, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/a") + request("/b"))
        site.server.shutdown()
        assert peer.is_open()
        site.requests[0].send_reply(200, None, b"finished")
        reply = peer.read_message()
        assert (reply.body, reply.field("Connection")) == (b"finished", "close")
        assert peer.read_to_end() == b""
        peer.close()
        assert base.dispatch() == 1
        assert len(site.requests) == 1

    def test_a_stream_finishes(self, base, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        (got,) = site.requests
        got.send_reply_start(200)
        site.server.shutdown()
        got.send_reply_chunk(b"whole")
        got.send_reply_end()
        assert peer.read_message().body == b"whole"
        assert peer.read_to_end() == b""
        assert base.dispatch() == 1

    @pytest.mark.parametrize("cut", [5, len(request("/", method="POST", body=b"xyz")) - 1])
    def test_a_request_that_is_under_way_is_read_and_answered(self, serve, cut) -> None:
        site = serve(lambda got, arg: got.send_reply(200))
        peer = site.connect()
        data = request("/", method="POST", body=b"xyz")
        peer.send(data[:cut])
        site.server.shutdown()
        peer.send(data[cut:])
        assert peer.read_message().field("Connection") == "close"
        assert not peer.is_open()

    def test_a_silent_client_does_not_hold_it_up(self, base, clock, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(b"GET / HT")
        site.server.shutdown()
        assert base.dispatch() == 1
        assert peer.read_to_end().startswith(b"HTTP/1.1 408 ")

    def test_what_a_client_has_not_taken_yet_is_still_sent(self, serve) -> None:
        body = b"x" * 16_000_000
        site = serve(lambda got, arg: got.send_reply(200, None, body))
        peer = site.connect(receive_bytes=4096)
        peer.send(request("/"))
        site.server.shutdown()
        assert peer.read_message().body == body
        assert not peer.is_open()

    def test_from_inside_a_callback_it_spares_the_reply(self, serve) -> None:
        site = serve()

        def last(got, arg):
            got.send_reply(200, None, b"last words")
            site.server.shutdown()

        site.server.set_gencb(last)
        peer = site.connect()
        peer.send(request("/"))
        assert peer.read_message().body == b"last words"
        assert not peer.is_open()

    def test_its_callback_runs_when_the_last_connection_has_gone(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        calls = []
        site.server.shutdown(calls.append)
        assert calls == []
        site.requests[0].send_reply(200)
        peer.read_message()
        assert not peer.is_open()
        assert calls == [site.server]

    def test_without_connections_its_callback_runs_at_once(self, serve) -> None:
        site = serve()
        calls = []
        site.server.shutdown(calls.append)
        assert calls == [site.server]


class TestClose:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"GET / HT",
            request("/", "Content-Length: 5", method="POST"),
            request("/"),
            b"illegal request\r\n",
        ],
    )
    def test_it_ends_connections_in_every_phase(self, base, serve, data) -> None:
        site = serve()
        peer = site.connect()
        peer.send(data)
        site.server.close()
        assert not peer.is_open()
        assert site.server.connection_count == 0
        for got in site.requests:
            assert got.connection is None
            got.send_reply(200)
        assert base.dispatch() == 1

    def test_leaving_the_with_statement_closes(self, base) -> None:
        with held_port() as port:
            with HttpServer(base) as server:
                server.bind_socket("127.0.0.1", port)
                socket.create_connection(("127.0.0.1", port)).close()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()


@pytest.mark.no_cover
def test_a_thousand_connections_leave_nothing_behind(serve, caplog) -> None:
    """With the cyclic collector off: whatever is closed must break its own cycles."""

    def answer(got, arg):
        got.connection.set_closecb(lambda connection, cb_arg: got.uri)
        got.set_on_complete_cb(lambda done, cb_arg: got.uri)
        if got.uri == "/stream":
            got.send_reply_start(200)
            got.send_reply_chunk(b"x", lambda connection, cb_arg: got.uri)
            got.send_reply_end()
        elif got.uri == "/fail":
            raise ValueError
        else:
            got.send_reply(
                200, None, bytes(got.input_buffer) + got.input_headers.find("Host").encode()
            )

    wires = [
        request("/a") * 3,
        request("/b", "Connection: close", method="POST", body=b"xyz"),
        request("/", "Transfer-Encoding: chunked", method="POST") + b"1\r\nx\r\n0\r\nA: b\r\n\r\n",
        request("/stream") + request("/stream", "Connection: close"),
        request("/fail"),
        b"illegal request\r\n",
        b"GET / HT",
        request("/", "Content-Length: 9", method="POST"),
    ]
    caplog.set_level(logging.CRITICAL)  # pytest would keep the records, and with them tracebacks
    site = serve(answer)
    site.base.exception_handler = lambda exc: None

    def visit(wire: bytes) -> None:
        sock = socket.create_connection((site.bound.address, site.bound.port))
        peer = Peer(site.base, sock)
        with contextlib.closing(sock):
            peer.send(wire)
            peer.half_close()
            peer.read_to_end()

    def round_of(count: int) -> int:
        for number in range(count):
            visit(wires[number % len(wires)])
        assert site.server.connection_count == 0
        return len(gc.get_objects())

    round_of(3 * len(wires))
    gc.collect()
    gc.disable()
    try:
        before = round_of(2 * len(wires))
        after = round_of(1000)
    finally:
        gc.enable()
    assert after - before < 100
