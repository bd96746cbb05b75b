"""1 GiB down and 1 GiB up, in a program of their own, whose memory stays as it was."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, socket, sys, threading
from evsvc.core import EventBase
from evsvc.http import HttpConnection, HttpRequest

SIZE, BLOCK = 1 << 30, bytes(1 << 20)
listening = socket.create_server(("127.0.0.1", 0))

def serve():
    sock, _ = listening.accept()
    head = b""
    while b"\\r\\n\\r\\n" not in head:
        head += sock.recv(65536)
    if head.startswith(b"GET"):
        sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % SIZE)
        for _ in range(SIZE // len(BLOCK)):
            sock.sendall(BLOCK)
    else:
        buffer = bytearray(1 << 20)
        left = SIZE - len(head.partition(b"\\r\\n\\r\\n")[2])
        while left:
            left -= sock.recv_into(buffer)
        sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
    sock.close()

def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

base = EventBase()
moved = 0

def take(request, arg):
    global moved
    moved += len(request.input_buffer)

def give(request, arg):
    global moved
    if moved == SIZE:
        return None
    moved += len(BLOCK)
    return BLOCK

def done(request, arg):
    assert request is not None and request.response_code == 200
    base.loopbreak()

thread = threading.Thread(target=serve)
thread.start()
connection = HttpConnection(base, None, "127.0.0.1", listening.getsockname()[1])
request = HttpRequest(done)
before = peak_kib()
if sys.argv[1] == "down":
    request.set_chunked_cb(take)
    connection.make_request(request, "GET", "/")
else:
    request.stream_body(give, SIZE)
    connection.make_request(request, "PUT", "/")
base.dispatch()
thread.join()
print(moved, peak_kib() - before)
"""


@pytest.mark.parametrize("way", ["down", "up"])
def test_a_gib_costs_no_memory(way: str) -> None:
    command = [sys.executable, "-c", PROGRAM, way]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    moved, grown_kib = map(int, done.stdout.split())
    assert moved == 1 << 30
    assert grown_kib < 20 * 1024
