"""Rate limits that bufferevents share: joining, leaving, whose turn it is, and the group itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from evsvc.core import (
    BEV_OPT_THREADSAFE,
    EV_READ,
    EVLOOP_NONBLOCK,
    ArgumentError,
    BufferEvent,
    EventBase,
    FakeClock,
    GroupTotals,
    RateLimitGroup,
    StateError,
    TokenBucketCfg,
)
from evsvc.core.bufferevent.flow import SUSPENDED_GROUP
from tests.core.bevs import Pair, close_bev
from tests.core.test_threads import Gate, in_thread

CFG = TokenBucketCfg(1000, 3000, 500, 1500)


class Readers:
    """Members of a group that read what is always there."""

    def __init__(self, base: EventBase, group: RateLimitGroup, pairs: list[Pair]) -> None:
        self.bevs: list[BufferEvent] = []
        self.amounts = [0] * len(pairs)
        self.turns: list[int] = []
        self._peers = [peer for _, peer in pairs]
        for number, (sock, peer) in enumerate(pairs):
            peer.send(b"x" * 10_000)
            bev = BufferEvent(base, sock)
            bev.setcb(self._on_read, None, None, number)
            bev.add_to_rate_limit_group(group)
            bev.enable(EV_READ)
            self.bevs.append(bev)

    def _on_read(self, bev: BufferEvent, number: int) -> None:
        size = len(bev.read())
        self.amounts[number] += size
        self.turns.append(number)
        self._peers[number].send(b"x" * size)

    def close(self) -> None:
        for bev in self.bevs:
            bev.close()


@pytest.fixture
def readers(pairs: Callable[[], Pair]) -> Callable[[EventBase, RateLimitGroup, int], Readers]:
    def make(base: EventBase, group: RateLimitGroup, count: int) -> Readers:
        return Readers(base, group, [pairs() for _ in range(count)])

    return make


MakeReaders = Callable[[EventBase, RateLimitGroup, int], Readers]


def run(base: EventBase, seconds: float) -> None:
    base.loopexit(seconds)
    base.dispatch()


def test_the_loop_goes_on_while_there_is_a_group(fake_base: EventBase, clock: FakeClock) -> None:
    """Its refill timer is a normal persistent event: the loop does not end by itself."""
    start = clock.monotonic()
    group = RateLimitGroup(fake_base, CFG)
    fake_base.timer(lambda *_: group.close()).add(1000)
    assert fake_base.dispatch() == 1
    assert clock.monotonic() == start + 1000


def test_the_bucket_fills_with_the_ticks(fake_base: EventBase, clock: FakeClock) -> None:
    """The level is not refreshed on read, and never exceeds the configured maximum."""
    with RateLimitGroup(fake_base, CFG) as group:
        assert (group.base, group.cfg) == (fake_base, CFG)
        assert (group.read_limit, group.write_limit) == (1000, 500)
        clock.advance(1)
        assert group.read_limit == 1000
        run(fake_base, 0)
        assert (group.read_limit, group.write_limit) == (2000, 1000)
        run(fake_base, 60)
        assert (group.read_limit, group.write_limit) == (3000, 1500)


def test_members_share_what_there_is(fake_base: EventBase, pairs: Callable[[], Pair]) -> None:
    """Quantum = max(group tokens / number of members, min share)."""
    with RateLimitGroup(fake_base, CFG) as group:
        bevs = [BufferEvent(fake_base, pairs()[0]) for _ in range(20)]
        for bev in bevs[:4]:
            bev.add_to_rate_limit_group(group)
        assert [(bev.max_to_read, bev.max_to_write) for bev in bevs[:4]] == [(250, 125)] * 4
        bevs[3].remove_from_rate_limit_group()
        assert bevs[0].max_to_read == 333
        for bev in bevs:
            bev.add_to_rate_limit_group(group)
        assert (bevs[0].max_to_read, bevs[0].max_to_write) == (64, 64)
        for bev in bevs:
            bev.close()


def test_the_smaller_of_the_two_limits_counts(fake_base: EventBase, pair: Pair) -> None:
    with RateLimitGroup(fake_base, CFG) as group, BufferEvent(fake_base, pair[0]) as bev:
        bev.add_to_rate_limit_group(group)
        bev.max_single_read = 7
        assert bev.max_to_read == 7
        bev.set_rate_limit(TokenBucketCfg(800, 800, 800, 800))
        assert (bev.max_to_read, bev.max_to_write) == (800, 500)
        bev.set_rate_limit(None)
        assert bev.max_to_read == 7
        assert bev.rate_limit_group is group


def test_a_group_keeps_to_its_rate(fake_base: EventBase, readers: MakeReaders) -> None:
    with RateLimitGroup(fake_base, CFG) as group:
        members = readers(fake_base, group, 4)
        for tick in range(1, 5):
            run(fake_base, 0.5)
            assert sum(members.amounts) == group.totals.read == 1000 * tick
            run(fake_base, 0.5)
        members.close()


def test_each_member_gets_its_part_of_every_tick(
    fake_base: EventBase, readers: MakeReaders
) -> None:
    with RateLimitGroup(fake_base, CFG) as group:
        members = readers(fake_base, group, 4)
        run(fake_base, 10.5)
        assert members.amounts == [2750] * 4
        members.close()


def test_where_a_tick_is_not_enough_for_all_each_gets_its_turn(
    fake_base: EventBase, readers: MakeReaders
) -> None:
    """Nobody is left out for where his descriptor stands in what the backend found ready."""
    with RateLimitGroup(fake_base, TokenBucketCfg(100, 200, 100, 200)) as group:
        members = readers(fake_base, group, 7)
        run(fake_base, 70.5)
        assert sum(members.amounts) == pytest.approx(7100, abs=64)
        assert max(members.amounts) - min(members.amounts) <= 2 * 64
        members.close()


def test_what_one_does_not_use_another_may(fake_base: EventBase, readers: MakeReaders) -> None:
    """A member that waited and then moves little does not cost the group its tick."""
    with RateLimitGroup(fake_base, TokenBucketCfg(640, 640, 640, 640)) as group:
        members = readers(fake_base, group, 20)
        for bev in members.bevs[:19]:
            bev.max_single_read = 1
        run(fake_base, 10)
        before = sum(members.amounts)
        run(fake_base, 10)
        assert sum(members.amounts) - before == pytest.approx(6400, abs=64)
        members.close()


def test_members_that_move_nothing_are_left_alone(
    fake_base: EventBase, readers: MakeReaders, pairs: Callable[[], Pair]
) -> None:
    with RateLimitGroup(fake_base, CFG) as group:
        idle = BufferEvent(fake_base, pairs()[0])
        idle.enable(EV_READ)
        idle.add_to_rate_limit_group(group)
        members = readers(fake_base, group, 2)
        run(fake_base, 0.5)
        assert all(bev.flow.read_suspended == SUSPENDED_GROUP for bev in members.bevs)
        assert idle.flow.read_suspended == 0
        idle.close()
        members.close()


def test_joining_an_exhausted_group_suspends_and_leaving_resumes(
    fake_base: EventBase, pair: Pair
) -> None:
    """Joining another group leaves the first."""
    pair[1].send(b"x" * 100)
    with (
        RateLimitGroup(fake_base, CFG) as empty,
        RateLimitGroup(fake_base, CFG) as other,
        BufferEvent(fake_base, pair[0]) as bev,
    ):
        empty.decrement_read(5000)
        empty.decrement_write(5000)
        bev.enable(EV_READ)
        bev.write(b"y" * 10)
        bev.add_to_rate_limit_group(empty)
        assert bev.rate_limit_group is empty
        assert (bev.max_to_read, bev.max_to_write) == (0, 0)
        fake_base.loop(EVLOOP_NONBLOCK)
        assert (len(bev.input), len(bev.output)) == (0, 10)
        bev.add_to_rate_limit_group(other)
        assert bev.rate_limit_group is other
        fake_base.loop(EVLOOP_NONBLOCK)
        assert (len(bev.input), len(bev.output)) == (100, 0)
        assert empty.totals == (0, 0)
        assert other.totals == (100, 10)
        bev.add_to_rate_limit_group(empty)
        bev.remove_from_rate_limit_group()
        assert bev.rate_limit_group is None
        assert bev._limiter is None
        assert bev.flow.wanted & EV_READ


def test_joining_twice_is_joining_once(fake_base: EventBase, pair: Pair) -> None:
    with RateLimitGroup(fake_base, CFG) as group, BufferEvent(fake_base, pair[0]) as bev:
        bev.add_to_rate_limit_group(group)
        bev.add_to_rate_limit_group(group)
        assert bev.max_to_read == 1000


def test_draining_by_hand(fake_base: EventBase, readers: MakeReaders) -> None:
    """Manual drain: to <= 0 nobody moves, to > 0 all go on; the totals do not count it."""
    with RateLimitGroup(fake_base, CFG) as group:
        group.decrement_read(1000)
        members = readers(fake_base, group, 2)
        fake_base.loop(EVLOOP_NONBLOCK)
        assert members.amounts == [0, 0]
        assert group.read_limit == 0
        group.decrement_read(-300)
        run(fake_base, 0.5)
        assert sum(members.amounts) == group.totals.read == 300
        group.decrement_write(-5)
        assert group.write_limit == 505
        members.close()


def test_a_group_in_debt_waits_until_it_has_paid(
    fake_base: EventBase, readers: MakeReaders
) -> None:
    with RateLimitGroup(fake_base, CFG) as group:
        members = readers(fake_base, group, 3)
        group.decrement_read(4000)
        run(fake_base, 3.5)
        assert (sum(members.amounts), group.read_limit) == (0, 0)
        run(fake_base, 1)
        assert sum(members.amounts) == pytest.approx(1000, abs=64)
        members.close()


def test_totals(fake_base: EventBase, readers: MakeReaders) -> None:
    """Bytes read and written by members since the reset."""
    with RateLimitGroup(fake_base, CFG) as group:
        members = readers(fake_base, group, 2)
        members.bevs[0].write(b"z" * 123)
        run(fake_base, 0.5)
        assert group.totals == GroupTotals(read=1000, written=123)
        group.reset_totals()
        assert group.totals == (0, 0)
        run(fake_base, 1)
        assert group.totals == (1000, 0)
        members.close()


def test_the_least_share_is_limited_to_the_rates(fake_base: EventBase) -> None:
    """Smallest per-member quantum, default 64; effective up to the read and write rates."""
    with RateLimitGroup(fake_base, CFG) as group:
        assert group.min_share == 64
        group.set_min_share(700)
        assert group.min_share == 500
        group.set_cfg(TokenBucketCfg(900, 900, 800, 800))
        assert group.min_share == 700
        group.set_cfg(TokenBucketCfg(10, 10, 800, 800))
        assert group.min_share == 10


@pytest.mark.parametrize("share", [0, -1])
def test_a_share_of_nothing_is_refused(fake_base: EventBase, share: int) -> None:
    with (
        RateLimitGroup(fake_base, CFG) as group,
        pytest.raises(ArgumentError, match=str(share)),
    ):
        group.set_min_share(share)


def test_another_configuration_clips_and_starts_its_own_ticks(
    fake_base: EventBase, clock: FakeClock
) -> None:
    """set_cfg clips buckets down, restarts the tick if it changed."""
    with RateLimitGroup(fake_base, CFG) as group:
        run(fake_base, 1.5)
        group.set_cfg(TokenBucketCfg(10, 1500, 10, 50))
        assert (group.read_limit, group.write_limit) == (1500, 50)
        group.decrement_read(1500)
        run(fake_base, 0.6)
        assert group.read_limit == 10
        group.set_cfg(TokenBucketCfg(1, 100, 1, 100, 0.01))
        run(fake_base, 0.055)
        assert group.read_limit == 15


def test_the_configuration_is_the_groups_own_from_a_closed_one_nothing_is_wanted(
    fake_base: EventBase, pair: Pair
) -> None:
    group = RateLimitGroup(fake_base, CFG)
    group.close()
    group.close()
    with BufferEvent(fake_base, pair[0]) as bev:
        calls: list[Callable[[], None]] = [
            lambda: bev.add_to_rate_limit_group(group),
            lambda: group.set_cfg(CFG),
            lambda: group.set_min_share(1),
            lambda: group.decrement_read(1),
            lambda: group.decrement_write(1),
        ]
        for call in calls:
            with pytest.raises(StateError, match="group is closed"):
                call()
        assert bev._limiter is None


def test_a_closed_group_lets_its_members_go(fake_base: EventBase, readers: MakeReaders) -> None:
    group = RateLimitGroup(fake_base, CFG)
    members = readers(fake_base, group, 2)
    run(fake_base, 0.5)
    group.close()
    assert [bev.rate_limit_group for bev in members.bevs] == [None, None]
    for bev in members.bevs:
        bev.setcb(None, None, None)
    fake_base.loop(EVLOOP_NONBLOCK)
    assert [len(bev.input) for bev in members.bevs] == [10_000, 10_000]
    members.close()


def test_a_closed_member_has_left(fake_base: EventBase, readers: MakeReaders) -> None:
    """Destruction leaves automatically, and those who wait are not held up by it."""
    with RateLimitGroup(fake_base, CFG) as group:
        members = readers(fake_base, group, 3)
        run(fake_base, 0.5)
        for bev in members.bevs[:2]:
            bev.close()
        run(fake_base, 1)
        assert members.amounts[2] == pytest.approx(1333, abs=64)
        assert members.bevs[2].max_to_read == 0
        members.close()
        assert not group._members


def test_a_callback_may_close_every_member_and_the_group(
    fake_base: EventBase, readers: MakeReaders
) -> None:
    group = RateLimitGroup(fake_base, CFG)
    members = readers(fake_base, group, 3)

    def end(bev: BufferEvent, ctx: object) -> None:
        members.close()
        group.close()

    for bev in members.bevs:
        bev.setcb(end, None, None)
    assert fake_base.dispatch() == 1


def test_a_member_that_fails_leaves_the_others_their_turn(
    fake_base: EventBase, readers: MakeReaders
) -> None:
    """A program that closes a socket under its bufferevent hurts that one only."""
    with RateLimitGroup(fake_base, CFG) as group:
        members = readers(fake_base, group, 3)
        errors: list[Exception] = []
        fake_base.exception_handler = errors.append
        run(fake_base, 0.5)
        sock = members.bevs[0].socket
        assert sock is not None
        sock.close()
        run(fake_base, 2)
        assert len(errors) <= 1
        assert min(members.amounts[1:]) > 333
        members.close()


def test_a_member_locked_by_another_thread_gets_its_turn_later(
    fake_base: EventBase, pair: Pair
) -> None:
    """The loop does not wait for its lock: it might be held for ever."""
    pair[1].send(b"x" * 2000)
    with (
        RateLimitGroup(fake_base, CFG) as group,
        BufferEvent(fake_base, pair[0], BEV_OPT_THREADSAFE) as bev,
    ):
        group.decrement_read(1000)
        bev.add_to_rate_limit_group(group)
        bev.enable(EV_READ)
        locked, over = Gate(), Gate()

        def hold_lock() -> None:
            bev.lock()
            locked.open()
            over.wait()
            bev.unlock()

        with in_thread(hold_lock):
            locked.wait()
            run(fake_base, 1.5)
            assert bev.flow.read_suspended == SUSPENDED_GROUP
            assert group.read_limit == 1000
            over.open()
        run(fake_base, 1)
        assert len(bev.input) == 2000


def test_the_base_may_be_closed_first(fake_base: EventBase, pair: Pair) -> None:
    with EventBase(clock=FakeClock()) as base:
        group = RateLimitGroup(base, CFG)
        bev = BufferEvent(base, pair[0])
        bev.setcb(close_bev, None, None)
        bev.add_to_rate_limit_group(group)
        group.decrement_read(5000)
    with pytest.raises(StateError, match="base is closed"):
        RateLimitGroup(base, CFG)
    bev.close()
    group.close()
