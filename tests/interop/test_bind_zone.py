"""Our zone and BIND's: the same file, the same questions, the same answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import pytest

from evsvc.dns import DnsZone
from tests.interop.dns_daemons import ServedHandler, ask, start_daemon

pytestmark = pytest.mark.interop

ZONE = """\
$ORIGIN example.com.
$TTL 300
@ IN SOA ns1 admin 7 7200 900 604800 60
@ IN NS ns1
@ IN NS ns.elsewhere.net.
@ IN MX 10 mail
@ IN TXT "the top"
ns1 IN A 192.0.2.53
ns1 IN AAAA 2001:db8::53
mail IN A 192.0.2.25
www IN A 192.0.2.1
www IN A 192.0.2.2
alias IN CNAME www
chain IN CNAME alias
away IN CNAME www.example.net.
lost IN CNAME nowhere
loop1 IN CNAME loop2
loop2 IN CNAME loop1
into IN CNAME host.sub
viad IN CNAME host.old
_http._tcp IN SRV 0 5 80 www
*.wild IN A 192.0.2.7
*.wild IN MX 5 mail
kept.wild IN TXT "no wildcard here"
*.aliases IN CNAME www
*.lost IN CNAME nowhere
deep.er.down IN A 192.0.2.8
sub IN NS ns.sub
sub IN NS ns1
sub IN DS 12345 8 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
ns.sub IN A 192.0.2.54
plain IN NS ns.elsewhere.net.
old IN DNAME new
old IN TXT "beside it"
host.new IN A 192.0.2.9
out IN DNAME example.net.
"""
NAMES = [
    "@",
    "www",
    "WWW",
    "alias",
    "chain",
    "away",
    "lost",
    "loop1",
    "into",
    "viad",
    "none",
    "x.www",
    "_http._tcp",
    "_tcp",
    "wild",
    "x.wild",
    "a.b.wild",
    "kept.wild",
    "x.kept.wild",
    "*.wild",
    "x.aliases",
    "a.b.aliases",
    "x.lost",
    "deep.er.down",
    "er.down",
    "down",
    "x.down",
    "sub",
    "host.sub",
    "ns.sub",
    "a.b.sub",
    "plain",
    "x.plain",
    "old",
    "host.old",
    "none.old",
    "a.b.old",
    "new",
    "out",
    "x.out",
    "ns1",
    "mail",
]
TYPES = ["A", "AAAA", "MX", "TXT", "NS", "SOA", "CNAME", "DNAME", "DS", "SRV", "TYPE65280"]
CONFIG = """\
options {{
  directory "{folder}";
  listen-on port {port} {{ 127.0.0.1; }};
  listen-on-v6 {{ none; }};
  pid-file none;
  session-keyfile none;
  managed-keys-directory "{folder}";
  recursion no;
  notify no;
  minimal-responses yes;
  check-names primary ignore;
  zero-no-soa-ttl no;
}};
controls {{ }};
zone "example.com" {{ type primary; file "{folder}/zone"; check-integrity no; }};
"""


@pytest.fixture(scope="module")
def ports(
    program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, int]]:
    """Give the ports of both servers: ours and BIND's."""
    folder: Path = tmp_path_factory.mktemp("named")
    (folder / "zone").write_text(ZONE)
    path = program("named")

    def command(port: int) -> list[str]:
        config = folder / "named.conf"
        config.write_text(CONFIG.format(folder=folder, port=port))
        return [path, "-g", "-c", str(config), "-n", "1"]

    daemon, port = start_daemon(command, "running")
    ours = ServedHandler(DnsZone.from_text(ZONE))
    yield ours.port, port
    ours.close()
    daemon.close()


def said(reply: dns.message.Message) -> tuple[object, ...]:
    """Return what counts of a reply: rcode, AA, aliases in order, answers, authority."""
    aliases = [
        rrset.to_text().lower() for rrset in reply.answer if rrset.rdtype in (5, 39)
    ]  # in the order in which they are followed
    answers = {line for rrset in reply.answer for line in rrset.to_text().lower().splitlines()}
    authority = {line for rrset in reply.authority for line in rrset.to_text().lower().splitlines()}
    aa = bool(reply.flags & dns.flags.AA)
    return dns.rcode.to_text(reply.rcode()), aa, aliases, answers, authority


def additional(reply: dns.message.Message) -> set[str]:
    return {line for rrset in reply.additional for line in rrset.to_text().lower().splitlines()}


@pytest.mark.parametrize("name", NAMES)
def test_we_say_what_bind_says(ports: tuple[int, int], name: str) -> None:
    full = "example.com" if name == "@" else f"{name}.example.com"
    differ = []
    for rdtype in TYPES:
        replies = [ask(port, full, rdtype) for port in ports]
        ours, theirs = map(said, replies)
        if ours != theirs or not additional(replies[0]) >= additional(replies[1]):
            differ.append(f"{full} {rdtype}\n  we:   {ours}\n  BIND: {theirs}")
    assert not differ, "\n".join(differ)
