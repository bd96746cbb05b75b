"""The directory: a name server whose records are the nodes that announce themselves by RPC.

Usage: directory.py [--host IP] [--dns-port PORT] [--rpc-port PORT]

A node that is not heard of until its lease ends is taken for dead, and is named no more.
"""

import argparse
import logging
import signal

from contract import ZONE, Directory, Known

from evsvc import DnsServer, EventBase, HttpServer, RpcServer
from evsvc.dns import DnsArgumentError, DnsRegistry, RegistryOptions
from evsvc.rpc import CallFailed, RpcErrorCode

TTL_S = 1
LONGEST_LEASE_S = 60.0

log = logging.getLogger("directory")


class Node:
    """A node that is known: its endpoints in DNS, and the timer of its lease."""

    def __init__(self, announced, endpoints, lease):
        self.announced = announced
        self.endpoints = endpoints
        self.lease = lease

    def close(self):
        """Name it no more."""
        self.lease.close()
        for endpoint in self.endpoints:
            endpoint.close()


class Keeper:
    """Keeps the registry by what the nodes say."""

    def __init__(self, base, registry):
        self.base = base
        self.registry = registry
        self.nodes = {}

    def announce(self, call, arg):
        """Take a node up, or prolong its lease."""
        request = call.request
        if not 0 < request.lease_s <= LONGEST_LEASE_S:
            raise CallFailed(f"no such lease: {request.lease_s}", RpcErrorCode.INVALID_ARGUMENT)
        known = self.nodes.get(request.node)
        if known is None or known.announced != request.endpoints:
            self.forget(request.node)
            known = self.take_up(request)
        known.lease.add(request.lease_s)
        call.done(Known(len(self.nodes)))

    def take_up(self, request):
        """Register all endpoints of a node, or none."""
        endpoints = []
        try:
            for service, place in request.endpoints.items():
                endpoints.append(self.registry.register(service, place, name=request.node))
        except DnsArgumentError as error:
            for endpoint in endpoints:
                endpoint.close()
            raise CallFailed(str(error), RpcErrorCode.INVALID_ARGUMENT) from error
        lease = self.base.timer(self.on_silence, request.node)
        self.nodes[request.node] = Node(request.endpoints, endpoints, lease)
        log.info("%s has come", request.node)
        return self.nodes[request.node]

    def withdraw(self, call, arg):
        """Let a node go."""
        self.forget(call.request.node)
        call.done(Known(len(self.nodes)))

    def forget(self, name):
        """Name a node no more."""
        node = self.nodes.pop(name, None)
        if node is not None:
            node.close()
            log.info("%s has gone", name)

    def on_silence(self, fd, what, name):
        """A lease is over."""
        log.warning("nothing is heard of %s any more", name)
        self.forget(name)


def main():
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--dns-port", type=int, default=5301)
    parser.add_argument("--rpc-port", type=int, default=5302)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    registry = DnsRegistry(ZONE, options=RegistryOptions(ttl_s=TTL_S))
    with EventBase() as base, DnsServer(base, registry) as dns, HttpServer(base) as http:
        RpcServer(http).register_service(Directory, Keeper(base, registry))
        udp = dns.bind_udp(args.host, args.dns_port)
        rpc = http.bind_socket(args.host, args.rpc_port)
        print(f"DNS {udp.port} RPC {rpc.port}", flush=True)
        signals = [base.signal(number, stop, base) for number in (signal.SIGINT, signal.SIGTERM)]
        for event in signals:
            event.add()
        base.dispatch()


def stop(signum, what, base):
    """End at once: the nodes announce themselves again when it is back."""
    base.loopbreak()


if __name__ == "__main__":
    main()
