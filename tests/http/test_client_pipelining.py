"""Requests that are sent before the answers to those before them: in order, and none lost."""

from __future__ import annotations

import itertools
import socket
import struct
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evsvc.core import ArgumentError, EvBuffer
from evsvc.http import ClientOptions, HttpConnection, HttpRequest
from evsvc.http.errors import (
    EVREQ_HTTP_REQUEST_CANCEL,
    EVREQ_HTTP_TIMEOUT,
    ConnectionClosed,
    InvalidResponse,
    RequestCancelled,
    RequestTimeout,
)
from evsvc.http.wire.limits import ReaderLimits
from tests.http.outcomes import Outcomes
from tests.http.peers import Origin, Peer, response

INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"
UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\n\r\n"


def numbered(number):
    return response(body=str(number).encode())


@pytest.fixture
def pipelining(connect):
    """Return `pipelining(most=4, **options)`: a client connection that pipelines."""

    def make(most=4, **options):
        return Outcomes(connect(options=ClientOptions(max_pipelined=most, **options)))

    return make


@pytest.fixture
def client(pipelining):
    return pipelining()


def make_all(client, *names, method="GET"):
    for name in names:
        client.make(name, method)


def targets(peer):
    """Return the targets of the requests that have come by now."""
    peer.settle()
    peer.take()
    heads = bytes(peer.received).decode().split("\r\n\r\n")
    peer.received.clear()
    assert not heads.pop()
    return [head.split()[1] for head in heads]


def hang_up(peer):
    """Reset the connection; the client has not heard of it yet."""
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.sock.close()


def bodies(client):
    return [(name, bytes(got.input_buffer)) for name, got in client if isinstance(got, HttpRequest)]


class TestInOrder:
    def test_by_default_one_waits_for_the_answer_before_it(self, connect, origin) -> None:
        client = Outcomes(connect())
        make_all(client, "/a", "/b")
        assert targets(origin.accept()) == ["/a"]

    @pytest.mark.parametrize("count", [4, 5])
    def test_as_many_are_sent_as_the_limit_says(self, client, origin, count) -> None:
        names = [f"/{number}" for number in range(count)]
        make_all(client, *names)
        peer = origin.accept()
        assert targets(peer) == names[:4]
        peer.send(numbered(0))
        assert targets(peer) == names[4:]
        assert bodies(client) == [("/0", b"0")]
        peer.send(b"".join(map(numbered, range(1, count))))
        assert bodies(client) == [(name, name[1:].encode()) for name in names]
        assert client.connection.is_idle

    def test_one_that_is_made_later_is_sent_at_once(self, client, origin) -> None:
        client.make("/a")
        peer = origin.accept()
        assert targets(peer) == ["/a"]
        client.make("/b")
        assert targets(peer) == ["/b"]
        peer.send(numbered(1) + numbered(2))
        assert bodies(client) == [("/a", b"1"), ("/b", b"2")]

    def test_the_callback_of_one_may_make_the_next(self, client, origin) -> None:
        def again(got, arg) -> None:
            client.append((arg, got))
            client.make("/c")

        client.connection.make_request(HttpRequest(again, "/a"), "GET", "/a")
        client.make("/b")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b"]
        peer.send(numbered(1))
        assert targets(peer) == ["/c"]
        peer.send(numbered(2) + numbered(3))
        assert bodies(client) == [("/a", b"1"), ("/b", b"2"), ("/c", b"3")]

    def test_answers_that_come_byte_by_byte(self, client, origin) -> None:
        make_all(client, "/a", "/b", "/c")
        peer = origin.accept()
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n"
        peer.send_bytewise(numbered(1) + chunked + numbered(3))
        assert bodies(client) == [("/a", b"1"), ("/b", b"2"), ("/c", b"3")]
        assert client.connection.is_idle

    def test_an_answer_without_a_body_is_known_by_its_own_request(self, client, origin) -> None:
        client.make("/head", "HEAD")
        client.make("/gone")
        client.make("/same")
        client.make("/get")
        peer = origin.accept()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        no_content = b"HTTP/1.1 204 No Content\r\n\r\n"
        not_modified = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"
        peer.send(head + no_content + not_modified + head + b"hello")
        assert client.given == [("/head", 200), ("/gone", 204), ("/same", 304), ("/get", 200)]
        assert [body for _, body in bodies(client)] == [b"", b"", b"", b"hello"]
        assert client.connection.is_idle

    def test_interim_answers_are_the_first_ones(self, pipelining, origin) -> None:
        client = pipelining(max_interim=2)
        make_all(client, "/a", "/b")
        peer = origin.accept()
        peer.send((INTERIM * 2 + numbered(1)) * 2)
        assert client.given == [("/a", 200), ("/b", 200)], "they are counted for each"

    def test_bytes_behind_the_last_answer_end_the_connection(self, client, origin) -> None:
        make_all(client, "/a", "/b")
        peer = origin.accept()
        peer.send(numbered(1) + numbered(2) + numbered(3))
        assert client.given == [("/a", 200), ("/b", 200)]
        assert not client.connection.is_idle
        assert peer.read_to_end()

    def test_long_bodies_go_by_reference(self, pipelining, origin) -> None:
        client = pipelining(pipelines_all=True)
        body = bytes(range(256)) * 400
        for name in "/a", "/b":
            client.make(name, "POST", body=body)
        peer = origin.accept()
        for name in "/a", "/b":
            assert peer.read_head()[0] == f"POST {name} HTTP/1.1"
            assert peer.read_bytes(len(body)) == body
        peer.send(numbered(1) + numbered(2))
        assert client.given == [("/a", 200), ("/b", 200)]

    def test_the_limit_is_positive(self) -> None:
        with pytest.raises(ArgumentError, match="max_pipelined"):
            ClientOptions(max_pipelined=0)


