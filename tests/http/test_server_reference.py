"""What libevent's own suite insists on of an HTTP server, line by line, in the clear and over TLS.

Where we differ on purpose the test says so; docs/libevent-map.md has the reasons.
"""

from __future__ import annotations

import pytest

from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    BUFFEREVENT_SSL_ACCEPTING,
    EV_READ,
    EVLOOP_NONBLOCK,
    BufferEvent,
    TlsBufferEvent,
)
from evsvc.http import HttpServer
from tests.core.tls_ends import contexts
from tests.http.conftest import echo
from tests.http.peers import request
from tests.http.tls_peers import tls_peer


@pytest.fixture(params=["plain", "tls", "tls filter"])
def serve(request, serve, base):
    """Return `serve(cb=None, **options)`, whose clients are connected by one way or another."""
    client, context = contexts()
    peers = []

    def make(base, sock, arg):
        below = BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE)
        state = BUFFEREVENT_SSL_ACCEPTING
        made = TlsBufferEvent.filter_new(below, context, state, BEV_OPT_CLOSE_ON_FREE)
        made.allow_dirty_shutdown = True
        return made

    def start(cb=None, **options):
        site = serve(cb, **options)
        if request.param == "tls":
            site.server.set_tls(context)
        elif request.param == "tls filter":
            site.server.set_bevcb(make)

        def connect():
            peers.append(tls_peer(base, site.bound.port, client))
            peers[-1].settle()
            return peers[-1]

        if request.param != "plain":
            site.connect = connect
        return site

    yield start
    for peer in peers:
        peer.close()


class TestRequests:
    def test_a_request_split_anywhere_parses_normally(self, serve) -> None:
        peer = serve(echo).connect()
        data = request("/split", "X-Name: value")
        for cut in range(1, len(data)):
            peer.send(data[:cut])
            peer.send(data[cut:])
            assert peer.read_message().body == b"GET /split 1 0 "

    def test_several_sockets_share_all_handlers(self, serve) -> None:
        site = serve(echo)
        for _ in range(3):
            site.bound = site.server.bind_socket("127.0.0.1", 0)
            assert site.connect().get("/x").body == b"GET /x 1 0 "

    @pytest.mark.parametrize("blanks", [b" ", b"   "])
    def test_blanks_behind_the_version_are_refused(self, serve, blanks) -> None:
        """libevent strips them; RFC 9112 section 3 has one space and nothing behind."""
        peer = serve(echo).connect()
        data = request("/").replace(b"HTTP/1.1\r\n", b"HTTP/1.1" + blanks + b"\r\n", 1)
        assert peer.ask(data).status == 400

    def test_an_absolute_target_goes_by_its_path(self, serve) -> None:
        site = serve()
        site.server.set_cb("/test", echo)
        assert site.connect().get("http://host/test").status == 200

    def test_spaces_in_a_target_are_refused(self, serve) -> None:
        """libevent takes what follows the last space for the version: a way to smuggle."""
        assert serve(echo).connect().get("/test nonconformant").status == 400

    def test_an_illegal_request_is_400_and_the_end(self, serve) -> None:
        peer = serve(echo).connect()
        peer.send(b"illegal request\r\n")
        assert peer.read_to_end().startswith(b"HTTP/1.1 400 Bad Request\r\n")

    def test_a_client_that_ends_without_a_byte_gets_none(self, serve) -> None:
        peer = serve(echo).connect()
        peer.half_close()
        assert peer.read_to_end() == b""

    def test_http_1_0_with_keep_alive_stays_open_and_its_end_is_no_fault(self, serve) -> None:
        peer = serve(echo).connect()
        for _ in range(2):
            reply = peer.get("/", "Connection: Keep-Alive", version="1.0")
            assert reply.field("Connection") == "keep-alive"
            assert reply.field("Content-Length") == str(len(reply.body))
        peer.half_close()
        assert peer.read_to_end() == b""

    def test_an_end_within_a_head_is_noticed_at_once_and_silently(self, serve) -> None:
        site = serve(echo)
        peer = site.connect()
        peer.send(request("/")[:-2])
        peer.half_close()
        assert peer.read_to_end() == b""
        assert site.server.connection_count == 0

    def test_silence_within_a_head_is_told(self, serve, clock) -> None:
        """libevent closes without a word; RFC 9110 section 15.5.9 has a status for it."""
        peer = serve(echo, head_s=5.0).connect()
        peer.send(request("/")[:-2])
        clock.advance(5.0)
        assert peer.read_message().status == 408

    def test_extra_bytes_behind_a_head_with_a_length_are_no_request(self, serve) -> None:
        peer = serve(echo).connect()
        behind = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        lines = (f"Content-Length: {len(behind)}", "Connection: close")
        peer.send(request("/", *lines, method="HEAD") + behind)
        received = peer.read_to_end()
        assert received.count(b"HTTP/1.1 ") == 1
        assert received.endswith(b"\r\n\r\n")

    def test_a_host_may_be_absent_in_1_0_alone(self, serve) -> None:
        """libevent asks for none at all; RFC 9112 section 3.2 makes its lack in HTTP/1.1 a 400."""
        peer = serve(echo).connect()
        assert peer.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").status == 200
        assert peer.ask(b"GET / HTTP/1.1\r\n\r\n").status == 400


