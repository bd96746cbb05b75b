"""libevent's own evrpc in C, on either side: the same messages, byte for byte."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evsvc.core import EVLOOP_NONBLOCK, EVLOOP_ONCE, EventBase
from evsvc.http import HttpConnection, HttpServer
from evsvc.rpc import (
    EVRPC_STATUS_ERR_NONE,
    EvtagCodec,
    Rpc,
    RpcPool,
    RpcServer,
    RpcStatus,
    ServerCall,
    idl,
)
from evsvc.rpc.schema import message_shape

pytestmark = pytest.mark.interop

SOURCE = Path(__file__).with_name("evrpc_peer.c")
CLASSES: dict[str, Any] = idl.load(SOURCE.parent.parent / "rpc" / "sample.rpc")
Msg, Kill, Run = CLASSES["msg"], CLASSES["kill"], CLASSES["run"]
Message = Rpc("Message", Msg, Kill)
CODEC = EvtagCodec(refuse_unknown=True)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]) -> Path:
    target = tmp_path_factory.mktemp("evrpc") / "evrpc_peer"
    command = [program("cc"), "-Wall", "-O1", "-o", str(target), str(SOURCE), "-levent"]
    subprocess.run(command, check=True)
    return target


def sample(runs: int) -> Any:
    """The message that evrpc_peer.c makes."""
    msg = Msg(from_name="niels", to_name="phoenix")
    msg.attack = Kill(weapon="feather", action="tickle", how_often=[0, 1000, 2000])
    for i in range(runs):
        run = Run(how="very fast", fixed_bytes=bytes([ord("a") + i % 26]) * 24)
        if i % 2:
            run.some_bytes = b"some\x01bytes"
            run.large_number = 0xDEAD0A0BCAFEBEEF
            run.notes = ["a note", ""]
        run.other_numbers = [i, 0xFFFFFFFF]
        msg.run.append(run)
    return msg


def test_the_bytes_are_those_of_c(peer: Path) -> None:
    done = subprocess.run([peer, "vectors"], capture_output=True, text=True, check=True)
    vectors = dict(line.split() for line in done.stdout.splitlines())
    shape = message_shape(Msg)
    bare = Msg(from_name="niels", to_name="phoenix")
    for name, message in (("three", sample(3)), ("bare", bare)):
        assert CODEC.encode(shape, message).hex() == vectors[name]
        assert CODEC.decode(shape, bytes.fromhex(vectors[name])) == message


def test_a_client_in_c_calls_our_server(peer: Path) -> None:
    """A thousand nested structures, with fixed bytes, 64-bit integers and arrays of text."""

    def answer(call: ServerCall[Any, Any], arg: object) -> None:
        assert call.request == sample(1000)
        numbers = [number for run in call.request.run for number in run.other_numbers]
        call.done(Kill(weapon=call.request.from_name, action="done", how_often=numbers[:4]))

    with EventBase() as base, HttpServer(base) as http, RpcServer(http, codec=CODEC) as server:
        server.register_rpc(Message, answer)
        port = http.bind_socket("127.0.0.1", 0).port
        client = subprocess.Popen(
            [peer, "call", str(port)], stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        assert client.stdout is not None
        while client.poll() is None:
            base.loop(EVLOOP_NONBLOCK)
        with client.stdout as output:
            text = output.read()
        assert text == "0 niels done 0 4294967295 1 4294967295\n"
        assert client.returncode == 0


def test_our_client_calls_a_server_in_c(peer: Path) -> None:
    server = subprocess.Popen([peer, "serve"], stdout=subprocess.PIPE, text=True, encoding="utf-8")
    assert server.stdout is not None
    results: list[tuple[RpcStatus, Any]] = []
    try:
        port = int(server.stdout.readline())
        with EventBase() as base, RpcPool(base, timeout=30.0, codec=CODEC) as pool:
            pool.add_connection(HttpConnection(base, None, "127.0.0.1", port))
            for message in (sample(3), Msg(from_name="a", to_name="b"), sample(500)):
                pool.make_request(
                    Message,
                    message,
                    lambda status, request, reply, arg: results.append((status, reply)),
                )
            while len(results) < 3:
                base.loop(EVLOOP_ONCE)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    assert [status.error for status, _ in results] == [EVRPC_STATUS_ERR_NONE] * 3
    numbers = [number for i in range(500) for number in (i, 0xFFFFFFFF)]
    assert [reply for _, reply in results] == [
        Kill(weapon="niels", action="tickle", how_often=numbers[:6]),
        Kill(weapon="a", action="none"),
        Kill(weapon="niels", action="tickle", how_often=numbers),
    ]
