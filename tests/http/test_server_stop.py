"""A graceful stop with an end: what is told, what is waited for, and for how long."""

from __future__ import annotations

import logging

import pytest

from evsvc.core import (
    EV_READ,
    EV_WRITE,
    EVLOOP_NONBLOCK,
    ArgumentError,
    ArgumentTypeError,
    PairBufferEvent,
)
from evsvc.http import EventStream, EventStreamOptions
from evsvc.http.server.server import GOING_AWAY
from tests.http.peers import request


def start_stream(got, arg) -> None:
    got.send_reply_start(200)
    got.send_reply_chunk(b"one")


class TestDeadline:
    def test_what_is_left_then_is_closed(self, serve, clock, caplog) -> None:
        site = serve(start_stream)
        peer = site.connect()
        peer.send(request("/"))
        done = []
        site.server.shutdown(done.append, deadline_s=5)
        clock.advance(4.9)
        assert peer.is_open()
        assert done == []
        with caplog.at_level(logging.WARNING, logger="evsvc.http"):
            clock.advance(0.1)
            assert not peer.is_open()
        assert done == [site.server]
        assert [record.getMessage() for record in caplog.records] == [
            "the stop took too long: 1 connections are closed"
        ]

    def test_one_that_is_not_needed_leaves_nothing_behind(self, serve, clock, caplog) -> None:
        site = serve(start_stream)
        held = []
        site.server.set_gencb(lambda got, arg: held.append(got))
        peer = site.connect()
        peer.send(request("/"))
        done = []
        site.server.shutdown(done.append, deadline_s=5)
        held[0].send_reply(200, None, b"last")
        assert peer.read_to_end().endswith(b"last")
        assert done == [site.server]
        assert site.base.dispatch() == 1  # nothing is left to wait for
        clock.advance(10)
        peer.settle()
        assert caplog.records == []

    def test_without_a_connection_it_is_done_at_once(self, serve) -> None:
        site = serve()
        done = []
        site.server.shutdown(done.append, deadline_s=5)
        assert done == [site.server]

    def test_another_call_sets_another_one(self, serve, clock) -> None:
        site = serve(start_stream)
        peer = site.connect()
        peer.send(request("/"))
        done = []
        site.server.shutdown(deadline_s=1)
        site.server.shutdown(done.append, deadline_s=20)
        clock.advance(19.9)
        assert peer.is_open()
        site.server.shutdown(done.append)
        clock.advance(20)
        assert peer.is_open()
        site.server.close()
        assert done == [site.server]

    def test_0_seconds_are_over_in_the_next_pass(self, serve, clock) -> None:
        site = serve(start_stream)
        peer = site.connect()
        peer.send(request("/"))
        site.server.shutdown(deadline_s=0)
        peer.settle()
        assert not peer.is_open()

    @pytest.mark.parametrize(("wrong", "error"), [(-1, ArgumentError), ("5", ArgumentTypeError)])
    def test_what_is_no_time_is_refused_at_the_call(self, serve, wrong, error) -> None:
        site = serve()
        with pytest.raises(error, match=str(wrong)):
            site.server.shutdown(deadline_s=wrong)
        assert site.connect().get  # it still listens
        assert not site.server.closing


def test_a_pair_that_is_served_is_waited_for_too(serve, clock) -> None:
    site = serve(start_stream)
    near, far = PairBufferEvent.new(site.base)
    site.server.serve(near)
    far.enable(EV_READ | EV_WRITE)
    far.write(request("/"))
    for _ in range(5):
        site.base.loop(EVLOOP_NONBLOCK)
    done = []
    site.server.shutdown(done.append, deadline_s=3)
    assert done == []
    clock.advance(3)
    site.base.loop(EVLOOP_NONBLOCK)
    assert done == [site.server]


class StubbornSession:
    """What has taken a connection over, and does not end when it is told to."""

    def __init__(self, server) -> None:
        self.server = server
        self.told: list[object] = []

    def shutdown(self, code) -> None:
        self.told.append(code)

    def close(self) -> None:
        self.told.append("closed")
        self.server.forget_session(self)


