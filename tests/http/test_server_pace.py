"""Clients that are slow without being silent, and bodies that are too much together."""

from __future__ import annotations

import logging

import pytest

from evsvc.core import EvBuffer
from evsvc.http import ServerOptions
from evsvc.http.server.pace import BodyPace, OutputPace
from tests.http.conftest import echo
from tests.http.peers import request

# What a body may cost in these tests; the silence that is allowed is longer than any step.
PACE = {"body_s": 30.0, "body_min_bytes_per_s": 10, "body_grace_s": 20.0, "idle_s": 1000.0}


def trickle(peer, clock, pieces: int, size: int, seconds: float) -> None:
    """Send pieces of a body, one each so many seconds."""
    for _ in range(pieces):
        clock.advance(seconds)
        peer.send(b"x" * size)


class TestBodyPace:
    def options(self, **terms) -> ServerOptions:
        return ServerOptions(**PACE, **terms)

    def test_silence(self) -> None:
        pace = BodyPace(100.0)
        assert pace.left(100.0, ServerOptions(body_s=30, body_min_bytes_per_s=None)) == 30
        pace.note(110.0, 1)
        assert pace.left(115.0, ServerOptions(body_s=30, body_min_bytes_per_s=None)) == 25

    def test_a_rate_beside_a_grace(self) -> None:
        pace = BodyPace(100.0)
        assert pace.left(100.0, self.options()) == 20
        pace.note(101.0, 50)
        assert pace.left(101.0, self.options()) == 24  # 20 s and 5 s that 50 bytes have earned

    def test_a_time_in_all(self) -> None:
        pace = BodyPace(100.0)
        pace.note(139.0, 1_000_000)
        assert pace.left(139.0, self.options(body_total_s=40.0)) == 1

    def test_a_time_in_which_it_is_held_back_does_not_count(self) -> None:
        pace = BodyPace(100.0)
        pace.hold(110.0)
        pace.hold(150.0)
        pace.go_on(1110.0)
        assert pace.left(1110.0, self.options(body_total_s=40.0)) == 10
        pace.go_on(1112.0)
        assert pace.left(1112.0, self.options(body_total_s=40.0)) == 8


class TestBodies:
    def test_one_that_trickles_is_refused_when_its_rate_is_too_low(self, serve, clock) -> None:
        peer = serve(echo, **PACE).connect()
        peer.send(request("/", "Content-Length: 1000", method="POST"))
        trickle(peer, clock, 5, 5, 4.9)  # 25 bytes earn 2.5 s, 20 s are free: late at 22.5 s
        assert peer.read_message().status == 408

    def test_one_at_just_the_rate_goes_through(self, serve, clock) -> None:
        peer = serve(echo, **PACE).connect()
        peer.send(request("/", "Content-Length: 1000", method="POST"))
        trickle(peer, clock, 20, 50, 5.0)
        assert peer.read_message().status == 200

    def test_without_a_lowest_rate_only_silence_counts(self, serve, clock) -> None:
        peer = serve(echo, **PACE | {"body_min_bytes_per_s": None}).connect()
        peer.send(request("/", "Content-Length: 20", method="POST"))
        trickle(peer, clock, 20, 1, 29.0)
        assert peer.read_message().status == 200

    def test_a_time_in_all_ends_even_a_fast_one(self, serve, clock) -> None:
        peer = serve(echo, **PACE, body_total_s=40.0).connect()
        peer.send(request("/", "Content-Length: 1000000", method="POST"))
        trickle(peer, clock, 8, 1000, 4.9)
        assert peer.is_open()
        clock.advance(1.0)
        assert peer.read_message().status == 408

    @pytest.mark.parametrize("earned_bytes", [0, 50])
    @pytest.mark.parametrize(("early_s", "is_late"), [(0.001, False), (0.0, True)])
    def test_the_grace_and_what_is_earned_end_to_the_moment(
        self, serve, clock, earned_bytes, early_s, is_late
    ) -> None:
        peer = serve(echo, **PACE).connect()
        peer.send(request("/", "Content-Length: 1000", method="POST"))
        clock.advance(10.0)
        peer.send(b"x" * earned_bytes)
        clock.advance(10.0 + earned_bytes / 10 - early_s)
        peer.settle()
        peer.take()
        assert peer.received.startswith(b"HTTP/1.1 408 ") == is_late
        if not is_late:
            peer.send(b"x" * (1000 - earned_bytes))
            assert peer.read_message().status == 200

    @pytest.mark.parametrize(("early_s", "status"), [(0.001, 200), (0.0, 408)])
    def test_the_time_in_all_ends_to_the_moment(self, serve, clock, early_s, status) -> None:
        options = PACE | {"body_total_s": 40.0, "body_min_bytes_per_s": None}
        peer = serve(echo, **options).connect()
        peer.send(request("/", "Content-Length: 9", method="POST"))
        trickle(peer, clock, 8, 1, 4.5)
        clock.advance(4.0 - early_s)
        peer.settle()
        if status == 200:
            peer.send(b"x")
        assert peer.read_message().status == status

    def test_the_next_body_begins_anew(self, serve, clock) -> None:
        peer = serve(echo, **PACE).connect()
        for _ in range(3):
            peer.send(request("/", "Content-Length: 10", method="POST"))
            trickle(peer, clock, 2, 5, 9.0)
            assert peer.read_message().status == 200

    def test_a_program_that_pauses_is_not_the_clients_fault(self, serve, clock) -> None:
        taken, ended, held = [], [], []

        def take(got, arg):
            held.append(got)
            got.set_body_cbs(
                lambda got, data, arg: (taken.append(data), got.pause_body()),
                lambda got, is_whole, arg: (ended.append(is_whole), got.send_reply(204)),
            )

        site = serve(**PACE, body_total_s=40.0)
        site.server.set_gencb(take, streams=True)
        peer = site.connect()
        peer.send(request("/", "Content-Length: 30", method="POST") + b"x" * 10)
        peer.settle()
        clock.advance(500.0)
        assert peer.is_open()
        assert taken == [b"x" * 10]
        held[0].resume_body()
        peer.send(b"y" * 20)
        peer.settle()
        clock.advance(500.0)
        peer.settle()
        held[0].resume_body()
        peer.settle()
        assert ended == [True]
        assert peer.read_message(has_body=False).status == 204

    def test_a_slow_stream_is_refused_and_told(self, serve, clock) -> None:
        ended = []
        site = serve(**PACE)
        site.server.set_gencb(
            lambda got, arg: got.set_body_cbs(
                lambda *args: None, lambda got, is_whole, arg: ended.append(is_whole)
            ),
            streams=True,
        )
        peer = site.connect()
        peer.send(request("/", "Content-Length: 1000", method="POST"))
        trickle(peer, clock, 5, 5, 4.9)
        assert ended == [False]
        assert peer.read_message().status == 408

    def test_a_handler_that_is_slow_is_not_the_clients_fault(self, serve, clock) -> None:
        site = serve(**PACE)
        peer = site.connect()
        peer.send(request("/", "Content-Length: 2", method="POST") + b"x")
        peer.send(b"y")
        clock.advance(900.0)
        peer.settle()
        site.requests[0].send_reply(200, None, b"late")
        assert peer.read_message().body == b"late"


