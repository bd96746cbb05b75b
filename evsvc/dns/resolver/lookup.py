"""Lookup: the handle of a lookup, and what the engine keeps of one."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .engine import LookupEngine
    from .nameservers import Nameserver
    from .resolution import Answer, Resolution
    from .transport import TcpChannel, UdpExchange

DoneCallback = Callable[["Answer", object], object]
"""Called once as `done(answer, context)`, from the loop."""


class LookupState(enum.Enum):
    """Where a lookup stands."""

    WAITING = enum.auto()
    ON_WIRE = enum.auto()
    DONE = enum.auto()


class Lookup:
    """The handle of one lookup (struct evdns_request)."""

    __slots__ = (
        "_engine",
        "channel",
        "context",
        "done",
        "exchanges",
        "packet",
        "probed",
        "query_id",
        "resolution",
        "server",
        "state",
        "timer",
    )

    def __init__(
        self,
        engine: LookupEngine,
        resolution: Resolution,
        done: DoneCallback,
        context: object,
        probed: Nameserver | None = None,
    ) -> None:
        self._engine = engine
        self.resolution = resolution
        self.done = done
        self.context = context
        self.probed = probed
        self.state = LookupState.WAITING
        self.query_id = -1
        self.packet = b""
        self.server: Nameserver | None = None
        self.exchanges: dict[Nameserver, UdpExchange] = {}
        self.channel: TcpChannel | None = None
        self.timer = engine.base.timer(engine.on_timeout, self)

    def cancel(self) -> None:
        """Give the lookup up: its callback gets DNS_ERR_CANCEL, from the loop.

        Does nothing when the answer is known already.  Source: evdns_cancel_request.
        """
        self._engine.cancel(self)
