"""Bodies in pieces: uploads from a producer, downloads that may be paused; interim answers."""

from __future__ import annotations

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError
from evsvc.http import BodyTooLong, ClientOptions, ConnectionClosed, HttpRequest, RequestTimeout
from evsvc.http.client.conversation import LARGE_READ_BYTES
from evsvc.http.client.upload import MAX_WAITING_BYTES
from evsvc.http.errors import LocalProtocolError
from evsvc.http.wire.limits import ReaderLimits
from tests.http.outcomes import Outcomes
from tests.http.peers import response

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Source:
    """A producer that gives these pieces, and then None; `request` is who last asked."""

    def __init__(self, *pieces) -> None:
        self.pieces = list(pieces)
        self.asked = 0

    def __call__(self, request, arg):
        self.request, self.arg = request, arg
        self.asked += 1
        piece = self.pieces.pop(0) if self.pieces else None
        if piece is ValueError:
            raise ValueError("none")
        return piece


def upload(client, source, length=None, *fields, name="/up", method="PUT"):
    """Make a request with a streamed body."""
    request = HttpRequest(lambda got, arg: client.append((arg, got)), name)
    request.set_error_cb(lambda code, arg: client.append((arg, code)))
    request.stream_body(source, length, "arg")
    for field in fields:
        request.output_headers.add(*field)
    client.made[name] = request
    client.connection.make_request(request, method, name)
    return request


@pytest.fixture
def heard(base):
    """What the exception handler hears."""
    caught = []
    base.exception_handler = caught.append
    return caught


