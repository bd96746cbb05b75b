"""Compares HTTP clients: evsvc, libevent's in C, aiohttp and httpx, each against the same nginx.

Usage: python -m bench.http_client_bench [--seconds N] [--rounds N] [CLIENT ...]

Each client keeps 1 connection busy, and then 64, with a GET that is answered in 23 bytes.  Client
and nginx have a core each.  The clients take turns, round by round, and the best round of each
counts: what disturbs a round makes it slower, never faster.  The table has requests a second,
microseconds of CPU time a request in user and kernel mode, and how many times as much evsvc does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.tools import (
    ROOT,
    STOP_LIMIT_S,
    BenchError,
    build_c,
    cores,
    find_program,
    pinned,
    positive,
)

C_SOURCE = ROOT / "bench" / "evhttp_client.c"
PYTHON_SOURCE = ROOT / "bench" / "http_clients.py"
C_CLIENT = "libevent"
NAMES = ("evsvc", C_CLIENT, "aiohttp", "aiohttp-uvloop", "httpx")
CONNECTIONS = (1, 64)

CONFIG = """
daemon off; user {user}; worker_processes 1; pid {folder}/pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; location / {{
    default_type text/plain; return 200 "Thanks for the request!"; }} }}
}}
"""


class Figures(NamedTuple):
    """What a client has done: requests a second, microseconds of CPU time a request."""

    rate: float
    user_us: float
    kernel_us: float


@contextlib.contextmanager
def nginx() -> Iterator[int]:
    """Run nginx on a socket that listens already; give its port.  Raises BenchError without it."""
    program = find_program("nginx", "nginx-light")
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0), backlog=511) as sock,
    ):
        port = sock.getsockname()[1]
        config = Path(folder, "nginx.conf")
        user = pwd.getpwuid(os.getuid()).pw_name
        config.write_text(CONFIG.format(folder=folder, port=port, user=user))
        # So it takes a socket over from the one before it, at an upgrade.
        environment = {**os.environ, "NGINX": f"{sock.fileno()};"}
        command = [program, "-c", str(config), "-p", folder, "-e", "stderr"]
        with subprocess.Popen(
            command, env=environment, pass_fds=[sock.fileno()], stderr=subprocess.DEVNULL
        ) as process:
            try:
                yield port
                if process.poll() is not None:
                    raise BenchError(f"nginx ended by itself, with {process.returncode}")
            finally:
                process.terminate()
                try:
                    process.wait(STOP_LIMIT_S)
                except subprocess.TimeoutExpired:
                    process.kill()


def command_of(name: str) -> list[str]:
    """Return how a client is run.  Raises BenchError when it cannot be built."""
    if name == C_CLIENT:
        return [str(build_c(C_SOURCE))]
    return [sys.executable, str(PYTHON_SOURCE), name]


def measure(name: str, port: int, connections: int, seconds: int) -> Figures:
    """Run a client once.  Raises BenchError when a request fails."""
    done = subprocess.run(
        [*command_of(name), str(port), str(connections), str(seconds)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=seconds + 60,
    )
    if done.returncode != 0:
        raise BenchError(f"{name} failed: {done.stderr.rstrip()[-500:]}")
    answered, user_s, kernel_s = map(float, done.stdout.split())
    if not answered:
        raise BenchError(f"{name} was answered nothing")
    return Figures(answered / seconds, user_s / answered * 1e6, kernel_s / answered * 1e6)


def compare(names: list[str], rounds: int, seconds: int) -> dict[tuple[str, int], Figures]:
    """Return the best round of each client and number of connections."""
    best: dict[tuple[str, int], Figures] = {}
    server_cores, client_cores = cores()
    with contextlib.ExitStack() as stack:
        with pinned(server_cores):
            port = stack.enter_context(nginx())
        stack.enter_context(pinned(client_cores))
        for _ in range(rounds):
            for connections in CONNECTIONS:
                for name in names:
                    figures = measure(name, port, connections, seconds)
                    best[name, connections] = max(best.get((name, connections), figures), figures)
    return best


def table(best: dict[tuple[str, int], Figures]) -> str:
    """Return the figures for a reader."""
    lines = [f"{'client':<16}{'connections':>11}{'requests/s':>12}{'user us':>9}{'kernel us':>11}"]
    lines[0] += f"{'evsvc does':>12}"
    for connections in CONNECTIONS:
        ours = best.get(("evsvc", connections))
        for (name, count), figures in best.items():
            if count == connections:
                times = f"{ours.rate / figures.rate:.2f} x" if ours else "-"
                lines.append(
                    f"{name:<16}{count:>11}{figures.rate:>12.0f}{figures.user_us:>9.1f}"
                    f"{figures.kernel_us:>11.1f}{times:>12}"
                )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark of the command line; 1 when something could not be run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=positive, default=2)
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("clients", nargs="*", choices=[[], *NAMES], metavar="CLIENT")
    options = parser.parse_args(arguments)
    try:
        print(table(compare(options.clients or list(NAMES), options.rounds, options.seconds)))
    except BenchError as error:
        print(f"http_client_bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
