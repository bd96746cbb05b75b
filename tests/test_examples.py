"""The examples run as they stand, as a user would run them."""

from __future__ import annotations

import gzip
import json
import os
import re
import runpy
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import dns.message
import dns.query
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync import client as websocket_client

from evsvc.core import supported_methods
from tests.ports import ATTEMPTS, held_port

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"

# This checkout's evsvc, installed or not; a warning is an error, or a line in stderr.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}

# The backends that can do edge-triggering.
EDGE_METHODS = [method for method in supported_methods() if method in ("epoll", "kqueue")]


@contextmanager
def started(
    name: str, *args: str, directory: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start an example that runs until it is told to end."""
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        cwd=directory,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def next_line(process: subprocess.Popen[str], stream: IO[str] | None) -> str:
    """Read a line of one of the two pipes of a started example."""
    assert stream is not None
    line = stream.readline()
    assert line, process.communicate(timeout=30)
    return line


@contextmanager
def serving(name: str, *args: str) -> Iterator[tuple[str, int]]:
    """Start an example that serves on a free port; give its first line, and the port in it.

    args: what stands before the port.

    One that serves on two sockets may find that somebody has the number of the second, and is then
    started again.
    """
    for _ in range(ATTEMPTS):
        with started(name, *args, "0") as process:
            assert process.stdout is not None
            if line := process.stdout.readline():
                yield line, int(re.findall(r"\d+", line.split("127.0.0.1")[-1])[0])
                return
            _, errors = process.communicate(timeout=30)
            assert "in use" in errors, errors
    pytest.fail(f"{name} found no free ports in {ATTEMPTS} tries")


def run(name: str, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *args],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=ENVIRONMENT | environment,
    )


def lines_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines that an example printed, which must have gone well."""
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_every_example_has_a_test() -> None:
    files = list(Path(__file__).parent.glob("test_*examples.py"))
    texts = [path.read_text("utf-8") for path in files]
    tested = set(re.findall(r'"(\w+\.py)"', "".join(texts))) - {path.name for path in files}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_hello_http_answers_general_and_path_callbacks() -> None:
    with serving("hello_http.py") as (line, _):
        url = line.strip()
        with urllib.request.urlopen(url, timeout=20) as reply:
            assert reply.read() == b"Thanks for the request!\n"
        with urllib.request.urlopen(f"{url}greet?name=Ann", timeout=20) as reply:
            assert reply.read() == b"Good morning, Ann!\n"


@contextmanager
def example_url(*command: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start an example that prints its URL; give that, and the process."""
    with started(*command) as process:
        yield next_line(process, process.stdout).strip(), process


def test_chat_passes_on_what_each_one_writes_and_says_when_it_ends() -> None:
    with example_url("chat.py", "0") as (url, process):
        with urllib.request.urlopen(url, timeout=20) as reply:
            assert b"new WebSocket" in reply.read()
        chat = f"{url.replace('http:', 'ws:')}chat"
        with websocket_client.connect(chat, origin=url.rstrip("/"), proxy=None) as ann:
            assert ann.recv(20) == "Guest 1 is here."
            done = run("websocket_client.py", chat, "hello", "<b>all</b>")
            assert lines_of(done) == ["Guest 2 is here.", "Guest 2: hello"]
            said = [ann.recv(20) for _ in range(4)]
            assert said[1:3] == ["Guest 2: hello", "Guest 2: <b>all</b>"]
            assert said[3] == "Guest 2 leaves."
            ann.send(b"no text")
            with pytest.raises(ConnectionClosed, match="a chat is text"):
                ann.recv(20)
        with pytest.raises(InvalidStatus, match="403"):
            websocket_client.connect(chat, origin="http://elsewhere.example", proxy=None)
        with websocket_client.connect(chat, proxy=None) as ben:
            assert ben.recv(20) == "Guest 3 is here."
            process.send_signal(signal.SIGINT)
            with pytest.raises(ConnectionClosed):
                ben.recv(20)
            assert ben.close_code == 1001
        assert process.wait(20) == 0


def test_http_connect_gets_a_page_through_a_proxy() -> None:
    asked = []

    def pass_on(listening: socket.socket) -> None:
        """Be a proxy for one connection: the request goes one way, the answer the other."""
        client, _ = listening.accept()
        with client:
            asked.append(client.recv(65536).partition(b"\r\n")[0].decode())
            host, _, port = asked[0].split()[1].rpartition(":")
            with socket.create_connection((host, int(port)), timeout=20) as server:
                client.sendall(b"HTTP/1.1 200 Tunnel\r\n\r\n")
                server.sendall(client.recv(65536))
                client.sendall(server.recv(65536))

    with serving("hello_http.py") as (_, port):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            thread = threading.Thread(target=pass_on, args=(listening,))
            thread.start()
            proxy = f"127.0.0.1:{listening.getsockname()[1]}"
            done = run("http_connect.py", proxy, f"http://127.0.0.1:{port}/")
            thread.join(20)
        assert (done.returncode, done.stderr) == (0, "\n200 OK\n")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as reply:
            assert done.stdout == reply.read().decode()
        assert asked == [f"CONNECT 127.0.0.1:{port} HTTP/1.1"]
    with held_port() as nobody:
        done = run("http_connect.py", f"127.0.0.1:{nobody}", "https://127.0.0.1/")
    assert done.returncode == 1
    assert "refused" in done.stderr


def test_websocket_client_tells_why_there_is_none() -> None:
    with serving("hello_http.py") as (_, port):
        done = run("websocket_client.py", f"ws://127.0.0.1:{port}/", "hello")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the answer is 200" in done.stderr


def test_live_files_tells_of_changes(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("one")
    with example_url("live_files.py", str(tmp_path), "0") as (url, _):
        with websocket_client.connect(url.replace("http:", "ws:") + "changes", proxy=None) as page:
            for text in ("two!", "three!!"):
                (tmp_path / "index.html").write_text(text)
                assert page.recv(20) == "changed"
                with urllib.request.urlopen(f"{url}files/", timeout=20) as reply:
                    assert reply.read().decode() in ("", text)
                    assert reply.headers["Cache-Control"] == "no-cache"
        with urllib.request.urlopen(url, timeout=20) as reply:
            assert b"iframe" in reply.read()


def test_event_clock_ticks_counts_and_says_when_it_stops() -> None:
    with example_url("event_clock.py", "0") as (url, process):
        ask = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})
        with urllib.request.urlopen(ask, timeout=20) as reply:
            assert b"new EventSource" in gzip.decompress(reply.read())
        again = urllib.request.Request(f"{url}events", headers={"Last-Event-ID": "1"})
        with urllib.request.urlopen(again, timeout=20) as events:
            assert events.headers["Content-Type"] == "text/event-stream"
            assert events.readline() == b"retry: 2000\n"
            assert events.readline() == b"\n"
            assert re.fullmatch(rb": seconds missed: \d+\n", events.readline())
            assert events.readline() == b"\n"
            assert re.fullmatch(rb"id: \d+\n", events.readline())
            assert re.fullmatch(rb"data: \d\d:\d\d:\d\d\n", events.readline())
            with urllib.request.urlopen(f"{url}metrics", timeout=20) as reply:
                assert b"evsvc_http_requests_in_flight 2\n" in reply.read()
            process.send_signal(signal.SIGTERM)
            assert b"event: stop\n" in events.readlines()
        assert process.wait(20) == 0


def test_live_files_wants_a_folder(tmp_path: Path) -> None:
    done = run("live_files.py", str(tmp_path / "nothing"), "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "No such file" in done.stderr


def test_echo_server_answers_each_line_and_the_last_before_it_closes() -> None:
    with (
        serving("echo_server.py") as (_, port),
        socket.create_connection(("127.0.0.1", port), timeout=20) as sock,
    ):
        sock.sendall(b"hello\r\nwor")
        sock.sendall(b"ld\n")
        sock.shutdown(socket.SHUT_WR)
        received = b""
        while piece := sock.recv(4096):
            received += piece
    assert received == b"You said: hello\nYou said: world\n"


def test_connect_by_name_resolves_with_the_given_nameserver(tmp_path: Path) -> None:
    with serving("dns_server.py") as (_, dns_port), socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        done = run("connect_by_name.py", "nowhere.example", port, f"127.0.0.1:{dns_port}")
    assert "nowhere.example: " in done.stderr
    assert "the loop goes on" in done.stderr


def test_connect_by_name_prints_the_answer() -> None:
    with serving("hello_http.py") as (_, port):
        done = run("connect_by_name.py", "localhost", str(port))
    assert done.stdout.endswith("Thanks for the request!\n"), done.stderr


def test_dns_lookup_looks_names_and_addresses_up() -> None:
    with serving("dns_server.py") as (_, port):
        names = ["many.example", "none.example", "192.0.2.2"]
        done = run("dns_lookup.py", "--nameserver", f"127.0.0.1:{port}", *names)
    assert sorted(lines_of(done)) == [
        "192.0.2.2: name does not exist",
        "many.example: 192.0.2.2, 192.0.2.3",
        "none.example: name does not exist",
    ]


def test_rpc_add_prints_both_replies() -> None:
    assert lines_of(run("rpc_add.py")) == [
        "[1, 2, 3.5] -> SumReply(total=6.5, count=3)",
        "[] -> SumReply(total=0.0, count=0)",
    ]


def test_rpc_stream_counts_and_adds() -> None:
    assert lines_of(run("rpc_stream.py")) == ["1", "2", "3", "4", "5", "sum: 15"]


def test_rpc_websocket_answers_in_any_order() -> None:
    lines = ["quick", "tick", "slow", "tick", "tick", "connections: 1"]
    assert lines_of(run("rpc_websocket.py")) == lines


def test_rpc_message_speaks_by_a_file() -> None:
    assert lines_of(run("rpc_message.py")) == [
        "kill(weapon='dagger', action='wave at niels', how_often=[1, 2])"
    ]


def test_rpc_weather_is_called_by_hand() -> None:
    with serving("rpc_weather.py") as (line, _):
        begin = [sys.executable, "-m", "evsvc", "rpc", "call", line.strip(), "Weather.Now"]

        def call(city: str) -> subprocess.CompletedProcess[str]:
            command = [*begin, json.dumps({"city": city})]
            return subprocess.run(
                command, capture_output=True, text=True, timeout=30, check=False, env=ENVIRONMENT
            )

        assert json.loads(call("Rome").stdout) == {
            "city": "Rome",
            "celsius": 21.0,
            "sky": "clear",
            "warnings": [],
        }
        failed = call("Atlantis")
    assert failed.returncode == 1
    assert failed.stderr.splitlines() == [
        "evsvc: NOT_FOUND: no station there",
        '{"known": ["Oslo", "Rome"]}',
    ]


def test_rpc_failover_loses_no_call() -> None:
    assert lines_of(run("rpc_failover.py")) == ["200 calls, both have worked: True"]


def test_repeating_timer_stops_after_its_ticks() -> None:
    assert lines_of(run("repeating_timer.py", "3", "0.001")) == [
        "tick 1 of 3",
        "tick 2 of 3",
        "tick 3 of 3",
    ]


@pytest.mark.parametrize("option", [[], ["-p"]], ids=["one-shot", "persistent"])
def test_ticks_are_counted_and_timed(option: list[str]) -> None:
    lines = lines_of(run("ticks.py", *option, "0.001", "3"))
    found = [re.fullmatch(r"tick (\d+): after (\S+) s, (\S+) s in all", line) for line in lines]
    assert [match and int(match[1]) for match in found] == [1, 2, 3]
    totals = [float(match[3]) for match in found if match]
    assert totals == sorted(totals)
    assert totals[-1] >= 0.003


@pytest.mark.parametrize("name", ["SIGINT", "SIGUSR1"])
def test_signal_handler_ends_with_the_second_signal(name: str) -> None:
    arguments = [] if name == "SIGINT" else [name]
    with started("signal_handler.py", *arguments) as process:
        assert next_line(process, process.stdout) == f"kill -s {name[3:]} {process.pid}\n"
        process.send_signal(signal.Signals[name])
        assert next_line(process, process.stdout) == f"{name} came: 1\n"
        process.send_signal(signal.Signals[name])
        assert process.communicate(timeout=30) == (f"{name} came: 2\n", "")
        assert process.returncode == 0


@pytest.mark.parametrize("method", supported_methods())
def test_priorities_run_the_urgent_before_the_ordinary(method: str) -> None:
    others = {f"EVENT_NO{other.upper()}": "1" for other in supported_methods() if other != method}
    lines = lines_of(run("priorities.py", **others))
    # Within one priority the kernel decides.
    assert sorted(lines[:2]) == ["urgent, left", "urgent, right"]
    assert sorted(lines[2::2]) == ["ordinary, left", "ordinary, right"]
    assert lines[3::2] == ["alarm", "alarm"]


@pytest.mark.skipif(not EDGE_METHODS, reason="no backend of this system can do edge-triggering")
def test_edge_triggered_is_called_once_for_what_came_at_once() -> None:
    assert lines_of(run("edge_triggered.py")) == [
        f"{EDGE_METHODS[0]}, edge-triggered: calls for 5 bytes: 1"
    ]


def test_edge_triggered_falls_back_when_the_environment_forbids_it() -> None:
    done = run("edge_triggered.py", EVENT_NOEPOLL="1", EVENT_NOKQUEUE="1")
    assert re.fullmatch(r"\w+, level-triggered: calls for 5 bytes: 5\n", done.stdout)
    assert re.fullmatch(r"no edge-triggering: .*\n", done.stderr)
    assert done.returncode == 0


def test_edge_triggered_falls_back_when_the_methods_are_avoided() -> None:
    done = run("edge_triggered.py", *EDGE_METHODS, "select")
    assert done.stdout == "poll, level-triggered: calls for 5 bytes: 5\n"
    assert re.fullmatch(r"no edge-triggering: .*\n", done.stderr)
    assert done.returncode == 0


def test_edge_triggered_fails_when_no_method_is_left() -> None:
    done = run("edge_triggered.py", *supported_methods())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("edge_triggered.py: no backend fits: ")


def test_fifo_prints_what_comes_until_the_last_writer_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    with started("fifo.py", str(path)) as process:
        assert next_line(process, process.stderr) == f"write to {path}\n"
        # Refused, instead of waiting for ever, when nobody reads.
        writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        with open(writer, "wb", buffering=0) as pipe:
            pipe.write(b"hello\n")
            assert next_line(process, process.stdout) == "hello\n"
            pipe.write(b"world")
        assert process.communicate(timeout=30) == ("world", "end of file\n")
        assert process.returncode == 0
    assert not path.exists()


def test_fifo_removes_its_pipe_when_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "event.fifo"
    with started("fifo.py", directory=tmp_path) as process:
        assert next_line(process, process.stderr) == "write to event.fifo\n"
        assert path.is_fifo()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "interrupted\n")
        assert process.returncode == 0
    assert not path.exists()


def test_fifo_leaves_alone_what_is_there_already(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("do not lose me")
    done = run("fifo.py", str(path))
    assert done.returncode == 1
    assert done.stderr == f"fifo.py: {path}: File exists\n"
    assert path.read_text() == "do not lose me"


@pytest.mark.parametrize("workers", [1, 3])
def test_work_queue_does_the_work_in_threads_and_tells_it_in_the_loop(workers: int) -> None:
    lines = lines_of(run("work_queue.py", "6", str(workers)))
    assert lines[0] == "tick: 6 jobs to come"
    results = [line for line in lines if not line.startswith("tick: ")]
    pattern = r"job (\d): [0-9a-f]{8} from worker_(\d), told in MainThread"
    found = [re.fullmatch(pattern, line) for line in results]
    assert sorted(match[1] if match else "" for match in found) == list("123456")
    assert {int(match[2]) for match in found if match} <= set(range(workers))
    assert lines[-1] == results[-1]


def test_work_queue_is_in_order_with_one_worker() -> None:
    lines = lines_of(run("work_queue.py", "4", "1"))
    assert [line[:5] for line in lines if line.startswith("job")] == [f"job {n}" for n in "1234"]


def test_timing_histogram_counts_every_pass() -> None:
    lines = lines_of(run("timing_histogram.py", "20", "0.001"))
    totals: dict[str, int] = {}
    bars: dict[str, int] = {}
    for line in lines:
        if not line.startswith(" "):
            title, _, total = line.partition(": ")
            totals[title], bars[title] = int(total), 0
            continue
        match = re.fullmatch(r"  below +\d+ us +(\d+) (#*)", line)
        assert match
        assert bool(match[2]) == (match[1] != "0")
        bars[title] += int(match[1])
    assert list(totals) == ["waits", "delays", "callbacks"]
    assert bars == totals
    # A wait may end a moment early, so that a tick takes two; the last callbacks have no wait
    # after them.
    assert totals["waits"] >= 20
    assert totals["callbacks"] == totals["waits"] - 1
    assert totals["waits"] >= totals["delays"] >= 1


def test_timing_histogram_of_a_single_tick() -> None:
    lines = lines_of(run("timing_histogram.py", "1", "0"))
    assert lines[0] == "waits: 1"
    assert lines[-1] == "callbacks: 0"


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("repeating_timer.py", ["many"], "'many'"),
        ("repeating_timer.py", ["0"], "1 or more: 0"),
        ("repeating_timer.py", ["1", "-1"], "0 or more: -1.0"),
        ("repeating_timer.py", ["1", "nan"], "0 or more: nan"),
        ("ticks.py", ["-q"], "'-q'"),
        ("ticks.py", ["-p", "-1"], "0 or more: -1.0"),
        ("ticks.py", ["1", "0"], "1 or more: 0"),
        ("signal_handler.py", ["SIGNOTHING"], "SIGNOTHING"),
        ("signal_handler.py", ["SIGKILL"], "cannot be caught"),
        ("edge_triggered.py", ["pigeons"], "pigeons"),
        ("fifo.py", ["/nowhere/pipe"], "/nowhere/pipe"),
        ("work_queue.py", ["0"], "1 or more: 0"),
        ("work_queue.py", ["some"], "'some'"),
        ("work_queue.py", ["1", "0"], "workers"),
        ("timing_histogram.py", ["-3"], "1 or more: -3"),
        ("timing_histogram.py", ["3", "soon"], "'soon'"),
        ("uppercase_reader.py", ["port"], "'port'"),
        ("fibonacci.py", ["0", "0"], "1 or more: 0"),
        ("line_codec.py", ["port"], "'port'"),
        ("zlib_filter.py", ["/nowhere/file"], "/nowhere/file"),
        ("becat.py", ["-l"], "a host and a port"),
        ("becat.py", ["127.0.0.1", "port"], "'port'"),
        ("becat.py", ["127.0.0.1", "70000"], "70000"),
        ("tls_echo.py", ["0"], "a port and a certificate"),
        ("tls_echo.py", ["port", "/nowhere/cert"], "/nowhere/cert"),
        ("https_server.py", ["0"], "a port and a certificate"),
        ("https_server.py", ["0", "/nowhere/cert"], "/nowhere/cert"),
        ("sqlite_db.py", ["/nowhere/database"], "unable to open"),
        ("le_proxy.py", ["-x"], "-x"),
        ("le_proxy.py", ["127.0.0.1"], "an address to listen on"),
        ("le_proxy.py", ["localhost", "localhost:1"], "'localhost'"),
        ("le_proxy.py", ["127.0.0.1", "localhost:0"], "1..65535: 0"),
        ("le_proxy.py", ["-a", "/nowhere/cert", "127.0.0.1", "localhost:1"], "/nowhere/cert"),
    ],
)
def test_a_wrong_argument_is_told_in_one_line(
    name: str,
    args: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process, as thirty new ones would take their time; one of them is tried below."""
    path = str(EXAMPLES / name)
    monkeypatch.setattr(sys, "argv", [path, *args])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(path, run_name="__main__")
    assert re.fullmatch(rf"{re.escape(name)}: .*{re.escape(said)}.*", str(ended.value.code))
    assert capsys.readouterr() == ("", "")


def test_a_wrong_argument_ends_an_example_with_exit_code_1() -> None:
    done = run("ticks.py", "-q")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"ticks\.py: .*'-q'.*\n", done.stderr)


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("connect_by_name.py", [], "host, port"),
        ("connect_by_name.py", ["localhost"], "port"),
        ("connect_by_name.py", ["localhost", "http"], "'http'"),
        ("connect_by_name.py", ["localhost", "70000"], "70000"),
        ("connect_by_name.py", ["localhost", "80", "nowhere"], "nowhere"),
        ("connect_by_name.py", ["localhost", "80", "127.0.0.1", "more"], "more"),
        ("dns_server.py", ["port"], "'port'"),
        ("split_horizon.py", ["port"], "'port'"),
        ("split_horizon.py", ["70000"], "70000"),
        ("service_registry.py", ["port"], "'port'"),
        ("service_registry.py", ["70000"], "70000"),
        ("ad_blocker.py", [], "blocklist"),
        ("ad_blocker.py", ["--nameserver", "nowhere", "list"], "nowhere"),
        ("dns_server.py", ["70000"], "70000"),
        ("dns_lookup.py", [], "name"),
        ("dns_lookup.py", ["--nameserver", "nowhere", "a"], "nowhere"),
        ("echo_server.py", ["port"], "'port'"),
        ("echo_server.py", ["70000"], "70000"),
        ("echo_server.py", ["1", "2"], "2"),
        ("chat.py", ["port"], "'port'"),
        ("chat.py", ["70000"], "70000"),
        ("event_clock.py", ["port"], "'port'"),
        ("event_clock.py", ["70000"], "70000"),
        ("live_files.py", [".", "port"], "'port'"),
        ("live_files.py", [".", "70000"], "70000"),
        ("websocket_client.py", [], "url"),
        ("websocket_client.py", ["http://127.0.0.1/"], "http://127.0.0.1/"),
        ("hello_http.py", ["port"], "'port'"),
        ("hello_http.py", ["70000"], "70000"),
    ],
)
def test_a_wrong_argument_is_told_with_the_usage(name: str, args: list[str], said: str) -> None:
    done = run(name, *args)
    assert (done.returncode, done.stdout) == (2, "")
    usage, *_, error = done.stderr.splitlines()
    assert usage.startswith(f"usage: {name} ")
    assert error.startswith(f"{name}: error: ")
    assert said in error


