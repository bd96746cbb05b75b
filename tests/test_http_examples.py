"""The examples of the HTTP server run as they stand, as a user would run them."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import ssl
import subprocess
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.ports import held_port
from tests.test_examples import next_line, serving, started

TIMEOUT_S = 20


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Ask once; the status and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class Events:
    """A stream of server-sent events, read one by one."""

    def __init__(self, port: int, path: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        self._connection.request("GET", path, headers={"Accept": "text/event-stream"})
        self._response = self._connection.getresponse()
        assert self._response.getheader("Content-Type") == "text/event-stream"

    def next(self) -> dict[str, str]:
        """The fields of the next event; none of the end."""
        fields: dict[str, str] = {}
        while line := self._response.readline().decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            fields[name] = value
        return fields

    def close(self) -> None:
        self._connection.close()


# --- /db/ -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def db_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of one that serves a small database to all of these tests."""
    path = tmp_path_factory.mktemp("db") / "some.db"
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE person (name TEXT, age INTEGER, photo BLOB)")
        rows = [("Ann", 30, b"\x00\xff"), ("Bob", None, None)]
        made.executemany("INSERT INTO person VALUES (?, ?, ?)", rows)
    made.close()
    with serving("sqlite_db.py", str(path)) as (_, port):
        yield port


def query(port: int, sql: str) -> tuple[int, bytes]:
    return ask(port, "GET", "/db/?" + urllib.parse.urlencode({"q": sql}))


# A thousand million rows, one after the other.
ENDLESS = (
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1e9) SELECT {} FROM n"
)


def test_sqlite_db_answers_with_rows(db_port: int) -> None:
    status, text = query(db_port, "SELECT * FROM person ORDER BY name")
    assert status == 200
    assert json.loads(text) == {
        "columns": ["name", "age", "photo"],
        "rows": [["Ann", 30, "00ff"], ["Bob", None, None]],
        "whole": True,
    }
    assert json.loads(query(db_port, "SELECT 9e999 AS x")[1])["rows"] == [["inf"]]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM person", "DROP TABLE person", "ATTACH '/etc/passwd' AS x", "VACUUM",
        "SELECT nothing FROM person", "SELECT", "SELECT 1; SELECT 2", "SELECT zeroblob(2000000)",
        "SELECT load_extension('x')", "SELECT 'a\0b", "PRAGMA user_version",
    ],
)  # fmt: skip
def test_sqlite_db_only_reads(db_port: int, sql: str) -> None:
    assert query(db_port, sql)[0] == 400
    assert json.loads(query(db_port, "SELECT count(*) FROM person")[1])["rows"] == [[2]]


def test_sqlite_db_bounds_rows_and_bytes(db_port: int) -> None:
    found = json.loads(query(db_port, ENDLESS.format("x"))[1])
    assert (len(found["rows"]), found["whole"]) == (1000, False)
    found = json.loads(query(db_port, ENDLESS.format("printf('%.*c', 100000, 'x')"))[1])
    assert (len(found["rows"]), found["whole"]) == (10, False)


def test_sqlite_db_goes_on_serving_while_a_query_is_slow_and_ends_it(db_port: int) -> None:
    """The slow one gets 503 in two seconds; meanwhile others wait in line, and the rest get 503."""
    slow: list[tuple[int, bytes]] = []
    first = threading.Thread(target=lambda: slow.append(query(db_port, ENDLESS.format("count(*)"))))
    first.start()
    assert ask(db_port, "GET", "/elsewhere")[0] == 404, "the loop is not held up"
    first.join()
    assert slow == [(503, b"it takes too long")]
    assert query(db_port, "SELECT 1")[0] == 200


def test_sqlite_db_gives_up_what_nobody_waits_for_and_refuses_what_is_too_much(
    db_port: int,
) -> None:
    """Two dozen clients ask for an hour's work, and leave; the next one waits for none of it."""
    path = "/db/?" + urllib.parse.urlencode({"q": ENDLESS.format("count(*)")})
    socks = []
    for _ in range(24):
        socks.append(socket.create_connection(("127.0.0.1", db_port), timeout=TIMEOUT_S))
        socks[-1].sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    for sock in socks[17:]:  # one is under way, and sixteen wait
        assert sock.recv(12) == b"HTTP/1.1 503"
    for sock in socks:
        sock.close()
    for _ in range(1000):
        status, _ = query(db_port, "SELECT 1")
        if status == 200:
            break
        assert status == 503, "the line is still full"
    else:
        pytest.fail("what nobody waits for is not given up")


