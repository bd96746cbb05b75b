"""The loop: its flags, its ways to end, its priorities, its time."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    EVENT_BASE_FLAG_NO_CACHE_TIME,
    EVLOOP_NO_EXIT_ON_EMPTY,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    ArgumentError,
    BufferEvent,
    Event,
    EventBase,
    EventConfig,
    FakeClock,
    StateError,
)

pytestmark = pytest.mark.every_backend

Pair = tuple[socket.socket, socket.socket]
DAY_S = 86400.0


class Boom(Exception):
    """What a callback of these tests raises."""


def boom(*args: object) -> None:
    raise Boom


def test_dispatch_of_an_empty_base_returns_1(base: EventBase) -> None:
    """The normal end, "no more events", and no error."""
    assert base.dispatch() == 1
    assert not base.got_exit
    assert not base.got_break


def test_loopexit_after_a_time_ends_long_before_a_day(
    fake_base: EventBase, clock: FakeClock
) -> None:
    """loopexit(300 ms) with a 24 h timer pending: ends at 300 ms, got_exit and not got_break."""
    fake_base.timer(boom).add(DAY_S)
    start = clock.monotonic()
    fake_base.loopexit(0.3)
    assert fake_base.dispatch() == 0
    assert clock.monotonic() - start == pytest.approx(0.3)
    assert fake_base.got_exit
    assert not fake_base.got_break


def test_the_earlier_of_two_exits_wins_and_the_later_stays(
    fake_base: EventBase, clock: FakeClock
) -> None:
    """loopexit(200 ms) plus loopexit(3 s): ends at 200 ms, and the next run at 3 s."""
    start = clock.monotonic()
    fake_base.loopexit(3)
    fake_base.loopexit(0.2)
    assert fake_base.dispatch() == 0
    assert clock.monotonic() - start == pytest.approx(0.2)
    assert fake_base.dispatch() == 0
    assert clock.monotonic() - start == pytest.approx(3)
    assert fake_base.dispatch() == 1
    assert not fake_base.got_exit


def test_loopexit_lets_what_is_active_run(base: EventBase) -> None:
    """Without an interval the loop ends after the callbacks that are active now."""
    ran: list[str] = []
    base.once(-1, EV_TIMEOUT, lambda *_: (ran.append("first"), base.loopexit()))
    base.once(-1, EV_TIMEOUT, lambda *_: ran.append("second"))
    assert base.dispatch() == 0
    assert ran == ["first", "second"]


def test_break_in_the_first_of_two_timers_keeps_the_second(fake_base: EventBase) -> None:
    """Two zero-delay timers, the first breaks: the second runs at the next entry of the loop;
    got_break and not got_exit."""
    ran: list[str] = []
    first = fake_base.timer(lambda *_: (ran.append("first"), fake_base.loopbreak()))
    second = fake_base.timer(lambda *_: ran.append("second"))
    first.add(0)
    second.add(0)
    assert fake_base.dispatch() == 0
    assert ran == ["first"]
    assert fake_base.got_break
    assert not fake_base.got_exit
    assert fake_base.dispatch() == 1
    assert ran == ["first", "second"]


def test_a_break_before_the_loop_is_lost(base: EventBase) -> None:
    """The flag of event_base_loopbreak is cleared on entry."""
    ran: list[int] = []
    base.loopbreak()
    base.once(-1, EV_TIMEOUT, lambda *_: ran.append(1))
    assert base.dispatch() == 1
    assert ran == [1]
    assert not base.got_break


def test_a_break_keeps_output_unsent_until_the_next_loop(base: EventBase, pair: Pair) -> None:
    with BufferEvent(base, pair[0]) as bev:
        base.once(-1, EV_TIMEOUT, lambda *_: (bev.write(b"x"), base.loopbreak()))
        assert base.dispatch() == 0
        with pytest.raises(BlockingIOError):
            pair[1].recv(1)
        assert base.dispatch() == 1
        assert pair[1].recv(2) == b"x"


def test_a_break_in_a_write_callback_keeps_the_other_writers(
    base: EventBase, pairs: Callable[[], Pair]
) -> None:
    (ours, peer), (our_second, second_peer) = pairs(), pairs()
    with BufferEvent(base, ours) as first, BufferEvent(base, our_second) as second:
        first.setcb(None, lambda *_: base.loopbreak(), None)
        first.write(b"1")
        second.write(b"2")
        assert base.dispatch() == 0
        assert peer.recv(2) == b"1"
        with pytest.raises(BlockingIOError):
            second_peer.recv(1)
        assert base.dispatch() == 1
        assert second_peer.recv(2) == b"2"


def test_continue_asks_the_kernel_before_the_rest(base: EventBase, pair: Pair) -> None:
    """event_base_loopcontinue: stop this pass after the current callback and poll again."""
    ran: list[str] = []
    base.priority_init(2)
    urgent = Event(base, pair[0], EV_READ, lambda *_: ran.append("read"))
    urgent.priority = 0
    urgent.add()

    def first(*args: object) -> None:
        ran.append("first")
        pair[1].send(b"x")
        base.loopcontinue()

    base.once(-1, EV_TIMEOUT, first)
    base.once(-1, EV_TIMEOUT, lambda *_: ran.append("second"))
    assert base.dispatch() == 1
    assert ran == ["first", "read", "second"]


def test_a_second_loop_inside_a_callback_is_refused(base: EventBase) -> None:
    """event_base_loop inside a callback is an error; the outer loop goes on, and returns 1 when
    out of events."""
    refused: list[str] = []

    def nested(*args: object) -> None:
        with pytest.raises(StateError, match="running already") as caught:
            base.loop()
        refused.append(str(caught.value))

    base.once(-1, EV_TIMEOUT, nested)
    assert base.dispatch() == 1
    assert len(refused) == 1


def test_once_returns_0_although_nothing_is_left(base: EventBase) -> None:
    """EVLOOP_ONCE with a one-shot event returns 0, and 1 only when it finds the base empty."""
    base.timer(lambda *_: None).add(0)
    assert base.loop(EVLOOP_ONCE) == 0
    assert base.loop(EVLOOP_ONCE) == 1


def test_once_runs_one_round_of_a_persistent_event(fake_base: EventBase) -> None:
    ran: list[int] = []
    ticker = Event(fake_base, -1, EV_PERSIST, lambda *_: ran.append(1))
    ticker.add(5)
    assert fake_base.loop(EVLOOP_ONCE) == 0
    assert ran == [1]


def test_nonblock_with_nothing_ready_returns_at_once(base: EventBase) -> None:
    base.timer(boom).add(DAY_S)
    assert base.loop(EVLOOP_NONBLOCK) == 0


def test_nonblock_sends_what_write_callbacks_add(base: EventBase, pair: Pair) -> None:
    """Output that comes while output is sent goes out in the same run."""
    rest = [b"2", b"3"]
    with BufferEvent(base, pair[0]) as bev:
        bev.setcb(None, lambda *_: rest and bev.write(rest.pop(0)), None)
        bev.write(b"1")
        base.timer(boom).add(DAY_S)
        assert base.loop(EVLOOP_NONBLOCK) == 0
        assert pair[1].recv(9) == b"123"


def test_once_returns_after_a_send_that_was_due_before(base: EventBase, pair: Pair) -> None:
    with BufferEvent(base, pair[0]) as bev:
        base.timer(boom).add(DAY_S)
        bev.write(b"x")
        assert base.loop(EVLOOP_ONCE) == 0
        assert pair[1].recv(2) == b"x"


@pytest.mark.parametrize("persist", [0, EV_PERSIST])
def test_seventy_writable_sockets_are_called_once_each(
    base: EventBase, pairs: Callable[[], Pair], persist: int
) -> None:
    """70 simultaneously writable sockets: one NONBLOCK run calls each one-shot callback once;
    PERSIST with NONBLOCK|ONCE calls each once per loop call."""
    calls = [0] * 70

    def writable(fd: int, what: int, index: int) -> None:
        calls[index] += 1

    for index in range(70):
        Event(base, pairs()[0], EV_WRITE | persist, writable, index).add()
    flags = EVLOOP_NONBLOCK | EVLOOP_ONCE if persist else EVLOOP_NONBLOCK
    for rounds in (1, 2):
        base.loop(flags)
        assert calls == [rounds if persist else 1] * 70


def test_no_exit_on_empty_stays_until_broken(fake_base: EventBase, clock: FakeClock) -> None:
    """EVLOOP_NO_EXIT_ON_EMPTY: events come from posted calls and timers at 100, 200, 400 and
    450 ms; a break from a callback ends it."""
    start = clock.monotonic()
    fired: list[float] = []

    def note(*args: object) -> None:
        fired.append(round(clock.monotonic() - start, 3))

    def add_two(*args: object) -> None:
        fake_base.timer(note).add(0.1)
        fake_base.timer(lambda *_: (note(), fake_base.loopbreak())).add(0.15)

    fake_base.timer(note).add(0.1)
    fake_base.timer(lambda *_: fake_base.post(note)).add(0.2)
    fake_base.timer(add_two).add(0.3)
    assert fake_base.loop(EVLOOP_NO_EXIT_ON_EMPTY) == 0
    assert fired == [0.1, 0.2, 0.4, 0.45]
    assert fake_base.got_break


@pytest.mark.parametrize(("priorities", "counts"), [(1, (3, 3)), (2, (3, 1)), (3, (3, 0))])
def test_the_exit_sits_at_the_middle_priority(
    fake_base: EventBase, priorities: int, counts: tuple[int, int]
) -> None:
    """1, 2 and 3 priorities, zero-delay timers at top and bottom that add themselves again, exit
    after three runs of either: (3, 3), (3, 1) and (3, 0) runs."""
    fake_base.priority_init(priorities)
    ran = [0, 0]
    timers: list[Event] = []

    def tick(fd: int, what: int, index: int) -> None:
        if ran[index] == 3:
            fake_base.loopexit()
            return
        ran[index] += 1
        timers[index].add(0)

    timers += [fake_base.timer(tick, 0), fake_base.timer(tick, 1)]
    timers[0].priority = 0
    timers[1].priority = priorities - 1
    for timer in timers:
        timer.add(0)
    assert fake_base.dispatch() == 0
    assert tuple(ran) == counts


def test_a_more_urgent_event_runs_next(base: EventBase) -> None:
    """Priority inversion: at 4 of 8, one activates another at 4 and then one at 0, which runs
    second."""
    base.priority_init(8)
    ran: list[str] = []
    other = Event(base, -1, 0, lambda *_: ran.append("other"))
    urgent = Event(base, -1, 0, lambda *_: ran.append("urgent"))
    urgent.priority = 0
    first = Event(base, -1, 0, lambda *_: (ran.append("first"), other.active(1), urgent.active(1)))
    first.active(EV_TIMEOUT)
    assert base.dispatch() == 1
    assert ran == ["first", "urgent", "other"]


def test_posted_calls_that_post_again_starve_nobody(base: EventBase, pair: Pair) -> None:
    """Events that activate each other for ever advance in step with ready descriptors."""
    turns = {"posted": 0, "read": 0}

    def again() -> None:
        turns["posted"] += 1
        base.post(again)

    def readable(fd: int, what: int, arg: object) -> None:
        turns["read"] += 1
        if turns["read"] == 10:
            base.loopbreak()

    Event(base, pair[0], EV_READ | EV_PERSIST, readable).add()
    pair[1].send(b"x")
    base.post(again)
    assert base.dispatch() == 0
    assert 9 <= turns["posted"] <= 12


def test_new_events_get_the_middle_priority(base: EventBase) -> None:
    """A fresh base has one priority; event_new takes npriorities // 2."""
    assert base.npriorities == 1
    assert base.timer(boom).priority == 0
    base.priority_init(7)
    assert base.timer(boom).priority == 3


