"""Ticks, with the time between them: a one-shot timer that is added again, or a persistent one.

Usage: ticks.py [-p] [seconds [ticks]]

With -p the timer is persistent and keeps its beat.  Without, its callback adds it again, and each
tick is late by a little more than the one before.
"""

import sys

from evsvc import EV_PERSIST, Event, EventBase
from evsvc.core import event_self_cbarg


def on_tick(fd, what, timer):
    """Print the time since the tick before and since the start."""
    times.append(base.gettime_monotonic())
    number = len(times) - 1
    step, total = times[-1] - times[-2], times[-1] - times[0]
    print(f"tick {number}: after {step:.3f} s, {total:.3f} s in all", flush=True)
    if number == ticks:
        timer.delete()
    elif not persistent:
        timer.add(seconds)


arguments = [argument for argument in sys.argv[1:] if argument != "-p"]
persistent = "-p" in sys.argv[1:]

with EventBase() as base:
    timer = Event(base, -1, EV_PERSIST if persistent else 0, on_tick, event_self_cbarg)
    times = [base.gettime_monotonic()]
    try:
        seconds = float(arguments[0]) if arguments else 10.0
        ticks = int(arguments[1]) if len(arguments) > 1 else 6
        if ticks < 1:
            raise ValueError(f"ticks are 1 or more: {ticks}")
        timer.add(seconds)
    except ValueError as error:
        sys.exit(f"ticks.py: {error}")
    base.dispatch()
