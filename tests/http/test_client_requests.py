"""What the client sends, and in which order."""

from __future__ import annotations

import socket

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError, StateError
from evsvc.http import ClientOptions, HttpConnection, HttpRequest
from evsvc.http.errors import LocalProtocolError
from tests.http.peers import response


class TestOrder:
    def test_the_next_request_goes_out_when_the_response_before_it_is_complete(
        self, client, origin
    ) -> None:
        for name in ("/a", "/b", "/c"):
            client.make(name)
        peer = origin.accept()
        for name in ("/a", "/b", "/c"):
            assert peer.read_message().line == f"GET {name} HTTP/1.1"
            assert peer.is_open()
            assert not peer.received, "strictly one at a time"
            peer.send(response(body=name.encode()))
        assert client.given == [("/a", 200), ("/b", 200), ("/c", 200)]
        assert [bytes(got.input_buffer) for _, got in client] == [b"/a", b"/b", b"/c"]
        assert origin.poll() is None, "over one connection"

    @pytest.mark.parametrize("who", ["client", "server"])
    def test_after_a_close_the_rest_goes_over_a_new_connection(self, client, origin, who) -> None:
        fields = [("Connection", "close")] if who == "client" else []
        client.make("/a", "GET", *fields)
        client.make("/b")
        peer = origin.accept()
        peer.read_message()
        peer.send(response("Connection: close") if who == "server" else response())
        assert client.given == [("/a", 200)]
        assert not peer.is_open()
        other = origin.accept()
        assert other.read_message().line == "GET /b HTTP/1.1"
        other.send(response())
        assert client.given == [("/a", 200), ("/b", 200)]

    def test_a_server_that_closes_while_idle_is_connected_to_anew(self, client, origin) -> None:
        closed = []
        client.connection.set_closecb(lambda connection, arg: closed.append(arg), "arg")
        client.make("/a")
        peer = origin.accept()
        peer.send(response())
        assert closed == []
        peer.close()
        peer.settle()
        assert closed == ["arg"]
        client.make("/b")
        origin.accept().send(response())
        assert client.given == [("/a", 200), ("/b", 200)]

    @pytest.mark.parametrize("junk", [b"x", response(), b"HTTP/1.1 408 Timeout\r\n\r\n"])
    def test_bytes_that_nobody_asked_for_end_the_connection(self, client, origin, junk) -> None:
        client.make("/a")
        peer = origin.accept()
        peer.send(response())
        peer.send(junk)
        assert not peer.is_open()
        client.make("/b")
        origin.accept().send(response())
        assert client.given == [("/a", 200), ("/b", 200)]

    def test_bytes_behind_a_response_are_no_response_to_the_next_request(
        self, client, origin
    ) -> None:
        client.make("/a")
        client.make("/b")
        origin.accept().send(response() + response(status="666 Smuggled"))
        origin.accept().send(response())
        assert client.given == [("/a", 200), ("/b", 200)]

    def test_the_queue_is_full_at_max_queued(self, connect, origin) -> None:
        connection = connect(options=ClientOptions(max_queued=2))
        made = [HttpRequest() for _ in range(3)]
        connection.make_request(made[0], "GET", "/")
        connection.make_request(made[1], "GET", "/")
        with pytest.raises(StateError, match="2"):
            connection.make_request(made[2], "GET", "/")
        assert connection.pending_requests == 2
        origin.accept().send(response())
        connection.make_request(made[2], "GET", "/")