class TestWhatIsNot:
    def test_what_is_not_idempotent_neither_follows_nor_leads(self, client, origin) -> None:
        client.make("/a")
        client.make("/post", "POST")
        client.make("/b")
        peer = origin.accept()
        assert targets(peer) == ["/a"]
        peer.send(response())
        assert targets(peer) == ["/post"]
        peer.send(response())
        assert targets(peer) == ["/b"]

    def test_but_where_the_program_wants_it(self, pipelining, origin) -> None:
        client = pipelining(pipelines_all=True)
        make_all(client, "/a", "/b", method="POST")
        assert targets(origin.accept()) == ["/a", "/b"]

    @pytest.mark.parametrize(
        "how", ["stream", "chunks", "header", "interim", "expect", "upgrade", "close", "connect"]
    )
    def test_what_must_be_alone_neither_follows_nor_leads(self, pipelining, origin, how) -> None:
        client = pipelining(pipelines_all=True)
        request = HttpRequest(lambda got, arg: client.append((arg, got)), "/alone")
        method, uri = "PUT", "/alone"
        if how == "stream":
            request.stream_body(lambda got, arg: None, 0)
        elif how == "chunks":
            request.set_chunked_cb(lambda got, arg: None)
        elif how == "header":
            request.set_header_cb(lambda got, arg: None)
        elif how == "interim":
            request.set_interim_cb(lambda got, status, headers, arg: None)
        elif how == "expect":
            request.output_headers.add("Expect", "100-continue")
            request.set_body(b"body")
        elif how == "upgrade":
            request.output_headers.add("Upgrade", "x")
        elif how == "close":
            request.output_headers.add("Connection", "close")
        else:
            method, uri = "CONNECT", "example.com:80"
        client.make("/a")
        client.connection.make_request(request, method, uri)
        client.make("/b")
        peer = origin.accept()
        assert targets(peer) == ["/a"]
        peer.send(response())
        assert peer.read_head()[0].startswith(f"{method} {uri} ")
        assert targets(peer) == []
        if how == "expect":
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert peer.read_bytes(4) == b"body"
            assert targets(peer) == []
        peer.send(response(status="400 Bad Request"))
        if how == "close":
            peer = origin.accept()
        assert targets(peer) == ["/b"]

    def test_nothing_follows_an_answer_that_says_close(self, client, origin) -> None:
        client.make("/a")
        peer = origin.accept()
        assert targets(peer) == ["/a"]
        peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nb")
        client.make("/b")
        assert targets(peer) == []
        peer.send(b"ody")
        assert bodies(client) == [("/a", b"body")]
        assert targets(origin.accept()) == ["/b"]

    def test_nor_what_is_sent_already_changes_that(self, client, origin) -> None:
        make_all(client, "/a", "/b")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b"]
        peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nb")
        client.make("/c")
        assert targets(peer) == []


