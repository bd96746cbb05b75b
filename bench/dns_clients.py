"""Resolvers to be measured: evsvc, aiodns and dnspython's own.

Usage: dns_clients.py KIND PORT LOOKUPS IN_FLIGHT.  Looks up names of one nameserver on 127.0.0.1,
so many at once, without cache, and prints the microseconds of CPU time that a look-up took.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from evsvc import EventBase
from evsvc.dns import Answer, Resolver, ResolverOptions


def run_evsvc(port: int, lookups: int, in_flight: int) -> int:
    """Return how many look-ups have failed."""
    begun = failed = ended = 0
    options = ResolverOptions(cache_entries=0, max_inflight=in_flight)
    with EventBase() as base, Resolver(base, 0, options=options) as resolver:
        resolver.nameserver_ip_add(f"127.0.0.1:{port}")

        def begin() -> None:
            nonlocal begun
            resolver.query(f"host{begun}.example.com", "A", take)
            begun += 1

        def take(answer: Answer, arg: object) -> None:
            nonlocal ended, failed
            failed += len(answer.records) != 1
            ended += 1
            if ended == lookups:
                base.loopbreak()
            elif begun < lookups:
                begin()

        for _ in range(min(in_flight, lookups)):
            begin()
        base.dispatch()
    return failed


def run_aiodns(port: int, lookups: int, in_flight: int) -> int:
    """Return how many look-ups have failed."""
    aiodns: Any = importlib.import_module("aiodns")

    async def main() -> int:
        resolver = aiodns.DNSResolver(nameservers=["127.0.0.1"], udp_port=port, tcp_port=port)
        return await _many(lambda name: resolver.query_dns(name, "A"), lookups, in_flight)

    return asyncio.run(main())


def run_dnspython(port: int, lookups: int, in_flight: int) -> int:
    """Return how many look-ups have failed."""
    asyncresolver: Any = importlib.import_module("dns.asyncresolver")

    async def main() -> int:
        resolver = asyncresolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], port
        return await _many(lambda name: resolver.resolve(name, "A"), lookups, in_flight)

    return asyncio.run(main())


async def _many(ask: Callable[[str], Awaitable[object]], lookups: int, in_flight: int) -> int:
    numbers = iter(range(lookups))
    failed = 0

    async def worker() -> None:
        nonlocal failed
        for number in numbers:
            try:
                await ask(f"host{number}.example.com")
            except Exception as exc:  # each library has its own
                print(exc, file=sys.stderr)
                failed += 1

    await asyncio.gather(*[worker() for _ in range(in_flight)])
    return failed


KINDS = {"evsvc": run_evsvc, "aiodns": run_aiodns, "dnspython": run_dnspython}


def main() -> int:
    """Run one kind; 1 when a look-up failed."""
    kind, *numbers = sys.argv[1:]
    port, lookups, in_flight = map(int, numbers)
    KINDS[kind](port, min(lookups, 500), in_flight)  # what is loaded late is loaded by now
    start = time.process_time()
    failed = KINDS[kind](port, lookups, in_flight)
    print(f"{(time.process_time() - start) / lookups * 1e6:.3f}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
