"""`evsvc serve`: folders, setup functions, WSGI and ASGI, by real processes."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trustme

from evsvc.cli import main
from evsvc.commands.hosting import kind_of, load_application
from evsvc.core import ArgumentError
from evsvc.workers import SETUP_FAILED
from tests.workers.service import PATIENCE_S, ROOT, Watched

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}

SETUP = """
import os

def setup(server):
    server.set_cb("/", lambda request, arg: request.send_reply(200, None, b"first"))
    server.set_cb("/pid", lambda request, arg: request.send_reply(200, None, b"%d" % os.getpid()))
"""

FLASK = """
import threading
import flask

app = flask.Flask(__name__)

@app.route("/")
def hello():
    return threading.current_thread().name
"""

FASTAPI = """
import asyncio
from contextlib import asynccontextmanager
from fastapi import FastAPI, Request

@asynccontextmanager
async def lifespan(app):
    await asyncio.sleep(0)
    yield {"greeting": "Hello"}
    print("stopped in order", flush=True)

app = FastAPI(lifespan=lifespan)

@app.get("/")
async def hello(request: Request):
    await asyncio.sleep(0)
    return request.state.greeting
"""

SLOW = """
import asyncio

def read():
    with open("fifo", "rb") as fifo:
        return fifo.read()

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [read()]

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    body = await asyncio.to_thread(read)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


class Serving(Watched):
    """The command, which prints a line for each address."""

    def __init__(self, folder: Path, *args: str) -> None:
        command = [sys.executable, "-m", "evsvc", "serve", *args]
        super().__init__(command, cwd=folder, stdin=subprocess.DEVNULL, env=ENVIRONMENT)
        self.url = self.first.split(" on ")[1].strip()

    def get(self, path: str = "", context: ssl.SSLContext | None = None) -> bytes:
        url = f"{self.url}{path}"
        with urllib.request.urlopen(url, timeout=PATIENCE_S, context=context) as reply:
            body: bytes = reply.read()
        return body


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Return `serve(*args)`: the command in a folder, on a free port unless it says otherwise."""
    made: list[Serving] = []

    def start(*args: str) -> Serving:
        where = [] if "--bind" in args else ["--bind", "127.0.0.1:0"]
        made.append(Serving(tmp_path, *args, *where))
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_a_folder(serve, tmp_path: Path) -> None:
    (tmp_path / "site" / "sub").mkdir(parents=True)
    (tmp_path / "site" / "index.html").write_text("welcome")
    (tmp_path / "site" / "sub" / "file.txt").write_text("text")
    (tmp_path / "secret").write_text("secret")
    serving = serve("site")
    assert (serving.get(), serving.get("sub/file.txt")) == (b"welcome", b"text")
    for path in ("sub/", "../secret", "none"):
        with pytest.raises(urllib.error.HTTPError, match="40"):
            serving.get(path)
    code, logged, _ = serving.end()
    assert code == 0
    assert 'evsvc.http.access: 127.0.0.1 "GET /sub/file.txt HTTP/1.1" 200 4' in logged


def test_a_folder_with_its_names(serve, tmp_path: Path) -> None:
    (tmp_path / "file.txt").touch()
    assert b"file.txt" in serve(".", "--listing").get()


def test_a_setup_function_in_several_workers(serve, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SETUP)
    serving = serve("mine:setup", "--workers", "2", "--quiet")
    assert serving.get() == b"first"
    assert len({serving.get("pid") for _ in range(60)}) == 2
    assert serving.end(signal.SIGINT)[0] == 0


def test_the_setup_of_docs_workers_is_served(serve, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "workers.md").read_text("utf-8")
    (block,) = re.findall(r"`evsvc serve hello:setup`:\n\n((?:    .*\n)+)", page)
    (tmp_path / "hello.py").write_text(textwrap.dedent(block))
    serving = serve("hello:setup")
    assert serving.get() == b"hello\n"
    assert serving.end()[0] == 0


def test_sighup_brings_new_code_in(serve, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SETUP)
    serving = serve("mine:setup")
    assert serving.get() == b"first"
    (tmp_path / "mine.py").write_text(SETUP.replace("first", "second"))
    assert serving.get() == b"first"
    serving.process.send_signal(signal.SIGHUP)
    serving.log_until("has ended with code 0")
    assert serving.get() == b"second"


def test_reload_does_so_when_a_file_changes_and_a_broken_one_harms_nobody(
    serve, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(SETUP)
    serving = serve("mine:setup", "--reload", "--workers", "2")
    serving.log_until("all workers are ready")
    assert serving.get() == b"first"
    (tmp_path / "mine.py").write_text("def setup(")
    serving.log_until("SyntaxError")
    serving.log_until("who serves goes on serving")
    serving.log_until("the rolling restart is over")
    assert serving.get() == b"first"
    (tmp_path / "mine.py").write_text(SETUP.replace("first", "the second"))
    serving.log_until("changed: .*mine.py")
    serving.log_until("the rolling restart is over")
    while serving.get() != b"the second":  # a predecessor may take a connection yet
        pass
    assert serving.end()[0] == 0


def test_a_wsgi_application_in_threads(serve, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FLASK)
    serving = serve("mine:app", "--workers", "2")
    assert serving.get() != b"MainThread"
    assert serving.end()[0] == 0


def test_an_asgi_application_with_its_lifespan(serve, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FASTAPI)
    serving = serve("mine:app", "--workers", "2")
    serving.log_until("all workers are ready")
    assert serving.get() == b'"Hello"'
    serving.process.send_signal(signal.SIGHUP)
    for _ in range(2):
        serving.log_until("has ended with code 0")
    assert serving.get() == b'"Hello"'
    code, _, printed = serving.end()
    assert (code, printed) == (0, "stopped in order\n" * 4)


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_an_application_finishes_what_it_has_begun(serve, tmp_path: Path, kind) -> None:
    """Its worker is replaced meanwhile, and ends when it has answered."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "mine.py").write_text(SLOW)
    serving = serve(f"mine:{kind}")
    serving.log_until("is ready")
    host, port = serving.url.removeprefix("http://").rstrip("/").split(":")
    client = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
    client.request("GET", "/")
    with (tmp_path / "fifo").open("w") as fifo:  # the application reads it by now
        serving.process.send_signal(signal.SIGHUP)
        serving.log_until("is ready")
        fifo.write("at last")
    assert client.getresponse().read() == b"at last"
    client.close()
    serving.log_until("has ended with code 0")
    assert serving.end()[0] == 0


