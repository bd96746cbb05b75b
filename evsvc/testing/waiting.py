"""Running the loop until something is so, and saying what is pending when it never is.

A fake clock lets time pass where the loop would sleep.  Two kinds of programs have it otherwise:
one whose loop never comes to rest stands still in time, so passes are limited, too; and one that
waits for another thread or process wants the real clock, as nobody could tell for how long.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core import EVLOOP_ONCE, ArgumentError
from ..core.checks import check_timeout, whole_number

if TYPE_CHECKING:
    from ..core import EventBase

DEFAULT_WAIT_S = 60.0
"""How long is waited at the most, by the base's clock: with a fake one that is no time at all."""

DEFAULT_MAX_PASSES = 100_000
"""How many passes of the loop there may be, one after the other, in which no time passes."""


class NothingHappened(AssertionError):
    """What a test waited for has not happened."""


def run_until(
    base: EventBase,
    is_done: Callable[[], object],
    *,
    what: str = "what was waited for",
    wait_s: float = DEFAULT_WAIT_S,
    max_passes: int = DEFAULT_MAX_PASSES,
) -> None:
    """Run passes of the loop until `is_done()` is true.

    what: names it in the error.  wait_s: seconds by the base's clock.  max_passes: how many there
    may be in which that stands still, as a fake one does while there is always something to do.
    Raises NothingHappened when either is over, with what is pending then, whatever a callback
    raises where the base has no exception handler, and StateError inside a callback; ArgumentError
    or ArgumentTypeError for a limit that is none.
    """
    check_timeout(wait_s)
    if whole_number(max_passes, "max_passes") < 1:
        raise ArgumentError(f"max_passes is at least 1: {max_passes!r}")
    over: list[bool] = []
    with base.timer(lambda fd, kind, arg: over.append(True)) as limit:
        limit.add(wait_s)
        now, passes = base.gettime_monotonic(), 0
        while not is_done():
            if over or limit.deadline is None:
                raise NothingHappened(_complaint(base, f"{what} has not come within {wait_s:g} s"))
            if passes == max_passes:
                busy = f"{what} has not come in {passes} passes of a loop that never rests"
                raise NothingHappened(_complaint(base, f"{busy}, and so lets no time pass"))
            base.loop(EVLOOP_ONCE)
            last, now = now, base.gettime_monotonic()
            passes = passes + 1 if now == last else 0


def run_for(base: EventBase, seconds: float, *, max_passes: int = DEFAULT_MAX_PASSES) -> None:
    """Let `seconds` pass by the base's clock, and what is due in them happen.

    With a fake clock that is no time at all.  Raises as `run_until`.
    """
    check_timeout(seconds)
    over: list[bool] = []
    with base.timer(lambda fd, kind, arg: over.append(True)) as end:
        end.add(seconds)
        run_until(
            base,
            lambda: over,
            what=f"the end of {seconds:g} s",
            wait_s=seconds,
            max_passes=max_passes,
        )


def _complaint(base: EventBase, text: str) -> str:
    pending = io.StringIO()
    base.dump_events(pending)
    return f"{text}; what the base has:\n{pending.getvalue()}"
