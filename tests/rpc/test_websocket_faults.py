"""Peers that break the rules of calls over a WebSocket: told so, and nobody else is harmed."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evsvc.core import BufferEvent, EventBase
from evsvc.http import Headers, HttpServer, ServerOptions, ServerRequest
from evsvc.http.errors import ConnectionClosed, InvalidResponse
from evsvc.http.websocket import WebSocketOptions, WsConnection, accept, connect
from evsvc.rpc import (
    MsgpackCodec,
    PayloadError,
    Rpc,
    RpcPool,
    RpcServer,
)
from evsvc.rpc.frames import encode_end, encode_message
from evsvc.rpc.websocket import (
    SUBPROTOCOL,
    WEBSOCKET_PATH,
    RpcWebSocketOptions,
    add_endpoint,
    serve,
)
from evsvc.rpc.websocket.client_request import CarriedClientRequest
from evsvc.rpc.websocket.flow import FIRST_CREDIT
from evsvc.rpc.websocket.frames import (
    MAX_BODY_BYTES,
    MAX_CREDIT,
    Frame,
    FrameError,
    Kind,
    decode,
    encode,
    encode_credit,
    encode_head,
    head_of,
)
from evsvc.rpc.websocket.outbox import Outbox
from tests.rpc.adding import Add, AddReply, AddRequest, Caller, handle_add
from tests.rpc.conftest import Loop
from tests.rpc.test_streams import Chat, Count, Item, ItemStream, Listener, Sum, add_up, count, echo

Wait = Rpc("Wait", AddRequest, AddReply)

EVERY = frozenset(Kind)
MSGPACK = Headers((("Content-Type", "application/msgpack"),))
STREAM = Headers((("Content-Type", "application/msgpack+stream"),))

ADDING = MsgpackCodec().encode(Add.request_shape, AddRequest(1, 2))
SUM = MsgpackCodec().encode(Add.reply_shape, AddReply(3))
ITEM = encode_message(MsgpackCodec().encode(Chat.request_shape, Item(1)), 1000)


def begin(call_id: int, name: str, body: bytes = b"", *, is_last: bool = False) -> bytes:
    fields = MSGPACK if name in ("Add", "Wait") else STREAM
    return encode(Kind.BEGIN, call_id, encode_head(name, fields, 1000) + body, is_last=is_last)


def reply(call_id: int, body: bytes = SUM, status: str = "200", *, is_last: bool = True) -> bytes:
    return encode(Kind.REPLY, call_id, encode_head(status, MSGPACK, 1000) + body, is_last=is_last)


def data(call_id: int, body: bytes, *, is_last: bool = False) -> bytes:
    return encode(Kind.DATA, call_id, body, is_last=is_last)


class RawClient:
    """Sends any messages to a server, and keeps the frames that come."""

    def __init__(self, base: EventBase, loop: Loop, url: str) -> None:
        self.loop = loop
        self.url = url
        self.frames: list[Frame] = []
        self.ws: WsConnection | None = None
        connect(base, url, self._take, self._opened, subprotocols=(SUBPROTOCOL,))
        loop.until(lambda: self.ws)

    def _opened(self, ws: WsConnection | None, error: Exception | None, arg: object) -> None:
        assert ws is not None, error
        self.ws = ws

    def _take(self, ws: WsConnection, kind: object, message: Any, arg: object) -> None:
        self.frames.append(decode(message, EVERY))

    def send(self, *messages: bytes | str) -> None:
        assert self.ws is not None
        for message in messages:
            if isinstance(message, str):
                self.ws.send_text(message)
            else:
                self.ws.send_binary(message)

    def answer(self, call_id: int) -> tuple[int, Any]:
        """Return status and body of a call's answer that is one frame."""

        def found() -> list[Frame]:
            of_call = [frame for frame in self.frames if frame.call_id == call_id]
            return [frame for frame in of_call if frame.kind is not Kind.CREDIT]

        self.loop.until(found)
        (frame,) = found()
        assert (frame.kind, frame.is_last) == (Kind.REPLY, True)
        head = head_of(frame, 1000)
        if head.first == "200":
            return 200, head.body
        return int(head.first), json.loads(head.body)

    def ended(self) -> tuple[int | None, str]:
        """Run until the WebSocket has ended, and return how."""
        ws = self.ws
        assert ws is not None
        self.loop.until(lambda: ws.close_code is not None)
        return ws.close_code, ws.close_reason


