"""Our DNS server, asked by dig and kdig over UDP, TCP, TLS and HTTPS, and by curl over HTTPS."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from evsvc.core.tls import server_context
from evsvc.dns import DnsServerRequest, DnsZone, ZoneOptions
from evsvc.doh import mount_doh
from evsvc.http import HttpServer
from tests.interop.dns_daemons import PATIENCE_S, Daemon, ServedHandler

pytestmark = pytest.mark.interop

ZONE = """\
$ORIGIN example.com.
$TTL 300
@ IN SOA ns1 admin 7 7200 900 604800 60
@ IN NS ns1
ns1 IN A 192.0.2.53
www IN A 192.0.2.1
www IN AAAA 2001:db8::1
sub IN NS ns.sub
ns.sub IN A 192.0.2.54
""" + "".join(f"h{n} IN TXT {'x' * 200}\n" for n in range(2000))
HOST = "dns.test"


class Site(NamedTuple):
    """Where we serve, and by which certificates."""

    served: ServedHandler
    tls_port: int
    https_port: int
    ca: str


def answer(request: DnsServerRequest, zone: DnsZone) -> None:
    if request.questions[0].name == "blocked.test":
        request.add_extended_error(15, "we do not like it")
        request.respond(3)
    else:
        zone(request)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def site(program: Callable[[str], str], folder: Path) -> Iterator[Site]:
    """Our server on UDP, TCP, TLS, and over HTTPS behind HAProxy, which speaks HTTP/2 for us."""
    haproxy = program("haproxy")
    authority = trustme.CA()
    ca, pem = folder / "ca.pem", folder / "server.pem"
    authority.cert_pem.write_to_path(ca)
    issued = authority.issue_cert(HOST, "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(pem)
    zone = DnsZone.from_text(ZONE, options=ZoneOptions(transfers_to=("127.0.0.0/8",)))
    served = ServedHandler(lambda request, arg: answer(request, zone))

    def serve_more() -> tuple[int, HttpServer, int]:
        tls = served.server.bind_tcp("127.0.0.1", 0, tls=server_context(pem, alpn=["dot"]))
        http = HttpServer(served.loop.base)
        mount_doh(http, served.server)
        return tls.port, http, http.bind_socket("127.0.0.1", 0).port

    tls_port, http, http_port = served.call(serve_more)
    with socket.create_server(("127.0.0.1", 0)) as front:
        config = folder / "haproxy.cfg"
        config.write_text(
            f"""defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
frontend doh
  bind fd@{front.fileno()} ssl crt {pem} alpn h2,http/1.1
  default_backend us
backend us
  server us 127.0.0.1:{http_port}
"""
        )
        proxy = Daemon([haproxy, "-db", "-f", str(config)], pass_fds=[front.fileno()])
        yield Site(served, tls_port, front.getsockname()[1], str(ca))
        proxy.close()
    served.call(http.close)
    served.close()


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Client:
    """dig, or kdig: how it is told to use each transport."""

    def __init__(self, path: str, site: Site) -> None:
        self._command = [path, "@127.0.0.1", "+tries=1", "+retry=0", "+timeout=10"]
        if path.endswith("kdig"):
            self._command.remove("+tries=1")
        self._site = site
        self.is_kdig = path.endswith("kdig")

    def __call__(self, *args: str, over: str = "udp") -> str:
        site = self._site
        ca = [f"+tls-ca={site.ca}", f"+tls-hostname={HOST}"]
        port, flags = {
            "udp": (site.served.port, []),
            "tcp": (site.served.port, ["+tcp"]),
            "tls": (site.tls_port, ["+tls", *ca]),
            "https": (site.https_port, ["+https=/dns-query", *ca]),
            "https-get": (
                site.https_port,
                ["+https=/dns-query", "+https-get", *ca] if self.is_kdig else ["+https-get", *ca],
            ),
        }[over]
        return run([*self._command, "-p", str(port), *flags, *args])


@pytest.fixture(params=["dig", "kdig"])
def client(request: pytest.FixtureRequest, program: Callable[[str], str], site: Site) -> Client:
    return Client(program(request.param), site)


@pytest.mark.parametrize("over", ["udp", "tcp", "tls", "https", "https-get"])
def test_every_transport_answers_alike(client: Client, over: str) -> None:
    assert client("+short", "www.example.com", "A", over=over) == "192.0.2.1\n"
    assert client("+short", "www.example.com", "AAAA", over=over) == "2001:db8::1\n"
    assert "NXDOMAIN" in client("none.example.com", "A", over=over)


def test_a_reverse_name_and_an_unknown_one_are_refused(client: Client) -> None:
    assert "REFUSED" in client("-x", "192.0.2.1")


@pytest.mark.parametrize("over", ["tcp", "tls"])
def test_the_whole_zone_is_transferred(client: Client, over: str) -> None:
    output = client("example.com", "AXFR", over=over)
    records = [line for line in output.splitlines() if line and not line.startswith(";")]
    assert len(records) == 2000 + 7 + 1
    assert "SOA" in records[0]
    assert records[0] == records[-1]


def test_a_cookie_comes_back_good(client: Client) -> None:
    output = client("+cookie", "www.example.com")
    assert "BADCOOKIE" not in output
    if client.is_kdig:
        assert "COOKIE" in output
    else:
        assert "(good)" in output


def test_a_delegation_has_its_glue(client: Client) -> None:
    output = client("host.sub.example.com", "A")
    assert "AUTHORITY: 1" in output
    assert "192.0.2.54" in output


@pytest.mark.parametrize("flags", [["+noedns"], ["+bufsize=512"], ["+dnssec"], ["+nsid"]])
def test_no_kind_of_edns_is_in_the_way(client: Client, flags: list[str]) -> None:
    output = client(*flags, "www.example.com", "A")
    assert "NOERROR" in output
    assert "192.0.2.1" in output
    assert "malformed" not in output.lower()


def test_an_extended_error_is_read(client: Client) -> None:
    output = client("+bufsize=1232", "blocked.test", "A")
    assert "we do not like it" in output
    assert "Blocked" in output


@pytest.mark.parametrize("over", ["tls", "https"])
def test_a_padded_query_has_a_padded_answer(
    program: Callable[[str], str], site: Site, over: str
) -> None:
    client = Client(program("kdig"), site)
    output = client("+padding=128", "www.example.com", "A", over=over)
    assert "PADDING" in output
    size = int(output.partition(";; Received ")[2].split()[0])
    assert size % 468 == 0


def test_a_connection_serves_many_questions(client: Client) -> None:
    questions = [f"h{n}.example.com" for n in range(20)]
    output = client("+short", "+keepopen", *(w for q in questions for w in (q, "TXT")), over="tls")
    assert len(output.splitlines()) == 20


def test_curl_finds_its_hosts_by_us(program: Callable[[str], str], site: Site) -> None:
    """Over HTTP/1.1 or 2; the name leads to an address where nobody answers."""
    done = subprocess.run(
        [
            *(program("curl"), "--disable", "--verbose", "--noproxy", "*", "--max-time", "10"),
            *("--doh-url", f"https://127.0.0.1:{site.https_port}/dns-query"),
            *("--doh-insecure", "--connect-timeout", "0.5", "http://www.example.com/"),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "192.0.2.1" in done.stderr, done.stderr
