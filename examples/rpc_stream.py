"""A counter that streams, and a sum that is streamed to: messages as they come, either way."""

from dataclasses import dataclass

from evsvc import EventBase, HttpServer, Rpc, RpcPool, RpcServer
from evsvc.rpc import RpcKind, Service


@dataclass
class Number:
    """One number."""

    value: int


class Counter(Service):
    """A counter, and its opposite."""

    count = Rpc("Counter.Count", Number, Number, kind=RpcKind.SERVER_STREAM)
    add = Rpc("Counter.Add", Number, Number, kind=RpcKind.CLIENT_STREAM)


class Counting:
    """Serves the counter."""

    def count(self, stream, arg):
        """Send the numbers up to the one that was asked for, as fast as the caller takes them."""
        sent = 0

        def go_on(stream, arg):
            nonlocal sent
            while sent < stream.request.value:
                if not stream.send(Number(sent + 1)):
                    return  # it was not taken: until there is room again
                sent += 1
            stream.end()

        stream.set_drained_cb(go_on)
        go_on(stream, None)

    def add(self, stream, arg):
        """Answer with the sum, when the caller has no more."""
        taken = []
        stream.set_message_cbs(
            lambda stream, number, arg: taken.append(number.value),
            lambda stream, arg: stream.end(Number(sum(taken))),
        )


def on_number(stream, number, arg):
    """Print a number, and send it back to be added."""
    print(number.value, flush=True)
    adding.send(number)


def on_counted(status, request, reply, arg):
    """There are no more."""
    adding.end()


def on_sum(status, request, reply, arg):
    """Print the sum, and end the program."""
    print(status.message if status.error else f"sum: {reply.value}", flush=True)
    pool.close()
    server.close()


base = EventBase()
server = HttpServer(base)
RpcServer(server).register_service(Counter, Counting())
pool = RpcPool(base)
pool.add_endpoint("127.0.0.1", server.bind_socket("127.0.0.1", 0).port)
counter = Counter(pool)
adding = counter.add.open(on_sum)
counter.count.open(on_counted, request=Number(5), on_message=on_number)
base.dispatch()
base.close()
