"""Calls over a WebSocket with peers that know of us only what docs/rpc.md says."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from evsvc.core import EventBase
from evsvc.http import HttpServer
from evsvc.rpc import RpcPool, RpcServer, websocket
from tests.interop.test_websocket_peers import in_thread, until
from tests.rpc.adding import Add, AddReply, AddRequest, handle_add
from tests.rpc.test_streams import Count, count

websockets_client = pytest.importorskip("websockets.sync.client")
websockets_server = pytest.importorskip("websockets.sync.server")

pytestmark = pytest.mark.interop

SUBPROTOCOL: Any = "evsvc-rpc.1"
LAST = 0x80


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase() as made:
        yield made


def head(first: str, content_type: str) -> bytes:
    text = f"{first}\r\nContent-Type: {content_type}\r\n".encode()
    return struct.pack(">H", len(text)) + text


def split(frame: bytes) -> tuple[int, int, bytes]:
    """Return kind, number and body of a frame, behind its head where it has one."""
    kind, number = struct.unpack_from(">BI", frame)
    body = frame[5:]
    if kind & ~LAST in (1, 2):
        (size,) = struct.unpack_from(">H", body)
        body = body[2 + size :]
    return kind, number, body


def test_a_client_by_hand(base: EventBase) -> None:
    def client() -> list[tuple[int, int, bytes]]:
        with websockets_client.connect(url, subprotocols=[SUBPROTOCOL], proxy=None) as ws:
            assert ws.subprotocol == SUBPROTOCOL
            stream = msgpack.packb({"number": 2, "text": ""})
            message = struct.pack(">BI", 0, len(stream)) + stream + struct.pack(">BI", 2, 0)
            opening = head("Count", "application/msgpack+stream")
            ws.send(struct.pack(">BI", 1 | LAST, 1) + opening + message)
            request = msgpack.packb({"left": 20, "right": 22})
            ws.send(struct.pack(">BI", 1 | LAST, 2) + head("Add", "application/msgpack") + request)
            frames = []
            while len({number for kind, number, _ in frames if kind & LAST}) < 2:
                frames.append(split(ws.recv()))
            return frames

    with HttpServer(base) as server, RpcServer(server) as rpc_server:
        rpc_server.register_rpc(Add, handle_add)
        rpc_server.register_stream(Count, count)
        websocket.serve(rpc_server)
        port = server.bind_socket("127.0.0.1", 0).port
        url = f"ws://127.0.0.1:{port}/.rpc/websocket"
        frames = in_thread(base, client)
    bodies = {number: b"".join(b for _, n, b in frames if n == number) for number in (1, 2)}
    assert msgpack.unpackb(bodies[2]) == {"total": 42}
    one = msgpack.packb({"number": 0, "text": ""})
    assert bodies[1][: 5 + len(one)] == struct.pack(">BI", 0, len(one)) + one
    assert bodies[1].endswith(struct.pack(">BI", 2, 0))


def test_a_server_by_hand(base: EventBase) -> None:
    def serve(ws: Any) -> None:
        requests = [split(ws.recv()) for _ in range(2)]
        for kind, number, body in reversed(requests):
            assert kind == 1 | LAST
            request = msgpack.unpackb(body)
            reply = msgpack.packb({"total": request["left"] + request["right"]})
            start = struct.pack(">BI", 2, number) + head("200", "application/msgpack")
            ws.send(start + reply[:1])
            ws.send(struct.pack(">BI", 3 | LAST, number) + reply[1:])
        for _ in ws:
            pass

    totals: list[int] = []

    def on_reply(status: Any, request: AddRequest, reply: AddReply | None, arg: object) -> None:
        assert reply is not None, status.message
        totals.append(reply.total)

    with websockets_server.serve(serve, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL]) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        with RpcPool(base, timeout=30.0) as pool:
            websocket.add_endpoint(pool, f"ws://127.0.0.1:{port}/")
            for left in (1, 2):
                pool.make_request(Add, AddRequest(left, 10), on_reply)
            until(base, lambda: len(totals) == 2)
        server.shutdown()
        thread.join(30.0)
    assert totals == [12, 11]