class TestReplies:
    def test_an_empty_reply_has_a_length_and_a_date(self, serve) -> None:
        reply = serve(lambda got, arg: got.send_reply(200)).connect().get()
        assert reply.field("Content-Length") == "0"
        assert reply.field("Date")

    def test_the_pages_have_libevents_sizes(self, serve) -> None:
        site = serve()
        site.server.set_gencb(None)
        peer = site.connect()
        sizes = {}
        for name, reply in {
            "built-in 404 of /missing": peer.get("/missing"),
            "501": peer.ask(request("/missing", method="FLOOP")),
        }.items():
            assert reply.field("Content-Type") == "text/html"
            sizes[name] = len(reply.body)
        site.server.set_gencb(lambda got, arg: got.send_error(404))
        sizes["404"] = len(peer.get("/missing").body)
        assert sizes == {"built-in 404 of /missing": 152, "501": 101, "404": 89}

    def test_one_in_seven_requests_may_be_turned_away_by_the_program(self, serve) -> None:
        site = serve(echo)
        count = 0

        def admit(got, arg):
            nonlocal count
            count += 1
            return -1 if count % 7 == 0 else 0

        site.server.set_newreqcb(admit)
        replies = []
        for _ in range(14):
            peer = site.connect()
            peer.send(request("/", "Connection: close"))
            replies.append(peer.read_to_end()[:12])
        assert replies == ([b"HTTP/1.1 200"] * 6 + [b""]) * 2

    def test_the_second_of_one_connection_gets_a_whole_503(self, serve) -> None:
        site = serve(echo, max_connections=1)
        first = site.connect()
        assert first.get().status == 200
        second = site.connect()
        assert second.read_message().status == 503
        assert not second.was_reset
        assert first.get().status == 200

    def test_completion_comes_once_and_with_an_empty_output(self, serve) -> None:
        told = []

        def answer(got, arg):
            output = got.connection.bufferevent.output
            got.set_on_complete_cb(lambda got, arg: told.append(len(output)))
            got.send_reply(200, None, b"x" * 1_000_000)

        peer = serve(answer).connect()
        assert len(peer.get().body) == 1_000_000
        peer.settle()
        assert told == [0]

    def test_a_large_reply_survives_junk_that_comes_meanwhile(self, serve) -> None:
        size = 13 * 1024 * 1024
        site = serve(lambda got, arg: got.send_reply(200, None, bytes(size)))
        peer = site.connect()
        peer.sock.send(request("/"))
        peer.settle()
        peer.sock.send(b"junk" * 1000 + b"\r\n")
        assert len(peer.read_message().body) == size
        assert peer.read_message().status == 400

    def test_chunks_are_as_libevent_writes_them(self, serve) -> None:
        pieces = (b"This is funny", b"but not hilarious.", b"bwv 1052")

        def answer(got, arg):
            got.send_reply_start(200)
            for piece in pieces:
                got.send_reply_chunk(piece)
                got.send_reply_chunk(b"")
            got.send_reply_end()

        peer = serve(answer).connect()
        peer.send(request("/", "Connection: close"))
        head, _, body = peer.read_to_end().partition(b"\r\n\r\n")
        assert b"Transfer-Encoding: chunked" in head
        assert b"Connection: close" in head
        assert body == b"d\r\n%b\r\n12\r\n%b\r\n8\r\n%b\r\n0\r\n\r\n" % pieces

    def test_two_chunked_replies_on_one_connection(self, serve) -> None:
        def answer(got, arg):
            got.send_reply_start(200)
            got.send_reply_chunk(got.uri.encode())
            got.send_reply_end()

        peer = serve(answer).connect()
        assert [peer.get(uri).body for uri in ("/one", "/two")] == [b"/one", b"/two"]

    def test_a_stream_with_a_length_is_not_chunked(self, serve) -> None:
        def answer(got, arg):
            got.output_headers.add("Content-Length", "39")
            got.send_reply_start(200)
            for size in (13, 18, 8):
                got.send_reply_chunk(b"x" * size)
            got.send_reply_end()

        reply = serve(answer).connect().get()
        assert reply.field("Transfer-Encoding") is None
        assert reply.body == b"x" * 39

    def test_a_reset_within_a_stream_is_told_and_what_follows_does_nothing(self, serve) -> None:
        told = []
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        (got,) = site.requests
        got.connection.set_closecb(lambda connection, arg: told.append(got.connection))
        got.send_reply_start(200)
        got.send_reply_chunk(b"x")
        peer.settle()
        peer.reset()
        for _ in range(12):
            site.base.loop(EVLOOP_NONBLOCK)
        assert told == [None]
        got.send_reply_chunk(b"y")
        got.send_reply_end()

    @pytest.mark.parametrize(
        ("verdict", "written", "expected"),
        [(0, b"own", b"own"), (-1, b"own", None), (0, b"", b"")],
    )
    def test_who_writes_the_page_of_an_error(self, serve, verdict, written, expected) -> None:
        site = serve(lambda got, arg: got.send_error(404))

        def write(got, page, code, reason, arg):
            page.add(written)
            return verdict

        site.server.set_errorcb(write)
        body = site.connect().get("/missing").body
        assert body == expected if expected is not None else len(body) == 89


