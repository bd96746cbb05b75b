"""Measures many connections: what an idle one costs in memory, and a message on each in time.

Echo servers on libevent C's bufferevents, evsvc, asyncio (protocols and streams) and uvloop, each
alone on one core, in turn, several rounds; the connections' other ends are in a process on another
core.  The table shows medians and ranges.  Speed decides nothing here.

Every server gets the same steady allocator.  asyncio receives into 256 KiB, and glibc as it comes
may map and unmap that for each message, or not, by where the heap happens to end: its round trip
then costs 19 us in one run and 7 us in the next.  `--plain-malloc` shows what a program meets that
sets nothing.

Processor time is the figure to compare.  Round trips per second are as much the client's and the
scheduler's: they vary by a factor of three for one and the same server.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.tools import (
    ROOT,
    BenchError,
    build_c,
    cores,
    most_descriptors,
    pinned,
    positive,
    serving,
)

C_SOURCE = ROOT / "bench" / "echo.c"
PYTHON_PROGRAM = ROOT / "bench" / "echo.py"
CLIENT_PROGRAM = ROOT / "bench" / "echo_client.py"

CONNECTIONS = 10_000
TRIPS = 5

# What a server and the client have open besides the connections.
SPARE_DESCRIPTORS = 100

CLIENT_LIMIT_S = 120.0

C_NAME = "libevent C"
OUR_NAME = "evsvc"

# Nothing of these sizes is mapped for itself, and nothing is given back (mallopt(3)).
STEADY_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(1024 * 1024 * 1024),
}


class Figures(NamedTuple):
    """What one run of the client prints."""

    idle_bytes: float  # of memory for each idle connection
    trip_us: float  # of the server's processor for each round trip
    trips_per_s: float


def python_kinds() -> dict[str, str]:
    """Return the Python servers that are here, ours first: their names, and echo.py's argument."""
    kinds = {OUR_NAME: "evsvc", "asyncio": "asyncio", "asyncio streams": "streams"}
    if importlib.util.find_spec("uvloop") is not None:
        kinds["uvloop"] = "uvloop"
    return kinds


def measure(
    command: Sequence[str | Path], connections: int, trips: int, settings: Mapping[str, str]
) -> Figures:
    """Run a server alone on a core, and the client on another; return the client's figures.

    settings: for the server's environment.  Raises BenchError when either fails.
    """
    server_cores, client_cores = cores()
    with pinned(server_cores), serving(command, settings) as server, pinned(client_cores):
        numbers = (server.port, server.pid, connections, trips)
        client = [sys.executable, str(CLIENT_PROGRAM), *map(str, numbers)]
        try:
            done = subprocess.run(
                client, capture_output=True, text=True, check=False, timeout=CLIENT_LIMIT_S
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"{command[-1]}: no figures in {CLIENT_LIMIT_S:.0f} s") from None
    if done.returncode != 0:
        raise BenchError(f"{command[-1]}: {done.stderr.rstrip()}")
    return Figures(*(float(figure) for figure in done.stdout.split()))


def medians(runs: Sequence[Figures]) -> Figures:
    """Return the median of each figure."""
    return Figures(*(statistics.median(column) for column in zip(*runs, strict=True)))


def spread(values: Sequence[float], form: str) -> str:
    """Return the median of some values, and from where to where they go: that is the noise."""
    middle = statistics.median(values)
    return f"{middle:{form}} ({min(values):{form}}-{max(values):{form}})"


def table(results: dict[str, list[Figures]]) -> str:
    """Return a line for each server, with its processor time as a multiple of evsvc's.

    Above 1 evsvc is cheaper.
    """
    widest = max(map(len, results))
    lines = [
        f"{'':{widest}}  {'bytes/idle':>10}  {'CPU us/round trip':>24}  {'ratio':>5}"
        f"  {'round trips/s':>26}"
    ]
    ours = medians(results[OUR_NAME]).trip_us
    for name, runs in results.items():
        middle = medians(runs)
        trip = spread([each.trip_us for each in runs], ".2f")
        rate = spread([each.trips_per_s for each in runs], ",.0f")
        lines.append(
            f"{name:{widest}}  {middle.idle_bytes:10,.0f}  {trip:>24}"
            f"  {middle.trip_us / ours:5.2f}  {rate:>26}"
        )
    return "\n".join(lines)


def run(rounds: int, connections: int, trips: int, settings: Mapping[str, str]) -> None:
    """Measure and print everything.  Raises BenchError when a program cannot be run."""
    commands: dict[str, list[str | Path]] = {C_NAME: [build_c(C_SOURCE)]}
    for name, kind in python_kinds().items():
        commands[name] = [sys.executable, PYTHON_PROGRAM, kind]
    runs: dict[str, list[Figures]] = {name: [] for name in commands}
    with most_descriptors() as most:
        connections = min(connections, most - SPARE_DESCRIPTORS)
        for _ in range(rounds):
            for name, command in commands.items():
                runs[name].append(measure(command, connections, trips, settings))
    print(f"echo on {connections:,} connections, {trips} messages each")
    print(f"medians of {rounds} rounds, with the range of them all")
    print(table(runs))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status: 0, or 1 when it could not be run rightly."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--rounds", type=positive, default=3, help="rounds (default: 3)")
    add("--connections", type=positive, default=CONNECTIONS, help=f"(default: {CONNECTIONS})")
    add("--trips", type=positive, default=TRIPS, help=f"messages on each (default: {TRIPS})")
    add("--plain-malloc", action="store_true", help="leave the allocator as it comes")
    options = parser.parse_args(arguments)
    settings = {} if options.plain_malloc else STEADY_MALLOC
    try:
        run(options.rounds, options.connections, options.trips, settings)
    except BenchError as error:
        print(f"echo_bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
