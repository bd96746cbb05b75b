"""What the callbacks get when there is no response, or none in time."""

from __future__ import annotations

import pytest

from evsvc.http import ClientOptions, HttpRequest
from evsvc.http.errors import (
    EVREQ_HTTP_DATA_TOO_LONG,
    EVREQ_HTTP_EOF,
    EVREQ_HTTP_INVALID_HEADER,
    EVREQ_HTTP_TIMEOUT,
    BodyTooLong,
    ConnectionClosed,
    InvalidResponse,
    RequestTimeout,
)
from evsvc.http.wire.limits import ReaderLimits
from tests.http.outcomes import Outcomes
from tests.http.peers import response

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

MALFORMED = {
    "no HTTP": b"SSH-2.0-x\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "status 0": b"HTTP/1.1 000 X\r\n\r\n",
    "no number": b"HTTP/1.1 abc X\r\n\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -100\r\n\r\n",
    "signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
    "unequal lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "both framings": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "other coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "bare CR": b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
    "no colon": b"HTTP/1.1 200 OK\r\nX\r\n\r\n",
    "chunk size": CHUNKED + b"0x1\r\nx\r\n",
    "chunk end": CHUNKED + b"1\r\nxy\r\n",
    "first line": b"HTTP/1.1 200 " + b"x" * 9000,
    "head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 6000,
    "fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 129 + b"\r\n",
}


@pytest.fixture
def failed(client):
    """Return `failed(name, kind, code)`: the request has failed so, and all is told in order."""

    def check(name, kind, code) -> None:
        assert client == [(name, code), (name, None)]
        error = client.made[name].error
        assert type(error) is kind
        assert error.code == code
        assert error.__traceback__ is None
        assert client.made[name].connection is None

    return check


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_response(client, origin, failed, data) -> None:
    client.make()
    origin.accept().send(data)
    failed("/", InvalidResponse, EVREQ_HTTP_INVALID_HEADER)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfour",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_close_before_the_end_of_the_response(client, origin, failed, data, how) -> None:
    client.make()
    peer = origin.accept()
    peer.settle()
    peer.take()
    if data:
        peer.send(data)
    if how == "end":
        peer.half_close()
    else:
        peer.reset()
    failed("/", ConnectionClosed, EVREQ_HTTP_EOF)


@pytest.mark.parametrize(
    "data", [response(body=b"abcd"), CHUNKED + b"4\r\n", b"HTTP/1.1 200 OK\r\n\r\nabcd"]
)
def test_a_body_beyond_the_limit(connect, origin, data) -> None:
    client = Outcomes(connect(options=ClientOptions(limits=ReaderLimits(max_body_bytes=3))))
    client.make()
    origin.accept().send(data)
    assert client == [("/", EVREQ_HTTP_DATA_TOO_LONG), ("/", None)]
    assert type(client.made["/"].error) is BodyTooLong


def test_only_the_request_under_way_fails(client, origin) -> None:
    for name in ("/a", "/b", "/c"):
        client.make(name)
    origin.accept().send(b"nonsense")
    origin.accept().half_close()
    origin.accept().send(response())
    assert client == [
        ("/a", EVREQ_HTTP_INVALID_HEADER),
        ("/a", None),
        ("/b", EVREQ_HTTP_EOF),
        ("/b", None),
        ("/c", client.made["/c"]),
    ]


