"""Standard input to a connection, and the connection to standard output, as netcat does it.

Usage: becat.py [-l] host port

Connects, or with -l waits for one connection.  The end of the input ends that direction; the end
of the connection ends the program.
"""

import os
import socket
import stat
import sys
from contextlib import ExitStack

from evsvc import (
    EV_READ,
    BufferEvent,
    ConnListener,
    EventBase,
    Resolver,
)
from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_OPT_CLOSE_ON_FREE,
    LEV_OPT_CLOSE_ON_FREE,
    gai_strerror,
)

MOST_WAITING_BYTES = 256 * 1024


def pour(source, sink):
    """Move what was read on.  A sink that is behind stops the source until it has drained."""
    sink.write_buffer(source.input)
    if len(sink.output) > MOST_WAITING_BYTES:
        source.disable(EV_READ)


def fail(error):
    """Say what went wrong, and leave the loop."""
    print(f"becat.py: {error}", file=sys.stderr)
    failures.append(error)
    base.loopbreak()


def on_net_event(net, what, out):
    """Begin once connected; end when the other side has, and all of it is printed."""
    if what & BEV_EVENT_CONNECTED:
        begin(net)
    elif not what & BEV_EVENT_EOF:
        fail(gai_strerror(net.dns_error) if net.dns_error else net.error)
    elif len(out.output):
        out.setcb(None, lambda out, net: base.loopbreak(), on_out_event)
    else:
        base.loopbreak()


def on_out_event(out, what, net):
    """Nobody reads our output any more."""
    fail(out.error)


def on_input_event(keys, what, net):
    """The input has ended, or cannot be read: end that direction when all of it is sent."""
    if len(net.output):
        net.setcb(on_net_read, lambda net, out: end_sending(net), on_net_event, net.getcb()[3])
    else:
        end_sending(net)


def end_sending(net):
    """Tell the other side that nothing more comes."""
    net.socket.shutdown(socket.SHUT_WR)


def on_net_read(net, out):
    """Print what comes."""
    pour(net, out)


def begin(net):
    """There is a connection: read from both sides, and let each drained one start the other."""
    out = net.getcb()[3]
    out.setcb(None, lambda out, net: net.enable(EV_READ), on_out_event, net)
    net.enable(EV_READ)
    if stat.S_ISREG(os.fstat(0).st_mode):
        net.output.add_file(os.dup(0))  # a file cannot be polled, but it can be sent
        on_input_event(None, 0, net)
        return
    keys = stack.enter_context(BufferEvent(base, 0))
    keys.setcb(pour, None, on_input_event, net)
    keys.enable(EV_READ)
    net.setcb(on_net_read, lambda net, out: keys.enable(EV_READ), on_net_event, out)


def on_accept(listener, sock, address, out):
    """Take one connection, and listen no more."""
    listener.close()
    net = stack.enter_context(BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE))
    net.setcb(on_net_read, None, on_net_event, out)
    begin(net)


failures = []
arguments = [argument for argument in sys.argv[1:] if argument != "-l"]
if len(arguments) != 2:
    sys.exit("becat.py: a host and a port are wanted")
host, port = arguments
with ExitStack() as stack:
    base = stack.enter_context(EventBase())
    out = stack.enter_context(BufferEvent(base, 1))
    try:
        if "-l" in sys.argv[1:]:
            address = host, int(port)
            listener = ConnListener.new_bind(
                base, on_accept, out, LEV_OPT_CLOSE_ON_FREE, -1, address
            )
            print(f"listening on port {listener.address[1]}", file=sys.stderr, flush=True)
        else:
            resolver = stack.enter_context(Resolver(base))
            net = stack.enter_context(BufferEvent(base, None, BEV_OPT_CLOSE_ON_FREE))
            net.setcb(on_net_read, None, on_net_event, out)
            net.connect_hostname(resolver, socket.AF_UNSPEC, host, int(port))
    except (ValueError, OSError) as error:
        sys.exit(f"becat.py: {error}")
    base.dispatch()
sys.exit(bool(failures))
