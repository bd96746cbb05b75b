"""Define an RPC once; have its server and its client, here in one process on one base."""

from dataclasses import dataclass, field

from evsvc import (
    EventBase,
    HttpConnection,
    HttpServer,
    Rpc,
    RpcPool,
    RpcServer,
)


@dataclass
class SumRequest:
    """Numbers to add."""

    numbers: list[float] = field(default_factory=list)


@dataclass
class SumReply:
    """Their sum, and how many they were."""

    total: float
    count: int


Sum = Rpc("Sum", SumRequest, SumReply)


def handle_sum(call, arg):
    """Answer a call; `call.request` is a SumRequest that has been checked."""
    numbers = call.request.numbers
    call.done(SumReply(total=sum(numbers), count=len(numbers)))


def on_reply(status, request, reply, arg):
    """Print the outcome; the last one ends the program."""
    print(status.message if status.error else f"{request.numbers} -> {reply}", flush=True)
    if arg == "last":
        pool.close()
        connection.close()
        server.close()


base = EventBase()
server = HttpServer(base)
RpcServer(server).register_rpc(Sum, handle_sum)
port = server.bind_socket("127.0.0.1", 0).port

connection = HttpConnection(base, None, "127.0.0.1", port)
pool = RpcPool(base, timeout=5.0)
pool.add_connection(connection)
pool.make_request(Sum, SumRequest([1, 2, 3.5]), on_reply)
pool.make_request(Sum, SumRequest(), on_reply, "last")
base.dispatch()
base.close()
