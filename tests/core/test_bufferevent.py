"""BufferEvent over connected sockets and pipes: data, watermarks, time-outs, ends, failures."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from evsvc.core import (
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    BEV_EVENT_TIMEOUT,
    BEV_EVENT_WRITING,
    BEV_OPT_CLOSE_ON_FREE,
    BEV_OPT_DEFER_CALLBACKS,
    BEV_OPT_UNLOCK_CALLBACKS,
    BEV_TRIG_DEFER_CALLBACKS,
    BEV_TRIG_IGNORE_WATERMARKS,
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
    Event,
    EventBase,
    FakeClock,
    SocketError,
    StateError,
)
from evsvc.core.bufferevent.sock import MAX_SINGLE_READ_BYTES, MAX_SINGLE_WRITE_BYTES

Pair = tuple[socket.socket, socket.socket]


class Boom(Exception):
    """What a callback of these tests raises."""


def boom(*args: object) -> None:
    raise Boom


def never(*args: object) -> None:
    pytest.fail("a callback ran that must not")


class Log:
    """Callbacks that write down what they were told."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.events: list[BevEvent] = []
        self.data = bytearray()

    def attach(self, bev: BufferEvent) -> BufferEvent:
        bev.setcb(self.read, self.write, self.event)
        return bev

    def read(self, bev: BufferEvent, ctx: object) -> None:
        self.calls.append("read")
        self.data += bev.read()

    def write(self, bev: BufferEvent, ctx: object) -> None:
        self.calls.append("write")

    def event(self, bev: BufferEvent, what: BevEvent, ctx: object) -> None:
        self.calls.append("event")
        self.events.append(what)


@pytest.fixture
def log() -> Log:
    return Log()


class CountingStream:
    """A socket that counts the system calls which send."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sends: list[int] = []

    def send(self, data: bytes) -> int:
        self.sends.append(len(data))
        return self.sock.send(data)

    def sendmsg(self, views: list[memoryview]) -> int:
        self.sends.append(sum(map(len, views)))
        return self.sock.sendmsg(views)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


def count_sends(bev: BufferEvent) -> list[int]:
    stream = CountingStream(bev.socket)  # type: ignore[arg-type]
    bev._stream = stream  # type: ignore[assignment]
    return stream.sends


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
def test_8333_bytes_cross(base: EventBase, pair: Pair, log: Log, options: int) -> None:
    """The sender's write callback runs once with an empty output, the receiver gets all."""
    payload = os.urandom(8333)
    left: list[int] = []
    with (
        BufferEvent(base, pair[0], options) as sender,
        BufferEvent(base, pair[1], options) as receiver,
    ):
        sender.setcb(None, lambda bev, ctx: left.append(len(bev.output)), never)
        log.attach(receiver).enable(EV_READ)
        sender.write(payload)
        assert sender.flush(EV_WRITE) is False
        base.post(lambda: None)
        while len(log.data) < len(payload):
            base.loop(EVLOOP_ONCE)
    assert log.data == payload
    assert left == [0]


def test_reads_pause_between_the_watermarks(base: EventBase, pair: Pair) -> None:
    """10/20 on the receiver, 65000 bytes: each callback sees 10..20 until all is read."""
    payload = os.urandom(65000)
    received, seen = bytearray(), []
    sender_left: list[int] = []

    def readable(bev: BufferEvent, ctx: object) -> None:
        seen.append(len(bev.input))
        received.extend(bev.read())

    with BufferEvent(base, pair[0]) as sender, BufferEvent(base, pair[1]) as receiver:
        sender.setcb(None, lambda bev, ctx: sender_left.append(len(bev.output)), None)
        sender.setwatermark(EV_WRITE, 100, 0)
        receiver.setcb(readable, None, never)
        receiver.setwatermark(EV_READ, 10, 20)
        assert receiver.getwatermark(EV_READ) == (10, 20)
        assert sender.getwatermark(EV_WRITE) == (100, 0)
        receiver.enable(EV_READ)
        sender.write(payload)
        while len(received) < len(payload):
            base.loop(EVLOOP_ONCE)
        assert not sender._write_armed
    assert received == payload
    assert min(seen) >= 10
    assert max(seen) <= 20
    assert sender_left
    assert max(sender_left) <= 100


@pytest.mark.parametrize("events", [0, EV_READ | EV_WRITE])
def test_watermarks_are_asked_for_one_direction(base: EventBase, pair: Pair, events: int) -> None:
    with BufferEvent(base, pair[0]) as bev:
        with pytest.raises(ArgumentError):
            bev.getwatermark(events)
        with pytest.raises(ArgumentError, match="-1"):
            bev.setwatermark(EV_READ, 0, -1)


