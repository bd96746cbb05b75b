"""What the tests of calls share: one definition, its handler, and a caller that keeps results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from evsvc.rpc import (
    EVRPC_STATUS_ERR_NONE,
    Rpc,
    RpcPool,
    RpcStatus,
    ServerCall,
)


@dataclass
class AddRequest:
    left: int
    right: int


@dataclass
class AddReply:
    total: int


Add = Rpc("Add", AddRequest, AddReply)
AddCall = ServerCall[AddRequest, AddReply]


class Result(NamedTuple):
    """What one callback was given."""

    status: RpcStatus
    request: AddRequest
    reply: AddReply | None
    arg: object


class Caller:
    """Makes calls on a pool, and keeps what their callbacks are given."""

    def __init__(self, pool: RpcPool, loop: Any) -> None:
        self.pool = pool
        self.loop = loop
        self.results: list[Result] = []
        self.started = 0

    def start(self, left: int = 1, right: int = 2, arg: object = None) -> Any:
        self.started += 1
        return self.pool.make_request(Add, AddRequest(left, right), self.keep, arg)

    def keep(
        self, status: RpcStatus, request: AddRequest, reply: AddReply | None, arg: object
    ) -> None:
        self.results.append(Result(status, request, reply, arg))

    def finish(self, calls: int | None = None) -> list[Result]:
        """Run until so many calls have ended; None: every one that was started."""
        wanted = self.started if calls is None else calls
        self.loop.until(lambda: len(self.results) == wanted)
        return self.results

    def call(self) -> Result:
        """Make one call, and run until it has ended."""
        self.start()
        return self.finish()[-1]


def handle_add(call: AddCall, arg: object) -> None:
    call.reply.total = call.request.left + call.request.right
    call.done()


def assert_serves_on(caller: Caller) -> None:
    """The pool's connection is of use again: a further call succeeds."""
    result = caller.call()
    assert (result.status.error, result.reply) == (EVRPC_STATUS_ERR_NONE, AddReply(3))