def test_a_session_is_told_first_and_closed_at_the_deadline(serve, clock) -> None:
    site = serve()
    session = StubbornSession(site.server)
    site.server.adopt_session(session)
    done = []
    site.server.shutdown(done.append, deadline_s=3)
    assert session.told == [GOING_AWAY]
    clock.advance(2.9)
    site.base.loop(EVLOOP_NONBLOCK)
    assert (session.told, done) == ([GOING_AWAY], [])
    clock.advance(0.1)
    site.base.loop(EVLOOP_NONBLOCK)
    assert (session.told, done) == ([GOING_AWAY, "closed"], [site.server])


def test_an_event_stream_is_told_first_and_closed_at_the_deadline(serve, clock) -> None:
    streams = []
    options = EventStreamOptions(stop_grace_s=100.0)
    site = serve(lambda got, arg: streams.append(EventStream(got, options)))
    peer = site.connect()
    peer.send(request("/"))
    done = []
    site.server.shutdown(done.append, deadline_s=3)
    peer.settle()
    peer.take()
    assert b"event: stop" in peer.received
    assert peer.is_open()
    clock.advance(3)
    assert not peer.is_open()
    assert done == [site.server]


class TestIdleTime:
    """`idle_s`: a request that was under way when the stop began is answered."""

    def test_who_was_told_to_stay_may_ask_once_more(self, serve, clock) -> None:
        site = serve(lambda got, arg: got.send_reply(200, None, b"yes"))
        used, fresh = site.connect(), site.connect()
        assert used.get().field("Connection") is None
        done = []
        site.server.shutdown(done.append, idle_s=1)
        for peer in (used, fresh):
            assert peer.is_open()
            assert peer.get().field("Connection") == "close"
            assert not peer.is_open()
        assert done == [site.server]

    def test_who_says_nothing_is_let_go_at_its_end(self, serve, clock) -> None:
        site = serve(lambda got, arg: got.send_reply(200))
        peer = site.connect()
        peer.get()
        done = []
        site.server.shutdown(done.append, idle_s=1)
        clock.advance(0.9)
        assert peer.is_open()
        clock.advance(0.1)
        assert not peer.is_open()
        assert done == [site.server]

    def test_a_request_in_hand_is_told_that_it_is_the_last(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/a"))
        site.server.shutdown(idle_s=1)
        site.requests[0].send_reply(200)
        assert peer.read_message().field("Connection") == "close"
        assert not peer.is_open()

    def test_a_reply_that_has_begun_has_promised_more(self, serve, clock) -> None:
        site = serve(start_stream)
        held = []
        site.server.set_gencb(lambda got, arg: (held.append(got), start_stream(got, arg)))
        peers = [site.connect(), site.connect()]
        for peer in peers:
            peer.send(request("/"))
        site.server.shutdown(idle_s=1)
        for got, peer in zip(held, peers, strict=True):
            got.send_reply_end()
            assert peer.read_message().field("Connection") is None
        first, second = peers
        site.server.set_gencb(lambda got, arg: got.send_reply(200))
        assert first.get().field("Connection") == "close"
        clock.advance(1)
        assert not second.is_open()

    def test_a_client_that_takes_its_time_may_ask_once_more(self, serve) -> None:
        body = b"x" * 16_000_000
        site = serve(lambda got, arg: got.send_reply(200, None, body))
        peer = site.connect(receive_bytes=4096)
        peer.send(request("/"))
        site.server.shutdown(idle_s=1)
        assert peer.read_message().body == body
        site.server.set_gencb(lambda got, arg: got.send_reply(200))
        assert peer.get().field("Connection") == "close"
        assert not peer.is_open()

    @pytest.mark.parametrize(("idle_s", "error"), [(-1, ArgumentError), ("1", ArgumentTypeError)])
    def test_it_is_a_number_of_seconds(self, serve, idle_s, error) -> None:
        site = serve()
        with pytest.raises(error):
            site.server.shutdown(idle_s=idle_s)
        assert site.connect().is_open()
