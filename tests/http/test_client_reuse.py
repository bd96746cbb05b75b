"""A connection that is used again: looked at before, gone over a new one, bounded as a whole."""

from __future__ import annotations

import pytest

from evsvc.core import ArgumentError
from evsvc.http import ClientOptions
from evsvc.http.errors import ConnectionClosed, InvalidResponse, RequestTimeout
from tests.http.outcomes import Outcomes
from tests.http.peers import response

INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"


def first_answered(client, origin):
    """Have a request answered on a new connection; return the server's end of it."""
    client.make("/first")
    peer = origin.accept()
    peer.read_head()
    peer.send(response())
    client.wait(1)
    return peer


class TestLookedAtBefore:
    def test_bytes_that_nobody_asked_for_are_no_answer(self, client, origin) -> None:
        peer = first_answered(client, origin)
        peer.sock.send(response(status="408 Request Timeout"))
        client.make("/second")  # before the loop could see them
        peer = origin.accept()
        assert peer.read_head()[0] == "GET /second HTTP/1.1"
        peer.send(response())
        client.wait(2)
        assert client.given == [("/first", 200), ("/second", 200)]

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_one_that_the_server_has_closed_is_not_used(self, client, origin, method) -> None:
        peer = first_answered(client, origin)
        peer.sock.close()
        client.make("/second", method)
        peer = origin.accept()
        assert peer.read_head()[0] == f"{method} /second HTTP/1.1"
        peer.send(response())
        client.wait(2)
        assert client.given == [("/first", 200), ("/second", 200)]

    def test_one_that_is_fine_is_used(self, client, origin) -> None:
        peer = first_answered(client, origin)
        client.make("/second")
        client.settle()
        assert peer.read_head()[0] == "GET /second HTTP/1.1"
        assert origin.poll() is None


class TestOnceMore:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"])
    def test_an_idempotent_request_goes_over_a_new_connection(self, client, origin, method) -> None:
        peer = first_answered(client, origin)
        client.make("/second", method, body=b"" if method != "PUT" else b"body")
        client.settle()
        peer.read_head()
        peer.close()
        peer = origin.accept()
        assert peer.read_head()[0] == f"{method} /second HTTP/1.1"
        if method == "PUT":
            peer.receive_until(lambda: peer.received == b"body")
        peer.send(response())
        client.wait(2)
        assert client.given == [("/first", 200), ("/second", 200)]
        assert client.made["/second"].went_again

    @pytest.mark.parametrize("method", ["POST", "PATCH"])
    def test_another_that_was_sent_does_not(self, client, origin, method) -> None:
        peer = first_answered(client, origin)
        client.make("/second", method)
        client.settle()
        peer.read_head()
        peer.close()
        client.wait(3)
        assert type(client.made["/second"].error) is ConnectionClosed
        assert origin.poll() is None

    def test_not_a_third_time(self, client, origin) -> None:
        peer = first_answered(client, origin)
        client.make("/second")
        client.settle()
        peer.read_head()
        peer.close()
        peer = origin.accept()
        peer.read_head()
        peer.close()
        client.wait(3)
        assert type(client.made["/second"].error) is ConnectionClosed
        assert origin.poll() is None

    def test_not_on_a_connection_that_never_brought_an_answer(self, client, origin) -> None:
        client.make("/first")
        peer = origin.accept()
        peer.read_head()
        peer.close()
        client.wait(2)
        assert type(client.made["/first"].error) is ConnectionClosed
        assert origin.poll() is None

    @pytest.mark.parametrize(
        "begun", [b"H", INTERIM, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"]
    )
    def test_not_when_an_answer_has_begun(self, client, origin, begun) -> None:
        peer = first_answered(client, origin)
        client.make("/second")
        client.settle()
        peer.read_head()
        peer.send(begun)
        peer.close()
        client.wait(3)
        assert type(client.made["/second"].error) is ConnectionClosed
        assert origin.poll() is None

    def test_not_where_it_is_switched_off(self, connect, origin) -> None:
        client = Outcomes(connect(options=ClientOptions(retry=False)))
        peer = first_answered(client, origin)
        client.make("/second")
        client.settle()
        peer.read_head()
        peer.close()
        client.wait(3)
        assert client.made["/second"].error is not None

    def test_a_queue_over_a_server_that_closes_after_each_answer(self, client, origin) -> None:
        for number in range(5):
            client.make(f"/{number}")
        for _ in range(5):
            peer = origin.accept()
            peer.read_head()
            peer.send(response())
            peer.close()
        client.wait(5)
        assert client.given == [(f"/{number}", 200) for number in range(5)]


class TestTheWholeExchange:
    @pytest.mark.parametrize(("count", "fails"), [(3, False), (4, True)])
    def test_interim_responses_are_counted(self, connect, origin, count, fails) -> None:
        client = Outcomes(connect(options=ClientOptions(max_interim=3)))
        client.make("/")
        peer = origin.accept()
        peer.read_head()
        peer.send(INTERIM * count + response())
        client.wait(2 if fails else 1)
        error = client.made["/"].error
        assert type(error) is InvalidResponse if fails else error is None

    def test_they_are_counted_for_each_request(self, connect, origin) -> None:
        client = Outcomes(connect(options=ClientOptions(max_interim=3)))
        client.make("/a")
        client.make("/b")
        peer = origin.accept()
        for _ in range(2):
            peer.read_head()
            peer.send(INTERIM * 3 + response())
        client.wait(2)
        assert client.given == [("/a", 200), ("/b", 200)]

    def test_it_has_a_time_that_no_sign_of_life_prolongs(self, connect, origin, clock) -> None:
        client = Outcomes(connect(options=ClientOptions(exchange_s=10.0, read_s=3.0)))
        client.make("/")
        peer = origin.accept()
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in range(4):
            clock.advance(2.4)
            peer.send(b"x")
        assert not client
        clock.advance(0.5)
        client.wait(2)
        assert type(client.made["/"].error) is RequestTimeout
        assert peer.read_to_end() == b""

    def test_the_wait_in_line_is_in_it(self, connect, origin, clock) -> None:
        client = Outcomes(connect(options=ClientOptions(exchange_s=10.0)))
        client.make("/a")
        peer = origin.accept()
        peer.read_head()
        clock.advance(6)
        client.make("/b")
        clock.advance(4)
        client.wait(2)
        assert client == [("/a", client[0][1]), ("/a", None)]
        assert client.made["/b"].error is None
        peer = origin.accept()
        assert peer.read_head()[0] == "GET /b HTTP/1.1"
        clock.advance(6)
        client.wait(4)
        assert type(client.made["/b"].error) is RequestTimeout

    def test_one_that_waits_ends_alone(self, connect, origin, clock) -> None:
        connection = connect()
        client = Outcomes(connection)
        client.make("/a")
        peer = origin.accept()
        peer.read_head()
        connection.options = ClientOptions(exchange_s=1.0)
        client.make("/b")
        clock.advance(1)
        client.wait(2)
        assert type(client.made["/b"].error) is RequestTimeout
        peer.send(response())
        client.wait(3)
        assert client.given[-1] == ("/a", 200)

    @pytest.mark.parametrize("name", ["max_interim", "exchange_s"])
    def test_the_limits_are_positive(self, name) -> None:
        with pytest.raises(ArgumentError, match=name):
            ClientOptions(**{name: 0})