class TestTheConnectionEnds:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize(
        "last",
        [
            response("Connection: close"),
            response(version="1.0"),
            UNTIL_CLOSED,
        ],
        ids=["close", "HTTP/1.0", "until the end"],
    )
    def test_with_an_answer_that_says_so_the_others_were_not_done(
        self, pipelining, origin, method, last
    ) -> None:
        client = pipelining(pipelines_all=True, retry=False)
        make_all(client, "/a", "/b", "/c", method=method)
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b", "/c"]
        peer.send(last)
        peer.close()
        peer = origin.accept()
        assert client.given == [("/a", 200)]
        assert targets(peer) == ["/b"], "nothing goes behind it before its answer (RFC 9112 9.3.2)"
        peer.send(response())
        assert targets(peer) == ["/c"]
        peer.send(response())
        client.make("/d")
        client.make("/e")
        assert targets(peer) == ["/d", "/e"], "the server keeps connections"
        assert not client.made["/c"].went_again

    def test_a_server_that_closes_after_each_answer(self, client, origin) -> None:
        names = [f"/{number}" for number in range(9)]
        make_all(client, *names)
        came = []
        for _ in names:
            peer = origin.accept()
            came.append(targets(peer))
            peer.send(response("Connection: close"))
            peer.close()
        client.wait(len(names))
        assert client.given == [(name, 200) for name in names]
        assert came == [names[:4], *([name] for name in names[1:])]

    def test_idempotent_ones_go_again_and_once(self, client, origin) -> None:
        make_all(client, "/a", "/b", "/c")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b", "/c"]
        peer.send(response())
        peer.close()
        peer = origin.accept()
        assert targets(peer) == ["/b"]
        peer.send(response())
        assert targets(peer) == ["/c"]
        peer.close()
        client.wait(4)
        assert client.given == [("/a", 200), ("/b", 200), ("/c", 1), ("/c", None)]
        assert type(client.made["/c"].error) is ConnectionClosed
        assert origin.poll() is None

    def test_not_where_it_is_switched_off(self, pipelining, origin) -> None:
        client = pipelining(retry=False)
        make_all(client, "/a", "/b")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b"]
        peer.close()
        client.wait(4)
        assert [name for name, _ in client] == ["/a", "/a", "/b", "/b"]
        assert origin.poll() is None

    @pytest.mark.parametrize("how", ["end", "reset", "nonsense"])
    def test_others_may_be_done_and_fail(self, pipelining, origin, how) -> None:
        client = pipelining(pipelines_all=True)
        make_all(client, "/a", "/b", "/c", method="POST")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b", "/c"]
        peer.send(response())
        if how == "nonsense":
            peer.send(b"nonsense")
        elif how == "end":
            peer.close()
        else:
            peer.reset()
        client.wait(5)
        code = 2 if how == "nonsense" else 1
        assert client.given == [
            ("/a", 200),
            ("/b", code),
            ("/b", None),
            ("/c", 1),
            ("/c", None),
        ]
        assert type(client.made["/b"].error) is (
            InvalidResponse if how == "nonsense" else ConnectionClosed
        )
        assert "may be done" in str(client.made["/c"].error)
        assert client.made["/c"].connection is None
        assert origin.poll() is None

    def test_what_was_surely_not_sent_goes_again_whatever_it_is(self, pipelining, origin) -> None:
        client = pipelining(pipelines_all=True)
        body = EvBuffer()
        body.add(bytes(8 * 1024 * 1024))
        for name in "/a", "/b":
            request = HttpRequest(lambda got, arg: client.append((arg, got)), name)
            client.made[name] = request
            if name == "/a":
                request.output_buffer.add_buffer(body)
            client.connection.make_request(request, "POST", name)
        peer = origin.accept()
        assert peer.read_head()[0] == "POST /a HTTP/1.1"
        peer.reset()  # much of the first body has not left
        peer = origin.accept()
        assert client.given == [("/a", None)]
        assert targets(peer) == ["/b"]
        assert not client.made["/b"].went_again

    def test_nor_when_all_of_it_was_not_sent(self, pipelining, origin) -> None:
        client = pipelining(pipelines_all=True)
        client.make("/first")
        peer = origin.accept()
        assert targets(peer) == ["/first"]
        peer.send(response())
        make_all(client, "/a", "/b", method="POST")
        hang_up(peer)
        peer = origin.accept()
        assert targets(peer) == ["/a"]
        peer.send(response())
        assert targets(peer) == ["/b"]

    def test_nor_when_the_one_before_it_is_answered(self, pipelining, origin) -> None:
        client = pipelining(pipelines_all=True)
        client.make("/a")
        peer = origin.accept()
        assert targets(peer) == ["/a"]
        peer.sock.send(response())
        client.make("/longer", "POST")
        hang_up(peer)
        peer = origin.accept()
        assert targets(peer) == ["/longer"]
        assert client.given == [("/a", 200)]

    def test_an_answer_before_all_of_the_request_is_sent_ends_it(self, pipelining, origin) -> None:
        client = pipelining(pipelines_all=True)
        client.make("/a", "POST", body=bytes(8 * 1024 * 1024))
        client.make("/b", "POST")
        peer = origin.accept()
        assert peer.read_head()[0] == "POST /a HTTP/1.1"
        peer.send(response(status="413 Content Too Large"))
        assert client.given == [("/a", 413)]
        assert targets(origin.accept()) == ["/b"]

    def test_answers_are_read_when_the_server_takes_no_more(self, base, tmp_path) -> None:
        options = ClientOptions(max_pipelined=4, pipelines_all=True)
        path = str(tmp_path / "server")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            connection = HttpConnection.unix_new(base, path, options)
            client = Outcomes(connection)
            make_all(client, "/a", "/b", method="POST")
            client.settle()
            peer = Peer(base, listening.accept()[0])
            assert targets(peer) == ["/a", "/b"]
            peer.sock.shutdown(socket.SHUT_RD)
            client.make("/c", "POST")  # cannot be written
            client.settle()
            peer.send(numbered(1) + numbered(2))
            peer.close()
            client.settle()
            assert bodies(client) == [("/a", b"1"), ("/b", b"2")]
            peer = Peer(base, listening.accept()[0])
            assert targets(peer) == ["/c"]
            peer.close()
            connection.close()

    def test_a_connection_that_was_kept_ends_the_caution(self, client, origin) -> None:
        make_all(client, "/a", "/b")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b"]
        peer.send(response("Connection: close"))
        peer = origin.accept()
        assert targets(peer) == ["/b"]
        peer.send(response())
        peer.close()
        client.settle()
        make_all(client, "/c", "/d")
        assert targets(origin.accept()) == ["/c", "/d"]

    def test_its_end_is_told_before_the_callbacks(self, pipelining, origin) -> None:
        client = pipelining(pipelines_all=True)
        client.connection.set_closecb(lambda connection, arg: client.append(("closed", None)))
        make_all(client, "/a", "/b", method="POST")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b"]
        peer.close()
        client.wait(5)
        assert [name for name, _ in client] == ["closed", "/a", "/a", "/b", "/b"]

    def test_free_on_completion_waits_for_those_that_are_lost(self, pipelining, origin) -> None:
        client = pipelining(pipelines_all=True)
        make_all(client, "/a", "/b", method="POST")
        client.connection.free_on_completion()
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b"]
        peer.close()
        client.wait(4)
        assert client.connection.is_closed

    def test_nor_does_it_close_before_when_asked_in_between(self, pipelining, origin) -> None:
        client = pipelining(pipelines_all=True)
        client.connection.set_closecb(lambda connection, arg: connection.free_on_completion())
        make_all(client, "/a", "/b", method="POST")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b"]
        peer.close()
        client.wait(4)
        assert client.connection.is_closed

    def test_a_callback_may_close_it(self, pipelining, origin) -> None:
        client = pipelining(pipelines_all=True)
        first = HttpRequest(lambda got, arg: client.connection.close())
        client.connection.make_request(first, "POST", "/first")
        make_all(client, "/a", "/b", method="POST")
        peer = origin.accept()
        peer.send(response() * 3)
        assert client == []
        assert client.made["/a"].connection is None
        assert peer.read_to_end()

    def test_a_callback_for_one_that_is_lost_may_close_it(self, pipelining, origin) -> None:
        client = pipelining(pipelines_all=True)
        first = HttpRequest(lambda got, arg: client.connection.close())
        client.connection.make_request(first, "POST", "/first")
        make_all(client, "/a", "/b", method="POST")
        peer = origin.accept()
        assert len(targets(peer)) == 3
        peer.close()
        client.settle()
        assert client.connection.is_closed
        assert client == []
        assert client.made["/b"].connection is None

    def test_one_that_is_lost_may_be_cancelled_by_another(self, pipelining, origin) -> None:
        client = pipelining(pipelines_all=True)
        first = HttpRequest(lambda got, arg: client.made["/a"].cancel())
        client.connection.make_request(first, "POST", "/first")
        make_all(client, "/a", "/b", method="POST")
        peer = origin.accept()
        assert len(targets(peer)) == 3
        peer.close()
        client.wait(2)
        assert client.given == [("/b", 1), ("/b", None)]

    def test_a_callback_that_raises_ends_its_own_exchange(self, client, origin, base) -> None:
        heard = []
        base.exception_handler = heard.append

        def fail(got, arg) -> None:
            raise ValueError(arg)

        client.connection.make_request(HttpRequest(fail, "first"), "GET", "/first")
        make_all(client, "/a", "/b")
        peer = origin.accept()
        peer.send(numbered(0) + numbered(1) + numbered(2))
        assert [str(each) for each in heard] == ["first"]
        assert bodies(client) == [("/a", b"1"), ("/b", b"2")]

    def test_an_exception_that_stops_the_loop_loses_no_answer(self, client, origin, base) -> None:
        def fail(got, arg) -> None:
            raise ValueError(arg)

        def give_up(exc) -> None:
            raise exc

        base.exception_handler = give_up
        client.connection.make_request(HttpRequest(fail, "first"), "GET", "/first")
        client.make("/a")
        peer = origin.accept()
        with pytest.raises(ValueError, match="first"):
            peer.send(numbered(0) + numbered(1))
        client.wait(1)
        assert bodies(client) == [("/a", b"1")]


