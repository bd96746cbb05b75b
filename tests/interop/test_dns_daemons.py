"""Our DNS server, asked by resolvers and name servers: unbound, BIND, dnsmasq, c-ares, glibc."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.rcode
import dns.zone
import pytest
import trustme

from evsvc.core.tls import server_context
from evsvc.dns import DnsServerRequest, DnsZone, ZoneOptions
from tests.interop.dns_daemons import PATIENCE_S, Daemon, ServedHandler, ask, start_daemon, texts

pytestmark = pytest.mark.interop

ROOT = Path(__file__).resolve().parent.parent.parent
MANY = 90  # too many for a datagram, and not for BIND, which takes 100 of a kind
ZONE = """\
$ORIGIN example.com.
$TTL 300
@ IN SOA ns1 admin 7 7200 900 604800 60
@ IN NS ns1
@ IN MX 10 mail
ns1 IN A 192.0.2.53
mail IN A 192.0.2.25
www IN A 192.0.2.1
www IN A 192.0.2.2
www IN AAAA 2001:db8::1
alias IN CNAME www
*.wild IN A 192.0.2.7
text IN TXT "a text" "with two parts"
_http._tcp IN SRV 0 5 80 www
""" + "".join(f"many IN A 10.0.{n // 250}.{n % 250}\n" for n in range(MANY))


class Recorder:
    """A zone that notes what it is asked."""

    def __init__(self) -> None:
        self.zone = DnsZone.from_text(ZONE, options=ZoneOptions(transfers_to=("127.0.0.1",)))
        self.names: list[str] = []
        self.transports: set[str] = set()
        self.options: set[int] = set()

    def __call__(self, request: DnsServerRequest, arg: object) -> None:
        self.names.append(request.questions[0].name)
        self.transports.add(request.transport)
        self.options.update(code for code, _ in request.edns_options)
        self.zone(request)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def served(recorder: Recorder) -> Iterator[ServedHandler]:
    made = ServedHandler(recorder)
    yield made
    made.close()


@pytest.fixture
def start() -> Iterator[Callable[..., int]]:
    """Return `start(make_command, ready)`: the port of a program that is stopped at the end."""
    made: list[Daemon] = []

    def begin(make_command: Callable[[int], list[str]], ready: str) -> int:
        daemon, port = start_daemon(make_command, ready)
        made.append(daemon)
        return port

    begin.daemons = made  # type: ignore[attr-defined]
    yield begin
    for daemon in made:
        daemon.close()


def assert_it_resolves(port: int) -> None:
    """Ask for everything that our zone has, through whoever is at the port."""
    assert sorted(texts(ask(port, "www.example.com"))) == ["192.0.2.1", "192.0.2.2"]
    assert texts(ask(port, "www.example.com", "AAAA")) == ["2001:db8::1"]
    assert texts(ask(port, "alias.example.com"))[0] == "www.example.com."
    assert texts(ask(port, "x.wild.example.com")) == ["192.0.2.7"]
    assert texts(ask(port, "text.example.com", "TXT")) == ['"a text" "with two parts"']
    assert texts(ask(port, "_http._tcp.example.com", "SRV")) == ["0 5 80 www.example.com."]
    assert ask(port, "none.example.com").rcode() == dns.rcode.NXDOMAIN
    nothing = ask(port, "mail.example.com", "AAAA")
    assert (nothing.rcode(), nothing.answer) == (0, [])
    assert len(texts(ask(port, "many.example.com", tcp=True))) == MANY


UNBOUND = """\
server:
  interface: 127.0.0.1@{port}
  do-daemonize: no
  do-not-query-localhost: no
  use-caps-for-id: yes
  chroot: ""
  username: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  verbosity: 1
  module-config: "iterator"
  do-ip6: no
  tls-cert-bundle: "{bundle}"
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: {upstream}
  forward-tls-upstream: {tls}
