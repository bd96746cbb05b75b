"""How long and how much: time-outs by a fake clock, connections, requests, output."""

from __future__ import annotations

import pytest

from evsvc.core import ArgumentError
from evsvc.http.server.connection import PIPELINE_BYTES
from tests.http.peers import request

PART = b"GET / HTTP/1.1\r\nHos"
BODY_PART = request("/", "Content-Length: 3", method="POST") + b"a"

# The limits are unequal, and each is once the shortest and once the longest.
TIMES = [
    {"head_s": 5.0, "body_s": 7.0, "idle_s": 11.0, "write_s": 13.0},
    {"head_s": 11.0, "body_s": 13.0, "idle_s": 5.0, "write_s": 7.0},
]


def pass_time(clock, peer, seconds: float) -> None:
    """Let time pass in steps, as a loop with other work would see it."""
    for _ in range(4):
        clock.advance(seconds / 4)
        peer.settle()


@pytest.mark.parametrize("times", TIMES)
class TestTimeouts:
    def test_an_idle_connection_is_closed_without_a_word(self, serve, clock, times) -> None:
        site = serve(**times)
        peer = site.connect()
        pass_time(clock, peer, times["idle_s"] - 0.1)
        assert peer.is_open()
        pass_time(clock, peer, 0.1)
        assert peer.read_to_end() == b""
        assert site.server.connection_count == 0

    def test_after_a_reply_the_connection_is_idle_anew(self, serve, clock, times) -> None:
        peer = serve(lambda got, arg: got.send_reply(200), **times).connect()
        for data in (request("/"), request("/", method="POST", body=b"x")):
            pass_time(clock, peer, times["idle_s"] - 0.1)
            assert peer.ask(data).status == 200
        pass_time(clock, peer, times["idle_s"] - 0.1)
        assert peer.is_open()
        pass_time(clock, peer, 0.1)
        assert not peer.is_open()

    def test_after_a_slow_body_the_connection_is_idle_as_long(self, serve, clock, times) -> None:
        peer = serve(lambda got, arg: got.send_reply(200), **times).connect()
        peer.send(BODY_PART)
        peer.send(b"bc")
        assert peer.read_message().status == 200
        pass_time(clock, peer, times["idle_s"] - 0.1)
        assert peer.is_open()
        pass_time(clock, peer, 0.1)
        assert not peer.is_open()

    def test_a_head_that_does_not_end_is_408(self, serve, clock, times) -> None:
        peer = serve(**times).connect()
        peer.send(PART)
        pass_time(clock, peer, times["head_s"] - 0.1)
        peer.send(b"t")  # a byte now and then does not help
        assert peer.is_open()
        assert not peer.received
        pass_time(clock, peer, 0.1)
        reply = peer.read_message()
        assert (reply.status, reply.field("Connection")) == (408, "close")

    def test_each_head_has_its_own_time(self, serve, clock, times) -> None:
        peer = serve(lambda got, arg: got.send_reply(200), **times).connect()
        peer.send(PART)
        pass_time(clock, peer, times["head_s"] - 0.1)
        peer.send(b"t: h\r\n\r\n" + PART)
        assert peer.read_message().status == 200
        pass_time(clock, peer, times["head_s"] - 0.1)
        assert peer.is_open()
        pass_time(clock, peer, 0.1)
        assert peer.read_message().status == 408

    def test_a_head_that_waited_behind_a_late_reply_has_its_own_time(
        self, serve, clock, times
    ) -> None:
        site = serve(**times)
        peer = site.connect()
        peer.send(PART)
        peer.send(b"t: h\r\n\r\n" + PART)
        pass_time(clock, peer, 1000)
        site.requests[0].send_reply(200)
        assert peer.read_message().status == 200
        pass_time(clock, peer, times["head_s"] - 0.1)
        assert peer.is_open()
        pass_time(clock, peer, 0.1)
        assert peer.read_message().status == 408

    def test_silence_inside_a_body_is_408(self, serve, clock, times) -> None:
        site = serve(**times)
        peer = site.connect()
        peer.send(BODY_PART)
        pass_time(clock, peer, times["body_s"] - 0.1)
        peer.send(b"b")
        pass_time(clock, peer, times["body_s"] - 0.1)
        assert peer.is_open()
        assert not peer.received
        pass_time(clock, peer, 0.1)
        assert peer.read_message().status == 408
        assert site.requests == []

    def test_the_program_may_take_as_long_as_it_likes(self, serve, clock, times) -> None:
        site = serve(**times)
        peer = site.connect()
        peer.send(request("/"))
        pass_time(clock, peer, 100_000)
        site.requests[0].send_reply(200)
        assert peer.read_message().status == 200
        pass_time(clock, peer, times["idle_s"] - 0.1)
        assert peer.is_open()
        pass_time(clock, peer, 0.1)
        assert not peer.is_open()

    def test_a_client_that_takes_nothing_is_dropped(self, serve, clock, times) -> None:
        site = serve(lambda got, arg: got.send_reply(200, None, b"x" * 16_000_000), **times)
        peer = site.connect(receive_bytes=4096)
        peer.send(request("/"))
        pass_time(clock, peer, times["write_s"] - 0.1)
        assert site.server.connection_count == 1
        pass_time(clock, peer, 0.1)
        assert site.server.connection_count == 0

    def test_a_client_that_takes_a_little_is_served_to_the_end(self, serve, clock, times) -> None:
        """Slower than every limit together, but never silent.

        The kernel may hold 4 MB, so that much can be taken without the server being asked for
        more; what is taken within `write_s` is beyond it.
        """
        size = 40_000_000
        site = serve(
            lambda got, arg: got.send_reply(200, None, b"x" * size),
            **times,
            max_output_bytes=2 * size,
        )
        peer = site.connect(receive_bytes=4096)
        peer.sock.send(request("/"))
        peer.settle()
        taken = 0
        while taken < size // 2:
            taken += len(peer.read_bytes(1_500_000))
            peer.received.clear()
            pass_time(clock, peer, times["write_s"] / 5)
            assert site.server.connection_count == 1