@pytest.mark.parametrize("count", [0, -1, 256])
def test_the_number_of_priorities_has_bounds(base: EventBase, count: int) -> None:
    """event_base_priority_init takes 1 to 255, and the same count again."""
    with pytest.raises(ArgumentError, match=str(count)):
        base.priority_init(count)
    for _ in range(2):
        base.priority_init(255)
        assert base.npriorities == 255


def test_priorities_cannot_change_while_events_are_active(base: EventBase) -> None:
    """event_base_priority_init refuses while anything is active."""
    event = base.timer(lambda *_: None)
    event.active(EV_TIMEOUT)
    with pytest.raises(StateError):
        base.priority_init(2)
    event.delete()
    base.priority_init(2)
    assert base.npriorities == 2


def test_an_event_keeps_its_place_when_priorities_become_fewer(base: EventBase) -> None:
    """Events that were made before event_base_priority_init keep their number, and run."""
    ran: list[int] = []
    base.priority_init(5)
    event = base.timer(lambda *_: ran.append(1))
    event.priority = 4
    base.priority_init(1)
    event.active(EV_TIMEOUT)
    assert base.dispatch() == 1
    assert ran == [1]


def test_callbacks_of_one_pass_see_one_time(fake_base: EventBase, clock: FakeClock) -> None:
    """Three callbacks active in one pass, of 30 ms each, see the same cached time."""
    seen: list[float] = []
    for _ in range(3):
        fake_base.once(-1, EV_TIMEOUT, lambda *_: (seen.append(fake_base.now), clock.advance(0.03)))
    fake_base.dispatch()
    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert fake_base.now == clock.monotonic()


