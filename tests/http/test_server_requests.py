"""How the server reads: connections that live on, pipelines, bodies, targets, half-closes."""

from __future__ import annotations

import pytest

from evsvc.core import EV_TIMEOUT
from evsvc.http.wire.status import EVHTTP_REQ_GET, EVHTTP_REQ_OPTIONS, EVHTTP_REQ_PUT
from tests.http.peers import request


@pytest.mark.parametrize(
    ("version", "lines", "stays", "says"),
    [
        ("1.1", (), True, None),
        ("1.1", ("Connection: close",), False, "close"),
        ("1.1", ("Connection: foo, Close",), False, "close"),
        ("1.1", ("Connection: foo", "Connection: close"), False, "close"),
        ("1.1", ("Connection: keep-alive, close",), False, "close"),
        ("1.0", (), False, "close"),
        ("1.0", ("Connection: Keep-Alive",), True, "keep-alive"),
        ("1.0", ("Connection: keep-alive, close",), False, "close"),
    ],
)
def test_the_client_says_whether_the_connection_stays(peer, version, lines, stays, says) -> None:
    reply = peer.get("/", *lines, version=version)
    assert reply.status == 200
    assert reply.line.startswith("HTTP/1.1 ")
    assert reply.field("Connection") == says
    assert peer.is_open() is stays


def test_a_connection_serves_one_request_after_another(peer) -> None:
    replies = [peer.get(f"/{number}").body for number in range(5)]
    assert replies == [f"GET /{number} 1 0 ".encode() for number in range(5)]


def test_sixteen_requests_in_one_segment_are_answered_in_order_with_one_send(site, peer) -> None:
    sends = []
    connection = next(iter(site.server._connections))
    stream = connection.carrier._stream

    class Counting:
        """Stands before the socket and counts."""

        def __getattr__(self, name):
            return getattr(stream, name)

        def send(self, data):
            sends.append(len(data))
            return stream.send(data)

    connection.carrier._stream = Counting()
    peer.send(b"".join(request(f"/{number}") for number in range(16)))
    bodies = [peer.read_message().body for _ in range(16)]
    connection.carrier._stream = stream
    assert bodies == [f"GET /{number} 1 0 ".encode() for number in range(16)]
    assert len(sends) == 1


def test_a_pipeline_that_is_cut_anywhere_is_read_the_same(site) -> None:
    whole = request("/a") + request("/b", method="POST", body=b"xyz") + request("/c")
    for cut in range(1, len(whole)):
        peer = site.connect()
        peer.send(whole[:cut])
        peer.send(whole[cut:])
        bodies = [peer.read_message().body for _ in range(3)]
        assert bodies == [b"GET /a 1 0 ", b"POST /b 1 3 xyz", b"GET /c 1 0 "], cut
        peer.close()
        site.peers.remove(peer)


CHUNKED = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n"


@pytest.mark.parametrize(
    ("lines", "body"),
    [(("Content-Length: 11",), b"hello world"), (("Transfer-Encoding: chunked",), CHUNKED)],
    ids=["length", "chunked"],
)
def test_a_body_that_comes_byte_by_byte_is_the_same_body(peer, lines, body) -> None:
    peer.send_bytewise(request("/", *lines, method="POST") + body + request("/next"))
    assert peer.read_message().body == b"POST / 1 11 hello world"
    assert peer.read_message().body == b"GET /next 1 0 "


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_body_is_taken_as_bytes_or_lies_in_the_buffer(serve, pieces) -> None:
    """However it came; and what is taken is there no more."""
    taken = []

    def handler(got, arg):
        if got.uri == "/take":
            taken.append((got.gathered_bytes, got.take_body(), bytes(got.input_buffer)))
        else:
            taken.append((bytes(got.input_buffer), got.gathered_bytes, got.take_body()))
        taken.append((got.gathered_bytes, got.take_body(), got.trailers))
        got.send_reply(200)

    site = serve(handler)
    for path in ("/take", "/look"):
        peer = site.connect()
        data = request(path, "Content-Length: 4", method="POST") + b"data"
        for piece in (data,) if pieces == 1 else (data[:-2], data[-2:]):
            peer.send(piece)
        assert peer.read_message().status == 200
    assert taken == [(4, b"data", b""), (0, b"", None), (b"data", 4, b"data"), (0, b"", None)]


def test_what_is_pipelined_behind_a_whole_body_is_answered(peer) -> None:
    post = request("/", "Content-Length: 4", method="POST") + b"data"
    peer.send(post + post + request("/next"))
    assert peer.read_message().body == b"POST / 1 4 data"
    assert peer.read_message().body == b"POST / 1 4 data"
    assert peer.read_message().body == b"GET /next 1 0 "


