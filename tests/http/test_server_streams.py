"""Replies in pieces, and being told when what was sent has left."""

from __future__ import annotations

import pytest

from evsvc.core import EvBuffer
from evsvc.http.errors import LocalProtocolError
from tests.http.peers import request


class TestStreams:
    def test_the_wire_form_of_chunks(self, serve) -> None:
        """The reference's: chunks of 13, 18 and 8 bytes are `d`, `12` and `8`."""

        def answer(got, arg):
            got.send_reply_start(200, "Everything is fine")
            for piece in (b"This is funny", b"but not hilarious.", b"bwv 1052"):
                got.send_reply_chunk(piece)
            got.send_reply_chunk(b"")
            got.send_reply_end()

        peer = serve(answer).connect()
        peer.send(request("/"))
        line, fields = peer.read_head()
        assert line == "HTTP/1.1 200 Everything is fine"
        assert [name for name, _ in fields] == ["Transfer-Encoding", "Content-Type", "Date"]
        wire = b"d\r\nThis is funny\r\n12\r\nbut not hilarious.\r\n8\r\nbwv 1052\r\n0\r\n\r\n"
        assert peer.read_bytes(len(wire)) == wire
        assert peer.get().body == b"This is funnybut not hilarious.bwv 1052"

    def test_chunked_and_close_are_both_told(self, ask) -> None:
        def answer(got):
            got.send_reply_start(200)
            got.send_reply_end()

        reply = ask(answer, "Connection: close")
        assert reply.field("Transfer-Encoding") == "chunked"
        assert reply.field("Connection") == "close"

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, EvBuffer])
    def test_a_piece_is_any_kind_of_bytes(self, ask, kind) -> None:
        def answer(got):
            got.send_reply_start(200)
            got.send_reply_chunk(kind(b"piece"))
            got.send_reply_end()

        assert ask(answer).body == b"piece"

    @pytest.mark.parametrize("lines", [(), ("Connection: keep-alive",)])
    def test_http_1_0_gets_bytes_up_to_the_close(self, ask, lines) -> None:
        def answer(got):
            got.send_reply_start(200)
            got.send_reply_chunk(b"one ")
            got.send_reply_chunk(b"two")
            got.send_reply_end()

        reply = ask(answer, *lines, version="1.0", to_end=True)
        assert reply.body == b"one two"
        assert reply.field("Transfer-Encoding") is None
        assert reply.field("Connection") == "close"

    def test_head_gets_the_head_only(self, serve) -> None:
        def answer(got, arg):
            got.send_reply_start(200)
            got.send_reply_chunk(b"body")
            got.send_reply_end()

        peer = serve(answer).connect()
        peer.send(request("/", method="HEAD") + request("/"))
        head = peer.read_message(has_body=False)
        assert head.field("Transfer-Encoding") == "chunked"
        assert peer.read_message().body == b"body"

    def test_thirty_nine_bytes_exactly(self, serve) -> None:
        """With a Content-Length of the program's there is no chunking (the reference's case)."""

        def answer(got, arg):
            got.output_headers.add("Content-Length", "39")
            got.send_reply_start(200, "Everything is fine")
            for piece in (b"This is funny", b"but not hilarious.", b"bwv 1052"):
                got.send_reply_chunk(piece)
            got.send_reply_end()

        peer = serve(answer).connect()
        for version, line in (("1.1", "X: y"), ("1.0", "Connection: keep-alive")):
            reply = peer.get("/", line, version=version)
            assert reply.field("Transfer-Encoding") is None
            assert reply.body == b"This is funnybut not hilarious.bwv 1052"
        assert peer.is_open()

    def test_one_byte_too_many_is_refused_and_the_rest_can_follow(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        (got,) = site.requests
        got.output_headers.add("Content-Length", "4")
        got.send_reply_start(200)
        got.send_reply_chunk(b"abc")
        with pytest.raises(LocalProtocolError, match="1 are left"):
            got.send_reply_chunk(b"de")
        got.send_reply_chunk(b"d")
        got.send_reply_end()
        assert peer.read_message().body == b"abcd"
        assert peer.is_open()

    def test_one_byte_too_few_closes_the_connection(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        (got,) = site.requests
        got.output_headers.add("Content-Length", "4")
        got.send_reply_start(200)
        got.send_reply_chunk(b"abc")
        peer.settle()
        with pytest.raises(LocalProtocolError, match="1 bytes"):
            got.send_reply_end()
        assert got.connection is None
        assert peer.read_to_end().endswith(b"\r\n\r\nabc")

    def test_a_head_request_may_announce_a_length_without_sending_it(self, serve) -> None:
        def answer(got, arg):
            got.output_headers.add("Content-Length", "4")
            got.send_reply_start(200)
            got.send_reply_end()

        peer = serve(answer).connect()
        peer.send(request("/", method="HEAD"))
        assert peer.read_message(has_body=False).field("Content-Length") == "4"
        assert peer.is_open()

    def test_the_program_may_stream_from_the_loop(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/") + request("/next"))
        (got,) = site.requests
        got.send_reply_start(200)
        peer.settle()
        assert peer.read_head()[0] == "HTTP/1.1 200 OK"
        got.send_reply_chunk(b"one")
        peer.settle()
        assert peer.read_bytes(8) == b"3\r\none\r\n"
        got.send_reply_end()
        assert peer.read_chunked() == b""
        assert len(site.requests) == 2


class TestChunkCallback:
    """`send_reply_chunk(data, cb)` is how a program streams at the client's pace."""

    @pytest.mark.parametrize(
        ("method", "version", "lines"),
        [
            ("GET", "1.1", ()),
            ("GET", "1.1", ("Connection: close",)),
            ("GET", "1.0", ()),
            ("HEAD", "1.1", ()),
            ("HEAD", "1.0", ()),
        ],
    )
    def test_it_is_called_when_the_output_is_empty(self, serve, method, version, lines) -> None:
        calls = []

        def answer(got, arg):
            pieces = iter([b"x" * 70_000] * 5)

            def send_next(connection, argument):
                calls.append((len(connection.bufferevent.output), argument))
                piece = next(pieces, None)
                if piece is None:
                    got.send_reply_end()
                else:
                    got.send_reply_chunk(piece, send_next, "argument")

            got.send_reply_start(200)
            got.send_reply_chunk(b"first", send_next, "argument")

        peer = serve(answer).connect()
        peer.send(request("/", *lines, method=method, version=version))
        reply = peer.read_message(has_body=method == "GET", to_end=True)
        peer.until(lambda: len(calls) == 6)
        assert calls == [(0, "argument")] * 6
        assert reply.body == (b"" if method == "HEAD" else b"first" + b"x" * 350_000)

    def test_the_last_piece_is_not_lost_when_the_callback_ends_the_reply(self, serve) -> None:
        def answer(got, arg):
            def finish(connection, argument):
                got.send_reply_chunk(b"second")
                got.send_reply_end()

            got.send_reply_start(200)
            got.send_reply_chunk(b"first ", finish)

        peer = serve(answer).connect()
        peer.send(request("/", "Connection: close"))
        assert peer.read_message().body == b"first second"

    def test_a_later_one_replaces_it_and_an_empty_piece_has_one_too(self, serve) -> None:
        site = serve()
        calls = []
        peer = site.connect()
        peer.send(request("/"))
        (got,) = site.requests
        got.send_reply_start(200)
        got.send_reply_chunk(b"a", lambda *args: calls.append("first"))
        got.send_reply_chunk(b"", lambda *args: calls.append("second"))
        assert calls == []
        peer.settle()
        assert calls == ["second"]
        got.send_reply_chunk(b"", lambda *args: calls.append("third"))
        assert calls == ["second"], "never before the return"
        peer.settle()
        assert calls == ["second", "third"]
        got.send_reply_end()

    def test_it_runs_before_the_close_of_the_connection(self, serve) -> None:
        site = serve()
        calls = []
        peer = site.connect()
        peer.send(request("/", "Connection: close"))
        (got,) = site.requests
        got.output_headers.add("Content-Length", "0")
        got.send_reply_start(200)
        peer.settle()
        got.send_reply_chunk(b"", lambda connection, arg: calls.append(connection.base))
        got.send_reply_end()
        assert not peer.is_open()
        assert calls == [site.base]

    def test_one_that_raises_breaks_the_stream_off(self, base, serve) -> None:
        caught = []
        base.exception_handler = caught.append
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        (got,) = site.requests
        got.send_reply_start(200)
        got.send_reply_chunk(b"a", lambda *args: 1 / 0)
        peer.settle()
        assert [type(exc) for exc in caught] == [ZeroDivisionError]
        got.send_reply_end()
        assert b"0\r\n\r\n" not in peer.read_to_end()
        assert site.server.connection_count == 0


class TestOnComplete:
    def test_it_runs_once_when_all_is_sent(self, serve) -> None:
        calls = []

        def answer(got, arg):
            got.set_on_complete_cb(
                lambda done, cb_arg: calls.append(
                    (done is got, cb_arg, len(got.connection.bufferevent.output))
                ),
                "arg",
            )
            got.send_reply(200, None, b"x" * 16_000_000)

        peer = serve(answer).connect(receive_bytes=4096)
        peer.send(request("/"))
        assert calls == []
        peer.read_message()
        peer.settle()
        assert calls == [(True, "arg", 0)]

    def test_those_of_a_pipeline_run_in_order(self, serve) -> None:
        calls = []

        def answer(got, arg):
            got.set_on_complete_cb(lambda done, cb_arg: calls.append(done.uri))
            got.send_reply(200)

        peer = serve(answer).connect()
        peer.send(request("/a") + request("/b") + request("/c"))
        assert calls == ["/a", "/b", "/c"]

    @pytest.mark.parametrize("lines", [(), ("Connection: close",)])
    def test_it_runs_where_nothing_was_left_to_send_at_the_end(self, serve, lines) -> None:
        site = serve()
        calls = []
        peer = site.connect()
        peer.send(request("/", *lines))
        (got,) = site.requests
        got.set_on_complete_cb(lambda done, cb_arg: calls.append(done))
        got.output_headers.add("Content-Length", "1")
        got.send_reply_start(200)
        got.send_reply_chunk(b"x")
        peer.settle()
        got.send_reply_end()
        assert calls == []
        assert peer.is_open() is not bool(lines)
        assert calls == [got]

    def test_it_may_close_and_the_others_are_dropped_then(self, serve) -> None:
        calls = []

        def answer(got, arg):
            connection = got.connection
            got.set_on_complete_cb(
                lambda done, cb_arg: (calls.append(done.uri), connection.close())
            )
            got.send_reply(200)

        peer = serve(answer).connect()
        peer.send(request("/a") + request("/b"))
        assert calls == ["/a"]
        assert peer.read_to_end().count(b"HTTP/1.1 200") == 2

    @pytest.mark.parametrize("lines", [(), ("Connection: close",)])
    def test_one_that_raises_does_not_keep_the_others(self, base, serve, lines) -> None:
        caught, calls = [], []
        base.exception_handler = caught.append

        def fail(done, arg):
            calls.append(done.uri)
            raise ValueError(done.uri)

        def answer(got, arg):
            got.set_on_complete_cb(fail)
            got.send_reply(200)

        peer = serve(answer).connect()
        peer.send(request("/a") + request("/b", *lines))
        assert calls == ["/a", "/b"]
        assert [str(exc) for exc in caught] == ["/a", "/b"]
        assert peer.is_open() is not bool(lines)

    def test_it_does_not_run_when_the_client_has_gone(self, serve) -> None:
        site = serve()
        calls = []
        peer = site.connect()
        peer.send(request("/"))
        (got,) = site.requests
        got.set_on_complete_cb(lambda done, arg: calls.append(done))
        peer.reset()
        got.send_reply(200)
        peer.settle()
        assert calls == []
