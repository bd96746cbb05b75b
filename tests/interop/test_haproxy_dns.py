"""HAProxy fills its backends from the SRV records of our registry."""

from __future__ import annotations

import http.client
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evsvc.dns import DnsRegistry
from evsvc.http import HttpServer
from tests.interop.dns_daemons import PATIENCE_S, Daemon, ServedHandler

pytestmark = pytest.mark.interop

CONFIG = """\
resolvers ours
  nameserver us 127.0.0.1:{dns_port}
  accepted_payload_size 1232
  timeout resolve 100ms
  timeout retry 100ms
  resolve_retries 3
  hold valid 100ms
  hold obsolete 0s
  hold nx 0s
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
frontend front
  bind fd@{fd}
  default_backend web
backend web
  balance roundrobin
  server-template web 4 _web._tcp.svc.test resolvers ours resolve-prefer ipv4 init-addr none
"""
POLL_S = 0.05


class Site:
    """A registry with two HTTP servers that say their names, and what HAProxy makes of it."""

    def __init__(self, served: ServedHandler, registry: DnsRegistry, port: int) -> None:
        self.served = served
        self.registry = registry
        self._port = port

    def who_answers(self) -> set[str]:
        """Return who answers eight requests in a row."""
        return {self._ask() for _ in range(8)}

    def _ask(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        try:
            connection.request("GET", "/")
            response = connection.getresponse()
            return response.read().decode() if response.status == 200 else str(response.status)
        finally:
            connection.close()

    def until_answered_by(self, *names: str) -> None:
        for _ in range(int(PATIENCE_S / POLL_S)):
            found = self.who_answers()
            if found == set(names):
                return
            select.select([], [], [], POLL_S)
        pytest.fail(f"{found} answer, not {names}")


@pytest.fixture
def site(program: Callable[[str], str], tmp_path: Path) -> Iterator[Site]:
    haproxy = program("haproxy")
    registry = DnsRegistry("svc.test")
    served = ServedHandler(registry)

    def start(name: str) -> HttpServer:
        server = HttpServer(served.loop.base)
        server.set_gencb(lambda request, arg: request.send_reply(200, None, name.encode()))
        bound = server.bind_socket("127.0.0.1", 0)
        registry.register("web", (bound.address, bound.port), name=name)
        return server

    servers = [served.call(start, name) for name in ("one", "two")]
    with socket.create_server(("127.0.0.1", 0)) as front:
        config = tmp_path / "haproxy.cfg"
        config.write_text(CONFIG.format(dns_port=served.port, fd=front.fileno()))
        proxy = Daemon([haproxy, "-db", "-f", str(config)], pass_fds=[front.fileno()])
        yield Site(served, registry, front.getsockname()[1])
        proxy.close()
    for server in servers:
        served.call(server.close)
    served.close()


def test_backends_come_and_go_with_their_endpoints(site: Site) -> None:
    site.until_answered_by("one", "two")
    first, second = site.served.call(site.registry.endpoints, "web")
    site.served.call(setattr, first, "healthy", False)
    site.until_answered_by("two")
    site.served.call(setattr, first, "healthy", True)
    site.until_answered_by("one", "two")
    site.served.call(second.close)
    site.until_answered_by("one")
