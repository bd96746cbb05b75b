"""Sends messages to a WebSocket, and prints as many that come back.

Usage: websocket_client.py ws://HOST[:PORT]/PATH [message ...]
Needs the extra: pip install evsvc[ws]
"""

import argparse
import sys

from evsvc import EventBase, Resolver
from evsvc.http.websocket import WebSocketOptions, connect


def on_message(session, kind, data, wanted):
    """Print what came, and say good-bye when it was the last."""
    print(data, flush=True)
    wanted.pop()
    if not wanted:
        session.shutdown()


def on_open(session, error, wanted):
    """Send the messages, or tell why there is no WebSocket."""
    if error is not None:
        sys.exit(f"websocket_client.py: {error}")
    session.set_closecb(on_close)
    for message in wanted:
        session.send_text(message)
    if not wanted:
        session.shutdown()


def on_close(session, arg):
    """End with the session, and not well where it has not ended well."""
    session.bufferevent.base.loopexit()
    if session.close_code != 1000:
        sys.exit(f"websocket_client.py: closed: {session.close_code} {session.close_reason}")


parser = argparse.ArgumentParser()
parser.add_argument("url")
parser.add_argument("message", nargs="*")
args = parser.parse_args()

with EventBase() as base, Resolver(base) as resolver:
    options = WebSocketOptions(deflate=True, open_s=10.0)
    try:
        connect(base, args.url, on_message, on_open, args.message, options, resolver=resolver)
    except ValueError as error:
        parser.error(str(error))
    base.dispatch()
