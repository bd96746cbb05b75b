"""Coroutines as handlers: each exchange comes to an end, whatever becomes of its task."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from evsvc.aio import Handler, NoAnswer, attach, call, fetch, handler, query, run, shutdown
from evsvc.core import EventBase
from evsvc.dns import DNS_ERR_SERVERFAILED, DnsServer, DnsServerRequest, Resolver
from evsvc.http import HttpClient, HttpConnection, HttpError, HttpServer, ServerRequest
from evsvc.rpc import CallFailed, RemoteError, RpcErrorCode, RpcPool, RpcServer
from tests.aio.conftest import Start
from tests.rpc.adding import Add, AddCall, AddReply, AddRequest

Told = list[dict[str, Any]]


def listen_to_the_loop() -> Told:
    """Return where the loop's exception handler keeps what it is told."""
    told: Told = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    return told


class Site:
    """An HttpServer with one handler, and a client."""

    def __init__(self, base: EventBase, on_request: Handler) -> None:
        self.server = HttpServer(base)
        self.server.set_gencb(on_request, "the arg")
        self.port = self.server.bind_socket("127.0.0.1", 0).port
        self.url = f"http://127.0.0.1:{self.port}/"
        self.client = HttpClient(base)

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.close()
        self.server.close()

    async def get(self) -> tuple[int, bytes]:
        response = await fetch(self.client, "GET", self.url)
        return response.status, response.body


def test_a_coroutine_answers_after_it_has_waited(start: Start, base: EventBase) -> None:
    async def on_request(request: ServerRequest, arg: object) -> None:
        await asyncio.sleep(0.001)
        request.send_reply(200, "OK", f"{request.path} {arg}".encode())

    async def main() -> list[tuple[int, bytes]]:
        with attach(base), Site(base, handler(on_request)) as site:
            return await asyncio.gather(*(site.get() for _ in range(20)))

    assert start(main()) == [(200, b"/ the arg")] * 20


def test_what_it_raises_is_500_and_told_to_the_loop(base: EventBase) -> None:
    async def on_request(request: ServerRequest, arg: object) -> None:
        await asyncio.sleep(0)
        raise LookupError("no such thing")

    async def main() -> tuple[int, Told]:
        told = listen_to_the_loop()
        with Site(base, handler(on_request)) as site:
            status, _ = await site.get()
        return status, told

    status, told = run(main(), base=base)
    assert status == 500
    (context,) = told
    assert isinstance(context["exception"], LookupError)
    assert "on_request" in context["message"]


def test_one_that_returns_without_an_answer_is_a_failure(base: EventBase) -> None:
    async def on_request(request: ServerRequest, arg: object) -> None:
        await asyncio.sleep(0)

    async def main() -> tuple[int, Told]:
        told = listen_to_the_loop()
        with Site(base, handler(on_request)) as site:
            status, _ = await site.get()
        return status, told

    status, told = run(main(), base=base)
    assert status == 500
    assert isinstance(told[0]["exception"], NoAnswer)


def test_a_reply_that_has_begun_is_broken_off(base: EventBase) -> None:
    async def on_request(request: ServerRequest, arg: object) -> None:
        request.send_reply_start(200)
        request.send_reply_chunk(b"half of it")
        await asyncio.sleep(0.01)
        raise LookupError("no such thing")

    async def main() -> None:
        listen_to_the_loop()
        with Site(base, handler(on_request)) as site, pytest.raises(HttpError):
            await site.get()

    run(main(), base=base)


def test_a_callers_end_cancels_the_task(base: EventBase) -> None:
    log: list[str] = []
    begun = asyncio.Event()

    async def on_request(request: ServerRequest, arg: object) -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    async def main() -> None:
        slow = handler(on_request)
        with Site(base, slow) as site:
            asking = asyncio.create_task(site.get())
            await begun.wait()
            assert slow.running == 1
            asking.cancel()
            await slow.join()
            assert slow.running == 0

    run(main(), base=base)
    assert log == ["cancelled"]


@pytest.mark.parametrize("cancels", [True, False])
def test_who_closes_its_sending_side_and_waits_may_be_answered(
    base: EventBase, cancels: bool
) -> None:
    async def on_request(request: ServerRequest, arg: object) -> None:
        await asyncio.sleep(0.05)
        request.send_reply(200, "OK", b"patience")

    async def main() -> bytes:
        with Site(base, handler(on_request, cancels=cancels)) as site:
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            return answer

    answer = run(main(), base=base)
    if cancels:
        assert answer.startswith(b"HTTP/1.1 503 ")
    else:
        assert answer.endswith(b"patience")


