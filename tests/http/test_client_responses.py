"""How the client reads the responses, and waits for 100 Continue."""

from __future__ import annotations

import socket

import pytest

from evsvc.http import ClientOptions, HttpRequest
from evsvc.http.wire.limits import ReaderLimits
from tests.http.outcomes import Outcomes
from tests.http.peers import response

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class TestResponses:
    def answer(self, client, origin, data: bytes, method: str = "GET", *, close=False):
        client.make("/", method)
        peer = origin.accept()
        peer.send(data)
        if close:
            peer.half_close()
        ((_, got),) = client
        return got

    def test_a_response_in_full(self, client, origin) -> None:
        got = self.answer(
            client, origin, response("X: y", "x: z", status="404 No Such Thing", body=b"page")
        )
        assert got is client.made["/"]
        assert (got.response_code, got.response_code_line) == (404, "No Such Thing")
        assert got.version == (1, 1)
        assert got.input_headers.get_all("X") == ["y", "z"]
        assert bytes(got.input_buffer) == b"page"
        assert got.error is None

    @pytest.mark.parametrize(
        ("data", "stays"),
        [
            (response(version="1.1"), True),
            (response(version="1.0"), False),
            (response("Connection: keep-alive", version="1.0"), True),
            (response("Connection: foo", "Connection: Close"), False),
        ],
    )
    def test_the_server_says_whether_the_connection_stays(
        self, client, origin, data, stays
    ) -> None:
        assert self.answer(client, origin, data).response_code == 200
        assert origin.peers[0].is_open() is stays

    @pytest.mark.parametrize(
        "data",
        [
            CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
            CHUNKED + b"2\r\nhe\r\n3;x\r\nllo\r\n0\r\nA: b\r\n\r\n",
            b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello",
        ],
    )
    def test_a_body_may_come_byte_by_byte(self, client, origin, data) -> None:
        client.make("/a")
        client.make("/b")
        peer = origin.accept()
        peer.read_message()
        peer.send_bytewise(data)
        assert client.given == [("/a", 200)]
        assert bytes(client[0][1].input_buffer) == b"hello"
        assert peer.read_message().line == "GET /b HTTP/1.1", "the connection stays"

    def test_a_body_without_length_lasts_to_the_end(self, client, origin) -> None:
        got = self.answer(client, origin, b"HTTP/1.1 200 OK\r\n\r\nall of it", close=True)
        assert bytes(got.input_buffer) == b"all of it"

    @pytest.mark.parametrize(
        ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No"), ("GET", "304 Not")]
    )
    def test_some_responses_have_no_body_whatever_they_say(
        self, client, origin, method, status
    ) -> None:
        data = f"HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n".encode()
        got = self.answer(client, origin, data, method)
        assert got.response_code == int(status[:3])
        assert len(got.input_buffer) == 0
        assert origin.peers[0].is_open()

    def test_interim_responses_are_skipped(self, client, origin) -> None:
        interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
        got = self.answer(client, origin, interim + response(body=b"final"))
        assert got.response_code == 200
        assert got.input_headers.find("Link") is None
        assert bytes(got.input_buffer) == b"final"

    @pytest.mark.parametrize(
        ("method", "target", "data"),
        [
            ("GET", "/", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
            ("CONNECT", "h:1", response()),
        ],
    )
    def test_a_connection_that_leaves_http_is_not_used_again(
        self, client, origin, method, target, data
    ) -> None:
        client.make(target, method)
        client.make("/next")
        peer = origin.accept()
        peer.send(data)
        assert not peer.is_open()
        assert origin.accept().read_message().line == "GET /next HTTP/1.1"

    def test_a_response_before_the_request_is_sent_ends_the_connection(
        self, client, origin
    ) -> None:
        client.make("/a", "POST", body=b"x" * 16_000_000)
        client.make("/b")
        peer = origin.accept()
        peer.sock.send(response(status="413 Too Large"))
        peer.until(lambda: client)
        assert client.given == [("/a", 413)]
        assert origin.accept().read_message().line == "GET /b HTTP/1.1"

    def test_a_413_is_read_after_the_write_has_failed(self, client, origin) -> None:
        """libevent needs EVHTTP_CON_READ_ON_WRITE_ERROR for this."""
        client.make("/a", "POST", body=b"x" * 16_000_000)
        peer = origin.accept()
        peer.read_head()
        peer.sock.send(response("Connection: close", status="413 Too Large"))
        peer.sock.shutdown(socket.SHUT_RDWR)
        peer.until(lambda: client)
        assert client.given == [("/a", 413)]

    @pytest.mark.parametrize(
        ("limits", "data"),
        [
            ({"max_body_bytes": 3}, response(body=b"abc")),
            ({"max_headers": 2}, response("X: y")),
            ({"max_headers_bytes": len(response())}, response()),
            ({"max_line_bytes": len("HTTP/1.1 200 OK")}, response()),
        ],
    )
    def test_at_a_limit_a_response_is_fine(self, connect, origin, limits, data) -> None:
        options = ClientOptions(limits=ReaderLimits(**limits))
        results = []
        connection = connect(options=options)
        connection.make_request(HttpRequest(lambda got, arg: results.append(got)), "GET", "/")
        origin.accept().send(data)
        assert [got.response_code for got in results] == [200]


class TestExpect:
    def make(self, client, body: bytes = b"body") -> None:
        client.make("/a", "POST", ("Expect", "100-continue"), body=body)

    def test_the_body_waits_for_the_servers_consent(self, client, origin) -> None:
        self.make(client)
        peer = origin.accept()
        _, fields = peer.read_head()
        assert ("Content-Length", "4") in fields
        assert peer.is_open()
        assert not peer.received
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert peer.read_bytes(4) == b"body"
        peer.send(response())
        assert client.given == [("/a", 200)]
        assert peer.is_open()

    @pytest.mark.parametrize("status", ["413 Too Large", "200 OK"])
    def test_after_a_final_status_it_is_never_sent(self, client, origin, status) -> None:
        self.make(client)
        client.make("/b")
        peer = origin.accept()
        peer.read_head()
        peer.send(response(status=status))
        assert client.given == [("/a", int(status[:3]))]
        assert peer.read_to_end() == b"", "and the connection cannot be used again"
        assert origin.accept().read_message().line == "GET /b HTTP/1.1"

    def test_after_continue_s_it_is_sent_without_consent(self, client, origin, clock) -> None:
        """RFC 9110 10.1.1: a client should not wait for ever."""
        self.make(client)
        peer = origin.accept()
        peer.read_head()
        clock.advance(0.99)
        assert peer.is_open()
        assert not peer.received
        clock.advance(0.01)
        peer.settle()
        assert peer.read_bytes(4) == b"body"
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" + response())
        assert client.given == [("/a", 200)]

    def test_how_long_that_is_the_program_may_say(self, connect, origin, clock) -> None:
        client = Outcomes(connect(options=ClientOptions(continue_s=5.0)))
        self.make(client)
        peer = origin.accept()
        peer.read_head()
        clock.advance(4.9)
        assert peer.is_open()
        assert not peer.received
        clock.advance(0.1)
        peer.settle()
        assert peer.read_bytes(4) == b"body"

    def test_another_interim_response_is_no_consent(self, client, origin) -> None:
        self.make(client)
        peer = origin.accept()
        peer.read_head()
        peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        assert peer.is_open()
        assert not peer.received
