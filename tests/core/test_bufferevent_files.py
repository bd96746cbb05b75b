"""Files through a bufferevent: the kernel sends them, whatever their size."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_OPT_CLOSE_ON_FREE,
    EV_READ,
    EVLOOP_ONCE,
    BevEvent,
    BufferEvent,
    EventBase,
)
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
