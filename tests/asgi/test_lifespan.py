"""An application is started before it serves, and stopped after it."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from evsvc import aio
from evsvc.asgi import AsgiHandler, AsgiOptions, LifespanFailed
from evsvc.core import ArgumentError, ArgumentTypeError, EventBase
from evsvc.http import HttpServer
from tests.asgi.gateway import Gateway
from tests.asgi.test_http import GET, piece, start, whole_body
from tests.hosted import PATIENCE_S, read_to_end

Serve = Callable[..., Gateway]


def started(application: Any, **how: Any) -> AsgiHandler:
    """Start an application and stop it again, without a server."""

    async def main() -> AsgiHandler:
        handler = AsgiHandler(asyncio.get_running_loop(), application, AsgiOptions(**how))
        await handler.startup()
        await handler.startup()  # once is enough
        await handler.shutdown()
        await handler.shutdown()
        return handler

    return aio.run(main())


class Lived:
    """An application that keeps what it was told of its lifespan."""

    def __init__(self, *says: dict[str, Any]) -> None:
        self.heard: list[str] = []
        self.says = says or (
            {"type": "lifespan.startup.complete"},
            {"type": "lifespan.shutdown.complete"},
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        assert scope["asgi"]["version"] == "3.0"
        scope["state"]["told"] = "of the start"
        for message in self.says:
            self.heard.append((await receive())["type"])
            await send(message)


def test_it_is_told_to_start_and_to_stop() -> None:
    application = Lived()
    handler = started(application)
    assert application.heard == ["lifespan.startup", "lifespan.shutdown"]
    assert handler.state == {"told": "of the start"}


def test_one_that_cannot_start_is_refused_with_what_it_says() -> None:
    says = {"type": "lifespan.startup.failed", "message": "no data base"}
    with pytest.raises(LifespanFailed, match="no data base"):
        started(Lived(says))
    with pytest.raises(LifespanFailed, match="does not say why"):
        started(Lived({"type": "lifespan.startup.failed"}))


def test_one_that_cannot_stop_is_logged(caplog: Any) -> None:
    says = {"type": "lifespan.shutdown.failed", "message": "files are open"}
    started(Lived({"type": "lifespan.startup.complete"}, says))
    assert "files are open" in caplog.text


async def knows_none(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError(scope["type"])


async def returns(scope: Any, receive: Any, send: Any) -> None:
    return


@pytest.mark.parametrize("application", [knows_none, returns])
def test_one_that_knows_no_lifespan_serves_without(application: Any) -> None:
    assert started(application).state == {}


def test_one_that_raises_has_failed_where_a_lifespan_is_required() -> None:
    with pytest.raises(LifespanFailed, match="NotImplementedError"):
        started(knows_none, requires_lifespan=True)


def test_one_that_says_nothing_has_failed_in_time() -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    with pytest.raises(LifespanFailed, match=r"within 0\.01 s"):
        started(silent, startup_s=0.01)


def test_one_that_says_what_is_not_legal_has_failed() -> None:
    application = Lived({"type": "lifespan.shutdown.complete"})
    with pytest.raises(LifespanFailed, match="not legal"):
        started(application, requires_lifespan=True)


def test_one_that_ends_before_it_is_to_is_not_waited_for(caplog: Any) -> None:
    started(Lived({"type": "lifespan.startup.complete"}))

    async def crashes(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise KeyError("before it says that it has stopped")

    started(crashes)
    assert "before it says" in caplog.text


async def counts(scope: Any, receive: Any, send: Any) -> None:
    """Put a list into the state, and answer with what requests have put there."""
    if scope["type"] == "lifespan":
        scope["state"]["list"] = []
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    state = scope["state"]
    assert "own" not in state
    state["own"] = 1
    state["list"].append(1)
    await send(start())
    await send(piece(b"%d" % len(state["list"])))


def test_requests_have_a_shallow_copy_of_the_state(serve: Serve) -> None:
    gateway = serve(counts)
    assert [gateway.ask().body for _ in range(3)] == [b"1", b"2", b"3"]


class Held:
    """An application whose calls wait until they are let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.let_go = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.entered.release()
        await self.let_go.wait()
        await send(start())
        await send(piece(b"done"))


