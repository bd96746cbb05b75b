"""A small service: pages, a remote call and a name, as a program of yours might have them.

Usage: app.py [port [DNS port]]
"""

import argparse
from dataclasses import dataclass

from evsvc import EV_TIMEOUT, DnsServer, EventBase, HttpServer, Rpc, RpcServer
from evsvc.dns import DNS_ERR_NONE, DNS_ERR_NOTEXIST, EVDNS_TYPE_A
from evsvc.rpc import CallFailed, RpcErrorCode

SLOW_S = 30.0


@dataclass
class Order:
    """What is wanted, and how often."""

    item: str
    count: int


@dataclass
class Receipt:
    """What it costs, in cents."""

    cents: int


PRICES = {"tea": 250, "cake": 420}
PlaceOrder = Rpc("PlaceOrder", Order, Receipt)
ADDRESSES = {"shop.example": "192.0.2.80", "cakes.example": "192.0.2.81"}


class Shop:
    """All that is served, on an HttpServer that is handed in: so tests need no port."""

    def __init__(self, server: HttpServer) -> None:
        self.base = server.base
        server.set_cb("/menu", self.menu, methods=("GET",))
        server.set_cb("/bake", self.bake, methods=("POST",))
        RpcServer(server).register_rpc(PlaceOrder, self.place_order)

    def menu(self, request, arg):
        """What there is."""
        request.output_headers.add("Content-Type", "text/plain; charset=utf-8")
        lines = [f"{item} {cents / 100:.2f}\n" for item, cents in sorted(PRICES.items())]
        request.send_reply(200, None, "".join(lines).encode())

    def bake(self, request, arg):
        """Takes a while."""
        self.base.once(-1, EV_TIMEOUT, self.baked, request, SLOW_S)

    def baked(self, fd, what, request):
        request.send_reply(201, None, b"here is your cake\n")

    def place_order(self, call, arg):
        """Say what an order costs."""
        order = call.request
        if order.item not in PRICES:
            raise CallFailed(f"there is no {order.item}", RpcErrorCode.NOT_FOUND)
        call.done(Receipt(PRICES[order.item] * order.count))


def tell_address(request, arg):
    """Say where the shop is, to who asks by DNS."""
    question = request.questions[0]
    address = ADDRESSES.get(question.name.lower())
    if address is None:
        request.respond(DNS_ERR_NOTEXIST)
        return
    if question.type == EVDNS_TYPE_A:
        request.add_a_reply(question.name, [address], 300)
    request.respond(DNS_ERR_NONE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int, nargs="?", default=8080)
    parser.add_argument("dns_port", type=int, nargs="?", default=8053)
    args = parser.parse_args()
    with EventBase() as base, HttpServer(base) as pages, DnsServer(base, tell_address) as names:
        Shop(pages)
        bound = pages.bind_socket("127.0.0.1", args.port)
        print(f"http://127.0.0.1:{bound.port}/menu", flush=True)
        named = names.bind_udp("127.0.0.1", args.dns_port)
        print(f"dig @127.0.0.1 -p {named.port} shop.example", flush=True)
        base.dispatch()
