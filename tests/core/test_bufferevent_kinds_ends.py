"""How bufferevents end: half-closing, finishing, and what is told before what has failed."""

from __future__ import annotations

import pytest

from evsvc.core import (
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    BEV_EVENT_WRITING,
    EV_READ,
    EV_WRITE,
    EVLOOP_NONBLOCK,
    AbstractBufferEvent,
    ArgumentError,
    ArgumentTypeError,
    EventBase,
    FakeClock,
    StateError,
)
from evsvc.core.bufferevent.abstract import FINISH_TIMEOUT_S
from tests.core.bevs import Log, never
from tests.core.kinds import Ends

SIZE = 300_000


@pytest.fixture
def log() -> Log:
    return Log()


def settle(base: EventBase) -> None:
    for _ in range(60):
        base.loop(EVLOOP_NONBLOCK)


def settle_once(base: EventBase) -> None:
    base.loop(EVLOOP_NONBLOCK)


def has_ended(log: Log) -> bool:
    return any(what & BEV_EVENT_EOF for what in log.events)


@pytest.mark.parametrize("size", [0, 5, SIZE])
def test_after_shutdown_write_the_peer_gets_the_rest_and_the_end(
    ends: Ends, fake_base: EventBase, log: Log, size: int
) -> None:
    """And only that: what it sends still comes, and its own end, too."""
    one, other = ends
    back = Log()
    back.attach(one)  # type: ignore[arg-type]
    log.attach(other)  # type: ignore[arg-type]
    for bev in ends:
        bev.enable(EV_READ)
    one.write(bytes(size))
    one.shutdown_write()
    one.shutdown_write()
    with pytest.raises(StateError):
        one.write(b"more")
    settle(fake_base)
    assert len(log.data) == size
    assert has_ended(log)
    assert not other.enabled & EV_READ
    other.write(b"answer")
    settle(fake_base)
    assert back.data == b"answer"
    assert not has_ended(back)
    other.shutdown_write()
    settle(fake_base)
    assert has_ended(back)
    assert not any(what & BEV_EVENT_ERROR for what in log.events + back.events)


def test_the_end_waits_while_writing_is_disabled(
    ends: Ends, fake_base: EventBase, log: Log
) -> None:
    one, other = ends
    log.attach(other).enable(EV_READ)  # type: ignore[arg-type]
    one.disable(EV_WRITE)
    one.write(b"x")
    one.shutdown_write()
    settle(fake_base)
    assert log.calls == []
    one.enable(EV_WRITE)
    settle(fake_base)
    assert log.data == b"x"
    assert has_ended(log)


def test_the_end_waits_for_a_peer_that_does_not_read_yet(
    ends: Ends, fake_base: EventBase, log: Log
) -> None:
    one, other = ends
    log.attach(other)  # type: ignore[arg-type]
    one.write(bytes(SIZE))
    one.shutdown_write()
    settle(fake_base)
    assert not has_ended(log)
    other.enable(EV_READ)
    settle(fake_base)
    assert len(log.data) == SIZE
    assert has_ended(log)


def test_nothing_is_shut_down_after_close(ends: Ends) -> None:
    one, _ = ends
    one.close()
    with pytest.raises(StateError):
        one.shutdown_write()
    one.finish()


@pytest.mark.parametrize("size", [0, 5, SIZE])
def test_finish_sends_the_rest_and_closes_at_the_end_of_the_peer(
    ends: Ends, fake_base: EventBase, log: Log, size: int
) -> None:
    """No callback comes meanwhile; what the peer still says is thrown away."""
    one, other = ends
    one.setcb(never, never, never)
    log.attach(other)  # type: ignore[arg-type]
    one.write(bytes(size))
    one.set_timeouts(1, 1)
    one.finish()
    assert one.closed
    one.finish()
    one.close()
    settle(fake_base)
    other.enable(EV_READ)
    other.write(bytes(SIZE))
    settle(fake_base)
    assert len(log.data) == size
    assert has_ended(log)
    assert len(other.output) == 0
    assert one._references == 1
    other.shutdown_write()
    settle(fake_base)
    assert one._references == 0
    assert not any(what & BEV_EVENT_ERROR for what in log.events)


def test_finish_ends_though_the_peer_has_ended_before(
    ends: Ends, fake_base: EventBase, log: Log
) -> None:
    one, other = ends
    for bev in ends:
        bev.enable(EV_READ)
    other.shutdown_write()
    settle(fake_base)
    log.attach(other)  # type: ignore[arg-type]
    one.write(bytes(SIZE))
    one.finish()
    settle(fake_base)
    assert len(log.data) == SIZE
    assert one._references == 0