@pytest.mark.parametrize("most", [1, 3])
def test_what_is_beyond_the_limit_of_calls_is_503(serve: Serve, most: int) -> None:
    held = Held()
    gateway = serve(held, starts=False, max_calls=most, retry_after_s=7)
    socks = [gateway.connect() for _ in range(most)]
    for sock in socks:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert held.entered.acquire(timeout=PATIENCE_S)
    answer = gateway.ask()
    assert (answer.status, answer.fields["retry-after"]) == (503, "7")
    gateway.in_loop(held.let_go.set)
    assert all(read_to_end(sock).endswith(b"done") for sock in socks)
    assert gateway.ask().status == 200


def test_while_it_starts_requests_are_503(serve: Serve) -> None:
    is_starting, go_on = threading.Event(), asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            is_starting.set()
            await go_on.wait()
            await send({"type": "lifespan.startup.complete"})
            await receive()
        else:
            await send(start())
            await send(piece(b"x"))

    gateway = serve(application, starts=False)
    startup = asyncio.run_coroutine_threadsafe(gateway.handler.startup(), gateway.loop)
    assert is_starting.wait(PATIENCE_S)
    assert gateway.ask().status == 503
    gateway.in_loop(go_on.set)
    startup.result(PATIENCE_S)
    assert gateway.ask().status == 200


def test_shutdown_waits_for_those_in_hand_and_refuses_others(serve: Serve) -> None:
    held = Held()
    gateway = serve(held, starts=False)
    sock = gateway.connect()
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert held.entered.acquire(timeout=PATIENCE_S)
    stopping = asyncio.run_coroutine_threadsafe(gateway.handler.shutdown(), gateway.loop)
    gateway.run(asyncio.sleep(0))
    assert gateway.ask().status == 503
    assert not stopping.done()
    gateway.in_loop(held.let_go.set)
    assert read_to_end(sock).endswith(b"done")
    stopping.result(PATIENCE_S)
    assert gateway.handler.held == 0


def test_shutdown_cancels_after_its_deadline(serve: Serve, caplog: Any) -> None:
    held = Held()
    gateway = serve(held, starts=False)
    sock = gateway.connect()
    sock.sendall(GET)
    assert held.entered.acquire(timeout=PATIENCE_S)
    gateway.run(gateway.handler.shutdown(deadline_s=0.01))
    assert sock.recv(12) == b"HTTP/1.1 500"
    assert "1 calls are cancelled" in caplog.text


def test_an_application_runs_on_any_loop_to_which_the_base_is_attached() -> None:
    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        with EventBase() as base, HttpServer(base) as server, aio.attach(base, loop):
            handler = AsgiHandler(loop, counts)
            await handler.startup()
            handler.mount(server)
            port = server.bind_socket("127.0.0.1", 0).port
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            await handler.shutdown()
        return answer

    assert asyncio.run(main()).endswith(b"\r\n\r\n1")


def test_mistakes_raise_where_they_are_made(serve: Serve) -> None:
    gateway = serve(counts)
    with pytest.raises(ArgumentTypeError, match="5"):
        AsgiHandler(gateway.loop, 5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="bare"):
        gateway.handler.mount(gateway.server, "bare")
    with pytest.raises(ArgumentError, match="-1"):
        gateway.run(gateway.handler.shutdown(deadline_s=-1))


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("max_calls", 1),
        ("retry_after_s", 0),
        ("max_input_bytes", 1),
        ("max_output_bytes", 1),
        ("max_messages", 1),
    ],
)
def test_options_are_judged_where_they_are_made(name: str, least: int) -> None:
    AsgiOptions(**{name: least})  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=rf"{name} .*{least - 1}"):
        AsgiOptions(**{name: least - 1})  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match=name):
        AsgiOptions(**{name: "9"})  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="-1"):
        AsgiOptions(startup_s=-1)


def test_requests_leave_nothing_behind(serve: Serve) -> None:
    """No scope lives on after its request, with the collector off."""

    class Mark:
        pass

    marks: list[weakref.ref[Mark]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        mark = scope["mark"] = Mark()
        marks.append(weakref.ref(mark))
        body = await whole_body(receive)
        await send(start())
        await send(piece(body))

    gateway = serve(application, starts=False)
    gc.disable()
    try:
        for body in (None, b"body"):
            gateway.ask(method="POST", body=body)
        gateway.stop()
        assert [mark() for mark in marks] == [None, None]
    finally:
        gc.enable()
