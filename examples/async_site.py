"""A site whose handlers are coroutines: one waits for another service, one talks by WebSocket.

Usage: async_site.py [port]
Needs the extra: pip install evsvc[ws]
"""

import argparse
import asyncio
import signal

from evsvc import EventBase, HttpClient, HttpServer
from evsvc.aio import fetch, handler, run, shutdown
from evsvc.aio.websocket import accept


async def weather(request, client):
    """Answer when the other service has; one that takes too long is not waited for."""
    try:
        async with asyncio.timeout(5):
            answer = await fetch(client, "GET", f"http://{request.host}/other-service")
    except TimeoutError:
        request.send_error(504)
    else:
        request.send_reply(200, None, b"They say: " + answer.body)


async def other_service(request, arg):
    """Take some time to answer."""
    await asyncio.sleep(0.1)
    request.send_reply(200, None, b"sunny\n")


async def upper(request, arg):
    """Send each message back in capital letters."""
    ws = accept(request)
    if ws is None:
        return  # no WebSocket: it is answered already
    async with ws:
        async for message in ws:
            await ws.send(message.upper())


async def main(port):
    """Serve until a signal comes, and let what is under way come to its end."""
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    with HttpServer(base) as server, HttpClient(base) as client:
        server.set_cb("/weather", handler(weather), client)
        server.set_cb("/other-service", handler(other_service))
        server.set_cb("/upper", handler(upper))
        print(f"http://127.0.0.1:{server.bind_socket('127.0.0.1', port).port}/weather", flush=True)
        await stop.wait()
        await shutdown(server, deadline_s=10)


parser = argparse.ArgumentParser()
parser.add_argument("port", type=int, nargs="?", default=8080)
with EventBase() as base:
    run(main(parser.parse_args().port), base=base)
