"""DnsTestClient: a DNS callback is asked without a socket."""

from __future__ import annotations

from typing import Any

import dns.message
import dns.rcode
import pytest

from evsvc.core import EV_TIMEOUT, EventBase
from evsvc.dns import DNS_ERR_NONE, DNS_ERR_NOTEXIST, DnsServer
from evsvc.dns.errors import DnsStateError
from evsvc.testing import DnsTestClient, NothingHappened


@pytest.fixture
def dns_handler(event_base: EventBase) -> Any:
    def answer(request: Any, arg: object) -> None:
        name = request.questions[0].name
        if name.startswith("missing"):
            request.respond(DNS_ERR_NOTEXIST)
        elif name.startswith("slow"):
            event_base.once(
                -1, EV_TIMEOUT, lambda fd, what, arg: request.respond(DNS_ERR_NONE), timeout=5.0
            )
        elif not name.startswith("silent"):
            request.add_a_reply(name, ["192.0.2.7"], 60)
            request.respond(DNS_ERR_NONE)

    return answer


def test_a_reply_is_a_message_of_dnspython(dns_client: DnsTestClient) -> None:
    reply = dns_client.ask("www.example.test")
    assert reply.rcode() == dns.rcode.NOERROR
    assert [each.to_text() for each in reply.answer] == ["www.example.test. 60 IN A 192.0.2.7"]


def test_a_name_that_is_not_there_is_said_so(dns_client: DnsTestClient) -> None:
    assert dns_client.ask("missing.example.test", "MX").rcode() == dns.rcode.NXDOMAIN


def test_a_later_reply_is_waited_for(dns_client: DnsTestClient, event_base: EventBase) -> None:
    started = event_base.now
    assert dns_client.ask("slow.example.test").answer == []
    assert event_base.now - started == 5.0


def test_a_query_of_one_s_own_is_sent(dns_client: DnsTestClient) -> None:
    query = dns.message.make_query("www.example.test", "A", use_edns=False)
    reply = dns_client.send(query)
    assert query.is_response(reply)
    assert reply.edns == -1


def test_a_handler_that_never_answers_is_told(dns_client: DnsTestClient) -> None:
    with pytest.raises(NothingHappened, match=r"silent\.example\.test"):
        dns_client.ask("silent.example.test")


def test_a_query_that_is_dropped_is_told(event_base: EventBase) -> None:
    with (
        DnsServer(event_base, lambda request, arg: request.drop()) as server,
        pytest.raises(AssertionError, match=r"dropped the query: x\.test\. IN A"),
    ):
        DnsTestClient(event_base, server).ask("x.test")


def test_a_server_that_is_closed_raises(dns_server: DnsServer, dns_client: DnsTestClient) -> None:
    dns_server.close()
    with pytest.raises(DnsStateError):
        dns_client.ask("x.test")


def test_the_peer_is_what_the_test_says(event_base: EventBase) -> None:
    seen: list[object] = []

    def note(request: Any, arg: object) -> None:
        seen.append(request.requesting_addr)
        request.respond(DNS_ERR_NONE)

    with DnsServer(event_base, note) as server:
        DnsTestClient(event_base, server, peer=("198.51.100.1", 5)).ask("x.test")
    assert seen == [("198.51.100.1", 5)]
