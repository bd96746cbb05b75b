"""An echo server: bench/echo.c for evsvc, and for asyncio and uvloop.

Usage: echo.py KIND.  Binds 127.0.0.1 on a free port, prints it on one line, and serves until it is
killed.  KIND is evsvc; asyncio or uvloop, with a protocol; or streams, asyncio's with a task for
each connection.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

from evsvc import (
    EV_READ,
    BufferEvent,
    ConnListener,
    EventBase,
)
from evsvc.core import BEV_OPT_CLOSE_ON_FREE, BevEvent

READ_BYTES = 16384


def echo(bev: BufferEvent, ctx: object) -> None:
    """Send back what has come."""
    bev.write_buffer(bev.input)


def end(bev: BufferEvent, what: BevEvent, ctx: object) -> None:
    """Close a connection whose other side has gone."""
    bev.close()


def accept(listener: ConnListener, sock: socket.socket, address: object, arg: object) -> None:
    """Serve a new connection."""
    bev = BufferEvent(listener.base, sock, BEV_OPT_CLOSE_ON_FREE)
    bev.setcb(echo, None, end)
    bev.enable(EV_READ)


def serve_evsvc() -> None:
    """Serve with bufferevents."""
    with (
        EventBase() as base,
        ConnListener.new_bind(base, accept, None, 0, -1, ("127.0.0.1", 0)) as listener,
    ):
        print(listener.address[1], flush=True)
        base.dispatch()


class EchoProtocol(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: Any) -> None:
        """Remember where to write."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Send back what has come."""
        self.transport.write(data)


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes on one connection."""
    try:
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # the other side was quicker
    finally:
        writer.close()


async def serve_asyncio(with_streams: bool) -> None:
    """Serve with protocols or streams on the loop that runs."""
    loop = asyncio.get_running_loop()
    if with_streams:
        server = await asyncio.start_server(echo_stream, "127.0.0.1", 0)
    else:
        server = await loop.create_server(EchoProtocol, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve in the way that the command line names."""
    kind = sys.argv[1]
    if kind == "evsvc":
        serve_evsvc()
    elif kind == "uvloop":
        import uvloop  # type: ignore[import-not-found,unused-ignore]  # a peer, not always there

        uvloop.run(serve_asyncio(with_streams=False))
    else:
        asyncio.run(serve_asyncio(with_streams=kind == "streams"))


if __name__ == "__main__":
    main()