def test_trailers_are_kept_apart_from_the_header(serve) -> None:
    site = serve()
    peer = site.connect()
    peer.send(request("/", "Transfer-Encoding: chunked", method="POST") + CHUNKED)
    (got,) = site.requests
    assert got.trailers.find("x-sum") == "11"
    assert "x-sum" not in got.input_headers


def test_a_request_without_body_has_no_trailers(serve) -> None:
    site = serve()
    site.connect().send(request("/"))
    assert site.requests[0].trailers is None


def test_get_and_head_may_have_a_body_that_is_no_next_request(peer) -> None:
    peer.send(request("/", "Connection: close", method="HEAD", body=request("/smuggled")))
    everything = peer.read_to_end()
    assert everything.count(b"HTTP/1.1 ") == 1


def test_a_callback_sees_the_whole_request(serve) -> None:
    site = serve()
    site.connect().send(request("/a%20b?c=d%20e&f=", "X-Y: z", method="PUT", body=b"data"))
    (got,) = site.requests
    assert (got.method, got.uri, got.version) == ("PUT", "/a%20b?c=d%20e&f=", (1, 1))
    assert (got.path, got.query) == ("/a b", "c=d%20e&f=")
    assert list(got.parse_query()) == [("c", "d e"), ("f", "")]
    assert list(got.input_headers) == [("Host", "h"), ("X-Y", "z"), ("Content-Length", "4")]
    assert bytes(got.input_buffer) == b"data"
    assert (got.host, got.remote_host) == ("h", "127.0.0.1")
    assert got.remote_port == site.peers[0].sock.getsockname()[1]
    assert got.command == EVHTTP_REQ_PUT
    assert repr(got) == "<ServerRequest PUT /a%20b?c=d%20e&f=>"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", None),
        ("/%41?", "/A", ""),
        ("/a%2Fb", "/a/b", None),
        ("/a+b", "/a+b", None),
        ("/%zz%4", "/%zz%4", None),
        ("/%C3%A9", "/\u00e9", None),
        ("/%ff", "/\ufffd", None),
        ("/a?b=http://c/d", "/a", "b=http://c/d"),
        ("//double", "//double", None),
        ("http://other", "/", None),
        ("http://other?q", "/", "q"),
        ("http://other:81/p%20q?x", "/p q", "x"),
        ("HTTPS://Other/p", "/p", None),
    ],
)
def test_the_path_is_decoded_and_the_query_is_not(serve, target, path, query) -> None:
    site = serve()
    site.connect().send(request(target))
    (got,) = site.requests
    assert (got.uri, got.path, got.query) == (target, path, query)


def test_an_absolute_target_names_the_host_and_finds_the_callback_of_its_path(serve) -> None:
    site = serve()
    hosts = []

    def on_test(got, arg):
        hosts.append((got.host, arg))
        got.send_reply(204)

    site.server.set_cb("/test", on_test, "the argument")
    peer = site.connect()
    peer.send(request("http://somewhere:8080/test"))
    assert peer.read_message(has_body=False).status == 204
    assert hosts == [("somewhere:8080", "the argument")]


def test_options_of_the_server_itself_has_the_path_star(serve) -> None:
    site = serve(allowed_methods=EVHTTP_REQ_GET | EVHTTP_REQ_OPTIONS)
    site.server.set_cb("*", lambda got, arg: got.send_reply(204))
    peer = site.connect()
    peer.send(request("*", method="OPTIONS"))
    assert peer.read_message(has_body=False).status == 204


def test_empty_lines_before_a_request_are_skipped(peer) -> None:
    assert peer.ask(b"\r\n\r\n" + request("/")).status == 200