def test_a_program_that_reads_nothing_does_not_starve_the_loop(base: EventBase, pair: Pair) -> None:
    """Above the high watermark it is called every pass, and timers run meanwhile."""
    calls: list[int] = []
    with BufferEvent(base, pair[0]) as bev:
        bev.setcb(lambda bev, ctx: calls.append(len(bev.input)), None, never)
        bev.setwatermark(EV_READ, 0, 4)
        bev.enable(EV_READ)
        pair[1].send(b"12345678")
        base.loopexit(0.01)
        assert base.dispatch() == 0
        assert base.got_exit()
        assert len(calls) > 2
        assert set(calls) == {4}
        bev.setwatermark(EV_READ, 0, 0)
        base.loop(EVLOOP_NONBLOCK)
        assert bev.read() == b"12345678"


def test_data_put_back_over_the_high_watermark_is_no_end_of_file(
    base: EventBase, pair: Pair, log: Log
) -> None:
    with BufferEvent(base, pair[0]) as bev:
        bev.setcb(None, None, log.event)
        bev.setwatermark(EV_READ, 0, 4)
        bev.enable(EV_READ)
        bev.input.prepend(b"12345")
        pair[1].send(b"678")
        base.loop(EVLOOP_NONBLOCK)
        assert log.events == []
        assert bev.read(3) == b"123"
        base.loop(EVLOOP_NONBLOCK)
        assert bev.read() == b"4567"


def test_below_the_low_watermark_data_waits_and_is_there_at_the_end(
    base: EventBase, pair: Pair, log: Log
) -> None:
    with BufferEvent(base, pair[0]) as bev:
        bev.setcb(never, None, log.event)
        bev.setwatermark(EV_READ, 10, 0)
        bev.enable(EV_READ)
        pair[1].send(b"short")
        pair[1].close()
        assert base.dispatch() == 1
        assert log.events == [BEV_EVENT_READING | BEV_EVENT_EOF]
        assert bev.read() == b"short"


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


def test_timeouts_fire_once_and_disable_their_direction(
    fake_base: EventBase, clock: FakeClock
) -> None:
    """Without a descriptor: READ 150 ms and WRITE 100 ms; no data callback."""
    start = clock.monotonic()
    told: list[tuple[float, BevEvent]] = []
    with BufferEvent(fake_base) as bev:
        bev.setcb(
            never, never, lambda bev, what, ctx: told.append((clock.monotonic() - start, what))
        )
        bev.set_timeouts(0.15, 0.1)
        bev.enable(EV_READ | EV_WRITE)
        assert fake_base.dispatch() == 1
        assert told == [
            (pytest.approx(0.1), BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING),
            (pytest.approx(0.15), BEV_EVENT_TIMEOUT | BEV_EVENT_READING),
        ]
        assert bev.enabled == 0


def test_a_direction_that_is_disabled_or_has_nothing_to_do_does_not_time_out(
    fake_base: EventBase, pair: Pair
) -> None:
    with BufferEvent(fake_base, pair[0]) as bev:
        bev.setcb(None, None, never)
        bev.set_timeouts(1, 1)
        assert fake_base.dispatch() == 1
        bev.enable(EV_READ)
        bev.disable(EV_READ)
        assert fake_base.dispatch() == 1
        bev.enable(EV_READ)
        bev.set_timeouts(None, 0)
        fake_base.loopexit(5)
        assert fake_base.dispatch() == 0


def test_each_read_restarts_the_read_timeout_and_writes_do_not(
    fake_base: EventBase, pair: Pair, clock: FakeClock, log: Log
) -> None:
    start = clock.monotonic()
    ended: list[float] = []
    with log.attach(BufferEvent(fake_base, pair[0])) as bev:
        bev.setcb(log.read, None, lambda *_: ended.append(clock.monotonic() - start))
        bev.set_timeouts(10, None)
        bev.enable(EV_READ)
        for seconds in (6, 12):
            fake_base.timer(lambda *_: pair[1].send(b"x")).add(seconds)
        for seconds in (15, 18, 21):
            fake_base.timer(lambda *_: bev.write(b"y")).add(seconds)
        assert fake_base.dispatch() == 1
    assert ended == [pytest.approx(22)]