@pytest.mark.parametrize("target", ["/db/", "/db/?q=", "/db/?q=%ff", "/db/?x=1"])
def test_sqlite_db_needs_a_question(db_port: int, target: str) -> None:
    assert ask(db_port, "GET", target)[0] == 400


# --- /memc/ -----------------------------------------------------------------------------------


class Cache:
    """A memcached on a port that stays ours when it ends."""

    def __init__(self, path: str, port: int) -> None:
        self._command = [path, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", "16"]
        if os.getuid() == 0:
            self._command += ["-u", "root"]
        self.port = port
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command)
        for _ in range(2000):
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None
        pytest.fail("memcached does not listen")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT_S)


@pytest.fixture
def cache(program: Callable[[str], str]) -> Iterator[Cache]:
    with held_port() as port:
        made = Cache(program("memcached"), port)
        yield made
        made.stop()


@contextmanager
def memc(port: int, *args: str) -> Iterator[int]:
    with serving("memc.py", *args, f"127.0.0.1:{port}") as (_, own):
        yield own


@pytest.mark.interop
def test_memc_keeps_values(cache: Cache) -> None:
    value = os.urandom(300_000) + b"\r\nEND\r\n"
    with memc(cache.port) as port:
        assert ask(port, "GET", "/memc/a")[0] == 404
        assert ask(port, "PUT", "/memc/a", value) == (204, b"")
        assert ask(port, "GET", "/memc/a") == (200, value)
        assert ask(port, "PUT", "/memc/a", b"")[0] == 204
        assert ask(port, "GET", "/memc/a") == (200, b"")
        assert ask(port, "DELETE", "/memc/a")[0] == 204
        assert ask(port, "DELETE", "/memc/a")[0] == 404


@pytest.mark.interop
def test_memc_takes_no_key_that_is_none(cache: Cache) -> None:
    keys = ["", "a%20b", "a%0d%0aflush_all", "k" * 251, "%C3%A9", "k" * 250]
    with memc(cache.port) as port:
        found = [ask(port, "PUT", f"/memc/{key}", b"x")[0] for key in keys]
    assert found == [404, 404, 404, 404, 404, 204]


@pytest.mark.interop
def test_memc_tells_replies_of_many_apart(cache: Cache) -> None:
    """A thousand requests, pipelined by one client, over one connection to memcached."""
    with (
        memc(cache.port) as port,
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as sock,
    ):
        asked = "".join(
            f"PUT /memc/k{n} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(str(n))}\r\n\r\n{n}"
            f"GET /memc/k{n} HTTP/1.1\r\nHost: h\r\n\r\n"
            for n in range(500)
        )
        sender = threading.Thread(target=sock.sendall, args=(asked.encode(),))
        sender.start()
        with sock.makefile("rb") as stream:
            for n in range(500):
                assert read_reply(stream) == (204, b"")
                assert read_reply(stream) == (200, str(n).encode())
        sender.join()


def read_reply(stream: Any) -> tuple[int, bytes]:
    status = int(stream.readline().split()[1])
    length = 0
    while line := stream.readline().rstrip():
        if line.lower().startswith(b"content-length:"):
            length = int(line.split()[1])
    return status, stream.read(length)


@pytest.mark.interop
def test_memc_connects_again(cache: Cache) -> None:
    with memc(cache.port) as port:
        assert ask(port, "PUT", "/memc/a", b"1")[0] == 204
        cache.stop()
        assert {ask(port, "GET", "/memc/a")[0] for _ in range(5)} <= {502, 503}
        cache.start()
        for _ in range(2000):
            status, _ = ask(port, "GET", "/memc/a")
            if status == 404:  # it is there again, and empty
                break
            assert status in (502, 503)
        else:
            pytest.fail("it does not connect again")


