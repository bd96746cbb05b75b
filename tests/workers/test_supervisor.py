"""Supervisors and workers as real processes, under real load."""

from __future__ import annotations

import errno
import http.client
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dns.message
import dns.query
import pytest

from evsvc import EV_TIMEOUT, EventBase
from evsvc.core import ArgumentError, ArgumentTypeError, SocketError, StateError
from evsvc.stopping import TOGETHER_S
from evsvc.workers import CUT_OFF, SETUP_FAILED, Supervisor, WorkerOptions, run
from tests.workers.service import PATIENCE_S, Load, Service

DNS = """
def answer(request, arg):
    name = request.questions[0].name
    request.add_text(name, 0, EVDNS_TYPE_TXT, str(os.getpid()))
    request.respond(DNS_ERR_NONE)

def setup(worker):
    serve_dns(worker, answer)
"""

HOLDING = """
def setup(worker):
    held = []

    def hold(request, arg):
        request.send_reply_start(200)
        request.send_reply_chunk(b"begun")
        held.append(request)
        Event(worker.base, 0, EV_READ, release).add()  # no other worker is to read the byte

    def release(fd, what, arg):
        for request in held if os.read(0, 1) else ():
            request.send_reply_chunk(b" and done")
            request.send_reply_end()

    serve_http(worker, hold)
"""


@contextmanager
def keeping(service: Service) -> Iterator[Callable[[], bytes]]:
    """Ask on one connection, which is opened anew only when the server has said that it ends."""
    connection = service.connect()

    def ask() -> bytes:
        connection.request("GET", "/")
        return connection.getresponse().read()

    try:
        yield ask
    finally:
        connection.close()


@contextmanager
def asking_anew(service: Service) -> Iterator[Callable[[], bytes]]:
    """Ask on a new connection each time."""
    yield service.get


@contextmanager
def asking_by(
    way: Callable[..., dns.message.Message], service: Service
) -> Iterator[Callable[[], bytes]]:
    """Ask a name server from a port of its own each time, so that all workers get some."""

    def ask() -> bytes:
        query = dns.message.make_query("x.test", "TXT")
        reply = way(query, "127.0.0.1", PATIENCE_S, service.ports[0])
        return reply.answer[0][0].strings[0]

    yield ask


def pids_of(answers: list[bytes]) -> set[int]:
    return {int(answer) for answer in answers}


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_all_workers_serve_until_a_signal(service, signum) -> None:
    running = service()
    workers = running.ready(2)
    answers = [running.get() for _ in range(60)]  # all to one: once in 2**59
    assert pids_of(answers) == set(workers)
    assert running.process.pid not in workers
    code, logged, _ = running.end(signum)
    assert code == 0
    assert [f"process {pid}) has ended with code 0" in logged for pid in workers] == [True] * 2


@pytest.mark.parametrize("asking", [keeping, asking_anew])
def test_a_rolling_restart_fails_no_request(service, asking) -> None:
    running = service()
    workers = running.ready(2)
    with Load(lambda: asking(running)) as load:
        for _ in range(2):
            running.send(signal.SIGHUP)
            workers += running.ready(2)
        for _ in range(4):
            running.log_until("has ended with code 0")
        load.wait_until(lambda: pids_of(load.answers) & set(workers[-2:]))
        load.wait_until(lambda: len(load.answers) >= 100)
    assert load.failures == []
    assert pids_of(load.answers) <= set(workers)
    assert running.end()[0] == 0


@pytest.mark.parametrize("way", [dns.query.udp, dns.query.tcp])
def test_a_rolling_restart_loses_no_query(service, way) -> None:
    running = service(DNS, binds=f"{way.__name__}=[('127.0.0.1', 0)]")
    workers = running.ready(2)
    with Load(lambda: asking_by(way, running)) as load:
        running.send(signal.SIGHUP)
        workers += running.ready(2)
        for _ in range(2):
            running.log_until("has ended with code 0")
        load.wait_until(lambda: pids_of(load.answers) & set(workers[2:]))
    assert load.failures == []
    assert pids_of(load.answers) <= set(workers)
    assert running.end()[0] == 0