class TestWire:
    def test_a_request_in_full(self, client, origin) -> None:
        client.make("/p?q", "PUT", ("X-A", "b"), ("Accept", "*/*"), body=b"data")
        peer = origin.accept()
        peer.settle()
        peer.take()
        assert (
            bytes(peer.received)
            == (
                f"PUT /p?q HTTP/1.1\r\nHost: 127.0.0.1:{origin.port}\r\nContent-Length: 4\r\n"
                "X-A: b\r\nAccept: */*\r\n\r\ndata"
            ).encode()
        )

    def test_a_body_of_bytes(self, client, origin) -> None:
        request = HttpRequest(lambda got, arg: client.append(("/", got)))
        request.set_body(b"data")
        client.connection.make_request(request, "POST", "/")
        peer = origin.accept()
        message = peer.read_message()
        assert (message.all("Content-Length"), message.body) == (["4"], b"data")
        peer.send(response())
        assert client.given == [("/", 200)]
        with pytest.raises(LocalProtocolError):
            request.set_body(b"again")

    def test_bytes_beside_a_buffer_are_no_body(self) -> None:
        request = HttpRequest()
        with pytest.raises(ArgumentTypeError, match="str"):
            request.set_body("text")
        request.output_buffer.add(b"x")
        with pytest.raises(LocalProtocolError):
            request.set_body(b"data")

    def test_a_method_of_the_programs_own(self, client, origin) -> None:
        client.make("/", "CUSTOM", body=b"data")
        message = origin.accept().read_message()
        assert (message.line, message.body) == ("CUSTOM / HTTP/1.1", b"data")

    @pytest.mark.parametrize(
        ("method", "length"), [("GET", None), ("HEAD", None), ("POST", "0"), ("PUT", "0")]
    )
    def test_an_empty_body_is_announced_where_one_is_expected(
        self, client, origin, method, length
    ) -> None:
        client.make("/", method)
        assert origin.accept().read_message().field("Content-Length") == length

    @pytest.mark.parametrize(
        ("address", "port", "host"),
        [
            ("example.com", 80, "example.com"),
            ("example.com", 8080, "example.com:8080"),
            ("192.0.2.1", 80, "192.0.2.1"),
            ("::1", 80, "[::1]"),
            ("::1", 81, "[::1]:81"),
            ("fe80::1%lo", 81, "[fe80::1]:81"),
        ],
    )
    def test_the_host_has_its_port_and_brackets(self, base, address, port, host) -> None:
        with HttpConnection(base, Names(), address, port) as connection:
            request = HttpRequest()
            connection.make_request(request, "GET", "/")
            assert f"\r\nHost: {host}\r\n".encode() in request.head

    @pytest.mark.parametrize(
        ("method", "target", "host"),
        [
            ("GET", "http://other:81/x", "other:81"),
            ("CONNECT", "other:443", "other:443"),
            ("OPTIONS", "*", None),
        ],
    )
    def test_the_host_is_the_targets_where_that_has_one(
        self, client, origin, method, target, host
    ) -> None:
        client.make(target, method)
        message = origin.accept().read_message()
        assert message.line == f"{method} {target} HTTP/1.1"
        assert message.all("Host") == [host or f"127.0.0.1:{origin.port}"]

    def test_a_host_of_the_programs_stands(self, client, origin) -> None:
        client.make("/", "GET", ("Host", "virtual"))
        assert origin.accept().read_message().all("Host") == ["virtual"]

    def test_what_is_changed_after_make_request_does_not_count(self, client, origin) -> None:
        client.make("/a")
        request = client.make("/b", "POST", body=b"as made")
        request.output_headers.add("X", "y")
        request.output_buffer.add(b"more")
        peer = origin.accept()
        peer.read_message()
        peer.send(response())
        message = peer.read_message()
        assert message.field("X") is None
        assert message.body == b"as made"

    def test_a_large_body_arrives_whole(self, client, origin) -> None:
        body = bytes(range(256)) * 20_000
        client.make("/", "POST", body=body)
        peer = origin.accept()
        assert peer.read_message().body == body
        peer.send(response())
        assert client.given == [("/", 200)]


