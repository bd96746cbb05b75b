"""The main job: `evsvc demo`, and the block that it prints, as a user would paste it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evsvc.stopping import TOGETHER_S
from tests.ports import held_port

ROOT = Path(__file__).resolve().parent.parent

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
    "a page from a host that is looked up in the DNS server of the demo": r"^Hello, world!$",
}


DEMO = [sys.executable, "-m", "evsvc", "demo", "--http-port", "0", "--dns-port", "0"]


class RunningDemo:
    """A demo in a process of its own, and what it printed."""

    def __init__(self, command: list[str] = DEMO, **options: object) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,  # type: ignore[call-overload]  # Popen's
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
            if says.startswith("# ") and command and not command.startswith(("#", "export"))
        }
        first = re.search(r"HTTP and RPC on port (\d+)", self.lines[0] if self.lines else "")
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
    running = RunningDemo([*DEMO, "--http-port", str(http_port)])
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


def test_what_is_printed_can_be_pasted_whole(
    demo: RunningDemo, program: Callable[[str], str], tmp_path: Path
) -> None:
    """Into a shell that stops at the first line that fails."""
    program("curl")
    program("dig")
    (tmp_path / "evsvc").write_text(f'#!/bin/sh\nexec {sys.executable} -m evsvc "$@"\n')
    (tmp_path / "evsvc").chmod(0o755)
    done = subprocess.run(
        ["sh", "-e"],
        input="\n".join(demo.lines) + "\n",
        env={**os.environ, "PATH": f"{os.environ['PATH']}:{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith('{"total": 5}\nHello, world!\n')


def test_each_printed_line_is_a_command_or_a_comment(demo: RunningDemo) -> None:
    commands = [line for line in demo.lines if line and not line.startswith("# ")]
    assert [line for line in commands if not line.startswith("export PATH=")] == list(
        demo.commands.values()
    )
    assert {line.split()[0] for line in commands} <= {"curl", "dig", "evsvc", "export"}
    # zsh takes comments for commands, until it is told otherwise.
    assert not [line for line in demo.lines if line.startswith("#") and re.search("['`()*?]", line)]


@pytest.mark.parametrize("on_path", [True, False])
def test_the_block_says_where_evsvc_is_when_the_shell_does_not_know(
    on_path: bool, tmp_path: Path
) -> None:
    (tmp_path / "evsvc").touch(0o755)
    path = str(tmp_path) if on_path else "/nowhere"
    demo = RunningDemo(env={**os.environ, "PATH": path})
    demo.stop(signal.SIGTERM)
    folder = shlex.quote(os.path.dirname(sys.executable))
    assert (f'export PATH={folder}:"$PATH"' in demo.lines) is not on_path


def test_a_command_whose_program_is_missing_is_printed_as_a_comment(tmp_path: Path) -> None:
    demo = RunningDemo(env={**os.environ, "PATH": str(tmp_path)})
    demo.stop(signal.SIGTERM)
    assert any(re.match("# dig is not installed: dig @", line) for line in demo.lines)
    assert not any(line.startswith(("dig", "curl")) for line in demo.lines)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo_with_exit_code_0(demo: RunningDemo, signum: signal.Signals) -> None:
    assert demo.stop(signum) == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_was_started_with_signals_ignored_still_ends(signum: signal.Signals) -> None:
    """As scripts start what they put into the background."""
    script = f"trap '' INT TERM; exec {shlex.join(DEMO)}"
    assert RunningDemo(["sh", "-c", script]).stop(signum) == 0


def test_ctrl_c_ends_a_demo_whose_output_goes_into_a_pipe() -> None:
    """Whoever reads the pipe is interrupted, too, and reads no last lines."""
    script = f"trap : INT; {{ trap : INT; {shlex.join(DEMO)} 2>&1; echo $? >&3; }} 3>&2 | cat"
    demo = RunningDemo(["sh", "-c", script], start_new_session=True)
    os.killpg(demo.process.pid, signal.SIGINT)
    _, errors = demo.process.communicate(timeout=20)
    assert errors == "0\n"


def test_a_terminal_s_ctrl_c_ends_the_demo() -> None:
    """A new session's leader gets the first terminal that it opens for its own."""
    screen, terminal = pty.openpty()
    name = os.ttyname(terminal)
    script = f"exec {shlex.join(DEMO)} <{name} >{name} 2>&1"
    process = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    shown = b""
    while b"evsvc fetch" not in shown:
        shown += os.read(screen, 4096)
    os.write(screen, b"\x03")
    assert process.wait(20) == 0
    os.close(terminal)
    os.close(screen)


def test_make_hands_options_on_and_is_no_shell_in_between(program: Callable[[str], str]) -> None:
    command = [program("make"), "--dry-run", "--no-print-directory", "demo"]
    command.append("DEMO_ARGS=--http-port 8081 --quiet")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "exec .venv/bin/evsvc demo --http-port 8081 --quiet"


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


def end_of(demo: RunningDemo, first: signal.Signals, second: signal.Signals, after_s: float) -> str:
    """Ask a demo twice to stop that has a request in flight; return what it logged."""
    with socket.create_connection(("127.0.0.1", demo.port), timeout=20) as sock:
        sock.sendall(b"POST /echo HTTP/1.1\r\nHost: demo\r\nContent-Length: 5\r\n\r\n12")
        demo.process.send_signal(first)
        with contextlib.suppress(subprocess.TimeoutExpired):
            demo.process.wait(after_s)
        demo.process.send_signal(second)
        return demo.process.communicate(timeout=20)[1]


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_wait_at_once_and_in_order(
    demo: RunningDemo, second: signal.Signals
) -> None:
    errors = end_of(demo, signal.SIGTERM, second, TOGETHER_S + 0.1)
    assert demo.process.returncode == 1
    assert "ending at once" in errors
    assert "Traceback" not in errors


def test_two_signals_that_come_together_are_one(demo: RunningDemo) -> None:
    """The request in flight is waited for, and finishes."""
    with socket.create_connection(("127.0.0.1", demo.port), timeout=20) as sock:
        sock.sendall(b"GET /count HTTP/1.1\r\nHost: demo\r\n\r\n")
        received = sock.recv(65536)
        demo.process.send_signal(signal.SIGINT)
        demo.process.send_signal(signal.SIGTERM)
        while piece := sock.recv(65536):
            received += piece
    assert received.endswith(b"2\r\n5\n\r\n0\r\n\r\n")
    demo.process.communicate(timeout=20)
    assert demo.process.returncode == 0


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
    says = rf"evsvc: .*{port}.*in use; for another port: {option} PORT, .*\n"
    assert re.fullmatch(says, done.stderr), done.stderr


def test_fetch_of_an_unknown_name_fails_with_one_line(demo: RunningDemo) -> None:
    fetch = shlex.split(
        demo.commands["a page from a host that is looked up in the DNS server of the demo"]
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


def test_a_definition_is_found_in_the_current_folder(demo: RunningDemo, tmp_path: Path) -> None:
    """By the installed command as well, whose own folder is another one."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "evsvc"
    command.write_text("import sys\nfrom evsvc.cli import main\nsys.exit(main())\n")
    (tmp_path / "mine.py").write_text("from evsvc.demo import Add\n")
    request = '{"left": 2, "right": 3}'
    done = subprocess.run(
        [
            sys.executable,
            command,
            "rpc",
            "call",
            f"http://127.0.0.1:{demo.port}",
            "mine:Add",
            request,
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ('{"total": 5}\n', "", 0)
