"""A chat over WebSocket: a page, and what each of its readers writes goes to all of them.

Usage: chat.py [port]
Needs the extra: pip install evsvc[ws]
"""

import argparse
import signal
import sys

from evsvc import EventBase, HttpServer
from evsvc.core import StateError
from evsvc.http import websocket
from evsvc.http.websocket import WS_TEXT_FRAME, WebSocketOptions

PAGE = """<!DOCTYPE html>
<meta charset="utf-8">
<title>Chat</title>
<h1>Chat</h1>
<form><input name="text" placeholder="Say something" autocomplete="off" autofocus></form>
<ul></ul>
<script>
const list = document.querySelector("ul"), form = document.querySelector("form");
const socket = new WebSocket(`ws://${location.host}/chat`);
function show(text) {
  const line = document.createElement("li");
  line.textContent = text;
  list.prepend(line);
}
socket.onmessage = event => show(event.data);
socket.onclose = event => show(`The chat is over (${event.code}).`);
form.onsubmit = event => {
  event.preventDefault();
  socket.send(form.text.value);
  form.reset();
};
</script>
"""

OPTIONS = WebSocketOptions(max_message_bytes=4096, max_output_bytes=256 * 1024, deflate=True)
names = {}  # by session


def say(text):
    """Send a line to everybody; who does not keep up is let go."""
    for session in list(names):
        try:
            session.send_text(text)
        except StateError:
            session.close()


def on_message(session, kind, data, number):
    """Pass on what one of them has written."""
    if kind is WS_TEXT_FRAME:
        say(f"{names[session]}: {data}")
    else:
        session.shutdown(1003, "a chat is text")


def on_close(session, arg):
    """Tell the others who has gone."""
    say(f"{names.pop(session)} leaves.")


def join(request, numbers):
    """Make a chatter of a request, if it comes from our own page."""
    session = websocket.accept(request, on_message, None, OPTIONS, origins=())
    if session is not None:
        numbers.append(len(numbers) + 1)
        names[session] = f"Guest {numbers[-1]}"
        session.set_closecb(on_close)
        say(f"{names[session]} is here.")


def send_page(request, arg):
    """Answer with the page."""
    request.output_headers.add("Content-Type", "text/html; charset=utf-8")
    request.send_reply(200, None, PAGE.encode())


def stop(signum, what, server):
    """Say 1001 to everybody, and end when they have answered."""
    server.shutdown(lambda server: server.base.loopexit())


parser = argparse.ArgumentParser()
parser.add_argument("port", type=int, nargs="?", default=8080)
port = parser.parse_args().port

with EventBase() as base, HttpServer(base) as server:
    server.set_cb("/", send_page)
    server.set_cb("/chat", join, [])
    try:
        bound = server.bind_socket("127.0.0.1", port)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        sys.exit(f"chat.py: {error}")
    with base.signal(signal.SIGINT, stop, server) as interrupt:
        interrupt.add()
        print(f"http://127.0.0.1:{bound.port}/", flush=True)
        base.dispatch()
