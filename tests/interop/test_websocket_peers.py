"""Python's WebSocket libraries, websockets and aiohttp, as peers of both our sides."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from evsvc.core import EVLOOP_ONCE, EventBase
from evsvc.http import HttpServer, websocket
from evsvc.http.websocket import WS_TEXT_FRAME, HandshakeFailed, WebSocketOptions, connect
from tests.core.tls_ends import authority, issue

aiohttp = pytest.importorskip("aiohttp")
websockets_client = pytest.importorskip("websockets.sync.client")
websockets_server = pytest.importorskip("websockets.sync.server")
websockets_exceptions = pytest.importorskip("websockets.exceptions")

pytestmark = pytest.mark.interop

PATIENCE_S = 30.0
TEXT = "h\xe9llo \U0001f40c"
LARGE = bytes(range(256)) * 2000


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase() as made:
        yield made


def until(base: EventBase, is_done: Callable[[], object]) -> None:
    """Run the loop, with the real clock."""
    with base.timer(lambda fd, what, arg: None) as tick:
        end = base.now + PATIENCE_S
        while not is_done():
            assert base.now < end, "it never came true"
            tick.add(0.05)
            base.loop(EVLOOP_ONCE)


def in_thread(base: EventBase, function: Callable[[], Any]) -> Any:
    """Run a blocking client in a thread of its own, and the loop meanwhile; return its result."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((function(), None))
        except BaseException as exc:
            outcome.append((None, exc))
        base.post(lambda: None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    until(base, lambda: outcome)
    thread.join(PATIENCE_S)
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


class TestTheirClients:
    @pytest.fixture(params=[False, True], ids=["plain", "deflate"])
    def deflate(self, request) -> bool:
        return request.param

    @pytest.fixture
    def ended(self) -> list[tuple[int | None, str]]:
        return []

    @pytest.fixture
    def url(self, base, deflate, ended) -> Iterator[str]:
        """A server that echoes, and whose `/bye` says good-bye at once."""

        def echo(ws, kind, data, arg):
            (ws.send_text if kind is WS_TEXT_FRAME else ws.send_binary)(data)

        def accept(got, arg):
            options = WebSocketOptions(deflate=deflate)
            ws = websocket.accept(got, echo, None, options, subprotocols=("chat",))
            ws.set_closecb(lambda ws, arg: ended.append((ws.close_code, ws.close_reason)))
            if got.path == "/bye":
                ws.send_fragment("good")
                ws.send_fragment("-bye", is_last=True)
                ws.shutdown(4000, "done")

        with HttpServer(base) as server:
            server.set_gencb(accept)
            yield f"ws://127.0.0.1:{server.bind_socket('127.0.0.1', 0).port}"

    def test_websockets(self, base, url, deflate, ended) -> None:
        def client():
            how = {"subprotocols": ["x", "chat"], "proxy": None}
            if not deflate:
                how["compression"] = None
            with websockets_client.connect(url, **how) as ws:
                assert ws.subprotocol == "chat"
                extensions = [type(each).__name__ for each in ws.protocol.extensions]
                assert extensions == ["PerMessageDeflate"] * deflate
                ws.send(TEXT)
                assert ws.recv() == TEXT
                ws.send(LARGE)
                assert ws.recv() == LARGE
                ws.send(["in ", "", "pieces"])
                assert ws.recv() == "in pieces"
                assert ws.ping().wait(PATIENCE_S)
                ws.close(4001, "enough")
                return ws.close_code, ws.close_reason

        assert in_thread(base, client) == (4001, "enough")
        until(base, lambda: ended)
        assert ended == [(4001, "enough")]

    def test_websockets_is_left(self, base, url, ended) -> None:
        def client():
            with websockets_client.connect(f"{url}/bye", proxy=None) as ws:
                texts = list(ws)
            return texts, ws.close_code, ws.close_reason

        # Iterating ends in an exception for another code than 1000 and 1001.
        with pytest.raises(websockets_exceptions.ConnectionClosedError, match="done"):
            in_thread(base, client)
        until(base, lambda: ended)
        assert ended == [(4000, "done")]

    def test_aiohttp(self, base, url, deflate, ended) -> None:
        async def client():
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(url, protocols=("chat",), compress=15 * deflate) as ws,
            ):
                assert ws.protocol == "chat"
                assert bool(ws.compress) is deflate
                await ws.send_str(TEXT)
                assert await ws.receive_str() == TEXT
                await ws.send_bytes(LARGE)
                assert await ws.receive_bytes() == LARGE
                await ws.ping(b"x")
                await ws.close(code=4001, message=b"enough")
                return ws.close_code

        assert in_thread(base, lambda: asyncio.run(client())) == 4001
        until(base, lambda: ended)
        assert ended == [(4001, "enough")]


