"""What is the same for every kind of bufferevent: its callbacks, its buffers, and its end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from evsvc.core import (
    BEV_EVENT_EOF,
    BEV_FINISHED,
    BEV_NORMAL,
    BEV_TRIG_DEFER_CALLBACKS,
    BEV_TRIG_IGNORE_WATERMARKS,
    EV_READ,
    EV_WRITE,
    EVENT_BASE_COUNT_ADDED,
    AbstractBufferEvent,
    ArgumentError,
    ArgumentTypeError,
    EvBuffer,
    EventBase,
    StateError,
)
from tests.core.bevs import Boom, Log, never
from tests.core.filters import settle
from tests.core.kinds import Ends, finish

# More than the kernel holds for a peer that does not read, with what is below a bufferevent.
MORE_THAN_FITS = 2 * 1024 * 1024


@pytest.fixture
def log() -> Log:
    return Log()


def test_trigger_keeps_to_the_watermarks_unless_told_not_to(
    ends: Ends, fake_base: EventBase, log: Log
) -> None:
    """Under the low watermark nothing; with IGNORE_WATERMARKS at once, or deferred if asked or
    configured; a custom event mask is delivered as it is."""
    bev = log.attach(ends[0])
    bev.setwatermark(EV_READ, 1, 0)
    bev.trigger(EV_READ)
    settle(fake_base)
    assert log.calls == []
    bev.trigger(EV_READ, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS)
    assert log.calls == []
    settle(fake_base)
    assert log.calls == ["read"]
    bev.trigger(EV_READ | EV_WRITE, BEV_TRIG_IGNORE_WATERMARKS)
    settle(fake_base)
    assert log.calls == ["read", "read", "write"]
    bev.trigger_event(0x1000)
    settle(fake_base)
    assert log.events == [0x1000]


def test_callbacks_can_be_asked_for_and_exchanged(ends: Ends, fake_base: EventBase) -> None:
    sender, receiver = ends
    first, second = Log(), Log()
    receiver.setcb(first.read, first.write, first.event, "ctx")
    assert receiver.getcb() == (first.read, first.write, first.event, "ctx")
    receiver.enable(EV_READ)
    sender.write(b"1")
    settle(fake_base)
    second.attach(receiver)
    sender.write(b"2")
    settle(fake_base)
    receiver.setcb(None, None, None)
    sender.write(b"3")
    settle(fake_base)
    assert (first.data, second.data, receiver.read()) == (b"1", b"2", b"3")


@pytest.mark.parametrize("whom", ["itself", "the other", "both"])
@pytest.mark.parametrize("which", ["read", "write", "event"])
def test_each_callback_may_close(ends: Ends, fake_base: EventBase, which: str, whom: str) -> None:
    """Itself, its peer, or both; no callback of what is closed runs after that."""
    closed: list[AbstractBufferEvent] = []

    def callback(name: str) -> Callable[..., None]:
        def run(bev: AbstractBufferEvent, *args: object) -> None:
            assert bev not in closed
            if name == which and not closed:
                other = ends[1] if bev is ends[0] else ends[0]
                closed.extend([bev] if whom != "the other" else [])
                closed.extend([other] if whom != "itself" else [])
                for each in closed:
                    each.close()

        return run

    for bev in ends:
        bev.setcb(callback("read"), callback("write"), callback("event"))
        bev.enable(EV_READ)
        bev.write(bytes(100))
    settle(fake_base)
    if not closed:
        finish(ends[0])
    settle(fake_base)
    assert closed
    for bev in closed:
        assert bev.closed
        assert bev.getcb() == (None, None, None, None)
        assert len(bev.input) == len(bev.output) == 0
    for bev in ends:
        bev.close()
    settle(fake_base)
    assert fake_base.num_events(EVENT_BASE_COUNT_ADDED) == 0


def test_a_buffer_callback_may_close_in_the_middle(ends: Ends, fake_base: EventBase) -> None:
    """Of the input while bytes come, and of the output while bytes leave."""
    sender, receiver = ends
    receiver.setcb(never, None, None)
    receiver.input.add_cb(lambda buffer, info, arg: receiver.close())
    receiver.enable(EV_READ)
    sender.write(b"x")
    settle(fake_base)
    assert receiver.closed
    sender.setcb(None, never, None)
    sender.output.add_cb(lambda buffer, info, arg: info.n_added and sender.close())
    sender.output.add(b"y")
    settle(fake_base)
    assert sender.closed
    assert fake_base.num_events(EVENT_BASE_COUNT_ADDED) == 0


@pytest.mark.parametrize("which", ["read", "write", "event"])
@pytest.mark.parametrize("handled", [False, True])
def test_an_exception_from_a_callback_leaves_the_rest_whole(
    ends: Ends, fake_base: EventBase, which: str, handled: bool
) -> None:
    caught: list[Exception] = []
    ran: list[str] = []

    def callback(name: str) -> Callable[..., None]:
        def run(*args: object) -> None:
            ran.append(name)
            if name == which:
                raise Boom

        return run

    def settle_and_catch() -> None:
        try:
            settle(fake_base)
        except Boom as exc:
            assert not handled
            caught.append(exc)
            settle(fake_base)

    sender, receiver = ends
    if handled:
        fake_base.exception_handler = caught.append
    receiver.setcb(callback("read"), callback("write"), callback("event"))
    for bev in ends:
        bev.enable(EV_READ)
    sender.write(b"in")
    receiver.write(b"out")
    settle_and_catch()
    finish(sender)
    settle_and_catch()
    assert sorted(ran) == ["event", "read", "write"]
    assert len(caught) == 1
    assert receiver.read() == b"in"


def test_closing_drops_what_is_pending(ends: Ends, fake_base: EventBase) -> None:
    """Unsent output is dropped, and no callback comes after it."""
    sender, receiver = ends
    log = Log()
    log.attach(receiver)
    sender.setcb(never, never, never)
    sender.write(bytes(MORE_THAN_FITS))
    sender.close()
    assert len(sender.output) == 0
    receiver.enable(EV_READ)
    settle(fake_base)
    assert len(log.data) < MORE_THAN_FITS
    assert sender.read() == b""
    calls: list[Callable[[], object]] = [
        lambda: sender.write(b"x"),
        lambda: sender.enable(EV_READ),
        lambda: sender.flush(EV_WRITE, BEV_FINISHED),
        lambda: sender.trigger(EV_READ),
        sender.incref,
    ]
    for call in calls:
        with pytest.raises(StateError, match="closed"):
            call()


def test_a_reference_keeps_the_bytes_moving_after_close(
    ends: Ends, fake_base: EventBase, log: Log
) -> None:
    sender, receiver = ends
    log.attach(receiver)
    sender.setcb(never, never, never)
    sender.incref()
    sender.write(b"still")
    sender.close()
    receiver.enable(EV_READ)
    settle(fake_base)
    assert log.data == b"still"
    assert sender.decref()
    assert len(sender.output) == 0


def test_a_frozen_input_keeps_its_bytes(ends: Ends, fake_base: EventBase) -> None:
    """Reading with a frozen start returns nothing; the input's end and the output's start are the
    bufferevent's."""
    sender, receiver = ends
    receiver.enable(EV_READ)
    sender.write(b"x")
    settle(fake_base)
    receiver.input.freeze(at_front=True)
    assert receiver.read() == b""
    receiver.input.unfreeze(at_front=True)
    assert receiver.read() == b"x"
    with pytest.raises(StateError):
        receiver.input.add(b"x")
    receiver.disable(EV_READ | EV_WRITE)
    receiver.output.add(b"x")
    with pytest.raises(StateError):
        receiver.output.drain(1)
    with pytest.raises(ArgumentTypeError):
        receiver.write("text")  # type: ignore[arg-type]


def test_buffers_move_in_and_out(ends: Ends, fake_base: EventBase) -> None:
    sender, receiver = ends
    receiver.enable(EV_READ)
    outgoing, incoming = EvBuffer(b"there"), EvBuffer()
    sender.write_buffer(outgoing)
    settle(fake_base)
    receiver.read_buffer(incoming)
    assert (bytes(outgoing), bytes(incoming)) == (b"", b"there")


def test_flush_wants_a_mode(ends: Ends) -> None:
    """NORMAL with nothing to do moves nothing."""
    assert ends[0].flush(EV_READ | EV_WRITE, BEV_NORMAL) is False
    with pytest.raises(ArgumentError, match="3"):
        ends[0].flush(EV_WRITE, 3)


def test_an_event_callback_may_write_to_its_peer(ends: Ends, fake_base: EventBase) -> None:
    log = Log()
    one, other = ends
    log.attach(one).enable(EV_READ)
    other.setcb(None, None, lambda bev, what, ctx: bev.write(b"told"))
    other.trigger_event(BEV_EVENT_EOF)
    settle(fake_base)
    assert log.data == b"told"
