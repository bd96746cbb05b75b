"""Measures what hosting costs: WSGI beside waitress, ASGI beside uvicorn, with the same callables.

Each row starts its servers on one core, and puts them under load in turn, round by round, as
`http_server_bench` does; docs/benchmarks.md tells how to read the figures.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.http_server_bench import OURS, TABLE_HEAD, Bench, Command, Row, chosen
from bench.tools import ROOT, BenchError, find_program, positive

PROGRAM = ROOT / "bench" / "gateway_peers.py"

# What each server runs on, by the interface that it hosts.
SERVERS: dict[str, dict[str, tuple[str, ...]]] = {
    "wsgi": {OURS: (), "waitress": ("waitress",)},
    "asgi": {
        OURS: (),
        "uvicorn": ("uvicorn", "uvloop", "httptools"),
        "uvicorn-h11": ("uvicorn", "h11"),
    },
}

ROWS = {
    "wsgi-small": Row(title="WSGI, small reply"),
    "wsgi-post": Row(title="WSGI, POST of 4 KiB, echoed", kind="echo", load="post"),
    "asgi-small": Row(title="ASGI, small reply"),
    "asgi-post": Row(title="ASGI, POST of 4 KiB, echoed", kind="echo", load="post"),
}


class GatewayBench(Bench):
    """The commands of all servers that host one interface."""

    def __init__(self, python: str, folder: Path, interface: str) -> None:
        super().__init__(python, folder)
        self._gateway_python = python
        self._interface = interface

    def command(self, name: str, row: Row) -> Command:
        """Return how a server is started for a row.  Raises BenchError for one that is missing."""
        modules = SERVERS[self._interface][name]
        if not all(importlib.util.find_spec(each) is not None for each in modules):
            raise BenchError("is not installed")
        python = self._gateway_python if name == OURS else sys.executable
        return [python, PROGRAM, self._interface, name, row.kind]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status: 0, or 1 when it could not be run rightly."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=positive, default=3, help="rounds (default: 3)")
    parser.add_argument("--seconds", type=positive, default=2, help="per run (default: 2)")
    parser.add_argument(
        "--rows",
        type=lambda text: chosen(ROWS, text),
        default=list(ROWS),
        help=f"some of {', '.join(ROWS)} (default: all)",
    )
    parser.add_argument("--python", default=sys.executable, help="the interpreter for our server")
    options = parser.parse_args(arguments)
    try:
        find_program(options.python, "python3")
        find_program("wrk", "wrk")
        print(TABLE_HEAD)
        for key in options.rows:
            interface = key.partition("-")[0]
            with tempfile.TemporaryDirectory() as folder:
                bench = GatewayBench(options.python, Path(folder), interface)
                names = list(SERVERS[interface])
                figures = bench.measure(ROWS[key], names, options.rounds, options.seconds)
            print("\n".join(figures.as_lines()), flush=True)
    except BenchError as error:
        print(f"gateway_bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
