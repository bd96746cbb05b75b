"""`evsvc serve TARGET`: a folder, an application, or callbacks of your own, in worker processes."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import dataclass
from typing import Final

from ..core import ArgumentError
from ..core.tls import server_context
from ..core.util import check_port, endpoint_of
from ..http import DirectoryOptions, HttpServer
from ..workers import ModuleWatch, Supervisor, Worker, WorkerOptions, systemd_sockets
from .hosting import HOSTS, kind_of, load_application

DEFAULT_BIND: Final = "127.0.0.1:8080"

WORKER_OPTIONS: Final = WorkerOptions(start_tries=1)
"""What cannot be imported now, cannot be a second later."""

UNIX: Final = "unix:"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evsvc serve`."""
    parser.add_argument(
        "target",
        metavar="DIR|MODULE:NAME",
        help="a folder of files; or what is called as setup(server), with an HttpServer, "
        "a WSGI application, or an ASGI application",
    )
    parser.add_argument(
        "--bind",
        action="append",
        metavar="HOST:PORT|unix:PATH",
        help=f"where to listen; may be repeated (default: systemd's sockets, or {DEFAULT_BIND})",
    )
    parser.add_argument(
        "--tls", nargs=2, metavar=("CERT", "KEY"), help="speak TLS, with these PEM files"
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="how many processes (%(default)s)"
    )
    parser.add_argument(
        "--as",
        dest="kind",
        choices=HOSTS,
        help="what the target is (default: by how many arguments it takes)",
    )
    parser.add_argument(
        "--reload", action="store_true", help="replace the workers when a module's file changes"
    )
    parser.add_argument(
        "--listing", action="store_true", help="list folders that have no index.html"
    )
    parser.add_argument(
        "--metrics", metavar="PATH", help="show the counters of all workers there, for Prometheus"
    )
    parser.add_argument("--quiet", action="store_true", help="log no requests")
    parser.set_defaults(run=serve)


@dataclass(frozen=True, slots=True)
class _Setup:
    """What each worker does, in its own process: imports come here, so that they are new ones."""

    args: argparse.Namespace

    def __call__(self, worker: Worker) -> None:
        args = self.args
        server = HttpServer(worker.base)
        tls = None if args.tls is None else server_context(*args.tls)
        if os.path.isdir(args.target):
            options = DirectoryOptions(listing=args.listing)
            server.serve_directory("/", args.target, options)
            worker.add_server(server)
        else:
            application = load_application(args.target)
            host = HOSTS[args.kind or kind_of(application)]
            worker.add_server(host(worker, server, application))
        if args.metrics is not None:
            worker.metrics.count(server)
            worker.metrics.mount(server, args.metrics)
        for sock in (*worker.tcp, *worker.unix, *worker.sockets):
            server.accept_socket(sock, tls=tls)
        if args.reload and worker.number == 0:  # one of them is enough to ask for it
            ModuleWatch(worker.base, worker.reload)


def serve(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; SIGHUP has the workers replaced, with new code.

    Returns 0, 1 when some requests were cut off, or 3 when the target cannot be served.
    """
    if not os.path.isdir(args.target) and ":" not in args.target:
        raise ArgumentError(f"neither a folder nor module:name: {args.target!r}")
    level = logging.WARNING if args.quiet else logging.INFO
    logging.basicConfig(level=level, format="%(name)s: %(message)s", stream=sys.stderr)
    passed = [each.socket for each in systemd_sockets()]
    binds = args.bind or ([] if passed else [DEFAULT_BIND])
    supervisor = Supervisor(
        _Setup(args),
        args.workers,
        tcp=[_address_of(bind) for bind in binds if not bind.startswith(UNIX)],
        unix=[bind.removeprefix(UNIX) for bind in binds if bind.startswith(UNIX)],
        sockets=passed,
        options=WORKER_OPTIONS,
    )
    with supervisor:
        scheme = "http" if args.tls is None else "https"
        for sock in supervisor.sockets.tcp:
            host, port = sock.getsockname()[:2]
            where = f"[{host}]" if ":" in host else host
            print(f"serving {args.target} on {scheme}://{where}:{port}/", flush=True)
        for sock in (*supervisor.sockets.unix, *supervisor.sockets.sockets):
            print(f"serving {args.target} on {sock.getsockname()}", flush=True)
        return supervisor.run()


def _address_of(bind: str) -> tuple[str, int]:
    """Read HOST:PORT, with an IPv6 host in brackets; port 0 is any free one.

    Raises ArgumentError for another text, or a host that is no numeric address.
    """
    host, colon, port = bind.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()):
        raise ArgumentError(f"an address is HOST:PORT or unix:PATH: {bind!r}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ArgumentError(f"an IPv6 address stands in brackets: {bind!r}")
    address = host, check_port(int(port))
    endpoint_of(address)
    return address