@pytest.mark.parametrize("name", ["chat.py", "dns_server.py", "echo_server.py", "hello_http.py"])
def test_a_busy_port_is_told_in_one_line(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        done = run(name, str(busy.getsockname()[1]))
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"{re.escape(name)}: .*in use\n", done.stderr)


def test_hello_http_takes_a_flag_in_the_query() -> None:
    with (
        serving("hello_http.py") as (line, _),
        urllib.request.urlopen(f"{line.strip()}greet?loud", timeout=20) as reply,
    ):
        assert reply.read() == b"Good morning, nobody!\n"


def ask_dns(
    port: int, name: str, rdtype: str = "A", source: str = "127.0.0.1"
) -> dns.message.Message:
    query = dns.message.make_query(name, rdtype, use_edns=0)
    return dns.query.udp(query, "127.0.0.1", 30, port, source=source)


def data_of(reply: dns.message.Message) -> list[str]:
    return [str(rdata) for rrset in reply.answer for rdata in rrset]


def test_split_horizon_shows_another_face_to_the_own_network() -> None:
    with serving("split_horizon.py") as (_, port):
        for _ in range(2):
            assert data_of(ask_dns(port, "www.example.com")) == ["10.0.0.80"]
            outside = ask_dns(port, "www.example.com", source="127.0.0.2")
            assert data_of(outside) == ["192.0.2.80"]
        assert ask_dns(port, "intranet.example.com", source="127.0.0.2").rcode() == 3


