"""A peer that says why it refuses, and goes: what it said is told before the failure to write."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from evsvc.core import (
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    BEV_EVENT_WRITING,
    BEV_OPT_CLOSE_ON_FREE,
    BEV_OPT_DEFER_CALLBACKS,
    EV_READ,
    EV_WRITE,
    EVLOOP_NONBLOCK,
    BevEvent,
    BufferEvent,
    EventBase,
    FilterBufferEvent,
    TokenBucketCfg,
)
from evsvc.core.bufferevent import sock
from tests.core.bevs import LOOPBACK, Log, Pair, never

WORDS = b"552 too big\n" + bytes(50_000)
READ_ERROR = BEV_EVENT_READING | BEV_EVENT_ERROR
WRITE_ERROR = BEV_EVENT_WRITING | BEV_EVENT_ERROR


@pytest.fixture
def tcp() -> Iterator[Pair]:
    with socket.create_server((LOOPBACK, 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def log() -> Log:
    return Log()


def refuse(ours: socket.socket, theirs: socket.socket) -> None:
    """Say why, and reset the connection: something of ours is unread."""
    ours.send(b"unread")
    theirs.sendall(WORDS)
    theirs.close()


def settle(base: EventBase) -> None:
    for _ in range(200):
        base.loop(EVLOOP_NONBLOCK)


@pytest.mark.parametrize("layer", ["socket", "filter"])
@pytest.mark.parametrize("options", [0, BEV_OPT_DEFER_CALLBACKS], ids=["at once", "deferred"])
@pytest.mark.parametrize("high", [0, 1000])
def test_what_was_said_before_a_reset_is_told_first(
    base: EventBase, tcp: Pair, log: Log, layer: str, options: int, high: int
) -> None:
    """And the end of it is that reset, never an end of file: something may be missing."""
    below = BufferEvent(base, tcp[0], options)
    bev = FilterBufferEvent(below, None, None, options) if layer == "filter" else below
    with below, log.attach(bev):  # type: ignore[arg-type]
        bev.setwatermark(EV_READ, 0, high)
        refuse(*tcp)
        bev.write(bytes(1_000_000))
        bev.enable(EV_READ)
        settle(base)
        assert log.data == WORDS
        assert log.calls.index("event") == log.calls.count("read")
        if options:
            assert log.events == [READ_ERROR | WRITE_ERROR]
        else:
            assert log.events == [READ_ERROR, WRITE_ERROR]
        assert isinstance(bev.error, ConnectionResetError)


def test_data_past_the_input_comes_first_too(base: EventBase, tcp: Pair, log: Log) -> None:
    told: list[bytes | BevEvent] = []
    with BufferEvent(base, tcp[0]) as bev:
        bev.setcb(never, None, lambda bev, what, ctx: told.append(what))
        bev.set_datacb(lambda bev, data, ctx: told.append(data))
        refuse(*tcp)
        bev.write(bytes(1_000_000))
        bev.enable(EV_READ)
        settle(base)
    assert told[-2:] == [READ_ERROR, WRITE_ERROR]
    assert b"".join(told[:-2]) == WORDS  # type: ignore[arg-type]


def test_a_rate_limit_is_waited_for(fake_base: EventBase, tcp: Pair, log: Log) -> None:
    with log.attach(BufferEvent(fake_base, tcp[0])) as bev:
        bev.set_rate_limit(TokenBucketCfg(10_000, 10_000, 1 << 30, 1 << 30))
        refuse(*tcp)
        bev.write(bytes(1_000_000))
        bev.enable(EV_READ)
        fake_base.dispatch()
        assert log.data == WORDS
        assert log.events == [READ_ERROR, WRITE_ERROR]


def test_a_full_input_is_not_waited_for(base: EventBase, tcp: Pair, log: Log) -> None:
    """What fits is read before; a program that takes no more before it can write would stand."""
    with BufferEvent(base, tcp[0]) as bev:
        bev.setcb(None, None, log.event)
        bev.setwatermark(EV_READ, 0, 100)
        refuse(*tcp)
        bev.write(bytes(1_000_000))
        bev.enable(EV_READ)
        settle(base)
        assert log.events == [WRITE_ERROR]
        assert bev.read(12) == WORDS[:12]


def test_reading_that_is_disabled_meanwhile_is_not_waited_for(
    base: EventBase, tcp: Pair, log: Log
) -> None:
    with BufferEvent(base, tcp[0]) as bev:
        bev.setcb(lambda bev, ctx: bev.disable(EV_READ), None, log.event)
        bev.max_single_read = 10
        refuse(*tcp)
        bev.write(bytes(1_000_000))
        bev.enable(EV_READ)
        settle(base)
        assert log.events == [WRITE_ERROR]
        assert len(bev.input) < len(WORDS)


@pytest.mark.parametrize("reads", [3, 4])
def test_a_peer_that_goes_on_talking_is_not_waited_for_for_ever(
    base: EventBase, pair: Pair, log: Log, monkeypatch: pytest.MonkeyPatch, reads: int
) -> None:
    """It reads no more, and writes: so many reads, and the error is told."""
    monkeypatch.setattr(sock, "MAX_LAST_READS", reads)
    ours, theirs = pair
    told_at: list[int] = []
    with log.attach(BufferEvent(base, ours)) as bev:
        bev.setcb(log.read, None, lambda *_: told_at.append(len(log.data)))
        bev.max_single_read = 10
        theirs.shutdown(socket.SHUT_RD)
        theirs.send(bytes(1000))
        bev.write(b"x")
        bev.enable(EV_READ)
        settle(base)
        assert len(told_at) == 1
        assert reads * 10 <= told_at[0] <= reads * 20  # the loop reads meanwhile, too


def test_without_anything_to_read_the_error_comes_at_once(
    base: EventBase, pair: Pair, log: Log
) -> None:
    """The peer may still talk later: it has only stopped to read."""
    ours, theirs = pair
    with log.attach(BufferEvent(base, ours)) as bev:
        bev.enable(EV_READ)
        theirs.shutdown(socket.SHUT_RD)
        bev.write(b"x")
        base.loop(EVLOOP_NONBLOCK)
        assert log.events == [WRITE_ERROR]
        theirs.send(b"later")
        base.loop(EVLOOP_NONBLOCK)
        assert log.data == b"later"
        assert bev.enabled == EV_READ


@pytest.mark.parametrize("when", ["read", "end", "error"])
def test_it_may_be_closed_meanwhile(base: EventBase, tcp: Pair, when: str) -> None:
    told: list[str] = []

    def close_at(name: str, bev: BufferEvent) -> None:
        told.append(name)
        if name == when:
            bev.close()

    bev = BufferEvent(base, tcp[0], BEV_OPT_CLOSE_ON_FREE)
    bev.setcb(
        lambda bev, ctx: close_at("read", bev),
        None,
        lambda bev, what, ctx: close_at("end" if what == READ_ERROR else "error", bev),
    )
    refuse(*tcp)
    bev.write(bytes(1_000_000))
    bev.enable(EV_READ)
    settle(base)
    assert told[-1] == when
    assert bev.fd == -1
    assert base.dispatch() == 1


def test_another_descriptor_begins_anew(base: EventBase, tcp: Pair, pair: Pair, log: Log) -> None:
    """What was written after the failure was dropped; what is written after that is not."""
    with log.attach(BufferEvent(base, tcp[0])) as bev:
        refuse(*tcp)
        bev.write(bytes(1_000_000))
        settle(base)
        assert log.events == [WRITE_ERROR]
        bev.write(b"dropped")
        bev.setfd(pair[0])
        bev.enable(EV_WRITE | EV_READ)
        bev.write(b"kept")
        settle(base)
        assert pair[1].recv(99) == b"kept"
        bev.shutdown_write()
        settle(base)
        assert pair[1].recv(99) == b""
        assert not any(what & BEV_EVENT_EOF for what in log.events)
