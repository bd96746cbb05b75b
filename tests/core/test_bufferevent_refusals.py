"""Arguments that are refused, and descriptors that are only lent: everything stays as it was."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    BEV_OPT_THREADSAFE,
    EV_READ,
    EVLOOP_NONBLOCK,
    ArgumentError,
    ArgumentTypeError,
    BufferEvent,
    Error,
    EventBase,
    FilterBufferEvent,
    SocketError,
    StateError,
)
from tests.core.bevs import LOOPBACK, Log, Pair


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_lent_number_stays_open_when_its_bufferevent_is_forgotten(
    base: EventBase, pair: Pair
) -> None:
    fd = pair[0].detach()
    bev = BufferEvent(base, fd)
    bev.enable(EV_READ)
    bev.disable(EV_READ)
    del bev
    gc.collect()
    os.fstat(fd)
    os.close(fd)


def test_a_number_is_the_programs_again_when_it_is_refused(pair: Pair) -> None:
    base = EventBase()
    base.close()
    for options in (0, BEV_OPT_CLOSE_ON_FREE):
        with pytest.raises(StateError):
            BufferEvent(base, pair[0].fileno(), options)
    pair[0].send(b"x")


def test_what_fails_on_a_closed_base_changes_nothing(pairs: Callable[[], Pair]) -> None:
    """The descriptor in use stays, the new one stays open, and closing works."""
    base = EventBase()
    one, other = pairs(), pairs()
    with BufferEvent(base, one[0], BEV_OPT_CLOSE_ON_FREE) as bev, BufferEvent(base) as fresh:
        base.close()
        for replace in (bev.setfd, bev.replacefd):
            for fd in (other[0], other[0].fileno()):
                with pytest.raises(StateError):
                    replace(fd)
        assert bev.socket is one[0]
        with pytest.raises(StateError):
            fresh.connect((LOOPBACK, 9))
        assert fresh.fd == -1
        other[0].send(b"x")


@pytest.mark.parametrize("by_number", [False, True])
@pytest.mark.parametrize("options", [0, BEV_OPT_CLOSE_ON_FREE])
def test_replacefd_with_the_same_descriptor_goes_on_over_it(
    base: EventBase, pair: Pair, options: int, by_number: bool
) -> None:
    log = Log()
    lent = os.dup(pair[0].fileno())
    with log.attach(BufferEvent(base, lent, options)) as bev:
        bev.enable(EV_READ)
        bev.replacefd(lent if by_number else bev.socket)
        gc.collect()
        assert bev.fd == lent
        pair[1].send(b"abc")
        base.loop(EVLOOP_NONBLOCK)
        assert log.data == b"abc"
    if not options:
        os.close(lent)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(lent)


def test_setfd_with_the_number_of_a_socket_that_connect_made(base: EventBase) -> None:
    with socket.create_server((LOOPBACK, 0)) as server, BufferEvent(base) as bev:
        bev.connect(server.getsockname())
        base.loop(EVLOOP_NONBLOCK)
        fd = bev.fd
        bev.setfd(fd)
        gc.collect()
        os.fstat(fd)
    os.close(fd)


@pytest.mark.no_cover
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", ["number", "closed socket", "filter", "base", "huge"])
def test_a_thousand_refused_constructors_leave_nothing(base: EventBase, kind: str) -> None:
    below = BufferEvent(base)
    closed = socket.socket()
    closed.close()
    refused: dict[str, Callable[[], object]] = {
        "number": lambda: BufferEvent(base, 9999),
        "closed socket": lambda: BufferEvent(base, closed),
        "filter": lambda: FilterBufferEvent(below, None, None, BEV_OPT_THREADSAFE),
        "base": lambda: BufferEvent(None),  # type: ignore[arg-type]
        "huge": lambda: BufferEvent(base, 2**80),
    }

    def refuse() -> None:
        try:
            refused[kind]()
        except (Error, SocketError):
            return
        pytest.fail("it was not refused")

    refuse()
    before = len(gc.get_objects())
    for _ in range(1000):
        refuse()
    assert len(gc.get_objects()) - before < 100
    below.close()


def test_arguments_of_another_type_are_refused(base: EventBase) -> None:
    with BufferEvent(base) as bev:
        refusals: list[Callable[[], object]] = [
            lambda: BufferEvent(None),  # type: ignore[arg-type]
            lambda: setattr(bev, "base", None),
            lambda: bev.set_datacb(5),  # type: ignore[arg-type]
            lambda: bev.write_buffer(None),  # type: ignore[arg-type]
            lambda: bev.read_buffer(None),  # type: ignore[arg-type]
        ]
        for refused in refusals:
            with pytest.raises(ArgumentTypeError):
                refused()
        assert bev.base is base
    for number in (2**31, 2**80):
        with pytest.raises(ArgumentError, match=str(number)):
            BufferEvent(base, number)
