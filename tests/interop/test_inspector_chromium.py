"""The inspector's page in headless Chromium, while the program has something to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evsvc import DnsServer, Rpc, RpcPool, RpcServer
from evsvc.core import EV_PERSIST, Event, EventBase
from evsvc.dns import DNS_ERR_NONE, Resolver
from evsvc.http import HttpServer
from evsvc.inspector import Inspector, InspectorOptions
from tests.interop.chromium import Browser, browser

__all__ = ["browser"]  # the fixture

pytestmark = pytest.mark.interop

PICTURES = 30
DONE = f"""
(() => {{
  if (Number(document.documentElement.dataset.pictures || 0) < {PICTURES}) return null;
  const rows = id => [...document.querySelectorAll(`#${{id}} tbody tr`)].map(
    row => [...row.cells].map(cell => cell.textContent));
  return {{
    status: document.getElementById("status").textContent,
    charts: [...document.querySelectorAll("path.line")].map(
      each => each.getAttribute("d").split("L").length),
    rpc: rows("rpc"), http: rows("http"), callbacks: rows("callbacks"), sockets: rows("sockets"),
    timers: rows("timers"), dns: rows("dns"),
  }};
}})()
"""


@dataclass
class Number:
    """A number."""

    value: int


Double = Rpc("Calculator.Double", Number, Number)


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase() as made:
        yield made


def answer_dns(request: Any, arg: object) -> None:
    request.add_a_reply(request.questions[0].name, ["127.0.0.1"], 300)
    request.respond(DNS_ERR_NONE)


def test_the_page_draws_a_program_at_work(
    base: EventBase, browser: Browser, tmp_path: Path
) -> None:
    with (
        HttpServer(base) as server,
        DnsServer(base, answer_dns) as dns_server,
        Resolver(base, 0) as resolver,
        RpcPool(base, timeout=30.0) as pool,
        Inspector(base, InspectorOptions(interval_s=0.05)) as inspector,
    ):
        url = f"http://127.0.0.1:{server.bind_socket('127.0.0.1', 0).port}"
        RpcServer(server).register_rpc(
            Double, lambda call, arg: call.done(Number(2 * call.request.value))
        )
        pool.add_endpoint("127.0.0.1", server.bound_sockets[0].port)
        resolver.nameserver_ip_add(f"127.0.0.1:{dns_server.bind_udp('127.0.0.1', 0).port}")
        resolver.query("example.test", "A", lambda answer, arg: None)
        inspector.watch_resolver(resolver, "resolver")
        inspector.mount(server)

        def make_calls(fd: int, what: int, arg: object) -> None:
            for value in range(8):
                pool.make_request(Double, Number(value), lambda *result: None)

        with Event(base, -1, EV_PERSIST, make_calls) as load:
            load.add(0.01)
            seen, picture = browser.watch(base, f"{url}/_evsvc/", DONE)
    assert seen["status"] == "live"
    assert all(points >= PICTURES - 1 for points in seen["charts"])
    assert len(seen["charts"]) == 4
    ((name, calls, failed, *_),) = seen["rpc"]
    assert (name, failed) == ("Calculator.Double", "0")
    assert int(calls.replace(",", "")) > 0
    assert any(row[0].endswith("make_calls") for row in seen["callbacks"])
    assert any(row[1].endswith("make_calls") for row in seen["timers"])
    assert any(row[1] == "tcp" and row[4].endswith("iB") for row in seen["sockets"])
    assert ["127.0.0.1", "up"] in [[row[0].partition(":")[0], row[1]] for row in seen["dns"]]
    assert ["example.test", "1"] in [row[:2] for row in seen["dns"]]
    assert picture.startswith(b"\x89PNG")
    wanted = os.environ.get("EVSVC_SCREENSHOT")  # how docs/inspector.png was made
    if wanted:
        Path(wanted).write_bytes(picture)
