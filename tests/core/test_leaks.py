"""What is closed is gone, with the cyclic collector off."""

from __future__ import annotations

import gc
import os
import socket
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    EV_PERSIST,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    BevEvent,
    BufferEvent,
    ConnListener,
    EvBuffer,
    Event,
    EventBase,
    event_self_cbarg,
)


class Token:
    """Something to be passed as an argument, and watched."""

    def __call__(self, *args: object) -> None:
        """Be a callback, too."""


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def growth(act: Callable[[], object], rounds: int) -> int:
    """Return by how many `rounds` calls grow the number of objects, or of blocks of memory if that
    grows more, after one call to warm up."""
    act()
    before = len(gc.get_objects()), sys.getallocatedblocks()
    for _ in range(rounds):
        act()
    after = len(gc.get_objects()), sys.getallocatedblocks()
    return max(now - then for now, then in zip(after, before, strict=True))


@pytest.mark.no_cover
def test_a_hundred_thousand_events_leave_nothing(
    fake_base: EventBase, pair: tuple[socket.socket, ...]
) -> None:
    """Created, added, fired, deleted: descriptors, timers, common timeouts, activations, one that
    is its own argument."""
    fired = Counter[str]()
    common = fake_base.init_common_timeout(1)
    reader, writer = pair

    def note(fd: int, what: int, name: str) -> None:
        fired[name] += 1

    def read(fd: int, what: int, name: str) -> None:
        fired[name] += len(reader.recv(9))

    def eleven() -> None:
        own = Event(fake_base, -1, EV_READ, Token(), event_self_cbarg)
        own.active(EV_READ)
        own.add(60)
        kept = [
            Event(fake_base, reader, EV_READ | EV_PERSIST, read, "persistent read"),
            Event(fake_base, -1, EV_PERSIST, note, "persistent common"),
            Event(fake_base, reader, EV_READ | EV_PERSIST, Token(), Token()),
            Event(fake_base, -1, EV_READ, Token(), Token()),
        ]
        Event(fake_base, reader, EV_READ, note, "read").add(60)
        Event(fake_base, writer, EV_WRITE, note, "write").add()
        fake_base.timer(note, "timer").add(0.5)
        fake_base.timer(note, "common").add(common)
        fake_base.timer(note, "activation").active(EV_TIMEOUT)
        fake_base.once(-1, EV_TIMEOUT, note, "once", 0.25)
        kept[0].add(60)
        for event in kept[1:]:
            event.add(common)
        kept[2].delete()
        kept[3].remove_timer()
        writer.send(b"x")
        fake_base.loopexit(1.5)
        fake_base.dispatch()
        for event in kept:
            event.delete()
        own.close()

    assert growth(eleven, 10_000) < 700  # dead timer entries, at most SLACK of them, drop out later
    assert list(fired.values()) == [10_001] * 8


def test_an_events_callback_and_argument_go_with_it(base: EventBase) -> None:
    token = Token()
    gone = weakref.ref(token)
    event = Event(base, -1, EV_PERSIST, token, token)
    event.add(60)
    event.close()
    del token
    assert gone() is None


def test_a_once_event_is_gone_after_its_callback(base: EventBase) -> None:
    token = Token()
    gone = weakref.ref(token)
    base.once(-1, EV_TIMEOUT, token, token)
    del token
    assert gone() is not None
    base.dispatch()
    assert gone() is None


def test_a_once_event_that_never_fires_goes_with_the_base() -> None:
    token = Token()
    gone = weakref.ref(token)
    base = EventBase()
    base.once(-1, EV_TIMEOUT, token, token, 3600)
    base.post(token)
    del token
    base.close()
    assert gone() is None


@pytest.mark.no_cover
def test_a_thousand_connections_leave_nothing(base: EventBase) -> None:
    """Connected, greeted, ended and closed on both sides."""

    def accept(lev: ConnListener, sock: socket.socket, address: object, arg: object) -> None:
        bev = BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE)
        bev.setcb(None, lambda bev, ctx: bev.close(), None, bev)
        bev.set_timeouts(60, 60)
        bev.write(b"hello")

    def ended(bev: BufferEvent, what: BevEvent, ctx: object) -> None:
        if not what & BevEvent.BEV_EVENT_CONNECTED:
            bev.close()
            base.loopbreak()

    with ConnListener.new_bind(base, accept, None, 0, -1, ("127.0.0.1", 0)) as listener:

        def one() -> None:
            bev = BufferEvent(base)
            bev.setcb(lambda bev, ctx: bev.read(), None, ended, bev)
            bev.set_timeouts(60, 60)
            bev.setwatermark(EV_READ, 0, 4)
            bev.enable(EV_READ)
            bev.connect(listener.address)
            base.dispatch()

        descriptors = len(os.listdir("/proc/self/fd"))
        assert growth(one, 1000) < 700
        assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.no_cover
def test_failed_connects_leave_nothing(base: EventBase) -> None:
    """Refused at once or later, by address and by name; the error holds no frame of ours."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))

        def one() -> None:
            for address in (nobody.getsockname(), "/no/such/path"):
                bev = BufferEvent(base)
                bev.setcb(None, None, lambda bev, what, ctx: bev.close(), bev)
                bev.connect(address)
                base.dispatch()
            bev = BufferEvent(base)
            bev.connect_hostname(None, socket.AF_UNSPEC, *nobody.getsockname())
            base.dispatch()
            bev.close()

        assert growth(one, 200) < 300  # dead timer entries, as above


def test_a_broken_connection_leaves_nothing(base: EventBase) -> None:
    def one() -> None:
        ours, peer = socket.socketpair()
        bev = BufferEvent(base, ours, BEV_OPT_CLOSE_ON_FREE)
        peer.close()
        bev.write(b"x")
        base.dispatch()
        assert bev.error is not None
        bev.close()

    assert growth(one, 200) < 100


def test_buffers_and_references_leave_nothing() -> None:
    def one() -> None:
        buffer, other = EvBuffer(b"abc"), EvBuffer()
        buffer.add_cb(Token(), buffer)
        buffer.add_reference(bytearray(b"def"), Token(), buffer)
        other.add_buffer(buffer)
        buffer.close()
        other.close()

    assert growth(one, 1000) < 100


def test_bases_leave_nothing() -> None:
    def one() -> None:
        with EventBase() as base:
            base.timer(Token()).add(60)
            base.post(Token())

    assert growth(one, 100) < 100
