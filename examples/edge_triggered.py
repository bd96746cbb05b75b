"""Edge-triggered reading where the system has it: told once of what came, not as long as it lies.

Usage: edge_triggered.py [method to avoid ...]

The callback reads one byte of five.  Level-triggered it is called again for the rest;
edge-triggered it is not, which is why a program has to read there until nothing is left.
"""

import socket
import sys

from evsvc import (
    EV_PERSIST,
    EV_READ,
    EVLOOP_NONBLOCK,
    Event,
    EventBase,
)
from evsvc.core import (
    EV_ET,
    EV_FEATURE_ET,
    EventConfig,
    NoBackendError,
    supported_methods,
)


def make_base(avoided):
    """Make a base that can do edge-triggering, or else one that cannot."""
    config = EventConfig()
    for method in avoided:
        config.avoid_method(method)
    config.require_features(EV_FEATURE_ET)
    try:
        return EventBase(config)
    except NoBackendError as error:
        print(f"no edge-triggering: {error}", file=sys.stderr)
    config.require_features(0)
    return EventBase(config)


def on_readable(fd, what, calls):
    """Read less than there is."""
    calls.append(ours.recv(1))


for method in sys.argv[1:]:
    if method not in supported_methods():
        sys.exit(f"edge_triggered.py: {method} is none of {', '.join(supported_methods())}")
try:
    base = make_base(sys.argv[1:])
except NoBackendError as error:
    sys.exit(f"edge_triggered.py: {error}")

ours, theirs = socket.socketpair()
with base, ours, theirs:
    calls = []
    Event(base, ours, EV_READ | EV_PERSIST | EV_ET, on_readable, calls).add()
    theirs.send(b"12345")
    base.loop(EVLOOP_NONBLOCK)

    kind = "edge" if base.features & EV_FEATURE_ET else "level"
    print(f"{base.method}, {kind}-triggered: calls for 5 bytes: {len(calls)}")
