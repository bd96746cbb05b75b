"""Our resolver, through name servers that others wrote: unbound, BIND and dnsmasq."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from evsvc.core import AddrInfoHints, EventBase
from evsvc.core.tls import client_context
from evsvc.dns import (
    DNS_ERR_NODATA,
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    DNS_QUERY_USEVC,
    Answer,
    Mx,
    Resolver,
    ResolverOptions,
    Srv,
)
from tests.interop.dns_daemons import PATIENCE_S, Daemon, start_daemon

pytestmark = pytest.mark.interop

MANY = 90  # too many for a datagram
RECORDS = (
    "example.com. 300 IN SOA ns1.example.com. admin.example.com. 7 7200 900 604800 60",
    "example.com. 300 IN NS ns1.example.com.",
    "example.com. 300 IN MX 10 mail.example.com.",
    "ns1.example.com. 300 IN A 127.0.0.1",
    "www.example.com. 300 IN A 192.0.2.1",
    "www.example.com. 300 IN AAAA 2001:db8::1",
    "_http._tcp.example.com. 300 IN SRV 0 5 80 www.example.com.",
    *(f"many.example.com. 300 IN A 10.0.0.{n}" for n in range(MANY)),
)
UNBOUND = """\
server:
  interface: 127.0.0.1@{port}
  {more}
  do-daemonize: no
  chroot: ""
  username: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  verbosity: 1
  module-config: "iterator"
  do-ip6: no
  local-zone: "example.com." static
"""
NAMED = """\
options {{
  directory "{folder}";
  listen-on port {port} {{ 127.0.0.1; }};
  listen-on-v6 {{ none; }};
  pid-file none;
  session-keyfile none;
  managed-keys-directory "{folder}";
  recursion no;
  notify no;
}};
controls {{ }};
zone "example.com" {{ type primary; file "{folder}/zone"; }};
"""


class Asking:
    """A resolver of ours and its loop."""

    def __init__(self) -> None:
        self.base = EventBase()
        self.resolver = Resolver(self.base, 0, options=ResolverOptions(timeout_s=PATIENCE_S))

    def query(self, name: str, rdtype: str, flags: int = 0) -> Answer:
        found: list[Answer] = []

        def take(answer: Answer, arg: object) -> None:
            found.append(answer)
            self.base.loopbreak()

        self.resolver.query(name, rdtype, take, flags=flags)
        self.base.dispatch()
        return found[0]

    def data(self, name: str, rdtype: str, flags: int = 0) -> list[object]:
        answer = self.query(name, rdtype, flags)
        assert answer.result == DNS_ERR_NONE
        return [record.data for record in answer.records]

    def addresses(self, name: str) -> set[str]:
        found: list[set[str]] = []

        def take(result: int, entries: list, arg: object) -> None:
            found.append({entry.sockaddr[0] for entry in entries})
            self.base.loopbreak()

        hints = AddrInfoHints(socket.AF_UNSPEC, socket.SOCK_STREAM)
        self.resolver.getaddrinfo(name, 80, hints, take)
        self.base.dispatch()
        return found[0]

    def close(self) -> None:
        self.resolver.close()
        self.base.close()


@pytest.fixture
def asking() -> Iterator[Asking]:
    made = Asking()
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

    yield begin
    for daemon in made:
        daemon.close()


def assert_all_is_found(asking: Asking) -> None:
    assert asking.addresses("www.example.com") == {"192.0.2.1", "2001:db8::1"}
    assert asking.data("_http._tcp.example.com", "SRV") == [Srv(0, 5, 80, "www.example.com")]
    assert asking.data("example.com", "MX") == [Mx(10, "mail.example.com")]
    assert len(asking.data("many.example.com", "A")) == MANY  # over TCP, after a cut reply
    assert asking.data("www.example.com", "A", DNS_QUERY_USEVC) == ["192.0.2.1"]
    assert asking.query("none.example.com", "A").result == DNS_ERR_NOTEXIST
    assert asking.query("www.example.com", "TXT").result == DNS_ERR_NODATA


def unbound(path: str, folder: Path, more: str) -> Callable[[int], list[str]]:
    local = "".join(f"  local-data: '{record}'\n" for record in RECORDS)

    def command(port: int) -> list[str]:
        config = folder / "unbound.conf"
        text = UNBOUND.format(port=port, folder=folder, more=more.format(port=port))
        config.write_text(text + local + "remote-control:\n  control-enable: no\n")
        return [path, "-d", "-p", "-c", str(config)]

    return command


def test_we_resolve_through_unbound(program, start, asking, tmp_path) -> None:
    port = start(unbound(program("unbound"), tmp_path, ""), "start of service")
    asking.resolver.nameserver_ip_add(f"127.0.0.1:{port}")
    assert_all_is_found(asking)


def test_we_resolve_through_unbound_over_tls(program, start, asking, tmp_path) -> None:
    authority = trustme.CA()
    pem = tmp_path / "server.pem"
    issued = authority.issue_cert("dns.test")
    issued.private_key_and_cert_chain_pem.write_to_path(pem)
    more = f'tls-port: {{port}}\n  tls-service-key: "{pem}"\n  tls-service-pem: "{pem}"'
    port = start(unbound(program("unbound"), tmp_path, more), "start of service")
    trust = client_context(cadata=authority.cert_pem.bytes().decode(), alpn=["dot"])
    asking.resolver.nameserver_ip_add(f"127.0.0.1:{port}", tls=trust, server_hostname="dns.test")
    assert_all_is_found(asking)


def test_we_resolve_through_bind(program, start, asking, tmp_path) -> None:
    path = program("named")
    (tmp_path / "zone").write_text("\n".join(RECORDS) + "\n")

    def command(port: int) -> list[str]:
        config = tmp_path / "named.conf"
        config.write_text(NAMED.format(folder=tmp_path, port=port))
        return [path, "-g", "-c", str(config), "-n", "1"]

    asking.resolver.nameserver_ip_add(f"127.0.0.1:{start(command, 'all zones loaded')}")
    assert_all_is_found(asking)


def test_we_resolve_through_dnsmasq(program, start, asking) -> None:
    path = program("dnsmasq")

    def command(port: int) -> list[str]:
        own = ["--listen-address=127.0.0.1", "--bind-interfaces", f"--port={port}"]
        files = ["--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="]
        data = ["--local=/example.com/", "--host-record=www.example.com,192.0.2.1,2001:db8::1"]
        data.append("--srv-host=_http._tcp.example.com,www.example.com,80,0,5")
        return [path, "--keep-in-foreground", "--log-facility=-", "--user=", *own, *files, *data]

    asking.resolver.nameserver_ip_add(f"127.0.0.1:{start(command, 'started')}")
    assert asking.addresses("www.example.com") == {"192.0.2.1", "2001:db8::1"}
    assert asking.data("_http._tcp.example.com", "SRV") == [Srv(0, 5, 80, "www.example.com")]
    assert asking.query("none.example.com", "A").result == DNS_ERR_NOTEXIST
    assert asking.query("www.example.com", "TXT").result == DNS_ERR_NODATA
