"""A FastAPI application on an HttpServer: lifespan, a stream and a WebSocket, in one loop.

Usage: fastapi_app.py [port]
Needs FastAPI and the extra: pip install fastapi evsvc[ws]
"""

import argparse
import asyncio
import signal
import sys
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

from evsvc import HttpServer, aio
from evsvc.asgi import AsgiHandler


@asynccontextmanager
async def lifespan(app):
    """Make what all requests share, and let it go at the end."""
    yield {"visits": {}}
    print("stopped in order", flush=True)


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def hello(request: Request, name: str = "World"):
    """Answer with JSON, and count in the lifespan's state."""
    visits = request.state.visits
    visits[name] = visits.get(name, 0) + 1
    return {"message": f"Hello, {name}!", "visits": visits[name]}


@app.get("/count")
async def count():
    """Answer piece by piece: the client has each line when it is made."""

    async def lines():
        for number in range(1, 4):
            yield f"{number}\n"
            await asyncio.sleep(0.1)

    return StreamingResponse(lines(), media_type="text/plain")


@app.websocket("/echo")
async def echo(session: WebSocket):
    """Send back each text, until the client leaves."""
    await session.accept()
    try:
        while True:
            await session.send_text(await session.receive_text())
    except WebSocketDisconnect:
        print("a client has left", flush=True)


def plain(request, arg):
    """Answer by a callback: what it does not take from asyncio, it need not pay for."""
    request.send_reply(200, None, b"by a callback\n")


async def main(port):
    """Serve until SIGINT or SIGTERM, then stop in order."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stopping.set)
    handler = AsgiHandler(loop, app)
    await handler.startup()
    with HttpServer(loop.base) as server:
        handler.mount(server)
        server.set_cb("/plain", plain)
        try:
            bound = server.bind_socket("127.0.0.1", port)
        except ValueError as error:
            parser.error(str(error))
        except OSError as error:
            sys.exit(f"fastapi_app.py: {error}")
        print(f"http://127.0.0.1:{bound.port}/", flush=True)
        await stopping.wait()
        server.shutdown(deadline_s=10)
        await handler.shutdown(deadline_s=10)


parser = argparse.ArgumentParser()
parser.add_argument("port", type=int, nargs="?", default=8080)
aio.run(main(parser.parse_args().port))
