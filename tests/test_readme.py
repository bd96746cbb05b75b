"""The programs of README.md run as they stand, but for their ports and the host that they ask."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
FIRST, CONTENT, BY_NAME, RPC = PROGRAMS

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def replaced(program: str, old: str, new: str) -> str:
    assert program.count(old) >= 1, f"the program has no {old!r}"
    return program.replace(old, new)


@contextmanager
def serving(program: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a program that serves on port 8080, on a free port instead; give its URL."""
    bind = 'server.bind_socket("127.0.0.1", 8080)'
    program = replaced(program, bind, 'print(server.bind_socket("127.0.0.1", 0).port)')
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port, process.communicate(timeout=20)
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as reply:
        body: bytes = reply.read()
    return body


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=ENVIRONMENT,
    )


def test_the_first_program_answers_logs_the_access_and_stops_cleanly() -> None:
    with serving(FIRST) as (process, url):
        assert get(f"{url}/any") == b"Thanks for the request!"
        assert get(f"{url}/") == b"Thanks for the request!"
        process.send_signal(signal.SIGINT)
        _, logged = process.communicate(timeout=20)
    assert process.returncode == 0
    shown = re.search(r"logs\s`(.*)`", README)
    assert shown
    assert shown[1] in logged.splitlines()
    assert len(logged.splitlines()) == 2


def test_the_second_program_answers_at_once_and_later() -> None:
    with serving(replaced(CONTENT, "timeout=2", "timeout=0.01")) as (_, url):
        assert get(f"{url}/greet") == b"You asked for /greet\n"
        assert get(f"{url}/later") == b"at last\n"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"{url}/other")


def test_connecting_by_name_prints_the_answer_and_that_it_is_done() -> None:
    def answer() -> None:
        client, _ = server.accept()
        with client, client.makefile("rb") as stream:
            asked.extend(iter(stream.readline, b"\r\n"))
            client.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello\n")

    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        port = server.getsockname()[1]
        program = replaced(BY_NAME, '"example.org", 80', f'"localhost", {port}')
        done = run(replaced(program, "AF_UNSPEC", "AF_INET"))
        thread.join(20)
    assert asked == [b"GET / HTTP/1.0\r\n", b"Host: example.org\r\n"]
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "HTTP/1.0 200 OK\n\nhello\ndone\n"


def test_connecting_by_name_says_what_went_wrong() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        done = run(replaced(BY_NAME, '"example.org", 80', f'"127.0.0.1", {port}'))
    assert (done.returncode, done.stderr) == (0, "")
    assert "refused" in done.stdout


def test_the_rpc_program_prints_the_sum() -> None:
    done = run(RPC)
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


def test_a_script_beside_the_checkout_imports_evsvc(tmp_path: Path) -> None:
    """A folder named evsvc beside a script is a package to Python, unless a whole one is found."""
    (tmp_path / "evsvc").symlink_to(ROOT)
    script = tmp_path / "first.py"
    script.write_text("import evsvc\nprint(evsvc.EventBase.__name__)\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    if "ModuleNotFoundError: No module named 'evsvc'" in done.stderr:
        pytest.skip("evsvc is not installed for this Python")
    assert (done.stdout, done.stderr) == ("EventBase\n", "")


@pytest.mark.parametrize("missing", ["h11", "dns", "msgpack"])
def test_without_what_evsvc_needs_the_error_says_what_to_do(missing: str) -> None:
    done = run(f"import sys; sys.modules[{missing!r}] = None; import evsvc")
    assert done.returncode == 1
    assert "ModuleNotFoundError: " in done.stderr
    error = done.stderr.splitlines()[-1]
    assert error.startswith("ImportError: evsvc needs h11, dnspython and msgpack")
    assert missing in error
    assert "`make venv`" in error
    assert "pip install" in error


@pytest.mark.parametrize("module", ["http.websocket", "rpc.websocket", "aio.websocket"])
def test_without_the_extra_for_websockets_the_error_names_it(module: str) -> None:
    done = run(f"import sys; sys.modules['wsproto'] = None; import evsvc.{module}")
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert error.startswith("ModuleNotFoundError: WebSockets need wsproto")
    assert "[ws]" in error


def test_a_module_of_ours_that_is_missing_is_not_taken_for_a_package_to_install() -> None:
    done = run("import sys; sys.modules['evsvc.http'] = None; import evsvc")
    assert done.stderr.splitlines()[-1].startswith("ModuleNotFoundError: ")