class TestRefused:
    @pytest.mark.parametrize(
        ("method", "uri"),
        [
            ("GET", ""),
            ("GET", "relative"),
            ("GET", "/a b"),
            ("GET", "/a\r\nX: y"),
            ("GET", "/a\tb"),
            ("GET", "/a\0"),
            ("GET", "/a#fragment"),
            ("GET", "/\u00e9"),
            ("GET", "/\ud800"),
            ("GET", "*"),
            ("GET", "/ HTTP/1.1\r\nHost: x\r\n\r\nGET /smuggled"),
            ("GET", "http:///no-host"),
            ("GET", "http://user@host/"),
            ("CONNECT", "/"),
            ("CONNECT", "host"),
            ("", "/"),
            ("G ET", "/"),
            ("GET /x", "/"),
            ("GET\r\n", "/"),
            ("G\u00c9T", "/"),
            ("GET:", "/"),
        ],
    )
    def test_what_is_no_request_line(self, client, method, uri) -> None:
        request = HttpRequest()
        with pytest.raises(ArgumentError):
            client.connection.make_request(request, method, uri)
        assert client.connection.pending_requests == 0
        client.connection.make_request(request, "GET", "/fine")

    @pytest.mark.parametrize(("method", "uri"), [(b"GET", "/"), ("GET", b"/"), ("GET", None)])
    def test_what_is_no_text(self, client, method, uri) -> None:
        with pytest.raises(ArgumentTypeError):
            client.connection.make_request(HttpRequest(), method, uri)

    @pytest.mark.parametrize(
        "value", ["a\r\nX: y", "a\nb", "a\rb", "\0", "\r\n folded", "\x7f", "\u20ac"]
    )
    def test_header_injection(self, value) -> None:
        with pytest.raises(ArgumentError):
            HttpRequest().output_headers.add("X", value)

    @pytest.mark.parametrize(
        ("method", "fields", "body"),
        [
            ("POST", [("Transfer-Encoding", "chunked")], b"x"),
            ("POST", [("Content-Length", "2")], b"x"),
            ("POST", [("Content-Length", "+1")], b"x"),
            ("POST", [("Content-Length", "1"), ("Content-Length", "1")], b"x"),
            ("GET", [("Content-Length", "1")], b""),
            ("GET", [("Host", "a"), ("Host", "a")], b""),
            ("TRACE", [], b"x"),
            ("GET", [("Expect", "100-continue")], b""),
        ],
    )
    def test_headers_that_contradict_the_body_or_each_other(
        self, client, method, fields, body
    ) -> None:
        with pytest.raises(ArgumentError):
            client.make("/", method, *fields, body=body)
        assert client.connection.pending_requests == 0

    def test_a_request_is_made_once(self, client, origin) -> None:
        request = client.make("/a")
        with pytest.raises(LocalProtocolError):
            client.connection.make_request(request, "GET", "/again")
        origin.accept().send(response())
        with pytest.raises(LocalProtocolError):
            client.connection.make_request(request, "GET", "/again")
        assert client.given == [("/a", 200)]

    def test_a_closed_connection_takes_none(self, client) -> None:
        client.connection.close()
        with pytest.raises(StateError):
            client.make()

    @pytest.mark.parametrize(
        ("address", "port"),
        [
            ("", 80),
            ("name", 80),
            ("127.0.0.1", 0),
            ("127.0.0.1", 65536),
        ],
    )
    def test_a_peer_that_cannot_be(self, base, address, port) -> None:
        with pytest.raises(ArgumentError):
            HttpConnection(base, None, address, port)

    @pytest.mark.parametrize(("address", "port"), [("127.0.0.1", "80"), (b"127.0.0.1", 80)])
    def test_a_peer_of_a_wrong_type(self, base, address, port) -> None:
        with pytest.raises(ArgumentTypeError):
            HttpConnection(base, None, address, port)

    @pytest.mark.parametrize(
        "address", ["a b", "a\r\nX: y", "a/b", "u@h", "[::1]x", "\u00e9", "a:1"]
    )
    def test_a_name_that_is_no_host_cannot_inject(self, base, address) -> None:
        with pytest.raises(ArgumentError):
            HttpConnection(base, Names(), address, 80)

    @pytest.mark.parametrize("name", ["connect_s", "read_s", "write_s", "continue_s", "max_queued"])
    @pytest.mark.parametrize("value", [0, -1])
    def test_an_option_that_is_not_positive(self, name, value) -> None:
        with pytest.raises(ArgumentError, match=name):
            ClientOptions(**{name: value})

    def test_a_family_that_is_none(self, client) -> None:
        with pytest.raises(ArgumentError):
            client.connection.set_family(socket.AF_UNIX)


class Names:
    """A resolver that never answers."""

    def getaddrinfo(self, host, port, hints, cb, arg=None):
        return self

    def cancel(self) -> None:
        pass
