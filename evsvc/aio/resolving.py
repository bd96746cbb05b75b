"""Look-ups as coroutines: `getaddrinfo`, and records of any type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core import AddrInfo, AddrInfoHints, gai_strerror
from ..core.util import AddrInfoError
from ..dns import Answer, DnsError, DnsResult, err_to_string
from .outcome import Outcome

if TYPE_CHECKING:
    from ..core import Resolver as AnyResolver
    from ..dns import Resolver


class LookupFailed(DnsError, OSError):
    """There are no records.

    answer: what came: its `result` says why, its `soa` in whose zone there is nothing.
    """

    def __init__(self, question: str, answer: Answer) -> None:
        super().__init__(f"{question}: {err_to_string(answer.result)}")
        self.answer = answer


async def getaddrinfo(
    resolver: AnyResolver,
    host: str | None,
    port: int | str | None,
    hints: AddrInfoHints | None = None,
) -> list[AddrInfo]:
    """Look a host and a service up, and return the addresses, the best first.

    resolver: a `Resolver` of evsvc.dns, or whatever core takes for one.  Cancelled, it gives the
    look-up up.  Raises AddrInfoError (a `socket.gaierror`) where there is none, and as the
    resolver's `getaddrinfo`.
    """
    outcome: Outcome[list[AddrInfo]] = Outcome()

    def on_addresses(result: int, addresses: list[AddrInfo], arg: object) -> None:
        if result:
            outcome.fail(AddrInfoError(result, f"{host}: {gai_strerror(result)}"))
        else:
            outcome.succeed(addresses)

    lookup = resolver.getaddrinfo(host, port, hints, on_addresses)
    try:
        return await outcome
    finally:
        if lookup is not None:
            lookup.cancel()


async def query(
    resolver: Resolver,
    name: str,
    rdtype: int | str,
    *,
    flags: int = 0,
    timeout_s: float | None = None,
) -> Answer:
    """Look up the records of any type, and return the answer that has them.

    rdtype, flags, timeout_s: as of `Resolver.query`.  Cancelled, it gives the look-up up.  Raises
    LookupFailed (an OSError) where there are no records, and as `Resolver.query`.
    """
    outcome: Outcome[Answer] = Outcome()
    lookup = resolver.query(
        name, rdtype, lambda answer, arg: outcome.succeed(answer), flags=flags, timeout_s=timeout_s
    )
    try:
        answer = await outcome
    finally:
        lookup.cancel()
    if answer.result != DnsResult.DNS_ERR_NONE:
        raise LookupFailed(f"{name} {rdtype}", answer)
    return answer
