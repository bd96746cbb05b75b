"""The law of what carries calls: whatever a program does, it gets the same over HTTP and over a
WebSocket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evsvc.core import EventBase, FakeClock
from evsvc.http import HttpServer
from evsvc.rpc import (
    CallFailed,
    ClientStream,
    RemoteError,
    Rpc,
    RpcErrorCode,
    RpcKind,
    RpcPool,
    RpcServer,
    RpcStatus,
    ServerCall,
    ServerStream,
    StreamOptions,
    websocket,
)
from tests.rpc.conftest import CARRIERS, Loop


@dataclass
class Task:
    """What a handler is to do: send so many messages of a length, and end so."""

    messages: int
    size: int
    end: str


@dataclass
class Piece:
    text: str


Ask = Rpc("Ask", Task, Piece)
Give = Rpc("Give", Task, Piece, kind=RpcKind.SERVER_STREAM)
Take = Rpc("Take", Piece, Piece, kind=RpcKind.CLIENT_STREAM)
Swap = Rpc("Swap", Piece, Piece, kind=RpcKind.BOTH_WAYS)

LIMITS = StreamOptions(max_backlog_bytes=20_000, max_message_bytes=100_000)


def end_so(end: str) -> None:
    if end == "fail":
        raise CallFailed("as you wish", RpcErrorCode.OUT_OF_RANGE, {"a": 1})
    if end == "raise":
        raise LookupError("mine")


def answer(call: ServerCall[Task, Piece], arg: object) -> None:
    end_so(call.request.end)
    call.done(Piece("x" * call.request.size))


def give(stream: ServerStream[Task, Piece], arg: object) -> None:
    task = stream.request
    sent = [0]

    def go_on(stream: ServerStream[Task, Piece], arg: object) -> None:
        while sent[0] < task.messages:
            if not stream.send(Piece("x" * task.size)):
                return
            sent[0] += 1
        end_so(task.end)
        stream.end()

    stream.set_drained_cb(go_on)
    go_on(stream, None)


def take(stream: ServerStream[Piece, Piece], arg: object) -> None:
    taken: list[str] = []

    def on_message(stream: ServerStream[Piece, Piece], piece: Piece, arg: object) -> None:
        taken.append(piece.text)
        end_so(piece.text[:5].rstrip("x"))

    stream.set_message_cbs(on_message, lambda stream, arg: stream.end(Piece("".join(taken))))


def swap(stream: ServerStream[Piece, Piece], arg: object) -> None:
    waiting: list[Piece] = []

    def on_message(stream: ServerStream[Piece, Piece], piece: Piece, arg: object) -> None:
        if not stream.send(piece):
            waiting.append(piece)
            stream.pause_messages()

    def on_drained(stream: ServerStream[Piece, Piece], arg: object) -> None:
        while waiting and stream.send(waiting[0]):
            waiting.pop(0)
        if not waiting:
            stream.resume_messages()

    stream.set_drained_cb(on_drained)
    stream.set_message_cbs(on_message, lambda stream, arg: stream.end())


class Program:
    """Does all its tasks at once, and keeps what each gets."""

    def __init__(self, pool: RpcPool, tasks: list[tuple[Rpc[Any, Any], Task]]) -> None:
        self.got: list[Any] = [None] * len(tasks)
        for number, (rpc, task) in enumerate(tasks):
            if rpc is Ask:
                pool.make_request(Ask, task, self._keep, (number, []))
            else:
                self._open(pool, rpc, task, number)

    def _open(self, pool: RpcPool, rpc: Rpc[Any, Any], task: Task, number: int) -> None:
        sizes: list[int] = []

        def on_message(stream: Any, piece: Piece, arg: object) -> None:
            sizes.append(len(piece.text))
            if len(sizes) % 3 == 0:
                stream.pause_messages()
                pool.base.post(stream.resume_messages)

        stream = pool.open_stream(
            rpc,
            self._keep,
            (number, sizes),
            request=task if rpc is Give else None,
            on_message=None if rpc is Take else on_message,
            options=LIMITS,
        )
        if rpc is Give:
            return
        left = [task.end.ljust(task.size, "x")] * task.messages

        def go_on(stream: ClientStream[Piece, Piece], arg: object) -> None:
            while left:
                if not stream.send(Piece(left[-1])):
                    return
                left.pop()
            stream.end()

        stream.set_drained_cb(go_on)
        go_on(stream, None)

    def _keep(self, status: RpcStatus, request: object, reply: Piece | None, arg: Any) -> None:
        number, sizes = arg
        cause = status.cause
        told: object = type(cause)
        if isinstance(cause, RemoteError):
            told = (cause.text, cause.code, cause.details)
        content_type = None if status.metadata is None else status.metadata.find("Content-Type")
        code = None if status.http_request is None else status.http_request.response_code
        length = None if reply is None else len(reply.text)
        self.got[number] = (status.error, told, code, content_type, length, tuple(sizes))


def run(carrier: str, tasks: list[tuple[Rpc[Any, Any], Task]]) -> list[Any]:
    """Return what a program of these tasks gets, call by call."""
    with EventBase(clock=FakeClock()) as base, HttpServer(base) as http_server:
        base.exception_handler = lambda exc: None
        with RpcServer(http_server) as server, RpcPool(base, timeout=500.0) as pool:
            server.register_rpc(Ask, answer)
            for rpc, handler in ((Give, give), (Take, take), (Swap, swap)):
                server.register_stream(rpc, handler, stream_options=LIMITS)
            port = http_server.bind_socket("127.0.0.1", 0).port
            if carrier == "http":
                pool.add_endpoint("127.0.0.1", port)
            else:
                websocket.serve(server)
                url = f"ws://127.0.0.1:{port}{websocket.WEBSOCKET_PATH}"
                websocket.add_endpoint(pool, url)
            program = Program(pool, tasks)
            Loop(base).until(lambda: all(program.got))
            return program.got


tasks = st.builds(
    Task,
    st.integers(0, 12),
    st.one_of(st.integers(0, 200), st.integers(9_000, 99_000)),
    st.sampled_from(["", "", "fail", "raise"]),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from([Ask, Give, Take, Swap]), tasks), min_size=1, max_size=6))
def test_a_program_gets_the_same_by_whatever_way_its_calls_go(
    tasks: list[tuple[Rpc[Any, Any], Task]],
) -> None:
    over_http, over_websocket = (run(carrier, tasks) for carrier in CARRIERS)
    assert over_http == over_websocket
