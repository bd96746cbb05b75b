"""How calls that share a WebSocket look on the wire, and how far each of them is: no sockets."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.core import EventBase
from evsvc.core.errors import ArgumentError
from evsvc.http import Headers
from evsvc.http.errors import LocalProtocolError
from evsvc.http.websocket import WebSocketOptions
from evsvc.rpc.websocket import RpcWebSocketOptions
from evsvc.rpc.websocket.flow import FIRST_CREDIT, NEXT, Flow, Phase, Step
from evsvc.rpc.websocket.frames import (
    FROM_CLIENT,
    FROM_SERVER,
    MAX_BODY_BYTES,
    MAX_CREDIT,
    MAX_HEAD_BYTES,
    Frame,
    FrameError,
    Kind,
    credit_of,
    decode,
    encode,
    encode_credit,
    encode_head,
    head_of,
)
from evsvc.rpc.websocket.intake import Intake
from evsvc.rpc.websocket.outgoing import Outgoing
from tests.rpc.conftest import Loop

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "rpc.md").read_text("utf-8")

EVERY = frozenset(Kind)
WITH_BODY = (Kind.BEGIN, Kind.REPLY, Kind.DATA)

tokens = st.text("abcXYZ019-_!~", min_size=1, max_size=12)
values = st.text(st.characters(max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=20).map(
    lambda text: text.strip(" \t")
)


def test_the_bytes_are_those_of_the_page() -> None:
    fields = Headers((("Rpc-Timeout", "2.000"),))
    head = encode_head("Add", fields, 100)
    msgpack = Headers((("Content-Type", "application/msgpack"),))
    begin = encode(Kind.BEGIN, 1, encode_head("Add", msgpack, 100), is_last=True)
    shown = re.search(r'81 (\w{8}) (\w{4}) "(.*?)"', PAGE)
    assert shown is not None
    number, length, text = shown.groups()
    assert (
        begin
        == bytes.fromhex("81" + number + length) + text.encode().decode("unicode_escape").encode()
    )
    begin = encode(Kind.BEGIN, 7, head + b"\x01", is_last=True)
    assert begin == b"\x81\0\0\0\x07" + b"\0\x19Add\r\nRpc-Timeout: 2.000\r\n" + b"\x01"
    assert encode(Kind.DATA, 7, b"xy") == b"\x03\0\0\0\x07xy"
    assert encode_credit(7, 65536) == b"\x04\0\0\0\x07\0\x01\0\0"
    assert encode(Kind.CANCEL, 7) == b"\x05\0\0\0\x07"
    assert encode(Kind.LEAVE, 0) == b"\x06\0\0\0\0"


@given(
    kind=st.sampled_from(WITH_BODY),
    call_id=st.integers(1, 2**32 - 1),
    payload=st.binary(min_size=1),
    is_last=st.booleans(),
)
def test_a_frame_is_read_as_it_was_written(
    kind: Kind, call_id: int, payload: bytes, is_last: bool
) -> None:
    data = encode(kind, call_id, payload, is_last=is_last)
    assert decode(data, EVERY) == Frame(kind, is_last, call_id, payload)


@given(
    first=st.text("abcABC.0129", min_size=1, max_size=128),
    fields=st.lists(st.tuples(tokens, values), max_size=8),
    body=st.binary(max_size=50),
)
def test_a_head_is_read_as_it_was_written(
    first: str, fields: list[tuple[str, str]], body: bytes
) -> None:
    head = encode_head(first, Headers(fields), MAX_HEAD_BYTES)
    got = head_of(Frame(Kind.BEGIN, False, 1, head + body), MAX_HEAD_BYTES)
    assert (got.first, got.body) == (first, body)
    assert got.fields == Headers(fields)


@given(data=st.binary(max_size=40))
def test_whatever_comes_is_a_frame_or_a_fault(data: bytes) -> None:
    try:
        frame = decode(data, EVERY)
        if frame.kind in (Kind.BEGIN, Kind.REPLY):
            head_of(frame, 30)
    except FrameError:
        pass


@given(block=st.binary(max_size=40))
def test_what_a_head_may_hold_is_what_headers_take(block: bytes) -> None:
    text = b"A\r\n" + block
    try:
        head = head_of(Frame(Kind.BEGIN, False, 1, len(text).to_bytes(2, "big") + text), 100)
    except FrameError:
        return
    assert Headers(head.fields.pairs) == head.fields


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "a frame of 0 bytes"),
        (b"\x01\0\0\0", "a frame of 4 bytes"),
        (b"\0\0\0\0\x01", "kind 0"),
        (b"\x07\0\0\0\x01", "kind 7"),
        (b"\x84\0\0\0\x01\0\0\0\x01", "kind 132"),
        (b"\x85\0\0\0\x01", "kind 133"),
        (b"\xff\0\0\0\x01", "kind 255"),
        (b"\x03\0\0\0\0x", "a DATA of call 0"),
        (b"\x03\0\0\0\x01", "a DATA of call 1 without bytes"),
        (b"\x04\0\0\0\x01\0\0\x01", "a CREDIT of 3 bytes"),
        (b"\x04\0\0\0\x01\0\0\0\x01x", "a CREDIT of 5 bytes"),
        (b"\x05\0\0\0\x01x", "a CANCEL with 1 bytes"),
        (b"\x06\0\0\0\x01x", "a LEAVE with 1 bytes"),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(FrameError, match=text):
        decode(data, EVERY)


def test_an_empty_frame_may_be_the_last() -> None:
    assert decode(b"\x83\0\0\0\x01", EVERY) == Frame(Kind.DATA, True, 1, b"")


@pytest.mark.parametrize("kind", Kind)
def test_each_side_sends_its_own_kinds(kind: Kind) -> None:
    payload = {Kind.CREDIT: b"\0\0\0\x01", Kind.CANCEL: b"", Kind.LEAVE: b""}.get(kind, b"x")
    data = encode(kind, 1, payload)
    for wanted, others in (
        (FROM_CLIENT, (Kind.REPLY, Kind.LEAVE)),
        (FROM_SERVER, (Kind.BEGIN, Kind.CANCEL)),
    ):
        if kind in others:
            with pytest.raises(FrameError, match=f"kind {int(kind)}"):
                decode(data, wanted)
        else:
            assert decode(data, wanted).kind is kind


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0",
        b"\0\0",
        b"\0\x05Add\r",
        b"\0\x04Add\r",
        b"\0\x02\r\n",
        b"\0\x05A d\r\n",
        b"\0\x09Add\r\na:b\r",
        b"\0\x0aAdd\r\n a:b\r\n",
        b"\0\x09Add\r\nab\r\n",
        b"\0\x0aAdd\r\na:\0\r\n",
        b"\0\x0cAdd\r\na:b\nc\r\n",
        b"\0\x0dAdd\r\na:b\r\n\r\n",
        b"\0\x83" + b"A" * 129 + b"\r\n",
    ],
)
def test_what_is_no_head_is_refused(payload: bytes) -> None:
    with pytest.raises(FrameError, match="head"):
        head_of(Frame(Kind.BEGIN, False, 1, payload), 1000)


@pytest.mark.parametrize("max_bytes", [24, 25])
def test_a_head_is_bounded_both_ways(max_bytes: int) -> None:
    fields = Headers((("Rpc-Timeout", "2.000"),))
    frame = Frame(Kind.BEGIN, False, 1, encode_head("Add", fields, 25))
    if max_bytes == 25:
        assert head_of(frame, max_bytes).first == "Add"
        return
    with pytest.raises(FrameError, match="a head of 25 bytes; the limit is 24"):
        head_of(frame, max_bytes)
    with pytest.raises(ArgumentError, match="a head of 25 bytes; the limit is 24: Add"):
        encode_head("Add", fields, max_bytes)


@pytest.mark.parametrize(("phase", "step"), list(itertools.product(Phase, Step)))
def test_only_listed_moves_are_legal(phase: Phase, step: Step) -> None:
    flow = Flow(FIRST_CREDIT)
    flow.incoming = flow.outgoing = phase
    act = {
        Step.HEAD: flow.receive_head,
        Step.DATA: lambda: flow.receive_body(1, is_last=False),
        Step.END: lambda: flow.receive_body(1, is_last=True),
    }[step]
    if (phase, step) in NEXT:
        act()
        flow.send(step)
        assert flow.incoming is flow.outgoing is NEXT[phase, step]
    else:
        with pytest.raises(FrameError, match=f"not legal while {phase.name}"):
            act()
        with pytest.raises(LocalProtocolError, match=f"{step.name} is not legal"):
            flow.send(step)


def begun(window_bytes: int = FIRST_CREDIT) -> Flow:
    flow = Flow(window_bytes)
    flow.receive_head()
    return flow


@pytest.mark.parametrize("size", [FIRST_CREDIT, FIRST_CREDIT + 1])
def test_a_body_goes_no_further_than_its_credit(size: int) -> None:
    flow = begun()
    if size == FIRST_CREDIT:
        flow.receive_body(size, is_last=False)
        with pytest.raises(FrameError, match="1 bytes of a body; there was credit for 0"):
            flow.receive_body(1, is_last=False)
    else:
        with pytest.raises(FrameError, match="there was credit for 65536"):
            flow.receive_body(size, is_last=False)


@given(
    window_bytes=st.integers(FIRST_CREDIT, 4 * FIRST_CREDIT),
    sizes=st.lists(st.integers(1, MAX_BODY_BYTES), max_size=60),
    taken=st.lists(st.booleans(), min_size=60, max_size=60),
)
def test_who_keeps_to_the_credit_never_has_more_waiting_than_the_window(
    window_bytes: int, sizes: list[int], taken: list[bool]
) -> None:
    flow = begun(window_bytes)
    credit, waiting = FIRST_CREDIT, 0
    for wanted, is_taken in zip(sizes, taken, strict=False):
        size = min(wanted, credit)
        if size:
            flow.receive_body(size, is_last=False)
            credit -= size
            waiting += size
        assert waiting <= window_bytes
        if is_taken:
            credit += flow.take(waiting)
            waiting = 0
            assert credit > 0, "all is taken, and nothing may be sent"


def test_no_credit_is_given_behind_the_end() -> None:
    flow = begun(4 * FIRST_CREDIT)
    flow.receive_body(100, is_last=True)
    assert flow.take(100) == 0


@pytest.mark.parametrize(
    ("count", "is_good"),
    [
        (0, False),
        (1, True),
        (MAX_CREDIT - FIRST_CREDIT, True),
        (MAX_CREDIT - FIRST_CREDIT + 1, False),
    ],
)
def test_credit_is_something_and_never_more_than_can_be_counted(count: int, is_good: bool) -> None:
    flow = Flow(FIRST_CREDIT)
    count = credit_of(decode(encode_credit(1, count), EVERY))
    if is_good:
        flow.receive_credit(count)
        assert flow.credit == FIRST_CREDIT + count
    else:
        with pytest.raises(FrameError, match="a credit of"):
            flow.receive_credit(count)


def outgoing(credit: int = FIRST_CREDIT) -> tuple[Outgoing, list[str]]:
    told: list[str] = []
    flow = Flow(FIRST_CREDIT)
    flow.credit = credit
    return Outgoing(1, flow, lambda: told.append("ended")), told


def frames_of(out: Outgoing) -> list[Frame]:
    frames = iter(out.next_frame, None)
    return [decode(frame, EVERY) for frame in frames]


HEAD = encode_head("A", Headers(), 100)


def test_a_whole_call_is_one_frame() -> None:
    out, _ = outgoing()
    out.begin(Kind.BEGIN, HEAD)
    out.put(b"body")
    out.finish()
    assert not out.has_begun
    assert frames_of(out) == [Frame(Kind.BEGIN, True, 1, HEAD + b"body")]
    assert (out.has_begun, out.is_ended) == (True, True)


@pytest.mark.parametrize("size", [MAX_BODY_BYTES, MAX_BODY_BYTES + 1])
def test_a_longer_body_goes_in_pieces(size: int) -> None:
    out, _ = outgoing()
    out.begin(Kind.BEGIN, HEAD)
    out.put(bytes(size))
    out.finish()
    frames = frames_of(out)
    assert [frame.is_last for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert len(frames) == 1 + (size > MAX_BODY_BYTES)
    assert sum(len(frame.payload) for frame in frames) == len(HEAD) + size


def test_a_body_waits_for_credit_and_small_pieces_go_together() -> None:
    out, _ = outgoing(credit=10)
    out.begin(Kind.REPLY, HEAD)
    for piece in (b"abcd", b"efgh", b"ijkl"):
        out.put(piece)
    assert frames_of(out) == [Frame(Kind.REPLY, False, 1, HEAD + b"abcdefghij")]
    assert out.has_pieces
    out.flow.receive_credit(1)
    assert frames_of(out) == [Frame(Kind.DATA, False, 1, b"k")]
    out.finish()
    assert frames_of(out) == []
    out.flow.receive_credit(100)
    assert frames_of(out) == [Frame(Kind.DATA, True, 1, b"l")]
    assert frames_of(out) == []


def test_an_end_needs_no_credit() -> None:
    out, _ = outgoing(credit=2)
    out.begin(Kind.REPLY, HEAD)
    out.put(b"ab")
    assert len(frames_of(out)) == 1
    out.finish()
    assert frames_of(out) == [Frame(Kind.DATA, True, 1, b"")]


def test_a_source_is_asked_as_far_as_the_credit_goes_and_one_piece() -> None:
    out, _ = outgoing(credit=5)
    asked: list[bytes | None] = [b"abc", b"def", b"", b"ghi", None]
    out.begin(Kind.BEGIN, HEAD)
    out.draw_from(lambda: asked.pop(0))
    assert frames_of(out) == [Frame(Kind.BEGIN, False, 1, HEAD + b"abcde")]
    assert asked == [b"", b"ghi", None]
    out.flow.receive_credit(3)
    frames = frames_of(out)
    assert [frame.payload for frame in frames] == [b"f", b"gh"], "it is asked until it has nothing"
    out.flow.receive_credit(9)
    assert frames_of(out) == [Frame(Kind.DATA, True, 1, b"i")]


def test_what_is_dropped_sends_nothing_more() -> None:
    out, told = outgoing(credit=5)
    out.begin(Kind.BEGIN, HEAD)
    out.put(b"abcdefgh")
    assert len(frames_of(out)) == 1
    out.drop()
    out.flow.receive_credit(9)
    assert (frames_of(out), told, out.has_pieces) == ([], [], False)


def test_a_body_that_is_not_taken_is_held_and_its_end_comes_last(
    base: EventBase, loop: Loop
) -> None:
    seen: list[object] = []
    intake = Intake(
        base,
        seen.append,
        lambda size: seen.append(size),
        lambda: seen.append("whole"),
        is_paused=True,
    )
    intake.receive(b"ab", is_last=False)
    intake.receive(b"cde", is_last=True)
    assert seen == []
    intake.resume()
    assert seen == [], "it comes from the loop"
    loop.settle()
    assert seen == [b"ab", 2, b"cde", 3, "whole"]


def test_a_taker_may_pause_or_close_a_body_at_each_piece(base: EventBase, loop: Loop) -> None:
    seen: list[object] = []

    def take(piece: bytes) -> None:
        seen.append(piece)
        if piece == b"stop":
            intake.close()
        intake.pause()

    intake = Intake(base, take, lambda size: None, lambda: seen.append("whole"), is_paused=False)
    for piece in (b"a", b"stop", b"c"):
        intake.receive(piece, is_last=piece == b"c")
    assert seen == [b"a"]
    for _ in range(5):
        intake.resume()
        loop.settle()
    assert seen == [b"a", b"stop"]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("max_calls", 1, 0),
        ("call_window_bytes", FIRST_CREDIT, FIRST_CREDIT - 1),
        ("call_window_bytes", MAX_CREDIT, MAX_CREDIT + 1),
        ("max_head_bytes", 1, 0),
        ("max_head_bytes", MAX_HEAD_BYTES, MAX_HEAD_BYTES + 1),
        ("max_unsent_bytes", 1, 0),
        ("max_unsent_bytes", 1024 * 1024, 1024 * 1024 + 1),
    ],
)
def test_options_are_checked_once(name: str, good: int, bad: int) -> None:
    assert getattr(RpcWebSocketOptions(**{name: good}), name) == good  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=f"{name} must be .*: {bad}"):
        RpcWebSocketOptions(**{name: bad})  # type: ignore[arg-type]


def test_a_websocket_takes_no_longer_message_than_a_frame_can_be() -> None:
    options = RpcWebSocketOptions(max_head_bytes=10, websocket=WebSocketOptions(ping_s=7.0))
    made = options.websocket_options()
    assert (made.max_message_bytes, made.ping_s) == (5 + 2 + 10 + MAX_BODY_BYTES, 7.0)
