"""Running the loop until something is so, and saying what is pending when it never is."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core import EVLOOP_ONCE
from ..core.checks import check_timeout

if TYPE_CHECKING:
    from ..core import EventBase

DEFAULT_WAIT_S = 60.0
"""How long is waited at the most, by the base's clock: with a fake one that is no time at all."""


class NothingHappened(AssertionError):
    """What a test waited for has not happened."""


def run_until(
    base: EventBase,
    is_done: Callable[[], object],
    *,
    what: str = "what was waited for",
    wait_s: float = DEFAULT_WAIT_S,
) -> None:
    """Run passes of the loop until `is_done()` is true.

    what: names it in the error.  wait_s: seconds by the base's clock.  Raises NothingHappened when
    they are over, with what is pending then, and whatever a callback raises where the base has no
    exception handler.
    """
    check_timeout(wait_s)
    over: list[bool] = []
    with base.timer(lambda fd, kind, arg: over.append(True)) as limit:
        limit.add(wait_s)
        while not is_done():
            if over or limit.deadline is None:
                raise NothingHappened(_complaint(base, what, wait_s))
            base.loop(EVLOOP_ONCE)


def _complaint(base: EventBase, what: str, wait_s: float) -> str:
    text = io.StringIO()
    base.dump_events(text)
    return f"{what} has not come within {wait_s:g} s; what the base has:\n{text.getvalue()}"
