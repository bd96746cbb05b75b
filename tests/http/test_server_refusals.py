"""What the server refuses, with which status, and how the refusal reaches the client."""

from __future__ import annotations

import logging

import pytest

from evsvc.http.wire.status import EVHTTP_REQ_GET, EVHTTP_REQ_PATCH
from tests.http.peers import request

HOST = b"Host: h\r\n"

# Everything that is answered 400 and closes, whatever came before.
BAD = {
    "no request": b"illegal request\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "bad Host": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "Host with userinfo": b"GET / HTTP/1.1\r\nHost: u@h\r\n\r\n",
    "Host with a path": b"GET / HTTP/1.1\r\nHost: h/x\r\n\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "fragment": b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n",
    "bare LF": b"GET / HTTP/1.1\n" + HOST + b"\n",
    "bare CR in a value": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n",
    "folded line": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\n" + HOST + b"X\r\n\r\n",
    "empty name": b"GET / HTTP/1.1\r\n" + HOST + b": a\r\n\r\n",
    "lower-case version": b"GET / http/1.1\r\n" + HOST + b"\r\n",
    "long version": b"GET / HTTP/1.10\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /\r\n",
    "both framings": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\n"
    + HOST
    + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "a list of lengths": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 1\r\n\r\nx",
    "signed length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\nx",
    "negative length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\nx",
    "hexadecimal length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x1\r\n\r\nx",
}