@pytest.fixture
def url(port: int) -> str:
    return f"ws://127.0.0.1:{port}{WEBSOCKET_PATH}"


@pytest.fixture
def raw(base: EventBase, server: RpcServer, loop: Loop, url: str) -> Iterator[RawClient]:
    """Return a raw client of a server that adds, counts, sums and echoes."""
    server.register_rpc(Add, handle_add)
    server.register_rpc(Wait, lambda call, arg: None)
    server.register_stream(Count, count)
    server.register_stream(Sum, add_up)
    server.register_stream(Chat, echo)
    serve(server, options=RpcWebSocketOptions(max_calls=2, max_head_bytes=1000))
    client = RawClient(base, loop, url)
    yield client
    assert client.ws is not None
    client.ws.close()
    loop.settle()


def assert_serves(base: EventBase, loop: Loop, url: str) -> None:
    """Another client is served."""
    with RpcPool(base, timeout=50.0) as pool:
        add_endpoint(pool, url)
        assert Caller(pool, loop).call().reply == AddReply(3)


def test_frames_by_hand_are_answered(raw: RawClient) -> None:
    raw.send(begin(1, "Add", ADDING, is_last=True))
    assert raw.answer(1) == (200, SUM)
    raw.send(begin(9, "Add", ADDING[:2]), data(9, ADDING[2:]), data(9, b"", is_last=True))
    raw.loop.until(lambda: raw.frames[-1].is_last and raw.frames[-1].call_id == 9)
    raw.send(begin(10, "Sum", ITEM + ITEM), data(10, encode_end(), is_last=True))
    raw.loop.until(lambda: raw.frames[-1].is_last and raw.frames[-1].call_id == 10)
    raw.send(begin(11, "Chat"))
    raw.send(data(11, ITEM))
    raw.loop.until(lambda: raw.frames[-1].call_id == 11)


LONGEST = 5 + 2 + 1000 + MAX_BODY_BYTES


@pytest.mark.parametrize(
    ("messages", "code", "reason"),
    [
        (["text"], 1003, "a text message"),
        ([b""], 1002, "a frame of 0 bytes"),
        ([b"\x01\0\0"], 1002, "a frame of 3 bytes"),
        ([b"\x09\0\0\0\x01"], 1002, "a frame of kind 9"),
        ([reply(1)], 1002, "a frame of kind 130"),
        ([encode(Kind.LEAVE, 0)], 1002, "a frame of kind 6"),
        ([begin(0, "Add")], 1002, "a BEGIN of call 0"),
        ([data(1, b"x")], 1002, "a DATA of call 1, which has not begun"),
        ([encode_credit(1, 9)], 1002, "a CREDIT of call 1, which has not begun"),
        ([encode(Kind.CANCEL, 1)], 1002, "a CANCEL of call 1, which has not begun"),
        ([begin(5, "Chat"), data(6, b"x")], 1002, "a DATA of call 6, which has not begun"),
        ([begin(1, "Chat"), begin(1, "Chat")], 1002, "a BEGIN of call 1 behind call 1"),
        ([begin(7, "Chat"), begin(6, "Chat")], 1002, "a BEGIN of call 6 behind call 7"),
        ([encode(Kind.BEGIN, 1, b"\0\x09Add\r\n")], 1002, "not a head: Add"),
        ([encode(Kind.BEGIN, 1, b"\x03\xe9")], 1002, "a head of 1001 bytes; the limit is 1000"),
        ([begin(1, "Wait", ADDING, is_last=True), data(1, b"x")], 1002, "not legal while ENDED"),
        ([begin(1, "Chat"), encode_credit(1, 0)], 1002, "a credit of 0 bytes"),
        ([begin(1, "Chat"), encode_credit(1, MAX_CREDIT)], 1002, f"a credit of {MAX_CREDIT}"),
        ([begin(1, "Chat"), encode_credit(1, 2**32 - 1)], 1002, "a credit of 4294967295"),
        ([b"\x03\0\0\0\x01" + bytes(LONGEST - 5 + 1)], 1009, ""),
        ([b"\x09" + bytes(LONGEST - 1)], 1002, "a frame of kind 9"),
    ],
)
def test_what_breaks_the_rules_ends_the_websocket_and_its_calls_alone(
    raw: RawClient, base: EventBase, url: str, messages: list[bytes | str], code: int, reason: str
) -> None:
    raw.send(*messages)
    ended = raw.ended()
    assert ended[0] == code
    assert reason in ended[1]
    assert_serves(base, raw.loop, url)


