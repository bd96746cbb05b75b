"""RpcTestClient: calls an RpcServer's methods, over a pair of bufferevents in place of sockets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..core import EVLOOP_NONBLOCK
from ..core.closing import Closing
from ..rpc import RpcPool
from .http import HttpTestClient
from .waiting import DEFAULT_WAIT_S, run_until

if TYPE_CHECKING:
    from ..http import HttpServer
    from ..rpc import Codec, Rpc

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class RpcTestClient(Closing):
    """Calls what is registered at an HttpServer, and waits for each reply.

    pool: makes the calls; for stubs, streams, hooks, and calls that are to be under way together,
    of which there may be `connections`.  codec: as for RpcPool.  wait_s: how long a reply may
    take, by the base's clock.
    """

    def __init__(
        self,
        server: HttpServer,
        *,
        codec: Codec | None = None,
        connections: int = 4,
        wait_s: float = DEFAULT_WAIT_S,
    ) -> None:
        self.http = HttpTestClient(server, wait_s=wait_s)
        self.wait_s = wait_s
        self.pool = RpcPool(server.base, codec=codec)
        for _ in range(connections):
            self.pool.add_connection(self.http.connect())

    def call(
        self,
        rpc: Rpc[Request, Reply],
        request: Request,
        *,
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> Reply:
        """Make a call and return the reply.

        Raises what went wrong: `RemoteError`, with the code and details that the handler has
        failed with, `PayloadError`, `CallTimeout`...; NothingHappened when the handler never
        answers; what `RpcPool.make_request` raises, and StateError inside a callback.
        """
        outcome: list[tuple[Any, Any]] = []
        self.pool.base.loop(EVLOOP_NONBLOCK)  # what is due has happened before
        call = self.pool.make_request(
            rpc,
            request,
            lambda status, asked, reply, arg: outcome.append((status, reply)),
            timeout_s=timeout_s,
            metadata=metadata,
        )
        try:
            what = f"a reply to {rpc.name}"
            run_until(self.pool.base, lambda: outcome, what=what, wait_s=self.wait_s)
        finally:
            call.cancel()  # where none has come: the next one does not wait for its connection
        ((status, reply),) = outcome
        if status.cause is not None:
            raise status.cause
        got: Reply = reply
        return got

    def close(self) -> None:
        """Give up all calls, as a client that goes away.  Safe to repeat."""
        self.pool.close()
        self.http.close()