CHUNKED = request("/", "Transfer-Encoding: chunked", method="POST")
BAD_BODIES = {
    "hexadecimal prefix": b"0x1f\r\n",
    "sign": b"+1\r\nx\r\n",
    "no size": b";x\r\n",
    "seventeen digits": b"00000000000000001\r\nx\r\n",
    "bare LF": b"1\nx\n",
    "data too long": b"1\r\nxy\r\n",
    "framing in the trailer": b"0\r\nContent-Length: 5\r\n\r\n",
    "bad trailer": b"0\r\nno colon\r\n\r\n",
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_a_bad_head_is_answered_400_and_closed(serve, data) -> None:
    site = serve()
    peer = site.connect()
    peer.send(data)
    reply = peer.read_message()
    assert (reply.status, reply.field("Connection")) == (400, "close")
    assert reply.field("Content-Type") == "text/html"
    assert not peer.is_open()
    assert site.requests == []


@pytest.mark.parametrize("data", BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_bad_body_is_answered_400_and_its_request_never_given_out(serve, data) -> None:
    site = serve()
    peer = site.connect()
    peer.send(CHUNKED + data + request("/smuggled"))
    everything = peer.read_to_end()
    assert everything.startswith(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n")
    assert everything.count(b"HTTP/1.1 ") == 1
    assert site.requests == []


@pytest.mark.parametrize("data", [*BAD.values(), *(CHUNKED + body for body in BAD_BODIES.values())])
def test_bad_input_that_comes_byte_by_byte_is_refused_once(serve, data) -> None:
    site = serve()
    peer = site.connect()
    for index in range(len(data)):
        if peer.ended or not peer.is_open():
            break
        peer.sock.send(data[index : index + 1])
    assert peer.read_to_end().count(b"HTTP/1.1 400 ") == 1
    assert site.requests == []


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (request("/", "Expect: 101-continue", method="POST", body=b"x"), 417),
        (request("/", "Transfer-Encoding: gzip, chunked", method="POST"), 501),
    ],
)
def test_other_faults_have_their_own_status(serve, data, status) -> None:
    peer = serve().connect()
    peer.send(data)
    assert peer.read_message().status == status
    assert not peer.is_open()


LINE = len("GET / HTTP/1.1")


@pytest.mark.parametrize(
    ("limit", "at", "beyond", "status"),
    [
        ({"max_line_bytes": LINE + 3}, request("/abc"), request("/abcd"), 414),
        (
            {"max_headers_bytes": len(request("/", "X: abc"))},
            request("/", "X: abc"),
            request("/", "X: abcd"),
            431,
        ),
        ({"max_headers": 2}, request("/", "X: a"), request("/", "X: a", "Y: b"), 431),
        (
            {"max_body_bytes": 3},
            request("/", method="POST", body=b"abc"),
            request("/", method="POST", body=b"abcd"),
            413,
        ),
        (
            {"max_body_bytes": 3},
            CHUNKED + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            CHUNKED + b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n",
            413,
        ),
        (
            {"max_trailers_bytes": len(b"X: y\r\n\r\n")},
            CHUNKED + b"0\r\nX: y\r\n\r\n",
            CHUNKED + b"0\r\nX: yz\r\n\r\n",
            431,
        ),
        (
            {"max_chunk_extension_bytes": 2},
            CHUNKED + b"1;x\r\na\r\n0\r\n\r\n",
            CHUNKED + b"1;xy\r\na\r\n0\r\n\r\n",
            400,
        ),
        ({"max_blank_lines": 1}, b"\r\n" + request("/"), b"\r\n\r\n" + request("/"), 400),
    ],
    ids=["line", "head", "fields", "length", "chunks", "trailers", "extensions", "blank lines"],
)
def test_each_limit_holds_at_the_limit_and_one_beyond(serve, limit, at, beyond, status) -> None:
    site = serve(lambda got, arg: got.send_reply(200), **limit)
    peer = site.connect()
    assert peer.ask(at).status == 200
    assert peer.ask(at).status == 200
    assert peer.ask(beyond).status == status
    assert not peer.is_open()


class TestRouting:
    def test_without_a_callback_there_is_404(self, serve) -> None:
        site = serve()
        site.server.set_gencb(None)
        peer = site.connect()
        reply = peer.get("/missing")
        assert reply.status == 404
        assert peer.get("/again").status == 404, "the connection lives on"

    def test_the_built_in_page_has_libevents_size(self, serve) -> None:
        """152 bytes for /missing."""
        site = serve()
        site.server.set_gencb(None)
        assert len(site.connect().get("/missing").body) == 152

    def test_the_target_is_escaped_in_the_page(self, serve) -> None:
        site = serve()
        site.server.set_gencb(None)
        body = site.connect().get("/<script>'&").body
        assert b"/&lt;script&gt;&#039;&amp;" in body
        assert b"<script>" not in body

    def test_another_method_is_405_with_allow(self, serve) -> None:
        site = serve()
        site.server.set_cb("/p", lambda got, arg: got.send_reply(200), methods=("PUT", "POST"))
        peer = site.connect()
        reply = peer.get("/p")
        assert (reply.status, reply.field("Allow")) == (405, "POST, PUT")
        assert peer.ask(request("/p", method="POST")).status == 200

    def test_a_path_that_takes_get_takes_head(self, serve) -> None:
        """RFC 9110 9.1: GET and HEAD are both mandatory."""
        site = serve()
        site.server.set_cb(
            "/page", lambda got, arg: got.send_reply(200, None, b"text"), methods=["GET"]
        )
        peer = site.connect()
        peer.send(request("/page", method="HEAD"))
        head = peer.read_message(has_body=False)
        assert (head.status, head.field("Content-Length")) == (200, "4")
        assert peer.get("/page").body == b"text"
        peer.send(request("/page", method="PUT"))
        assert peer.read_message().field("Allow") == "GET, HEAD"

    @pytest.mark.parametrize("method", ["FLOOP", "PATCH", "get", "OPTIONS"])
    def test_a_method_that_is_not_allowed_is_501(self, peer, method) -> None:
        reply = peer.ask(request("/", method=method))
        assert reply.status == 501
        assert len(reply.body) == 101
        assert peer.get().status == 200, "there was no body, so the connection lives on"

    def test_501_with_a_body_closes_without_reading_the_body_as_requests(self, peer) -> None:
        peer.send(request("/", method="PATCH", body=request("/smuggled")))
        everything = peer.read_to_end()
        assert everything.startswith(b"HTTP/1.1 501 ")
        assert everything.count(b"HTTP/1.1 ") == 1

    def test_the_allowed_methods_can_be_others(self, serve) -> None:
        site = serve(lambda got, arg: got.send_reply(200))
        site.server.set_allowed_methods(EVHTTP_REQ_PATCH | EVHTTP_REQ_GET)
        peer = site.connect()
        assert peer.ask(request("/", method="PATCH")).status == 200
        assert peer.ask(request("/", method="POST")).status == 501

    def test_a_path_of_its_own_goes_before_the_general_callback(self, serve) -> None:
        site = serve(lambda got, arg: got.send_reply(200, None, arg))
        site.server.set_gencb(lambda got, arg: got.send_reply(200, None, arg), b"general")
        site.server.set_cb("/a b", lambda got, arg: got.send_reply(200, None, arg), b"own")
        peer = site.connect()
        assert peer.get("/a%20b?query").body == b"own"
        assert peer.get("/a+b").body == b"general"
        assert peer.get("/A%20b").body == b"general"
        assert peer.get("/a%20b/").body == b"general"
        site.server.del_cb("/a b")
        assert peer.get("/a%20b").body == b"general"


class TestLingering:
    def test_a_413_reaches_a_client_that_is_still_sending(self, serve) -> None:
        site = serve(max_body_bytes=1000)
        peer = site.connect()
        peer.send(request("/", "Content-Length: 3000000", method="POST"))
        for _ in range(30):
            peer.send(b"x" * 100_000)
        assert peer.read_message().status == 413
        assert peer.is_open() is False
        assert not peer.was_reset

    def test_a_501_reaches_a_client_that_is_still_sending(self, site, peer) -> None:
        peer.send(request("/", "Content-Length: 3000000", method="PATCH"))
        for _ in range(30):
            peer.send(b"x" * 100_000)
        assert peer.read_message().status == 501
        assert not peer.was_reset

    def test_a_last_reply_reaches_a_client_that_pipelines_on(self, site, peer) -> None:
        peer.send(request("/a", "Connection: close") + request("/b") * 1000)
        assert peer.read_message().body == b"GET /a 1 0 "
        assert not peer.is_open()
        assert not peer.was_reset
        assert site.server.connection_count == 1, "it reads on what still comes"
        peer.close()
        site.peers.clear()
        for _ in range(5):
            peer.turn()
        assert site.server.connection_count == 0

    @pytest.mark.parametrize("ends", ["by its limit", "by its handler"])
    def test_a_client_that_does_not_know_yet_may_send_its_next_request(self, serve, ends) -> None:
        """A reset would take the reply from it that it has not read (RFC 9112 9.6)."""

        def answer(got, arg) -> None:
            if ends == "by its handler":
                got.output_headers.add("Connection", "close")
            got.send_reply(200, None, b"the last")

        site = serve(answer, max_requests=1 if ends == "by its limit" else 10)
        peer = site.connect()
        peer.send(request("/"))
        for _ in range(3):
            peer.send(request("/next"))
        reply = peer.read_message()
        assert (reply.field("Connection"), reply.body) == ("close", b"the last")
        assert peer.read_to_end() == b""
        assert not peer.was_reset
        peer.close()
        site.peers.clear()
        peer.settle()
        assert site.server.connection_count == 0

    @pytest.mark.parametrize(("seconds", "open_still"), [(1.999, 1), (2.0, 0)])
    def test_it_ends_after_linger_s(self, serve, clock, seconds, open_still) -> None:
        site = serve(linger_s=2.0)
        peer = site.connect()
        peer.send(b"illegal request\r\n")
        assert peer.read_message().status == 400
        peer.send(b"more")
        clock.advance(seconds)
        peer.settle()
        assert site.server.connection_count == open_still

    def test_what_still_comes_does_not_prolong_it(self, serve, clock) -> None:
        site = serve(linger_s=2.0)
        peer = site.connect()
        peer.send(b"illegal request\r\n")
        for _ in range(2):
            clock.advance(1.0)
            peer.send(b"more")
        assert site.server.connection_count == 0

    def test_the_client_may_leave_before(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(b"illegal request\r\n")
        peer.half_close()
        assert site.server.connection_count == 0
        assert peer.read_to_end().startswith(b"HTTP/1.1 400 ")

    def test_a_client_that_has_gone_is_no_trouble(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.sock.send(b"illegal request\r\n")
        peer.reset()
        assert site.server.connection_count == 0


def test_refusals_are_logged_without_the_clients_control_characters(serve, caplog) -> None:
    peer = serve().connect()
    with caplog.at_level(logging.INFO, logger="evsvc.http"):
        peer.send(b"GET /\x1b[31m\r\nfake: log line HTTP/1.1\r\n\r\n")
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith(f"127.0.0.1 port {peer.sock.getsockname()[1]}: 400: ")
    assert message.isprintable()