def test_ad_blocker_knows_no_advertisers(tmp_path: Path) -> None:
    blocklist = tmp_path / "blocklist"
    blocklist.write_text("# advertisers\nads.example\nmany.example  # and this\n\n")
    with serving("dns_server.py") as (_, upstream):
        options = ["--port", "0", "--nameserver", f"127.0.0.1:{upstream}"]
        for _ in range(ATTEMPTS):
            with started("ad_blocker.py", *options, str(blocklist)) as process:
                assert process.stdout is not None
                line = process.stdout.readline()
                if not line and "in use" in process.communicate(timeout=30)[1]:
                    continue
                assert "(2 names are blocked)" in line
                port = int(re.findall(r"-p (\d+)", line)[0])
                for name in ("ads.example", "x.Ads.Example", "many.example"):
                    blocked = ask_dns(port, name)
                    assert (blocked.rcode(), blocked.options[0].code) == (3, 15)
                assert data_of(ask_dns(port, "one.example")) == ["192.0.2.1"]
                blocklist.write_text("ads.example\none.example\n")
                process.send_signal(signal.SIGHUP)
                assert next_line(process, process.stdout) == "2 names are blocked\n"
                assert ask_dns(port, "one.example").rcode() == 3
                assert data_of(ask_dns(port, "many.example")) == ["192.0.2.2", "192.0.2.3"]
                return
    pytest.fail(f"{ATTEMPTS} ports in a row were in use by others")