@pytest.mark.parametrize("extra", [0, 1])
def test_a_head_may_be_as_long_as_max_head_bytes(raw: RawClient, extra: int) -> None:
    fields = MSGPACK.copy()
    fields.add("Pad", "")
    bare = len(encode_head("Add", fields, 1000)) - 2
    fields.replace("Pad", "x" * (1000 - bare + extra))
    head = encode_head("Add", fields, 1001)
    raw.send(encode(Kind.BEGIN, 1, head + ADDING, is_last=True))
    if extra:
        assert raw.ended() == (1002, "a head of 1001 bytes; the limit is 1000")
    else:
        assert raw.answer(1) == (200, SUM)


def hold(server: RpcServer) -> list[ItemStream]:
    """Have the echo take nothing, and return its streams."""
    streams: list[ItemStream] = []
    server.unregister_rpc(Chat)
    server.register_stream(Chat, lambda stream, arg: streams.append(stream))
    return streams


def test_calls_of_a_websocket_that_is_broken_are_told(raw: RawClient, server: RpcServer) -> None:
    streams, gone = hold(server), []
    raw.send(begin(1, "Chat"), begin(2, "Chat"))
    raw.loop.until(lambda: len(streams) == 2)
    for stream in streams:
        stream.on_cancel(lambda stream, arg: gone.append(stream))
    raw.send(data(3, b"x"))
    raw.loop.until(lambda: len(gone) == 2)
    assert raw.ended()[0] == 1002
    assert [stream.send(Item(1)) for stream in streams] == [False, False]


@pytest.mark.parametrize("excess", [0, 1])
def test_more_than_there_is_credit_for_ends_the_websocket(
    raw: RawClient, server: RpcServer, excess: int
) -> None:
    streams = hold(server)
    raw.send(begin(1, "Chat", bytes(MAX_BODY_BYTES)), data(1, bytes(MAX_BODY_BYTES)))
    raw.loop.until(lambda: streams)
    raw.loop.settle()
    assert raw.frames == [], "nothing is taken, and so no credit given"
    if excess:
        raw.send(data(1, b"x"))
        code, reason = raw.ended()
        assert (code, reason) == (1002, "1 bytes of a body; there was credit for 0")
    else:
        raw.send(begin(2, "Add", ADDING, is_last=True))
        assert raw.answer(2) == (200, SUM)


def test_a_call_too_many_is_refused_and_the_others_go_on(raw: RawClient) -> None:
    raw.send(begin(1, "Chat"), begin(2, "Chat"), begin(3, "Chat"), begin(4, "Add", b"x"))
    for call_id in (3, 4):
        status, failure = raw.answer(call_id)
        assert (status, failure["code"]) == (503, "RESOURCE_EXHAUSTED")
        assert failure["message"] == "2 calls share the WebSocket already"
    raw.send(data(4, b"late"), encode(Kind.CANCEL, 3), encode(Kind.CANCEL, 1))
    raw.send(begin(5, "Add", ADDING, is_last=True))
    assert raw.answer(5) == (200, SUM)


