"""The main job: `evsvc demo`, and every command that it prints, as a user would paste them."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.ports import held_port

pytestmark = pytest.mark.interop

# What each command must give, by what the demo says of it.
EXPECTED = {
    "the general callback, for every path without its own": r"for /any/path by GET\.",
    "a path callback that reads the query": r"^Hello, you!$",
    "a request body, sent back": r"^some text$",
    "a reply in pieces, from a timer": r"^1\n2\n3\n4\n5$",
    "an address from the DNS server": r"demo\.evsvc\.test\.\s+60\s+IN\s+A\s+127\.0\.0\.1",
    "the same over TCP, for IPv6": r"demo\.evsvc\.test\.\s+60\s+IN\s+AAAA\s+::1(.|\n)*\(TCP\)",
    "a name that does not exist: NXDOMAIN": r"status: NXDOMAIN",
    'a remote call: {"total": 5}': r'^\{"total": 5\}$',
    "a page from a host that is looked up in the demo's own DNS server": r"^Hello, world!$",
}


class RunningDemo:
    """A demo in a process of its own, and what it printed."""

    def __init__(self, http_port: int = 0) -> None:
        ports = ["--http-port", str(http_port), "--dns-port", "0"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "evsvc", "demo", *ports],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.lines: list[str] = []
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if "evsvc fetch" in line:
                break
        self.commands = {
            says.removeprefix("# "): command
            for says, command in zip(self.lines, self.lines[1:], strict=False)
            if says.startswith("# ")
        }
        first = re.match(r"Serving HTTP and RPC on port (\d+)", self.lines[0] if self.lines else "")
        if first is None:
            _, errors = self.process.communicate(timeout=20)
            pytest.fail(f"the demo did not start: {errors}")
        self.port = int(first[1])

    def stop(self, signum: signal.Signals) -> int:
        self.process.send_signal(signum)
        self.process.communicate(timeout=20)
        return self.process.returncode


@contextlib.contextmanager
def running_demo(http_port: int = 0) -> Iterator[RunningDemo]:
    running = RunningDemo(http_port)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop(signal.SIGKILL)


@pytest.fixture
def demo() -> Iterator[RunningDemo]:
    with running_demo() as running:
        yield running


def paste(command: str) -> str:
    """Run a printed command; `evsvc` is this checkout's, wherever the tests run."""
    words = shlex.split(command)
    if words[0] == "evsvc":
        words[:1] = [sys.executable, "-m", "evsvc"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_printed_command_gives_what_the_demo_says(
    demo: RunningDemo, program: Callable[[str], str]
) -> None:
    program("curl")
    program("dig")
    assert set(demo.commands) == set(EXPECTED)
    for says, command in demo.commands.items():
        output = paste(command)
        assert re.search(EXPECTED[says], output, re.MULTILINE), f"{command}\n{output}"


def test_each_command_starts_with_its_program(demo: RunningDemo) -> None:
    programs = {"curl", "dig", "evsvc"}
    assert {command.split()[0] for command in demo.commands.values()} == programs
    # And nothing else that is printed could be taken for a command.
    commands = [line for line in demo.lines if line.split()[:1] and line.split()[0] in programs]
    assert commands == list(demo.commands.values())


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo_with_exit_code_0(demo: RunningDemo, signum: signal.Signals) -> None:
    assert demo.stop(signum) == 0


def test_a_request_in_flight_finishes_after_the_signal(demo: RunningDemo) -> None:
    with socket.create_connection(("127.0.0.1", demo.port), timeout=20) as sock:
        sock.sendall(b"GET /count HTTP/1.1\r\nHost: demo\r\n\r\n")
        received = sock.recv(65536)
        demo.process.send_signal(signal.SIGTERM)
        while piece := sock.recv(65536):
            received += piece
    assert received.endswith(b"2\r\n5\n\r\n0\r\n\r\n")
    assert demo.process.wait(timeout=20) == 0
    demo.process.communicate()


def test_after_the_signal_no_connection_is_taken() -> None:
    with held_port() as port, running_demo(port) as demo:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            sock.sendall(b"GET /count HTTP/1.1\r\nHost: demo\r\n\r\n")
            sock.recv(65536)
            demo.process.send_signal(signal.SIGINT)
            while sock.recv(65536):
                pass
        demo.process.communicate(timeout=20)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=20)


@pytest.mark.parametrize("option", ["--http-port", "--dns-port"])
def test_a_busy_port_gives_one_clear_line_and_exit_code_1(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        other = "--dns-port" if option == "--http-port" else "--http-port"
        command = [sys.executable, "-m", "evsvc", "demo", option, port, other, "0"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(rf"evsvc: .*{port}.*in use.*\n", done.stderr), done.stderr


def test_fetch_of_an_unknown_name_fails_with_one_line(demo: RunningDemo) -> None:
    fetch = shlex.split(
        demo.commands["a page from a host that is looked up in the demo's own DNS server"]
    )
    fetch[2] = fetch[2].replace("demo.", "nowhere.")
    done = subprocess.run(
        [sys.executable, "-m", *fetch], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1
    assert re.fullmatch(r"evsvc: .*nowhere\.evsvc\.test.*\n", done.stderr), done.stderr


def test_an_ill_typed_call_fails_with_one_line_that_names_the_field(demo: RunningDemo) -> None:
    url = f"http://127.0.0.1:{demo.port}"
    for request, says in (
        ('{"left": 2}', "AddRequest.right"),
        ('{"left": 2, "right": "three"}', "AddRequest.right"),
        ("nonsense", "not JSON"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "evsvc", "rpc", "call", url, "evsvc.demo:Add", request],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env=os.environ,
        )
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert says in done.stderr
