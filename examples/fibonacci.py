"""A TCP server that sends Fibonacci numbers, one a line, as fast as each client reads them.

Usage: fibonacci.py [port [numbers]]

The write callback is called whenever the output has drained.  It adds about a kilobyte and returns:
a client that does not read costs that much and no more.  After `numbers` numbers (default 1000) the
connection is closed.
"""

import sys

from evsvc import BufferEvent, ConnListener, EventBase
from evsvc.core import BEV_OPT_CLOSE_ON_FREE, LEV_OPT_CLOSE_ON_FREE

AT_ONCE_BYTES = 1024


class Sequence:
    """Where a client is: the next two numbers, and how many are left to be sent."""

    def __init__(self, left):
        self.pair = 0, 1
        self.left = left


def on_drained(bev, sequence):
    """Add the next numbers, or close after the last."""
    if not sequence.left:
        bev.close()
        return
    while sequence.left and len(bev.output) < AT_ONCE_BYTES:
        number, following = sequence.pair
        bev.output.add_printf("%d\n", number)
        sequence.pair = following, number + following
        sequence.left -= 1


def on_accept(listener, sock, address, numbers):
    """Begin: the write callback comes when something was written, and not before."""
    bev = BufferEvent(listener.base, sock, BEV_OPT_CLOSE_ON_FREE)
    sequence = Sequence(numbers)
    bev.setcb(None, on_drained, lambda bev, what, ctx: bev.close(), sequence)
    on_drained(bev, sequence)


try:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9997
    numbers = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    if numbers < 1:
        raise ValueError(f"numbers are 1 or more: {numbers}")
    base = EventBase()
    listener = ConnListener.new_bind(
        base, on_accept, numbers, LEV_OPT_CLOSE_ON_FREE, -1, ("127.0.0.1", port)
    )
except (ValueError, OSError) as error:
    sys.exit(f"fibonacci.py: {error}")
print(f"listening on port {listener.address[1]}", flush=True)
base.dispatch()
