"""Urgent and ordinary events that are ready at the same time: the urgent ones go first.

Usage: priorities.py

An alarm that an ordinary callback sets off is urgent, too: it goes before the other ordinary
events, although they were ready long before.
"""

import socket

from evsvc import (
    EV_READ,
    EV_TIMEOUT,
    Event,
    EventBase,
)

URGENT, ORDINARY = 0, 1


def on_urgent(fd, what, name):
    """Tell that it is this event's turn."""
    print(name)


def on_ordinary(fd, what, name):
    """Tell it, and set off the alarm."""
    print(name)
    alarm.active(EV_TIMEOUT)


with EventBase() as base:
    base.priority_init(2)
    alarm = base.timer(on_urgent, "alarm")
    alarm.priority = URGENT

    # Each has something to read before the loop starts; the ordinary ones were here first.
    pairs = []
    for name, priority, callback in (
        ("ordinary, left", ORDINARY, on_ordinary),
        ("ordinary, right", ORDINARY, on_ordinary),
        ("urgent, left", URGENT, on_urgent),
        ("urgent, right", URGENT, on_urgent),
    ):
        ours, theirs = socket.socketpair()
        pairs += ours, theirs
        theirs.send(b"!")
        event = Event(base, ours, EV_READ, callback, name)
        event.priority = priority
        event.add()

    base.dispatch()

for sock in pairs:
    sock.close()