def test_the_time_can_be_read_again_within_a_pass(fake_base: EventBase, clock: FakeClock) -> None:
    """event_base_update_cache_time in each callback: the cached times differ."""
    seen: list[float] = []

    def note(*args: object) -> None:
        clock.advance(0.03)
        fake_base.update_cache_time()
        seen.append(fake_base.now)

    for _ in range(3):
        fake_base.once(-1, EV_TIMEOUT, note)
    fake_base.dispatch()
    assert seen[1] - seen[0] == pytest.approx(0.03)
    assert seen[2] - seen[1] == pytest.approx(0.03)


def test_without_cached_time_each_callback_sees_its_own(clock: FakeClock) -> None:
    config = EventConfig()
    config.set_flag(EVENT_BASE_FLAG_NO_CACHE_TIME)
    seen: list[float] = []
    with EventBase(config, clock=clock) as base:
        for _ in range(3):
            base.once(-1, EV_TIMEOUT, lambda *_: (clock.advance(1), seen.append(base.now)))
        base.dispatch()
    assert seen == [1001.0, 1002.0, 1003.0]


def test_an_exception_leaves_dispatch_and_the_rest_stays_active(base: EventBase) -> None:
    """No event is running any more, and the loop can be entered again."""
    ran: list[int] = []
    base.once(-1, EV_TIMEOUT, boom)
    base.once(-1, EV_TIMEOUT, lambda *_: ran.append(1))
    with pytest.raises(Boom):
        base.dispatch()
    assert base.running_event is None
    assert ran == []
    assert base.dispatch() == 1
    assert ran == [1]


