"""`evsvc rpc call` and `describe` against a server; descriptions and health as others see them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Annotated, Literal

import pytest

from evsvc.core import EVLOOP_ONCE, ArgumentError, EventBase
from evsvc.http import HttpServer
from evsvc.rpc import (
    U32,
    CallFailed,
    FixedLength,
    Health,
    HealthReply,
    HealthRequest,
    MsgpackCodec,
    Rpc,
    RpcErrorCode,
    RpcKind,
    RpcPool,
    RpcServer,
    ServerCall,
    ServerStream,
    Serving,
)


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


@dataclass
class Part:
    data: Annotated[bytes, FixedLength(2)]
    parts: list[Part] = field(default_factory=list)


@dataclass
class Other:
    x: float


@dataclass
class Ask:
    name: str
    count: Annotated[int, U32]
    at: datetime
    part: Part | Other
    mood: Mood | None = None
    word: Literal["a", 1] = "a"
    pair: tuple[int, bool] = (0, False)
    row: tuple[bytes, ...] = ()
    table: dict[str, None] = field(default_factory=dict)


@dataclass
class Told:
    text: str
    at: datetime


Tell = Rpc("Tell", Ask, Told, idempotent=True)


def tell(call: ServerCall[Ask, Told], arg: object) -> None:
    if call.request.count == 9:
        raise CallFailed("too many", RpcErrorCode.OUT_OF_RANGE, {"most": 8})
    call.done(Told(call.request.name * call.request.count, call.request.at))


class Served:
    """A server on a base of its own, and commands that are run against it."""

    def __init__(self, base: EventBase, http: HttpServer, rpc: RpcServer) -> None:
        self.base = base
        self.http = http
        self.rpc = rpc
        self.url = f"http://127.0.0.1:{http.bind_socket('127.0.0.1', 0).port}"

    def run(self, *args: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "evsvc", "rpc", *args]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            tick = self.base.timer(lambda *args: tick.add(0.01))
            tick.add(0.01)
            while process.poll() is None:
                self.base.loop(EVLOOP_ONCE)
            tick.close()
            out, err = process.communicate()
        return process.returncode, out, err


@pytest.fixture
def served() -> Iterator[Served]:
    with EventBase() as base, HttpServer(base) as http, RpcServer(http) as rpc:
        rpc.register_rpc(Tell, tell)
        yield Served(base, http, rpc)


REQUEST = {
    "name": "ab",
    "count": 2,
    "at": "2026-11-28T12:00:00Z",
    "part": {"Other": {"x": 1.5}},
}


def test_a_call_needs_no_definition(served: Served) -> None:
    code, out, err = served.run("call", served.url, "Tell", json.dumps(REQUEST))
    assert (code, json.loads(out), err) == (
        0,
        {"text": "abab", "at": "2026-11-28T12:00:00Z"},
        "",
    )


def test_a_call_that_fails_says_why(served: Served) -> None:
    for request, said in (
        (REQUEST | {"count": 9}, 'evsvc: OUT_OF_RANGE: too many\n{"most": 8}\n'),
        (REQUEST | {"count": -1}, "evsvc: INVALID_ARGUMENT: Ask.count: -1 is not from 0 to 42"),
    ):
        code, out, err = served.run("call", served.url, "Tell", json.dumps(request))
        assert (code, out) == (1, "")
        assert err.startswith(said)
    code, _, err = served.run("call", served.url, "Nothing", "{}")
    assert (code, err) == (1, "evsvc: UNKNOWN: the server has no RPC Nothing (Not Found)\n")
    code, _, err = served.run("call", served.url, "Tell", "{")
    assert code == 1
    assert err.startswith("evsvc: not JSON: '{'")


def test_a_description_is_printed_for_people_and_for_programs(served: Served) -> None:
    code, _, err = served.run("describe", served.url)
    assert code == 1
    assert "no description at /.rpc: 404" in err
    served.rpc.serve_description()
    code, out, err = served.run("describe", served.url)
    assert (code, err) == (0, "")
    assert out == (
        "Tell(Ask) -> Told  (idempotent)\n"
        "\n"
        "Ask\n"
        "    name: str\n"
        "    count: int[0..4294967295]\n"
        "    at: datetime\n"
        "    part: Part | Other\n"
        "    mood: Literal['good', 'bad'] | None  (optional)\n"
        "    word: Literal['a', 1]  (optional)\n"
        "    pair: tuple[int, bool]  (optional)\n"
        "    row: tuple[bytes, ...]  (optional)\n"
        "    table: dict[str, None]  (optional)\n"
        "\n"
        "Part\n"
        "    data: bytes[2]\n"
        "    parts: list[Part]  (optional)\n"
        "\n"
        "Other\n"
        "    x: float\n"
        "\n"
        "Told\n"
        "    text: str\n"
        "    at: datetime\n"
    )
    code, out, _ = served.run("describe", "--json", served.url)
    description = json.loads(out)
    assert description["methods"]["Tell"]["path"] == "/.rpc.Tell"
    assert description["content_types"][:2] == ["application/msgpack", "application/json"]


def test_what_is_no_description_is_said(served: Served) -> None:
    served.http.set_cb("/x", lambda request, arg: request.send_reply(200, None, b'{"methods": 1}'))
    code, _, err = served.run("describe", served.url + "/x")
    assert code == 1
    assert "/x is no description of RPCs" in err


def test_health_is_asked_by_call_and_by_get(served: Served) -> None:
    board = served.rpc.serve_health()
    board.set("db", False)
    answers: list[object] = []
    with RpcPool(served.base, timeout=10.0, codec=MsgpackCodec()) as pool:
        pool.add_endpoint("127.0.0.1", served.http.bound_sockets[0].port)
        for service in ("", "db", "nobody"):
            pool.make_request(
                Health,
                HealthRequest(service),
                lambda status, request, reply, arg: answers.append(reply or str(status.message)),
            )
        while len(answers) < 3:
            served.base.loop(EVLOOP_ONCE)
    assert HealthReply(Serving.SERVING) in answers
    assert HealthReply(Serving.NOT_SERVING) in answers
    assert "the server answered 503: there is no service 'nobody'" in answers
    fetch = [sys.executable, "-m", "evsvc", "fetch", "-i", served.url + "/.rpc/health"]
    for is_serving, line in ((True, "HTTP/1.1 200"), (False, "HTTP/1.1 503")):
        board.set("", is_serving)
        with subprocess.Popen(fetch, stdout=subprocess.PIPE, text=True) as process:
            tick = served.base.timer(lambda *args: tick.add(0.01))  # noqa: B023
            tick.add(0.01)
            while process.poll() is None:
                served.base.loop(EVLOOP_ONCE)
            tick.close()
            out, _ = process.communicate()
        assert out.startswith(line)


def test_what_is_served_beside_calls_goes_with_the_server(served: Served) -> None:
    served.rpc.serve_description()
    served.rpc.serve_health()
    with pytest.raises(ArgumentError):
        served.rpc.serve_description()
    served.rpc.close()
    served.rpc.serve_description()
    served.rpc.serve_health()


@dataclass
class Number:
    value: int


Count = Rpc("Count", Number, Number, kind=RpcKind.SERVER_STREAM)
Add = Rpc("Add", Number, Number, kind=RpcKind.CLIENT_STREAM)


def count(stream: ServerStream[Number, Number], arg: object) -> None:
    for value in range(stream.request.value):
        stream.send(Number(value))
    if stream.request.value == 9:
        stream.fail("too many", RpcErrorCode.OUT_OF_RANGE)
    else:
        stream.end()


def test_a_call_prints_what_a_server_streams(served: Served) -> None:
    served.rpc.register_stream(Count, count)
    name = "tests.rpc.test_commands:Count"
    assert served.run("call", served.url, name, '{"value": 2}') == (
        0,
        '{"value": 0}\n{"value": 1}\n',
        "",
    )
    code, out, err = served.run("call", served.url, name, '{"value": 9}')
    assert (code, out.count("\n")) == (1, 9)
    assert "too many" in err


def test_a_call_of_another_stream_is_refused(served: Served) -> None:
    code, out, err = served.run("call", served.url, "tests.rpc.test_commands:Add", '{"value": 2}')
    assert (code, out) == (1, "")
    assert "is a client-stream" in err


def test_a_description_tells_the_kind_of_a_stream(served: Served) -> None:
    served.rpc.register_stream(Count, count)
    served.rpc.serve_description("/kinds")
    code, out, err = served.run("describe", f"{served.url}/kinds")
    assert (code, err) == (0, "")
    assert "Count(Number) -> Number  (server-stream)\n" in out
