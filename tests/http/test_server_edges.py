"""The edges of a connection's life: who has gone or was refused, and what had arrived before."""

from __future__ import annotations

import mmap
import os
import socket

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError, EvBuffer
from evsvc.http.server.connection import NEXT, PIPELINE_BYTES, Phase, Step
from evsvc.http.wire.writer import DateLine
from tests.http.peers import request


class TestPhases:
    @pytest.mark.parametrize("phase", Phase)
    def test_every_phase_can_be_closed_and_a_closed_one_does_nothing_else(self, phase) -> None:
        assert NEXT[phase, Step.CLOSE] is Phase.CLOSED
        assert {step for was, step in NEXT if was is Phase.CLOSED} == {Step.CLOSE}

    def test_every_phase_is_reached_and_every_step_is_taken_from_somewhere(self) -> None:
        assert set(NEXT.values()) == set(Phase)
        assert {step for _, step in NEXT} == set(Step)

    def test_the_hot_moves_written_out_are_those_of_the_table(self) -> None:
        assert NEXT[Phase.HEAD, Step.REQUEST] is NEXT[Phase.BODY, Step.REQUEST] is Phase.REPLY
        assert NEXT[Phase.REPLY, Step.REPLIED] is Phase.HEAD


class TestClientEndsInHand:
    def test_it_is_told_at_once_and_may_still_be_answered(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        (got,) = site.requests
        told = []
        got.connection.set_closecb(lambda connection, arg: told.append((connection, arg)), "arg")
        peer.half_close()
        peer.settle()
        assert told == [(got.connection, "arg")]
        assert got.connection.peer_is_done
        got.send_reply(200, None, b"late")
        assert peer.read_message().body == b"late"
        assert peer.read_to_end() == b""
        assert len(told) == 1
        assert site.server.connection_count == 0

    def test_it_is_told_in_a_stream_that_goes_on(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        (got,) = site.requests
        told = []
        got.connection.set_closecb(lambda *args: told.append(args))
        got.send_reply_start(200)
        got.send_reply_chunk(b"one")
        peer.half_close()
        peer.settle()
        assert len(told) == 1
        got.send_reply_chunk(b"two")
        got.send_reply_end()
        assert peer.read_message().body == b"onetwo"

    def test_who_is_not_answered_within_idle_s_is_closed(self, serve, clock) -> None:
        site = serve(idle_s=5.0)
        peer = site.connect()
        peer.send(request("/"))
        peer.half_close()
        peer.settle()
        clock.advance(4.9)
        peer.settle()
        assert site.server.connection_count == 1
        clock.advance(0.2)
        peer.settle()
        assert site.server.connection_count == 0

    def test_who_stays_may_wait_longer_than_that(self, serve, clock) -> None:
        site = serve(idle_s=5.0)
        peer = site.connect()
        peer.send(request("/"))
        for _ in range(10):
            clock.advance(5)
            peer.settle()
        site.requests[0].send_reply(200, None, b"at last")
        assert peer.read_message().body == b"at last"

    def test_what_was_pipelined_before_the_end_is_answered(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/a") + request("/b"))
        peer.half_close()
        for index in range(2):
            peer.settle()
            site.requests[index].send_reply(200, None, site.requests[index].uri.encode())
        assert [peer.read_message().body for _ in range(2)] == [b"/a", b"/b"]

    def test_it_is_seen_behind_more_than_is_read_ahead(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/first"))
        told = []
        site.requests[0].connection.set_closecb(lambda *args: told.append(args))
        peer.sock.send(request("/more") * (PIPELINE_BYTES // len(request("/more")) + 500))
        peer.settle()
        assert not told
        peer.half_close()
        peer.settle()
        assert len(told) == 1

    def test_a_shutdown_does_not_wait_for_who_has_gone(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        peer.half_close()
        peer.settle()
        drained = []
        site.server.shutdown(drained.append)
        assert drained == [site.server]

    def test_what_is_no_callback_is_refused(self, serve) -> None:
        site = serve()
        site.connect().send(request("/"))
        with pytest.raises(ArgumentTypeError, match="5"):
            site.requests[0].connection.set_closecb(5)


class TestRefusedClients:
    def test_they_take_no_places(self, serve) -> None:
        site = serve(lambda got, arg: got.send_reply(200, None, b"ok"), max_connections=2)
        served = [site.connect() for _ in range(2)]
        refused = [site.connect() for _ in range(5)]
        assert [peer.read_message().status for peer in refused] == [503] * 5
        assert site.server.connection_count == 2
        served[0].close()
        served[1].settle()
        assert site.connect().get().status == 200

    @pytest.mark.parametrize(("number", "status"), [(3, 503), (4, None)])
    def test_of_those_who_do_not_leave_so_many_are_told_why(self, serve, number, status) -> None:
        site = serve(max_connections=1, max_refused=3)
        site.connect()
        refused = [site.connect() for _ in range(number)]
        refused[-1].settle()
        last = refused[-1]
        if status is None:
            assert last.read_to_end() == b""
        else:
            assert last.read_message().status == status


class TestShutdown:
    def test_what_has_arrived_on_a_kept_connection_is_answered(self, serve) -> None:
        site = serve(lambda got, arg: got.send_reply(200, None, b"ok"))
        peer = site.connect()
        assert peer.get().status == 200
        peer.sock.send(request("/again"))
        drained = []
        site.server.shutdown(drained.append)
        reply = peer.read_message()
        assert (reply.status, reply.field("Connection")) == (200, "close")
        peer.settle()
        assert drained == [site.server]

    def test_who_waits_in_the_kernels_queue_is_answered(self, serve) -> None:
        site = serve(lambda got, arg: got.send_reply(200, None, b"ok"))
        with socket.create_connection((site.bound.address, site.bound.port)) as sock:
            sock.send(request("/"))
            drained = []
            site.server.shutdown(drained.append)
            peer = site.peer_over(sock)
            assert peer.read_message().status == 200
            peer.settle()
            assert drained == [site.server]

    def test_who_has_sent_nothing_is_closed(self, serve) -> None:
        site = serve()
        peer = site.connect()
        drained = []
        site.server.shutdown(drained.append)
        assert drained == [site.server]
        assert peer.read_to_end() == b""


class TestHead:
    @pytest.mark.parametrize(
        "field",
        ["Expect: tea", "Content-Length: 99999999", "A: " + "a" * 40000, "Host: b", "Te\x01: a"],
    )
    @pytest.mark.parametrize("blank_lines", [b"", b"\r\n\r\n"])
    def test_a_refusal_has_no_body(self, serve, field, blank_lines) -> None:
        peer = serve().connect()
        peer.sock.send(blank_lines + request("/", field, method="HEAD"))
        head, _, body = peer.read_to_end().partition(b"\r\n\r\n")
        assert int(head.split()[1]) >= 400
        assert b"Content-Length: " in head
        assert body == b""

    def test_nor_has_a_time_out(self, serve, clock) -> None:
        peer = serve(head_s=1.0).connect()
        peer.send(b"HEAD / HTTP/1.1\r\nHost: ")
        clock.advance(1)
        got = peer.read_to_end()
        assert got.startswith(b"HTTP/1.1 408 ")
        assert got.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PATCH", "/item", 200),
        ("OPTIONS", "/item", 200),
        ("PURGE", "/item", 200),
        ("GET", "/item", 405),
        ("PATCH", "/other", 501),
        ("LINK", "/item", 501),
    ],
)
def test_a_path_takes_the_methods_that_it_was_registered_for(serve, method, path, status) -> None:
    site = serve(lambda got, arg: got.send_reply(200))
    site.server.set_cb(
        "/item", lambda got, arg: got.send_reply(200), methods=("PATCH", "OPTIONS", "PURGE")
    )
    assert site.connect().ask(request(path, method=method)).status == status


def test_the_date_follows_a_clock_that_is_set_back() -> None:
    date = DateLine()
    late = date.refresh(10_000.5)
    assert not date.begins <= 6_400.5 < date.expires
    assert date.refresh(6_400.5) != late
    assert date.begins <= 6_400.9 < date.expires


class TestBodiesFromBuffers:
    def test_a_file_is_never_made_bytes(self, serve, tmp_path, monkeypatch) -> None:
        path = tmp_path / "large"
        size = 4 << 20
        with path.open("wb") as file:
            file.truncate(size)

        def answer(got, arg):
            body = EvBuffer()
            body.add_file(os.open(path, os.O_RDONLY))
            got.send_reply(200, None, body)

        def read_a_file(*args, **kwargs):
            raise AssertionError("the file is read into memory")

        for name in ("pread", "preadv", "read"):
            monkeypatch.setattr(os, name, read_a_file)
        monkeypatch.setattr(mmap, "mmap", read_a_file)
        peer = serve(answer).connect()
        reply = peer.get()
        assert reply.body == bytes(size)

    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    def test_a_piece_of_a_stream_is_moved_too(self, serve, version) -> None:
        def answer(got, arg):
            got.send_reply_start(200)
            for word in (b"one", b"", b"two"):
                piece = EvBuffer(word)
                got.send_reply_chunk(piece)
                assert len(piece) == 0
            got.send_reply_end()
            assert got.bytes_sent == 6

        peer = serve(answer).connect()
        peer.send(request("/", version=version))
        assert peer.read_message(to_end=version == "1.0").body == b"onetwo"

    def test_a_cleanup_runs_also_where_no_body_is_sent(self, serve) -> None:
        released = []

        def answer(got, arg):
            body = EvBuffer()
            body.add_reference(b"x" * 100, lambda *args: released.append(args[1]))
            got.send_reply(200, None, body)

        reply = serve(answer).connect().ask(request("/", method="HEAD"), has_body=False)
        assert reply.field("Content-Length") == "100"
        assert released == [100]


@pytest.mark.parametrize("head", [b"", b"101 Switching Protocols\r\n\r\n", b"HTTP/2 101 x\r\n\r\n"])
def test_a_connection_is_not_taken_over_with_what_is_no_head(serve, head) -> None:
    site = serve()
    peer = site.connect()
    peer.send(request("/"))
    with pytest.raises(ArgumentError, match="not the head of a response"):
        site.requests[0].take_over(head)
    site.requests[0].send_reply(200)
    assert peer.read_message().status == 200