@pytest.mark.interop
def test_a_load_of_another_make_sees_no_failure_either(service, program) -> None:
    wrk = program("wrk")
    running = service()
    running.ready(2)
    url = f"http://127.0.0.1:{running.ports[0]}/"
    with subprocess.Popen(
        [wrk, "-t1", "-c8", "-d3", url], stdout=subprocess.PIPE, text=True
    ) as client:
        running.send(signal.SIGHUP)
        running.ready(2)
        printed = client.communicate(timeout=PATIENCE_S)[0]
    assert "requests in" in printed
    assert "Socket errors" not in printed
    assert "Non-2xx" not in printed


def test_who_is_killed_is_replaced_and_what_waits_is_served(service) -> None:
    running = service(workers=1, options="backoff_s=0.2")
    (first,) = running.ready(1)
    os.kill(first, signal.SIGKILL)
    waiting = running.connect()
    waiting.request("GET", "/")  # whoever is there, or comes
    assert running.log_until(r"has ended by (\w+)")[1] == "SIGKILL"
    (second,) = running.ready(1)
    assert int(waiting.getresponse().read()) == second
    waiting.close()
    assert running.end()[0] == 0


def test_datagrams_wait_for_the_next_worker(service) -> None:
    running = service(DNS, workers=1, binds="udp=[('127.0.0.1', 0)]", options="backoff_s=0.2")
    (first,) = running.ready(1)
    os.kill(first, signal.SIGSTOP)
    query = dns.message.make_query("x.test", "TXT").to_wire()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE_S)
        client.sendto(query, ("127.0.0.1", running.ports[0]))
        os.kill(first, signal.SIGKILL)
        (second,) = running.ready(1)
        reply = dns.message.from_wire(client.recv(512))
    assert int(reply.answer[0][0].strings[0]) == second


def test_a_worker_that_is_told_to_end_finishes_and_is_replaced(service) -> None:
    running = service(HOLDING, workers=1, options="backoff_s=0.1")
    (first,) = running.ready(1)
    connection = running.connect()
    connection.request("GET", "/")
    reply = connection.getresponse()
    os.kill(first, signal.SIGTERM)
    running.release()
    assert reply.read() == b"begun and done"
    connection.close()
    assert running.log_until(rf"process {first}\) has ended with code (\d+)")[1] == "0"
    running.ready(1)


def test_a_setup_that_fails_is_told_each_time_and_then_given_up(service) -> None:
    setup = "def setup(worker):\n    raise LookupError('no database')"
    running = service(setup, workers=4, options="start_tries=2, backoff_s=0.1")
    code, logged, _ = running.wait()
    assert code == SETUP_FAILED
    assert logged.count("LookupError: no database") == 2
    assert logged.count(f"has ended with code {SETUP_FAILED}") == 2
    assert "giving up" in logged
    assert "worker 1" not in logged


@pytest.mark.parametrize("how", ["raise SystemExit(0)", "os._exit(0)"])
def test_a_setup_that_ends_the_process_has_failed(service, how) -> None:
    running = service(f"def setup(worker):\n    {how}", options="start_tries=1")
    assert running.wait()[0] == SETUP_FAILED


def test_a_setup_that_a_stop_interrupts_has_not_failed(service) -> None:
    setup = """
from evsvc.aio import EventLoop

def setup(worker):
    loop = EventLoop(worker.base)
    loop.call_soon(os.write, 2, b"waiting\\n")
    try:
        loop.run_until_complete(loop.create_future())
    finally:
        loop.close()
"""
    running = service(setup, workers=1)
    running.log_until("waiting")
    running.send(signal.SIGTERM)
    code, logged, _ = running.wait()
    assert code == 0
    assert "worker 0: stopped in its setup: RuntimeError" in logged
    assert "Traceback" not in logged


