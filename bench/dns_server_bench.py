"""Measures evsvc's DNS server against libevent's C evdns and others: A queries over UDP.

The queries come from dnsperf.  Each round runs the C server, ours with a callback for each query,
with kept replies and with a zone, Twisted Names and dnslib, one after the other, alone on one
core, under dnsperf on another.  dnsperf itself is what holds the fastest back, so each row has the
server's CPU time for an answer beside the rate, and the ratios are of both.  What is not installed
has no row.  Speed decides nothing here: the exit status is 1 only when a program is missing or a
server or a run is faulty.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.tools import ROOT, BenchError, build_c, cores, find_program, pinned, positive, serving

C_SOURCE = ROOT / "bench" / "evdns_server.c"
PYTHON_PROGRAM = ROOT / "bench" / "dns_server.py"
PEERS_PROGRAM = ROOT / "bench" / "dns_peers.py"
C_NAME = "libevent C"
OURS = {"callback": "callback", "kept replies": "kept", "zone, not kept": "zone"}
TWISTED = "Twisted Names"
PEERS = {TWISTED: "twisted", "dnslib": "dnslib"}

NAMES = 1000
CLIENTS = 4
IN_FLIGHT = 200
MOST_LOST = 0.01


class Figures(NamedTuple):
    """What came of a run: answers per second, and the server's CPU time for one."""

    per_second: float
    cpu_us: float


def parse_dnsperf(output: str) -> tuple[float, int]:
    """Return dnsperf's queries per second, and how many were answered.

    Raises BenchError when replies were lost or failed.
    """
    answered = re.search(r"Queries completed: +([0-9]+)", output)
    speed = re.search(r"Queries per second: +([0-9.]+)", output)
    lost = re.search(r"Queries lost: +[0-9]+ \(([0-9.]+)%\)", output)
    good = re.search(r"Response codes: +NOERROR [0-9]+ \(100\.00%\)", output)
    if (
        answered is None
        or speed is None
        or lost is None
        or float(lost[1]) > MOST_LOST * 100
        or good is None
    ):
        raise BenchError(f"dnsperf's run is faulty:\n{output}")
    return float(speed[1]), int(answered[1])


def measure(command: Sequence[str | Path], queries: Path, seconds: int) -> Figures:
    """Return how fast a server answers, and what an answer costs it."""
    server_core, load_core = cores()
    with pinned(server_core), serving(command) as server, pinned(load_core):
        load = [find_program("dnsperf", "dnsperf"), "-s", "127.0.0.1", "-p", str(server.port)]
        load += ["-d", str(queries), "-l", str(seconds), "-c", str(CLIENTS), "-q", str(IN_FLIGHT)]
        before_s = server.processor_s()
        done = subprocess.run(load, capture_output=True, text=True, check=False)
        cpu_s = server.processor_s() - before_s
    if done.returncode != 0:
        raise BenchError(f"dnsperf failed:\n{done.stdout}{done.stderr}")
    per_second, answered = parse_dnsperf(done.stdout)
    return Figures(per_second, cpu_s / answered * 1e6)


def run(rounds: int, seconds: int) -> str:
    """Measure all servers in turn, and return the figures as a table."""
    servers: dict[str, list[str | Path]] = {C_NAME: [build_c(C_SOURCE)]}
    for name, kind in OURS.items():
        servers[name] = [sys.executable, PYTHON_PROGRAM, kind]
    for name, kind in PEERS.items():
        if importlib.util.find_spec(kind) is None:
            print(f"{name} is not installed", file=sys.stderr)
        else:
            servers[name] = [sys.executable, PEERS_PROGRAM, kind]
    figures: dict[str, list[Figures]] = {name: [] for name in servers}
    with tempfile.TemporaryDirectory() as folder:
        queries = Path(folder) / "queries"
        queries.write_text("".join(f"host{n}.example.com A\n" for n in range(NAMES)))
        for _ in range(rounds):
            for name, command in servers.items():
                figures[name].append(measure(command, queries, seconds))
    return table(figures, rounds)


def table(figures: dict[str, list[Figures]], rounds: int) -> str:
    """Return the medians, with the ratios of each round's rates and CPU times to two peers."""
    peers = [name for name in (C_NAME, TWISTED) if name in figures]
    head = "".join(f"{f'to {name}':>18}{'by CPU':>8}" for name in peers)
    lines = [f"{'server':<16}{'answers/s':>12}{'CPU us':>9}{head}   (medians of {rounds} rounds)"]
    for name, runs in figures.items():
        rate = statistics.median(run.per_second for run in runs)
        cpu_us = statistics.median(run.cpu_us for run in runs)
        line = f"{name:<16}{rate:>12,.0f}{cpu_us:>9.1f}"
        for peer in peers:
            pairs = list(zip(runs, figures[peer], strict=True))
            of_rates = statistics.median(own.per_second / its.per_second for own, its in pairs)
            of_cpu = statistics.median(its.cpu_us / own.cpu_us for own, its in pairs)
            line += f"{of_rates:>18.2f}{of_cpu:>8.2f}"
        lines.append(line)
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--seconds", type=positive, default=3)
    chosen = parser.parse_args(arguments)
    try:
        print(run(chosen.rounds, chosen.seconds))
    except BenchError as exc:
        print(f"dns_server_bench: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