def test_a_peer_that_does_not_read_times_the_writer_out_whatever_is_added(
    fake_base: EventBase, pair: Pair, clock: FakeClock
) -> None:
    start = clock.monotonic()
    ended: list[tuple[float, BevEvent]] = []

    with BufferEvent(fake_base, pair[0]) as bev:
        bev.setcb(
            None, None, lambda bev, what, ctx: ended.append((clock.monotonic() - start, what))
        )
        bev.set_timeouts(None, 10)
        bev.write(bytes(4_000_000))
        for seconds in (4, 8, 12):
            fake_base.timer(lambda *_: bev.write(b"more")).add(seconds)
        fake_base.dispatch()
        assert bev.enabled == 0
    assert ended == [(pytest.approx(10), BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING)]


def test_negative_timeouts_are_refused(base: EventBase, pair: Pair) -> None:
    with BufferEvent(base, pair[0]) as bev:
        for values in ((-1, None), (None, -1), (float("nan"), None)):
            with pytest.raises(ArgumentError):
                bev.set_timeouts(*values)


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


def close_bev(bev: BufferEvent, *args: object) -> None:
    bev.close()


@pytest.mark.parametrize("options", [0, BEV_OPT_DEFER_CALLBACKS])
@pytest.mark.parametrize("which", ["read", "write", "event"])
def test_each_callback_may_close(base: EventBase, pair: Pair, which: str, options: int) -> None:
    bev = BufferEvent(base, pair[0], options | BEV_OPT_CLOSE_ON_FREE)
    closed: list[str] = []

    def callback(name: str) -> Callable[..., None]:
        def run(bev: BufferEvent, *args: object) -> None:
            assert not closed
            if name == which:
                closed.append(name)
                bev.close()

        return run

    bev.setcb(callback("read"), callback("write"), callback("event"))
    bev.enable(EV_READ)
    bev.write(b"out")
    pair[1].send(b"in")
    pair[1].shutdown(socket.SHUT_WR)
    assert base.dispatch() == 1
    assert closed == [which]
    assert pair[0].fileno() == -1
    assert bev.fd == -1
    assert bev.socket is None
    assert bev.getcb() == (None, None, None, None)


@pytest.mark.parametrize("options", [0, BEV_OPT_DEFER_CALLBACKS])
@pytest.mark.parametrize("which", ["read", "write", "event"])
@pytest.mark.parametrize("handled", [False, True])
def test_an_exception_from_each_callback_leaves_the_base_and_the_rest_whole(
    base: EventBase, pair: Pair, which: str, options: int, handled: bool
) -> None:
    ran: list[str] = []
    caught: list[Exception] = []

    def callback(name: str) -> Callable[..., None]:
        def run(*args: object) -> None:
            ran.append(name)
            if name == which and ran.count(name) == 1:
                raise Boom

        return run

    with BufferEvent(base, pair[0], options) as bev:
        bev.setcb(callback("read"), callback("write"), callback("event"))
        bev.enable(EV_READ)
        bev.write(b"out")
        pair[1].send(b"in")
        pair[1].shutdown(socket.SHUT_WR)
        if handled:
            base.exception_handler = caught.append
        else:
            with pytest.raises(Boom):
                base.dispatch()
        assert base.dispatch() == 1
    assert sorted(ran) == ["event", "read", "write"]
    assert len(caught) == handled


def test_an_exception_over_the_high_watermark_does_not_stall(base: EventBase, pair: Pair) -> None:
    got: list[bytes] = []

    def readable(bev: BufferEvent, ctx: object) -> None:
        if not got:
            got.append(b"")
            raise Boom
        got.append(bev.read())

    with BufferEvent(base, pair[0]) as bev:
        base.exception_handler = lambda exc: None
        bev.setcb(readable, None, None)
        bev.setwatermark(EV_READ, 0, 4)
        bev.enable(EV_READ)
        pair[1].send(b"12345678")
        base.loop(EVLOOP_NONBLOCK)
    assert got == [b"", b"1234", b"5678"]


def test_deferred_callbacks_come_in_order_and_only_once(
    base: EventBase, pair: Pair, log: Log
) -> None:
    """Connected, read, write, then all other events in one call."""
    with log.attach(BufferEvent(base, pair[0], BEV_OPT_DEFER_CALLBACKS)) as bev:
        for what in (BEV_EVENT_EOF, BevEvent.BEV_EVENT_CONNECTED, BEV_EVENT_READING):
            bev.trigger_event(what)
        for _ in range(3):
            bev.trigger(EV_WRITE)
            bev.trigger(EV_READ)
        assert log.calls == []
        assert base.dispatch() == 1
        assert log.calls == ["event", "read", "write", "event"]
        assert log.events == [BevEvent.BEV_EVENT_CONNECTED, BEV_EVENT_EOF | BEV_EVENT_READING]


