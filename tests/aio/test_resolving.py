"""Look-ups as coroutines: results, failures, and giving up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from evsvc.aio import LookupFailed, getaddrinfo, query, run
from evsvc.core import AddrInfoHints, EventBase
from evsvc.core.util import AddrInfoError
from evsvc.dns import DNS_ERR_NOTEXIST, DnsServer, DnsServerRequest, DnsStateError, Resolver

ADDRESSES = {"host.example": "192.0.2.7"}


@contextmanager
def resolving(base: EventBase, *, silent: bool = False) -> Iterator[tuple[Resolver, list[str]]]:
    """Give a resolver with a nameserver, and the names that this was asked for."""
    asked: list[str] = []

    def on_query(request: DnsServerRequest, arg: object) -> None:
        name = request.questions[0].name
        asked.append(name)
        if silent:
            return
        address = ADDRESSES.get(name.lower())
        if address is not None and request.questions[0].type == 1:
            request.add_a_reply(name, [address], 60)
        request.respond(0 if address else 3)

    with DnsServer(base, on_query) as server, Resolver(base, 0) as resolver:
        port = server.bind_udp("127.0.0.1", 0).port
        resolver.nameserver_ip_add(f"127.0.0.1:{port}")
        yield resolver, asked


def test_a_name_and_a_service_have_addresses(base: EventBase) -> None:
    async def main() -> list[object]:
        with resolving(base) as (resolver, _):
            hints = AddrInfoHints(type=socket.SOCK_STREAM)
            found = await getaddrinfo(resolver, "host.example", 80, hints)
            return [each.sockaddr for each in found]

    assert run(main(), base=base) == [("192.0.2.7", 80)]


def test_what_needs_no_nameserver_comes_at_once(base: EventBase) -> None:
    async def main() -> list[object]:
        with resolving(base) as (resolver, asked):
            hints = AddrInfoHints(type=socket.SOCK_STREAM)
            found = await getaddrinfo(resolver, "127.0.0.1", "80", hints)
            assert asked == []
            return [each.sockaddr for each in found]

    assert run(main(), base=base) == [("127.0.0.1", 80)]


def test_a_name_that_is_not_there_is_an_error_of_getaddrinfo(base: EventBase) -> None:
    async def main() -> None:
        with resolving(base) as (resolver, _):
            with pytest.raises(socket.gaierror, match=r"gone\.example") as caught:
                await getaddrinfo(resolver, "gone.example", 80)
            assert isinstance(caught.value, AddrInfoError)
            assert caught.value.errno == socket.EAI_NONAME

    run(main(), base=base)


def test_records_of_any_type_are_found(base: EventBase) -> None:
    async def main() -> list[str]:
        with resolving(base) as (resolver, _):
            answer = await query(resolver, "host.example", "A")
            return [record.data for record in answer.records]

    assert run(main(), base=base) == ["192.0.2.7"]


def test_no_records_are_an_error_with_the_answer(base: EventBase) -> None:
    async def main() -> None:
        with resolving(base) as (resolver, _):
            with pytest.raises(LookupFailed, match=r"gone\.example SRV: name does not") as caught:
                await query(resolver, "gone.example", "SRV")
            assert caught.value.answer.result == DNS_ERR_NOTEXIST

    run(main(), base=base)


def test_a_cancelled_look_up_is_given_up(fake_base: EventBase) -> None:
    """Its question is not asked again, in a minute that the fake clock makes short."""

    async def main() -> None:
        with resolving(fake_base, silent=True) as (resolver, asked):
            for look_up in (
                getaddrinfo(resolver, "host.example", 80),
                query(resolver, "host.example", "TXT"),
            ):
                task = asyncio.create_task(look_up)
                before = len(asked)
                while len(asked) == before:
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                for _ in range(10):
                    await asyncio.sleep(0)  # what is sent already comes
                before = len(asked)
                await asyncio.sleep(60)
                assert len(asked) == before

    run(main(), base=fake_base)


def test_a_timeout_of_asyncio_ends_it(base: EventBase) -> None:
    async def main() -> None:
        with resolving(base, silent=True) as (resolver, _), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await query(resolver, "host.example", "A")

    run(main(), base=base)


def test_a_resolver_that_is_closed_meanwhile_is_an_error(base: EventBase) -> None:
    async def main() -> None:
        with resolving(base, silent=True) as (resolver, asked):
            task = asyncio.create_task(query(resolver, "host.example", "A"))
            while not asked:
                await asyncio.sleep(0.001)
            resolver.close()
            with pytest.raises(LookupFailed, match="shut down"):
                await task
            with pytest.raises(DnsStateError):
                await query(resolver, "host.example", "A")

    run(main(), base=base)
