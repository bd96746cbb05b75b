"""Worker: what a program's setup is given, and how a worker stops."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ..core import EVLOOP_NO_EXIT_ON_EMPTY
from ..core.bufferevent.lingering import CLOSE_CHECK_S, Lingering
from ..core.checks import require_callable
from ..core.errors import ArgumentTypeError
from .channel import Channel
from .messages import Kind, Message, MessageError, counts_of, reading_of
from .metrics import WorkerMetrics

if TYPE_CHECKING:
    from ..core import EventBase
    from .listening import SlotSockets
    from .options import WorkerOptions

logger = logging.getLogger("evsvc.workers")


class Graceful(Protocol):
    """What stops with a worker: HttpServer, DnsServer, or anything with the same method."""

    def shutdown(
        self,
        cb: Callable[[Any], object] | None = None,
        *,
        deadline_s: float | None = None,
        idle_s: float = 0.0,
    ) -> object:
        """Finish what is in flight, and call `cb(self)`, now or later, when that is done.

        After `deadline_s` it is done in any case.  Who is connected may begin something new for
        `idle_s` yet.
        """


class Worker:
    """One worker, in its own process; setup gets it.

    base: its event base.  number: that of its slot, from 0; a successor has its predecessor's.
    tcp, udp, unix, sockets: what it serves, in the order of the binds; TCP and Unix sockets listen
    already.  They are the worker's own to close, as a server does with itself.  metrics: the
    counters of all workers.  is_stopping: whether it has been told to stop.
    """

    __slots__ = (
        "_channel",
        "_options",
        "_run",
        "_running",
        "_servers",
        "_timer",
        "base",
        "is_stopping",
        "metrics",
        "number",
        "sockets",
        "tcp",
        "udp",
        "unix",
    )

    def __init__(
        self,
        base: EventBase,
        number: int,
        sockets: SlotSockets,
        channel: socket.socket,
        options: WorkerOptions,
    ) -> None:
        self.base = base
        self.number = number
        self.tcp, self.udp = sockets.tcp, sockets.udp
        self.unix, self.sockets = sockets.unix, sockets.sockets
        self.metrics = WorkerMetrics(self._ask_for_counts)
        self.is_stopping = False
        self._options = options
        self._run: Callable[[], object] = partial(base.loop, EVLOOP_NO_EXIT_ON_EMPTY)
        self._servers: list[Graceful] = []
        self._running = 0  # servers that have not finished yet
        self._timer = base.timer(lambda *event: self._leave())
        self._channel = Channel(base, channel, self._on_message, self._on_supervisor_gone)

    def add_server(self, server: Graceful) -> None:
        """Have a server finish what is in flight when the worker stops; see Graceful.

        Raises ArgumentTypeError for what has no `shutdown`.
        """
        if not callable(getattr(server, "shutdown", None)):
            raise ArgumentTypeError(f"a server has a method `shutdown`: {server!r}")
        if self.is_stopping:
            self._running += 1
            self._shut_down(server)
        else:
            self._servers.append(server)

    def set_runner(self, run: Callable[[], object]) -> None:
        """Have the loop run by `run()`, which returns at the base's `loopexit`.

        Such as `evsvc.aio.EventLoop(worker.base).run_forever`.  Raises ArgumentTypeError for what
        cannot be called.
        """
        require_callable(run)
        self._run = run

    def reload(self) -> None:
        """Have all workers replaced, one after the other, as SIGHUP to the supervisor does.

        While that goes on already, it is done once more afterwards.
        """
        self._channel.send(Message(Kind.RELOAD))

    def stop(self) -> None:
        """Finish what is in flight, and end; the supervisor starts another one.  Safe to repeat."""
        if self.is_stopping:
            return
        self.is_stopping = True
        servers, self._servers = self._servers, []
        self._running = 1 + len(servers)
        for server in servers:
            self._shut_down(server)
        self._finished()

    def run(self) -> None:
        """Tell the supervisor that setup is done, and run the loop; not for programs."""
        self._channel.send(Message(Kind.READY))
        self._run()

    def _shut_down(self, server: Graceful) -> None:
        try:
            server.shutdown(
                lambda server: self._finished(),
                deadline_s=self._options.stop_s,
                idle_s=self._options.idle_s,
            )
        except Exception:
            logger.exception("worker %d: %r does not stop in order", self.number, server)
            self._finished()

    def _finished(self) -> None:
        self._running -= 1
        if not self._running:
            self._leave()

    def _leave(self) -> None:
        """End when the kernel has brought to the clients what was sent to them.

        Closed sockets see to that by themselves, for CLOSE_LINGER_S at most, while the loop runs.
        """
        if self.base.foreach_event(lambda base, event, arg: isinstance(event, Lingering)):
            self._timer.add(CLOSE_CHECK_S)
            return
        self._channel.send(counts_of(self.metrics.read()))
        self._channel.when_sent(self.base.loopexit)

    def _ask_for_counts(self) -> None:
        if self._channel.closed:
            self.base.post(self.metrics.answered, None)
        else:
            self._channel.send(Message(Kind.ASK))

    def _on_message(self, message: Message) -> None:
        if message.kind is Kind.STOP:
            self.stop()
        elif message.kind is Kind.ASK:
            self._channel.send(counts_of(self.metrics.read()))
        elif message.counts is not None:
            try:
                reading = reading_of(message.counts)
            except MessageError:
                logger.exception("worker %d: the supervisor's counters", self.number)
                self.metrics.answered(None)
            else:
                self.metrics.answered(reading)
        else:
            logger.error("worker %d: not for a worker: %s", self.number, message.kind.name)

    def _on_supervisor_gone(self, why: str) -> None:
        logger.error("worker %d: the supervisor has gone%s", self.number, why and f": {why}")
        self.metrics.answered(None)
        self.stop()