"""


@pytest.mark.parametrize("tls", [False, True])
def test_unbound_forwards_to_us(program, start, served, recorder, tmp_path, tls) -> None:
    path = program("unbound")
    authority = trustme.CA()
    bundle, pem = tmp_path / "ca.pem", tmp_path / "server.pem"
    authority.cert_pem.write_to_path(bundle)
    authority.issue_cert("dns.test").private_key_and_cert_chain_pem.write_to_path(pem)
    upstream = f"127.0.0.1@{served.port}"
    if tls:
        context = server_context(pem)
        port = served.call(lambda: served.server.bind_tcp("127.0.0.1", 0, tls=context).port)
        upstream = f"127.0.0.1@{port}#dns.test"

    def command(port: int) -> list[str]:
        config = tmp_path / "unbound.conf"
        config.write_text(
            UNBOUND.format(
                port=port,
                folder=tmp_path,
                bundle=bundle,
                upstream=upstream,
                tls="yes" if tls else "no",
            )
        )
        return [path, "-d", "-p", "-c", str(config)]

    assert_it_resolves(start(command, "start of service"))
    assert recorder.transports == ({"tls"} if tls else {"udp", "tcp"})
    asked = [name for name in recorder.names if name.lower() == "www.example.com"]
    assert any(name not in ("www.example.com", "WWW.EXAMPLE.COM") for name in asked)  # 0x20


NAMED = """\
options {{
  directory "{folder}";
  listen-on port {port} {{ 127.0.0.1; }};
  listen-on-v6 {{ none; }};
  pid-file none;
  session-keyfile none;
  managed-keys-directory "{folder}";
  dnssec-validation no;
  notify no;
  allow-query {{ 127.0.0.1; }};
  allow-recursion {{ 127.0.0.1; }};
  {more_options}
}};
controls {{ }};
{more}
"""


def named_command(path: str, folder: Path, **more: str) -> Callable[[int], list[str]]:
    def command(port: int) -> list[str]:
        config = folder / "named.conf"
        config.write_text(NAMED.format(folder=folder, port=port, **more))
        return [path, "-g", "-c", str(config), "-n", "1"]

    return command


def test_bind_forwards_to_us_with_cookies(program, start, served, recorder, tmp_path) -> None:
    forwarders = f"forward only; forwarders port {served.port} {{ 127.0.0.1; }};"
    command = named_command(program("named"), tmp_path, more_options=forwarders, more="")
    assert_it_resolves(start(command, "running"))
    assert 10 in recorder.options
    assert served.server.counters.refused == 0


@pytest.mark.parametrize("kind", ["AXFR", "IXFR"])
def test_bind_is_our_secondary(program, start, served, recorder, tmp_path, kind) -> None:
    zone = f"""zone "example.com" {{
      type secondary; primaries port {served.port} {{ 127.0.0.1; }}; file "copy.zone";
      masterfile-format text; request-ixfr {"yes" if kind == "IXFR" else "no"};
      min-refresh-time 1; max-refresh-time 1;
    }};"""
    command = named_command(program("named"), tmp_path, more_options="recursion no;", more=zone)
    port = start(command, "running")
    (daemon,) = start.daemons
    assert daemon.wait_until_said("Transfer status: success"), daemon.output
    assert_it_resolves(port)
    text = ZONE.replace("7 7200", "8 7200").replace("192.0.2.2\n", "192.0.2.3\n")
    served.call(recorder.zone.replace, dns.zone.from_text(text))
    assert daemon.wait_until_said("transferred serial 8"), daemon.output
    assert sorted(texts(ask(port, "www.example.com"))) == ["192.0.2.1", "192.0.2.3"]


def test_dnsmasq_forwards_to_us(program, start, served) -> None:
    path = program("dnsmasq")

    def command(port: int) -> list[str]:
        own = ["--listen-address=127.0.0.1", "--bind-interfaces", f"--port={port}"]
        files = ["--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="]
        server = f"--server=127.0.0.1#{served.port}"
        return [path, "--keep-in-foreground", "--log-facility=-", "--user=", *own, *files, server]

    assert_it_resolves(start(command, "started"))


def test_aiodns_resolves_by_us(served) -> None:
    aiodns = pytest.importorskip("aiodns")

    async def resolve() -> list[Any]:
        resolver = aiodns.DNSResolver(
            nameservers=["127.0.0.1"], udp_port=served.port, tcp_port=served.port, timeout=5
        )
        asked = [("www.example.com", "A"), ("many.example.com", "A"), ("example.com", "MX")]
        return [await resolver.query_dns(*question) for question in asked]

    www, many, mx = asyncio.run(resolve())
    assert sorted(each.data.addr for each in www.answer) == ["192.0.2.1", "192.0.2.2"]
    assert len(many.answer) == MANY  # cut over UDP, and fetched over TCP
    assert [(each.data.exchange, each.data.priority) for each in mx.answer] == [
        ("mail.example.com", 10)
    ]


STUB = """\
set -e
ip link set lo up
mount --bind {folder}/resolv.conf /etc/resolv.conf
mount --bind {folder}/nsswitch.conf /etc/nsswitch.conf
mount --bind {folder}/hosts /etc/hosts
{python} -m evsvc dns serve --port 53 {folder}/zone > {folder}/said &
server=$!
trap 'kill $server; wait $server' EXIT
{python} -c '
import select, sys
for _ in range(3000):
    if "serving" in open("{folder}/said").read():
        break
    select.select([], [], [], 0.01)
