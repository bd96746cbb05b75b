"""A timer that repeats until its own callback, which gets the event itself, deletes it.

Usage: repeating_timer.py [ticks [seconds]]
"""

import sys
from itertools import count

from evsvc import EV_PERSIST, Event, EventBase
from evsvc.core import event_self_cbarg


def on_tick(fd, what, timer):
    """Count; with the last tick nothing is left on the base, and the loop ends."""
    number = next(numbers)
    print(f"tick {number} of {ticks}", flush=True)
    if number == ticks:
        timer.delete()


numbers = count(1)
with EventBase() as base:
    timer = Event(base, -1, EV_PERSIST, on_tick, event_self_cbarg)
    try:
        ticks = int(sys.argv[1]) if len(sys.argv) > 1 else 5
        if ticks < 1:
            raise ValueError(f"ticks are 1 or more: {ticks}")
        timer.add(float(sys.argv[2]) if len(sys.argv) > 2 else 1.0)
    except ValueError as error:
        sys.exit(f"repeating_timer.py: {error}")
    base.dispatch()
