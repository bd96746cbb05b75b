"""The engine's records: a question under way, who waits for it, and each query that it has out."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from ..wire.replies import Query, Question, QuestionKey
    from .answer import Answer
    from .nameservers import Nameserver
    from .resolution import Resolution


class Way(NamedTuple):
    """How a question is to be asked, by its flags: over TCP from the start, with cuts ignored."""

    use_vc: bool = False
    ignore_tc: bool = False


FlightKey = tuple["QuestionKey", Way]
"""What equal questions have in common, so that they are asked once."""


class FlightState(enum.Enum):
    """Where a question stands."""

    WAITING = enum.auto()
    ON_WIRE = enum.auto()
    DONE = enum.auto()


# A member of an enum takes 0.09 us to look up in Python 3.11, and each question needs six.
WAITING, ON_WIRE, DONE = FlightState


class Ticket:
    """One that waits for a question's answer; `done(answer)` is called once, from the loop.

    done: None once it was called, or waits no longer;  flight: None where the answer was known.
    """

    __slots__ = ("done", "flight")

    def __init__(self, flight: Flight | None, done: Callable[[Answer], object]) -> None:
        self.flight = flight
        self.done: Callable[[Answer], object] | None = done


class Flight:
    """A question under way.

    key: None for a probe;  probed: the nameserver that a probe asks;  sent: what is out, by
    nameserver;  waiters: in the order of their coming.
    """

    __slots__ = ("key", "probed", "question", "resolution", "sent", "state", "waiters")

    def __init__(
        self,
        question: Question,
        resolution: Resolution,
        key: FlightKey | None,
        probed: Nameserver | None = None,
    ) -> None:
        self.question = question
        self.resolution = resolution
        self.key = key
        self.probed = probed
        self.state = WAITING
        self.sent: dict[Nameserver, Sent] = {}
        self.waiters: dict[Ticket, None] = {}


class Sent:
    """A query of a flight that is out at one nameserver.

    over_udp: whether somebody else may have sent what seems to be its reply;  suspect: whether
    something came its way that was no reply to it, as when somebody guesses.
    """

    __slots__ = ("flight", "over_udp", "packet", "query", "server", "suspect", "transport")

    def __init__(
        self,
        flight: Flight,
        server: Nameserver,
        transport: Transport,
        query: Query,
        over_udp: bool,
    ) -> None:
        self.flight = flight
        self.server = server
        self.transport = transport
        self.query = query
        self.packet = query.packet
        self.over_udp = over_udp
        self.suspect = False


class Transport(Protocol):
    """How queries reach one nameserver; see `Resolver.nameserver_transport_add`.

    Of a query `sent` the packet is for the wire: `sent.packet`, whole, without a length before it.

    Its maker hands it `on_packet(sent, packet)`, which tells whether that was a reply, and
    `on_lost(sent, answered)` for a query whose reply can no longer come; `answered` tells whether
    some reply has come the same way.  Both may call it back, and `on_packet` the program, too,
    which may ask more, or close the resolver.
    """

    def send(self, sent: Sent) -> None:
        """Send a query, or send it once more.  Raises OSError when the system refuses to."""

    def forget(self, sent: Sent) -> None:
        """Wait no longer for the reply to a query; does nothing for one that is not out."""

    def give_up(self) -> None:
        """Hold what all queries share for broken, as one of them has waited in vain."""

    def close(self) -> None:
        """End it without a word.  Safe to repeat."""