class TestGivenUp:
    @pytest.mark.parametrize("name", ["/a", "/b", "/c"])
    def test_its_answer_is_thrown_away_and_the_others_come(self, client, origin, name) -> None:
        make_all(client, "/a", "/b", "/c")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b", "/c"]
        given_up = client.made[name]
        given_up.cancel()
        assert client == [(name, EVREQ_HTTP_REQUEST_CANCEL)]
        assert type(given_up.error) is RequestCancelled
        assert client.connection.pending_requests == 3
        peer.send(numbered("/a") + numbered("/b") + numbered("/c"))
        others = [each for each in ("/a", "/b", "/c") if each != name]
        assert bodies(client) == [(each, each.encode()) for each in others]
        assert given_up.response_code == 0, "it is over"
        if name != "/c":
            assert client.connection.is_idle
        else:
            assert peer.read_to_end() == b"", "nobody waited for the last"

    def test_the_connection_is_closed_when_nobody_waits_for_an_answer(self, client, origin) -> None:
        make_all(client, "/a", "/b", "/c", "/d", "/e")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b", "/c", "/d"]
        for name in "/b", "/a", "/d":
            client.made[name].cancel()
            assert peer.is_open()
        client.made["/c"].cancel()
        peer = origin.accept()
        assert targets(peer) == ["/e"]
        peer.send(response())
        assert client.given[-1] == ("/e", 200)
        assert len(client) == 5

    def test_nothing_goes_behind_it_while_it_is_the_next(self, client, origin) -> None:
        make_all(client, "/a", "/b")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b"]
        client.made["/a"].cancel()
        client.make("/c")
        assert targets(peer) == []
        peer.send(numbered(1))
        assert targets(peer) == ["/c"]
        peer.send(numbered(2) + numbered(3))
        assert bodies(client) == [("/b", b"2"), ("/c", b"3")]

    def test_one_that_was_not_sent_is_forgotten(self, pipelining, origin) -> None:
        client = pipelining(2)
        make_all(client, "/a", "/b", "/c")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b"]
        client.made["/c"].cancel()
        assert client == []
        peer.send(response() * 2)
        assert client.given == [("/a", 200), ("/b", 200)]
        assert client.connection.is_idle

    def test_what_has_begun_to_come_is_read_to_its_end(self, client, origin) -> None:
        make_all(client, "/a", "/b")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b"]
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        client.made["/a"].cancel()
        peer.send(b"67890" + numbered(2))
        assert bodies(client) == [("/b", b"2")]
        assert client.connection.is_idle

    def test_it_may_be_given_up_by_its_own_callbacks(self, client, origin) -> None:
        client.make("/a")
        client.make("/b")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b"]
        client.made["/a"].set_interim_cb(lambda got, status, headers, arg: got.cancel())
        peer.send(INTERIM + numbered(1) + numbered(2))
        assert client.given == [("/a", EVREQ_HTTP_REQUEST_CANCEL), ("/b", 200)]
        assert bodies(client) == [("/b", b"2")]

    def test_it_may_be_given_up_in_the_middle_of_its_body(self, client, origin) -> None:
        make_all(client, "/a", "/b")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b"]
        client.made["/a"].set_chunked_cb(lambda got, arg: got.cancel())
        chunks = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n1\r\n1\r\n0\r\n\r\n"
        )
        peer.send(chunks + numbered(2))
        assert client.given == [("/a", EVREQ_HTTP_REQUEST_CANCEL), ("/b", 200)]
        assert client.connection.is_idle

    def test_it_may_be_given_up_while_it_holds_the_server_back(self, client, origin) -> None:
        make_all(client, "/a", "/b")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b"]
        first = client.made["/a"]
        first.set_chunked_cb(lambda got, arg: got.pause())
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        peer.send(b"67890" + numbered(2))
        assert client == []
        first.cancel()
        client.settle()
        assert bodies(client) == [("/b", b"2")]
        assert client.connection.is_idle

    @pytest.mark.parametrize(("size", "fits"), [(10, True), (11, False)])
    def test_what_is_thrown_away_is_bounded(self, pipelining, origin, size, fits) -> None:
        client = pipelining(limits=ReaderLimits(max_body_bytes=10))
        make_all(client, "/a", "/b")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b"]
        client.made["/a"].cancel()
        peer.send(response(body=bytes(size)) + numbered(2))
        if not fits:
            peer = origin.accept()
            assert targets(peer) == ["/b"]
            assert client.made["/b"].went_again
            peer.send(numbered(2))
        assert bodies(client) == [("/b", b"2")]

    def test_what_is_thrown_away_is_not_kept(self, client, origin) -> None:
        make_all(client, "/a", "/b")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b"]
        client.made["/a"].cancel()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        peer.send(chunk)
        tracemalloc.start()
        try:
            for _ in range(32):
                peer.send(chunk)
            kept_bytes = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert kept_bytes < 8 * 0x10000
        peer.send(b"0\r\n\r\n" + numbered(2))
        assert bodies(client) == [("/b", b"2")]

    def test_it_does_not_go_again(self, client, origin) -> None:
        client.make("/first")
        peer = origin.accept()
        assert targets(peer) == ["/first"]
        peer.send(response())
        make_all(client, "/a", "/b")
        assert targets(peer) == ["/a", "/b"]
        client.made["/a"].cancel()
        peer.close()
        peer = origin.accept()
        assert targets(peer) == ["/b"]
        peer.send(response())
        assert client.given[-1] == ("/b", 200)
        assert client.connection.is_idle


