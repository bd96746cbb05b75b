"""The DNS server, asked by dig (BIND's client)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from evsvc.core import EventBase
from evsvc.dns import DnsServer, DnsServerOptions, DnsServerRequest
from tests.dns.ports import bind_udp_and_tcp

pytestmark = pytest.mark.interop

POLL_S = 0.005
PATIENCE_S = 20.0
ANY_CLASS = DnsServerOptions(any_class=True)

SOA_RDATA = b"\2ns\0\5admin\0" + b"".join(
    number.to_bytes(4, "big") for number in (1, 7200, 900, 604800, 60)
)


def answer(request: DnsServerRequest, arg: object) -> None:
    """A small zone: two hosts, an alias, an unknown type, a version, and a name with too much."""
    name, rdtype, rdclass = request.questions[0]
    request.set_flags(0x400)
    known = (name.lower(), rdtype, rdclass)
    if known == ("www.example.com", 1, 1):
        request.add_a_reply(name, ["192.0.2.1", "192.0.2.2"], 60)
    elif known == ("www.example.com", 28, 1):
        request.add_aaaa_reply(name, ["2001:db8::1"], 61)
    elif known == ("alias.example.com", 1, 1):
        request.add_cname_reply(name, "www.example.com", 62)
        request.add_a_reply("www.example.com", ["192.0.2.1"], 60)
    elif known == ("www.example.com", 65280, 1):
        request.add_reply(0, name, 65280, 1, 63, b"\xde\xad\xbe\xef")
    elif known == ("version.bind", 16, 3):
        request.add_reply(0, name, 16, 3, 0, b"\5evsvc")
    elif known == ("1.2.0.192.in-addr.arpa", 12, 1):
        request.add_ptr_reply("192.0.2.1", None, "WWW.example.com", 64)
    elif known == ("many.example.com", 1, 1):
        request.add_a_reply(name, [f"10.0.{n // 250}.{n % 250}" for n in range(500)], 60)
    else:
        request.add_reply(1, "example.com", 6, 1, 60, SOA_RDATA)
        request.respond(3)
        return
    request.respond(0)


class Dig:
    """Runs dig against a server that lives on a base, and the base's loop until dig is done."""

    def __init__(self, path: str, base: EventBase, port: int) -> None:
        self._command = [path, "@127.0.0.1", "-p", str(port), "+tries=1", "+timeout=5"]
        self._base = base

    def __call__(self, *args: str) -> str:
        command = [*self._command, *args]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            self._run_loop_until_end_of(process)
        finally:
            process.kill()
            output = process.communicate()[0]
        assert process.returncode == 0, output
        return output

    def _run_loop_until_end_of(self, process: subprocess.Popen[str]) -> None:
        begin = self._base.now

        def look(fd: int, what: int, arg: object) -> None:
            if process.poll() is None and self._base.now - begin < PATIENCE_S:
                timer.add(POLL_S)
            else:
                self._base.loopbreak()

        with self._base.timer(look) as timer:
            timer.add(POLL_S)
            self._base.dispatch()


@pytest.fixture
def dig(program: Callable[[str], str]) -> Iterator[Dig]:
    """Return `dig(*args)`, which gives the output of dig asking our server."""
    path = program("dig")
    with EventBase() as base, DnsServer(base, answer, options=ANY_CLASS) as server:
        tcp, _ = bind_udp_and_tcp(server)
        yield Dig(path, base, tcp.port)


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
@pytest.mark.parametrize(
    ("question", "lines"),
    [
        (["www.example.com", "A"], ["192.0.2.1", "192.0.2.2"]),
        (["www.example.com", "AAAA"], ["2001:db8::1"]),
        (["alias.example.com", "A"], ["www.example.com.", "192.0.2.1"]),
        (["www.example.com", "TYPE65280"], ["\\# 4 DEADBEEF"]),
        (["version.bind", "CH", "TXT"], ['"evsvc"']),
        (["-x", "192.0.2.1"], ["WWW.example.com."]),
    ],
)
def test_dig_reads_the_answer(
    dig: Dig, transport: str, question: list[str], lines: list[str]
) -> None:
    assert dig(transport, "+short", *question).splitlines() == lines


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (["none.example.com", "A"], "NXDOMAIN"),
        (["+opcode=NOTIFY", "www.example.com"], "NOTIMP"),
        (["+edns=1", "+noednsnegotiation", "www.example.com"], "BADVERS"),
        (["+header-only"], "FORMERR"),
        (["+noedns", "www.example.com"], "NOERROR"),
    ],
)
def test_dig_sees_the_status(dig: Dig, args: list[str], status: str) -> None:
    output = dig(*args)
    assert f"status: {status}" in output
    assert "malformed" not in output
    assert "extra bytes" not in output


def test_dig_sees_a_negative_answer_with_its_soa(dig: Dig) -> None:
    output = dig("none.example.com", "A")
    assert "AUTHORITY: 1" in output
    assert "SOA\tns. admin. 1 7200 900 604800 60" in output


def test_dig_sees_our_flags_and_edns(dig: Dig) -> None:
    output = dig("+dnssec", "+bufsize=4096", "www.example.com", "A")
    assert "flags: qr aa rd;" in output
    assert "EDNS: version: 0, flags: do; udp: 1232" in output
    assert "EDNS" not in dig("+noedns", "www.example.com", "A").partition("->>HEADER<<-")[2]


@pytest.mark.parametrize(("edns", "most"), [("+noedns", 512), ("+bufsize=1232", 1232)])
def test_dig_sees_a_cut_answer_and_fetches_it_over_tcp(dig: Dig, edns: str, most: int) -> None:
    cut = dig(edns, "+ignore", "many.example.com", "A")
    assert " tc" in cut
    size = int(cut.partition("MSG SIZE  rcvd: ")[2].split()[0])
    assert most - 16 < size <= most
    assert len(dig(edns, "+short", "many.example.com", "A").split("\n10.")) == 500


def test_dig_asks_twice_over_one_connection(dig: Dig) -> None:
    output = dig("+tcp", "+keepopen", "+short", "www.example.com", "A", "www.example.com", "AAAA")
    assert output.splitlines() == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