class TestTimeouts:
    OPTIONS = ClientOptions(read_s=5.0, write_s=3.0)

    @pytest.fixture
    def client(self, connect):
        return Outcomes(connect(options=self.OPTIONS))

    @pytest.mark.parametrize("part", [b"HTTP", b"HTTP/1.1 200", response(body=b"four")[:-1]])
    def test_silence_before_the_end_of_the_response(
        self, client, origin, clock, failed, part
    ) -> None:
        client.make()
        peer = origin.accept()
        peer.settle()
        clock.advance(4.9)
        peer.settle()
        peer.send(part)
        clock.advance(4.9)
        client.settle()
        assert client == []
        clock.advance(0.1)
        client.wait(2)
        failed("/", RequestTimeout, EVREQ_HTTP_TIMEOUT)

    def test_sending_has_its_own_limit_and_the_servers_time_begins_after_it(
        self, client, origin, clock
    ) -> None:
        client.make("/", "POST", body=b"x" * 16_000_000)
        peer = origin.accept()
        peer.read_head()
        seconds = received = 0
        while len(client.connection.bufferevent.output):
            clock.advance(2.0)
            seconds += 2
            received += len(peer.read_bytes(2_000_000))
            peer.settle()
            assert client == []
        assert seconds > 5.0, "longer than the server has"
        peer.read_bytes(16_000_000 - received)
        clock.advance(4.9)
        peer.settle()
        assert client == []
        peer.send(response())
        assert client == [("/", client.made["/"])]

    def test_a_server_that_takes_nothing(self, client, origin, clock, failed) -> None:
        client.make("/", "POST", body=b"x" * 16_000_000)
        origin.accept().settle()
        clock.advance(2.9)
        client.settle()
        assert client == []
        clock.advance(0.2)
        client.wait(2)
        failed("/", RequestTimeout, EVREQ_HTTP_TIMEOUT)

    def test_a_write_that_fails_leaves_the_servers_time_to_answer(
        self, client, origin, clock, failed
    ) -> None:
        client.make("/", "POST", body=b"x")
        bufferevent = client.connection.bufferevent
        client.settle()
        stream = bufferevent._stream

        class Broken:
            """Stands before the socket; whatever is sent fails."""

            def __getattr__(self, name):
                return getattr(stream, name)

            def send(self, data):
                raise BrokenPipeError(32, "Broken pipe")

        bufferevent._stream = Broken()
        bufferevent.write(b"more")
        client.settle()
        clock.advance(4.9)
        client.settle()
        assert client == []
        clock.advance(0.1)
        client.wait(2)
        failed("/", RequestTimeout, EVREQ_HTTP_TIMEOUT)

    def test_a_connection_may_be_idle_for_ever(self, connect, origin, clock) -> None:
        client = Outcomes(connect(options=ClientOptions(idle_s=None)))
        client.make("/a")
        peer = origin.accept()
        peer.send(response())
        clock.advance(100_000)
        assert peer.is_open()

    def test_an_idle_connection_is_closed_after_idle_s(self, connect, origin, clock) -> None:
        client = Outcomes(connect(options=ClientOptions(idle_s=7.0)))
        ends = []
        client.connection.set_closecb(lambda connection, arg: ends.append(arg), "ended")
        client.make("/a")
        peer = origin.accept()
        peer.send(response())
        clock.advance(6.9)
        assert peer.is_open()
        assert ends == []
        clock.advance(0.1)
        assert not peer.is_open()
        assert ends == ["ended"]

    @pytest.mark.parametrize(
        ("field", "idle_s"),
        [
            ("Keep-Alive: timeout=5", 4.5),
            ("Keep-Alive: max=100, Timeout = 10", 9.0),
            ("Keep-Alive: timeout=500", 60.0),
            ("Keep-Alive: timeout=x", 60.0),
            ("X: timeout=5", 60.0),
        ],
    )
    def test_the_server_says_how_long_it_keeps_it(
        self, client, origin, clock, field, idle_s
    ) -> None:
        client.make("/a")
        peer = origin.accept()
        peer.send(response(field))
        clock.advance(idle_s - 0.1)
        assert not client.connection.has_expired
        clock.advance(0.1)
        assert client.connection.has_expired
        assert not peer.is_open()

    def test_long_work_in_a_callback_is_not_the_servers_silence(
        self, client, origin, clock
    ) -> None:
        def work(got, arg):
            clock.advance(20.0)
            client.make("/b")

        client.connection.make_request(HttpRequest(work), "GET", "/a")
        peer = origin.accept()
        peer.send(response())
        clock.advance(4.9)
        client.settle()
        assert client == []
        clock.advance(0.1)
        client.wait(2)
        assert type(client.made["/b"].error) is RequestTimeout

    def test_set_timeout_holds_for_the_next_request(self, client, origin, clock) -> None:
        client.connection.set_timeout(50.0)
        client.make("/a")
        peer = origin.accept()
        peer.settle()
        clock.advance(49.9)
        peer.settle()
        assert client == []
        clock.advance(0.1)
        client.wait(2)
        assert client == [("/a", EVREQ_HTTP_TIMEOUT), ("/a", None)]

    def test_the_next_request_has_its_time_anew(self, client, origin, clock) -> None:
        client.make("/a")
        client.make("/b")
        origin.accept().settle()
        clock.advance(5.0)
        peer = origin.accept()
        peer.settle()
        assert client == [("/a", EVREQ_HTTP_TIMEOUT), ("/a", None)]
        clock.advance(4.9)
        peer.send(response())
        assert client[2:] == [("/b", client.made["/b"])]
