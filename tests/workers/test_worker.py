"""A worker and its channel in the test's own process, which speaks for the supervisor."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from evsvc import EVLOOP_NONBLOCK, BufferEvent, EventBase, HttpServer
from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    ArgumentError,
    ArgumentTypeError,
    EvBuffer,
    StateError,
)
from evsvc.core.bufferevent.lingering import CLOSE_CHECK_S
from evsvc.http import MetricsReading
from evsvc.workers import MAX_WAITING, Worker, WorkerOptions
from evsvc.workers.channel import MAX_UNSENT_BYTES, Channel
from evsvc.workers.listening import SlotSockets
from evsvc.workers.messages import Kind, Message, counts_of, encode, reading_of, take_message


class Supervising:
    """The other end of a worker's channel."""

    def __init__(self, base: EventBase, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.base = base
        self.sock = sock
        self.has_exited = False  # the worker's loop
        self._buffer = EvBuffer()

    def turn(self) -> None:
        for _ in range(6):
            self.base.loop(EVLOOP_NONBLOCK)
            self.has_exited = self.has_exited or self.base.got_exit

    def say(self, kind: Kind) -> None:
        self.send(Message(kind))

    def send(self, message: Message) -> None:
        self.sock.sendall(encode(message))
        self.turn()

    def hears(self) -> list[Message]:
        self.turn()
        try:
            self._buffer.add(self.sock.recv(1 << 20))
        except BlockingIOError:
            return []
        found = []
        while (message := take_message(self._buffer)) is not None:
            found.append(message)
        return found

    def heard(self) -> list[str]:
        return [message.kind.name for message in self.hears()]


@pytest.fixture
def pair(base: EventBase) -> Iterator[tuple[Worker, Supervising]]:
    ours, theirs = socket.socketpair()
    worker = Worker(base, 3, SlotSockets(), theirs, WorkerOptions(stop_s=5, idle_s=2))
    yield worker, Supervising(base, ours)
    worker._channel.close()
    ours.close()


class Server:
    """Something that stops gracefully, when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def shutdown(
        self,
        cb: Callable[[Any], object] | None = None,
        *,
        deadline_s: float | None = None,
        idle_s: float = 0.0,
    ) -> None:
        self.calls.append((cb, deadline_s, idle_s))

    def finish(self) -> None:
        self.calls[0][0](self)


class TestStop:
    def test_it_says_its_counters_and_ends_when_all_servers_have(self, pair, base) -> None:
        worker, supervisor = pair
        servers = [Server(), Server()]
        for server in servers:
            worker.add_server(server)
        supervisor.say(Kind.STOP)
        supervisor.say(Kind.STOP)
        assert worker.is_stopping
        assert [server.calls[0][1:] for server in servers] == [(5, 2)] * 2
        assert [len(server.calls) for server in servers] == [1, 1]
        servers[0].finish()
        assert supervisor.heard() == []
        servers[1].finish()
        assert supervisor.heard() == ["COUNTS"]
        assert supervisor.has_exited

    def test_without_servers_it_ends_at_once(self, pair, base) -> None:
        worker, supervisor = pair
        worker.stop()
        assert supervisor.heard() == ["COUNTS"]
        assert supervisor.has_exited

    def test_a_server_that_comes_late_is_stopped_too(self, pair, base) -> None:
        worker, supervisor = pair
        first, late = Server(), Server()
        worker.add_server(first)
        worker.stop()
        worker.add_server(late)
        assert late.calls[0][1:] == (5, 2)
        first.finish()
        assert supervisor.heard() == []
        late.finish()
        assert supervisor.heard() == ["COUNTS"]

    def test_a_server_that_raises_holds_nobody_up(self, pair, caplog) -> None:
        worker, supervisor = pair
        server = Server()
        server.shutdown = lambda *args, **times: 1 / 0  # type: ignore[method-assign]
        worker.add_server(server)
        worker.stop()
        assert supervisor.heard() == ["COUNTS"]
        assert "ZeroDivisionError" in caplog.text

    def test_when_the_supervisor_has_gone_it_stops(self, pair, base, caplog) -> None:
        worker, supervisor = pair
        server = Server()
        worker.add_server(server)
        supervisor.sock.close()
        supervisor.turn()
        assert worker.is_stopping
        assert "the supervisor has gone" in caplog.text
        server.finish()
        supervisor.turn()
        assert supervisor.has_exited

    def test_what_was_sent_arrives_first(self, pair, base, clock) -> None:
        """What the kernel has not brought to a client yet would be lost with the process."""
        worker, supervisor = pair
        with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(listening.getsockname())
            ours, _ = listening.accept()
            ours.setblocking(False)
            sent = 0
            with suppress(BlockingIOError):
                while True:
                    sent += ours.send(b"x" * 65536)
            BufferEvent(base, ours, BEV_OPT_CLOSE_ON_FREE).close()
            worker.stop()
            clock.advance(CLOSE_CHECK_S)
            assert supervisor.heard() == []
            received = 0
            while received < sent:
                received += len(client.recv(65536))
            while not supervisor.has_exited:
                clock.advance(CLOSE_CHECK_S)
                supervisor.turn()
        assert supervisor.heard() == ["COUNTS"]

    @pytest.mark.parametrize("thing", [None, object(), "server"])
    def test_what_cannot_stop_is_no_server(self, pair, thing) -> None:
        with pytest.raises(ArgumentTypeError, match="shutdown"):
            pair[0].add_server(thing)

    def test_what_is_not_for_a_worker_is_logged(self, pair, caplog) -> None:
        worker, supervisor = pair
        supervisor.say(Kind.READY)
        assert "not for a worker: READY" in caplog.text
        assert not worker.is_stopping


class TestMetrics:
    def test_it_tells_its_own_when_it_is_asked(self, pair, base) -> None:
        worker, supervisor = pair
        with HttpServer(base) as server:
            worker.metrics.count(server)
            server.metrics.connections_total = 7
            supervisor.say(Kind.ASK)
            (message,) = supervisor.hears()
        assert reading_of(message.counts).connections_total == 7

    def test_who_asks_together_has_one_answer(self, pair) -> None:
        worker, supervisor = pair
        got: list[Any] = []
        worker.metrics.get(got.append)
        assert supervisor.heard() == ["ASK"]
        worker.metrics.get(got.append)
        worker.metrics.get(got.append)
        assert supervisor.heard() == []
        reading = MetricsReading(connections_total=5)
        supervisor.send(counts_of(reading))
        assert got == [reading]
        assert supervisor.heard() == ["ASK"]
        supervisor.send(counts_of(reading))
        assert got == [reading] * 3

    @pytest.mark.parametrize("extra", [0, 1])
    def test_so_many_may_wait(self, pair, extra) -> None:
        worker, _ = pair
        for _ in range(MAX_WAITING - 1 + extra):
            worker.metrics.get(print)
        if extra:
            with pytest.raises(StateError, match=str(MAX_WAITING)):
                worker.metrics.get(print)
        else:
            worker.metrics.get(print)

    def test_without_a_supervisor_nobody_waits(self, pair) -> None:
        worker, supervisor = pair
        got: list[Any] = []
        worker.metrics.get(got.append)
        worker.metrics.get(got.append)
        supervisor.sock.close()
        supervisor.turn()
        assert got == [None, None]
        worker.metrics.get(got.append)
        supervisor.turn()
        assert got == [None] * 3

    def test_a_path_has_one_page(self, pair, base) -> None:
        worker, _ = pair
        with HttpServer(base) as server:
            worker.metrics.mount(server, "/figures")
            with pytest.raises(ArgumentError):
                worker.metrics.mount(server, "/figures")

    def test_what_cannot_be_called_is_refused(self, pair) -> None:
        with pytest.raises(ArgumentTypeError):
            pair[0].metrics.get(None)


class TestChannel:
    def test_a_peer_that_does_not_read_is_given_up(self, base) -> None:
        ours, theirs = socket.socketpair()
        ended: list[str] = []
        with theirs, Channel(base, ours, print, ended.append) as channel:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            size = len(encode(Message(Kind.ASK)))
            for _ in range(MAX_UNSENT_BYTES // size):
                channel.send(Message(Kind.ASK))
            assert ended == []
            channel.send(Message(Kind.ASK))
            assert ended == ["it does not read what it is told"]
            assert channel.closed
            channel.send(Message(Kind.ASK))

    def test_the_end_is_told_once(self, base) -> None:
        ours, theirs = socket.socketpair()
        ended: list[str] = []
        with Channel(base, ours, print, ended.append):
            theirs.close()
            for _ in range(3):
                base.loop(EVLOOP_NONBLOCK)
        assert ended == [""]

    @pytest.mark.parametrize("is_gone", [False, True])
    def test_when_all_is_said_or_cannot_be(self, base, is_gone) -> None:
        ours, theirs = socket.socketpair()
        ended: list[str] = []
        said: list[int] = []
        with theirs, Channel(base, ours, print, ended.append) as channel:
            if is_gone:
                theirs.close()
            channel.send(Message(Kind.READY))
            channel.when_sent(lambda: said.append(1))
            assert said == []
            for _ in range(3):
                base.loop(EVLOOP_NONBLOCK)
            assert said
            assert ended == []
            channel.close()
            channel.when_sent(lambda: said.append(2))
            base.loop(EVLOOP_NONBLOCK)
            assert said[-1] == 2


def test_its_loop_can_be_run_by_another_call(pair) -> None:
    worker, supervisor = pair
    ran: list[int] = []
    worker.set_runner(lambda: ran.append(1))
    worker.run()
    assert ran == [1]
    assert supervisor.heard() == ["READY"]
    with pytest.raises(ArgumentTypeError):
        worker.set_runner(None)


def test_it_can_ask_for_new_workers(pair) -> None:
    worker, supervisor = pair
    worker.reload()
    assert supervisor.heard() == ["RELOAD"]
