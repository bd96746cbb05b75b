"""The examples run as they stand, as a user would run them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"

# This checkout's evsvc, installed or not.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@contextmanager
def serving(name: str) -> Iterator[tuple[str, int]]:
    """Start an example that serves on a free port; give its first line, and the port in it."""
    command = [sys.executable, str(EXAMPLES / name), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield line, int(re.findall(r"\d+", line.split("127.0.0.1")[-1])[0])
        finally:
            process.terminate()


def run(name: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *args]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False, env=ENVIRONMENT
    )


def test_every_example_has_a_test() -> None:
    tested = set(re.findall(r'"(\w+\.py)"', Path(__file__).read_text("utf-8")))
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_hello_http_answers_general_and_path_callbacks() -> None:
    with serving("hello_http.py") as (line, _):
        url = line.strip()
        with urllib.request.urlopen(url, timeout=20) as reply:
            assert reply.read() == b"Thanks for the request!\n"
        with urllib.request.urlopen(f"{url}greet?name=Ann", timeout=20) as reply:
            assert reply.read() == b"Good morning, Ann!\n"


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


def test_rpc_add_prints_both_replies() -> None:
    done = run("rpc_add.py")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "[1, 2, 3.5] -> SumReply(total=6.5, count=3)",
        "[] -> SumReply(total=0.0, count=0)",
    ]


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
