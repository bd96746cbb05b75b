"""The fixtures: what they are, that they clean up, and that a test which leaves something fails."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGUSR2
from typing import Any
from urllib.parse import urlsplit

import dns.rcode
import pytest

from evsvc.core import EventBase, FakeClock
from evsvc.http import HttpConnection, HttpRequest, HttpServer
from evsvc.testing import DnsTestClient, HttpTestClient, leftovers, run_until

ROOT = Path(__file__).resolve().parents[2]

RunPytest = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def run_pytest(tmp_path: Path) -> RunPytest:
    """Return `run_pytest(tests)`: a real pytest, with the plugin, has run them."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["evsvc.testing.plugin"]\n')
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")

    def run(tests: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_it.py").write_text(tests)
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_all_is_on_one_base_with_one_clock(
    event_base: EventBase,
    fake_clock: FakeClock,
    http_server: HttpServer,
    http_client: HttpTestClient,
    rpc_server: Any,
    rpc_client: Any,
    dns_client: DnsTestClient,
    dns_server: Any,
) -> None:
    bases = {http_server.base, http_client.base, rpc_server.base, rpc_client.pool.base}
    bases.add(dns_client.base)
    assert bases == {event_base}
    assert rpc_server.http_server is http_server
    assert dns_client.server is dns_server
    fake_clock.advance(7.0)
    assert event_base.gettime_monotonic() == fake_clock.monotonic()
    assert http_server.bound_sockets == []


def test_without_a_handler_of_one_s_own_dns_refuses(dns_client: DnsTestClient) -> None:
    assert dns_client.ask("www.example.test").rcode() == dns.rcode.REFUSED


def test_the_url_is_that_of_the_server_and_a_client_on_the_base_reaches_it(
    event_base: EventBase, http_server: HttpServer, http_url: str
) -> None:
    http_server.set_gencb(lambda request, arg: request.send_reply(200, None, b"real"))
    where = urlsplit(http_url)
    assert where.scheme == "http"
    assert (where.hostname, where.port) == ("127.0.0.1", http_server.bound_sockets[0].port)
    done: list[Any] = []
    with HttpConnection(event_base, None, "127.0.0.1", where.port or 0) as connection:
        request = HttpRequest(lambda response, arg: done.append(response))
        connection.make_request(request, "GET", "/")
        run_until(event_base, lambda: done)
    assert request.take_body() == b"real"


class TestRealClock:
    """A test that waits for a thread has a base of its own; the other fixtures are on it."""

    @pytest.fixture
    def event_base(self) -> Any:
        with EventBase() as base:
            yield base

    def test_a_client_in_another_thread_is_served(
        self, event_base: EventBase, http_server: HttpServer, http_url: str
    ) -> None:
        got: list[bytes] = []

        def fetch() -> None:
            connection = http.client.HTTPConnection(urlsplit(http_url).netloc, timeout=30)
            connection.request("GET", "/")
            got.append(connection.getresponse().read())
            connection.close()
            event_base.post(int)  # the loop looks again

        http_server.set_gencb(lambda request, arg: request.send_reply(200, None, b"real"))
        thread = threading.Thread(target=fetch)
        thread.start()
        run_until(event_base, lambda: got)
        thread.join(30)
        assert got == [b"real"]

    def test_a_handler_that_has_a_thread_work_is_waited_for(
        self, event_base: EventBase, http_server: HttpServer, http_client: HttpTestClient
    ) -> None:
        def work(request: Any) -> None:
            event_base.post(request.send_reply, 200, None, b"done")

        def hand_over(request: Any, arg: object) -> None:
            threading.Thread(target=work, args=[request]).start()

        http_server.set_gencb(hand_over)
        started = time.monotonic()
        assert http_client.get("/").body == b"done"
        assert time.monotonic() - started < http_client.wait_s


def test_what_is_closed_is_no_leftover(event_base: EventBase) -> None:
    with HttpServer(event_base) as server, event_base.signal(SIGUSR2, lambda *args: None) as signal:
        server.bind_socket("127.0.0.1", 0)
        signal.add()
        listener, caught = leftovers(event_base)
        assert listener.startswith("descriptor ")
        assert listener.endswith(", for ConnListener._on_readable")
        assert caught.startswith(f"signal {SIGUSR2:d}, for ")
    assert leftovers(event_base) == []


def test_timers_and_what_is_the_base_s_own_are_no_leftovers(event_base: EventBase) -> None:
    event_base.timer(lambda fd, what, arg: None).add(5.0)
    event_base.post(int)
    assert leftovers(event_base) == []


def test_a_test_that_leaves_a_listener_or_a_signal_fails_and_the_next_one_does_not(
    run_pytest: RunPytest,
) -> None:
    done = run_pytest("""
import signal

from evsvc import HttpServer

kept = []

def test_listener(event_base):
    kept.append(HttpServer(event_base))
    kept[0].bind_socket("127.0.0.1", 0)

def test_after_it(event_base):
    kept[0].close()

def test_signal(event_base):
    kept.append(event_base.signal(signal.SIGUSR2, print))
    kept[1].add()

def test_at_the_end(event_base, http_url, http_client, rpc_client, dns_client):
    event_base.timer(print).add(5)
""")
    assert done.returncode == 1
    assert "4 passed, 2 errors" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("the test has left on its event base:\n") == 4  # each told, and listed
    assert "for ConnListener._on_readable" in done.stdout
    assert f"signal {SIGUSR2:d}, for print" in done.stdout
    for name in ("listener", "signal"):
        assert f"ERROR test_it.py::test_{name}" in done.stdout


def test_a_handler_that_never_answers_fails_the_test_and_says_so(run_pytest: RunPytest) -> None:
    done = run_pytest("""
def test_it(http_server, http_client):
    http_server.set_gencb(lambda request, arg: None)
    http_client.get("/never")
""")
    assert done.returncode == 1
    assert "1 failed" in done.stdout, done.stdout + done.stderr
    assert "an answer to GET /never has not come within 60 s" in done.stdout


def test_a_suite_that_does_not_ask_has_no_fixtures_of_ours(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it():\n    assert 'evsvc' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
