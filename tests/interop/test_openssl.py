"""The openssl program, as a judge of TLS that nobody here wrote."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_EVENT_READING,
    BEV_OPT_CLOSE_ON_FREE,
    BUFFEREVENT_SSL_ACCEPTING,
    BUFFEREVENT_SSL_CONNECTING,
    EV_PERSIST,
    EV_READ,
    EVLOOP_ONCE,
    LEV_OPT_CLOSE_ON_FREE,
    ConnListener,
    Event,
    EventBase,
    TlsBufferEvent,
)
from tests.core.bevs import LOOPBACK, Log
from tests.core.tls_ends import HOST, authority, client_context_for, contexts, issue, write_pem

pytestmark = pytest.mark.interop

PATIENCE_S = 30.0
PAYLOAD = bytes(range(256)) * 4096  # 1 MiB
VERSIONS = ["-tls1_2", "-tls1_3"]


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase() as base:
        give_up = base.timer(lambda *_: pytest.fail("openssl did not answer in time"))
        give_up.add(PATIENCE_S)
        yield base


@pytest.fixture
def openssl(program: Callable[[str], str]) -> str:
    return program("openssl")


@pytest.fixture
def cafile(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(path)
    return path


class Running:
    """An openssl under way, whose output the loop collects."""

    def __init__(self, base: EventBase, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self.process.stdin
        assert self.process.stdout
        self.stdin = self.process.stdin
        self.output = bytearray()
        self.ended = False
        os.set_blocking(self.process.stdout.fileno(), False)
        self.event = Event(base, self.process.stdout, EV_READ | EV_PERSIST, self.on_output)
        self.event.add()

    def on_output(self, fd: int, what: int, arg: object) -> None:
        piece = os.read(fd, 65536)
        self.output += piece
        if not piece:
            self.ended = True
            self.event.close()

    def say(self, text: bytes) -> None:
        self.stdin.write(text)
        self.stdin.flush()


@contextmanager
def running(base: EventBase, *command: str) -> Iterator[Running]:
    made = Running(base, list(command))
    with made.process:
        try:
            yield made
        finally:
            made.event.close()
            made.process.kill()


def run_until(base: EventBase, done: Callable[[], object]) -> None:
    while not done():
        base.loop(EVLOOP_ONCE)


class EchoServer:
    """Answers what comes with the same, and an end with an end."""

    def __init__(self, base: EventBase) -> None:
        self.log = Log()
        self.connections: list[TlsBufferEvent] = []
        self.listener = ConnListener.new_bind(
            base, self.on_accept, None, LEV_OPT_CLOSE_ON_FREE, -1, (LOOPBACK, 0)
        )
        self.address = f"{LOOPBACK}:{self.listener.address[1]}"

    def on_accept(
        self, listener: ConnListener, sock: socket.socket, address: object, arg: object
    ) -> None:
        bev = TlsBufferEvent.socket_new(
            listener.base, sock, contexts()[1], BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE
        )
        self.connections.append(bev)
        bev.setcb(lambda bev, ctx: bev.write_buffer(bev.input), None, self.on_event)
        bev.enable(EV_READ)

    def on_event(self, bev: TlsBufferEvent, what: int, ctx: object) -> None:
        self.log.event(bev, what, ctx)  # type: ignore[arg-type]
        if what & BEV_EVENT_EOF:
            bev.shutdown()

    def close(self) -> None:
        self.listener.close()
        for bev in self.connections:
            bev.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_s_client_is_echoed(base: EventBase, openssl: str, cafile: Path, version: str) -> None:
    """It verifies our certificate and host name; its clean end is one for us, ours one for it."""
    server = EchoServer(base)
    with running(
        base,
        openssl,
        "s_client",
        version,
        *("-connect", server.address, "-servername", HOST, "-verify_hostname", HOST),
        *("-CAfile", str(cafile), "-verify_return_error", "-nocommands", "-ign_eof"),
    ) as client:
        client.say(b"echo this line\n")
        run_until(base, lambda: client.output.count(b"echo this line\n") == 1)
        server.connections[0].shutdown()
        run_until(base, lambda: client.ended)
        client.process.wait(PATIENCE_S)
    assert b"Verify return code: 0 (ok)" in client.output
    assert b"Verified peername: server.example" in client.output
    assert server.log.events[0] == BEV_EVENT_CONNECTED
    server.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_s_client_resumes_a_session(
    base: EventBase, openssl: str, cafile: Path, tmp_path: Path, version: str
) -> None:
    server = EchoServer(base)
    session = tmp_path / "session.pem"
    connect = ["-connect", server.address, "-servername", HOST, "-CAfile", str(cafile)]
    for option, said in (("-sess_out", b"New, "), ("-sess_in", b"Reused, ")):
        with running(
            base, openssl, "s_client", version, *connect, "-ign_eof", option, str(session)
        ) as client:
            client.say(b"a line, after the tickets\n")
            run_until(base, lambda: client.output.count(b"after the tickets\n") == 1)
            server.connections[-1].shutdown()
            run_until(base, lambda: client.ended)
            client.process.wait(PATIENCE_S)
        assert said in client.output
    server.close()


@pytest.fixture
def s_server(
    base: EventBase, openssl: str, tmp_path: Path
) -> Callable[..., AbstractContextManager[Running]]:
    """Return `s_server(*options)`, which starts one that knows HOST, on a free port."""
    pem = write_pem(issue(HOST), tmp_path / "server.pem")

    def start(*options: str) -> AbstractContextManager[Running]:
        command = ["s_server", "-accept", f"{LOOPBACK}:0", "-cert", str(pem), *options]
        return running(base, openssl, *command)

    return start


def port_of(base: EventBase, server: Running) -> int:
    """Return the port that `s_server -accept host:0` says it listens on."""
    run_until(base, lambda: b"ACCEPT" in server.output and server.output.endswith(b"\n"))
    line = next(line for line in server.output.splitlines() if line.startswith(b"ACCEPT"))
    return int(line.rpartition(b":")[2])


def connected_to(base: EventBase, port: int, log: Log, context: ssl.SSLContext) -> TlsBufferEvent:
    bev = TlsBufferEvent.socket_new(
        base,
        None,
        context,
        BUFFEREVENT_SSL_CONNECTING,
        BEV_OPT_CLOSE_ON_FREE,
        server_hostname=HOST,
    )
    log.attach(bev).enable(EV_READ)
    bev.connect((LOOPBACK, port))
    return bev


@pytest.mark.parametrize("version", VERSIONS)
def test_s_server_turns_our_lines_round(
    base: EventBase, s_server: Callable[..., AbstractContextManager[Running]], version: str
) -> None:
    """1 MiB in lines, there and back; then its close_notify is a clean end."""
    log = Log()
    with s_server(version, "-rev") as server:
        bev = connected_to(base, port_of(base, server), log, contexts()[0])
        lines = [b"%07d" % number for number in range(20_000)]
        bev.write(b"".join(line + b"\n" for line in lines))
        run_until(base, lambda: log.data.count(b"\n") == len(lines))
        assert log.data.split(b"\n")[:-1] == [line[::-1] for line in lines]
        assert log.events == [BEV_EVENT_CONNECTED]
        bev.write(b"CLOSE\n")
        run_until(base, lambda: len(log.events) == 2)
        assert log.events[1] == BEV_EVENT_READING | BEV_EVENT_EOF
        bev.close()


def test_s_server_renegotiates_while_we_write(
    base: EventBase, s_server: Callable[..., AbstractContextManager[Running]]
) -> None:
    """Where the program's own context allows it (TLS 1.2 has it, 1.3 has not): neither end of the
    data is lost, whichever direction the engine waits for."""
    log = Log()
    with s_server("-tls1_2") as server:
        port = port_of(base, server)
        context = client_context_for()
        context.options &= ~ssl.OP_NO_RENEGOTIATION
        bev = connected_to(base, port, log, context)
        run_until(base, lambda: log.events)
        for number in range(3):
            server.say(b"R\n")
            bev.write(b"written meanwhile %d\n" % number)
            run_until(base, lambda: b"written meanwhile %d\n" % number in server.output)  # noqa: B023
            server.say(b"answer %d\n" % number)
            run_until(base, lambda: b"answer %d\n" % number in log.data)  # noqa: B023
        assert log.events == [BEV_EVENT_CONNECTED]
        bev.close()
