"""No kind of bufferevent leaves anything behind."""

from __future__ import annotations

import gc

import pytest

from evsvc.core import EV_READ, EVLOOP_NONBLOCK, EventBase
from tests.core.bevs import boom
from tests.core.kinds import KINDS, EndsMaker, finish
from tests.core.test_leaks import growth


@pytest.mark.no_cover
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_a_thousand_leave_nothing(make: EndsMaker) -> None:
    """Made, used, ended and closed, with the cyclic collector off."""
    with EventBase() as base:

        def one() -> None:
            ends = make(base, 0)
            for bev in ends:
                bev.setcb(
                    lambda bev, ctx: bev.read(), boom, lambda bev, what, ctx: bev.close(), bev
                )
                bev.set_timeouts(60, 60)
                bev.setwatermark(EV_READ, 0, 4)
                bev.enable(EV_READ)
            ends[0].setcb(None, None, None)
            ends[0].write(b"0123456789")
            ends[0].setcb(None, None, boom, ends)
            base.loop(EVLOOP_NONBLOCK)
            finish(ends[0])
            base.loop(EVLOOP_NONBLOCK)
            assert ends[1].closed

        gc.collect()
        gc.disable()
        try:
            assert growth(one, 1000) < 700  # dead timer entries
        finally:
            gc.enable()
