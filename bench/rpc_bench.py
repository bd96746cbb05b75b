"""Measures unary RPC calls on evsvc beside grpc.aio, rpyc, zerorpc and libevent's C evrpc.

Each round runs every peer's server on one core, with that peer's own client on another: with one
call at a time, and with 32; where several are in flight, ours once more with all on one connection.
Speed decides nothing here: the exit status is 1 only when our side is
faulty; a peer that cannot be had says so in its row.  docs/benchmarks.md tells how to read it.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.tools import ROOT, BenchError, build_c, cores, pinned, positive, serving

PROGRAM = ROOT / "bench" / "rpc_peers.py"
C_SOURCE = ROOT / "bench" / "evrpc_add.c"
OURS, LIBEVENT, GRPC = "evsvc", "libevent C", "grpc.aio"
PIPELINED = "evsvc pipelined"
MODULES = {GRPC: "grpc", "rpyc": "rpyc", "zerorpc": "zerorpc"}
PEERS = [PIPELINED, LIBEVENT, *MODULES]
IN_FLIGHT = (1, 32)


class Run(NamedTuple):
    """What one run says: calls a second, CPU time of a call on both sides, and the p99."""

    calls_per_s: float
    server_us: float
    client_us: float
    p99_us: float


def command(peer: str, c_program: Path | None) -> list[str | Path]:
    """Return how a peer's program begins."""
    if peer == LIBEVENT:
        assert c_program is not None
        return [c_program]
    return [sys.executable, PROGRAM, peer]


def run(peer: str, begin: list[str | Path], in_flight: int, seconds: float) -> Run:
    """Run one peer.  Raises BenchError when it fails."""
    server_core, client_core = cores()
    with pinned(server_core), serving([*begin, "serve"]) as server, pinned(client_core):
        used = sum(server.user_and_system_s())
        done = subprocess.run(
            [*begin, "call", str(server.port), str(in_flight), str(seconds)],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + 60,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        )
        used = sum(server.user_and_system_s()) - used
    words = done.stdout.split()
    if done.returncode or len(words) != 4:
        raise BenchError(f"{peer}: the client failed: {done.stderr.strip()[-300:]}")
    calls = int(words[0])
    took_s, client_s, p99_us = map(float, words[1:])
    return Run(calls / took_s, used / calls * 1e6, client_s / calls * 1e6, p99_us)


def median_of(runs: Sequence[Run]) -> Run:
    """Return the medians of several runs."""
    return Run(*(statistics.median(column) for column in zip(*runs, strict=True)))


def ratio(ours: Sequence[Run], theirs: Sequence[Run]) -> float:
    """Return the median of the rounds' ratios of calls a second."""
    pairs = zip(ours, theirs, strict=True)
    return statistics.median(mine.calls_per_s / other.calls_per_s for mine, other in pairs)


def measure(in_flight: int, rounds: int, seconds: float, wanted: Sequence[str]) -> None:
    """Run all peers in turn, round by round, and print their table.

    Raises BenchError when our side fails.
    """
    c_program: Path | None = None
    missing: dict[str, str] = {}
    if LIBEVENT in wanted:
        try:
            c_program = build_c(C_SOURCE)
        except BenchError as exc:
            missing[LIBEVENT] = str(exc).partition("\n")[0]
    for peer, module in MODULES.items():
        if peer in wanted and importlib.util.find_spec(module) is None:
            missing[peer] = "is not installed"
    if in_flight == 1:
        wanted = [peer for peer in wanted if peer != PIPELINED]  # it would be the same
    results: dict[str, list[Run]] = {peer: [] for peer in wanted if peer not in missing}
    for _ in range(rounds):
        for peer in list(results):
            try:
                results[peer].append(run(peer, command(peer, c_program), in_flight, seconds))
            except BenchError as exc:
                if peer in (OURS, PIPELINED):
                    raise
                missing[peer] = str(exc)
                del results[peer]
    print(f"{in_flight} in flight")
    print(
        f"{'':16}{'calls/s':>10}{'server us':>12}{'client us':>12}{'p99 us':>10}{'ours to it':>12}"
    )
    for peer, runs in results.items():
        each = median_of(runs)
        print(
            f"{peer:16}{each.calls_per_s:>10,.0f}{each.server_us:>12.1f}{each.client_us:>12.1f}"
            f"{each.p99_us:>10,.0f}{ratio(results[OURS], runs):>12.2f}"
        )
    for peer, reason in missing.items():
        print(f"{peer:16}{reason}")
    print(flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and return the exit status."""
    parser = argparse.ArgumentParser(prog="bench.rpc_bench", description=__doc__)
    parser.add_argument("--rounds", type=positive, default=3, help="(default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="of each run (default: %(default)s)"
    )
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, default=PEERS, help="beside ours (default: all)"
    )
    args = parser.parse_args(argv)
    try:
        for in_flight in IN_FLIGHT:
            measure(in_flight, args.rounds, args.seconds, (OURS, *args.peers))
    except BenchError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