def test_a_flood_of_calls_too_many_is_not_read_while_their_answers_are_not(
    raw: RawClient, base: EventBase, server: RpcServer, url: str
) -> None:
    """What waits for such a client stays within what its WebSocket may hold."""
    streams, most_bytes = hold(server), 64 * 1024
    websocket = WebSocketOptions(max_output_bytes=most_bytes)
    options = RpcWebSocketOptions(max_calls=1, max_unsent_bytes=1000, websocket=websocket)
    serve(server, "/small", options)
    flooding = RawClient(base, raw.loop, url.replace(WEBSOCKET_PATH, "/small"))
    flooding.send(begin(1, "Chat"))
    raw.loop.until(lambda: streams)
    assert streams[0].connection is not None
    carrier = streams[0].connection.bufferevent
    assert isinstance(carrier, BufferEvent)
    assert carrier.socket is not None
    carrier.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    assert flooding.ws is not None
    flooding.ws.pause()
    number = 2
    while flooding.ws.unsent_bytes < 500_000 and number < 200_000:
        flooding.send(*(begin(number + each, "Add") for each in range(1000)))
        number += 1000
        raw.loop.settle()
        assert len(carrier.output) < most_bytes
    assert flooding.ws.unsent_bytes >= 500_000, "the server reads on and on"
    assert_serves(base, raw.loop, url)
    flooding.ws.close()


@pytest.mark.parametrize("end", [encode(Kind.CANCEL, 1), data(1, b"", is_last=True)])
def test_frames_of_calls_that_are_over_are_passed_over(raw: RawClient, end: bytes) -> None:
    raw.send(begin(1, "Add", ADDING[:1]), end)
    raw.send(data(1, b"x"), encode_credit(1, 5), encode(Kind.CANCEL, 1))
    raw.send(begin(2, "Add", ADDING, is_last=True))
    assert raw.answer(2) == (200, SUM)


@pytest.mark.parametrize(
    ("name", "body", "text"),
    [
        ("Add", b"", "the request has no body"),
        ("Add", b"\xc1", "the payload is not MessagePack"),
        ("Sum", b"\0\0", "the stream breaks off within a frame"),
        ("Sum", ITEM, "the stream breaks off"),
        ("Sum", b"\1\0\0\0\0", "a frame has unknown flags: 1"),
        ("Sum", b"\0\xff\xff\xff\xff", "a message of 4294967295 bytes; the limit is 1048576"),
        ("Count", encode_end(), "the stream has no request"),
    ],
)
def test_a_body_that_is_none_fails_its_call_alone(
    raw: RawClient, name: str, body: bytes, text: str
) -> None:
    raw.send(begin(1, name, body, is_last=True))
    status, failure = raw.answer(1)
    assert (status, failure["code"]) == (503, "INVALID_ARGUMENT")
    assert text in failure["message"]
    raw.send(begin(2, "Add", ADDING, is_last=True))
    assert raw.answer(2) == (200, SUM)


def test_another_content_type_is_415_as_by_http(raw: RawClient) -> None:
    head = encode_head("Add", Headers((("Content-Type", "text/html"),)), 1000)
    raw.send(encode(Kind.BEGIN, 1, head + ADDING, is_last=True))
    assert raw.answer(1)[0] == 415
    raw.send(encode(Kind.BEGIN, 2, encode_head("Sum", MSGPACK, 1000) + ITEM, is_last=True))
    assert raw.answer(2)[0] == 415


def test_a_client_that_is_dead_is_told_to_the_handlers_of_its_calls(
    raw: RawClient, server: RpcServer, base: EventBase
) -> None:
    streams, gone = hold(server), []
    raw.send(begin(1, "Chat"))
    raw.loop.until(lambda: streams)
    streams[0].on_cancel(lambda stream, arg: gone.append(base.now))
    began = base.now
    assert raw.ws is not None
    raw.ws.pause()  # and so it answers no ping
    raw.loop.until(lambda: gone)
    limits = WebSocketOptions()
    assert limits.ping_s is not None
    assert gone[0] - began == pytest.approx(limits.ping_s + limits.pong_s, abs=0.5)


