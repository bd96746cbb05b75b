"""What a supervisor and its workers tell each other, and how it becomes bytes.  Does no I/O.

A message is a dataclass, goes as MessagePack, and stands after its length in four bytes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..core.errors import Error
from ..http import Ending, Holdings, MetricsReading
from ..rpc import MsgpackCodec, PayloadError, PayloadLimits
from ..rpc.schema import message_shape

if TYPE_CHECKING:
    from ..core import EvBuffer

MAX_MESSAGE_BYTES: Final = 64 * 1024
"""No message is longer; one with all counters has about 1 KiB."""

LENGTH_BYTES: Final = 4


class MessageError(Error, ValueError):
    """Bytes on the way between a supervisor and a worker are no message."""


class Kind(enum.Enum):
    """What a message says.

    READY: a worker's setup is done.  STOP: finish what is in flight, and end.  RELOAD: a worker
    wants all of them replaced.  ASK: the supervisor asks for a worker's counters, a worker for the
    sum of all.  COUNTS: the answer, and what a worker says last.
    """

    READY = "ready"
    STOP = "stop"
    RELOAD = "reload"
    ASK = "ask"
    COUNTS = "counts"


@dataclass(frozen=True, slots=True)
class RequestCount:
    """How many exchanges there were of one method and class of status."""

    method: str
    status_class: int
    count: int


@dataclass(frozen=True, slots=True)
class Counts:
    """A MetricsReading as it is carried."""

    holdings: tuple[int, int, int, int]
    connections_total: int
    connections_refused: int
    requests: list[RequestCount]
    endings: dict[str, int]
    sent_bytes: int
    received_bytes: int
    duration_counts: list[int]
    duration_sum_s: float


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `counts` goes with COUNTS alone."""

    kind: Kind
    counts: Counts | None = None


_SHAPE: Final = message_shape(Message)
_CODEC: Final = MsgpackCodec(PayloadLimits(max_payload_bytes=MAX_MESSAGE_BYTES))
_NOBODY: Final = MetricsReading()


def encode(message: Message) -> bytes:
    """Return the bytes of a message, with its length.  Raises PayloadError for one too long."""
    payload = _CODEC.encode(_SHAPE, message)
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


def take_message(buffer: EvBuffer) -> Message | None:
    """Take the first message out of what has come; None while it is not complete.

    Raises MessageError for what is none.
    """
    if len(buffer) < LENGTH_BYTES:
        return None
    length = int.from_bytes(buffer.copyout(LENGTH_BYTES), "big")
    if not 0 < length <= MAX_MESSAGE_BYTES:
        raise MessageError(f"a message has 1 to {MAX_MESSAGE_BYTES} bytes, not {length}")
    if len(buffer) < LENGTH_BYTES + length:
        return None
    buffer.drain(LENGTH_BYTES)
    try:
        message = _CODEC.decode(_SHAPE, buffer.remove(length))
    except PayloadError as exc:
        raise MessageError(f"not a message: {exc}") from exc
    if (message.kind is Kind.COUNTS) != (message.counts is not None):
        raise MessageError(f"counters go with COUNTS alone: {message!r}")
    return message


def counts_of(reading: MetricsReading) -> Message:
    """Return the message that carries a reading."""
    holdings = reading.holdings
    return Message(
        Kind.COUNTS,
        Counts(
            holdings=(holdings[0], holdings[1], holdings[2], holdings[3]),
            connections_total=reading.connections_total,
            connections_refused=reading.connections_refused,
            requests=[RequestCount(*key, count) for key, count in reading.requests.items()],
            endings={ending.name: count for ending, count in reading.endings.items()},
            sent_bytes=reading.sent_bytes,
            received_bytes=reading.received_bytes,
            duration_counts=list(reading.duration_counts),
            duration_sum_s=reading.duration_sum_s,
        ),
    )


def reading_of(counts: Counts) -> MetricsReading:
    """Return the reading that a message has carried.  Raises MessageError for what is none."""
    endings = Ending.__members__
    if len(counts.duration_counts) != len(_NOBODY.duration_counts):
        raise MessageError(f"not the buckets of durations: {counts.duration_counts!r}")
    try:
        return MetricsReading(
            holdings=Holdings(*counts.holdings),
            connections_total=counts.connections_total,
            connections_refused=counts.connections_refused,
            requests={(each.method, each.status_class): each.count for each in counts.requests},
            endings={endings[name]: count for name, count in counts.endings.items()},
            sent_bytes=counts.sent_bytes,
            received_bytes=counts.received_bytes,
            duration_counts=tuple(counts.duration_counts),
            duration_sum_s=counts.duration_sum_s,
        )
    except KeyError as exc:
        raise MessageError(f"not an ending of an exchange: {exc}") from None