class TestHalfClose:
    def test_the_reply_comes_all_the_same(self, peer) -> None:
        peer.send(request("/"))
        peer.half_close()
        assert peer.read_message().status == 200
        assert not peer.is_open()

    def test_a_late_reply_comes_all_the_same(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/a") + request("/b"))
        peer.half_close()
        for name in ("/a", "/b"):
            assert site.requests[-1].uri == name
            site.requests[-1].send_reply(200, None, name.encode())
            assert peer.read_message().body == name.encode()
        assert not peer.is_open()
        assert site.server.connection_count == 0

    def test_with_no_bytes_at_all_there_is_no_reply(self, site, peer) -> None:
        peer.half_close()
        assert peer.read_to_end() == b""
        assert site.server.connection_count == 0

    def test_after_a_keep_alive_reply_nothing_more_is_said(self, site) -> None:
        peer = site.connect()
        peer.get("/", "Connection: Keep-Alive", version="1.0")
        peer.half_close()
        assert peer.read_to_end() == b""

    @pytest.mark.parametrize(
        "part",
        [
            b"\r",
            b"GET",
            b"GET / HTTP/1.1\r\n",
            request("/")[:-1],
            request("/", "Content-Length: 5", method="POST") + b"four",
            request("/", "Transfer-Encoding: chunked", method="POST") + b"4\r\nfour\r\n",
        ],
    )
    def test_inside_a_request_there_is_nothing_to_answer(self, serve, part) -> None:
        site = serve()
        peer = site.connect()
        peer.send(part)
        peer.half_close()
        assert peer.read_to_end() == b""
        assert site.requests == []
        assert site.server.connection_count == 0

    def test_good_requests_before_a_cut_one_are_answered(self, peer) -> None:
        peer.send(request("/a") + request("/b")[:-2])
        peer.half_close()
        assert peer.read_message().body == b"GET /a 1 0 "
        assert peer.read_to_end() == b""


def test_one_request_is_in_hand_at_a_time(serve) -> None:
    site = serve()
    peer = site.connect()
    peer.send(request("/a") + request("/b"))
    assert [got.uri for got in site.requests] == ["/a"]
    site.requests[0].send_reply(200)
    assert [got.uri for got in site.requests] == ["/a"], "the next comes from the loop"
    peer.settle()
    assert [got.uri for got in site.requests] == ["/a", "/b"]


def test_a_good_request_is_answered_even_when_the_bytes_after_it_are_bad(serve) -> None:
    site = serve()
    peer = site.connect()
    peer.send(request("/good") + b"\x16\x03\x01 no HTTP \r\n\r\n")
    (got,) = site.requests
    got.send_reply(200, None, b"fine")
    assert peer.read_message().body == b"fine"
    assert peer.read_message().status == 400
    assert not peer.is_open()


def test_the_good_head_of_a_pipeline_is_answered_at_once_before_a_bad_tail(peer) -> None:
    peer.send(request("/good") + b"GET /bad HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert peer.read_message().status == 200
    assert peer.read_message().status == 400


class TestExpect:
    HEAD = request("/", "Expect: 100-continue", "Content-Length: 3", method="POST")

    def test_continue_is_sent_while_the_body_is_missing(self, peer) -> None:
        peer.send(self.HEAD)
        assert peer.read_head() == ("HTTP/1.1 100 Continue", [])
        peer.send(b"abc")
        assert peer.read_message().body == b"POST / 1 3 abc"

    def test_no_continue_when_the_body_is_there_already(self, peer) -> None:
        peer.send(self.HEAD + b"a")
        peer.send(b"bc")
        assert peer.read_message().status == 200

    def test_nothing_interim_goes_to_http_1_0(self, peer) -> None:
        head = request("/", "Expect: 100-continue", "Content-Length: 3", version="1.0")
        peer.send(head)
        peer.take()
        assert peer.received == b""
        peer.send(b"abc")
        assert peer.read_message().body == b"GET / 0 3 abc"

    def test_without_a_body_there_is_no_continue(self, peer) -> None:
        reply = peer.get("/", "Expect: 100-continue")
        assert reply.status == 200

    def test_a_body_that_is_too_long_is_refused_without_continue(self, serve) -> None:
        peer = serve(max_body_bytes=2).connect()
        peer.send(self.HEAD)
        assert peer.read_message().status == 413

    def test_continue_stands_behind_the_replies_before_it(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/first") + self.HEAD)
        site.requests[0].send_reply(200, None, b"one")
        assert peer.read_message().body == b"one"
        assert peer.read_head()[0] == "HTTP/1.1 100 Continue"


class TestAnswersAcrossConnections:
    def test_clients_that_answer_each_other_do_not_recurse(self, base, serve) -> None:
        """Each request answers the one that waits on the other connection."""
        waiting = []
        nested = deepest = 0

        def swap(got, arg):
            nonlocal nested, deepest
            nested += 1
            deepest = max(deepest, nested)
            if waiting and waiting[0].connection is not got.connection:
                waiting.pop().send_reply(200)
            waiting.append(got)
            nested -= 1

        site = serve(swap)
        left, right = site.connect(), site.connect()
        pipeline = b"".join(request(f"/{number}") for number in range(400))
        left.send(pipeline)
        right.send(pipeline)
        for _ in range(399):
            assert left.read_message().status == 200
        assert deepest == 1

    def test_a_reply_from_a_timer_is_followed_by_the_next_request(self, base, clock, serve) -> None:
        def later(got, arg):
            base.once(-1, EV_TIMEOUT, lambda *args: got.send_reply(200, None, b"x"), None, 5)

        peer = serve(later).connect()
        peer.send(request("/a") + request("/b"))
        for _ in range(2):
            assert peer.is_open()
            assert not peer.received
            clock.advance(5)
            assert peer.read_message().body == b"x"
