"""Clients that leave before the reply, and callbacks that raise or close."""

from __future__ import annotations

import logging

import pytest

from evsvc.core import ArgumentError
from evsvc.http.errors import RemoteProtocolError
from evsvc.http.server.request import ReplyState
from tests.http.peers import request


class TestClientGone:
    def test_before_the_reply_answering_does_nothing(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        (got,) = site.requests
        calls = []
        got.connection.set_closecb(lambda connection, arg: calls.append((connection, arg)), "arg")
        connection = got.connection
        peer.reset()
        assert got.connection is None
        assert calls == [(connection, "arg")]
        assert (got.remote_host, got.remote_port) == ("", 0)
        got.send_reply(200, None, b"nobody hears")
        assert got.state is ReplyState.DONE
        connection.close()
        assert len(calls) == 1
        assert site.server.connection_count == 0

    def test_within_a_stream_the_rest_does_nothing(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        (got,) = site.requests
        got.send_reply_start(200)
        got.send_reply_chunk(b"one")
        peer.settle()
        peer.reset()
        assert got.connection is None
        got.send_reply_chunk(b"two", lambda *args: pytest.fail("there is no connection"))
        got.send_reply_end()
        peer.settle()

    def test_before_a_stream_the_whole_of_it_does_nothing(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        (got,) = site.requests
        peer.reset()
        got.send_reply_start(200)
        got.send_reply_chunk(b"x")
        got.send_reply_end()
        assert got.state is ReplyState.DONE

    def test_a_reply_in_the_close_callback_is_harmless(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        (got,) = site.requests
        got.connection.set_closecb(lambda *args: got.send_reply(200))
        peer.reset()
        assert got.state is ReplyState.DONE

    @pytest.mark.parametrize("how", ["client", "server", "itself", "idle"])
    def test_the_close_callback_runs_once_whoever_closes(self, serve, clock, how) -> None:
        site = serve(idle_s=5.0)
        peer = site.connect()
        (connection,) = (each.handle() for each in site.server._connections)
        calls = []
        connection.set_closecb(lambda closed, arg: calls.append(closed is connection))
        if how == "client":
            peer.half_close()
        elif how == "server":
            site.server.close()
        elif how == "itself":
            connection.close()
        else:
            clock.advance(5)
        peer.settle()
        connection.close()
        assert calls == [True]

    def test_the_close_callback_can_be_taken_back(self, serve) -> None:
        site = serve()
        site.connect()
        (connection,) = site.server._connections
        connection.set_closecb(lambda *args: pytest.fail("it was taken back"))
        connection.set_closecb(None)
        connection.close()


class TestCallbackRaises:
    @pytest.mark.parametrize("kind", [ValueError, RemoteProtocolError])
    def test_the_client_gets_500_the_log_the_traceback_and_the_loop_goes_on(
        self, serve, kind, caplog
    ) -> None:
        def fail(got, arg):
            if got.uri == "/a":
                raise kind("the program's own")
            got.send_reply(200, None, b"fine")

        site = serve(fail)
        peer = site.connect()
        peer.sock.send(request("/a") + request("/b"))
        peer.settle()
        assert peer.read_message().status == 500
        assert peer.read_message().body == b"fine"
        (record,) = (each for each in caplog.records if each.levelno == logging.ERROR)
        assert record.name == "evsvc.http"
        assert "GET /a" in record.getMessage()
        assert str(record.exc_info[1]) == "the program's own"

    @pytest.mark.parametrize("kind", [ValueError, RemoteProtocolError])
    def test_the_exception_handler_is_told(self, base, serve, kind) -> None:
        caught = []
        base.exception_handler = caught.append

        def fail(got, arg):
            raise kind("the program's own")

        site = serve(fail)
        assert site.connect().get().status == 500
        assert site.connect().ask(request("/", method="POST", body=b"x")).status == 500
        assert [str(exc) for exc in caught] == ["the program's own"] * 2

    def test_headers_set_before_are_not_in_the_500(self, base, serve) -> None:
        base.exception_handler = lambda exc: None

        def fail(got, arg):
            got.output_headers.add("Content-Length", "1000")
            raise ValueError

        reply = serve(fail).connect().get()
        assert reply.status == 500
        assert reply.all("Content-Length") == [str(len(reply.body))]

    def test_a_stream_is_broken_off(self, base, serve) -> None:
        base.exception_handler = lambda exc: None

        def fail(got, arg):
            got.send_reply_start(200)
            got.send_reply_chunk(b"one")
            raise ValueError

        site = serve(fail)
        peer = site.connect()
        peer.send(request("/"))
        assert not peer.read_to_end().endswith(b"0\r\n\r\n")
        assert site.server.connection_count == 0

    def test_after_the_reply_the_reply_stands(self, base, serve) -> None:
        base.exception_handler = lambda exc: None

        def fail(got, arg):
            got.send_reply(200, None, b"done")
            raise ValueError

        peer = serve(fail).connect()
        peer.send(request("/a") + request("/b"))
        assert peer.read_message().body == b"done"
        assert peer.read_message().body == b"done"  # what was pipelined behind it is answered
        assert peer.get("/c").body == b"done"

    def test_a_refused_reply_is_500(self, base, serve) -> None:
        caught = []
        base.exception_handler = caught.append
        peer = serve(lambda got, arg: got.send_reply(42)).connect()
        assert peer.get().status == 500
        assert isinstance(caught[0], ArgumentError)

    def test_when_it_has_closed_there_is_nothing_to_say(self, base, serve) -> None:
        base.exception_handler = lambda exc: None

        def fail(got, arg):
            got.connection.close()
            raise ValueError

        peer = serve(fail).connect()
        peer.send(request("/"))
        assert peer.read_to_end() == b""

    def test_a_close_callback_that_raises_leaves_the_connection_closed(self, base, serve) -> None:
        caught = []
        base.exception_handler = caught.append
        site = serve()
        peer = site.connect()
        (connection,) = site.server._connections
        connection.set_closecb(lambda *args: 1 / 0)
        peer.half_close()
        assert [type(exc) for exc in caught] == [ZeroDivisionError]
        assert site.server.connection_count == 0
        assert peer.read_to_end() == b""


class TestCallbackCloses:
    @pytest.mark.parametrize("answers", [False, True])
    def test_the_connection(self, serve, answers) -> None:
        uris = []

        def close(got, arg):
            uris.append(got.uri)
            connection = got.connection
            if answers:
                got.send_reply(200)
            connection.close()

        peer = serve(close).connect()
        peer.send(request("/a") + request("/b"))
        assert uris == ["/a"]
        assert peer.read_to_end() == b""

    def test_the_connection_after_a_reply_from_the_loop(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/a") + request("/b"))
        connection = site.requests[0].connection
        assert connection.server is site.server
        site.requests[0].send_reply(200)
        connection.close()
        peer.settle()
        assert len(site.requests) == 1

    @pytest.mark.parametrize("body", [b"", b"x"])
    def test_the_server(self, serve, body) -> None:
        site = serve()
        site.server.set_gencb(lambda got, arg: site.server.close())
        peer, other = site.connect(), site.connect()
        peer.send(request("/a", method="POST", body=body) + request("/b"))
        assert not peer.is_open()
        assert not other.is_open()

    def test_the_loop_is_broken_and_the_reply_sent_when_it_runs_again(self, base, serve) -> None:
        def answer(got, arg):
            got.send_reply(200, None, b"x")
            base.loopbreak()

        peer = serve(answer).connect()
        peer.sock.send(request("/"))
        base.dispatch()
        assert base.got_break
        assert peer.read_message().body == b"x"

    def test_callbacks_may_be_taken_back_and_set_anew(self, serve) -> None:
        site = serve()

        def once(got, arg):
            site.server.del_cb("/once")
            got.send_reply(200, None, b"first")

        site.server.set_gencb(None)
        site.server.set_cb("/once", once)
        peer = site.connect()
        peer.send(request("/once") * 2)
        assert peer.read_message().body == b"first"
        assert peer.read_message().status == 404