def test_an_asgi_application_that_does_not_start(serve, tmp_path: Path) -> None:
    broken = FASTAPI.replace("yield {", 'raise LookupError("no database")\n    yield {')
    (tmp_path / "mine.py").write_text(broken)
    code, logged, _ = serve("mine:app").wait()
    assert code == SETUP_FAILED
    assert "LookupError" in logged


def test_tls(serve, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    (tmp_path / "cert.pem").write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    (tmp_path / "index.html").write_text("safe")
    serving = serve(".", "--tls", "cert.pem", "key.pem")
    assert serving.url.startswith("https://")
    assert serving.get(context=context) == b"safe"


def test_several_addresses_one_of_them_a_unix_socket(serve, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("both")
    serving = serve(".", "--bind", "[::1]:0", "--bind", "unix:socket")
    assert serving.get() == b"both"
    assert serving.url.startswith("http://[::1]:")
    assert serving.process.stdout.readline().startswith("serving . on ")
    with socket.socket(socket.AF_UNIX) as client, client.makefile("rb") as stream:
        client.settimeout(PATIENCE_S)
        client.connect(str(tmp_path / "socket"))
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert stream.read().endswith(b"both")
    assert serving.end()[0] == 0
    assert not (tmp_path / "socket").exists()


def test_figures_of_all_workers(serve, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("counted")
    serving = serve(".", "--workers", "2", "--metrics", "/figures")
    for _ in range(10):
        serving.get()
    page = serving.get("figures").decode()
    assert 'requests_total{method="GET",status="2xx"} 10\n' in page


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nowhere:app", "ModuleNotFoundError"),
        ("os:nothing", "no such name"),
        ("os:sep", "not to be called"),
        ("os:getpid", "--as"),
    ],
)
def test_what_cannot_be_served_ends_it_at_once(serve, target, says) -> None:
    code, logged, _ = serve(target, "--workers", "3").wait()
    assert code == SETUP_FAILED
    assert logged.count("its setup failed") == 1
    assert says in logged


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nowhere"], "nowhere"),
        ([".", "--bind", "8080"], "8080"),
        ([".", "--bind", "localhost:8080"], "localhost"),
        ([".", "--bind", "::1:8080"], "::1:8080"),
        ([".", "--bind", "127.0.0.1:65536"], "65536"),
        ([".", "--bind", "127.0.0.1:0", "--workers", "0"], "0"),
    ],
)
def test_bad_arguments_are_told(args, says, capsys) -> None:
    assert main(["serve", *args]) == 1
    assert re.fullmatch(f"evsvc: .*'?{re.escape(says)}'?\n", capsys.readouterr().err)


class TestKinds:
    @pytest.mark.parametrize(
        ("application", "kind"),
        [
            (lambda server: None, "setup"),
            (lambda server, loud=True: None, "setup"),
            (lambda environ, start_response: None, "wsgi"),
            (lambda scope, receive, send: None, "asgi"),
            (partial(lambda scope, receive, send: None, {}), "wsgi"),
        ],
    )
    def test_arguments_tell(self, application, kind) -> None:
        assert kind_of(application) == kind

    @pytest.mark.parametrize("application", [print, lambda: None, lambda *args: None, None, 3])
    def test_or_do_not(self, application) -> None:
        with pytest.raises(ArgumentError):
            kind_of(application)

    @pytest.mark.parametrize("target", ["os", "os:", ":sep", "os:path.nothing"])
    def test_what_names_nothing(self, target) -> None:
        with pytest.raises(ArgumentError, match=target):
            load_application(target)

    def test_names_may_have_dots(self) -> None:
        assert load_application("os:path.join") is os.path.join
