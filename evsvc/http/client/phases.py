"""The life of a client's connection: its phases, the turns of what is said over it while it is
connected, and every legal move from one to another."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """Whether there is a connection."""

    # By identity, as they are compared: Enum's own is a Python function, which costs 0.1 us a look.
    __hash__ = object.__hash__

    IDLE = enum.auto()  # not connected
    CONNECTING = enum.auto()
    RETRYING = enum.auto()  # no connection was to be had: wait before the next attempt
    CONNECTED = enum.auto()  # what is said over it has turns of its own
    CLOSED = enum.auto()


class Step(enum.Enum):
    """What takes a connection from one phase to another."""

    __hash__ = object.__hash__

    CONNECT = enum.auto()
    NO_CONNECTION = enum.auto()  # and another attempt is to follow
    CONNECTED = enum.auto()
    LOSE = enum.auto()  # the connection, if there is one
    CLOSE = enum.auto()


NEXT: dict[tuple[Phase, Step], Phase] = {
    (Phase.IDLE, Step.CONNECT): Phase.CONNECTING,
    (Phase.CONNECTING, Step.CONNECTED): Phase.CONNECTED,
    (Phase.CONNECTING, Step.NO_CONNECTION): Phase.RETRYING,
    (Phase.RETRYING, Step.CONNECT): Phase.CONNECTING,
    **{(phase, Step.LOSE): Phase.IDLE for phase in Phase if phase is not Phase.CLOSED},
    **{(phase, Step.CLOSE): Phase.CLOSED for phase in Phase},
}


class Turn(enum.Enum):
    """Whose turn it is over a connected carrier, and to say what."""

    __hash__ = object.__hash__

    READY = enum.auto()  # nothing under way
    HELD = enum.auto()  # a head is sent, and its body waits for 100 Continue
    WAITING = enum.auto()  # for the head of a response; the request may still be on its way
    BODY = enum.auto()
    OVER = enum.auto()  # the carrier is of no use any more, or another's


class TurnStep(enum.Enum):
    """What takes one turn to another."""

    __hash__ = object.__hash__

    SEND = enum.auto()
    HOLD = enum.auto()  # send, all but the body
    SEND_BODY = enum.auto()
    HEAD = enum.auto()  # of a final response
    NEXT = enum.auto()  # one is answered, and the one behind it is sent already
    DONE = enum.auto()  # all that was sent is answered, and the carrier lives on
    END = enum.auto()


NEXT_TURN: dict[tuple[Turn, TurnStep], Turn] = {
    (Turn.READY, TurnStep.SEND): Turn.WAITING,
    (Turn.READY, TurnStep.HOLD): Turn.HELD,
    (Turn.HELD, TurnStep.SEND_BODY): Turn.WAITING,
    (Turn.HELD, TurnStep.HEAD): Turn.BODY,
    (Turn.WAITING, TurnStep.HEAD): Turn.BODY,
    (Turn.BODY, TurnStep.NEXT): Turn.WAITING,
    (Turn.WAITING, TurnStep.NEXT): Turn.WAITING,  # head and body have come in one
    (Turn.BODY, TurnStep.DONE): Turn.READY,
    (Turn.WAITING, TurnStep.DONE): Turn.READY,
    **{(turn, TurnStep.END): Turn.OVER for turn in Turn},
}
