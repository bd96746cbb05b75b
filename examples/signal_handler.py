"""A signal as an event: its callback runs in the loop, where it may do anything.

Usage: signal_handler.py [signal]

The signal is named as in SIGUSR1; without one it is SIGINT.  The second time ends the program.
"""

import os
import signal
import sys
from itertools import count

from evsvc import EventBase
from evsvc.core import event_self_cbarg


def on_signal(signum, what, event):
    """Count; when the event is deleted the signal does again what it did before."""
    number = next(numbers)
    print(f"{signal.Signals(signum).name} came: {number}", flush=True)
    if number == 2:
        event.delete()


numbers = count(1)
name = sys.argv[1] if len(sys.argv) > 1 else "SIGINT"
if name not in signal.Signals.__members__:
    sys.exit(f"signal_handler.py: no such signal: {name}")

with EventBase() as base:
    event = base.signal(signal.Signals[name], on_signal, event_self_cbarg)
    try:
        event.add()
    except ValueError as error:
        sys.exit(f"signal_handler.py: {error}")
    print(f"kill -s {name.removeprefix('SIG')} {os.getpid()}", flush=True)
    base.dispatch()
