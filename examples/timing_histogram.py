"""How long the loop waits, how late it wakes up and how long callbacks take: three histograms.

Usage: timing_histogram.py [ticks [seconds]]

A prepare watcher runs before each wait and a check watcher after it; what lies between the two is
waiting, and from a check to the next prepare the callbacks run.
"""

import sys
from collections import Counter
from itertools import count
from math import ceil

from evsvc import EV_PERSIST, Event, EventBase
from evsvc.core import CheckWatcher, PrepareWatcher, event_self_cbarg

# By the binary digits of the microseconds, so that each bar stands for twice the time.
waits, delays, callbacks = Counter(), Counter(), Counter()
numbers = count(1)
marks = {}  # when the last prepare and check were, and how long the wait was to be


def note(histogram, seconds):
    """Count one measurement."""
    histogram[int(seconds * 1e6).bit_length()] += 1


def on_prepare(watcher, info, arg):
    """The callbacks are over, and the wait begins; `info.timeout` is how long it may be."""
    marks["prepare"] = base.gettime_monotonic()
    marks["expected"] = info.timeout
    if "check" in marks:
        note(callbacks, marks["prepare"] - marks["check"])


def on_check(watcher, info, arg):
    """The wait is over, and the callbacks begin."""
    marks["check"] = base.gettime_monotonic()
    waited = marks["check"] - marks["prepare"]
    note(waits, waited)
    if marks["expected"] is not None and waited >= marks["expected"]:
        note(delays, waited - marks["expected"])


def on_tick(fd, what, timer):
    """Do a little more each time, so that there is something to see."""
    number = next(numbers)
    sum(range(1000 * number))
    if number == ticks:
        timer.delete()


def show(title, histogram):
    """Print a line for each bar."""
    print(f"{title}: {histogram.total()}")
    for digits in range(min(histogram, default=0), max(histogram, default=-1) + 1):
        number = histogram[digits]
        bar = "#" * ceil(60 * number / histogram.total())
        print(f"  below {2**digits:8} us {number:6} {bar}")


with EventBase() as base:
    timer = Event(base, -1, EV_PERSIST, on_tick, event_self_cbarg)
    try:
        ticks = int(sys.argv[1]) if len(sys.argv) > 1 else 100
        if ticks < 1:
            raise ValueError(f"ticks are 1 or more: {ticks}")
        timer.add(float(sys.argv[2]) if len(sys.argv) > 2 else 0.01)
    except ValueError as error:
        sys.exit(f"timing_histogram.py: {error}")
    PrepareWatcher(base, on_prepare)
    CheckWatcher(base, on_check)
    base.dispatch()

show("waits", waits)
show("delays", delays)
show("callbacks", callbacks)