def test_a_deferred_callback_that_raises_leaves_the_others_waiting(
    base: EventBase, pair: Pair, log: Log
) -> None:
    with BufferEvent(base, pair[0], BEV_OPT_DEFER_CALLBACKS) as bev:
        bev.setcb(boom, log.write, log.event)
        bev.trigger(EV_READ | EV_WRITE)
        bev.trigger_event(BEV_EVENT_EOF)
        with pytest.raises(Boom):
            base.dispatch()
        assert log.calls == []
        assert base.dispatch() == 1
        assert log.calls == ["write", "event"]


def test_no_deferred_callback_comes_after_close(base: EventBase, pair: Pair) -> None:
    bev = BufferEvent(base, pair[0], BEV_OPT_DEFER_CALLBACKS)
    bev.setcb(never, never, never)
    bev.trigger(EV_READ | EV_WRITE)
    bev.close()
    assert base.dispatch() == 1


def test_trigger_keeps_to_the_watermarks_unless_told_not_to(
    base: EventBase, pair: Pair, log: Log
) -> None:
    with log.attach(BufferEvent(base, pair[0])) as bev:
        bev.setwatermark(EV_READ, 1, 0)
        bev.trigger(EV_READ)
        assert log.calls == []
        bev.trigger(EV_READ, BEV_TRIG_IGNORE_WATERMARKS)
        assert log.calls == ["read"]
        bev.trigger(EV_READ, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS)
        assert log.calls == ["read"]
        assert base.dispatch() == 1
        assert log.calls == ["read", "read"]
        bev.trigger_event(0x10)
        assert log.events == [BEV_EVENT_EOF]


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


def test_pipes_by_descriptor_number(base: EventBase, log: Log) -> None:
    read_fd, write_fd = os.pipe()
    payload = os.urandom(200_000)
    with (
        BufferEvent(base, write_fd, BEV_OPT_CLOSE_ON_FREE) as sender,
        log.attach(BufferEvent(base, read_fd, BEV_OPT_CLOSE_ON_FREE)) as receiver,
    ):
        assert sender.socket is None
        assert sender.fd == write_fd
        sender.setcb(None, close_bev, never)
        sender.write(payload)
        receiver.enable(EV_READ)
        assert base.dispatch() == 1
    assert log.data == payload
    assert log.events == [BEV_EVENT_READING | BEV_EVENT_EOF]
    for fd in (read_fd, write_fd):
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


@pytest.mark.parametrize("kind", ["number", "socket"])
def test_without_close_on_free_the_descriptor_stays_open(
    base: EventBase, pair: Pair, kind: str
) -> None:
    with BufferEvent(base, pair[0] if kind == "socket" else pair[0].fileno()) as bev:
        assert isinstance(bev.socket, socket.socket)
        bev.write(b"x")
        base.dispatch()
    pair[0].send(b"y")
    assert pair[1].recv(9) == b"xy"


def test_what_is_no_descriptor_is_refused(base: EventBase) -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    os.close(write_fd)
    with pytest.raises(SocketError, match=str(read_fd)):
        BufferEvent(base, read_fd)
    with pytest.raises(ArgumentError, match="-7"):
        BufferEvent(base, -7)
    with pytest.raises(ArgumentTypeError, match="str"):
        BufferEvent(base, "1")  # type: ignore[arg-type]
    assert BufferEvent(base, -1).fd == -1


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


def test_the_priority_is_that_of_all_callbacks(base: EventBase, pairs: Callable[[], Pair]) -> None:
    base.priority_init(3)
    ran: list[str] = []
    (ours, peer), (other, _) = pairs(), pairs()
    with BufferEvent(base, ours) as bev:
        assert bev.priority == 1
        bev.priority = 2
        bev.setcb(lambda *_: ran.append("bev"), None, None)
        bev.enable(EV_READ)
        peer.send(b"x")
        Event(base, other, EV_WRITE, lambda *_: ran.append("other")).add()
        base.loop(EVLOOP_NONBLOCK)
        assert ran == ["other", "bev"]
        for wrong in (-1, 3):
            with pytest.raises(ArgumentError, match=str(wrong)):
                bev.priority = wrong
        bev.trigger(EV_READ, BEV_TRIG_DEFER_CALLBACKS)
        with pytest.raises(StateError):
            bev.priority = 0
        assert bev.priority == 2


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
        echo.setcb(lambda peer, ctx: peer.write_buffer(peer.input), None, None)
        echo.enable(EV_READ)
        bev.setcb(lambda bev, ctx: (from_peer.append(bev.read()), base.loopbreak()), None, None)
        bev.enable(EV_READ)
        bev.write(b"there and back")
        base.dispatch()
    assert from_peer == [b"there and back"]
