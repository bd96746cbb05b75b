"""Calls and a stream that share one WebSocket, and end in the order in which they are answered."""

from dataclasses import dataclass

from evsvc import EV_TIMEOUT, EventBase, HttpServer, Rpc, RpcPool, RpcServer
from evsvc.rpc import RpcKind, Service, websocket


@dataclass
class Wait:
    """For how long to wait, and what to say then."""

    seconds: float
    text: str


@dataclass
class Line:
    """What is said."""

    text: str


class Clock(Service):
    """Says things later."""

    say = Rpc("Clock.Say", Wait, Line)
    tick = Rpc("Clock.Tick", Wait, Line, kind=RpcKind.SERVER_STREAM)


class Waiting:
    """Serves the clock."""

    def say(self, call, arg):
        """Answer when the time has come."""
        wait = call.request
        base.once(-1, EV_TIMEOUT, lambda *what: call.done(Line(wait.text)), None, wait.seconds)

    def tick(self, stream, arg):
        """Say it three times."""
        left = 3

        def on_time(*what):
            nonlocal left
            stream.send(Line(stream.request.text))
            left -= 1
            if left:
                base.once(-1, EV_TIMEOUT, on_time, None, stream.request.seconds)
            else:
                stream.end()

        base.once(-1, EV_TIMEOUT, on_time, None, stream.request.seconds)


def on_reply(status, request, reply, arg):
    """Print the answer."""
    print(status.message if status.error else reply.text, flush=True)


def on_line(stream, line, arg):
    """Print a line of the stream."""
    print(line.text, flush=True)


def on_end(status, request, reply, arg):
    """Tell how many connections there were, and end the program."""
    print(f"connections: {server.connection_count}", flush=True)
    pool.close()
    server.close()


base = EventBase()
server = HttpServer(base)
rpc_server = RpcServer(server)
rpc_server.register_service(Clock, Waiting())
websocket.serve(rpc_server)
port = server.bind_socket("127.0.0.1", 0).port
pool = RpcPool(base, timeout=10.0)
websocket.add_endpoint(pool, f"ws://127.0.0.1:{port}/.rpc/websocket")
clock = Clock(pool)
clock.tick.open(on_end, request=Wait(0.3, "tick"), on_message=on_line)
clock.say(Wait(0.45, "slow"), on_reply)
clock.say(Wait(0.0, "quick"), on_reply)
base.dispatch()
base.close()
