"""Measures evsvc's resolver against aiodns, dnspython's async resolver and libevent's C evdns.

All look up names that they have not asked for before, of the same nameserver, which runs alone on
one core; each client in turn on another.  What counts is the client's own CPU time, user and
kernel.  Speed decides nothing here: the exit status is 1 only when a program is missing or a
look-up fails.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.tools import ROOT, BenchError, build_c, cores, pinned, positive, serving

PROGRAM = ROOT / "bench" / "dns_clients.py"
OURS, C_NAME = "evsvc", "libevent C"
PEERS = ("aiodns", "dnspython")


def measure(command: Sequence[str | Path], port: int, lookups: int, in_flight: int) -> float:
    """Return the microseconds of CPU time of a look-up.  Raises BenchError when one fails."""
    full = [*map(str, command), str(port), str(lookups), str(in_flight)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(full, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(full)} failed:\n{done.stdout}{done.stderr}")
    return float(done.stdout)


def table(figures: dict[str, list[float]]) -> str:
    """Return the figures of all rounds as a table: medians, and the peer's cost by ours."""
    rounds = len(figures[OURS])
    lines = [f"{'resolver':<14}{'CPU us':>10}{'ratio':>8}   (medians of {rounds} rounds)"]
    for name, costs in figures.items():
        ratios = [cost / own for cost, own in zip(costs, figures[OURS], strict=True)]
        lines.append(
            f"{name:<14}{statistics.median(costs):>10.1f}{statistics.median(ratios):>8.2f}"
        )
    return "\n".join(lines)


def run(rounds: int, lookups: int, in_flight: int) -> str:
    """Measure all resolvers in turn, and return the figures as a table."""
    clients: dict[str, list[str | Path]] = {OURS: [sys.executable, PROGRAM, OURS]}
    for peer in PEERS:
        if importlib.util.find_spec("dns" if peer == "dnspython" else peer) is not None:
            clients[peer] = [sys.executable, PROGRAM, peer]
    clients[C_NAME] = [build_c(ROOT / "bench" / "evdns_client.c")]
    figures: dict[str, list[float]] = {name: [] for name in clients}
    server_core, client_core = cores()
    with pinned(server_core), serving([build_c(ROOT / "bench" / "evdns_server.c")]) as server:
        for _ in range(rounds):
            for name, command in clients.items():
                with pinned(client_core):
                    figures[name].append(measure(command, server.port, lookups, in_flight))
    return table(figures)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--lookups", type=positive, default=10_000)
    parser.add_argument("--in-flight", type=positive, default=64)
    chosen = parser.parse_args(arguments)
    try:
        print(run(chosen.rounds, chosen.lookups, chosen.in_flight))
    except BenchError as exc:
        print(f"dns_client_bench: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
