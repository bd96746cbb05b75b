"""How many requests are worked at, how many wait, and how it all ends."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError, EventBase, StateError
from evsvc.wsgi import WsgiHandler, WsgiOptions
from evsvc.wsgi.pool import ThreadPool
from tests.hosted import PATIENCE_S, read_to_end
from tests.wsgi.gateway import Gateway

Serve = Callable[..., Gateway]
GET = b"GET / HTTP/1.0\r\n\r\n"  # the body is then what stands last


class Held:
    """An application whose calls wait until they are let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.most = self.now = 0
        self._lock = threading.Lock()

    def __call__(self, environ: Any, start_response: Any) -> Any:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.entered.release()
        assert self.let_go.wait(PATIENCE_S)
        with self._lock:
            self.now -= 1
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.entered.acquire(timeout=PATIENCE_S)


@pytest.mark.parametrize(("threads", "waiting"), [(1, 0), (2, 3)])
def test_what_is_beyond_threads_and_queue_is_503(serve: Serve, threads: int, waiting: int) -> None:
    held = Held()
    gateway = serve(held, threads=threads, max_queued=waiting, retry_after_s=7)
    socks = [gateway.connect() for _ in range(threads + waiting)]
    for sock in socks:
        sock.sendall(GET)
    while gateway.in_loop(lambda: gateway.handler.held) < threads + waiting:
        pass
    held.wait_for(threads)
    answer = gateway.ask()
    assert (answer.status, answer.fields["retry-after"]) == (503, "7")
    held.let_go.set()
    assert all(read_to_end(sock).endswith(b"done") for sock in socks)
    assert held.most == threads
    assert gateway.ask().status == 200


def test_threads_are_started_as_they_are_needed(serve: Serve) -> None:
    held = Held()
    held.let_go.set()
    gateway = serve(held, threads=8)

    def count() -> int:
        return len([each for each in threading.enumerate() if "evsvc-wsgi" in each.name])

    assert count() == 0
    for _ in range(5):
        gateway.ask()
        while gateway.in_loop(lambda: gateway.handler.held):
            pass
    assert count() == 1


def test_one_whose_client_has_gone_while_it_waited_is_not_called(serve: Serve) -> None:
    held = Held()
    gateway = serve(held, threads=1)
    first, second = gateway.connect(), gateway.connect()
    first.sendall(GET)
    held.wait_for(1)
    second.sendall(GET)
    while gateway.in_loop(lambda: gateway.handler.held) < 2:
        pass
    gateway.in_loop(gateway.server.close)
    held.let_go.set()
    while gateway.in_loop(lambda: gateway.handler.held):
        pass
    assert not held.entered.acquire(blocking=False)


def test_shutdown_waits_for_those_at_work_and_refuses_others(serve: Serve) -> None:
    held = Held()
    gateway = serve(held, threads=1)
    over: list[WsgiHandler] = []
    socks = [gateway.connect() for _ in range(2)]
    for sock in socks:
        sock.sendall(GET)
    while gateway.in_loop(lambda: gateway.handler.held) < 2:
        pass
    gateway.in_loop(lambda: gateway.handler.shutdown(over.append))
    assert gateway.ask().status == 503
    assert over == []
    held.let_go.set()
    assert all(read_to_end(sock).endswith(b"done") for sock in socks)
    while not gateway.in_loop(lambda: over):
        pass
    assert over == [gateway.handler]
    gateway.in_loop(lambda: gateway.handler.shutdown(over.append))  # nothing is left
    assert len(over) == 2


def test_shutdown_gives_up_after_its_deadline(serve: Serve, caplog: Any) -> None:
    held = Held()
    gateway = serve(held, threads=1)
    over = threading.Event()
    gateway.connect().sendall(GET)
    held.wait_for(1)
    gateway.in_loop(lambda: gateway.handler.shutdown(lambda handler: over.set(), deadline_s=0.01))
    assert over.wait(PATIENCE_S)
    assert "took too long" in caplog.text
    assert gateway.in_loop(lambda: gateway.handler.held) == 1
    held.let_go.set()


def test_a_graceful_stop_of_the_server_answers_what_is_in_hand(serve: Serve) -> None:
    held = Held()
    gateway = serve(held)
    sock = gateway.connect()
    sock.sendall(GET)
    held.wait_for(1)
    drained = threading.Event()
    gateway.in_loop(lambda: gateway.server.shutdown(lambda server: drained.set(), deadline_s=50))
    assert not drained.is_set()
    held.let_go.set()
    assert read_to_end(sock).endswith(b"done")
    assert drained.wait(PATIENCE_S)


def test_an_answer_to_a_base_that_is_closed_harms_nobody() -> None:
    held = Held()
    gateway = Gateway(held)
    sock = gateway.connect()
    sock.sendall(GET)
    held.wait_for(1)
    gateway.base.post(gateway.base.loopexit)
    gateway.thread.join(PATIENCE_S)
    gateway.server.close()
    gateway.handler.close()
    gateway.base.close()
    held.let_go.set()
    assert gateway.handler.join(PATIENCE_S)
    sock.close()


def test_requests_leave_nothing_behind(serve: Serve) -> None:
    """No environ lives on after its request, with the collector off."""

    class Mark:
        pass

    marks: list[weakref.ref[Mark]] = []

    def application(environ: Any, start_response: Any) -> Any:
        mark = environ["mark"] = Mark()
        marks.append(weakref.ref(mark))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["wsgi.input"].read(10)]

    gateway = serve(application, is_validated=False, threads=1)
    gc.disable()
    try:
        for body in (None, b"body"):
            gateway.ask(method="POST", body=body)
        gateway.stop()
        assert gateway.handler.join(PATIENCE_S)
        assert [mark() for mark in marks] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("threads", 1),
        ("max_queued", 0),
        ("retry_after_s", 0),
        ("max_input_bytes", 1),
        ("max_output_bytes", 1),
    ],
)
def test_options_are_judged_where_they_are_made(name: str, least: int) -> None:
    WsgiOptions(**{name: least})
    with pytest.raises(ArgumentError, match=rf"{name} .*{least - 1}"):
        WsgiOptions(**{name: least - 1})
    with pytest.raises(ArgumentTypeError, match=name):
        WsgiOptions(**{name: 1.5})  # type: ignore[arg-type]


def test_a_pool_takes_no_job_beyond_its_limit() -> None:
    with EventBase() as base, ThreadPool(base, 1, 1, "pool") as pool:
        let_go = threading.Event()
        pool.submit(lambda: let_go.wait(PATIENCE_S))
        pool.submit(lambda: None)
        assert pool.is_full
        with pytest.raises(StateError, match="2 jobs"):
            pool.submit(lambda: None)
        let_go.set()
        pool.close()
        assert pool.join(PATIENCE_S)
        with pytest.raises(StateError):
            pool.submit(lambda: None)
        base.dispatch()
        assert pool.held == 0
