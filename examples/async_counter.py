"""Streams of calls as coroutines: a counter, and a sum that is streamed to, either side a loop."""

from dataclasses import dataclass

from evsvc import EventBase, HttpServer, Rpc, RpcPool, RpcServer
from evsvc.aio import handler, messages, open_stream, run
from evsvc.rpc import RpcKind


@dataclass
class Number:
    """One number."""

    value: int


Count = Rpc("Count", Number, Number, kind=RpcKind.SERVER_STREAM)
Add = Rpc("Add", Number, Number, kind=RpcKind.CLIENT_STREAM)


async def on_count(stream, arg):
    """Send the numbers up to the one that was asked for, as fast as the caller takes them."""
    out = messages(stream)
    for value in range(1, stream.request.value + 1):
        await out.send(Number(value))


async def on_add(stream, arg):
    """Answer with the sum, when the caller has no more."""
    return Number(sum([number.value async for number in messages(stream)]))


async def main():
    """Count, and send each number back to be added."""
    with HttpServer(base) as server, RpcPool(base) as pool:
        rpc = RpcServer(server)
        rpc.register_stream(Count, handler(on_count))
        rpc.register_stream(Add, handler(on_add))
        pool.add_endpoint("127.0.0.1", server.bind_socket("127.0.0.1", 0).port)
        async with open_stream(pool, Add) as adding, open_stream(pool, Count, Number(5)) as counter:
            async for number in counter:
                print(number.value)
                await adding.send(number)
            adding.end()
            print("sum:", (await adding.result()).value)


with EventBase() as base:
    run(main(), base=base)
