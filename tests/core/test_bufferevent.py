"""BufferEvent over connected sockets: data, ends, failures, and what it costs."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from evsvc.core import (
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    BEV_EVENT_WRITING,
    BEV_FINISHED,
    BEV_FLUSH,
    BEV_NORMAL,
    BEV_OPT_CLOSE_ON_FREE,
    BEV_OPT_DEFER_CALLBACKS,
    BEV_OPT_UNLOCK_CALLBACKS,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    ArgumentError,
    ArgumentTypeError,
    BevEvent,
    BufferEvent,
    ChangeInfo,
    EvBuffer,
    EventBase,
    StateError,
)
from evsvc.core.bufferevent.flow import MAX_SINGLE_READ_BYTES, MAX_SINGLE_WRITE_BYTES
from tests.core.bevs import Log, Pair, count_sends, never

pytestmark = pytest.mark.every_backend


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_fresh_one_writes_and_does_not_read(base: EventBase, pair: Pair) -> None:
    """Enabled masks: fresh WRITE; after enabling READ, READ|WRITE."""
    with BufferEvent(base, pair[0]) as bev:
        assert bev.enabled == EV_WRITE
        assert base.dispatch() == 1
        bev.enable(EV_READ)
        assert bev.enabled == EV_READ | EV_WRITE
        bev.disable(EV_READ)
        assert bev.enabled == EV_WRITE
        assert bev.fd == pair[0].fileno()
        assert bev.socket is pair[0]
        assert bev.base is base


@pytest.mark.parametrize("options", [0, BEV_OPT_DEFER_CALLBACKS])
@pytest.mark.parametrize("mode", [None, BEV_NORMAL, BEV_FLUSH, BEV_FINISHED])
def test_8333_bytes_cross(
    base: EventBase, pair: Pair, log: Log, options: int, mode: int | None
) -> None:
    """The sender's write callback runs once with an empty output, the receiver gets all.

    With and without a flush of each mode, which does nothing on sockets.
    """
    payload = os.urandom(8333)
    left: list[int] = []
    with (
        BufferEvent(base, pair[0], options) as sender,
        BufferEvent(base, pair[1], options) as receiver,
    ):
        sender.setcb(None, lambda bev, ctx: left.append(len(bev.output)), never)
        log.attach(receiver).enable(EV_READ)
        sender.write(payload)
        if mode is not None:
            assert sender.flush(EV_READ | EV_WRITE, mode) is False
        while len(log.data) < len(payload):
            base.loop(EVLOOP_ONCE)
    assert log.data == payload
    assert left == [0]


def test_data_comes_before_the_end_of_file(base: EventBase, pair: Pair, log: Log) -> None:
    with log.attach(BufferEvent(base, pair[0])) as bev:
        bev.enable(EV_READ)
        pair[1].send(b"last words")
        pair[1].close()
        assert base.dispatch() == 1
        assert log.calls == ["read", "event"]
        assert log.data == b"last words"
        assert bev.enabled == EV_WRITE


def test_after_a_half_close_the_other_half_still_carries(
    base: EventBase, pair: Pair, log: Log
) -> None:
    with log.attach(BufferEvent(base, pair[0])) as bev:
        bev.enable(EV_READ)
        pair[1].shutdown(socket.SHUT_WR)
        bev.setcb(None, None, lambda bev, what, ctx: bev.write(b"answer"))
        assert base.dispatch() == 1
        assert pair[1].recv(99) == b"answer"


def test_sixteen_writes_in_one_pass_are_one_send(base: EventBase, pair: Pair) -> None:
    with BufferEvent(base, pair[0]) as bev:
        sends = count_sends(bev)
        for _ in range(16):
            base.once(-1, EV_TIMEOUT, lambda *_: bev.write(b"0123456789abcdef"))
        assert base.dispatch() == 1
        assert sends == [256]
        assert pair[1].recv(999) == b"0123456789abcdef" * 16


def test_a_write_from_outside_the_loop_goes_out_first(base: EventBase, pair: Pair) -> None:
    with BufferEvent(base, pair[0]) as bev:
        bev.write(b"a")
        with pytest.raises(BlockingIOError):
            pair[1].recv(9)
        seen: list[bytes] = []
        base.once(-1, EV_TIMEOUT, lambda *_: seen.append(pair[1].recv(9)))
        assert base.dispatch() == 1
        assert seen == [b"a"]


def test_writers_send_in_the_order_of_their_first_write(
    base: EventBase, pairs: Callable[[], Pair]
) -> None:
    order: list[int] = []
    bevs = [BufferEvent(base, pairs()[0]) for _ in range(3)]
    for index, bev in enumerate(bevs):
        bev.setcb(None, lambda bev, index: order.append(index), None, index)
    for index in (2, 0, 1, 2):
        bevs[index].write(b"x")
    base.dispatch()
    assert order == [2, 0, 1]
    for bev in bevs:
        bev.close()


@pytest.mark.parametrize("chunk_bytes", [1000, 300_000])
def test_a_large_payload_arrives_whole_and_ev_write_is_armed_only_meanwhile(
    base: EventBase, pair: Pair, log: Log, chunk_bytes: int
) -> None:
    payload = os.urandom(3_000_000)
    armed: list[bool] = []
    with BufferEvent(base, pair[0]) as sender, log.attach(BufferEvent(base, pair[1])) as receiver:
        for start in range(0, len(payload), chunk_bytes):
            sender.write(payload[start : start + chunk_bytes])
        assert not sender._write_armed
        receiver.enable(EV_READ)
        while len(log.data) < len(payload):
            base.loop(EVLOOP_ONCE)
            armed.append(sender._write_armed)
            if not len(sender.output):
                assert not sender._write_armed
        assert any(armed)
        assert log.data == payload
        sender.write(b"!")
        base.loop(EVLOOP_ONCE)
        assert not sender._write_armed


def test_where_the_kernel_takes_nothing_the_output_waits_for_it(
    base: EventBase, pair: Pair, log: Log
) -> None:
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += pair[0].send(bytes(4096))
    with log.attach(BufferEvent(base, pair[0])) as bev:
        bev.write(b"last")
        base.loop(EVLOOP_NONBLOCK)
        assert log.calls == []
        assert len(bev.output) == 4
        while filled:
            filled -= len(pair[1].recv(min(filled, 65536)))
        assert base.dispatch() == 1
        assert pair[1].recv(9) == b"last"
        assert log.calls == ["write"]


def test_a_readiness_with_nothing_to_read_is_no_event(
    base: EventBase, pair: Pair, log: Log
) -> None:
    with log.attach(BufferEvent(base, pair[0])) as bev:
        bev.enable(EV_READ)
        pair[1].send(b"x")
        assert pair[0].recv(9) == b"x"
        bev._on_readable(bev.fd, EV_READ, None)
        assert log.calls == []
        assert bev.enabled == EV_READ | EV_WRITE


def test_nothing_is_written_while_writing_is_disabled(base: EventBase, pair: Pair) -> None:
    with BufferEvent(base, pair[0]) as bev:
        bev.disable(EV_WRITE)
        bev.write(b"later")
        assert base.dispatch() == 1
        with pytest.raises(BlockingIOError):
            pair[1].recv(9)
        bev.enable(EV_WRITE)
        assert base.dispatch() == 1
        assert pair[1].recv(9) == b"later"


def test_enabling_writing_gets_one_write_callback(base: EventBase, pair: Pair, log: Log) -> None:
    """Even with an empty output."""
    with log.attach(BufferEvent(base, pair[0])) as bev:
        bev.enable(EV_WRITE)
        assert base.dispatch() == 1
        assert log.calls == ["write"]


@pytest.mark.parametrize("end", ["close", "disable"])
def test_an_output_callback_may_close_or_disable_in_the_middle_of_a_send(
    base: EventBase, pair: Pair, end: str
) -> None:
    with BufferEvent(base, pair[0]) as bev:
        bev.write(bytes(4_000_000))

        def sent(buffer: object, info: ChangeInfo, arg: object) -> None:
            if info.n_deleted and bev.enabled:
                bev.close() if end == "close" else bev.disable(EV_WRITE)

        bev.output.add_cb(sent)
        base.loop(EVLOOP_NONBLOCK)
        assert bev.enabled == 0
        assert base.dispatch() == 1


def test_what_an_output_callback_raises_is_not_taken_for_a_socket_error(
    base: EventBase, pair: Pair
) -> None:
    def fail(buffer: object, info: object, arg: object) -> None:
        raise OSError(5, "not the socket's")

    with BufferEvent(base, pair[0]) as bev:
        bev.setcb(None, None, never)
        bev.write(b"x")
        bev.output.add_cb(fail)
        with pytest.raises(OSError, match="not the socket's"):
            base.dispatch()
        assert pair[1].recv(9) == b"x"
        assert bev.error is None


def test_a_reset_connection_is_an_error_with_errno(base: EventBase, log: Log) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    with log.attach(BufferEvent(base, client, BEV_OPT_CLOSE_ON_FREE)) as bev:
        bev.enable(EV_READ)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.close()
        assert base.dispatch() == 1
        assert log.events == [BEV_EVENT_READING | BEV_EVENT_ERROR]
        assert isinstance(bev.error, ConnectionResetError)
        assert bev.error.__traceback__ is None
        assert bev.enabled == EV_WRITE
    listener.close()


def test_writing_to_a_gone_peer_is_an_error_once(base: EventBase, pair: Pair, log: Log) -> None:
    with log.attach(BufferEvent(base, pair[0])) as bev:
        pair[1].close()
        bev.write(b"x")
        assert base.dispatch() == 1
        assert log.events == [BEV_EVENT_WRITING | BEV_EVENT_ERROR]
        assert isinstance(bev.error, BrokenPipeError)
        bev.write(b"y")
        assert base.dispatch() == 1
        assert len(log.events) == 1


def test_options_that_do_not_go_together_are_refused(base: EventBase) -> None:
    with pytest.raises(ArgumentError):
        BufferEvent(base, None, BEV_OPT_UNLOCK_CALLBACKS)
    with pytest.raises(ArgumentError, match="0x10"):
        BufferEvent(base, None, 0x10)
    BufferEvent(base, None, BEV_OPT_UNLOCK_CALLBACKS | BEV_OPT_DEFER_CALLBACKS).close()


def test_the_buffers_ends_belong_to_the_bufferevent(base: EventBase, pair: Pair) -> None:
    """The input's end and the output's start are frozen; a frozen input keeps its bytes."""
    with BufferEvent(base, pair[0]) as bev:
        with pytest.raises(StateError):
            bev.input.add(b"x")
        bev.output.add(b"x")
        with pytest.raises(StateError):
            bev.output.drain(1)
        with pytest.raises(ArgumentTypeError):
            bev.write("text")  # type: ignore[arg-type]
        assert len(bev.output) == 1


def test_a_frozen_input_gives_nothing_and_keeps_its_bytes(base: EventBase, pair: Pair) -> None:
    """Reading with a frozen start is 0 bytes, not an error."""
    with BufferEvent(base, pair[0]) as bev:
        bev.enable(EV_READ)
        pair[1].send(b"x")
        base.loop(EVLOOP_NONBLOCK)
        bev.input.freeze(at_front=True)
        assert bev.read() == b""
        assert bev.read(1) == b""
        bev.input.unfreeze(at_front=True)
        assert bev.read() == b"x"


@pytest.mark.parametrize(
    ("size", "is_set"), [(1, True), (2**31 - 1, True), (2**31, False), (0, False), (2**70, False)]
)
def test_the_most_bytes_of_one_call_have_a_range(
    base: EventBase, pair: Pair, size: int, is_set: bool
) -> None:
    """0 or huge is the default; the cap of reading is that of the input buffer, too."""
    with BufferEvent(base, pair[0]) as bev:
        bev.max_single_read = bev.max_single_write = size
        assert bev.max_single_read == (size if is_set else MAX_SINGLE_READ_BYTES)
        assert bev.input.max_read == bev.max_single_read
        assert bev.max_single_write == (size if is_set else MAX_SINGLE_WRITE_BYTES)


def test_a_file_crosses_and_one_that_cannot_be_read_is_an_error(
    base: EventBase, pair: Pair, log: Log, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    payload = os.urandom(1_000_000)
    path.write_bytes(payload)
    errors: list[BevEvent] = []
    with BufferEvent(base, pair[0]) as sender, log.attach(BufferEvent(base, pair[1])) as receiver:
        sender.setcb(None, None, lambda bev, what, ctx: (errors.append(what), base.loopbreak()))
        receiver.enable(EV_READ)
        sender.write(b"head")
        sender.output.add_file(os.open(path, os.O_RDONLY), 0, -1)
        sender.write(b"tail")
        while len(log.data) < len(payload) + 8:
            base.loop(EVLOOP_ONCE)
        assert log.data == b"head" + payload + b"tail"
        sender.output.add_file(os.open(path, os.O_RDONLY), 0, -1)
        path.write_bytes(b"")
        base.dispatch()
        assert errors == [BEV_EVENT_WRITING | BEV_EVENT_ERROR]
        assert sender.error is not None


def test_after_close_every_call_says_so(base: EventBase, pair: Pair) -> None:
    bev = BufferEvent(base, pair[0])
    bev.write(b"dropped")
    bev.close()
    bev.close()
    assert bev.closed
    calls: list[Callable[[], object]] = [
        lambda: bev.write(b"x"),
        lambda: bev.enable(EV_READ),
        lambda: bev.disable(EV_READ),
        lambda: bev.setcb(None, None, None),
        lambda: bev.set_timeouts(1, 1),
        lambda: bev.connect(("127.0.0.1", 1)),
        lambda: bev.trigger(EV_READ),
        lambda: bev.trigger_event(BEV_EVENT_EOF),
        lambda: bev.setfd(pair[0]),
        lambda: bev.replacefd(pair[0]),
        lambda: bev.flush(EV_WRITE),
        lambda: bev.setwatermark(EV_READ, 1, 1),
        lambda: bev.write_buffer(EvBuffer(b"x")),
        lambda: bev.set_datacb(None),
        lambda: bev.connect_hostname(None, socket.AF_INET, "127.0.0.1", 1),
        lambda: setattr(bev, "priority", 0),
    ]
    for call in calls:
        with pytest.raises(StateError, match="closed"):
            call()
    assert bev.read() == b""
    assert base.dispatch() == 1
    with pytest.raises(BlockingIOError):
        pair[1].recv(9)


@pytest.mark.parametrize("size", [1, 5])
def test_one_readiness_brings_at_most_so_many_bytes(base: EventBase, pair: Pair, size: int) -> None:
    seen: list[int] = []
    with BufferEvent(base, pair[0]) as bev:
        bev.max_single_read = size
        bev.setcb(lambda bev, ctx: seen.append(len(bev.read())), None, None)
        bev.enable(EV_READ)
        pair[1].send(b"0123456789")
        base.loop(EVLOOP_NONBLOCK)
        assert seen == [size] * (10 // size)
        bev.max_single_read = bev.max_single_write = 0
        assert bev.max_single_read == MAX_SINGLE_READ_BYTES
        assert bev.max_single_write == MAX_SINGLE_WRITE_BYTES
        with pytest.raises(ArgumentError, match="-1"):
            bev.max_single_read = -1
        with pytest.raises(ArgumentError, match="-1"):
            bev.max_single_write = -1


@pytest.mark.parametrize(("extra", "sends"), [(0, [8]), (1, [8, 1])])
def test_one_send_offers_at_most_so_many_bytes(
    base: EventBase, pair: Pair, extra: int, sends: list[int]
) -> None:
    with BufferEvent(base, pair[0]) as bev:
        bev.max_single_write = 8
        counted = count_sends(bev)
        bev.write(b"12345678" + b"9" * extra)
        assert base.dispatch() == 1
        assert counted == sends


def test_a_data_callback_gets_what_came_past_the_input(base: EventBase, pair: Pair) -> None:
    """It may close; without it the input is filled again."""
    got: list[tuple[bytes, object]] = []

    def take(bev: BufferEvent, data: bytes, ctx: object) -> None:
        got.append((data, ctx))
        if data == b"end":
            bev.close()

    bev = BufferEvent(base, pair[0])
    bev.setcb(never, None, never, "ctx")
    bev.set_datacb(take)
    bev.enable(EV_READ)
    pair[1].send(b"one")
    base.loop(EVLOOP_NONBLOCK)
    assert len(bev.input) == 0
    bev.set_datacb(None)
    bev.setcb(None, None, never, "ctx")
    pair[1].send(b"two")
    base.loop(EVLOOP_NONBLOCK)
    assert bev.read() == b"two"
    bev.set_datacb(take)
    pair[1].send(b"end")
    assert base.dispatch() == 1
    assert got == [(b"one", "ctx"), (b"end", "ctx")]


def test_buffers_move_in_and_out_without_copies(base: EventBase, pair: Pair) -> None:
    from_peer = []
    with BufferEvent(base, pair[0]) as bev, BufferEvent(base, pair[1]) as echo:
        moved = EvBuffer()
        echo.setcb(
            lambda peer, ctx: (peer.read_buffer(moved), peer.write_buffer(moved)), None, None
        )
        echo.enable(EV_READ)
        bev.setcb(lambda bev, ctx: (from_peer.append(bev.read()), base.loopbreak()), None, None)
        bev.enable(EV_READ)
        bev.write(b"there and back")
        base.dispatch()
    assert from_peer == [b"there and back"]