class TestUpload:
    def test_without_a_length_it_goes_chunked(self, client, origin) -> None:
        source = Source(b"hello", bytearray(b" "), memoryview(b"world"))
        request = upload(client, source)
        assert source.asked == 0, "never before the return"
        peer = origin.accept()
        message = peer.read_message()
        assert (message.all("Transfer-Encoding"), message.all("Content-Length")) == (
            ["chunked"],
            [],
        )
        assert message.body == b"hello world"
        assert (source.request, source.arg) == (request, "arg")
        peer.send(response())
        assert client.given == [("/up", 200)]
        assert client.connection.is_idle
        assert peer.is_open()

    def test_with_a_length_it_goes_as_it_is(self, client, origin) -> None:
        upload(client, Source(b"hello", b" world"), 11)
        peer = origin.accept()
        message = peer.read_message()
        assert (message.all("Content-Length"), message.body) == (["11"], b"hello world")
        peer.send(response())
        assert client.given == [("/up", 200)]
        assert client.connection.is_idle

    def test_an_empty_one(self, client, origin) -> None:
        for length in (None, 0):
            upload(client, Source(), length)
            peer = origin.accept() if not origin.peers else origin.peers[0]
            assert peer.read_message().body == b""
            peer.send(response())
        assert client.given == [("/up", 200)] * 2

    @pytest.mark.parametrize(("pieces", "length"), [([b"12345", b"6"], 5), ([b"1234"], 5)])
    def test_one_that_does_not_fit_its_length_fails(
        self, client, origin, heard, pieces, length
    ) -> None:
        request = upload(client, Source(*pieces), length)
        peer = origin.accept()
        client.wait(2)
        assert type(request.error) is ConnectionClosed
        assert [type(exc) for exc in heard] == [LocalProtocolError]
        assert not peer.is_open()

    @pytest.mark.parametrize("piece", ["text", 5, ValueError])
    def test_a_producer_that_fails_fails_its_request(self, client, origin, heard, piece) -> None:
        request = upload(client, Source(b"x", piece))
        client.make("/next")
        origin.accept()
        client.wait(2)
        assert type(request.error) is ConnectionClosed
        assert len(heard) == 1
        origin.accept().send(response())
        client.wait(3)
        assert client.given[2:] == [("/next", 200)]

    def test_a_slow_server_holds_the_producer_back(self, client, origin) -> None:
        piece = b"x" * 10_000
        source = Source(*[piece] * 2000)
        upload(client, source)
        peer = origin.accept()
        client.settle()
        client.settle()
        asked, given = source.asked, 0
        client.settle()
        assert asked == source.asked < 2000, "the kernel is full"
        assert client.connection.bufferevent.output.length < MAX_WAITING_BYTES + 2 * len(piece)
        peer.read_head()
        while source.pieces:
            given += len(peer.received)
            peer.received.clear()
            peer.turn()
            peer.take()
        peer.receive_until(lambda: peer.received.endswith(b"0\r\n\r\n"))
        peer.send(response())
        assert client.given == [("/up", 200)]

    def test_it_may_have_nothing_for_a_while(self, client, origin, clock) -> None:
        source = Source(b"a", b"", b"b", b"", None)
        request = upload(client, source)
        peer = origin.accept()
        peer.read_head()
        assert peer.read_bytes(6) == b"1\r\na\r\n"
        client.settle()
        assert source.asked == 2
        clock.advance(1000.0)
        client.settle()
        assert client == [], "the server is not silent: it waits for us"
        request.resume_body()
        request.resume_body()
        assert source.asked == 2, "never inside the call"
        assert peer.read_bytes(6) == b"1\r\nb\r\n"
        assert source.asked == 4
        request.resume_body()
        assert peer.read_bytes(5) == b"0\r\n\r\n"
        clock.advance(50.0)
        client.wait(2)
        assert type(request.error) is RequestTimeout, "now it is silent"

    def test_the_producer_may_cancel_or_close(self, client, origin) -> None:
        def stop(request, arg):
            request.cancel()
            return b"lost"

        upload(client, stop)
        assert not origin.accept().is_open()
        upload(client, lambda request, arg: client.connection.close(), name="/two")
        origin.accept().settle()
        assert client.connection.is_closed

    def test_a_server_may_answer_while_it_reads(self, client, origin) -> None:
        """As one does that sends back what comes."""
        source = Source(b"a", b"", b"b")
        request = upload(client, source)
        peer = origin.accept()
        peer.read_head()
        peer.read_bytes(6)
        peer.send(CHUNKED + b"1\r\na\r\n")
        request.resume_body()
        assert peer.read_bytes(11) == b"1\r\nb\r\n0\r\n\r\n"
        peer.send(b"1\r\nb\r\n0\r\n\r\n")
        assert client.given == [("/up", 200)]
        assert bytes(request.input_buffer) == b"ab"
        assert client.connection.is_idle

    def test_an_answer_that_is_whole_before_ends_it(self, client, origin) -> None:
        source = Source(b"a", b"", b"b")
        request = upload(client, source)
        peer = origin.accept()
        peer.read_head()
        peer.send(response(status="413 Too Large"))
        assert client.given == [("/up", 413)]
        assert not peer.is_open()
        request.resume_body()
        client.settle()
        assert source.asked == 2

    def test_it_is_not_sent_a_second_time(self, client, origin) -> None:
        client.make("/first")
        peer = origin.accept()
        peer.send(response())
        request = upload(client, Source(b"a", b""))
        peer.settle()
        peer.close()
        client.wait(3)
        assert type(request.error) is ConnectionClosed
        assert origin.poll() is None

    def test_one_that_nobody_was_asked_for_is(self, client, origin) -> None:
        client.make("/first")
        peer = origin.accept()
        peer.send(response())
        peer.sock.close()
        upload(client, Source(b"a"))
        peer = origin.accept()
        assert peer.read_message().body == b"a"

    def test_it_waits_for_consent(self, client, origin) -> None:
        source = Source(b"a")
        upload(client, source, None, ("Expect", "100-continue"))
        peer = origin.accept()
        peer.read_head()
        client.settle()
        assert source.asked == 0
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert peer.read_chunked() == b"a"
        peer.send(response())
        assert client.given == [("/up", 200)]

    def test_bad_arguments(self, client) -> None:
        request = HttpRequest()
        with pytest.raises(ArgumentTypeError, match="None"):
            request.stream_body(None)
        with pytest.raises(ArgumentError, match="-1"):
            request.stream_body(Source(), -1)
        with pytest.raises(ArgumentTypeError, match="'x'"):
            request.stream_body(Source(), "x")
        request.stream_body(Source(), 5)
        request.output_buffer.add(b"x")
        with pytest.raises(ArgumentError, match="streamed"):
            client.connection.make_request(request, "PUT", "/")
        request.output_buffer.drain(1)
        request.output_headers.add("Content-Length", "6")
        with pytest.raises(ArgumentError, match="6"):
            client.connection.make_request(request, "PUT", "/")
        request.output_headers.replace("Content-Length", "5")
        with pytest.raises(ArgumentError, match="TRACE"):
            client.connection.make_request(request, "TRACE", "/")
        client.connection.make_request(request, "PUT", "/")
        with pytest.raises(LocalProtocolError):
            request.stream_body(Source())