def test_a_handler_gets_the_exception_and_the_loop_goes_on(base: EventBase) -> None:
    caught: list[Exception] = []
    base.exception_handler = caught.append
    base.once(-1, EV_TIMEOUT, boom)
    base.once(-1, EV_TIMEOUT, boom)
    assert base.dispatch() == 1
    assert [type(exc) for exc in caught] == [Boom, Boom]


def test_an_interrupt_passes_by_the_handler(base: EventBase) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    base.exception_handler = lambda exc: pytest.fail(f"handled {exc!r}")
    base.once(-1, EV_TIMEOUT, interrupt)
    with pytest.raises(KeyboardInterrupt):
        base.dispatch()
    assert base.dispatch() == 1


def test_a_handler_that_raises_ends_the_loop_whole(base: EventBase) -> None:
    base.exception_handler = boom
    base.once(-1, EV_TIMEOUT, lambda *_: 1 / 0)
    with pytest.raises(Boom):
        base.dispatch()
    assert base.dispatch() == 1


def test_the_running_event_is_known_in_its_callback_only(base: EventBase) -> None:
    """event_base_get_running_event outside callbacks: none."""
    seen: list[object] = []
    event = base.timer(lambda *_: seen.append(base.running_event))
    event.add(0)
    base.dispatch()
    assert seen == [event]
    assert base.running_event is None


def test_closing_runs_no_callback_and_leaves_descriptors_open(base: EventBase, pair: Pair) -> None:
    """event_base_free with pending and active events does not call them, nor close their
    descriptors; afterwards they cannot be added."""
    active = base.timer(boom)
    active.active(EV_TIMEOUT)
    pending = Event(base, pair[0], EV_READ | EV_WRITE, boom)
    pending.add(1)
    with BufferEvent(base, pair[1]) as bev:
        bev.write(b"never sent")
        base.post(boom)
        base.close()
        base.close()
    assert not pending.pending()
    assert not active.pending()
    for refused in (pending.add, lambda: active.active(1), base.dispatch, lambda: base.post(boom)):
        with pytest.raises(StateError, match="closed"):
            refused()
    pending.delete()
    base.loopbreak()
    pair[1].send(b"still open")
    assert pair[0].recv(99) == b"still open"


def test_a_base_cannot_be_closed_in_its_loop(base: EventBase) -> None:
    base.once(-1, EV_TIMEOUT, lambda *_: base.close())
    with pytest.raises(StateError, match="running"):
        base.dispatch()
    assert base.dispatch() == 1


def test_a_flush_list_does_not_make_a_fake_clock_jump(
    fake_base: EventBase, clock: FakeClock, pair: Pair
) -> None:
    start = clock.monotonic()
    sent_at: list[float] = []
    with BufferEvent(fake_base, pair[0]) as bev:
        bev.setcb(None, lambda *_: sent_at.append(clock.monotonic() - start), None)
        fake_base.timer(lambda *_: None).add(60)
        bev.write(b"x")
        fake_base.dispatch()
    assert sent_at == [0.0]
    assert clock.monotonic() - start == pytest.approx(60)


def test_a_wake_up_alone_is_no_callback_for_once(fake_base: EventBase) -> None:
    """The reader of the wake-up socket is internal: ONCE goes on to the timer."""
    ran: list[int] = []
    fake_base.loopbreak()  # before the loop: lost, but for the byte that it wrote
    fake_base.timer(lambda *_: ran.append(1)).add(5)
    assert fake_base.loop(EVLOOP_ONCE) == 0
    assert ran == [1]
