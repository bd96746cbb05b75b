"""Who waits for a group, and once only; who has nothing to move stops nobody."""

from __future__ import annotations

import socket
from collections.abc import Callable

from evsvc.core import (
    EV_READ,
    EV_WRITE,
    BufferEvent,
    EventBase,
    RateLimitGroup,
    TokenBucketCfg,
)
from evsvc.core.bufferevent.flow import SUSPENDED_GROUP
from tests.core.bevs import Pair
from tests.core.tls_ends import Over

CFG = TokenBucketCfg(1000, 3000, 500, 1500)


def run(base: EventBase, seconds: float) -> None:
    base.loopexit(seconds)
    base.dispatch()


def join(
    base: EventBase, group: RateLimitGroup, pairs: Callable[[], Pair], count: int
) -> list[tuple[BufferEvent, socket.socket]]:
    """Return so many new members, each with its peer."""
    members = []
    for _ in range(count):
        sock, peer = pairs()
        bev = BufferEvent(base, sock)
        bev.add_to_rate_limit_group(group)
        members.append((bev, peer))
    return members


def test_a_side_waits_once_even_if_it_moves_bytes_while_it_waits(
    fake_base: EventBase, pair: Pair
) -> None:
    """As a TLS handshake does; the number that it waits with stays."""
    with RateLimitGroup(fake_base, CFG) as group, BufferEvent(fake_base, pair[0]) as bev:
        group.decrement_write(500)
        bev.add_to_rate_limit_group(group)
        lane = group._buckets.write
        before = list(lane._waiting)
        assert bev._limiter is not None
        bev._limiter.note_written(10)
        bev._limiter.max_to_write(10)
        assert lane._waiting == before
        assert len(before) == 1
        bev.remove_from_rate_limit_group()
        assert (lane._waiting, lane._queued) == ([], set())


def test_tls_handshakes_wait_once(fake_base: EventBase) -> None:
    with RateLimitGroup(fake_base, TokenBucketCfg(1, 1, 1, 1, 3600)) as group:
        group.decrement_read(1000)
        group.decrement_write(1000)
        ends = [end for _ in range(3) for end in Over("socket").ends(fake_base)]
        for end in ends:
            end.add_to_rate_limit_group(group)
            end.enable(EV_READ | EV_WRITE)
        run(fake_base, 1)
        waiting = [side for _, side in group._buckets.write._waiting]
        assert len(waiting) == len(set(waiting)) == len(ends)
        assert group.totals.written > 0
        for end in ends:
            end.close()


def test_idle_members_take_up_no_turn(fake_base: EventBase, pairs: Callable[[], Pair]) -> None:
    """One that writes goes on at once, however many others were let go on with it."""
    with RateLimitGroup(fake_base, TokenBucketCfg(10_000, 10_000, 10_000, 10_000)) as group:
        group.decrement_write(10_001)
        members = join(fake_base, group, pairs, 20)
        group.decrement_write(-10_001)
        active, peer = members[-1]
        for _ in range(3):
            active.write(b"x" * 1000)
            run(fake_base, 0)
            run(fake_base, 0)
        assert len(peer.recv(10_000)) == 3000
        assert active.flow.write_suspended == 0
        for bev, _ in members:
            bev.close()


def test_idle_members_leave_their_turn_to_those_that_wait(
    fake_base: EventBase, pairs: Callable[[], Pair]
) -> None:
    """Where there are fewer shares than members, they are for those with something to write."""
    with RateLimitGroup(fake_base, TokenBucketCfg(640, 640, 640, 640)) as group:
        group.decrement_write(640)
        bevs = [bev for bev, _ in join(fake_base, group, pairs, 20)]
        for bev in bevs[-3:]:
            bev.write(b"x" * 64)
        run(fake_base, 1.5)
        assert [len(bev.output) for bev in bevs[-3:]] == [0, 0, 0]
        for bev in bevs:
            bev.close()


def test_below_its_share_a_reader_goes_on_beside_others_that_were_called(
    fake_base: EventBase, pairs: Callable[[], Pair]
) -> None:
    """Nobody knows whether those have something to read; at its share it lets them have theirs."""
    with RateLimitGroup(fake_base, TokenBucketCfg(1000, 1000, 1000, 1000)) as group:
        group.decrement_read(1001)
        bevs = join(fake_base, group, pairs, 4)
        for bev, _ in bevs:
            bev.enable(EV_READ)
        active, peer = bevs[0]
        group.decrement_read(-1001)
        for _ in range(2):
            peer.send(b"x" * 249)
            run(fake_base, 0)
            run(fake_base, 0)
        assert len(active.input) == 498
        assert active.flow.read_suspended == 0
        peer.send(b"x" * 250)
        run(fake_base, 0)
        run(fake_base, 0)
        assert len(active.input) == 748
        assert active.flow.read_suspended == SUSPENDED_GROUP
        for bev, _ in bevs:
            bev.close()