class TestTheirServer:
    @pytest.fixture(params=["ws", "wss"])
    def scheme(self, request) -> str:
        return request.param

    @pytest.fixture
    def server(self, scheme) -> Iterator[tuple[str, list[Any]]]:
        """A server of websockets that echoes; the URL, and with what its sessions ended."""
        context = None
        if scheme == "wss":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            issue("127.0.0.1").configure_cert(context)
        ended: list[Any] = []

        def handler(ws):
            if ws.request.path == "/bye":
                ws.send(["good", "-bye"])
                ws.close(4000, "done")
                return
            with contextlib.suppress(websockets_exceptions.ConnectionClosed):
                for message in ws:
                    assert ws.ping().wait(PATIENCE_S)
                    ws.send(message)
            ended.append((ws.close_code, ws.close_reason, ws.subprotocol))

        def judge(ws, request):
            return ws.respond(403, "not here\n") if request.path == "/refused" else None

        serving = websockets_server.serve(
            handler,
            "127.0.0.1",
            0,
            ssl=context,
            subprotocols=["chat"],
            process_request=judge,
        )
        with serving:
            thread = threading.Thread(target=serving.serve_forever, daemon=True)
            thread.start()
            yield f"{scheme}://127.0.0.1:{serving.socket.getsockname()[1]}", ended
            serving.shutdown()
            thread.join(PATIENCE_S)

    @pytest.fixture
    def dial(self, base, scheme) -> Callable[..., Any]:
        """Return `dial(url, cb)`: open one, and wait for what comes of it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority().configure_trust(context)

        def start(url, cb, *, deflate=False, tls=context):
            opened: list[Any] = []
            connect(
                base,
                url,
                cb,
                lambda ws, error, arg: opened.append((ws, error)),
                None,
                WebSocketOptions(deflate=deflate),
                subprotocols=("chat",),
                tls=tls if scheme == "wss" else None,
            )
            until(base, lambda: opened)
            return opened[0]

        return start

    @pytest.mark.parametrize("deflate", [False, True])
    def test_messages_go_both_ways(self, base, server, dial, deflate) -> None:
        url, ended = server
        got: list[str | bytes] = []
        ws, error = dial(url, lambda ws, kind, data, arg: got.append(data), deflate=deflate)
        assert error is None
        assert ws.subprotocol == "chat"
        for message in (TEXT, LARGE, ""):
            (ws.send_text if isinstance(message, str) else ws.send_binary)(message)
        ws.send_fragment("in ")
        ws.send_fragment("pieces", is_last=True)
        until(base, lambda: len(got) == 4)
        assert got == [TEXT, LARGE, "", "in pieces"]
        over: list[Any] = []
        ws.set_closecb(lambda ws, arg: over.append(ws.close_code))
        ws.shutdown(4001, "enough")
        until(base, lambda: over and ended)
        assert over == [4001]
        assert ended == [(4001, "enough", "chat")]

    def test_the_server_may_end_it(self, base, server, dial) -> None:
        got: list[str | bytes] = []
        over: list[Any] = []
        ws, _ = dial(server[0] + "/bye", lambda ws, kind, data, arg: got.append(data))
        ws.set_closecb(lambda ws, arg: over.append(ws))
        until(base, lambda: over)
        assert (got, ws.close_code, ws.close_reason) == (["good-bye"], 4000, "done")

    def test_the_server_may_say_no(self, server, dial) -> None:
        ws, error = dial(server[0] + "/refused", print)
        assert ws is None
        assert isinstance(error, HandshakeFailed)
        assert error.request.response_code == 403
        assert bytes(error.request.input_buffer) == b"not here\n"

    def test_a_server_that_nobody_vouches_for_is_not_spoken_to(self, server, dial, scheme) -> None:
        if scheme == "wss":
            ws, error = dial(server[0], print, tls=None)
            assert ws is None
            assert "certificate" in str(error).lower()