def test_a_caller_may_send_on_behind_an_answer_that_waits_for_credit(
    raw: RawClient, server: RpcServer
) -> None:
    server.unregister_rpc(Sum)
    server.register_stream(Sum, lambda stream, arg: stream.end(Item(1, "x" * 100_000)))
    raw.send(begin(1, "Sum"))

    def received() -> int:
        return sum(len(frame.payload) for frame in raw.frames if frame.kind is not Kind.CREDIT)

    raw.loop.until(lambda: received() >= FIRST_CREDIT)
    raw.send(data(1, b"nobody wants it"), begin(2, "Add", ADDING, is_last=True))
    assert raw.answer(2) == (200, SUM)
    assert not any(frame.is_last for frame in raw.frames if frame.call_id == 1)
    raw.send(encode_credit(1, FIRST_CREDIT))
    raw.loop.until(lambda: any(frame.is_last for frame in raw.frames if frame.call_id == 1))


def test_an_rpc_that_is_taken_away_while_it_is_called_is_not_found(
    raw: RawClient, server: RpcServer
) -> None:
    raw.send(begin(1, "Add", ADDING[:1]))
    raw.loop.settle()
    server.unregister_rpc(Add)
    raw.send(data(1, ADDING[1:], is_last=True))
    status, failure = raw.answer(1)
    assert (status, failure["code"]) == (404, "UNIMPLEMENTED")
    assert failure["message"] == "the RPC was taken away while it was called"


def test_a_request_that_stands_still_is_answered_408(raw: RawClient, base: EventBase) -> None:
    began = base.now
    raw.send(begin(1, "Add", ADDING[:1]))
    status, failure = raw.answer(1)
    assert (status, failure["code"]) == (408, "DEADLINE_EXCEEDED")
    assert base.now - began == pytest.approx(ServerOptions().body_s, abs=0.1)
    raw.send(data(1, ADDING[1:], is_last=True), begin(2, "Add", ADDING, is_last=True))
    assert raw.answer(2) == (200, SUM)


@pytest.mark.parametrize("piece_bytes", [29, 31])
def test_a_request_may_be_no_slower_than_http_lets_it(
    raw: RawClient, base: EventBase, http_server: HttpServer, piece_bytes: int
) -> None:
    """It comes in pieces, each a second apart; 30 bytes a second are wanted."""
    options = replace(http_server.options, body_s=10.0, body_min_bytes_per_s=30)
    http_server.service.set_options(options)
    client = RawClient(base, raw.loop, raw.url)
    client.send(begin(1, "Add", bytes(piece_bytes)))
    sent = 1

    def on_tick(fd: int, what: int, arg: object) -> None:
        nonlocal sent
        client.send(data(1, bytes(piece_bytes)))
        sent += 1
        tick.add(1.0)

    tick = base.timer(on_tick)
    tick.add(1.0)
    if piece_bytes == 29:
        assert client.answer(1)[0] == 408
        assert sent <= 11
    else:
        raw.loop.until(lambda: sent == 35)
        assert not client.frames or client.frames[0].kind is Kind.CREDIT
    tick.close()
    assert client.ws is not None
    client.ws.close()


class RawServer:
    """A server that answers the first call by any messages."""

    def __init__(self, http_server: HttpServer, port: int) -> None:
        self.url = f"ws://127.0.0.1:{port}/raw"
        self.answers: list[bytes | str] = []
        self.sessions: list[WsConnection] = []
        self.frames: list[Frame] = []
        http_server.set_cb("/raw", self._on_request)

    def _on_request(self, request: ServerRequest, arg: object) -> None:
        ws = accept(request, self._take, subprotocols=(SUBPROTOCOL,))
        assert ws is not None
        self.sessions.append(ws)

    def _take(self, ws: WsConnection, kind: object, message: Any, arg: object) -> None:
        self.frames.append(decode(message, EVERY))
        answers, self.answers = self.answers, []
        for answer in answers:
            if isinstance(answer, str):
                ws.send_text(answer)
            else:
                ws.send_binary(answer)


@pytest.fixture
def site(http_server: HttpServer, port: int) -> RawServer:
    return RawServer(http_server, port)


@pytest.fixture
def pool(base: EventBase, site: RawServer) -> Iterator[RpcPool]:
    with RpcPool(base, timeout=50.0) as pool:
        add_endpoint(pool, site.url, RpcWebSocketOptions(max_head_bytes=1000))
        yield pool


