"""The examples of TLS run as they stand, as a user would run them."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from tests.ports import held_port
from tests.test_examples import next_line, started

PAYLOAD = bytes(range(256)) * 8192  # 2 MiB


class Keys(NamedTuple):
    """The files that the examples are given."""

    authority: trustme.CA
    cafile: str
    pem: str


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    authority = trustme.CA()
    cafile, pem = tmp_path / "ca.pem", tmp_path / "server.pem"
    authority.cert_pem.write_to_path(cafile)
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(pem)
    return Keys(authority, str(cafile), str(pem))


@contextlib.contextmanager
def serving(name: str, *args: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    with started(name, *args) as process:
        yield int(re.findall(r"\d+", next_line(process, process.stdout))[0]), process


@contextlib.contextmanager
def tls_connection(port: int, keys: Keys, name: str = "localhost") -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=keys.cafile)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname=name) as sock,
    ):
        yield sock


def exchange(sock: socket.socket, payload: bytes) -> bytes:
    """Send a payload in pieces that are echoed, and return what came back."""
    received = bytearray()
    for start in range(0, len(payload), 65_536):
        piece = payload[start : start + 65_536]
        sock.sendall(piece)
        wanted = len(received) + len(piece)
        while len(received) < wanted:
            more = sock.recv(65_536)
            assert more
            received += more
    return bytes(received)


def test_tls_echo_answers_and_ends_cleanly(keys: Keys) -> None:
    with serving("tls_echo.py", "0", keys.pem) as (port, process):
        with tls_connection(port, keys) as sock:
            assert exchange(sock, PAYLOAD) == PAYLOAD
            line = next_line(process, process.stdout)
            assert re.fullmatch(r"connected: TLSv1\.3, TLS_\w+\n", line)
            sock.unwrap()
        with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert plain.recv(99) == b""
        said = next_line(process, process.stderr)
        assert said.startswith("tls_echo.py: [SSL: HTTP_REQUEST]")


def test_tls_echo_renews_its_certificate(keys: Keys) -> None:
    """A connection that is there goes on; one that comes sees the new certificate."""
    with (
        serving("tls_echo.py", "0", keys.pem) as (port, process),
        tls_connection(port, keys) as old,
    ):
        assert exchange(old, b"before") == b"before"
        renewed = keys.authority.issue_cert("renewed.example")
        renewed.private_key_and_cert_chain_pem.write_to_path(keys.pem)
        process.send_signal(signal.SIGHUP)
        next_line(process, process.stdout)
        said = next_line(process, process.stdout)
        assert said == "the certificate is renewed\n"
        assert exchange(old, b"after") == b"after"
        with tls_connection(port, keys, "renewed.example") as new:
            assert exchange(new, b"new") == b"new"
            new.unwrap()
            next_line(process, process.stdout)
        Path(keys.pem).write_text("no certificate")
        process.send_signal(signal.SIGHUP)
        said = next_line(process, process.stderr)
        assert said.startswith("tls_echo.py: cannot use ")
        with tls_connection(port, keys, "renewed.example") as new:
            assert exchange(new, b"still") == b"still"


@pytest.mark.parametrize("from_client", [False, True], ids=["plain client", "TLS client"])
@pytest.mark.parametrize("to_server", [False, True], ids=["plain server", "TLS server"])
def test_le_proxy_joins_any_client_to_any_server(
    keys: Keys, from_client: bool, to_server: bool
) -> None:
    """Both ways, more than it holds; the client's end ends the server's connection cleanly."""
    options = ["-a", keys.pem] if from_client else []
    options += ["-s", "-c", keys.cafile] if to_server else []
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        listening = enter(socket.create_server(("127.0.0.1", 0)))
        listening.settimeout(30)
        server_port = listening.getsockname()[1]
        port, _ = enter(serving("le_proxy.py", *options, "127.0.0.1", f"localhost:{server_port}"))
        client: socket.socket
        if from_client:
            client = enter(tls_connection(port, keys))
        else:
            client = enter(socket.create_connection(("127.0.0.1", port), timeout=30))
        server: socket.socket = enter(listening.accept()[0])
        server.settimeout(30)
        if to_server:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(keys.pem)
            server = enter(context.wrap_socket(server, server_side=True))
        client.sendall(b"ask")
        assert server.recv(9) == b"ask"
        server.sendall(b"answer")
        assert client.recv(9) == b"answer"
        client.setblocking(False)
        pump(client, server)
        if isinstance(client, ssl.SSLSocket):
            # The proxy's answer is not there yet, or, on a busy machine, its end is.
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLEOFError):
                client.unwrap()
        else:
            client.shutdown(socket.SHUT_WR)
        assert server.recv(9) == b""  # for TLS: a close_notify, else it would raise


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Send more than all buffers on the way hold, while nobody reads; then read it all."""
    unsent = memoryview(PAYLOAD)
    received = bytearray()
    while unsent or len(received) < len(PAYLOAD):
        try:
            unsent = unsent[source.send(unsent[:65_536]) :] if unsent else unsent
        except (BlockingIOError, ssl.SSLWantWriteError):
            received += sink.recv(65_536)
        else:
            if not unsent:
                received += sink.recv(65_536)
    assert received == PAYLOAD


def test_le_proxy_says_why_there_is_no_server(keys: Keys) -> None:
    with (
        held_port() as server_port,
        serving("le_proxy.py", "127.0.0.1", f"127.0.0.1:{server_port}") as (port, process),
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            assert client.recv(9) == b""
        said = next_line(process, process.stderr)
        assert said.endswith("refused\n")


def test_le_proxy_does_not_trust_another_servers_name(keys: Keys) -> None:
    other = keys.authority.issue_cert("other.example")
    other.private_key_and_cert_chain_pem.write_to_path(keys.pem)
    with (
        serving("tls_echo.py", "0", keys.pem) as (server_port, _),
        serving(
            "le_proxy.py", "-s", "-c", keys.cafile, "127.0.0.1", f"localhost:{server_port}"
        ) as (port, process),
        socket.create_connection(("127.0.0.1", port), timeout=30) as client,
    ):
        assert client.recv(9) == b""
        said = next_line(process, process.stderr)
        assert "certificate verify failed: Hostname mismatch" in said
