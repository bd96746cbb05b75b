"""Compressed payloads: only where both sides want it, and no bomb unpacks beyond its limit."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from evsvc.core import ArgumentError, EventBase
from evsvc.http import HttpServer, ServerRequest
from evsvc.rpc import (
    EVRPC_STATUS_ERR_BADPAYLOAD,
    EVRPC_STATUS_ERR_NONE,
    JsonCodec,
    PackingOptions,
    PayloadError,
    PayloadLimits,
    RemoteError,
    Rpc,
    RpcKind,
    RpcPool,
    RpcServer,
    ServerCall,
    websocket,
)
from tests.rpc.conftest import Answer, Loop, RawPeer

pytestmark = pytest.mark.every_carrier


@dataclass
class Text:
    text: str


Echo = Rpc("Echo", Text, Text)
GZIP = PackingOptions(codings=("gzip",))  # can be a key
LONG = Text("abc " * 5000)


class Wire:
    """What the server's handler sees of each call as it came."""

    def __init__(self) -> None:
        self.codings: list[str | None] = []

    def echo(self, call: ServerCall[Text, Text], arg: object) -> None:
        self.codings.append(call.metadata.find("Content-Encoding"))
        call.done(call.request)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def serve(http_server: HttpServer, wire: Wire, carrier: str) -> Iterator[Callable[..., RpcServer]]:
    made: list[RpcServer] = []

    def start(packing: PackingOptions | None = GZIP, **options: Any) -> RpcServer:
        made.append(RpcServer(http_server, packing=packing, **options))
        made[-1].register_rpc(Echo, wire.echo)
        if carrier == "websocket":
            websocket.serve(made[-1])
        return made[-1]

    yield start
    for server in made:
        server.close()


@pytest.fixture
def call(base: EventBase, port: int, loop: Loop, carrier: str) -> Iterator[Callable[..., Any]]:
    pools: dict[PackingOptions | None, RpcPool] = {}

    def make(request: Text = LONG, packing: PackingOptions | None = GZIP) -> Any:
        if packing not in pools:
            pools[packing] = RpcPool(base, timeout=5.0, packing=packing)
            if carrier == "http":
                pools[packing].add_endpoint("127.0.0.1", port)
            else:
                url = f"ws://127.0.0.1:{port}{websocket.WEBSOCKET_PATH}"
                websocket.add_endpoint(pools[packing], url)
        outcomes: list[Any] = []
        pools[packing].make_request(Echo, request, lambda *outcome: outcomes.append(outcome))
        loop.until(lambda: outcomes)
        status, _, reply, _ = outcomes[0]
        return status, reply

    yield make
    for pool in pools.values():
        pool.close()


def test_replies_are_packed_at_once_and_requests_from_the_second_on(
    serve: Any, call: Any, wire: Wire
) -> None:
    serve(GZIP)
    for _ in range(3):
        status, reply = call(packing=GZIP)
        assert (status.error, reply) == (EVRPC_STATUS_ERR_NONE, LONG)
        assert status.http_request.input_headers.find("Content-Encoding") == "gzip"
    assert wire.codings == [None, "gzip", "gzip"]


@pytest.mark.parametrize(("server_side", "client_side"), [(GZIP, None), (None, GZIP), (None, None)])
def test_nothing_is_packed_where_one_side_does_not_want_it(
    serve: Any, call: Any, wire: Wire, server_side: Any, client_side: Any
) -> None:
    serve(server_side)
    for _ in range(2):
        status, reply = call(packing=client_side)
        assert (status.error, reply) == (EVRPC_STATUS_ERR_NONE, LONG)
        assert status.http_request.input_headers.find("Content-Encoding") is None
    assert wire.codings == [None, None]


def test_nothing_is_packed_where_they_have_no_coding_in_common(
    serve: Any, call: Any, wire: Wire
) -> None:
    serve(PackingOptions(codings=("deflate",)))
    for _ in range(2):
        assert call(packing=GZIP)[1] == LONG
    assert wire.codings == [None, None]


@pytest.mark.parametrize(
    ("limits", "is_packed"),
    [
        ({"min_bytes": 1009}, True),
        ({"min_bytes": 1010}, False),
        ({"min_bytes": 1, "max_bytes": 1009}, True),
        ({"min_bytes": 1, "max_bytes": 1008}, False),
    ],
)
def test_a_payload_out_of_the_bounds_stays_as_it_is(
    serve: Any, call: Any, limits: dict[str, int], is_packed: bool
) -> None:
    request = Text("x" * 1000)  # is 1009 bytes: a map, the name, and a length of three
    serve(PackingOptions(codings=("gzip",), **limits))
    status, reply = call(request, packing=GZIP)
    assert reply == request
    coding = status.http_request.input_headers.find("Content-Encoding")
    assert coding == ("gzip" if is_packed else None)


