"""What stands above a connection asks of it: five questions, when it is idle, the upgrade."""

from __future__ import annotations

import pytest

from evsvc.core import EV_READ, EV_WRITE
from evsvc.http import ClientOptions, HttpRequest, InvalidResponse
from tests.http.outcomes import Outcomes
from tests.http.peers import response

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n"
ASKING = (("Connection", "upgrade"), ("Upgrade", "echo"))


def questions(connection):
    return (
        connection.is_available,
        connection.is_idle,
        connection.has_expired,
        connection.is_closed,
        connection.can_take(HttpRequest()),
    )


NEW = (True, False, False, False, True)
BUSY = (False, False, False, False, True)
IDLE = (True, True, False, False, True)
EXPIRED = (True, True, True, False, True)
CLOSED = (False, False, False, True, False)


class TestQuestions:
    def test_through_a_life(self, client, origin) -> None:
        connection = client.connection
        assert questions(connection) == NEW
        client.make("/a")
        assert questions(connection) == BUSY
        peer = origin.accept()
        peer.settle()
        assert questions(connection) == BUSY
        peer.send(response())
        client.wait(1)
        assert questions(connection) == IDLE
        peer.sock.close()
        assert questions(connection) == EXPIRED
        client.settle()
        assert questions(connection) == NEW
        connection.close()
        assert questions(connection) == CLOSED

    def test_bytes_that_nobody_asked_for(self, client, origin) -> None:
        client.make()
        peer = origin.accept()
        peer.send(response())
        client.wait(1)
        peer.sock.send(b"x")
        assert client.connection.has_expired

    def test_keep_alive_time(self, connect, origin, clock) -> None:
        client = Outcomes(connect(options=ClientOptions(idle_s=5.0)))
        client.make()
        origin.accept().send(response())
        client.wait(1)
        clock.advance(4.9)
        assert not client.connection.has_expired
        clock.advance(0.1)
        assert client.connection.has_expired
        client.make("/again")
        assert origin.accept().read_head()[0] == "GET /again HTTP/1.1"

    def test_a_full_queue_and_a_request_that_was_made(self, connect, origin) -> None:
        client = Outcomes(connect(options=ClientOptions(max_queued=2)))
        made = client.make()
        assert not client.connection.can_take(made)
        assert client.connection.can_take(HttpRequest())
        client.make()
        assert not client.connection.can_take(HttpRequest())


class TestIdleCallback:
    def test_after_the_last_of_the_queue(self, client, origin) -> None:
        client.connection.set_idle_cb(lambda *got: client.append(got), "arg")
        client.make("/a")
        client.make("/b")
        peer = origin.accept()
        peer.send(response())
        peer.send(response())
        client.wait(3)
        assert client[2] == (client.connection, "arg")
        assert [each for each, _ in client[:2]] == ["/a", "/b"]

    @pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", response("Connection: close")])
    def test_also_where_the_connection_has_ended(self, client, origin, answer) -> None:
        idle = []
        client.connection.set_idle_cb(lambda connection, arg: idle.append(connection.is_idle))
        client.make()
        origin.accept().send(answer)
        client.settle()
        assert idle == [False]

    def test_where_there_is_no_connection_to_be_had(self, client, origin) -> None:
        idle = []
        client.connection.set_idle_cb(lambda connection, arg: idle.append(connection.is_available))
        origin.stop()
        client.make("/a")
        client.make("/b")
        client.wait(2)
        client.settle()
        assert idle == [True]

    def test_it_may_ask_again_and_close(self, client, origin) -> None:
        def again(connection, arg):
            if len(client) == 1:
                client.make("/b")
            else:
                connection.close()

        client.connection.set_idle_cb(again)
        client.make("/a")
        peer = origin.accept()
        peer.send(response())
        peer.send(response())
        client.wait(2)
        assert client.given == [("/a", 200), ("/b", 200)]
        assert client.connection.is_closed


class TestUpgrade:
    def ask(self, client, method="GET", uri="/", fields=ASKING):
        seen = []
        request = HttpRequest(lambda *got: seen.append(("done", *got)), "arg")
        request.set_upgrade_cb(lambda *got: seen.append(got), "upgrade")
        for field in fields:
            request.output_headers.add(*field)
        client.connection.make_request(request, method, uri)
        return request, seen

    def test_hands_the_bufferevent_over_with_what_has_come(self, client, origin) -> None:
        request, seen = self.ask(client)
        peer = origin.accept()
        peer.send(SWITCHING + b"hello")
        (got, bev, rest, arg), *more = seen
        assert (got, rest, arg, more) == (request, b"hello", "upgrade", [])
        assert (request.response_code, request.input_headers.find("Upgrade")) == (101, "echo")
        assert bev.getcb() == (None, None, None, None)
        assert bev.enabled == EV_READ | EV_WRITE
        bev.write(b"to the server")
        peer.read_head()
        assert peer.read_bytes(13) == b"to the server"
        peer.send(b"to the client")
        assert bev.read() == b"to the client"
        bev.close()

    def test_the_connection_begins_anew(self, client, origin) -> None:
        _, seen = self.ask(client)
        client.make("/next")
        peer = origin.accept()
        peer.send(SWITCHING)
        second = origin.accept()
        second.send(response())
        client.wait(1)
        assert client.given == [("/next", 200)]
        client.connection.close()
        assert peer.is_open()
        seen[0][1].close()
        assert not peer.is_open()

    def test_no_time_out_is_left(self, client, origin, clock) -> None:
        _, seen = self.ask(client)
        peer = origin.accept()
        peer.send(SWITCHING)
        clock.advance(1000.0)
        assert peer.is_open()
        seen[0][1].close()

    def test_behind_connect(self, client, origin) -> None:
        _, seen = self.ask(client, "CONNECT", "example.org:443", ())
        peer = origin.accept()
        assert peer.read_head()[0] == "CONNECT example.org:443 HTTP/1.1"
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nSSH-2")
        assert seen[0][2] == b"SSH-2"
        seen[0][1].close()

    def test_another_answer_goes_the_usual_way(self, client, origin) -> None:
        request, seen = self.ask(client)
        origin.accept().send(response(status="403 Forbidden"))
        assert seen == [("done", request, "arg")]
        assert request.response_code == 403

    def test_101_that_nobody_has_asked_for_is_no_answer(self, client, origin) -> None:
        client.make()
        origin.accept().send(SWITCHING)
        assert type(client.made["/"].error) is InvalidResponse

    def test_idle_callback_follows(self, client, origin) -> None:
        idle = []
        client.connection.set_idle_cb(lambda connection, arg: idle.append(connection.is_idle))
        _, seen = self.ask(client)
        origin.accept().send(SWITCHING)
        assert idle == [False]
        seen[0][1].close()