class TestDownload:
    def collect(self, request, pieces):
        request.set_chunked_cb(lambda got, arg: pieces.append(bytes(got.input_buffer)))

    def test_the_limit_is_the_streams(self, connect, origin) -> None:
        limits = ReaderLimits(max_body_bytes=4)
        client = Outcomes(connect(options=ClientOptions(limits=limits, max_stream_bytes=6)))
        for data in (
            response(body=b"123456"),
            CHUNKED + b"6\r\n123456\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n123456",
        ):
            pieces = []
            self.collect(client.make(), pieces)
            peer = origin.poll() or origin.accept()
            peer.read_head()
            peer.send(data)
            peer.close()
            client.settle()
            assert b"".join(pieces) == b"123456"
        assert client.given == [("/", 200)] * 3

    @pytest.mark.parametrize(
        "data", [response(body=b"1234567"), CHUNKED + b"7\r\n1234567\r\n0\r\n\r\n"]
    )
    def test_beyond_it(self, connect, origin, data) -> None:
        client = Outcomes(connect(options=ClientOptions(max_stream_bytes=6)))
        request = client.make()
        self.collect(request, [])
        origin.accept().send(data)
        client.wait(2)
        assert type(request.error) is BodyTooLong

    @pytest.mark.parametrize("pieces", [(b"1234567",), (b"123456", b"7")])
    def test_beyond_it_without_a_length(self, connect, origin, pieces) -> None:
        client = Outcomes(connect(options=ClientOptions(max_stream_bytes=6)))
        request, taken = client.make(), []
        self.collect(request, taken)
        peer = origin.accept()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        for piece in pieces:
            peer.send(piece)
        client.wait(2)
        assert type(request.error) is BodyTooLong
        assert b"".join(taken) in (b"", b"123456")

    def test_pause_holds_the_server_back(self, client, origin, clock) -> None:
        pieces = []
        request = client.make()

        def take(got, arg):
            pieces.append(bytes(got.input_buffer))
            got.pause()
            got.pause()

        request.set_chunked_cb(take)
        peer = origin.accept()
        size = 30_000_000
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        sent = 0
        block = memoryview(b"x" * 100_000)
        while True:
            client.settle()
            try:
                sent += peer.sock.send(block[: size - sent])
            except BlockingIOError:
                break
        assert len(pieces) == 1
        assert sent < size, "the kernel is full"
        clock.advance(1000.0)
        client.settle()
        assert client == [], "the server is not silent: it is held back"
        request.resume()
        request.resume()
        assert len(pieces) == 1, "never inside the call"
        client.settle()
        assert len(pieces) == 2
        request.set_chunked_cb(lambda got, arg: pieces.append(bytes(got.input_buffer)))
        request.resume()
        while sent < size:
            client.settle()
            try:
                sent += peer.sock.send(block[: size - sent])
            except BlockingIOError:
                continue
        client.wait(1)
        assert sum(map(len, pieces)) == size
        assert client.connection.is_idle

    @pytest.mark.parametrize("where", ["header", "chunk"])
    def test_what_has_come_waits_and_is_given_after(self, client, origin, where) -> None:
        pieces = []
        request = client.make()
        self.collect(request, pieces)
        if where == "header":
            request.set_header_cb(lambda got, arg: got.pause())
        else:
            request.set_chunked_cb(
                lambda got, arg: (pieces.append(bytes(got.input_buffer)), got.pause())
            )
        peer = origin.accept()
        peer.send(CHUNKED + b"1\r\na\r\n0\r\n\r\n")
        assert pieces == ([] if where == "header" else [b"a"])
        assert client == []
        peer.half_close()
        request.resume()
        client.settle()
        assert pieces == [b"a"]
        assert client.given == [("/", 200)]

    def test_the_servers_time_begins_anew(self, client, origin, clock) -> None:
        request = client.make()
        request.set_header_cb(lambda got, arg: got.pause())
        origin.accept().send(response(body=b"four")[:-1])
        clock.advance(1000.0)
        client.settle()
        request.resume()
        client.settle()
        clock.advance(49.9)
        client.settle()
        assert client == []
        clock.advance(0.1)
        client.wait(2)
        assert type(request.error) is RequestTimeout

    def test_a_paused_one_can_be_cancelled_and_the_next_is_not_paused(self, client, origin) -> None:
        request = client.make()
        request.set_header_cb(lambda got, arg: got.pause())
        origin.accept().send(response(body=b"four")[:-1])
        request.cancel()
        client.make("/b")
        origin.accept().send(response())
        client.wait(2)
        assert client.given[1:] == [("/b", 200)]

    def test_without_a_request_under_way_it_does_nothing(self, client, origin) -> None:
        request = client.make("/a")
        waiting = client.make("/b")
        waiting.pause()
        waiting.resume()
        peer = origin.accept()
        peer.send(response())
        peer.send(response())
        request.pause()
        request.resume()
        assert client.given == [("/a", 200), ("/b", 200)]

    def test_a_long_body_is_read_in_larger_pieces_from_its_second_read_on(
        self, client, origin
    ) -> None:
        sizes = []
        client.make().set_chunked_cb(lambda got, arg: sizes.append(len(got.input_buffer)))
        peer = origin.accept()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        usual = client.connection.bufferevent.max_single_read
        sent = 0
        while sent < 1_000_000:
            sent += peer.sock.send(bytes(1_000_000 - sent))
            client.settle()
        assert client.given == [("/", 200)]
        assert sum(sizes) == 1_000_000
        assert max(sizes) <= LARGE_READ_BYTES == client.connection.bufferevent.max_single_read
        assert sizes[0] == usual < max(sizes)

    def test_trailers_are_apart(self, client, origin) -> None:
        request = client.make()
        origin.accept().send(CHUNKED + b"1\r\na\r\n0\r\nX: y\r\n\r\n")
        assert client.given == [("/", 200)]
        assert list(request.trailers) == [("X", "y")]
        assert "X" not in request.input_headers

    def test_take_body(self, client, origin) -> None:
        request = client.make()
        peer = origin.accept()
        peer.send(response(body=b"whole"))
        assert request.take_body() == b"whole"
        assert request.take_body() == bytes(request.input_buffer) == b""
        request = client.make()
        peer.send(CHUNKED + b"1\r\na\r\n0\r\n\r\n")
        assert request.take_body() == b"a"
        assert request.trailers is None


