"""What systemd passes, and what it is told, over a real socket of its kind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evsvc.core import ArgumentError
from evsvc.workers import Notifier, systemd_sockets
from evsvc.workers.systemd import MAX_SOCKETS
from tests.workers.service import PATIENCE_S, PROGRAM, ROOT

PASSED = "sockets=[passed.socket for passed in systemd_sockets()]"

# What systemd does: the sockets have the numbers from 3 on, and the variables the process's own.
SHIM = """
import fcntl, os, sys
fds = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[1].split(",")]
for place, fd in enumerate(fds, 3):
    os.dup2(fd, place)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)))
if sys.argv[2]:
    os.environ["LISTEN_FDNAMES"] = sys.argv[2]
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""

TELL_SOCKETS = """
import os
from evsvc.workers import systemd_sockets
for name, sock in systemd_sockets():
    print(name, sock.getsockname()[1], sock.get_inheritable())
print(systemd_sockets(), [name for name in os.environ if name.startswith("LISTEN_")])
"""


SERVE_WEB = """
(name, sock), = systemd_sockets()
assert name == "web"
with Supervisor(serve_http, 1, sockets=[sock]) as supervisor:
    raise SystemExit(supervisor.run())
"""


def passing(sockets: list[socket.socket], names: str) -> list[str]:
    numbers = ",".join(str(sock.fileno()) for sock in sockets)
    return [sys.executable, "-c", SHIM, numbers, names]


def test_the_page_has_them_served_as_these_tests_do() -> None:
    page = (ROOT / "docs" / "workers.md").read_text("utf-8")
    assert f"    run(setup, workers=4, {PASSED})\n" in page


