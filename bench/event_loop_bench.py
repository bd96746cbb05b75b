"""Measures the cost of one event and of one timer: libevent C, evsvc, asyncio and uvloop.

Every program does the same work on the same number of pipes, alone on one core, in turn, several
rounds; the table shows medians in microseconds of CPU time, and how often each peer's holds
evsvc's: above 1 evsvc is cheaper.  Speed decides nothing here.  docs/benchmarks.md tells how to
read the figures.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence

from bench.tools import ROOT, BenchError, build_c, cores, pinned, positive

C_SOURCE = ROOT / "bench" / "event_loop.c"
PYTHON_PROGRAM = ROOT / "bench" / "event_loop.py"

PIPES = (100, 1000, 9000)
ACTIVE = 100
EVENTS = 100_000
TIMERS = 100_000

# Two descriptors a pipe, and some for the loop itself.
SPARE_DESCRIPTORS = 100


def loops() -> list[str]:
    """Return the Python loops that are here, ours first."""
    peers = ["asyncio"]
    if importlib.util.find_spec("uvloop") is not None:
        peers.append("uvloop")
    return ["evsvc", *peers]


def measure(command: Sequence[str]) -> list[float]:
    """Run one program alone on a core and return the figures that it prints.

    Raises BenchError when it fails.
    """
    with pinned(cores()[0]):
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)} failed: {done.stderr.rstrip()}")
    return [float(figure) for figure in done.stdout.split()]


def medians(commands: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Run every program in turn, `rounds` times; return the median of each of its figures."""
    results: dict[str, list[list[float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            results[name].append(measure(command))
    return {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in results.items()
    }


def python(loop: str, *arguments: object) -> list[str]:
    """Return the command that measures one Python loop; it finds evsvc from the project's root."""
    module = "bench.event_loop"
    return [sys.executable, "-m", module, loop, *(str(argument) for argument in arguments)]


def row(title: str, figures: dict[str, float]) -> str:
    """Return one line: each program's microseconds, then each peer's for one of evsvc's."""
    ours = figures["evsvc"]
    times = "  ".join(f"{name} {figure:7.3f}" for name, figure in figures.items())
    ratios = "  ".join(
        f"{figure / ours:.2f} to {name}" for name, figure in figures.items() if name != "evsvc"
    )
    return f"{title:24} {times}   | {ratios}"


def run(rounds: int, most_pipes: int) -> None:
    """Measure and print everything.  Raises BenchError when a program cannot be run."""
    c_program = str(build_c(C_SOURCE))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit = min(most_pipes, (hard - SPARE_DESCRIPTORS) // 2)
    print(f"CPU microseconds, medians of {rounds} rounds   | ratio: above 1 evsvc is cheaper")
    for pipes in (count for count in PIPES if count <= limit):
        commands = {"libevent-C": [c_program, str(pipes), str(ACTIVE), str(EVENTS)]}
        commands |= {loop: python(loop, pipes, ACTIVE, EVENTS) for loop in loops()}
        results = medians(commands, rounds)
        print(row(f"event, {pipes} pipes", {name: each[1] for name, each in results.items()}))
    results = medians({loop: python(loop, "timers", TIMERS) for loop in loops()}, rounds)
    for column, title in enumerate(("timer: add", "timer: delete", "timer: add and fire")):
        print(row(title, {name: each[column] for name, each in results.items()}))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status: 0, or 1 when it could not be run rightly."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=positive, default=3, help="rounds (default: 3)")
    parser.add_argument("--pipes", type=positive, default=9000, help="at most (default: 9000)")
    options = parser.parse_args(arguments)
    try:
        run(options.rounds, options.pipes)
    except BenchError as error:
        print(f"event_loop_bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
