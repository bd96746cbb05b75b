"""What supervisor and workers say to each other, as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.core import EvBuffer
from evsvc.http import Ending, Holdings, MetricsReading
from evsvc.workers.messages import (
    MAX_MESSAGE_BYTES,
    Kind,
    Message,
    MessageError,
    counts_of,
    encode,
    reading_of,
    take_message,
)

READING = MetricsReading(
    holdings=Holdings(1, 2, 3, 4),
    connections_total=5,
    connections_refused=6,
    requests={("GET", 2): 7, ("none", 4): 8},
    endings={ending: number for number, ending in enumerate(Ending)},
    sent_bytes=2**40,
    received_bytes=10,
    duration_counts=tuple(range(14)),
    duration_sum_s=1.5,
)


def buffer_of(data: bytes) -> EvBuffer:
    buffer = EvBuffer()
    buffer.add(data)
    return buffer


@pytest.mark.parametrize(
    "message", [*(Message(kind) for kind in Kind if kind is not Kind.COUNTS), counts_of(READING)]
)
def test_a_message_comes_whole_however_it_is_cut(message) -> None:
    data = encode(message) * 2
    buffer, came = EvBuffer(), []
    for byte in data:
        buffer.add(bytes([byte]))
        if (found := take_message(buffer)) is not None:
            came.append(found)
    assert came == [message, message]
    assert len(buffer) == 0


def test_counters_come_as_they_went() -> None:
    message = take_message(buffer_of(encode(counts_of(READING))))
    assert message is not None
    assert message.counts is not None
    assert reading_of(message.counts) == READING


@pytest.mark.parametrize("length", [0, MAX_MESSAGE_BYTES + 1, 2**32 - 1])
def test_a_length_out_of_range_is_refused_at_once(length) -> None:
    with pytest.raises(MessageError, match=str(length)):
        take_message(buffer_of(length.to_bytes(4, "big")))


def test_a_length_at_the_limit_is_waited_for() -> None:
    assert take_message(buffer_of(MAX_MESSAGE_BYTES.to_bytes(4, "big"))) is None


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1",
        b"\x80",
        b"\x81\xa4kind\xa5other",
        b"\x81\xa4kind\xa6counts",  # without them
        encode(counts_of(READING))[4:].replace(b"\xa6counts", b"\xa5ready", 1),
    ],
)
def test_what_is_no_message_is_refused(payload) -> None:
    with pytest.raises(MessageError):
        take_message(buffer_of(framed(payload)))


@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_a_message_or_refused(payload) -> None:
    try:
        message = take_message(buffer_of(framed(payload)))
    except MessageError:
        return
    assert isinstance(message, Message)


@pytest.mark.parametrize("change", [{"duration_counts": [1]}, {"endings": {"OTHER": 1}}])
def test_counters_of_another_make_are_refused(change) -> None:
    counts = counts_of(READING).counts
    assert counts is not None
    fields = {name: getattr(counts, name) for name in counts.__dataclass_fields__}
    with pytest.raises(MessageError):
        reading_of(type(counts)(**{**fields, **change}))