class TestTime:
    def test_one_whose_time_is_over_harms_no_other(self, client, origin, clock) -> None:
        connection = client.connection
        made = []
        for name, seconds in ("/a", 2.0), ("/b", 9.0), ("/c", 2.0):
            request = HttpRequest(lambda got, arg: client.append((arg, got)), name)
            request.set_error_cb(lambda code, arg: client.append((arg, code)))
            connection.make_request(request, "GET", name, exchange_s=seconds)
            made.append(request)
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b", "/c"]
        clock.advance(2)
        client.wait(4)
        assert [name for name, _ in client] == ["/a", "/a", "/c", "/c"]
        assert client[0][1] == EVREQ_HTTP_TIMEOUT
        assert type(made[0].error) is RequestTimeout
        peer.send(numbered(1) + numbered(2))
        assert bodies(client) == [("/b", b"2")]

    def test_when_the_time_of_all_is_over_the_connection_is(self, pipelining, origin, clock):
        client = pipelining(exchange_s=2.0)
        make_all(client, "/a", "/b")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b"]
        clock.advance(2)
        client.wait(4)
        assert [name for name, _ in client] == ["/a", "/a", "/b", "/b"]
        assert peer.read_to_end() == b""

    def test_the_silence_before_each_answer_is_bounded(self, pipelining, origin, clock) -> None:
        client = pipelining(read_s=3.0)
        make_all(client, "/a", "/b", "/c")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b", "/c"]
        for number in range(2):
            clock.advance(2.9)
            client.settle()
            peer.send(numbered(number))
        clock.advance(2.9)
        client.settle()
        assert len(client) == 2
        clock.advance(0.2)
        client.wait(4)
        assert type(client.made["/c"].error) is RequestTimeout

    def test_one_that_nobody_waits_for_holds_up_the_others_no_longer(
        self, pipelining, origin, clock
    ) -> None:
        client = pipelining(read_s=3.0)
        make_all(client, "/a", "/b")
        peer = origin.accept()
        assert targets(peer) == ["/a", "/b"]
        client.made["/a"].cancel()
        clock.advance(3)
        peer = origin.accept()
        assert targets(peer) == ["/b"]
        peer.send(numbered(2))
        assert bodies(client) == [("/b", b"2")]