class TestInterim:
    HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

    def test_each_is_told_before_the_answer(self, client, origin) -> None:
        request = client.make()
        request.set_interim_cb(
            lambda got, status, headers, arg: client.append((status, headers.find("Link"), arg))
        )
        peer = origin.accept()
        peer.send(self.HINTS)
        assert client == [(103, "</a>", "/")]
        peer.send(b"HTTP/1.1 102 Processing\r\n\r\n" + response())
        assert client[1:] == [(102, None, "/"), ("/", request)]
        assert request.input_headers.find("Link") is None

    def test_one_that_raises_fails_its_request(self, client, origin, heard) -> None:
        request = client.make()
        request.set_interim_cb(lambda *got: 1 / 0)
        origin.accept().send(self.HINTS + response())
        assert type(request.error) is ConnectionClosed
        assert [type(exc) for exc in heard] == [ZeroDivisionError]

    def test_it_may_cancel(self, client, origin) -> None:
        client.make().set_interim_cb(lambda got, *more: got.cancel())
        peer = origin.accept()
        peer.send(self.HINTS)
        assert not peer.is_open()

    def test_an_interim_answer_is_a_sign_of_life(self, client, origin, clock) -> None:
        client.make()
        peer = origin.accept()
        for _ in range(3):
            clock.advance(49.0)
            peer.send(self.HINTS)
        assert client == []


class TestWithoutExpect:
    def test_417_sends_it_again_without(self, client, origin) -> None:
        client.make("/a", "POST", ("X", "y"), ("Expect", "100-continue"), body=b"body")
        client.make("/b")
        peer = origin.accept()
        assert ("Expect", "100-continue") in peer.read_head()[1]
        peer.send(response(status="417 No"))
        assert not peer.is_open()
        peer = origin.accept()
        message = peer.read_message()
        assert (message.all("Expect"), message.all("X"), message.body) == ([], ["y"], b"body")
        peer.send(response())
        peer.send(response())
        assert client.given == [("/a", 200), ("/b", 200)]

    def test_once(self, client, origin) -> None:
        client.make("/a", "POST", ("Expect", "100-continue"), body=b"body")
        for _ in range(2):
            origin.accept().send(response(status="417 No"))
        assert client.given == [("/a", 417)]

    def test_not_one_that_never_expected(self, client, origin) -> None:
        client.make("/a", "POST", body=b"body")
        origin.accept().send(response(status="417 No"))
        assert client.given == [("/a", 417)]
