"""Serves a folder, and shows it in a page that loads anew whenever a file there changes.

Usage: live_files.py [folder] [port]
Needs the extra: pip install evsvc[ws]
"""

import argparse
import os
import sys

from evsvc import EventBase, HttpServer
from evsvc.core import EV_PERSIST, Event
from evsvc.http import DirectoryOptions, websocket

PAGE = """<!DOCTYPE html>
<meta charset="utf-8">
<title>Live</title>
<style>body, iframe { margin: 0; border: 0; width: 100%; height: 100vh }</style>
<iframe src="/files/"></iframe>
<script>
const shown = document.querySelector("iframe").contentWindow;
function listen() {
  const socket = new WebSocket(`ws://${location.host}/changes`);
  socket.onmessage = () => shown.location.reload();
  socket.onclose = () => setTimeout(listen, 1000);
}
listen();
</script>
"""

POLL_S = 0.25
MOST_FILES = 2000  # so that looking at them does not hold the loop for long

viewers = set()


def state_of(folder):
    """Return when each file below a folder was changed, as far as that can be told."""
    found = {}
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            try:
                found[path, name] = os.stat(os.path.join(path, name)).st_mtime_ns
            except OSError:
                continue  # it is gone already
        if len(found) > MOST_FILES:
            break
    return found


def look(fd, what, watched):
    """Tell the viewers when something has changed since the last look."""
    state = state_of(watched["folder"])
    if state != watched["state"]:
        watched["state"] = state
        for session in list(viewers):
            session.send_text("changed")


def watch(request, arg):
    """Take a viewer's WebSocket; nobody has anything to say to us over it."""
    session = websocket.accept(request, lambda *message: None, origins=())
    if session is not None:
        viewers.add(session)
        session.set_closecb(lambda session, arg: viewers.discard(session))


def send_page(request, arg):
    """Answer with the page around the files."""
    request.output_headers.add("Content-Type", "text/html; charset=utf-8")
    request.send_reply(200, None, PAGE.encode())


parser = argparse.ArgumentParser()
parser.add_argument("folder", nargs="?", default=".")
parser.add_argument("port", type=int, nargs="?", default=8080)
args = parser.parse_args()

with EventBase() as base, HttpServer(base) as server:
    server.set_cb("/", send_page)
    server.set_cb("/changes", watch)
    try:
        server.serve_directory(
            "/files/", args.folder, DirectoryOptions(listing=True, cache_control="no-cache")
        )
        bound = server.bind_socket("127.0.0.1", args.port)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        sys.exit(f"live_files.py: {error}")
    watched = {"folder": args.folder, "state": state_of(args.folder)}
    with Event(base, -1, EV_PERSIST, look, watched) as ticker:
        ticker.add(POLL_S)
        print(f"http://127.0.0.1:{bound.port}/", flush=True)
        base.dispatch()