@pytest.mark.interop
def test_memc_does_not_wait_for_one_that_hangs(cache: Cache) -> None:
    with memc(cache.port, "--patience", "0.2") as port:
        assert ask(port, "PUT", "/memc/a", b"1")[0] == 204
        cache.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, cache.process.pid, os.WSTOPPED)  # it may answer until then
        assert ask(port, "GET", "/memc/a")[0] == 504
        cache.process.send_signal(signal.SIGCONT)


def test_memc_without_memcached_says_so() -> None:
    with held_port() as port, memc(port) as own:
        assert ask(own, "GET", "/memc/a")[0] == 502
        assert ask(own, "GET", "/memc/a")[0] in (502, 503)


# --- HTTPS ------------------------------------------------------------------------------------


def https(port: int, authority: trustme.CA) -> tuple[int, bytes]:
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    connection = http.client.HTTPSConnection("localhost", port, timeout=TIMEOUT_S, context=context)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def write_certificate(path: Path) -> trustme.CA:
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    certificate = authority.issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
    certificate.private_key_and_cert_chain_pem.write_to_path(path)
    return authority


def test_https_server_serves_renews_its_certificate_and_stops_gracefully(tmp_path: Path) -> None:
    pem = tmp_path / "server.pem"
    authority = write_certificate(pem)
    with started("https_server.py", "0", str(pem)) as process:
        line = next_line(process, process.stdout)
        port = int(re.findall(r"\d+", line)[0])
        assert line == f"https://localhost:{port}/\n"
        assert https(port, authority) == (200, b"hello over TLSv1.3\n")
        renewed = write_certificate(pem)
        process.send_signal(signal.SIGHUP)
        assert next_line(process, process.stdout) == "the certificate is renewed\n"
        assert https(port, renewed)[0] == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            https(port, authority)
        pem.write_bytes(b"none")
        process.send_signal(signal.SIGHUP)
        assert next_line(process, process.stderr).startswith("https_server.py: cannot use ")
        assert https(port, renewed)[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0


# --- upload -----------------------------------------------------------------------------------


def test_upload_progress_tells_each_percent_while_it_goes_on() -> None:
    data = os.urandom(100_000)
    with serving("upload_progress.py") as (_, port):
        assert b"EventSource" in ask(port, "GET", "/")[1]
        events = Events(port, "/progress/one")
        assert events.next() == {"data": "0"}
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as sock:
            head = f"PUT /upload/one HTTP/1.1\r\nHost: h\r\nContent-Length: {len(data)}\r\n\r\n"
            sock.sendall(head.encode() + data[:10_000])
            assert events.next() == {"data": "10"}, "it is told while the rest is not sent"
            assert ask(port, "PUT", "/upload/one", b"x")[0] == 409
            sock.sendall(data[10_000:50_000])
            told = 10
            while told < 50:
                told = int(events.next()["data"])
            assert told == 50
            sock.sendall(data[50_000:])
            with sock.makefile("rb") as stream:
                status, text = read_reply(stream)
        assert status == 200
        assert text.decode() == f"100000 bytes, SHA-256 {hashlib.sha256(data).hexdigest()}\n"
        while "event" not in (event := events.next()):
            assert 50 < int(event["data"]) <= 100
        assert event == {"event": "done", "data": "100000"}
        events.close()


def test_upload_progress_tells_when_a_client_leaves() -> None:
    with serving("upload_progress.py") as (_, port):
        events = Events(port, "/progress/two")
        events.next()
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as sock:
            sock.sendall(b"PUT /upload/two HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf")
            assert events.next() == {"data": "4"}
        assert events.next() == {"event": "failed", "data": "4"}
        events.close()


def test_upload_progress_holds_a_hundred_at_once() -> None:
    with serving("upload_progress.py") as (_, port):
        open_events = [Events(port, f"/progress/{n}") for n in range(100)]
        assert ask(port, "PUT", "/upload/more", b"x")[0] == 503
        assert ask(port, "PUT", "/upload/7", b"x")[0] == 200
        for events in open_events:
            events.close()