ANSWERS = st.sampled_from(
    [
        response(body=b"whole"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n",
        INTERIM + response(body=b"whole"),
    ]
)


@settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    answers=st.lists(ANSWERS, min_size=1, max_size=6),
    most=st.integers(1, 6),
    cuts=st.lists(st.integers(0, 600), max_size=6),
    cancels=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), max_size=4),
    closes=st.sets(st.integers(0, 5), max_size=2),
)
def test_each_gets_its_own_answer(base, answers, most, cuts, cancels, closes) -> None:
    """However they are cut, whichever are cancelled, and wherever the server closes."""
    origin = Origin(base)  # its own, so that no connection of an example before waits there
    options = ClientOptions(max_pipelined=most)
    client = Outcomes(HttpConnection(base, None, "127.0.0.1", origin.port, options))
    names = [f"/{number}" for number in range(len(answers))]
    make_all(client, *names)
    cancelled = set()
    turn = 0

    def cancel_some() -> None:
        nonlocal turn
        for number, when in cancels:
            if when == turn and number < len(names) and client.made[names[number]].connection:
                client.made[names[number]].cancel()
                cancelled.add(names[number])
        turn += 1

    def piece_for(target):
        number = int(target[1:])
        answer = answers[number].replace(b"whole", f"{number:05}".encode())
        close = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
        return answer.replace(b"HTTP/1.1 200 OK\r\n", close) if number in closes else answer

    while any(client.made[name].connection is not None for name in names):
        cancel_some()
        peer = origin.poll() or (origin.peers[-1] if origin.peers else None)
        if peer is None:
            client.settle()
            continue
        asked = targets(peer)
        data = b"".join(map(piece_for, asked))
        edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        for begin, end in itertools.pairwise(edges):
            try:
                peer.send(data[begin:end])
            except OSError:
                break
            cancel_some()
    for name, got in client:
        if isinstance(got, HttpRequest):
            assert bytes(got.input_buffer) == f"{int(name[1:]):05}".encode()
    answered = [name for name, got in client if isinstance(got, HttpRequest)]
    assert answered == [name for name in names if name not in cancelled]
    client.connection.close()
    origin.close()
