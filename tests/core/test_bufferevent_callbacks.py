"""Callbacks of a bufferevent: their order, deferral, triggers, priority, exceptions."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from evsvc.core import (
    BEV_EVENT_EOF,
    BEV_EVENT_READING,
    BEV_OPT_CLOSE_ON_FREE,
    BEV_OPT_DEFER_CALLBACKS,
    BEV_TRIG_DEFER_CALLBACKS,
    BEV_TRIG_IGNORE_WATERMARKS,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    ArgumentError,
    BevEvent,
    BufferEvent,
    Event,
    EventBase,
    PrepareWatcher,
    StateError,
)
from evsvc.core.reactor.reactor import MAX_DEFERRED_PER_PASS
from tests.core.bevs import Boom, Log, Pair, boom, close_bev, never

pytestmark = pytest.mark.every_backend


@pytest.fixture
def log() -> Log:
    return Log()


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


def note_passes(base: EventBase, bevs: list[BufferEvent]) -> list[int]:
    """Have a timer defer a callback of each, and return the pass of each from the timer's on."""
    number = [0]
    passes: list[int] = []
    watcher = PrepareWatcher(base, lambda *_: number.__setitem__(0, number[0] + 1))

    def trigger(*args: object) -> None:
        started = number[0]
        for bev in bevs:
            bev.setcb(lambda *_: passes.append(number[0] - started), None, None)
            bev.trigger(EV_READ)

    base.once(-1, EV_TIMEOUT, trigger)
    base.dispatch()
    watcher.close()
    return passes


@pytest.mark.parametrize("extra", [0, 1])
def test_so_many_deferred_callbacks_join_the_pass_and_the_rest_the_next(
    base: EventBase, extra: int
) -> None:
    """About 32 of a pass, so that callbacks which defer each other do not keep it going."""
    bevs = [
        BufferEvent(base, None, BEV_OPT_DEFER_CALLBACKS)
        for _ in range(MAX_DEFERRED_PER_PASS + extra)
    ]
    assert note_passes(base, bevs) == [0] * MAX_DEFERRED_PER_PASS + [1] * extra
    for bev in bevs:
        bev.close()


def test_callbacks_that_defer_each_other_do_not_keep_the_loop_from_its_timers(
    base: EventBase,
) -> None:
    calls: list[int] = []
    with BufferEvent(base, None, BEV_OPT_DEFER_CALLBACKS) as bev:
        bev.setcb(lambda bev, ctx: (calls.append(1), bev.trigger(EV_READ)), None, None)
        bev.trigger(EV_READ)
        base.loopexit(0.01)
        assert base.dispatch() == 0
        assert base.got_exit
    assert len(calls) > MAX_DEFERRED_PER_PASS


def test_what_a_deferred_callback_writes_is_sent_in_its_pass(base: EventBase, pair: Pair) -> None:
    seen: list[bytes] = []
    with BufferEvent(base, pair[0], BEV_OPT_DEFER_CALLBACKS) as bev:
        bev.setcb(lambda bev, ctx: bev.write(bev.read()), None, None)
        bev.enable(EV_READ)
        pair[1].send(b"ping")
        waits = PrepareWatcher(base, lambda *_: seen.append(peek(pair[1])))
        base.loop(EVLOOP_ONCE)
        base.loop(EVLOOP_NONBLOCK)
        waits.close()
    assert seen[:2] == [b"", b"ping"]


def peek(sock: socket.socket) -> bytes:
    try:
        return sock.recv(99, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


def test_trigger_knows_no_other_options(base: EventBase, pair: Pair, log: Log) -> None:
    """Bits beside the two are masked off."""
    with log.attach(BufferEvent(base, pair[0])) as bev:
        bev.setwatermark(EV_READ, 1, 0)
        bev.trigger(EV_READ, BEV_OPT_CLOSE_ON_FREE | 0x200)
        assert log.calls == []
        bev.trigger_event(0x40, BEV_OPT_CLOSE_ON_FREE)
        bev.trigger_event(0x40, BEV_TRIG_DEFER_CALLBACKS)
        assert log.events == [0x40]
        assert base.dispatch() == 1
        assert log.events == [0x40, 0x40]
        assert pair[0].fileno() != -1


@pytest.mark.parametrize("options", [0, BEV_OPT_DEFER_CALLBACKS])
def test_trigger_of_both_directions_stops_at_a_close(
    base: EventBase, pair: Pair, options: int
) -> None:
    bev = BufferEvent(base, pair[0], options)
    bev.setcb(close_bev, never, never)
    bev.trigger(EV_READ | EV_WRITE)
    assert base.dispatch() == 1
    assert bev.closed


def test_the_priority_is_the_middle_one_as_of_creation(base: EventBase, pair: Pair) -> None:
    """Changing the number of priorities later does not move it, nor its deferred callbacks."""
    base.priority_init(4)
    with BufferEvent(base, pair[0], BEV_OPT_DEFER_CALLBACKS) as bev:
        base.priority_init(9)
        ran: list[str] = []
        bev.setcb(lambda *_: ran.append("bev"), None, None)
        bev.trigger(EV_READ)
        base.once(-1, EV_TIMEOUT, lambda *_: ran.append("middle of nine"))
        assert bev.priority == 2
        assert base.dispatch() == 1
        assert ran == ["bev", "middle of nine"]


def test_callbacks_can_be_replaced_while_one_is_due(base: EventBase, pair: Pair, log: Log) -> None:
    """What happens is told to those who are set when the deferred run comes."""
    with BufferEvent(base, pair[0], BEV_OPT_DEFER_CALLBACKS) as bev:
        bev.setcb(never, never, never, "old")
        bev.trigger(EV_READ)
        bev.trigger_event(BEV_EVENT_EOF)
        bev.setcb(log.read, None, None, "new")
        assert bev.getcb() == (log.read, None, None, "new")
        assert base.dispatch() == 1
        assert log.calls == ["read"]
        bev.trigger(EV_READ)
        bev.setcb(None, never, never)
        assert base.dispatch() == 1


def test_an_input_callback_may_close_in_the_middle_of_a_read(base: EventBase, pair: Pair) -> None:
    bev = BufferEvent(base, pair[0], BEV_OPT_CLOSE_ON_FREE)
    bev.setcb(never, never, never)
    bev.setwatermark(EV_READ, 0, 2)
    bev.input.add_cb(lambda buffer, info, arg: bev.close() if info.n_added else None)
    bev.enable(EV_READ)
    pair[1].send(b"data")
    assert base.dispatch() == 1
    assert pair[0].fileno() == -1


def test_a_write_callback_that_is_set_as_the_output_drains_is_called_for_it(
    base: EventBase, pair: Pair
) -> None:
    """A callback of the buffer sets it: the bufferevent's own comes behind those of its buffers."""
    told: list[str] = []
    bev = BufferEvent(base, pair[0], BEV_OPT_CLOSE_ON_FREE)

    def on_change(buffer: object, info: Any, arg: object) -> None:
        if info.n_deleted:
            bev.setcb(None, lambda bev, ctx: told.append("sent"), None)

    bev.output.add_cb(on_change)
    bev.write(b"out")
    for _ in range(3):
        base.loop(EVLOOP_NONBLOCK)
    assert told == ["sent"]
    close_bev(bev)