def test_service_registry_tells_of_the_servers_that_are_well() -> None:
    with started("service_registry.py", "0") as process:
        urls = [next_line(process, process.stdout).split()[1] for _ in range(2)]
        port = int(next_line(process, process.stdout).split()[3])

        def found() -> list[str]:
            return data_of(ask_dns(port, "_web._tcp.svc.test", "SRV"))

        ports = [url.rpartition(":")[2].strip("/") for url in urls]
        both = [f"0 1 {ports[0]} first.web.svc.test.", f"0 1 {ports[1]} second.web.svc.test."]
        assert found() == both
        for health, known in (("ill", both[1:]), ("well", both)):
            with urllib.request.urlopen(urls[0] + health, timeout=20) as reply:
                assert reply.read() == b"I am first.\n"
            assert found() == known
        assert data_of(ask_dns(port, "first.web.svc.test")) == ["127.0.0.1"]


@pytest.mark.interop
def test_dns_server_answers_over_udp_and_tcp(program) -> None:  # type: ignore[no-untyped-def]
    dig = program("dig")
    with serving("dns_server.py") as (_, port):
        where = ["@127.0.0.1", "-p", str(port)]
        for question, answer in (
            (["one.example", "A"], "192.0.2.1\n"),
            (["one.example", "AAAA", "+tcp"], "2001:db8::1\n"),
            (["many.example", "A", "+tcp"], "192.0.2.2\n192.0.2.3\n"),
        ):
            done = subprocess.run(
                [dig, *where, "+short", *question],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert sorted(done.stdout.splitlines()) == answer.splitlines()


def test_echo_sends_back_what_comes_and_all_of_it() -> None:
    data = os.urandom(500_000)
    received = bytearray()
    with (
        serving("echo.py") as (_, port),
        socket.create_connection(("127.0.0.1", port), timeout=20) as client,
    ):
        writer = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(1)))
        writer.start()
        while piece := client.recv(65536):
            received += piece
        writer.join()
    assert received == data