class TestBodiesTogether:
    def upload(self, site, size: int):
        """A client that has sent all of a body but its last byte."""
        peer = site.connect()
        peer.send(request("/", f"Content-Length: {size}", method="POST"))
        peer.send(b"x" * (size - 1))
        return peer

    def test_they_may_take_so_much_and_no_more(self, serve) -> None:
        site = serve(max_bodies_bytes=20_000)
        first = self.upload(site, 10_001)
        second = self.upload(site, 10_001)
        assert site.server.service.bodies_bytes == 20_000
        third = self.upload(site, 2)
        refusal = third.read_message()
        assert (refusal.status, refusal.field("Retry-After")) == (503, "1")
        assert refusal.field("Connection") == "close"
        assert site.server.service.bodies_bytes == 20_000
        first.close()
        second.settle()
        assert site.server.service.bodies_bytes == 10_000
        self.upload(site, 10_000).settle()
        second.send(b"x")
        assert len(site.requests) == 1
        site.requests[0].send_reply(200)
        assert second.read_message().status == 200
        assert site.server.service.bodies_bytes == 9_999

    def test_what_the_program_has_in_hand_counts(self, serve) -> None:
        site = serve(max_bodies_bytes=10_000)
        first = self.upload(site, 10_000)
        first.send(b"x")
        assert len(site.requests) == 1
        assert self.upload(site, 10).read_message().status == 503
        site.requests[0].send_reply(200)
        assert first.read_message().status == 200
        peer = self.upload(site, 10)
        peer.send(b"x")
        assert len(site.requests) == 2

    def test_one_that_is_too_much_at_once_is_refused_at_once(self, serve) -> None:
        peer = serve(max_bodies_bytes=10).connect()
        peer.send(request("/", "Content-Length: 100", method="POST") + b"x" * 11)
        assert peer.read_message().status == 503

    @pytest.mark.parametrize(("size", "line"), [(10, "100 Continue"), (11, "503 Service")])
    def test_who_asks_before_is_told_before(self, serve, size, line) -> None:
        peer = serve(max_bodies_bytes=10).connect()
        lines = (f"Content-Length: {size}", "Expect: 100-continue")
        peer.send(request("/", *lines, method="POST"))
        assert peer.read_head()[0].startswith(f"HTTP/1.1 {line}")

    def test_a_stream_does_not_count(self, serve) -> None:
        site = serve(max_bodies_bytes=10)
        site.server.set_gencb(
            lambda got, arg: got.set_body_cbs(
                lambda *args: None, lambda got, is_whole, arg: got.send_reply(204)
            ),
            streams=True,
        )
        peer = self.upload(site, 10_000)
        peer.send(b"x")
        assert peer.read_message(has_body=False).status == 204

    @pytest.mark.parametrize("end", ["refused", "gone", "taken over"])
    def test_nothing_stays_in_the_account(self, serve, end) -> None:
        site = serve(max_body_bytes=20_000)
        peer = site.connect()
        peer.send(request("/", "Transfer-Encoding: chunked", method="POST") + b"1\r\nx\r\n")
        peer.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        assert site.server.service.bodies_bytes == 4097
        if end == "refused":
            peer.send(b"zz\r\n")
            assert peer.read_message().status == 400
        elif end == "gone":
            peer.reset()
        else:
            peer.send(b"0\r\n\r\n")
            site.requests[0].take_over()[0].close()
        peer.settle()
        assert site.server.service.bodies_bytes == 0


