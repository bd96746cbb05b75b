"""`evsvc dns serve`: a zone file on the wire, and what signals do."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import dns.zone
import pytest

from evsvc.cli import main

ZONE = """\
$ORIGIN example.com.
@ 300 IN SOA ns admin 7 7200 900 604800 60
@ 300 IN NS ns
www 120 IN A 192.0.2.1
"""
PATIENCE_S = 20


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "example.zone"
    path.write_text(ZONE)
    return path


class Serving:
    """The command in a process of its own."""

    def __init__(self, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "evsvc", "dns", "serve", "--port", "0", *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+), UDP and TCP\n", line)
        assert found is not None, line + self.process.communicate(timeout=PATIENCE_S)[1]
        self.port = int(found[1])
        self.first = self.process.stdout.readline()

    def ask(self, name: str, rdtype: str = "A") -> dns.message.Message:
        query = dns.message.make_query(name, rdtype)
        return dns.query.udp(query, "127.0.0.1", PATIENCE_S, self.port)

    def log_until(self, text: str) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if text in line:
                return line
        pytest.fail(f"it never said {text!r}")

    def end(self, signum: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(signum)
        errors = self.process.communicate(timeout=PATIENCE_S)[1]
        return self.process.returncode, errors


@pytest.fixture
def serve() -> Iterator[Callable[..., Serving]]:
    made: list[Serving] = []

    def start(*args: str) -> Serving:
        made.append(Serving(*args))
        return made[-1]

    yield start
    for each in made:
        each.process.kill()
        each.process.communicate()


def test_a_zone_is_served_over_udp_and_tcp_until_a_signal(serve, file) -> None:
    serving = serve(str(file), "--transfer-to", "127.0.0.1")
    assert serving.first == "serving example.com, serial 7\n"
    assert str(serving.ask("www.example.com").answer[0][0]) == "192.0.2.1"
    assert serving.ask("www.example.net").rcode() == dns.rcode.REFUSED
    zone = dns.zone.Zone("example.com.")
    dns.query.inbound_xfr("127.0.0.1", zone, port=serving.port, timeout=PATIENCE_S)
    assert zone.get_rdataset("www", "A") is not None
    assert serving.end(signal.SIGINT)[0] == 0


def test_a_signal_has_the_file_read_again_and_a_bad_one_is_not_taken(serve, file) -> None:
    serving = serve(str(file), "--log-queries")
    for text, says in ((ZONE.replace(" 7 ", " 8 "), "serial 8"), ("bad", "kept as it was")):
        fresh = file.with_suffix(".new")
        fresh.write_text(text)
        os.replace(fresh, file)
        serving.process.send_signal(signal.SIGHUP)
        serving.log_until(says)
    assert serving.ask("example.com", "SOA").answer[0][0].serial == 8
    assert "example.com IN SOA NOERROR" in serving.log_until("udp")


def test_other_names_are_forwarded(serve, file) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
        upstream.bind(("127.0.0.1", 0))
        upstream.settimeout(PATIENCE_S)
        address = "{}:{}".format(*upstream.getsockname())
        serving = serve(str(file), "--forward", address)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE_S)
            packet = dns.message.make_query("www.example.net", "A").to_wire()
            client.sendto(packet, ("127.0.0.1", serving.port))
            query, peer = upstream.recvfrom(65535)
            reply = dns.message.make_response(dns.message.from_wire(query))
            name = reply.question[0].name
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.9"))
            upstream.sendto(reply.to_wire(), peer)
            answer = dns.message.from_wire(client.recv(65535))
    assert str(answer.answer[0]) == "www.example.net. 60 IN A 192.0.2.9"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["/nowhere/zone"], "No such file"),
        (["{file}", "--host", "256.0.0.1"], "256.0.0.1"),
        (["{file}", "--transfer-to", "x"], "not a network"),
        (["{file}", "{file}"], "handler already"),
        (["{file}", "{file}", "--origin", "example.com"], "one file"),
        (["{file}", "--origin", "example.org"], "example.org. has no NS"),
    ],
)
def test_what_cannot_be_served_is_said(file, capsys, args, says) -> None:
    arguments = [arg.replace("{file}", str(file)) for arg in args]
    assert main(["dns", "serve", *arguments]) == 1
    assert says in capsys.readouterr().err
