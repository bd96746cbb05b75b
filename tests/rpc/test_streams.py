"""Streams: any number of messages one way, or both, over one HTTP exchange."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from evsvc.core import EventBase, FakeClock
from evsvc.core.errors import ArgumentError, StateError
from evsvc.http import ClientOptions, HttpConnection, HttpRequest, HttpServer, ServerRequest
from evsvc.rpc import (
    EVRPC_CONTINUE,
    EVRPC_INPUT,
    EVRPC_OUTPUT,
    EVRPC_PAUSE,
    EVRPC_STATUS_ERR_BADPAYLOAD,
    EVRPC_STATUS_ERR_NONE,
    EVRPC_STATUS_ERR_TIMEOUT,
    EVRPC_STATUS_ERR_UNSTARTED,
    EVRPC_TERMINATE,
    CallFailed,
    CallTimeout,
    ClientStream,
    JsonCodec,
    MethodOptions,
    Nothing,
    PayloadError,
    RemoteError,
    Rpc,
    RpcErrorCode,
    RpcKind,
    RpcPool,
    RpcServer,
    RpcStatus,
    ServerStream,
    Service,
    StreamOptions,
)
from evsvc.rpc.client.stream import MAX_FAILURE_BYTES
from evsvc.rpc.errors import MAX_QUOTED_CHARACTERS
from evsvc.rpc.frames import encode_end, encode_message
from evsvc.rpc.server.stream import NEXT, StreamState, StreamStep
from tests.rpc.adding import Add, AddReply, Caller, handle_add
from tests.rpc.conftest import Loop, RawPeer, freed_by_themselves

pytestmark = pytest.mark.every_carrier


@dataclass
class Item:
    number: int
    text: str = ""


Count = Rpc("Count", Item, Item, kind=RpcKind.SERVER_STREAM)
Sum = Rpc("Sum", Item, Item, kind=RpcKind.CLIENT_STREAM)
Chat = Rpc("Chat", Item, Item, kind=RpcKind.BOTH_WAYS)
Log = Rpc("Log", Item, Nothing, kind=RpcKind.ONE_WAY)

ItemStream = ServerStream[Item, Item]


class Listener:
    """Opens streams on a pool, and keeps what comes of them."""

    def __init__(self, pool: RpcPool, loop: Loop) -> None:
        self.pool = pool
        self.loop = loop
        self.numbers: list[int] = []
        self.ended: list[tuple[RpcStatus, Item | None]] = []

    def open(self, rpc: Rpc[Item, Item], **options: Any) -> ClientStream[Item, Item]:
        if rpc.kind is not RpcKind.CLIENT_STREAM:
            options.setdefault("on_message", self.keep)
        return self.pool.open_stream(rpc, self.end, **options)

    def keep(self, stream: ClientStream[Item, Item], message: Item, arg: object) -> None:
        self.numbers.append(message.number)

    def end(self, status: RpcStatus, request: object, reply: Item | None, arg: object) -> None:
        self.ended.append((status, reply))

    def finish(self) -> tuple[RpcStatus, Item | None]:
        self.loop.until(lambda: self.ended)
        (outcome,) = self.ended
        return outcome

    def cause(self) -> Any:
        return self.finish()[0].cause


@pytest.fixture
def listener(pool: RpcPool, loop: Loop) -> Listener:
    return Listener(pool, loop)


def count(stream: ItemStream, arg: object) -> None:
    for number in range(stream.request.number):
        assert stream.send(Item(number))
    stream.end()


def echo(stream: ItemStream, arg: object) -> None:
    stream.set_message_cbs(lambda stream, item, arg: stream.send(item), lambda s, arg: s.end())


def add_up(stream: ItemStream, arg: object) -> None:
    numbers: list[int] = []
    stream.set_message_cbs(
        lambda stream, item, arg: numbers.append(item.number),
        lambda stream, arg: stream.end(Item(sum(numbers))),
    )


@pytest.mark.parametrize("wanted", [0, 1, 1000])
def test_a_server_sends_any_number_of_messages(
    server: RpcServer, listener: Listener, wanted: int
) -> None:
    server.register_stream(Count, count)
    listener.open(Count, request=Item(wanted))
    status, reply = listener.finish()
    assert (status.error, reply) == (EVRPC_STATUS_ERR_NONE, None)
    assert listener.numbers == list(range(wanted))


@pytest.mark.parametrize("sent", [0, 1, 1000])
def test_a_client_sends_any_number_and_has_one_reply(
    server: RpcServer, listener: Listener, sent: int
) -> None:
    server.register_stream(Sum, add_up)
    stream = listener.open(Sum)
    assert all(stream.send(Item(number)) for number in range(sent))
    stream.end()
    status, reply = listener.finish()
    assert (status.error, reply) == (EVRPC_STATUS_ERR_NONE, Item(sum(range(sent))))


def test_both_ways_each_message_answers_the_one_before(
    server: RpcServer, pool: RpcPool, loop: Loop, listener: Listener
) -> None:
    server.register_stream(Chat, echo)

    def go_on(stream: ClientStream[Item, Item], message: Item, arg: object) -> None:
        listener.keep(stream, message, arg)
        if message.number == 50:
            stream.end()
        else:
            stream.send(Item(message.number + 1))

    stream = listener.open(Chat, on_message=go_on)
    stream.send(Item(1))
    status, _ = listener.finish()
    assert status.error == EVRPC_STATUS_ERR_NONE
    assert listener.numbers == list(range(1, 51))


def test_a_stream_may_be_silent_for_hours_both_ways(
    server: RpcServer, base: EventBase, loop: Loop, listener: Listener, clock: FakeClock
) -> None:
    server.register_stream(Chat, echo)
    stream = listener.open(Chat)
    stream.send(Item(1))
    loop.until(lambda: listener.numbers)
    began = base.now
    later = base.timer(lambda fd, what, arg: (stream.send(Item(2)), stream.end()))
    later.add(3000.0)
    assert listener.finish()[0].error == EVRPC_STATUS_ERR_NONE
    assert listener.numbers == [1, 2]
    assert base.now - began >= 3000.0


@pytest.mark.http_alone
def test_the_connection_serves_the_next_call_when_both_sides_are_done(
    server: RpcServer, pool: RpcPool, loop: Loop, listener: Listener, http_server: HttpServer
) -> None:
    server.register_stream(Chat, echo)
    server.register_rpc(Add, handle_add)
    metrics = http_server.metrics  # counts from here on
    stream = listener.open(Chat)
    caller = Caller(pool, loop)
    caller.start()
    stream.send(Item(1))
    loop.until(lambda: listener.numbers)
    loop.settle()
    assert pool.queued_calls == 1
    stream.end()
    assert caller.finish()[0].reply == AddReply(3)
    assert listener.finish()[0].error == EVRPC_STATUS_ERR_NONE
    assert metrics.connections_total == 1


def test_no_message_is_taken_while_the_backlog_is_full_and_none_is_lost(
    server: RpcServer, listener: Listener
) -> None:
    refused: list[int] = []
    text = "x" * 10_000

    def flood(stream: ItemStream, arg: object = None) -> None:
        while (next_number := state["next"]) < 500:
            if not stream.send(Item(next_number, text)):
                refused.append(next_number)
                assert stream.backlog < 50_000 + 10_100
                return
            state["next"] += 1
        stream.end()

    def begin(stream: ItemStream, arg: object) -> None:
        stream.set_drained_cb(flood)
        flood(stream)

    state = {"next": 0}
    options = StreamOptions(max_backlog_bytes=50_000)
    server.register_stream(Count, begin, stream_options=options)
    listener.open(Count, request=Item(0))
    assert listener.finish()[0].error == EVRPC_STATUS_ERR_NONE
    assert listener.numbers == list(range(500))
    assert len(refused) > 5


def test_a_client_is_told_when_its_backlog_is_full_and_when_it_has_drained(
    server: RpcServer, listener: Listener
) -> None:
    refused: list[int] = []
    state = {"next": 0}

    def flood(stream: ClientStream[Item, Item], arg: object = None) -> None:
        while (next_number := state["next"]) < 500:
            if not stream.send(Item(next_number, "x" * 10_000)):
                refused.append(next_number)
                assert stream.backlog < 50_000 + 10_100
                return
            state["next"] += 1
        stream.end()

    server.register_stream(Sum, add_up)
    stream = listener.open(Sum, options=StreamOptions(max_backlog_bytes=50_000))
    stream.set_drained_cb(flood)
    flood(stream)
    assert listener.finish()[1] == Item(sum(range(500)))
    assert len(refused) > 5


@pytest.mark.parametrize("backlog", [0, 1])
def test_a_backlog_at_its_limit_takes_nothing(
    server: RpcServer, listener: Listener, backlog: int
) -> None:
    server.register_stream(Sum, add_up)
    size = len(encode_message(b'{"number":1,"text":""}', 100))
    pool = RpcPool(listener.pool.base, codec=JsonCodec())
    pool.add_endpoint("127.0.0.1", 1)
    stream = pool.open_stream(
        Sum, listener.end, options=StreamOptions(max_backlog_bytes=size + backlog)
    )
    assert stream.send(Item(1))
    assert stream.backlog == size
    assert stream.send(Item(1)) is bool(backlog)
    pool.close()


def test_a_client_that_pauses_holds_the_server_back(
    server: RpcServer, loop: Loop, listener: Listener
) -> None:
    calls: list[ItemStream] = []
    text = "x" * 100_000

    def flood(stream: ItemStream, arg: object = None) -> None:
        while state["next"] < 300 and stream.send(Item(state["next"], text)):
            state["next"] += 1
        if state["next"] == 300 and not stream.answered:
            stream.end()

    def begin(stream: ItemStream, arg: object) -> None:
        calls.append(stream)
        stream.set_drained_cb(flood)
        flood(stream)

    def one_by_one(stream: ClientStream[Item, Item], message: Item, arg: object) -> None:
        listener.keep(stream, message, arg)
        stream.pause_messages()

    state = {"next": 0}
    server.register_stream(Count, begin)
    stream = listener.open(Count, request=Item(0), on_message=one_by_one)
    loop.until(lambda: listener.numbers)
    loop.settle()
    assert listener.numbers == [0]
    assert state["next"] < 300, "the server was not held back"
    seen = 1
    while not listener.ended:
        stream.resume_messages()
        loop.until(lambda: len(listener.numbers) > seen or listener.ended)  # noqa: B023
        assert len(listener.numbers) - seen <= 1
        seen = len(listener.numbers)
    assert listener.numbers == list(range(300))


def test_a_server_that_pauses_holds_the_client_back(
    server: RpcServer, loop: Loop, listener: Listener
) -> None:
    streams: list[ItemStream] = []
    taken: list[int] = []

    def one_by_one(stream: ItemStream, item: Item, arg: object) -> None:
        taken.append(item.number)
        stream.pause_messages()

    def begin(stream: ItemStream, arg: object) -> None:
        streams.append(stream)
        stream.set_message_cbs(one_by_one, lambda stream, arg: stream.end(Item(len(taken))))

    def flood(stream: ClientStream[Item, Item], arg: object = None) -> None:
        while state["next"] < 300 and stream.send(Item(state["next"], "x" * 100_000)):
            state["next"] += 1
        if state["next"] == 300:
            stream.end()

    state = {"next": 0}
    server.register_stream(Sum, begin)
    stream = listener.open(Sum)
    stream.set_drained_cb(flood)
    flood(stream)
    loop.until(lambda: taken)
    loop.settle()
    assert taken == [0]
    assert state["next"] < 300, "the client was not held back"
    while not listener.ended:
        streams[0].resume_messages()
        seen = len(taken)
        loop.until(lambda: len(taken) > seen or listener.ended)  # noqa: B023
    assert listener.finish()[1] == Item(300)
    assert taken == list(range(300))


def test_a_failure_before_the_first_message_is_told(server: RpcServer, listener: Listener) -> None:
    def refuse(stream: ItemStream, arg: object) -> None:
        stream.fail("no such counter", RpcErrorCode.NOT_FOUND, {"id": 7})

    server.register_stream(Count, refuse)
    listener.open(Count, request=Item(3))
    cause = listener.cause()
    assert isinstance(cause, RemoteError)
    assert (cause.response_code, cause.text) == (503, "no such counter")
    assert (cause.code, cause.details) == (RpcErrorCode.NOT_FOUND, {"id": 7})


def test_a_failure_comes_behind_the_messages_before_it(
    server: RpcServer, listener: Listener
) -> None:
    def break_down(stream: ItemStream, arg: object) -> None:
        stream.send(Item(1))
        raise CallFailed("out of numbers", RpcErrorCode.OUT_OF_RANGE)

    server.register_stream(Count, break_down)
    listener.open(Count, request=Item(3))
    status, reply = listener.finish()
    assert (status.error, reply) == (EVRPC_STATUS_ERR_BADPAYLOAD, None)
    assert isinstance(status.cause, RemoteError)
    assert (status.cause.text, status.cause.code) == ("out of numbers", RpcErrorCode.OUT_OF_RANGE)
    assert listener.numbers == [1]


def test_a_handler_that_raises_ends_its_stream_and_no_other(
    server: RpcServer,
    listener: Listener,
    base: EventBase,
    pool: RpcPool,
    loop: Loop,
    caplog: pytest.LogCaptureFixture,
) -> None:
    raised: list[BaseException] = []
    base.exception_handler = raised.append

    def fall(stream: ItemStream, item: Item, arg: object) -> None:
        raise LookupError(item.number)

    server.register_stream(Chat, lambda stream, arg: stream.set_message_cbs(fall))
    server.register_rpc(Add, handle_add)
    stream = listener.open(Chat)
    with caplog.at_level(logging.CRITICAL):
        stream.send(Item(7))
        cause = listener.cause()
    assert (cause.text, cause.code) == ("the handler failed", RpcErrorCode.INTERNAL)
    assert [str(each) for each in raised] == ["7"]
    assert Caller(pool, loop).call().reply == AddReply(3)


@pytest.mark.parametrize("is_resumed", [False, True])
def test_a_callback_of_the_client_that_raises_ends_its_stream_and_no_other(
    server: RpcServer,
    listener: Listener,
    base: EventBase,
    pool: RpcPool,
    loop: Loop,
    caplog: pytest.LogCaptureFixture,
    is_resumed: bool,
) -> None:
    raised: list[BaseException] = []
    base.exception_handler = raised.append

    def fall(stream: ClientStream[Item, Item], item: Item, arg: object) -> None:
        if is_resumed and not item.number:
            stream.pause_messages()
            base.post(stream.resume_messages)
        else:
            raise LookupError(item.number)

    server.register_stream(Count, count)
    server.register_rpc(Add, handle_add)
    with caplog.at_level(logging.CRITICAL):
        listener.open(Count, request=Item(3), on_message=fall)
        status, _ = listener.finish()
    assert status.cause is not None
    assert isinstance(status.cause.__cause__, LookupError)
    assert len(raised) == 1
    assert Caller(pool, loop).call().reply == AddReply(3)


def test_a_caller_that_cancels_is_told_to_the_handler(
    server: RpcServer, loop: Loop, listener: Listener
) -> None:
    streams: list[ItemStream] = []
    gone: list[object] = []

    def begin(stream: ItemStream, arg: object) -> None:
        streams.append(stream)
        stream.on_cancel(lambda stream, arg: gone.append(arg), "gone")
        stream.send(Item(1))

    server.register_stream(Count, begin, options=MethodOptions(max_concurrent=1))
    stream = listener.open(Count, request=Item(1))
    loop.until(lambda: listener.numbers)
    stream.cancel()
    stream.cancel()
    loop.until(lambda: gone)
    assert streams[0].cancelled
    assert streams[0].finished
    assert streams[0].send(Item(2)) is False
    streams[0].end()
    with pytest.raises(StateError, match="is ended"):
        stream.send(Item(2))
    assert listener.ended == []
    listener.numbers.clear()
    listener.open(Count, request=Item(1))  # it counts no more
    loop.until(lambda: listener.numbers)


def test_a_caller_that_goes_while_it_sends_is_told_to_the_handler(
    server: RpcServer, loop: Loop, listener: Listener
) -> None:
    taken: list[Item] = []
    gone: list[object] = []

    def begin(stream: ItemStream, arg: object) -> None:
        stream.on_cancel(lambda stream, arg: gone.append(arg), "gone")
        stream.set_message_cbs(lambda stream, item, arg: taken.append(item))

    server.register_stream(Chat, begin)
    stream = listener.open(Chat)
    stream.send(Item(1))
    loop.until(lambda: taken)
    stream.cancel()
    loop.until(lambda: gone)
    assert gone == ["gone"]


def test_a_deadline_ends_a_stream_on_both_sides(
    server: RpcServer, loop: Loop, listener: Listener, base: EventBase
) -> None:
    deadlines: list[float | None] = []
    gone: list[float] = []

    def begin(stream: ItemStream, arg: object) -> None:
        deadlines.append(stream.deadline)
        stream.on_cancel(lambda stream, arg: gone.append(base.now))
        stream.send(Item(1))

    server.register_stream(Count, begin)
    listener.open(Count, request=Item(1), timeout_s=20.0)
    status, _ = listener.finish()
    assert status.error == EVRPC_STATUS_ERR_TIMEOUT
    assert isinstance(status.cause, CallTimeout)
    loop.until(lambda: gone)
    assert deadlines[0] == pytest.approx(gone[0], abs=0.1)


def test_a_stream_has_no_time_limit_of_the_pool(
    server: RpcServer, loop: Loop, listener: Listener, base: EventBase
) -> None:
    def begin(stream: ItemStream, arg: object) -> None:
        timer = base.timer(lambda fd, what, arg: stream.end())
        timer.add(40.0)
        keep.append(timer)

    keep: list[object] = []
    server.register_stream(Count, begin)
    listener.open(Count, request=Item(1))
    assert listener.finish()[0].error == EVRPC_STATUS_ERR_NONE


def test_a_stream_goes_to_another_server_where_one_cannot_be_had(
    server: RpcServer, base: EventBase, loop: Loop, port: int
) -> None:
    server.register_stream(Sum, add_up)
    dead = HttpServer(base)
    dead_port = dead.bind_socket("127.0.0.1", 0).port
    dead.close()
    with RpcPool(base) as pool:
        pool.add_endpoint("127.0.0.1", dead_port)
        pool.add_endpoint("127.0.0.1", port)
        listener = Listener(pool, loop)
        stream = listener.open(Sum)
        stream.send(Item(4))
        stream.send(Item(5))
        stream.end()
        assert listener.finish()[1] == Item(9)


@pytest.mark.http_alone
def test_a_stream_that_has_begun_is_not_sent_again(
    server: RpcServer, loop: Loop, listener: Listener
) -> None:
    seen: list[ItemStream] = []

    def drop(stream: ItemStream, arg: object) -> None:
        seen.append(stream)
        connection = stream.connection
        assert connection is not None
        connection.close()

    server.register_stream(Count, drop)
    listener.open(Count, request=Item(1))
    assert listener.finish()[0].error == EVRPC_STATUS_ERR_TIMEOUT
    assert len(seen) == 1


def test_input_hooks_of_the_server_may_refuse_a_stream(
    server: RpcServer, listener: Listener
) -> None:
    server.register_stream(Chat, echo)
    server.add_hook(EVRPC_INPUT, lambda stream, request, body, arg: EVRPC_TERMINATE)
    listener.open(Chat)
    cause = listener.cause()
    assert (cause.text, cause.code) == ("a hook has refused the request", RpcErrorCode.ABORTED)


def test_output_hooks_of_the_client_see_a_stream(server: RpcServer, listener: Listener) -> None:
    tokens: list[str | None] = []

    def begin(stream: ItemStream, arg: object) -> None:
        tokens.append(stream.metadata.find("Token"))
        stream.end()

    def sign(call: object, request: Any, body: object, arg: object) -> None:
        request.output_headers.add("Token", "t")

    server.register_stream(Count, begin)
    hook = listener.pool.add_hook(EVRPC_OUTPUT, sign)
    listener.open(Count, request=Item(1))
    assert listener.finish()[0].error == EVRPC_STATUS_ERR_NONE
    assert tokens == ["t"]
    listener.pool.remove_hook(hook)
    listener.ended.clear()
    listener.pool.add_hook(EVRPC_OUTPUT, lambda *args: EVRPC_TERMINATE)
    listener.open(Count, request=Item(1))
    assert listener.finish()[0].error == EVRPC_STATUS_ERR_UNSTARTED


@pytest.mark.http_alone
def test_calls_beyond_the_limit_of_a_method_are_refused(
    server: RpcServer, connect: Callable[[], HttpConnection], loop: Loop, listener: Listener
) -> None:
    server.register_stream(Chat, echo, options=MethodOptions(max_concurrent=1))
    listener.pool.add_connection(connect())
    first = listener.open(Chat)
    first.send(Item(1))
    loop.until(lambda: listener.numbers)
    second = Listener(listener.pool, loop)
    second.open(Chat)
    assert second.cause().code is RpcErrorCode.RESOURCE_EXHAUSTED
    first.end()
    assert listener.finish()[0].error == EVRPC_STATUS_ERR_NONE


@pytest.mark.parametrize("size", [49, 50])
def test_a_message_over_the_limit_of_the_server_fails_the_stream(
    server: RpcServer, listener: Listener, size: int
) -> None:
    server.register_stream(Sum, add_up, stream_options=StreamOptions(max_message_bytes=size))
    stream = listener.open(Sum)
    stream.send(Item(1, "x" * 34))  # is 50 bytes
    stream.end()
    status, _ = listener.finish()
    if size == 50:
        assert status.error == EVRPC_STATUS_ERR_NONE
    else:
        assert isinstance(status.cause, RemoteError)
        assert status.cause.code is RpcErrorCode.INVALID_ARGUMENT
        assert status.cause.text == "a message of 50 bytes; the limit is 49"


@pytest.mark.parametrize("size", [49, 50])
def test_a_message_over_the_limit_of_the_client_fails_the_stream(
    server: RpcServer, pool: RpcPool, loop: Loop, listener: Listener, size: int
) -> None:
    def begin(stream: ItemStream, arg: object) -> None:
        stream.send(Item(1, "x" * 34))
        stream.end()

    server.register_stream(Count, begin)
    server.register_rpc(Add, handle_add)
    listener.open(Count, request=Item(1), options=StreamOptions(max_message_bytes=size))
    if size == 50:
        assert listener.finish()[0].error == EVRPC_STATUS_ERR_NONE
        assert listener.numbers == [1]
        return
    cause = listener.cause()
    assert isinstance(cause, PayloadError)
    assert str(cause) == "a message of 50 bytes; the limit is 49"
    assert Caller(pool, loop).call().reply == AddReply(3)


@pytest.mark.http_alone
@pytest.mark.parametrize("extra", [0, 1])
def test_a_refusal_of_a_stream_is_read_up_to_its_limit(
    base: EventBase, loop: Loop, extra: int
) -> None:
    """Of one that is longer only the status counts; of a text that is not, so much is quoted."""
    refusal = json.dumps({"code": "ABORTED", "message": "x" * (MAX_QUOTED_CHARACTERS + 1)})
    body = refusal.encode()[:-1].ljust(MAX_FAILURE_BYTES - 1 + extra) + b"}"

    def refuse(request: ServerRequest, arg: object) -> None:
        request.output_headers.add("Content-Type", "application/json")
        request.send_reply(503, None, body)

    with HttpServer(base) as http_server, RpcPool(base) as pool:
        http_server.set_gencb(refuse)
        pool.add_endpoint("127.0.0.1", http_server.bind_socket("127.0.0.1", 0).port)
        listener = Listener(pool, loop)
        listener.open(Sum).end()
        cause = listener.cause()
    assert isinstance(cause, RemoteError)
    if extra:
        assert (cause.code, cause.text) == (RpcErrorCode.UNAVAILABLE, "")
    else:
        assert (cause.code, cause.text) == (RpcErrorCode.ABORTED, "x" * MAX_QUOTED_CHARACTERS)


class Raw:
    """Posts a body to a stream by hand, and returns how it was answered."""

    def __init__(self, peer: RawPeer) -> None:
        self.peer = peer

    def post(self, name: str, body: bytes, content_type: str = "application/json+stream") -> Any:
        head = (
            f"POST /.rpc.{name} HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self.peer.send(head.encode() + body)
        answer = self.peer.read()
        return answer.code, json.loads(answer.body)


@pytest.fixture
def raw(server: RpcServer, peer: RawPeer) -> Raw:
    server.register_stream(Sum, add_up)
    server.register_stream(Count, count)
    return Raw(peer)


GOOD = encode_message(b'{"number":1}', 100)


@pytest.mark.parametrize(
    ("name", "body", "text"),
    [
        ("Sum", b"", "the request has no body"),
        ("Sum", b"\0\0", "the stream breaks off within a frame"),
        ("Sum", GOOD, "the stream breaks off"),
        ("Sum", b"\1\0\0\0\0", "a frame has unknown flags: 1"),
        ("Sum", b"\0\xff\xff\xff\xff", "a message of 4294967295 bytes; the limit is 1048576"),
        ("Sum", encode_message(b'{"number":"x"}', 99) + encode_end(), "Item.number"),
        ("Sum", encode_message(b"{", 99) + encode_end(), "the payload is not JSON"),
        ("Sum", GOOD + encode_end() + GOOD, "there are bytes behind the end of the stream"),
        ("Sum", GOOD + encode_end(b"{}"), "the caller has ended the stream by a failure"),
        ("Count", encode_end(), "the stream has no request"),
        ("Count", GOOD + GOOD + encode_end(), "the stream has more than one request"),
    ],
)
def test_bytes_that_are_no_stream_are_answered_and_the_server_lives_on(
    raw: Raw, make_peer: Callable[[], RawPeer], name: str, body: bytes, text: str
) -> None:
    code, failure = raw.post(name, body)
    assert (code, failure["code"]) == (503, "INVALID_ARGUMENT")
    assert text in failure["message"]
    raw.peer = make_peer()
    code, failure = raw.post("Sum", b"x", "application/json")
    assert (code, failure["code"]) == (415, "UNIMPLEMENTED")


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/x+stream", "text/plain", "+stream"]
)
def test_another_content_type_is_refused(raw: Raw, content_type: str) -> None:
    code, failure = raw.post("Sum", GOOD + encode_end(), content_type)
    assert (code, failure["code"]) == (415, "UNIMPLEMENTED")


def test_a_get_of_a_stream_is_refused(server: RpcServer, peer: RawPeer) -> None:
    server.register_stream(Sum, add_up)
    assert peer.post("Sum", b"", method="GET").code == 503


@pytest.mark.http_alone
def test_a_server_that_is_none_is_named(
    http_server: HttpServer, server: RpcServer, listener: Listener
) -> None:
    http_server.set_cb(Count.path, lambda request, arg: request.send_reply(200, None, b"hello"))
    listener.open(Count, request=Item(1))
    cause = listener.cause()
    assert isinstance(cause, PayloadError)
    assert "not application/msgpack+stream" in str(cause)


@pytest.mark.http_alone
@pytest.mark.parametrize(
    ("rpc", "body", "text"),
    [
        (Count, b"", "the stream breaks off"),
        (Count, b"\0\0\0", "the stream breaks off within a frame"),
        (Count, b"\7\0\0\0\0", "unknown flags: 7"),
        (Count, encode_message(b"\xc1", 9), "msgpack|MessagePack"),
        (Count, encode_end() + b"x", "bytes behind the end"),
        (Sum, encode_end(), "ends without a reply"),
        (Sum, encode_message(b"\x81\xa6number\x01", 99) * 2, "more than one reply"),
    ],
)
def test_an_answer_that_is_no_stream_is_a_bad_payload(
    http_server: HttpServer, listener: Listener, rpc: Rpc[Item, Item], body: bytes, text: str
) -> None:
    def answer(request: Any, arg: object) -> None:
        request.output_headers.add("Content-Type", "application/msgpack+stream")
        request.send_reply(200, None, body)

    http_server.set_cb(rpc.path, answer)
    stream = listener.open(rpc, request=Item(1) if rpc is Count else None)
    if rpc is Sum:
        stream.end()
    status, reply = listener.finish()
    assert (status.error, reply) == (EVRPC_STATUS_ERR_BADPAYLOAD, None)
    assert isinstance(status.cause, PayloadError)
    assert any(word in str(status.cause) for word in text.split("|"))


def test_a_client_stream_has_exactly_one_reply(server: RpcServer, listener: Listener) -> None:
    texts: list[str] = []

    def begin(stream: ItemStream, arg: object) -> None:
        with pytest.raises(StateError) as caught:
            stream.end()
        texts.append(str(caught.value))
        stream.send(Item(1))
        with pytest.raises(StateError) as caught:
            stream.end(Item(2))
        texts.append(str(caught.value))
        stream.end()

    server.register_stream(Sum, begin)
    listener.open(Sum)
    assert listener.finish()[1] == Item(1)
    assert ["is to have a reply" in texts[0], "has its one reply" in texts[1]] == [True, True]


def test_a_message_that_is_ill_typed_raises_at_the_call_and_the_stream_goes_on(
    server: RpcServer, listener: Listener
) -> None:
    def begin(stream: ItemStream, arg: object) -> None:
        with pytest.raises(PayloadError, match=r"Item\.number"):
            stream.send(Item("x"))  # type: ignore[arg-type]
        stream.send(Item(1))
        stream.end()

    server.register_stream(Count, begin)
    listener.open(Count, request=Item(1))
    assert listener.finish()[0].error == EVRPC_STATUS_ERR_NONE
    stream = listener.open(Chat)
    with pytest.raises(PayloadError, match=r"Item\.number"):
        stream.send(Item("x"))  # type: ignore[arg-type]


def test_messages_are_taken_once_and_not_of_a_server_stream(
    server: RpcServer, listener: Listener, loop: Loop
) -> None:
    caught: list[str] = []

    def take(stream: ItemStream, arg: object) -> None:
        for _ in range(2):
            try:
                stream.set_message_cbs(lambda stream, item, arg: None)
            except StateError as exc:
                caught.append(str(exc))
        if stream.rpc is Count:
            stream.end()

    server.register_stream(Count, take)
    server.register_stream(Chat, take)
    listener.open(Count, request=Item(1))
    listener.finish()
    assert len(caught) == 2
    listener.open(Chat)
    loop.until(lambda: len(caught) == 3)


@pytest.mark.parametrize(
    ("rpc", "options"),
    [
        (Add, {}),
        (Count, {}),
        (Count, {"request": Item(1), "on_message": None}),
        (Chat, {"request": Item(1)}),
        (Sum, {"on_message": print}),
    ],
)
def test_what_does_not_fit_the_kind_of_stream_raises(
    listener: Listener, rpc: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(ArgumentError):
        listener.open(rpc, **options)


def test_a_stream_is_not_registered_or_called_as_a_call(server: RpcServer, pool: RpcPool) -> None:
    with pytest.raises(ArgumentError, match="register_stream is for streams"):
        server.register_rpc(Count, print)
    with pytest.raises(ArgumentError, match="register_rpc is for what is no stream"):
        server.register_stream(Add, print)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="opened, not called"):
        pool.make_request(Count, Item(1), print)
    with pytest.raises(ArgumentError, match="not repeated"):
        Rpc("X", Item, Item, kind=RpcKind.BOTH_WAYS, idempotent=True)
    with pytest.raises(ArgumentError, match="answered with Nothing"):
        Rpc("X", Item, Item, kind=RpcKind.ONE_WAY)


def test_a_one_way_call_is_answered_before_it_is_handled(
    server: RpcServer, pool: RpcPool, loop: Loop
) -> None:
    handled: list[int] = []
    outcomes: list[Any] = []

    def handle(call: Any, arg: object) -> None:
        assert call.answered
        handled.append(call.request.number)

    server.register_rpc(Log, handle)
    pool.make_request(Log, Item(5), lambda *outcome: outcomes.append(outcome))
    loop.until(lambda: outcomes)
    assert (handled, outcomes[0][2]) == ([5], Nothing())


class Numbers(Service):
    count = Rpc("Numbers.Count", Item, Item, kind=RpcKind.SERVER_STREAM)
    log = Rpc("Numbers.Log", Item, Nothing, kind=RpcKind.ONE_WAY)


def test_a_service_has_streams_among_its_methods(
    server: RpcServer, pool: RpcPool, loop: Loop, listener: Listener
) -> None:
    class Handlers:
        def count(self, stream: ItemStream, arg: object) -> None:
            count(stream, arg)

        def log(self, call: object, arg: object) -> None:
            pass

    server.register_service(Numbers, Handlers())
    Numbers(pool).count.open(listener.end, request=Item(3), on_message=listener.keep)
    assert listener.finish()[0].error == EVRPC_STATUS_ERR_NONE
    assert listener.numbers == [0, 1, 2]


@pytest.mark.parametrize("state", StreamState)
@pytest.mark.parametrize("step", StreamStep)
def test_nothing_leaves_the_end(state: StreamState, step: StreamStep) -> None:
    assert ((state, step) in NEXT) is (state is not StreamState.DONE)


def test_a_pool_that_closes_forgets_its_streams(
    server: RpcServer, base: EventBase, port: int, loop: Loop
) -> None:
    server.register_stream(Chat, echo)
    with RpcPool(base) as pool:
        pool.add_endpoint("127.0.0.1", port, max_connections=1)
        listener = Listener(pool, loop)
        streams = [listener.open(Chat) for _ in range(2)]
        streams[0].send(Item(1))
        loop.until(lambda: listener.numbers)
    assert [stream.finished for stream in streams] == [True, True]
    loop.settle()
    assert listener.ended == []


def run_in_every_way(listener: Listener, server: RpcServer) -> None:
    """Have streams that go well, fail on either side, are cancelled, and run out of time."""

    def chat(stream: ItemStream, arg: object) -> None:
        stream.on_cancel(lambda stream, arg: None)
        stream.set_drained_cb(lambda stream, arg: stream)
        echo(stream, arg)

    server.register_stream(Chat, chat)
    server.register_stream(Count, count)
    server.register_stream(Sum, lambda stream, arg: stream.fail("no"))

    def wait() -> None:
        listener.finish()
        listener.ended.clear()
        listener.numbers.clear()

    def begin(**options: Any) -> ClientStream[Item, Item]:
        stream = listener.open(Chat, **options)
        stream.set_drained_cb(lambda stream, arg: stream)
        stream.send(Item(1))
        listener.loop.until(lambda: listener.numbers)
        return stream

    begin().end()
    wait()
    listener.open(Count, request=Item(3))
    wait()
    listener.open(Sum)
    wait()
    begin(timeout_s=1.0)
    wait()
    begin().cancel()
    listener.numbers.clear()
    stream = begin(options=StreamOptions(max_message_bytes=40))
    with pytest.raises(PayloadError, match="the limit is 40"):
        stream.send(Item(1, "x" * 40))
    stream.cancel()
    listener.open(Chat)  # when the pool closes


def test_ended_streams_are_freed_without_the_cyclic_collector(
    base: EventBase, server: RpcServer, port: int, loop: Loop
) -> None:
    with freed_by_themselves(ClientStream, ServerStream):
        with RpcPool(base) as pool:
            pool.add_endpoint("127.0.0.1", port)
            run_in_every_way(Listener(pool, loop), server)
        loop.settle()


def test_a_hook_that_pauses_a_stream_is_resumed(
    server: RpcServer, listener: Listener, base: EventBase
) -> None:
    timers: list[object] = []

    def pause(stream: Any, request: object, body: object, arg: object) -> object:
        timer = base.timer(lambda fd, what, arg: stream.resume(EVRPC_CONTINUE))
        timer.add(0.5)
        timers.append(timer)
        return EVRPC_PAUSE

    server.register_stream(Chat, echo)
    server.add_hook(EVRPC_INPUT, pause)
    listener.pool.add_hook(EVRPC_OUTPUT, pause)
    listener.pool.add_hook(EVRPC_INPUT, pause)
    stream = listener.open(Chat)
    stream.send(Item(1))
    stream.end()
    assert listener.finish()[0].error == EVRPC_STATUS_ERR_NONE
    assert (listener.numbers, len(timers)) == ([1], 3)


@pytest.mark.http_alone
def test_a_page_of_a_proxy_is_no_stream(
    http_server: HttpServer, server: RpcServer, listener: Listener
) -> None:
    http_server.set_cb(Count.path, lambda request, arg: request.send_error(502))
    listener.open(Count, request=Item(1))
    cause = listener.cause()
    assert isinstance(cause, RemoteError)
    assert (cause.response_code, cause.code) == (502, RpcErrorCode.UNAVAILABLE)
    assert listener.numbers == []


def test_callbacks_of_the_drain_that_raise_end_the_stream(
    server: RpcServer, listener: Listener, base: EventBase, caplog: pytest.LogCaptureFixture
) -> None:
    raised: list[BaseException] = []
    base.exception_handler = raised.append

    def fall(stream: object, arg: object) -> None:
        raise LookupError("drained")

    def flood(stream: ItemStream, arg: object) -> None:
        stream.set_drained_cb(fall)
        while stream.send(Item(1, "x" * 10_000)):
            pass

    server.register_stream(Count, flood)
    server.register_stream(Sum, add_up)
    with caplog.at_level(logging.CRITICAL):
        listener.open(Count, request=Item(1))
        assert listener.cause().code is RpcErrorCode.INTERNAL
        listener.ended.clear()
        stream = listener.open(Sum)
        stream.set_drained_cb(fall)
        while stream.send(Item(1, "x" * 10_000)):
            pass
        assert isinstance(listener.cause().__cause__, LookupError)
    assert [str(each) for each in raised] == ["drained"] * 2


def keep_silent(base: EventBase, seconds: float) -> Callable[[ItemStream, object], None]:
    """Return a handler that sends, is silent, and ends."""

    def begin(stream: ItemStream, arg: object) -> None:
        stream.send(Item(1))
        timer = base.timer(lambda fd, what, arg: stream.finished or stream.end())
        timer.add(seconds)
        stream.on_cancel(lambda stream, arg: timer.close())

    return begin


def test_a_server_may_be_silent_for_hours(
    server: RpcServer, listener: Listener, base: EventBase
) -> None:
    server.register_stream(Count, keep_silent(base, 3000.0))
    listener.open(Count, request=Item(1))
    assert listener.finish()[0].error == EVRPC_STATUS_ERR_NONE
    for connection in listener.pool.connections:
        assert connection.options.read_s == ClientOptions().read_s


@pytest.mark.parametrize("silence_s", [19.0, 21.0])
def test_a_server_is_silent_for_no_longer_than_the_stream_lets_it(
    server: RpcServer, listener: Listener, base: EventBase, silence_s: float
) -> None:
    server.register_stream(Count, keep_silent(base, silence_s))
    listener.open(Count, request=Item(1), options=StreamOptions(max_silence_s=20.0))
    ended = listener.finish()[0].error
    assert ended == (EVRPC_STATUS_ERR_NONE if silence_s < 20 else EVRPC_STATUS_ERR_TIMEOUT)
    for connection in listener.pool.connections:
        assert connection.options.read_s == ClientOptions().read_s


@pytest.mark.http_alone
def test_a_limit_of_silence_that_the_program_chose_for_a_connection_counts(
    server: RpcServer, listener: Listener, base: EventBase
) -> None:
    (connection,) = listener.pool.connections
    connection.set_timeout(10.0)
    server.register_stream(Count, keep_silent(base, 11.0))
    listener.open(Count, request=Item(1))
    assert listener.finish()[0].error == EVRPC_STATUS_ERR_TIMEOUT


def test_the_bytes_on_the_wire_are_those_of_the_page(
    server: RpcServer, connect: Callable[[], HttpConnection], loop: Loop
) -> None:
    def begin(stream: ItemStream, arg: object) -> None:
        stream.send(Item(7, "a"))
        stream.fail("no more", RpcErrorCode.OUT_OF_RANGE)

    server.register_stream(Count, begin)
    request = HttpRequest()
    request.output_headers.add("Content-Type", "application/json+stream; charset=utf-8")
    request.output_buffer.add(b'\0\0\0\0\x0c{"number":1}' + b"\2\0\0\0\0")
    connect().make_request(request, "POST", "/.rpc.Count")
    loop.until(lambda: request.connection is None)
    assert request.response_code == 200
    assert request.input_headers.find("Content-Type") == "application/json+stream"
    failure = b'{"code": "OUT_OF_RANGE", "message": "no more"}\n'
    message = b'{"number":7,"text":"a"}'
    assert bytes(request.input_buffer) == (
        b"\0\0\0\0"
        + bytes([len(message)])
        + message
        + b"\2\0\0\0"
        + bytes([len(failure)])
        + failure
    )