def test_cancelled_tasks_answer_503_even_before_their_first_step(base: EventBase) -> None:
    async def on_request(request: ServerRequest, arg: object) -> None:
        raise AssertionError("it never runs")

    async def main() -> tuple[int, bytes]:
        never = handler(on_request)

        def begin_and_cancel(request: ServerRequest, arg: object) -> None:
            never(request, arg)
            never.cancel()

        with Site(base, never) as site:
            site.server.set_gencb(begin_and_cancel, None)
            return await site.get()

    status, _ = run(main(), base=base)
    assert status == 503


def test_a_server_stops_when_its_tasks_are_done(base: EventBase) -> None:
    log: list[str] = []
    begun = asyncio.Event()

    async def on_request(request: ServerRequest, arg: object) -> None:
        begun.set()
        await asyncio.sleep(0.02)
        request.send_reply(200, "OK", b"the last one")
        await asyncio.sleep(0.02)
        log.append("after the answer")

    async def main() -> tuple[int, bytes]:
        slow = handler(on_request)
        with Site(base, slow) as site:
            asking = asyncio.create_task(site.get())
            await begun.wait()
            await shutdown(site.server)
            assert log == []
            await slow.join()
            return await asking

    assert run(main(), base=base) == (200, b"the last one")
    assert log == ["after the answer"]


def test_a_stop_has_a_deadline_and_ends_the_tasks(base: EventBase) -> None:
    begun = asyncio.Event()

    async def on_request(request: ServerRequest, arg: object) -> None:
        begun.set()
        await asyncio.sleep(3600)

    async def main() -> None:
        slow = handler(on_request)
        with Site(base, slow) as site:
            asking = asyncio.create_task(site.get())
            await begun.wait()
            await shutdown(site.server, deadline_s=0.01)
            await slow.join()
            with pytest.raises(HttpError):
                await asking

    run(main(), base=base)


def test_without_a_loop_of_asyncio_it_is_500(
    base: EventBase, caplog: pytest.LogCaptureFixture
) -> None:
    async def on_request(request: ServerRequest, arg: object) -> None:
        """Never runs."""

    base.exception_handler = lambda exc: base.loopexit()
    with Site(base, handler(on_request)) as site:
        site.client.get(site.url, lambda response, arg: base.loopexit())
        base.dispatch()
    assert "run the base by evsvc.aio.run" in caplog.text


def test_what_is_no_request_is_refused(base: EventBase) -> None:
    async def on_request(request: Any, arg: object) -> None:
        """Never runs."""

    with pytest.raises(TypeError, match="7"):
        handler(on_request)(7, None)
    with pytest.raises(TypeError, match="'hello'"):
        handler("hello")  # type: ignore[arg-type]  # that is the test


# DNS


def asked(base: EventBase, on_query: Handler) -> Any:
    """Return a coroutine that asks a server with the handler for an address."""

    async def main() -> Any:
        with DnsServer(base, on_query) as server, Resolver(base, 0) as resolver:
            port = server.bind_udp("127.0.0.1", 0).port
            resolver.nameserver_ip_add(f"127.0.0.1:{port}")
            return await query(resolver, "host.example", "A")

    return main()


def test_a_coroutine_answers_a_query(base: EventBase) -> None:
    async def on_query(request: DnsServerRequest, arg: object) -> None:
        await asyncio.sleep(0.001)
        request.add_a_reply(request.questions[0].name, ["192.0.2.7"], 60)
        request.respond(0)

    answer = run(asked(base, handler(on_query)), base=base)
    assert [record.data for record in answer.records] == ["192.0.2.7"]


async def raises(request: Any, arg: object) -> None:
    await asyncio.sleep(0)
    raise LookupError("no such thing")


async def forgets(request: Any, arg: object) -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize(("on_query", "kind"), [(raises, LookupError), (forgets, NoAnswer)])
def test_a_failed_one_is_servfail(
    base: EventBase, on_query: Callable[..., Any], kind: type[Exception]
) -> None:
    async def main() -> Told:
        told = listen_to_the_loop()
        with pytest.raises(OSError, match="server failed") as caught:
            await asked(base, handler(on_query))
        assert caught.value.answer.result == DNS_ERR_SERVERFAILED  # type: ignore[attr-defined]
        return told

    assert {type(context["exception"]) for context in run(main(), base=base)} == {kind}


