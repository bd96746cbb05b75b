"""Files through a bufferevent, sent by the kernel whatever their size; and one over a file."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_EVENT_READING,
    BEV_OPT_CLOSE_ON_FREE,
    EV_READ,
    EV_WRITE,
    EVLOOP_ONCE,
    BevEvent,
    BufferEvent,
    EventBase,
    FakeClock,
    TokenBucketCfg,
)
from tests.core.bevs import Boom, boom
from tests.core.flat_memory import GIB, Discarding, reads_memory, resident_bytes

pytestmark = pytest.mark.every_backend


@pytest.mark.no_cover
@reads_memory
def test_a_file_of_1_gib_goes_through_a_bufferevent_in_flat_memory(tmp_path: Path) -> None:
    """Its bytes never enter Python: less than 20 MiB more are resident at any time than before.

    What stands before and after the file in the output is sent before and after it.
    """
    file = (tmp_path / "sparse").open("w+b")
    file.truncate(GIB)
    receiver = Discarding()
    receiver.start()
    drained: list[bool] = []
    events: list[BevEvent] = []
    with EventBase() as base, BufferEvent(base, None, BEV_OPT_CLOSE_ON_FREE) as bev:
        bev.setcb(None, lambda *_: drained.append(True), lambda bev, what, ctx: events.append(what))
        bev.connect(receiver.address)
        bev.write(b"head")
        bev.output.add_file(file)
        bev.write(b"tail")
        before = most = resident_bytes()
        while not drained:
            base.loop(EVLOOP_ONCE)
            most = max(most, resident_bytes())
    receiver.join()
    assert events == [BEV_EVENT_CONNECTED]
    assert receiver.received_bytes == GIB + 8
    assert most - before < 20 << 20
    assert file.closed


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_a_file_arrives_whole_between_its_neighbours(
    base: EventBase, pair: tuple[socket.socket, socket.socket], tmp_path: Path, size: int
) -> None:
    content = bytes(index % 251 for index in range(size))
    path = tmp_path / "file"
    path.write_bytes(content)
    received = bytearray()

    def on_read(bev: BufferEvent, ctx: object) -> None:
        received.extend(bev.read())
        if len(received) == size + 8:
            base.loopexit()

    with BufferEvent(base, pair[0]) as sender, BufferEvent(base, pair[1]) as receiver:
        receiver.setcb(on_read, None, None)
        receiver.enable(EV_READ)
        sender.write(b"head")
        sender.output.add_file(path.open("rb"))
        sender.write(b"tail")
        base.dispatch()
    assert received == b"head" + content + b"tail"


# Files that cannot be watched: what epoll refuses, and what poll and select call always ready.


class Told:
    """Callbacks that gather, and break the loop at the end."""

    def __init__(self, bev: BufferEvent) -> None:
        self.base = bev.base
        self.pieces: list[bytes] = []
        self.left: list[int] = []
        self.events: list[BevEvent] = []
        bev.setcb(self.read, self.wrote, self.event)

    def read(self, bev: BufferEvent, ctx: object) -> None:
        self.pieces.append(bev.read())

    def wrote(self, bev: BufferEvent, ctx: object) -> None:
        self.left.append(len(bev.output))
        self.base.loopbreak()

    def event(self, bev: BufferEvent, what: BevEvent, ctx: object) -> None:
        self.events.append(what)
        self.base.loopbreak()


CONTENT = bytes(index % 251 for index in range(200_000))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


def over(base: EventBase, path: Path | str, flags: int) -> BufferEvent:
    return BufferEvent(base, os.open(path, flags, 0o600), BEV_OPT_CLOSE_ON_FREE)


@pytest.mark.parametrize("high", [0, 5000])
def test_a_file_is_read_to_its_end(base: EventBase, source: Path, high: int) -> None:
    """A bounded read a pass, with the watermarks as usual."""
    with over(base, source, os.O_RDONLY) as bev:
        told = Told(bev)
        bev.setwatermark(EV_READ, 0, high)
        bev.enable(EV_READ)
        base.dispatch()
    assert b"".join(told.pieces) == CONTENT
    assert max(map(len, told.pieces)) <= (high or bev.max_single_read)
    assert told.events == [BEV_EVENT_READING | BEV_EVENT_EOF]


def test_data_of_a_file_may_go_past_the_input(base: EventBase, source: Path) -> None:
    data = bytearray()
    with over(base, source, os.O_RDONLY) as bev:
        Told(bev)
        bev.set_datacb(lambda bev, piece, ctx: data.extend(piece))
        bev.enable(EV_READ)
        base.dispatch()
    assert data == CONTENT


def test_the_null_device_is_empty(base: EventBase) -> None:
    with over(base, os.devnull, os.O_RDONLY) as bev:
        told = Told(bev)
        bev.enable(EV_READ)
        base.dispatch()
    assert told.events == [BEV_EVENT_READING | BEV_EVENT_EOF]


@pytest.mark.parametrize("flags", [os.O_TRUNC, os.O_APPEND, 0])
def test_output_goes_to_a_file(base: EventBase, source: Path, flags: int, tmp_path: Path) -> None:
    """Many small pieces, more than one system call takes, and a file that the kernel copies."""
    target = tmp_path / "target"
    lines = [b"%099d\n" % number for number in range(3000)]
    with over(base, target, os.O_WRONLY | os.O_CREAT | flags) as bev:
        told = Told(bev)
        for line in lines:
            bev.write(line)
        bev.output.add_file(source.open("rb"))
        base.dispatch()
        assert len(bev.output) == 0
    assert told.events == []
    assert told.left == [0]
    assert target.read_bytes() == b"".join(lines) + CONTENT


def test_output_to_the_null_device_is_gone(base: EventBase) -> None:
    with over(base, os.devnull, os.O_WRONLY) as bev:
        told = Told(bev)
        for number in range(1000):
            bev.write(b"%099d\n" % number)
        base.dispatch()
        assert len(bev.output) == 0
        bev.enable(EV_WRITE)
        base.dispatch()
    assert told.left == [0, 0]


def test_limits_and_time_outs_hold_for_files(
    fake_base: EventBase, clock: FakeClock, source: Path
) -> None:
    start = clock.monotonic()
    with over(fake_base, source, os.O_RDONLY) as bev:
        told = Told(bev)
        bev.set_rate_limit(TokenBucketCfg(50_000, 50_000, 1, 1))
        bev.set_timeouts(5, None)
        bev.enable(EV_READ)
        fake_base.dispatch()
        assert b"".join(told.pieces) == CONTENT
        assert clock.monotonic() - start == pytest.approx(4, abs=1)


def test_a_file_that_is_disabled_lets_the_loop_rest(base: EventBase, source: Path) -> None:
    with over(base, source, os.O_RDONLY) as bev:
        told = Told(bev)
        bev.enable(EV_READ)
        bev.disable(EV_READ)
        assert base.dispatch() == 1
        assert told.pieces == []


def test_others_have_their_turn_while_a_file_is_read(base: EventBase, source: Path) -> None:
    """So a timer that is due comes before the end of a file that takes many passes."""
    order: list[str] = []
    with over(base, source, os.O_RDONLY) as bev:
        bev.max_single_read = 100
        bev.setcb(lambda bev, ctx: order.append("read"), None, lambda *_: order.append("end"))
        bev.enable(EV_READ)
        base.timer(lambda *_: order.append("timer")).add(0)
        base.dispatch()
    assert order.index("timer") < order.index("end")
    assert order.count("read") == len(CONTENT) / 100


@pytest.mark.parametrize("which", ["read", "event"])
def test_a_file_may_be_closed_in_its_callbacks(base: EventBase, source: Path, which: str) -> None:
    bev = over(base, source, os.O_RDONLY)
    close = lambda bev, *_: bev.close()  # noqa: E731
    bev.setcb(close if which == "read" else None, None, close)
    bev.enable(EV_READ)
    assert base.dispatch() == 1
    assert bev.fd == -1


def test_an_exception_from_a_callback_does_not_end_a_files_turns(
    base: EventBase, source: Path
) -> None:
    with over(base, source, os.O_RDONLY) as bev:
        told = Told(bev)
        entry = bev.input.add_cb(boom)
        bev.enable(EV_READ)
        with pytest.raises(Boom):
            base.dispatch()
        bev.input.remove_cb_entry(entry)
        base.dispatch()
    assert b"".join(told.pieces) == CONTENT


def test_finish_writes_a_file_to_its_end(base: EventBase, tmp_path: Path) -> None:
    target = tmp_path / "target"
    bev = over(base, target, os.O_WRONLY | os.O_CREAT)
    for _ in range(5):
        bev.write(CONTENT)
    bev.finish()
    assert base.dispatch() == 1
    assert bev.fd == -1
    assert target.read_bytes() == CONTENT * 5


def test_shutdown_write_closes_a_pipe(base: EventBase) -> None:
    """Only that shows its reader an end; a descriptor of the program's stays open."""
    reader, writer = os.pipe()
    bev = BufferEvent(base, writer, BEV_OPT_CLOSE_ON_FREE)
    bev.write(b"all")
    bev.shutdown_write()
    base.dispatch()
    assert bev.fd == -1
    assert os.read(reader, 99) == b"all"
    assert os.read(reader, 99) == b""
    bev.close()
    os.close(reader)
