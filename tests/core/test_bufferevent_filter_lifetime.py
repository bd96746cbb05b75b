"""What a filtering bufferevent hears from below, and what closing either of them ends."""

from __future__ import annotations

import gc
import socket
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    BEV_EVENT_TIMEOUT,
    BEV_EVENT_WRITING,
    BEV_FLUSH,
    BEV_NEED_MORE,
    BEV_OK,
    BEV_OPT_CLOSE_ON_FREE,
    BEV_OPT_DEFER_CALLBACKS,
    BEV_OPT_THREADSAFE,
    EV_READ,
    EV_WRITE,
    AbstractBufferEvent,
    ArgumentError,
    ArgumentTypeError,
    BevEvent,
    BufferEvent,
    EvBuffer,
    EventBase,
    FakeClock,
    FilterBufferEvent,
    PairBufferEvent,
    StateError,
)
from tests.core.bevs import Boom, Log, Pair, boom, never
from tests.core.filters import Recorder, Result, double, settle
from tests.core.kinds import Ends


@pytest.fixture
def log() -> Log:
    return Log()


def over_nothing(base: EventBase) -> Ends:
    return BufferEvent(base), BufferEvent(base)


@pytest.mark.parametrize("make_below", [over_nothing, PairBufferEvent.new])
def test_timeouts_fire_once_and_disable_their_direction(
    fake_base: EventBase, clock: FakeClock, make_below: Callable[[EventBase], Ends]
) -> None:
    """Over descriptor-less sockets and pairs: READ 150 ms and WRITE 100 ms each fire once and not
    again; one that was asked to write and has nothing to gets a WRITE timeout; disabled READ none;
    data callbacks are not invoked."""
    start = clock.monotonic()
    told: list[tuple[str, float, BevEvent]] = []
    one, other = (FilterBufferEvent(bev, None, None, 1) for bev in make_below(fake_base))
    one.write(b"ABCDEFG")
    one.set_timeouts(0.15, 0.1)
    other.set_timeouts(0.1, 0.2)
    for name, bev in (("one", one), ("other", other)):
        bev.setcb(
            never,
            never,
            lambda _, what, name: told.append((name, clock.monotonic() - start, what)),
            name,
        )
    one.enable(EV_READ | EV_WRITE)
    other.enable(EV_WRITE)
    assert fake_base.dispatch() == 1
    assert told == [
        ("one", pytest.approx(0.1), BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING),
        ("one", pytest.approx(0.15), BEV_EVENT_TIMEOUT | BEV_EVENT_READING),
        ("other", pytest.approx(0.2), BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING),
    ]
    one.close()
    other.close()


def test_a_filter_over_nothing_can_be_closed_before_it(base: EventBase) -> None:
    """On a bufferevent without fd it can be created and freed, filter first."""
    inner = BufferEvent(base)
    bev = FilterBufferEvent(inner)
    assert bev.fd == -1
    bev.close()
    assert not inner.closed
    inner.close()
    assert base.dispatch() == 1