def test_a_setup_that_hangs_is_killed(service) -> None:
    setup = "def setup(worker):\n    signal.pause()"
    running = service(setup, options="start_tries=1, start_s=0.2")
    code, logged, _ = running.wait()
    assert code == SETUP_FAILED
    assert "worker 0 is killed: its setup takes too long" in logged
    assert "has ended by SIGKILL" in logged


def test_a_successor_that_fails_leaves_the_old_one_in_place(service, tmp_path: Path) -> None:
    flag = tmp_path / "broken"
    setup = f"""
def setup(worker):
    if os.path.exists({str(flag)!r}):
        raise LookupError("new code")
    serve_http(worker)
"""
    running = service(setup)
    workers = running.ready(2)
    flag.touch()
    running.send(signal.SIGHUP)
    running.log_until("LookupError: new code")
    running.log_until("the rolling restart is given up")
    assert pids_of([running.get() for _ in range(60)]) == set(workers)
    flag.unlink()
    running.send(signal.SIGHUP)
    successors = running.ready(2)
    for _ in range(2):
        running.log_until("has ended with code 0")
    assert pids_of([running.get() for _ in range(60)]) == set(successors)


def test_workers_that_die_of_an_exception_say_why_and_back_off(service) -> None:
    setup = """
def setup(worker):
    def fail(request, arg):
        request.send_reply(200)
        worker.base.once(-1, EV_TIMEOUT, lambda *event: 1 / 0)

    worker.base.exception_handler = None
    serve_http(worker, fail)
"""
    running = service(setup, workers=1, options="backoff_s=0.1")
    for _ in range(3):
        running.get()
        running.log_until("ZeroDivisionError")
        running.log_until("has ended with code 1")
    assert running.end()[0] == 0


def test_a_callback_that_raises_ends_no_worker(service) -> None:
    setup = """
def setup(worker):
    serve_http(worker)
    worker.base.once(-1, EV_TIMEOUT, lambda *event: 1 / 0)
"""
    running = service(setup, workers=1)
    (worker,) = running.ready(1)
    running.log_until("ZeroDivisionError")
    assert int(running.get()) == worker


def test_sigterm_finishes_what_is_in_flight(service) -> None:
    running = service(HOLDING, workers=1)
    running.ready(1)
    connection = running.connect()
    connection.request("GET", "/")
    reply = connection.getresponse()
    running.send(signal.SIGTERM)
    refused = False
    while not refused:  # when the worker knows, too
        with socket.socket() as client:
            refused = client.connect_ex(("127.0.0.1", running.ports[0])) == errno.ECONNREFUSED
    running.release()
    assert reply.read() == b"begun and done"
    connection.close()
    assert running.wait()[0] == 0


def test_what_is_in_flight_too_long_is_closed(service) -> None:
    running = service(HOLDING, workers=1, options="stop_s=0.2")
    running.ready(1)
    connection = running.connect()
    connection.request("GET", "/")
    reply = connection.getresponse()
    code, logged, _ = running.end()
    assert (code, "the stop took too long" in logged) == (0, True)
    with pytest.raises(http.client.IncompleteRead):
        reply.read()
    connection.close()


def test_a_worker_that_does_not_hear_is_killed(service) -> None:
    setup = """
def setup(worker):
    worker.base.once(-1, EV_TIMEOUT, lambda *event: (logging.info("deaf"), signal.pause()))
"""
    running = service(setup, workers=1, options="stop_s=0.1, kill_s=0.1")
    running.log_until("deaf")
    code, logged, _ = running.end()
    assert code == CUT_OFF
    assert "worker 0 is killed: its stop takes too long" in logged