@pytest.fixture(params=["path", "abstract"])
def listener(request, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """systemd's end of the notifications, and its name in NOTIFY_SOCKET."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE_S)
        if request.param == "abstract":
            if sys.platform != "linux":
                pytest.skip("abstract names are Linux's")
            sock.bind("\0" + name)
            yield "@" + name, sock
        else:
            sock.bind(name)
            yield name, sock


def told(sock: socket.socket) -> list[str]:
    return sock.recv(4096).decode().splitlines()


class TestSockets:
    @pytest.mark.parametrize(
        ("names", "shown"), [("web:inside", ["web", "inside"]), ("", ["unknown", "unknown"])]
    )
    def test_they_have_names_and_are_taken_once(self, names, shown) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as one,
            socket.create_server(("127.0.0.1", 0)) as other,
        ):
            done = subprocess.run(
                [*passing([one, other], names), "-c", TELL_SOCKETS],
                pass_fds=[one.fileno(), other.fileno()],
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=True,
            )
            ports = [sock.getsockname()[1] for sock in (one, other)]
        lines = [f"{name} {port} False" for name, port in zip(shown, ports, strict=True)]
        assert done.stdout.splitlines() == [*lines, "[] []"]

    @pytest.mark.parametrize(
        "environ",
        [
            {},
            {"LISTEN_FDS": "1"},
            {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
            {"LISTEN_PID": str(os.getpid())},
        ],
    )
    def test_those_of_another_process_are_not_ours(self, environ) -> None:
        before = dict(environ)
        assert systemd_sockets(environ) == []
        assert environ == before

    @pytest.mark.parametrize("count", ["-1", "x", "", str(MAX_SOCKETS + 1), "²"])
    def test_the_number_is_one(self, count) -> None:
        with pytest.raises(ArgumentError, match="LISTEN_FDS"):
            systemd_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count})

    def test_no_sockets_are_none(self) -> None:
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0", "LISTEN_FDNAMES": "a"}
        with pytest.raises(ArgumentError, match="LISTEN_FDNAMES"):
            systemd_sockets(environ)
        assert environ == {}
        assert systemd_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}) == []

    def test_what_is_no_socket_is_refused(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", SHIM, "0", "", "-c", TELL_SOCKETS],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert "SocketError" in done.stderr
        assert "the descriptor 3 (unknown) is no socket" in done.stderr

    def test_workers_serve_what_is_passed_also_before_they_are_there(self, service) -> None:
        with socket.create_server(("127.0.0.1", 0)) as passed:
            port = passed.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                running = service(
                    binds=PASSED, command=passing([passed], ""), pass_fds=[passed.fileno()]
                )
                workers = running.ready(2)
                with client.makefile("rb") as stream:
                    assert int(stream.read().splitlines()[-1]) in workers
            running.ports = [port]
            running.send(signal.SIGHUP)
            workers = running.ready(2)
            for _ in range(2):
                running.log_until("has ended with code 0")
            assert int(running.get()) in workers
            assert running.end()[0] == 0

    @pytest.mark.interop
    def test_systemd_s_own_program_starts_it_when_somebody_comes(
        self, program: Callable[[str], str], tmp_path: Path
    ) -> None:
        activate = [program("systemd-socket-activate"), f"--listen={tmp_path / 'socket'}"]
        activate += ["--fdname=web", f"--setenv=PYTHONPATH={ROOT}", sys.executable, "-c"]
        with subprocess.Popen(
            [*activate, PROGRAM + SERVE_WEB], stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stderr is not None
                assert "Listening on" in process.stderr.readline()
                with socket.socket(socket.AF_UNIX) as client, client.makefile("rb") as stream:
                    client.settimeout(PATIENCE_S)
                    client.connect(str(tmp_path / "socket"))
                    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    assert int(stream.read().splitlines()[-1]) != process.pid
                process.terminate()
                _, logged = process.communicate(timeout=PATIENCE_S)
            finally:
                process.kill()
        assert process.returncode == 0
        assert "has ended with code 0" in logged


class TestNotifications:
    def test_ready_reloading_and_stopping_are_told_in_their_turn(self, service, listener) -> None:
        name, sock = listener
        running = service(env={"NOTIFY_SOCKET": name})
        assert told(sock) == ["READY=1", "STATUS=2 workers"]
        running.ready(2)
        before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        running.send(signal.SIGHUP)
        reloading, since, _ = told(sock)
        assert reloading == "RELOADING=1"
        assert int(since.removeprefix("MONOTONIC_USEC=")) >= before_us
        assert told(sock) == ["READY=1", "STATUS=2 workers"]
        running.send(signal.SIGTERM)
        assert told(sock)[0] == "STOPPING=1"
        assert running.wait()[0] == 0

    def test_signs_of_life_come_in_half_of_the_time(self, service, listener) -> None:
        name, sock = listener
        service(env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "200000"})
        signs = 0
        while signs < 3:
            signs += told(sock) == ["WATCHDOG=1"]

    def test_workers_do_not_speak_for_the_service(self, service, listener) -> None:
        name, _ = listener
        setup = """
def setup(worker):
    print(sorted(set(os.environ) & {"NOTIFY_SOCKET", "WATCHDOG_USEC"}), flush=True)
"""
        running = service(setup, env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "9000000"})
        assert running.process.stdout.readline() == "[]\n"

    def test_without_systemd_nothing_is_told(self) -> None:
        with Notifier({}) as notifier:
            notifier.ready("here")
            assert notifier.watchdog_s is None

    @pytest.mark.parametrize(
        ("usec", "pid", "watchdog_s"),
        [
            ("3000000", "", 1.5),
            ("3000000", str(os.getpid()), 1.5),
            ("3000000", "1", None),
            ("", "", None),
            ("0", "", None),
            ("x", "", None),
        ],
    )
    def test_the_watchdog_s_time_is_that_of_this_process(self, usec, pid, watchdog_s) -> None:
        environ = {"WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}
        with Notifier(environ) as notifier:
            assert notifier.watchdog_s == watchdog_s
        assert environ == {}

    @pytest.mark.parametrize("name", ["vsock:2:1234", "relative"])
    def test_a_name_of_another_kind_is_logged(self, name, caplog) -> None:
        with Notifier({"NOTIFY_SOCKET": name}) as notifier:
            notifier.ready("here")
        assert name in caplog.text

    def test_a_listener_that_has_gone_is_logged(self, tmp_path: Path, caplog) -> None:
        with Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}) as notifier:
            notifier.status("alone")
        assert "cannot tell systemd STATUS=alone" in caplog.text
