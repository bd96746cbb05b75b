"""Several processes that serve the same sockets, and one that sees to them.

def setup(worker):
    server = HttpServer(worker.base)
    server.set_gencb(answer)
    for sock in worker.tcp:
        server.accept_socket(sock)
    worker.add_server(server)

raise SystemExit(run(setup, workers=4, tcp=[("127.0.0.1", 8080)]))

SIGHUP replaces the workers without a failed request, SIGTERM has them finish what is in flight.
"""

from .child import SetupCallback
from .metrics import MAX_WAITING, SumCallback, WorkerMetrics
from .options import WorkerOptions
from .reloading import ModuleWatch
from .roster import CUT_OFF, SETUP_FAILED
from .supervisor import Supervisor, run
from .systemd import Notifier, PassedSocket, systemd_sockets
from .worker import Graceful, Worker

__all__ = [
    "CUT_OFF",
    "MAX_WAITING",
    "SETUP_FAILED",
    "Graceful",
    "ModuleWatch",
    "Notifier",
    "PassedSocket",
    "SetupCallback",
    "SumCallback",
    "Supervisor",
    "Worker",
    "WorkerMetrics",
    "WorkerOptions",
    "run",
    "systemd_sockets",
]