@pytest.fixture
def greeting_server() -> Iterator[int]:
    """Return the port of a server that sends a long greeting, and then what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.sendall(b"hello" * 100_000)
                while piece := client.recv(65536):
                    client.sendall(piece)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]


def socks4_request(port: int, user: bytes = b"ann", version: int = 4, command: int = 1) -> bytes:
    head = struct.pack("!BBH4s", version, command, port, socket.inet_aton("127.0.0.1"))
    return head + user + b"\0"


def test_socks4_relays_both_ways(greeting_server: int) -> None:
    request = socks4_request(greeting_server)
    with started("socks4.py", "0") as process:
        port = int(next_line(process, process.stdout).split()[-1])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            for index in range(len(request)):
                client.sendall(request[index : index + 1])
            stream = client.makefile("rb")
            assert stream.read(8) == b"\0\x5a" + bytes(6)
            assert stream.read(500_000) == b"hello" * 100_000
            client.sendall(b"and back")
            assert stream.read(8) == b"and back"
            client.shutdown(socket.SHUT_WR)
            assert stream.read() == b""
            stream.close()
        assert next_line(process, process.stdout) == f"ann wants 127.0.0.1:{greeting_server}\n"


@pytest.mark.parametrize(
    ("request_bytes", "said"),
    [
        (socks4_request(80, version=5), "refused: version 5, command 1"),
        (socks4_request(80, command=2), "refused: version 4, command 2"),
        (b"G", "refused: not SOCKS4"),
        (socks4_request(80, user=b"u" * 256), "refused: the user's name is too long"),
        (socks4_request(80, user=b"u" * 300)[:-1], "refused: the user's name is too long"),
        (socks4_request(1, user=b"u" * 255), f"{'u' * 255} wants 127.0.0.1:1"),
    ],
)
def test_socks4_refuses(request_bytes: bytes, said: str) -> None:
    with started("socks4.py", "0") as process:
        port = int(next_line(process, process.stdout).split()[-1])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(request_bytes)
            with client.makefile("rb") as stream:
                assert stream.read() == b"\0\x5b" + bytes(6)
        assert next_line(process, process.stdout) == said + "\n"


def exchange(port: int, data: bytes) -> bytes:
    """Send `data` and the end of it, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(65536), b""))


