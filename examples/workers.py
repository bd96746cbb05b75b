"""Serves HTTP in several processes; SIGHUP replaces them while a client goes on asking.

Usage: workers.py PORT [WORKERS]

Try it: `kill -HUP` the process that it prints, and ask again with curl.
"""

import logging
import os
import sys

from evsvc import HttpServer
from evsvc.workers import Supervisor


def setup(worker):
    """Make this worker's server, in its own process."""

    def answer(request, arg):
        request.output_headers.add("Content-Type", "text/plain")
        request.send_reply(200, None, b"I am process %d.\n" % os.getpid())

    server = HttpServer(worker.base)
    server.set_cb("/", answer)
    for sock in worker.tcp:
        server.accept_socket(sock)
    worker.add_server(server)
    worker.metrics.count(server)
    worker.metrics.mount(server)


logging.basicConfig(level=logging.INFO, format="%(message)s")
port, workers = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None
with Supervisor(setup, workers, tcp=[("127.0.0.1", port)]) as supervisor:
    port = supervisor.sockets.tcp[0].getsockname()[1]
    print(f"http://127.0.0.1:{port}/ of process {os.getpid()}", flush=True)
    code = supervisor.run()
sys.exit(code)
