"""DnsTestClient: asks a DnsServer's callback, without a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dns.message
import dns.rdatatype

from .waiting import DEFAULT_WAIT_S, run_until

if TYPE_CHECKING:
    from ..core import EventBase
    from ..dns import DnsServer

PEER = ("192.0.2.1", 49152)


class DnsTestClient:
    """Asks one server, and waits for each reply.

    peer: the client's address and port, as handlers see them; queries seem to come over HTTPS, so
    that replies are never cut.  wait_s: how long a reply may take, by the base's clock.
    """

    def __init__(
        self,
        base: EventBase,
        server: DnsServer,
        *,
        peer: tuple[str, int] = PEER,
        wait_s: float = DEFAULT_WAIT_S,
    ) -> None:
        self.base = base
        self.server = server
        self.peer = peer
        self.wait_s = wait_s

    def ask(self, name: str, rdtype: str = "A") -> dns.message.Message:
        """Ask for the records of a name, and return the reply.

        Raises NothingHappened when none comes, or the server drops the query; what dnspython raises
        for what is no name or no type, DnsStateError when the server is closed.
        """
        return self.send(dns.message.make_query(name, rdtype, use_edns=True))

    def send(self, query: dns.message.Message) -> dns.message.Message:
        """Send a query of your own, and return the reply.  Raises as `ask`."""
        replies: list[bytes | None] = []
        self.server.handle_message(query.to_wire(), self.peer, replies.append)
        asked = ", ".join(each.to_text() for each in query.question)
        run_until(self.base, lambda: replies, what=f"a reply to {asked}", wait_s=self.wait_s)
        (packet,) = replies
        if packet is None:
            raise AssertionError(f"the server has dropped the query: {asked}")
        return dns.message.from_wire(packet)