@pytest.mark.parametrize("size", [0, 128, 129, 50_000])
def test_uppercase_reader_sends_all_of_it_back(size: int) -> None:
    with serving("uppercase_reader.py") as (_, port):
        assert exchange(port, b"x" * size) == b"X" * size


def test_fibonacci_sends_so_many_numbers_to_each_client() -> None:
    with started("fibonacci.py", "0", "2000") as process:
        port = int(next_line(process, process.stdout).split()[-1])
        for _ in range(2):
            numbers = [int(line) for line in exchange(port, b"").splitlines()]
            assert numbers[:6] == [0, 1, 1, 2, 3, 5]
            assert len(numbers) == 2000
            assert all(numbers[n] == numbers[n - 1] + numbers[n - 2] for n in range(2, 2000))


def test_fibonacci_needs_one_number_only() -> None:
    with started("fibonacci.py", "0", "1") as process:
        port = int(next_line(process, process.stdout).split()[-1])
        assert exchange(port, b"") == b"0\n"


@pytest.mark.parametrize("size", [0, 1, 1_000_000])
def test_zlib_filter_brings_a_file_through_unchanged(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * (size // 3) + b"d" * (size % 3))
    first, second = lines_of(run("zlib_filter.py", str(path)))
    match = re.fullmatch(rf"{size} bytes went as (\d+)", first)
    assert match
    assert int(match[1]) < max(size // 100, 20)
    assert second == "they are the same"


def test_zlib_filter_takes_itself_without_a_file() -> None:
    assert lines_of(run("zlib_filter.py"))[1] == "they are the same"


def test_line_codec_answers_whole_lines() -> None:
    with serving("line_codec.py") as (_, port):
        assert exchange(port, b"abc\r\ndef\n\nrest") == b"cba\r\nfed\r\n\r\n"
        assert exchange(port, b"a" * 999 + b"b\n") == b"b" + b"a" * 999 + b"\r\n"


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_line_codec_says_when_a_line_is_too_long(end: bytes) -> None:
    with serving("line_codec.py") as (_, port):
        said = exchange(port, b"good\n" + b"a" * 1001 + end)
    assert said == b"doog\r\nerror: more than 1000 bytes without a line end\r\n"


@pytest.mark.parametrize("input_is", ["a pipe", "a file"])
def test_becat_brings_its_input_to_another_and_prints_what_comes(
    tmp_path: Path, input_is: str
) -> None:
    text = "a line of some length\n" * 50_000
    path = tmp_path / "input"
    path.write_text(text)
    printed: list[str] = []
    with started("becat.py", "-l", "127.0.0.1", "0") as listening, path.open() as file:
        assert listening.stdin is not None
        assert listening.stdout is not None
        port = next_line(listening, listening.stderr).split()[-1]
        listening.stdin.write("greetings")
        listening.stdin.flush()
        reader = threading.Thread(
            target=lambda out: printed.append(out.read()), args=[listening.stdout]
        )
        reader.start()
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / "becat.py"), "localhost", port],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env=ENVIRONMENT,
            **({"input": text} if input_is == "a pipe" else {"stdin": file}),
        )
        reader.join(30)
        assert (done.stdout, done.stderr, done.returncode) == ("greetings", "", 0)
        assert printed == [text]
        assert listening.wait(30) == 0


def test_becat_says_when_nobody_listens() -> None:
    with held_port() as port:
        done = run("becat.py", "127.0.0.1", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"becat\.py: .*refused\n", done.stderr)


def test_workers_are_replaced_while_clients_go_on_asking() -> None:
    with example_url("workers.py", "0", "2") as (line, process):
        url = line.partition(" ")[0]

        def ask() -> str:
            with urllib.request.urlopen(url, timeout=20) as reply:
                text: str = reply.read().decode()
            return text

        first = ask()
        process.send_signal(signal.SIGHUP)
        while "the rolling restart is over" not in next_line(process, process.stderr):
            pass
        while ask() == first:  # who is replaced may take a connection yet
            pass
        with urllib.request.urlopen(f"{url}metrics", timeout=20) as reply:
            assert b"evsvc_http_requests_total" in reply.read()
        process.terminate()
        assert process.wait(30) == 0
