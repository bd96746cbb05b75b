"""A DNS server of evsvc inside of a program of asyncio, which asks it."""

import asyncio

from evsvc import DnsServer, EventBase, Resolver
from evsvc.aio import LookupFailed, attach, handler, query

NAMES = {"printer.example": "192.0.2.7", "scanner.example": "192.0.2.8"}


async def on_query(request, arg):
    """Answer for the names of a table that may be slow to read."""
    await asyncio.sleep(0.01)
    name = request.questions[0].name
    address = NAMES.get(name.lower())
    if address is not None:
        request.add_a_reply(name, [address], 60)
    request.respond(0 if address else 3)


async def look_up(resolver, name):
    """Return a line about a name."""
    try:
        answer = await query(resolver, name, "A")
    except LookupFailed as error:
        return str(error)
    return f"{name}: {answer.records[0].data}"


async def main():
    """Ask for three names at once."""
    with (
        EventBase() as base,
        attach(base),
        DnsServer(base, handler(on_query)) as server,
        Resolver(base, 0) as resolver,
    ):
        resolver.nameserver_ip_add(f"127.0.0.1:{server.bind_udp('127.0.0.1', 0).port}")
        names = [*NAMES, "nowhere.example"]
        for line in await asyncio.gather(*(look_up(resolver, name) for name in names)):
            print(line)


asyncio.run(main())
