"""A chain of handlers: which of them is asked."""

from __future__ import annotations

import dns.message
import dns.rcode
import pytest

from evsvc.core import ArgumentTypeError, EventBase
from evsvc.dns import DnsArgumentError, DnsChain, DnsServer


def query(name, rdtype="A", **kwargs) -> bytes:
    return dns.message.make_query(name, rdtype, **kwargs).to_wire()


def answer(request, arg) -> None:
    request.add_text(request.questions[0].name, 60, "TXT", f'"{arg}"')
    request.respond(0, cache_s=60)


@pytest.fixture
def chain() -> DnsChain:
    made = DnsChain()
    for name in ("example.com", "sub.example.com.", "b.Example.com"):
        made.add(name, answer, name)
    return made


def test_a_coroutine_function_is_told_how_to_become_a_callback(chain) -> None:
    async def on_request(request, arg) -> None: ...

    with pytest.raises(ArgumentTypeError, match=r"evsvc\.aio\.handler"):
        chain.add("example.org", on_request)
    with EventBase() as base, pytest.raises(ArgumentTypeError, match=r"evsvc\.aio\.handler"):
        DnsServer(base, on_request)


@pytest.fixture
def ask(make_server, connect, chain):
    """Return `ask(name, type)`: who has answered, or the rcode."""
    client = connect(make_server(chain).bind_udp("127.0.0.1", 0))

    def ask(name: str, rdtype: str = "TXT") -> str:
        reply = dns.message.from_wire(client.ask(query(name, rdtype)))
        if not reply.answer:
            return dns.rcode.to_text(reply.rcode())
        return reply.answer[0][0].strings[0].decode()

    return ask


@pytest.mark.parametrize(
    ("name", "who"),
    [
        ("example.com", "example.com"),
        ("www.EXAMPLE.com", "example.com"),
        ("sub.example.com", "sub.example.com."),
        ("a.b.sub.example.com", "sub.example.com."),
        ("xsub.example.com", "example.com"),
        ("b.example.com", "b.Example.com"),
        ("xexample.com", "REFUSED"),
        ("com", "REFUSED"),
        (".", "REFUSED"),
    ],
)
def test_the_longest_name_counts(ask, name, who) -> None:
    assert ask(name) == who


def test_the_root_takes_the_rest(chain, ask) -> None:
    assert ask("example.net") == "REFUSED"
    chain.add(".", answer, "all")
    assert [ask("example.net"), ask("."), ask("a.example.com")] == ["all", "all", "example.com"]


def test_ds_is_asked_above(chain, ask) -> None:
    assert ask("sub.example.com", "DS") == "example.com"
    assert ask("x.sub.example.com", "DS") == "sub.example.com."
    assert ask("example.com", "DS") == "example.com"  # nobody is above it
    chain.add(".", answer, "all")
    assert [ask("example.com", "DS"), ask(".", "DS")] == ["all", "all"]


def test_a_change_counts_at_once(chain, ask) -> None:
    assert ask("x.sub.example.com") == "sub.example.com."
    chain.remove("Sub.example.com")
    assert ask("x.sub.example.com") == "example.com"
    chain.add("sub.example.com", answer, "new")
    assert ask("x.sub.example.com") == "new"
    assert len(chain) == 3


def test_bad_arguments_are_refused(chain) -> None:
    for call in (
        lambda: chain.add("example.COM.", answer),
        lambda: chain.add("a..b", answer),
        lambda: chain.add("new.example", None),
        lambda: chain.remove("new.example"),
    ):
        with pytest.raises(DnsArgumentError):
            call()
