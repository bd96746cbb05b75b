"""One RPC on evsvc, grpc.aio, rpyc or zerorpc, as server and as client.

Usage: rpc_peers.py PEER serve
       rpc_peers.py PEER call PORT IN_FLIGHT SECONDS
The server binds 127.0.0.1 on any free port, prints it on one line, and serves until it is killed.
The client makes calls for so long, IN_FLIGHT at once, and prints how many, the seconds, those of
the processor, and the 99th percentile of their times in microseconds.  "evsvc pipelined" makes all
on one connection, "evsvc" each on one of its own.  The request has an id, a name and ten numbers;
the reply their sum, and the name.  grpc's messages are packed by msgpack, its own way of the same.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import Any

NAME = "a name of some length"
VALUES = list(range(10))
TOTAL = sum(VALUES)


class Clock:
    """How long calls took, until the time is over."""

    def __init__(self, seconds: float) -> None:
        self.used = time.process_time()
        self.begun = time.perf_counter()
        self.end = self.begun + seconds
        self.times: list[float] = []

    def took(self, begun: float) -> bool:
        """Note a call that began then; whether there is time for another."""
        now = time.perf_counter()
        self.times.append(now - begun)
        return now < self.end

    def report(self) -> None:
        seconds = time.perf_counter() - self.begun
        used = time.process_time() - self.used
        times = sorted(self.times)
        p99_us = times[int(len(times) * 0.99)] * 1e6
        print(len(times), f"{seconds:.6f} {used:.6f} {p99_us:.1f}")


@dataclass
class AddRequest:
    id: int
    name: str
    values: list[int]


@dataclass
class AddReply:
    total: int
    name: str


def serve_evsvc() -> None:
    from evsvc import EventBase, HttpServer
    from evsvc.rpc import Rpc, RpcServer, ServerCall

    add = Rpc("Add", AddRequest, AddReply)

    def answer(call: ServerCall[AddRequest, AddReply], arg: object) -> None:
        call.done(AddReply(sum(call.request.values), call.request.name))

    base = EventBase()
    http = HttpServer(base)
    RpcServer(http).register_rpc(add, answer)
    print(http.bind_socket("127.0.0.1", 0).port, flush=True)
    base.dispatch()


def call_evsvc_pipelined(port: int, in_flight: int, seconds: float) -> None:
    call_evsvc(port, in_flight, seconds, connections=1)


def call_evsvc(
    port: int, in_flight: int, seconds: float, *, connections: int | None = None
) -> None:
    from evsvc import EventBase
    from evsvc.rpc import Rpc, RpcPool, RpcStatus

    add = Rpc("Add", AddRequest, AddReply)
    base = EventBase()
    connections = connections or in_flight
    pool = RpcPool(base, timeout=30.0, max_pipelined_calls=in_flight // connections)
    pool.add_endpoint("127.0.0.1", port, max_connections=connections)
    clock = Clock(seconds)

    def start() -> None:
        pool.make_request(add, AddRequest(0, NAME, VALUES), done, time.perf_counter())

    def done(status: RpcStatus, request: AddRequest, reply: AddReply | None, begun: float) -> None:
        assert reply is not None, status.message
        assert reply.total == TOTAL
        if clock.took(begun):
            start()
        else:
            base.loopbreak()

    for _ in range(in_flight):
        start()
    base.dispatch()
    clock.report()


def serve_grpc() -> None:
    import grpc
    import grpc.aio
    import msgpack

    async def answer(request: dict[str, Any], context: Any) -> dict[str, Any]:
        return {"total": sum(request["values"]), "name": request["name"]}

    async def serve() -> None:
        server = grpc.aio.server()
        method = grpc.unary_unary_rpc_method_handler(
            answer, request_deserializer=msgpack.unpackb, response_serializer=msgpack.packb
        )
        handler = grpc.method_handlers_generic_handler("bench", {"Add": method})
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        await server.wait_for_termination()

    asyncio.run(serve())


def call_grpc(port: int, in_flight: int, seconds: float) -> None:
    import grpc.aio
    import msgpack

    async def load() -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            add = channel.unary_unary(
                "/bench/Add",
                request_serializer=msgpack.packb,
                response_deserializer=msgpack.unpackb,
            )
            clock = Clock(seconds)

            async def calls() -> None:
                more = True
                while more:
                    begun = time.perf_counter()
                    reply = await add({"id": 0, "name": NAME, "values": VALUES})
                    assert reply["total"] == TOTAL
                    more = clock.took(begun)

            await asyncio.gather(*(calls() for _ in range(in_flight)))
            clock.report()

    asyncio.run(load())


def serve_rpyc() -> None:
    import rpyc
    from rpyc.utils.server import ThreadedServer

    class Adding(rpyc.Service):
        def exposed_add(self, id: int, name: str, values: tuple[int, ...]) -> tuple[int, str]:  # noqa: A002
            return sum(values), name

    server = ThreadedServer(Adding, hostname="127.0.0.1", port=0)
    print(server.port, flush=True)
    server.start()


def call_rpyc(port: int, in_flight: int, seconds: float) -> None:
    import rpyc

    connection = rpyc.connect("127.0.0.1", port)
    add = rpyc.async_(connection.root.add)
    clock = Clock(seconds)
    values = tuple(VALUES)
    more = True
    waiting = [(time.perf_counter(), add(0, NAME, values)) for _ in range(in_flight)]
    while more:
        begun, result = waiting.pop(0)
        result.wait()
        assert result.value[0] == TOTAL
        more = clock.took(begun)
        waiting.append((time.perf_counter(), add(0, NAME, values)))
    clock.report()


def serve_zerorpc() -> None:
    import zerorpc

    class Adding:
        def add(self, id: int, name: str, values: list[int]) -> dict[str, Any]:  # noqa: A002
            return {"total": sum(values), "name": name}

    server = zerorpc.Server(Adding())
    server.bind("tcp://127.0.0.1:0")
    endpoint = server._events._socket.getsockopt(32)  # ZMQ_LAST_ENDPOINT
    print(int(endpoint.decode().rstrip("\0").rpartition(":")[2]), flush=True)
    server.run()


def call_zerorpc(port: int, in_flight: int, seconds: float) -> None:
    import gevent
    import zerorpc

    client = zerorpc.Client(heartbeat=None, timeout=30)
    client.connect(f"tcp://127.0.0.1:{port}")
    clock = Clock(seconds)

    def calls() -> None:
        more = True
        while more:
            begun = time.perf_counter()
            assert client.add(0, NAME, VALUES)["total"] == TOTAL
            more = clock.took(begun)

    gevent.joinall([gevent.spawn(calls) for _ in range(in_flight)], raise_error=True)
    clock.report()


SERVE = {
    "evsvc": serve_evsvc,
    "evsvc pipelined": serve_evsvc,
    "grpc.aio": serve_grpc,
    "rpyc": serve_rpyc,
    "zerorpc": serve_zerorpc,
}
CALL = {
    "evsvc": call_evsvc,
    "evsvc pipelined": call_evsvc_pipelined,
    "grpc.aio": call_grpc,
    "rpyc": call_rpyc,
    "zerorpc": call_zerorpc,
}


def main() -> None:
    peer, what, *numbers = sys.argv[1:]
    if what == "serve":
        SERVE[peer]()
    else:
        port, in_flight, seconds = numbers
        CALL[peer](int(port), int(in_flight), float(seconds))


if __name__ == "__main__":
    main()
