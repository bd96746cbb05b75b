"""Two servers behind one SRV name, one of which ends during the calls: none is lost."""

from dataclasses import dataclass

from evsvc import DnsServer, EventBase, HttpServer, Rpc, RpcPool, RpcServer
from evsvc.dns import DnsRegistry, Resolver

CALLS = 200
AT_ONCE = 8


@dataclass
class Work:
    """What is to be done."""

    number: int


@dataclass
class Done:
    """Who has done it."""

    number: int
    server: str


Do = Rpc("Do", Work, Done, idempotent=True)  # so a call may go again, to the other


def serve(name):
    """Start a server, and have the registry tell of it."""
    server = HttpServer(base)
    RpcServer(server).register_rpc(Do, lambda call, arg: call.done(Done(call.request.number, name)))
    bound = server.bind_socket("127.0.0.1", 0)
    registry.register("work", (bound.address, bound.port), name=name)
    return server


def on_done(status, request, reply, arg):
    """Count, make the next call, and at the middle of all end one server."""
    outcomes.append(status.message if status.error else reply.server)
    if len(outcomes) == CALLS // 2:
        servers.pop("first").close()
    if len(outcomes) == CALLS:
        base.loopexit()
    elif request.number + AT_ONCE < CALLS:
        pool.make_request(Do, Work(request.number + AT_ONCE), on_done)


base = EventBase()
registry = DnsRegistry("svc.test")
outcomes = []
dns_server = DnsServer(base, registry)
nameserver = dns_server.bind_udp("127.0.0.1", 0)
servers = {name: serve(name) for name in ("first", "second")}
resolver = Resolver(base, 0)
resolver.nameserver_ip_add(f"127.0.0.1:{nameserver.port}")
pool = RpcPool(base, timeout=5.0)
pool.follow_srv("_work._tcp.svc.test", resolver, resolver=resolver)
for number in range(AT_ONCE):
    pool.make_request(Do, Work(number), on_done)
base.dispatch()
print(
    f"{len(outcomes)} calls, both have worked: {set(outcomes) == {'first', 'second'}}", flush=True
)
pool.close()
resolver.close()
for server in servers.values():
    server.close()
dns_server.close()
base.close()