'
getent ahosts www.example.com
echo --
getent hosts www
echo --
getent ahosts many.example.com | grep -c STREAM
getent hosts none.example.com || echo "none: $?"
"""


def test_glibcs_stub_resolves_by_us(program, missing, tmp_path) -> None:
    unshare = program("unshare")
    program("ip")
    program("getent")
    inside = [unshare, "--map-root-user", "--net", "--mount"]
    allowed = subprocess.run(
        [*inside, "ip", "link", "set", "lo", "up"], capture_output=True, text=True, check=False
    )
    if allowed.returncode:
        missing(f"no network namespace may be made: {allowed.stderr}")
    (tmp_path / "zone").write_text(ZONE)
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\nsearch example.com\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: dns\n")
    (tmp_path / "hosts").write_text("")
    script = STUB.format(folder=tmp_path, python=sys.executable)
    done = subprocess.run(
        [*inside, "sh", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ahosts, hosts, rest = done.stdout.split("--\n")
    stream = {line.split()[0] for line in ahosts.splitlines() if "STREAM" in line}
    assert stream == {"192.0.2.1", "192.0.2.2", "2001:db8::1"}
    assert hosts.split() == ["2001:db8::1", "www.example.com"]
    assert rest.splitlines() == [str(MANY), "none: 2"]


@pytest.mark.parametrize("mode", ["udp", "tcp", "dot"])
def test_dnsperf_loses_nothing(program, served, tmp_path, mode) -> None:
    path = program("dnsperf")
    pem = tmp_path / "server.pem"
    trustme.CA().issue_cert("dns.test").private_key_and_cert_chain_pem.write_to_path(pem)
    port = served.port
    if mode == "dot":
        context = server_context(pem)
        port = served.call(lambda: served.server.bind_tcp("127.0.0.1", 0, tls=context).port)
    queries = tmp_path / "queries"
    queries.write_text("".join(f"h{n}.wild.example.com A\n" for n in range(500)))
    command = [path, "-s", "127.0.0.1", "-p", str(port), "-d", str(queries), "-n", "4"]
    done = subprocess.run(
        [*command, "-m", mode, "-q", "50"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "Queries completed:    2000 (100.00%)" in done.stdout, done.stdout + done.stderr
    assert "NOERROR 2000 (100.00%)" in done.stdout