class Raw:
    """Posts JSON that is packed by hand."""

    def __init__(self, peer: RawPeer) -> None:
        self.peer = peer

    def post(self, body: bytes, *lines: str) -> Answer:
        fields = ["Host: a", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        head = "\r\n".join(["POST /.rpc.Echo HTTP/1.1", *fields, *lines])
        self.peer.send(head.encode() + b"\r\n\r\n" + body)
        return self.peer.read()


@pytest.fixture
def raw(peer: RawPeer) -> Raw:
    return Raw(peer)


def test_a_coding_that_is_not_taken_is_415_and_the_right_one_is_told(serve: Any, raw: Raw) -> None:
    serve(GZIP)
    answer = raw.post(b"{}", "Content-Encoding: zzz")
    assert (answer.code, answer.headers["accept-encoding"]) == (415, "gzip")
    assert raw.post(b'{"text":"a"}').code == 200


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"no gzip", b"not to be unpacked"),
        (gzip.compress(b'{"text":"a"}')[:-1], b"cut off"),
        (gzip.compress(b'{"text":'), b"not JSON"),
    ],
)
def test_what_is_not_packed_so_is_refused_and_the_connection_lives_on(
    serve: Any, raw: Raw, body: bytes, text: bytes
) -> None:
    serve(GZIP)
    answer = raw.post(body, "Content-Encoding: gzip")
    assert answer.code == 503
    assert text in answer.body
    assert raw.post(gzip.compress(b'{"text":"a"}'), "Content-Encoding: gzip").code == 200


@pytest.mark.parametrize("extra", [0, 1])
def test_a_request_unpacks_to_the_limit_and_no_further(serve: Any, raw: Raw, extra: int) -> None:
    serve(PackingOptions(codings=("gzip",), max_unpacked_bytes=5000 - extra))
    body = b'{"text":"' + b"x" * (5000 - 11) + b'"}'
    answer = raw.post(gzip.compress(body), "Content-Encoding: gzip")
    assert answer.code == (503 if extra else 200)
    assert (b"unpack to 5000" in answer.body) is bool(extra)


def test_the_limit_of_the_codec_counts_when_it_is_unpacked(serve: Any, raw: Raw) -> None:
    serve(GZIP, codec=JsonCodec(PayloadLimits(max_payload_bytes=100)))
    answer = raw.post(gzip.compress(b'{"text":"' + b"x" * 100 + b'"}'), "Content-Encoding: gzip")
    assert answer.code == 503
    assert b"111 payload bytes are more than the limit of 100" in answer.body


@pytest.mark.http_alone
@pytest.mark.parametrize("coding", ["gzip", "zzz"])
def test_an_answer_that_is_not_packed_so_is_a_bad_payload(
    http_server: HttpServer, call: Any, coding: str
) -> None:
    def answer(request: ServerRequest, arg: object) -> None:
        request.output_headers.add("Content-Type", "application/msgpack")
        request.output_headers.add("Content-Encoding", coding)
        request.send_reply(200, None, b"no gzip")

    http_server.set_cb(Echo.path, answer)
    status, reply = call(packing=GZIP)
    assert (status.error, reply) == (EVRPC_STATUS_ERR_BADPAYLOAD, None)
    assert isinstance(status.cause, PayloadError)


@pytest.mark.http_alone
def test_a_failure_is_told_as_without(http_server: HttpServer, call: Any) -> None:
    with RpcServer(http_server, packing=GZIP) as server:
        server.register_rpc(Echo, lambda call, arg: call.fail("no" * 2000))
        cause = call(packing=GZIP)[0].cause
    assert isinstance(cause, RemoteError)
    assert cause.text.startswith("nono")


def test_a_stream_beside_is_as_without(
    http_server: HttpServer, base: EventBase, port: int, loop: Loop
) -> None:
    tail = Rpc("Tail", Text, Text, kind=RpcKind.SERVER_STREAM)
    seen: list[Text] = []
    ended: list[Any] = []
    with RpcServer(http_server, packing=GZIP) as server, RpcPool(base, packing=GZIP) as pool:
        server.register_stream(tail, lambda stream, arg: stream.end(stream.request))
        pool.add_endpoint("127.0.0.1", port)
        pool.open_stream(
            tail,
            lambda *outcome: ended.append(outcome[0]),
            request=LONG,
            on_message=lambda stream, message, arg: seen.append(message),
        )
        loop.until(lambda: ended)
    assert (ended[0].error, seen) == (EVRPC_STATUS_ERR_NONE, [LONG])


@pytest.mark.parametrize(
    "options",
    [
        {"codings": "gzip"},
        {"codings": []},
        {"codings": ["zip"]},
        {"min_bytes": 0},
        {"max_unpacked_bytes": 0},
        {"max_bytes": 0},
    ],
)
def test_bad_options_raise(options: Any) -> None:
    with pytest.raises(ArgumentError, match=next(iter(options)).split("_")[0][:6]):
        PackingOptions(**options)