@pytest.mark.parametrize("timeout", [None, 2.0])
def test_finish_has_its_time(
    ends: Ends, fake_base: EventBase, clock: FakeClock, timeout: float | None
) -> None:
    """From the call on, though the peer neither reads nor ends."""
    one, _ = ends
    start = clock.monotonic()
    one.write(bytes(8 * SIZE))
    if timeout is None:
        one.finish()
    else:
        one.finish(timeout)
    while one._references:
        fake_base.loop(1)
    assert clock.monotonic() - start == pytest.approx(timeout or FINISH_TIMEOUT_S, abs=0.01)


def test_finish_wants_a_time(ends: Ends) -> None:
    one, _ = ends
    with pytest.raises(ArgumentError, match="-1"):
        one.finish(-1)
    with pytest.raises(ArgumentTypeError, match="soon"):
        one.finish("soon")  # type: ignore[arg-type]
    assert not one.closed


def test_finish_in_a_callback_of_its_own(ends: Ends, fake_base: EventBase, log: Log) -> None:
    one, other = ends

    def answer(bev: AbstractBufferEvent, ctx: object) -> None:
        bev.write(b"421 goodbye")
        bev.finish()

    one.setcb(answer, never, never)
    log.attach(other)  # type: ignore[arg-type]
    for bev in ends:
        bev.enable(EV_READ)
    other.write(b"hello")
    settle(fake_base)
    assert log.data == b"421 goodbye"
    assert has_ended(log)
    other.close()
    settle(fake_base)
    assert one._references == 0


def test_what_the_peer_has_said_is_told_before_an_error_of_writing(
    ends: Ends, fake_base: EventBase, log: Log
) -> None:
    """Though what we write fails first: it says why it refuses, and goes."""
    one, other = ends
    log.attach(one)  # type: ignore[arg-type]
    other.write(b"552 too big")
    settle(fake_base)
    if other.unsent():  # a pair's bytes leave only for one that reads
        one.enable(EV_READ)
        settle_once(fake_base)
    other.close()
    settle_once(fake_base)
    one.write(bytes(SIZE))
    one.enable(EV_READ)
    settle(fake_base)
    assert log.data == b"552 too big"
    errors = [what for what in log.events if what & BEV_EVENT_WRITING and what & BEV_EVENT_ERROR]
    assert len(errors) == 1
    assert log.calls.index("read") < log.calls.index("event")
    assert one.error is not None
    assert one.error.errno


def test_an_error_of_writing_comes_at_once_to_who_does_not_read(
    ends: Ends, fake_base: EventBase, log: Log
) -> None:
    one, other = ends
    one.setcb(never, None, log.event)
    other.write(b"552 too big")
    settle(fake_base)
    other.close()
    settle(fake_base)
    one.write(bytes(SIZE))
    settle(fake_base)
    assert log.events == [BEV_EVENT_WRITING | BEV_EVENT_ERROR]


def test_what_is_written_after_an_error_of_writing_is_dropped(
    ends: Ends, fake_base: EventBase, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    """With one line in the log, until writing is enabled anew."""
    one, other = ends
    one.setcb(None, None, log.event)
    other.close()
    settle(fake_base)
    one.write(bytes(SIZE))
    settle(fake_base)
    assert log.events == [BEV_EVENT_WRITING | BEV_EVENT_ERROR]
    caplog.clear()
    for _ in range(100):
        one.write(bytes(1000))
        settle_once(fake_base)
    assert len(one.output) == 0
    assert len([record for record in caplog.records if "dropped" in record.message]) == 1
    assert log.events == [BEV_EVENT_WRITING | BEV_EVENT_ERROR]


@pytest.mark.parametrize("closes", ["one", "other"])
def test_closing_leaves_the_peer_what_was_sent_and_an_end(
    ends: Ends, fake_base: EventBase, log: Log, closes: str
) -> None:
    """Though there is something that was never read."""
    closer, peer = ends if closes == "one" else ends[::-1]
    log.attach(peer)  # type: ignore[arg-type]
    peer.write(b"never read")
    closer.write(b"last words")
    settle(fake_base)
    if closer.unsent():  # a pair's bytes leave only for one that reads
        peer.enable(EV_READ)
        settle_once(fake_base)
    closer.close()
    settle(fake_base)
    peer.enable(EV_READ)
    settle(fake_base)
    assert log.data == b"last words"
    assert log.events
    assert log.events[0] & (BEV_EVENT_READING | BEV_EVENT_EOF | BEV_EVENT_ERROR)