def test_asked_twice_it_ends_at_once(service) -> None:
    running = service(HOLDING)
    running.ready(2)
    connection = running.connect()
    connection.request("GET", "/")
    connection.getresponse()
    running.send(signal.SIGTERM)
    running.log_until("once more ends it at once")
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(2 * TOGETHER_S)  # what comes earlier is one with the first
    running.send(signal.SIGTERM)
    assert running.wait()[0] == CUT_OFF
    connection.close()


def test_workers_do_not_outlive_their_supervisor(service) -> None:
    running = service(HOLDING)
    running.ready(2)
    connection = running.connect()
    connection.request("GET", "/")
    reply = connection.getresponse()
    running.send(signal.SIGKILL)
    running.log_until("the supervisor has gone")
    running.log_until("the supervisor has gone")
    running.release()
    assert reply.read() == b"begun and done"
    connection.close()
    assert running.wait()[0] == -signal.SIGKILL  # the end of its pipes is that of all workers


def test_a_terminal_s_signals_are_the_supervisor_s(service) -> None:
    """The terminal sends them to the workers, too, and those go on with what is in flight."""
    running = service(HOLDING, workers=1, process_group=0)
    running.ready(1)
    connection = running.connect()
    connection.request("GET", "/")
    reply = connection.getresponse()
    os.killpg(running.process.pid, signal.SIGINT)
    running.log_until("SIGINT: stopping")
    running.release()
    assert reply.read() == b"begun and done"
    connection.close()
    assert running.wait()[0] == 0


@pytest.mark.parametrize(
    "said", [r"b'\0\0\0\0'", r"b'\0\0\0\2\x80\x80'", "encode(Message(Kind.STOP))"]
)
def test_a_worker_that_says_what_is_none_of_its_words_is_killed(service, said) -> None:
    setup = f"""
from evsvc.workers.messages import Kind, Message, encode

def setup(worker):
    serve_http(worker, lambda request, arg: worker._channel._bev.write({said}))
"""
    running = service(setup, workers=1, options="backoff_s=0.1")
    running.ready(1)
    connection = running.connect()
    connection.request("GET", "/")
    running.log_until("worker 0 is killed: ")
    connection.close()
    assert running.log_until(r"has ended by (\w+)")[1] == "SIGKILL"
    running.ready(1)


def test_a_worker_may_ask_for_new_workers(service) -> None:
    setup = """
def setup(worker):
    serve_http(worker, lambda request, arg: (request.send_reply(200), worker.reload()))
"""
    running = service(setup)
    first = running.ready(2)
    running.get()
    running.log_until("asks for new workers")
    assert not set(running.ready(2)) & set(first)