def test_a_dropped_query_is_answered(base: EventBase) -> None:
    dropped = asyncio.Event()

    async def on_query(request: DnsServerRequest, arg: object) -> None:
        request.drop()
        assert request.answered
        dropped.set()

    async def main() -> Told:
        told = listen_to_the_loop()
        asking = asyncio.create_task(asked(base, handler(on_query)))
        await dropped.wait()
        asking.cancel()
        await asyncio.wait([asking])
        return told

    assert run(main(), base=base) == []


def test_a_dns_server_stops_when_it_has_answered(base: EventBase) -> None:
    begun = asyncio.Event()

    async def on_query(request: DnsServerRequest, arg: object) -> None:
        begun.set()
        await asyncio.sleep(0.01)
        request.respond(3)

    async def main() -> bytes:
        with (
            DnsServer(base, handler(on_query)) as server,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        ):
            sock.setblocking(False)
            sock.connect(("127.0.0.1", server.bind_udp("127.0.0.1", 0).port))
            sock.send(bytes.fromhex("1234 0100 0001 0000 0000 0000 0161 0000 0100 01"))
            await begun.wait()
            await shutdown(server)
            return sock.recv(512)

    assert run(main(), base=base)[:2] == b"\x12\x34"


# RPC


def adding(base: EventBase, on_add: Handler, left: int = 1) -> Any:
    """Return a coroutine that calls a server with the handler."""

    async def main() -> AddReply:
        with HttpServer(base) as http, RpcPool(base) as pool:
            RpcServer(http).register_rpc(Add, on_add, None)
            port = http.bind_socket("127.0.0.1", 0).port
            pool.add_connection(HttpConnection(base, None, "127.0.0.1", port))
            return await call(pool, Add, AddRequest(left, 2))

    return main()


async def add_and_return(request: AddCall, arg: object) -> AddReply:
    await asyncio.sleep(0)
    return AddReply(request.request.left + request.request.right)


async def add_and_answer(request: AddCall, arg: object) -> None:
    await asyncio.sleep(0)
    request.done(AddReply(request.request.left + request.request.right))


@pytest.mark.parametrize("on_add", [add_and_return, add_and_answer])
def test_a_coroutine_answers_a_call(base: EventBase, on_add: Callable[..., Any]) -> None:
    assert run(adding(base, handler(on_add)), base=base) == AddReply(3)


def test_a_call_failed_is_what_the_caller_is_told(base: EventBase) -> None:
    async def on_add(request: AddCall, arg: object) -> AddReply:
        await asyncio.sleep(0)
        raise CallFailed("too much", RpcErrorCode.OUT_OF_RANGE, {"most": 7})

    async def main() -> Told:
        told = listen_to_the_loop()
        with pytest.raises(RemoteError, match="too much") as caught:
            await adding(base, handler(on_add))
        assert (caught.value.code, caught.value.details) == ("OUT_OF_RANGE", {"most": 7})
        return told

    assert run(main(), base=base) == []


@pytest.mark.parametrize(("on_add", "text"), [(raises, "handler failed"), (forgets, "no proper")])
def test_a_failed_call_is_internal_and_told_to_the_loop(
    base: EventBase, on_add: Callable[..., Any], text: str
) -> None:
    async def main() -> Told:
        told = listen_to_the_loop()
        with pytest.raises(RemoteError, match=text) as caught:
            await adding(base, handler(on_add))
        assert caught.value.code == "INTERNAL"
        return told

    assert len(run(main(), base=base)) == 1


def test_a_callers_end_cancels_the_task_of_a_call(base: EventBase) -> None:
    begun = asyncio.Event()
    log: list[str] = []

    async def on_add(request: AddCall, arg: object) -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            log.append("cancelled" if request.cancelled else "ended")

    async def main() -> None:
        slow = handler(on_add)
        asking = asyncio.create_task(adding(base, slow))
        await begun.wait()
        asking.cancel()
        await asyncio.wait([asking])
        await slow.join()

    run(main(), base=base)
    assert log == ["cancelled"]