@pytest.mark.parametrize(
    ("answers", "code", "text"),
    [
        (["text"], 1003, "a text message"),
        ([b"\x02"], 1002, "a frame of 1 bytes"),
        ([begin(1, "Add")], 1002, "a frame of kind 1"),
        ([encode(Kind.CANCEL, 1)], 1002, "a frame of kind 5"),
        ([reply(3)], 1002, "a REPLY of call 3, which has not begun"),
        ([reply(0)], 1002, "a REPLY of call 0"),
        ([data(1, SUM, is_last=True)], 1002, "DATA is not legal while AWAITED"),
        ([reply(1, is_last=False), reply(1)], 1002, "HEAD is not legal while BODY"),
        ([reply(1, status="100")], 1002, "a REPLY with the status 100"),
        ([reply(1, status="abc")], 1002, "a REPLY with the status abc"),
        ([reply(1, status="2000")], 1002, "a REPLY with the status 2000"),
        ([encode(Kind.REPLY, 1, b"\xff\xff")], 1002, "a head of 65535 bytes; the limit is 1000"),
        ([encode_credit(1, 0)], 1002, "a credit of 0 bytes"),
        ([encode_credit(1, 2**31)], 1002, "a credit of 2147483648 bytes"),
    ],
)
def test_a_server_that_breaks_the_rules_is_left_and_its_calls_are_told(
    site: RawServer, pool: RpcPool, loop: Loop, answers: Any, code: int, text: str
) -> None:
    site.answers = answers
    caller = Caller(pool, loop)
    caller.start()
    caller.start()
    for result in caller.finish():
        assert isinstance(result.status.cause, InvalidResponse)
        assert text in str(result.status.cause)
    loop.until(lambda: site.sessions[0].close_code is not None)
    assert site.sessions[0].close_code == code
    site.answers = [reply(1)]
    assert caller.call().reply == AddReply(3)


def test_a_reply_to_a_call_that_was_not_sent_is_refused() -> None:
    class Socket:
        outbox = Outbox(1000)  # of no WebSocket yet
        options = RpcWebSocketOptions()

        def heard_of(self, request: CarriedClientRequest) -> None:
            pass

    request = CarriedClientRequest()
    request.call_id = 1
    request.begin(Socket(), "Add", None)  # type: ignore[arg-type]  # no more is asked of it
    with pytest.raises(FrameError, match="a REPLY to call 1, which was not sent"):
        request.receive(decode(reply(1), EVERY))


def test_a_reply_in_pieces_and_frames_behind_its_end_are_fine(
    site: RawServer, pool: RpcPool, loop: Loop
) -> None:
    site.answers = [
        reply(1, SUM[:1], is_last=False),
        encode_credit(1, 7),
        data(1, SUM[1:]),
        data(1, b"", is_last=True),
        data(1, b"late"),
        encode_credit(1, 7),
    ]
    caller = Caller(pool, loop)
    assert caller.call().reply == AddReply(3)
    site.answers = [reply(2)]
    assert caller.call().reply == AddReply(3)
    assert len(site.sessions) == 1


def test_a_body_that_is_no_reply_fails_its_call_alone(
    site: RawServer, pool: RpcPool, loop: Loop
) -> None:
    caller = Caller(pool, loop)
    site.answers = [reply(1, b"\xc1")]
    assert isinstance(caller.call().status.cause, PayloadError)
    site.answers = [reply(2)]
    assert caller.call().reply == AddReply(3)


def test_more_than_there_is_credit_for_is_not_taken_of_a_server(
    site: RawServer, pool: RpcPool, loop: Loop
) -> None:
    listener = Listener(pool, loop)
    head = encode(Kind.REPLY, 1, encode_head("200", STREAM, 1000) + ITEM)
    fill = bytes(MAX_BODY_BYTES)
    site.answers = [head, data(1, fill), data(1, fill)]

    def pause(stream: Any, item: Item, arg: object) -> None:
        listener.keep(stream, item, arg)
        stream.pause_messages()

    stream = listener.open(Chat, on_message=pause)
    loop.until(lambda: listener.numbers)
    assert not listener.ended
    stream.resume_messages()
    cause = listener.cause()
    assert isinstance(cause, (InvalidResponse, PayloadError))