def test_a_unix_socket_is_served_by_all_and_removed_at_the_end(service, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    running = service(binds=f"unix=[{str(path)!r}]", options="unix_mode=0o600")
    workers = running.ready(2)
    assert path.stat().st_mode & 0o777 == 0o600
    for _ in range(4):
        with socket.socket(socket.AF_UNIX) as client, client.makefile("rb") as stream:
            client.settimeout(PATIENCE_S)
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert int(stream.read().splitlines()[-1]) in workers
    os.kill(workers[0], signal.SIGKILL)
    running.ready(1)
    assert path.exists()
    assert running.end()[0] == 0
    assert not path.exists()


class TestMetrics:
    SETUP = """
def setup(worker):
    server = serve_http(worker)
    worker.metrics.count(server)
    worker.metrics.mount(server)
"""

    def total(self, running: Service) -> int:
        page = running.get("/metrics").decode()
        line = 'evsvc_http_requests_total{method="GET",status="2xx"} '
        return sum(int(each[len(line) :]) for each in page.splitlines() if each.startswith(line))

    def test_they_are_those_of_all_workers_dead_ones_too(self, service) -> None:
        running = service(self.SETUP)
        running.ready(2)
        answers = [running.get() for _ in range(30)]
        assert len(pids_of(answers)) == 2
        assert self.total(running) == 30
        running.send(signal.SIGHUP)
        workers = running.ready(2)
        for _ in range(2):
            running.log_until("has ended with code 0")
        assert self.total(running) == 31  # that page, too
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        running.ready(2)
        assert self.total(running) in (31, 32)  # the last page may have died with its worker

    def test_a_slow_worker_is_not_waited_for_long(self, service) -> None:
        running = service(self.SETUP, options="metrics_wait_s=0.2")
        slow, other = running.ready(2)
        while int(running.get()) != other:
            pass
        os.kill(slow, signal.SIGSTOP)
        try:
            connection = running.connect(1)
            while True:  # a connection that the other one has
                with suppress(TimeoutError):
                    connection.request("GET", "/metrics")
                    assert b"evsvc_http_requests_total" in connection.getresponse().read()
                    break
                connection.close()
        finally:
            os.kill(slow, signal.SIGCONT)
        connection.close()


class TestRefusals:
    def test_another_thread_is_none_to_fork_in(self) -> None:
        raised: list[BaseException] = []

        def try_it() -> None:
            try:
                run(print, 1)
            except StateError as exc:
                raised.append(exc)

        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
        assert "main thread" in str(raised[0])

    def test_nor_is_the_inside_of_a_loop(self) -> None:
        raised: list[BaseException] = []

        def try_it(*event: object) -> None:
            with pytest.raises(StateError, match="inside") as caught:
                run(print, 1)
            raised.append(caught.value)

        with EventBase() as base:
            base.once(-1, EV_TIMEOUT, try_it)
            base.dispatch()
            assert len(raised) == 1
            with Supervisor(print, 1):
                pass  # outside, another base does not matter

    @pytest.mark.parametrize(
        ("workers", "error"), [(0, ArgumentError), (1025, ArgumentError), ("2", ArgumentTypeError)]
    )
    def test_workers_are_a_number(self, workers, error) -> None:
        with pytest.raises(error, match=str(workers)):
            Supervisor(print, workers)

    def test_without_a_number_there_is_one_for_each_cpu(self) -> None:
        with Supervisor(print) as supervisor:
            assert supervisor.workers == len(os.sched_getaffinity(0))

    def test_setup_can_be_called(self) -> None:
        with pytest.raises(ArgumentTypeError, match="setup"):
            Supervisor("setup", 1)

    def test_a_busy_port_is_named(self) -> None:
        with Supervisor(print, 2, tcp=[("127.0.0.1", 0)]) as supervisor:
            port = supervisor.sockets.tcp[0].getsockname()[1]
            for workers in (1, 2):
                with pytest.raises(SocketError, match=f"127.0.0.1:{port}"):
                    Supervisor(print, workers, tcp=[("127.0.0.1", port)])

    def test_once_closed_it_does_not_run(self) -> None:
        with Supervisor(print, 1) as supervisor:
            pass
        with pytest.raises(StateError, match="closed"):
            supervisor.run()

    def test_other_threads_are_warned_of(self, monkeypatch, caplog) -> None:
        monkeypatch.setattr(threading, "active_count", lambda: 2)
        monkeypatch.setattr(os, "fork", lambda: 1 / 0)
        with Supervisor(print, 1) as made, pytest.raises(ZeroDivisionError):
            made.run()
        assert "the other threads" in caplog.text

    def test_where_no_process_can_be_made_it_gives_up(self, monkeypatch, caplog) -> None:
        def fork() -> int:
            raise OSError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(os, "fork", fork)
        handlers = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGHUP)]
        with Supervisor(print, 1, options=WorkerOptions(start_tries=2, backoff_s=0.01)) as made:
            assert made.run() == SETUP_FAILED
            with pytest.raises(StateError, match="closed"):
                made.run()
        assert caplog.text.count("cannot be started: [Errno 11]") == 2
        assert handlers == [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGHUP)]