def test_the_connection_made_below_is_told(base: EventBase, log: Log) -> None:
    """CONNECTED passes unchanged; what was written before it goes out filtered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        inner = BufferEvent(base)
        bev = FilterBufferEvent(inner, None, double, BEV_OPT_CLOSE_ON_FREE)
        log.attach(bev)
        inner.connect(server.getsockname())
        bev.write(b"early")
        settle(base)
        accepted, _ = server.accept()
        settle(base)
        assert log.events == [BEV_EVENT_CONNECTED]
        assert log.calls == ["event", "write"]
        assert accepted.recv(99) == b"xexaxrxlxy"
        accepted.close()
        bev.close()


def test_a_failed_connection_below_is_told_with_its_error(
    base: EventBase, closed_address: tuple[str, int], log: Log
) -> None:
    """ERROR passes unchanged, with errno meaningful."""
    inner = BufferEvent(base)
    bev = FilterBufferEvent(inner, options=BEV_OPT_CLOSE_ON_FREE)
    log.attach(bev)
    inner.connect(closed_address)
    settle(base)
    assert log.events == [BEV_EVENT_ERROR]
    assert isinstance(bev.error, ConnectionRefusedError)
    bev.close()


def test_a_broken_connection_below_disables_the_direction(
    base: EventBase, pair: Pair, log: Log
) -> None:
    bev = FilterBufferEvent(BufferEvent(base, pair[0]), options=BEV_OPT_CLOSE_ON_FREE)
    log.attach(bev)
    pair[1].close()
    bev.write(b"x")
    settle(base)
    assert log.events == [BEV_EVENT_WRITING | BEV_EVENT_ERROR]
    assert isinstance(bev.error, BrokenPipeError)
    assert bev.enabled == 0
    bev.close()


def test_a_time_out_below_is_told_and_enabling_starts_both_again(
    fake_base: EventBase, pair: Pair, log: Log
) -> None:
    """TIMEOUT passes unchanged, with the direction disabled that is disabled below."""
    inner = BufferEvent(fake_base, pair[0])
    inner.set_timeouts(5, None)
    bev = FilterBufferEvent(inner, options=BEV_OPT_CLOSE_ON_FREE)
    log.attach(bev).enable(EV_READ)
    assert fake_base.dispatch() == 1
    assert log.events == [BEV_EVENT_TIMEOUT | BEV_EVENT_READING]
    assert bev.enabled == inner.enabled == EV_WRITE
    inner.set_timeouts(None, None)
    bev.enable(EV_READ)
    assert inner.enabled == EV_READ | EV_WRITE
    pair[1].send(b"late")
    settle(fake_base)
    assert log.data == b"late"
    bev.close()


def test_custom_events_below_are_told_as_they_are(base: EventBase, below: Ends, log: Log) -> None:
    bev = FilterBufferEvent(below[0], options=BEV_OPT_CLOSE_ON_FREE)
    bev.setcb(None, None, log.event)
    below[0].trigger_event(0x1000)
    settle(base)
    assert log.events == [0x1000]
    bev.close()


def test_an_end_of_file_waits_until_reading_is_enabled(base: EventBase, pair: Pair) -> None:
    """What came before it comes first, and no socket event is needed for either."""
    log = Log()
    bev = FilterBufferEvent(BufferEvent(base, pair[0]), options=BEV_OPT_CLOSE_ON_FREE)
    log.attach(bev)
    bev.setcb(lambda bev, ctx: bev.disable(EV_READ), None, log.event)
    bev.setwatermark(EV_READ, 0, 4)
    bev.enable(EV_READ)
    pair[1].send(b"012345")
    pair[1].close()
    settle(base)
    assert bev.read() == b"0123"
    bev.setwatermark(EV_READ, 0, 0)
    # The socket's own reading goes on for a moment, and finds the end.
    bev.underlying.flow.resume_reading(0x10)
    settle(base)
    assert log.events == []
    bev.setcb(log.read, None, log.event)
    bev.enable(EV_READ)
    settle(base)
    assert log.data == b"45"
    assert log.calls == ["read", "event"]
    assert log.events == [BEV_EVENT_READING | BEV_EVENT_EOF]
    bev.close()


def test_without_close_on_free_what_is_below_can_be_used_further(
    base: EventBase, below: Ends, log: Log
) -> None:
    """It is left usable, with callbacks cleared."""
    bev = FilterBufferEvent(below[0], None, double)
    bev.setcb(never, never, never)
    bev.close()
    assert not below[0].closed
    assert below[0].getcb() == (None, None, None, None)
    assert below[0].enabled == EV_READ | EV_WRITE
    log.attach(below[0])
    below[1].enable(EV_READ)
    below[1].write(b"in")
    below[0].write(b"out")
    settle(base)
    assert log.data == b"in"
    assert below[1].read() == b"out"


def test_callbacks_that_the_program_has_set_below_are_left_alone(
    base: EventBase, below: Ends, log: Log
) -> None:
    bev = FilterBufferEvent(below[0])
    log.attach(below[0])
    bev.close()
    below[1].write(b"x")
    settle(base)
    assert log.data == b"x"


def test_with_close_on_free_what_is_below_is_closed(base: EventBase, below: Ends) -> None:
    bev = FilterBufferEvent(below[0], options=BEV_OPT_CLOSE_ON_FREE)
    bev.write(b"x")
    bev.close()
    assert below[0].closed
    assert below[0].fd == -1
    bev.close()


def test_what_is_below_may_be_closed_first(base: EventBase, below: Ends) -> None:
    """Its callbacks are cleared by that, so the filter hears nothing more; bytes still leave."""
    bev = FilterBufferEvent(below[0], options=BEV_OPT_CLOSE_ON_FREE)
    bev.setcb(never, None, never)
    bev.enable(EV_READ)
    below[0].close()
    below[1].write(b"unheard")
    below[1].enable(EV_READ)
    bev.write(b"x")
    settle(base)
    assert below[1].read() == b"x"
    assert below[0]._references == 1
    bev.close()
    assert below[0]._references == 0


@pytest.mark.parametrize("options", [0, BEV_OPT_CLOSE_ON_FREE])
def test_the_context_is_freed_once(base: EventBase, below: Ends, options: int) -> None:
    """free_context runs at destruction, once: with the last reference."""
    freed: list[object] = []
    bev = FilterBufferEvent(below[0], None, None, options, freed.append, "ctx")
    bev.incref()
    bev.close()
    assert freed == []
    bev.decref()
    bev.close()
    assert freed == ["ctx"]


def test_what_freeing_the_context_raises_leaves_it_closed(base: EventBase, below: Ends) -> None:
    bev = FilterBufferEvent(below[0], None, None, BEV_OPT_CLOSE_ON_FREE, boom)
    with pytest.raises(Boom):
        bev.close()
    bev.close()
    assert below[0].closed
    assert base.dispatch() == 1


@pytest.mark.parametrize("way", ["input", "output", "flush"])
@pytest.mark.parametrize("deferred", [0, BEV_OPT_DEFER_CALLBACKS])
def test_a_filter_may_close_its_bufferevent(
    base: EventBase, below: Ends, way: str, deferred: int
) -> None:
    """The context lives until the filter has returned; it is not called again, and nothing told."""
    freed: list[object] = []
    calls: list[int] = []

    def closing(source: EvBuffer, target: EvBuffer, *rest: object) -> Result:
        calls.append(len(source))
        source.drain(1)
        bev.close()
        assert freed == []
        return BEV_OK

    bev = FilterBufferEvent(
        below[0], closing, closing, BEV_OPT_CLOSE_ON_FREE | deferred, freed.append, "ctx"
    )
    bev.setcb(never, never, never)
    bev.enable(EV_READ)
    if way == "input":
        below[1].write(b"three")
        settle(base)
    elif way == "output":
        bev.write(b"three")
    else:
        assert bev.flush(EV_READ | EV_WRITE, BEV_FLUSH) is True
    assert calls == [0 if way == "flush" else 5]
    assert freed == ["ctx"]
    assert below[0].closed
    settle(base)


def test_a_filter_goes_on_for_who_holds_a_reference(base: EventBase, below: Ends) -> None:
    def closing(source: EvBuffer, target: EvBuffer, *rest: object) -> Result:
        bev.close()
        target.add(source.remove(1))
        return BEV_OK if target else BEV_NEED_MORE

    bev = FilterBufferEvent(below[0], None, closing, BEV_OPT_CLOSE_ON_FREE)
    bev.incref()
    bev.write(b"all of it")
    below[1].enable(EV_READ)
    settle(base)
    assert below[1].read() == b"all of it"
    assert bev.decref()


def test_what_was_closed_holds_nothing(base: EventBase, below: Ends) -> None:
    """Filters and context go with it, though someone still has it, and it what was below."""
    context = Recorder()
    gone = weakref.ref(context)
    bev = FilterBufferEvent(below[0], context, context, 0, None, context)
    bev.close()
    del context
    gc.collect()
    assert gone() is None
    assert bev.underlying is below[0]


def test_there_is_no_priority_and_no_other_base(base: EventBase, below: Ends) -> None:
    """Refused for filter and pair."""
    with FilterBufferEvent(below[0]) as bev:
        with pytest.raises(StateError, match="FilterBufferEvent"):
            bev.priority = 0
        with EventBase() as other, pytest.raises(StateError, match="FilterBufferEvent"):
            bev.base = other


@pytest.mark.parametrize("wrong", [None, 7, "bev"])
def test_what_is_no_bufferevent_is_refused(wrong: Any) -> None:
    """NULL without underlying."""
    with pytest.raises(ArgumentTypeError, match=type(wrong).__name__):
        FilterBufferEvent(wrong)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_what_is_no_function_is_refused(base: EventBase, below: Ends, position: int) -> None:
    functions: list[Any] = [None, None, None]
    functions[position] = 7
    with pytest.raises(ArgumentTypeError, match="int"):
        FilterBufferEvent(below[0], functions[0], functions[1], 0, functions[2])
    assert below[0].decref is not None
    assert below[0]._references == 1


def test_no_filter_stands_on_what_is_closed(base: EventBase, below: Ends) -> None:
    below[0].close()
    with pytest.raises(StateError, match="closed"):
        FilterBufferEvent(below[0])
    with FilterBufferEvent(below[1]) as bev:
        pass
    calls: list[Callable[[], object]] = [
        lambda: bev.setfd(None),
        lambda: bev.replacefd(None),
        lambda: bev.enable(EV_READ),
        lambda: bev.flush(EV_READ),
    ]
    for call in calls:
        with pytest.raises(StateError, match="closed"):
            call()


def test_options_are_checked(base: EventBase, below: Ends) -> None:
    """A lock is one with that of what is below, which needs to have one."""
    with pytest.raises(ArgumentError, match="0x10"):
        FilterBufferEvent(below[0], options=0x10)
    with pytest.raises(ArgumentError, match="THREADSAFE"):
        FilterBufferEvent(below[0], options=BEV_OPT_THREADSAFE)
    assert below[0].getcb() == (None, None, None, None)
    inner = BufferEvent(base, None, BEV_OPT_THREADSAFE)
    bev = FilterBufferEvent(inner, options=BEV_OPT_THREADSAFE | BEV_OPT_CLOSE_ON_FREE)
    assert bev._lock is inner._lock
    bev.close()


def test_another_thread_may_write_and_only_the_loop_filters(base: EventBase, pair: Pair) -> None:
    filtered_in: set[int] = set()
    received = bytearray()

    def outgoing(source: EvBuffer, target: EvBuffer, *rest: object) -> Result:
        filtered_in.add(threading.get_ident())
        return BEV_OK if source.remove_buffer(target, 1 << 30) else BEV_NEED_MORE

    def readable(bev: AbstractBufferEvent, ctx: object) -> None:
        received.extend(bev.read())
        if len(received) == 3000:
            base.loopbreak()

    inner = BufferEvent(base, pair[0], BEV_OPT_THREADSAFE)
    options = BEV_OPT_THREADSAFE | BEV_OPT_CLOSE_ON_FREE
    bev = FilterBufferEvent(inner, None, outgoing, options)
    peer = BufferEvent(base, pair[1])
    peer.setcb(readable, None, never)
    peer.enable(EV_READ)
    threads = [
        threading.Thread(target=lambda: [bev.write(b"x") for _ in range(1000)]) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    base.dispatch()
    for thread in threads:
        thread.join()
    assert received == b"x" * 3000
    assert filtered_in == {threading.get_ident()}
    bev.close()
    peer.close()
