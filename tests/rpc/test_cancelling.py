"""A handler that works on learns that its caller has gone."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from evsvc.core import ArgumentTypeError
from evsvc.rpc import RpcServer
from tests.rpc.adding import Add, AddCall, AddReply

BODY = msgpack.packb({"left": 1, "right": 2})
POST = b"POST /.rpc.Add HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture
def held(server: RpcServer) -> list[AddCall]:
    """Return the calls that the server has got, and that nobody has answered."""
    calls: list[AddCall] = []
    server.register_rpc(Add, lambda call, arg: calls.append(call))
    return calls


def test_a_caller_that_goes_is_told_once_with_the_argument(
    held: list[AddCall], peer: Any, loop: Any
) -> None:
    told: list[tuple[AddCall, object]] = []
    peer.send(POST)
    loop.until(lambda: held)
    call = held[0]
    call.on_cancel(lambda *args: told.append(args), "arg")
    assert not call.cancelled
    assert not call.finished
    peer.reset()
    loop.until(lambda: call.cancelled)
    assert told == [(call, "arg")]
    assert call.finished
    assert not call.answered
    call.on_cancel(lambda *args: told.append(args), "late")
    assert told == [(call, "arg"), (call, "late")]
    call.done(AddReply(3))  # there is nobody to send it to
    loop.settle()
    assert len(told) == 2


def test_a_caller_that_closes_its_sending_side_still_gets_the_answer(
    held: list[AddCall], peer: Any, loop: Any
) -> None:
    told: list[object] = []
    peer.send(POST)
    loop.until(lambda: held)
    held[0].on_cancel(lambda call, arg: call.done(AddReply(3)))
    held[0].on_cancel(lambda call, arg: (told.append(arg), call.done(AddReply(3))), "second")
    peer.shutdown_write()
    assert peer.read().code == 200
    assert told == ["second"], "it takes the place of the first"


def test_an_answered_call_is_not_cancelled(held: list[AddCall], peer: Any, loop: Any) -> None:
    told: list[object] = []
    peer.send(POST)
    loop.until(lambda: held)
    held[0].on_cancel(lambda call, arg: told.append(arg))
    held[0].done(AddReply(3))
    assert peer.read().code == 200
    peer.reset()
    loop.settle()
    assert told == []
    assert not held[0].cancelled


def test_what_cannot_be_called_is_refused(held: list[AddCall], peer: Any, loop: Any) -> None:
    peer.send(POST)
    loop.until(lambda: held)
    with pytest.raises(ArgumentTypeError):
        held[0].on_cancel("cb")  # type: ignore[arg-type]