class TestBodies:
    @pytest.mark.parametrize("what", ["head", "target"])
    def test_three_megabytes_over_a_limit_are_refused(self, serve, what) -> None:
        """libevent says 400; here 431 and 414 say what was too long (RFC 6585, RFC 9110)."""
        size = 3 * 1024 * 1024
        site = serve(echo, max_headers_bytes=size - 1, max_line_bytes=size - 1)
        peer = site.connect()
        data = request("/", f"X: {'x' * size}") if what == "head" else request("/" + "x" * size)
        peer.send(data)
        assert peer.read_message().status == (431 if what == "head" else 414)

    @pytest.mark.parametrize("expects", [True, False])
    def test_a_body_over_its_limit_is_413(self, serve, expects) -> None:
        """To who waits for consent before a byte of it, and to who sends it all."""
        size = 3 * 1024 * 1024
        peer = serve(echo, max_body_bytes=size - 1).connect()
        lines = ["Expect: 100-continue"] if expects else []
        peer.send(request("/", f"Content-Length: {size}", *lines, method="POST"))
        if not expects:
            peer.send(bytes(size))
        assert peer.read_message().status == 413
        assert not peer.was_reset

    def test_a_megabyte_with_consent(self, serve) -> None:
        site = serve(lambda got, arg: got.send_reply(200, None, str(got.gathered_bytes).encode()))
        peer = site.connect()
        size = 1024 * 1024
        lines = (f"Content-Length: {size}", "Expect: 100-continue")
        peer.send(request("/", *lines, method="POST"))
        assert peer.read_head() == ("HTTP/1.1 100 Continue", [])
        peer.send(bytes(size))
        assert peer.read_message().body == str(size).encode()

    def test_another_expectation_is_417(self, serve) -> None:
        peer = serve(echo).connect()
        lines = ("Content-Length: 3", "Expect: 101-continue")
        assert peer.ask(request("/", *lines, method="POST")).status == 417

    def test_chunks_in_several_writes_are_one_body(self, serve) -> None:
        peer = serve(echo).connect()
        peer.send(request("/", "Transfer-Encoding: chunked", method="POST"))
        for piece in (b"d\r\nThis is funny\r\n", b"12\r\nbut not hilarious.\r\n"):
            peer.send(piece)
        peer.send(b"8\r\nbwv 1052\r\n0\r\n\r\n")
        body = b"This is funnybut not hilarious.bwv 1052"
        assert peer.read_message().body == b"POST / 1 39 " + body

    @pytest.mark.parametrize("size", [b"0x1f", b" 1f", b"+1f", b"-1f", b"", b"1f 1f"])
    def test_a_size_that_is_none_is_400(self, serve, size) -> None:
        peer = serve(echo).connect()
        peer.send(request("/", "Transfer-Encoding: chunked", method="POST"))
        peer.send(size + b"\r\n" + bytes(0x1F) + b"\r\n")
        assert peer.read_message().status == 400

    @pytest.mark.parametrize("extension", [b";a", b";a=b", b'; a="b c"', b" ;a;b=c"])
    def test_chunk_extensions_are_let_pass(self, serve, extension) -> None:
        """libevent takes them behind a space alone."""
        peer = serve(echo).connect()
        peer.send(request("/", "Transfer-Encoding: chunked", method="POST"))
        peer.send(b"1" + extension + b"\r\nx\r\n0" + extension + b"\r\n\r\n")
        assert peer.read_message().body == b"POST / 1 1 x"

    def test_trailers_are_apart_from_the_header(self, serve) -> None:
        seen = []

        def answer(got, arg):
            seen.append((got.trailers.find("X-Sum"), got.input_headers.find("X-Sum")))
            got.send_reply(204)

        peer = serve(answer).connect()
        peer.send(request("/", "Transfer-Encoding: chunked", method="POST"))
        peer.send(b"1\r\nx\r\n0\r\nX-Sum: 5\r\n\r\n")
        assert peer.read_message(has_body=False).status == 204
        assert seen == [("5", None)]

    def test_a_body_that_comes_after_the_write_time_out_is_no_fault(self, serve, clock) -> None:
        peer = serve(echo, write_s=0.1, body_s=0.5).connect()
        peer.send(request("/", "Content-Length: 2", method="POST"))
        clock.advance(0.2)
        peer.send(b"xy")
        assert peer.read_message().body == b"POST / 1 2 xy"

    @pytest.mark.parametrize(
        "lines",
        [
            ("Content-Length: 1", "Transfer-Encoding: chunked"),
            ("Content-Length: 1", "Content-Length: 2"),
            ("Content-Length: +1",),
            ("Content-Length: -1",),
            ("Content-Length: 1x",),
        ],
    )
    def test_lengths_that_contradict_or_are_none_are_400(self, serve, lines) -> None:
        assert serve(echo).connect().ask(request("/", *lines, method="POST")).status == 400

    def test_a_body_in_a_trace_request_is_refused(self, serve) -> None:
        """libevent reads it as the next request."""
        peer = serve(echo, allowed_methods=["TRACE"]).connect()
        peer.send(request("/", method="TRACE", body=request("/smuggled")))
        received = peer.read_to_end()
        assert received.startswith(b"HTTP/1.1 400 ")
        assert received.count(b"HTTP/1.1 ") == 1


def test_a_server_that_is_closed_closes_even_within_a_request(base, serve) -> None:
    """And tells each connection's end, as evhttp_free does."""
    site = serve()
    peer = site.connect()
    peer.send(request("/"))
    told = []
    site.requests[0].connection.set_closecb(lambda connection, arg: told.append("closed"))
    site.server.close()
    assert told == ["closed"]
    assert peer.read_to_end() == b""


def test_a_server_that_only_is_a_virtual_host(base, serve) -> None:
    site = serve()
    with HttpServer(base) as vhost:
        vhost.set_cb("/p", echo)
        site.server.add_virtual_host("foo.com", vhost)
        peer = site.connect()
        assert peer.get("http://foo.com/p").status == 200
        assert peer.get("http://FOO.com/q").status == 404, "its parent's callbacks are not its own"


def test_reading_goes_on_while_the_program_has_a_request(serve) -> None:
    """Unlike libevent, which notices no end then."""
    site = serve()
    peer = site.connect()
    peer.send(request("/"))
    assert site.requests[0].connection.bufferevent.enabled & EV_READ
