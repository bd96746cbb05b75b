"""What the programs of this folder say to each other by RPC."""

from dataclasses import dataclass

from evsvc import Rpc
from evsvc.rpc import Service

ZONE = "svc.test"
"""The zone of all services; unbound.conf forwards it, and haproxy.cfg asks for names in it."""


@dataclass
class Announcement:
    """A node, and where it serves; it counts for `lease_s` seconds, then it is to come again."""

    node: str
    endpoints: dict[str, tuple[str, int]]  # by service: address and port
    lease_s: float


@dataclass
class Departure:
    """A node that is about to end."""

    node: str


@dataclass
class Known:
    """How many nodes the directory knows."""

    nodes: int


class Directory(Service):
    """What the directory does for nodes.  Both may be asked twice."""

    announce = Rpc("Announce", Announcement, Known, idempotent=True)
    withdraw = Rpc("Withdraw", Departure, Known, idempotent=True)


@dataclass
class Job:
    """Something to be done by any node."""

    number: int


@dataclass
class Result:
    """Who has done it."""

    number: int
    node: str


Work = Rpc("Work", Job, Result)
RepeatableWork = Rpc("RepeatableWork", Job, Result, idempotent=True)