def test_what_had_come_when_a_server_left_is_told_before_its_end(
    site: RawServer, pool: RpcPool, loop: Loop
) -> None:
    listener = Listener(pool, loop)
    site.answers = [encode(Kind.REPLY, 1, encode_head("200", STREAM, 1000) + ITEM), data(1, ITEM)]

    def pause(stream: Any, item: Item, arg: object) -> None:
        listener.keep(stream, item, arg)
        stream.pause_messages()

    stream = listener.open(Chat, on_message=pause)
    loop.until(lambda: listener.numbers)
    site.sessions[0].close()
    loop.settle()
    assert (listener.numbers, listener.ended) == ([1], [])
    while not listener.ended:
        stream.resume_messages()
        loop.settle()
    assert listener.numbers == [1, 1]
    assert isinstance(listener.cause(), ConnectionClosed)


def test_a_reply_that_is_whole_is_had_when_its_server_has_left(
    site: RawServer, pool: RpcPool, loop: Loop
) -> None:
    listener = Listener(pool, loop)
    head = encode(Kind.REPLY, 1, encode_head("200", STREAM, 1000) + ITEM)
    site.answers = [head, data(1, ITEM + encode_end(), is_last=True)]

    def pause(stream: Any, item: Item, arg: object) -> None:
        listener.keep(stream, item, arg)
        stream.pause_messages()

    stream = listener.open(Chat, on_message=pause)
    loop.until(lambda: listener.numbers)
    site.sessions[0].close()
    while not listener.ended:
        stream.resume_messages()
        loop.settle()
    assert not listener.finish()[0].error
    assert listener.numbers == [1, 1]


def test_calls_behind_the_one_that_leave_names_go_to_another_websocket(
    site: RawServer, pool: RpcPool, loop: Loop, base: EventBase, http_server: HttpServer
) -> None:
    site.answers = [encode(Kind.LEAVE, 1)]
    pool.add_endpoint("127.0.0.1", int(site.url.split(":")[2].split("/")[0]), priority=1)
    with RpcServer(http_server) as server:
        server.register_rpc(Add, handle_add)
        caller = Caller(pool, loop)
        for number in (5, 6, 7):
            caller.start(number, 0)
        assert [result.request.left for result in caller.finish(2)] == [6, 7]
        site.sessions[0].send_binary(reply(1))
        assert caller.finish(3)[2].reply == AddReply(3)
        loop.until(lambda: site.sessions[0].close_code is not None)
        assert site.sessions[0].close_code == 1000


def test_a_stream_of_which_something_was_sent_goes_to_no_other_server(
    site: RawServer, pool: RpcPool, loop: Loop, http_server: HttpServer, port: int
) -> None:
    pool.add_endpoint("127.0.0.1", port, priority=1)
    begun: list[ItemStream] = []
    with RpcServer(http_server) as server:
        server.register_stream(Sum, lambda stream, arg: begun.append(stream))
        site.answers = [encode(Kind.LEAVE, 0)]
        listener = Listener(pool, loop)
        listener.open(Sum).send(Item(4))
        assert isinstance(listener.cause(), ConnectionClosed)
        loop.settle()
    assert begun == []


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    messages=st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.builds(begin, st.integers(1, 9), st.sampled_from(["Add", "Sum", "Chat"])),
            st.builds(data, st.integers(0, 9), st.binary(max_size=9), is_last=st.booleans()),
            st.builds(encode_credit, st.integers(0, 9), st.integers(0, 2**32 - 1)),
            st.builds(encode, st.sampled_from(Kind), st.integers(0, 9), st.binary(max_size=9)),
        ),
        max_size=12,
    )
)
def test_whatever_a_client_sends_others_are_served(
    raw: RawClient, base: EventBase, url: str, messages: list[bytes]
) -> None:
    client = RawClient(base, raw.loop, url)
    client.send(*messages)
    raw.loop.settle()
    assert_serves(base, raw.loop, url)
    assert client.ws is not None
    client.ws.close()
    raw.loop.settle()
