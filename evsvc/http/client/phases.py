"""The life of a client's connection: its phases, and every legal move from one to another."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """What the connection is about to do."""

    # By identity, as they are compared: Enum's own is a Python function, which costs 0.1 us a look.
    __hash__ = object.__hash__

    IDLE = enum.auto()  # not connected
    CONNECTING = enum.auto()
    RETRYING = enum.auto()  # no connection was to be had: wait before the next attempt
    READY = enum.auto()  # connected, nothing under way
    HELD = enum.auto()  # a head is sent, and its body waits for 100 Continue
    WAITING = enum.auto()  # for the head of a response; the request may still be on its way
    BODY = enum.auto()
    CLOSED = enum.auto()


class Step(enum.Enum):
    """What takes a connection from one phase to another."""

    __hash__ = object.__hash__

    CONNECT = enum.auto()
    NO_CONNECTION = enum.auto()  # and another attempt is to follow
    CONNECTED = enum.auto()
    SEND = enum.auto()
    HOLD = enum.auto()  # send, all but the body
    SEND_BODY = enum.auto()
    HEAD = enum.auto()  # of a final response
    NEXT = enum.auto()  # one is answered, and the one behind it is sent already
    DONE = enum.auto()  # all that was sent is answered, and the connection lives on
    LOSE = enum.auto()  # the connection, if there is one
    CLOSE = enum.auto()


NEXT: dict[tuple[Phase, Step], Phase] = {
    (Phase.IDLE, Step.CONNECT): Phase.CONNECTING,
    (Phase.CONNECTING, Step.CONNECTED): Phase.READY,
    (Phase.CONNECTING, Step.NO_CONNECTION): Phase.RETRYING,
    (Phase.RETRYING, Step.CONNECT): Phase.CONNECTING,
    (Phase.READY, Step.SEND): Phase.WAITING,
    (Phase.READY, Step.HOLD): Phase.HELD,
    (Phase.HELD, Step.SEND_BODY): Phase.WAITING,
    (Phase.HELD, Step.HEAD): Phase.BODY,
    (Phase.WAITING, Step.HEAD): Phase.BODY,
    (Phase.BODY, Step.NEXT): Phase.WAITING,
    (Phase.WAITING, Step.NEXT): Phase.WAITING,  # head and body have come in one
    (Phase.BODY, Step.DONE): Phase.READY,
    (Phase.WAITING, Step.DONE): Phase.READY,
    **{(phase, Step.LOSE): Phase.IDLE for phase in Phase if phase is not Phase.CLOSED},
    **{(phase, Step.CLOSE): Phase.CLOSED for phase in Phase},
}

CONNECTED = frozenset((Phase.READY, Phase.HELD, Phase.WAITING, Phase.BODY))
"""There is a connection."""
AT_REST = frozenset((Phase.IDLE, Phase.READY))
"""No request is under way."""
UNDER_WAY = frozenset(Phase) - AT_REST - {Phase.CLOSED}
"""The first request of the queue is: a connection is made for it, or it is sent, or answered."""
