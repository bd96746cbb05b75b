"""1 GiB down and 1 GiB up through HttpClient, in a program whose memory stays as it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import resource, sys
from evsvc.core import EventBase
from evsvc.http import HttpClient, HttpServer

SIZE, BLOCK = 1 << 30, bytes(1 << 20)
moved = arrived = 0

def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def take(exchange, data, arg):
    global arrived
    arrived += len(data)

def give(request, arg):
    global moved
    if moved == SIZE:
        return None
    moved += len(BLOCK)
    return BLOCK

def receive(request, arg):
    def piece(request, data, arg):
        global arrived
        arrived += len(data)

    def end(request, is_whole, arg):
        request.send_reply(200 if is_whole else 400, None)

    request.set_body_cbs(piece, end)

def done(response, arg):
    response.raise_for_error()
    assert response.status == 200
    base.loopbreak()

base = EventBase()
server = HttpServer(base)
server.serve_directory("/files/", sys.argv[2])
server.set_cb("/up", receive, methods=("PUT",), streams=True)
url = f"http://127.0.0.1:{server.bind_socket('127.0.0.1', 0).port}"
client = HttpClient(base)
client.get(url + "/files/small", done)
base.dispatch()
before = peak_kib()
if sys.argv[1] == "down":
    client.get(url + "/files/large", done, datacb=take)
else:
    client.request("PUT", url + "/up", done, body=give, length=SIZE)
base.dispatch()
print(arrived, peak_kib() - before)
"""


@pytest.mark.parametrize("way", ["down", "up"])
def test_a_gib_costs_no_memory(way: str, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"small")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 30)
    command = [sys.executable, "-c", PROGRAM, way, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    arrived, grown_kib = map(int, done.stdout.split())
    assert arrived == 1 << 30
    assert grown_kib < 20 * 1024