def test_set_timeout_sets_every_limit(serve, clock) -> None:
    site = serve()
    site.server.set_timeout(3.0)
    peer = site.connect()
    clock.advance(2.9)
    assert peer.is_open()
    clock.advance(0.2)
    assert not peer.is_open()
    options = site.server.options
    assert (options.head_s, options.body_s, options.idle_s, options.write_s) == (3.0,) * 4


class TestConnections:
    def test_one_too_many_gets_a_complete_503(self, serve) -> None:
        site = serve(lambda got, arg: got.send_reply(200), max_connections=2)
        first, second = site.connect(), site.connect()
        third = site.connect()
        third.send(request("/"))
        reply = third.read_message()
        assert (reply.status, reply.field("Connection")) == (503, "close")
        third.half_close()
        assert third.read_to_end() == b""
        assert first.get().status == second.get().status == 200
        second.half_close()
        assert site.server.connection_count == 1
        assert site.connect().get().status == 200

    def test_the_limit_can_change(self, serve) -> None:
        site = serve(lambda got, arg: got.send_reply(200))
        site.connect()
        site.server.set_max_connections(1)
        assert site.connect().read_message().status == 503


class TestRequests:
    def test_the_last_of_max_requests_closes(self, serve) -> None:
        peer = serve(lambda got, arg: got.send_reply(200), max_requests=3).connect()
        peer.send(request("/") * 4)
        replies = [peer.read_message() for _ in range(3)]
        assert [reply.field("Connection") for reply in replies] == [None, None, "close"]
        assert peer.read_to_end() == b""


class TestOutput:
    def test_a_client_that_never_reads_is_read_no_further(self, serve) -> None:
        """1,000 replies of 64 KiB are asked for; a few stay in memory."""
        count = 0

        def answer(got, arg):
            nonlocal count
            count += 1
            got.send_reply(200, None, b"x" * 65536)

        site = serve(answer, max_output_bytes=256 * 1024)
        peer = site.connect(receive_bytes=4096)
        (connection,) = site.server._connections
        peer.sock.send(request("/") * 1000)
        peer.settle()
        answered = count
        assert answered < 200
        assert len(connection.carrier.output) <= 256 * 1024 + 65536 + 1024
        for _ in range(answered):
            assert peer.read_message().status == 200
        peer.until(lambda: count > answered)
        for _ in range(1000 - answered):
            assert peer.read_message().status == 200
        assert peer.is_open()

    @pytest.mark.parametrize("beyond", [0, 1])
    def test_the_backlog_begins_one_byte_beyond_the_limit(self, serve, beyond) -> None:
        waiting = []

        def answer(got, arg):
            output = got.connection.bufferevent.output
            waiting.append(len(output))
            got.send_reply(200, None, b"x" * 1000)
            waiting.append(len(output))

        serve(answer).connect().get()
        _, size = waiting
        waiting.clear()

        serve(answer, max_output_bytes=size - beyond).connect().send(request("/a") + request("/b"))
        if beyond:
            assert waiting == [0, size, 0, size]
        else:
            assert waiting == [0, size, size, 2 * size]

    def test_what_is_pipelined_behind_a_request_in_hand_is_bounded(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.sock.send(request("/first"))
        peer.settle()
        (connection,) = site.server._connections
        peer.sock.send(request("/more") * 20_000)
        peer.settle()
        read_ahead = connection._reader.buffered
        assert PIPELINE_BYTES < read_ahead <= PIPELINE_BYTES + 16384
        peer.settle()
        assert connection._reader.buffered == read_ahead
        for number in range(5000):
            site.requests[number].send_reply(200)
            peer.turn()
            peer.take()
            peer.received.clear()
        assert len(site.requests) > 5000


class TestOptions:
    def test_a_refused_set_changes_nothing(self, serve) -> None:
        server = serve().server
        before, methods = server.options, server.service.methods
        for call in (
            lambda: server.set_max_connections(0),
            lambda: server.set_max_headers_size(-1),
            lambda: server.set_max_body_size(-1),
            lambda: server.set_timeout(0),
            lambda: server.set_allowed_methods(0),
            lambda: server.set_allowed_methods(1 << 20),
        ):
            with pytest.raises(ArgumentError):
                call()
        assert server.options == before
        assert server.service.methods == methods

    def test_a_connection_keeps_the_options_with_which_it_came(self, serve) -> None:
        site = serve(lambda got, arg: got.send_reply(200))
        old = site.connect()
        site.server.set_max_body_size(1)
        site.server.set_max_headers_size(100)
        assert old.ask(request("/", method="POST", body=b"xyz")).status == 200
        assert site.connect().ask(request("/", method="POST", body=b"xyz")).status == 413
        assert site.connect().get("/" + "x" * 100).status == 431
        site.server.set_max_body_size(None)
        assert site.connect().ask(request("/", method="POST", body=b"xyz")).status == 200
