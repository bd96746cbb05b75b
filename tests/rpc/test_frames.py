"""Frames: a law over every cut of the bytes, and what is refused."""

from __future__ import annotations

import pytest

from evsvc.core.errors import ArgumentError
from evsvc.rpc import PayloadError, StreamOptions
from evsvc.rpc.frames import FrameReader, encode_end, encode_message

MOST = 100


def read_all(reader: FrameReader) -> list[bytes]:
    payloads = []
    while (payload := reader.next_payload()) is not None:
        payloads.append(payload)
    return payloads


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 1000])
def test_frames_are_the_same_however_the_bytes_are_cut(step: int) -> None:
    payloads = [b"", b"a", b"x" * MOST]
    wire = b"".join(encode_message(each, MOST) for each in payloads) + encode_end(b"{}")
    reader, found = FrameReader(MOST), []
    for at in range(0, len(wire), step):
        reader.receive(wire[at : at + step])
        found += read_all(reader)
    assert (found, reader.end) == (payloads, b"{}")
    reader.require_end()


def test_a_message_over_the_limit_is_refused_before_its_bytes_come() -> None:
    reader = FrameReader(MOST)
    reader.receive((MOST + 1).to_bytes(5, "big"))
    with pytest.raises(PayloadError, match="a message of 101 bytes; the limit is 100"):
        reader.next_payload()


def test_a_message_over_the_limit_is_not_written() -> None:
    assert len(encode_message(bytes(MOST), MOST)) == MOST + 5
    with pytest.raises(PayloadError, match="a message of 101 bytes; the limit is 100"):
        encode_message(bytes(MOST + 1), MOST)


@pytest.mark.parametrize("flags", [1, 3, 4, 128, 255])
def test_unknown_flags_are_refused(flags: int) -> None:
    reader = FrameReader(MOST)
    reader.receive(bytes((flags, 0, 0, 0, 0)))
    with pytest.raises(PayloadError, match=f"unknown flags: {flags}"):
        reader.next_payload()


def test_bytes_behind_the_end_are_refused() -> None:
    reader = FrameReader(MOST)
    reader.receive(encode_end() + b"x")
    with pytest.raises(PayloadError, match="bytes behind the end"):
        reader.next_payload()


@pytest.mark.parametrize(("received", "where"), [(b"", ""), (b"\0\0", " within a frame")])
def test_a_stream_without_an_end_breaks_off(received: bytes, where: str) -> None:
    reader = FrameReader(MOST)
    reader.receive(received)
    assert reader.next_payload() is None
    with pytest.raises(PayloadError, match=f"breaks off{where}$"):
        reader.require_end()


@pytest.mark.parametrize("name", ["max_message_bytes", "max_backlog_bytes", "max_silence_s"])
def test_the_limits_of_a_stream_are_positive(name: str) -> None:
    StreamOptions(**{name: 1})
    with pytest.raises(ArgumentError, match=f"{name} must be positive: 0"):
        StreamOptions(**{name: 0})