class TestOutputPace:
    def test_what_is_taken_is_held_against_the_rate(self) -> None:
        options = ServerOptions(write_min_bytes_per_s=10, write_grace_s=5.0)
        buffer = EvBuffer()
        buffer.add(b"x" * 1000)
        pace = OutputPace(buffer, 100.0)
        assert not pace.is_too_slow(105.0, options)
        assert pace.is_too_slow(105.1, options)
        buffer.drain(100)
        buffer.add(b"more")
        assert not pace.is_too_slow(115.0, options)
        assert pace.is_too_slow(115.1, options)
        assert not pace.is_too_slow(1e9, ServerOptions(write_min_bytes_per_s=None))
        pace.close()
        buffer.drain(900)
        assert pace.is_too_slow(115.1, options)

    @pytest.mark.parametrize("last", [True, False])
    def test_a_client_that_takes_too_little_is_dropped(self, serve, clock, caplog, last) -> None:
        """By steps that are no silence: at first it is only looked at."""
        size = 40_000_000
        times = {"idle_s": 10.0, "write_s": 50.0, "write_grace_s": 50.0}
        site = serve(
            lambda got, arg: got.send_reply(200, None, b"x" * size),
            **times,
            write_min_bytes_per_s=1_000_000,
            max_output_bytes=2 * size,
        )
        peer = site.connect(receive_bytes=4096)
        peer.sock.send(request("/", *(["Connection: close"] if last else [])))
        peer.settle()
        with caplog.at_level(logging.INFO, logger="evsvc.http"):
            steps = 0
            while site.server.connection_count:
                peer.read_bytes(500_000)
                peer.received.clear()
                clock.advance(9.9)
                peer.settle()
                steps += 1
        assert 6 <= steps < 12
        assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
            "takes its reply too slowly"
        ]

    def test_one_that_takes_enough_is_served_to_the_end(self, serve, clock) -> None:
        size = 20_000_000
        site = serve(
            lambda got, arg: got.send_reply(200, None, b"x" * size),
            idle_s=10.0,
            write_s=50.0,
            write_grace_s=50.0,
            write_min_bytes_per_s=50_000,
            max_output_bytes=2 * size,
        )
        peer = site.connect(receive_bytes=4096)
        peer.sock.send(request("/"))
        peer.settle()
        taken = 0
        while taken < size // 2:
            taken += len(peer.read_bytes(500_000)) + len(peer.received)
            peer.received.clear()
            clock.advance(9.0)
            peer.settle()
            assert site.server.connection_count == 1

    def test_a_program_that_is_slow_with_a_stream_is_not_the_clients_fault(
        self, serve, clock
    ) -> None:
        """The client takes what there is; then there is nothing for long, and then again."""
        site = serve(idle_s=10.0, write_s=500.0, write_grace_s=20.0)
        peer = site.connect(receive_bytes=4096)
        peer.send(request("/"))
        (got,) = site.requests
        got.send_reply_start(200)
        for _ in range(2):
            got.send_reply_chunk(b"x" * 10_000_000)
            peer.settle()
            clock.advance(10.0)
            peer.settle()
            peer.until(lambda: (peer.take(), peer.received.clear(), not unsent(got))[2])
            for _ in range(5):
                clock.advance(10.0)
                peer.settle()
                assert site.server.connection_count == 1
        got.send_reply_end()


def unsent(got) -> int:
    """How much of a reply waits to be sent."""
    return len(got.connection.bufferevent.output)


class TestAnnouncedTime:
    def test_it_is_told_where_the_connection_lives_on(self, serve) -> None:
        peer = serve(echo, announces_keep_alive=True, idle_s=7.5).connect()
        reply = peer.get()
        assert reply.field("Keep-Alive") == "timeout=7"
        assert reply.all("Connection") == ["keep-alive"]
        reply = peer.get("/", "Connection: keep-alive", version="1.0")
        assert reply.field("Keep-Alive") == "timeout=7"
        assert reply.all("Connection") == ["keep-alive"]
        reply = peer.get("/", "Connection: close")
        assert (reply.field("Keep-Alive"), reply.field("Connection")) == (None, "close")

    def test_without_the_option_nobody_is_told(self, serve) -> None:
        reply = serve(echo).connect().get()
        assert (reply.field("Keep-Alive"), reply.field("Connection")) == (None, None)
