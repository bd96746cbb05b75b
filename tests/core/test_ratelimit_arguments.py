"""What rate limits refuse: it raises at the call, and nothing has changed."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from evsvc.core import (
    EV_READ,
    ArgumentTypeError,
    BufferEvent,
    EventBase,
    RateLimitGroup,
    TokenBucketCfg,
)
from evsvc.core.checks import whole_number
from tests.core.bevs import Pair

CFG = TokenBucketCfg(1000, 3000, 500, 1500)


@pytest.fixture
def filled(pair: Pair) -> socket.socket:
    """Return a socket that 5000 bytes wait in."""
    pair[1].send(b"x" * 5000)
    return pair[0]


def run(base: EventBase, seconds: float) -> None:
    base.loopexit(seconds)
    base.dispatch()


@pytest.mark.parametrize("tick", ["1", None])
def test_a_tick_is_a_number(tick: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=f"{tick!r}"):
        TokenBucketCfg(1, 1, 1, 1, tick)


@pytest.mark.parametrize("value", [0.5, float("nan"), "1", None])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    """The message has the argument's name, the value and the type."""
    with pytest.raises(ArgumentTypeError) as caught:
        whole_number(value, "a size")
    assert str(caught.value) == f"a size is a whole number, not {value!r} ({type(value).__name__})"


def test_whole_numbers_and_bools_are_taken() -> None:
    assert [whole_number(value, "a size") for value in (-5, 0, 2**70, True)] == [-5, 0, 2**70, 1]


@pytest.mark.parametrize("cfg", ["x", 5, (1, 1, 1, 1)])
def test_what_is_no_configuration_changes_nothing(
    fake_base: EventBase, filled: socket.socket, cfg: Any
) -> None:
    """The limit before it stays, and nothing leaves the loop later."""
    with BufferEvent(fake_base, filled) as bev:
        with pytest.raises(ArgumentTypeError, match=type(cfg).__name__):
            bev.set_rate_limit(cfg)
        assert bev._limiter is None
        bev.set_rate_limit(CFG)
        with pytest.raises(ArgumentTypeError, match=type(cfg).__name__):
            bev.set_rate_limit(cfg)
        assert bev.rate_limit is CFG
        bev.enable(EV_READ)
        run(fake_base, 1.5)
        assert len(bev.input) == 2000


@pytest.mark.parametrize("size", [0.5, float("nan"), "1", None])
def test_a_decrement_is_a_whole_number(fake_base: EventBase, pair: Pair, size: Any) -> None:
    with BufferEvent(fake_base, pair[0]) as bev:
        bev.set_rate_limit(CFG)
        for decrement in (bev.decrement_read_limit, bev.decrement_write_limit):
            with pytest.raises(ArgumentTypeError, match=f"{size!r}"):
                decrement(size)
        assert (bev.read_limit, bev.write_limit) == (1000, 500)


@pytest.mark.parametrize("wrong", [None, "x", 5])
def test_what_is_no_configuration_or_group_changes_nothing(
    fake_base: EventBase, pair: Pair, wrong: Any
) -> None:
    name = type(wrong).__name__
    with RateLimitGroup(fake_base, CFG) as group, BufferEvent(fake_base, pair[0]) as bev:
        with pytest.raises(ArgumentTypeError, match=name):
            RateLimitGroup(fake_base, wrong)
        with pytest.raises(ArgumentTypeError, match=name):
            group.set_cfg(wrong)
        assert group.cfg is CFG
        bev.add_to_rate_limit_group(group)
        with pytest.raises(ArgumentTypeError, match=name):
            bev.add_to_rate_limit_group(wrong)
        assert bev.rate_limit_group is group
        run(fake_base, 1.5)
        assert group.read_limit == 2000


@pytest.mark.parametrize("number", [1.5, float("nan"), "1", None])
def test_sizes_and_shares_of_a_group_are_whole_numbers(fake_base: EventBase, number: Any) -> None:
    with RateLimitGroup(fake_base, CFG) as group:
        for call in (group.decrement_read, group.decrement_write, group.set_min_share):
            with pytest.raises(ArgumentTypeError, match=f"{number!r}"):
                call(number)
        assert (group.read_limit, group.write_limit, group.min_share) == (1000, 500, 64)
