"""Measures evsvc's DNS server against libevent's C evdns and others: A queries over UDP.

The queries come from dnsperf on one core; the servers have the other one, and take turns there:
the C server, ours with a callback for each query, with kept replies and with a zone, Twisted Names
and dnslib.  They are asked for a thousand names, one row of ours for many more.  What counts is the
CPU time of a query, user and kernel, of the server's process: the rate is often dnsperf's.  What is
not installed has no row.  Speed decides nothing here: the exit status is 1 only when a program is
missing or a server or a run is faulty.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.tools import (
    ROOT,
    BenchError,
    Server,
    Speed,
    build_c,
    cores,
    cost_ratios,
    find_program,
    median_speed,
    pinned,
    positive,
    serving,
)

C_SOURCE = ROOT / "bench" / "evdns_server.c"
PYTHON_PROGRAM = ROOT / "bench" / "dns_server.py"
PEERS_PROGRAM = ROOT / "bench" / "dns_peers.py"
C_NAME = "libevent C"
OURS = {
    "callback": "callback",
    "callback, names that vary": "callback",
    "kept replies": "kept",
    "zone, not kept": "zone",
}
VARYING = "callback, names that vary"
PEERS = {"Twisted Names": "twisted", "dnslib": "dnslib"}

NAMES = 1000
VARYING_NAMES = 50_000  # more than any server remembers
CLIENTS = 4
IN_FLIGHT = 200
MOST_LOST = 0.01
WARM_UP_S = 1

Command = list[str | Path]


def parse_dnsperf(output: str) -> tuple[int, float]:
    """Return how many queries dnsperf has had answered, and how many in a second.

    Raises BenchError when replies were lost or failed.
    """
    count = re.search(r"Queries completed: +([0-9]+)", output)
    rate = re.search(r"Queries per second: +([0-9.]+)", output)
    lost = re.search(r"Queries lost: +[0-9]+ \(([0-9.]+)%\)", output)
    good = re.search(r"Response codes: +NOERROR [0-9]+ \(100\.00%\)", output)
    if count is None or rate is None or lost is None or good is None:
        raise BenchError(f"dnsperf's run is faulty:\n{output}")
    if float(lost[1]) > MOST_LOST * 100 or not int(count[1]):
        raise BenchError(f"dnsperf has lost too many replies:\n{output}")
    return int(count[1]), float(rate[1])


def load(port: int, queries: Path, seconds: int) -> tuple[int, float]:
    """Run dnsperf against the port; see `parse_dnsperf`."""
    command = [find_program("dnsperf", "dnsperf"), "-s", "127.0.0.1", "-p", str(port)]
    command += ["-d", str(queries), "-l", str(seconds), "-c", str(CLIENTS), "-q", str(IN_FLIGHT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"dnsperf failed:\n{done.stdout}{done.stderr}")
    return parse_dnsperf(done.stdout)


def put_under_load(server: Server, queries: Path, seconds: int) -> Speed:
    """Return how fast a server is.  Raises BenchError when replies were lost or failed."""
    before = server.user_and_system_s()
    count, rate = load(server.port, queries, seconds)
    after = server.user_and_system_s()
    user_us, system_us = (
        (end - start) / count * 1e6 for start, end in zip(before, after, strict=True)
    )
    return Speed(rate, user_us, system_us)


def write_queries(folder: Path, count: int) -> Path:
    """Write what dnsperf asks, for so many names, and return the file's name."""
    filename = folder / f"queries-{count}"
    filename.write_text("".join(f"host{n}.example.com A\n" for n in range(count)))
    return filename


def commands() -> dict[str, Command]:
    """Return how each server is started; what is not installed is told, and has none."""
    found: dict[str, Command] = {C_NAME: [build_c(C_SOURCE)]}
    for name, kind in OURS.items():
        found[name] = [sys.executable, PYTHON_PROGRAM, kind]
    for name, kind in PEERS.items():
        if importlib.util.find_spec(kind) is None:
            print(f"{name} is not installed", file=sys.stderr)
        else:
            found[name] = [sys.executable, PEERS_PROGRAM, kind]
    return found


def measure(
    servers: Mapping[str, Command], folder: Path, rounds: int, seconds: int
) -> dict[str, list[Speed]]:
    """Return the rounds of each server; in a round they are put under load one after the other."""
    server_cores, load_cores = cores()
    few, many = (write_queries(folder, count) for count in (NAMES, VARYING_NAMES))
    queries = {name: many if name == VARYING else few for name in servers}
    speeds: dict[str, list[Speed]] = {name: [] for name in servers}
    with contextlib.ExitStack() as stack:
        running = {}
        for name, command in servers.items():
            with pinned(server_cores):
                running[name] = stack.enter_context(serving(command))
            with pinned(load_cores):
                load(running[name].port, queries[name], WARM_UP_S)
        for _ in range(rounds):
            for name, server in running.items():
                with pinned(load_cores):
                    speeds[name].append(put_under_load(server, queries[name], seconds))
    return speeds


def table(speeds: Mapping[str, Sequence[Speed]]) -> Iterator[str]:
    """The lines of a Markdown table: medians, and how often a server's cost holds each of ours."""
    ours = [name for name in OURS if name in speeds]
    heads = ["server", "queries/s", "CPU us/query, user + kernel", *(f"to {own}" for own in ours)]
    yield f"| {' | '.join(heads)} |"
    yield "| --- " * len(heads) + "|"
    for name, rounds in speeds.items():
        speed = median_speed(rounds)
        cells = [name, f"{speed.requests_per_s:,.0f}"]
        cells.append(f"{speed.user_us:.1f} + {speed.system_us:.1f}")
        for own in ours:
            ratios = cost_ratios(rounds, speeds[own])
            middle = statistics.median(ratios)
            cells.append(
                "" if name in OURS else f"{middle:.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            )
        yield f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--seconds", type=positive, default=3)
    chosen = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            speeds = measure(commands(), Path(folder), chosen.rounds, chosen.seconds)
    except BenchError as exc:
        print(f"dns_server_bench: {exc}", file=sys.stderr)
        return 1
    print("\n".join(table(speeds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
