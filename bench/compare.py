"""Compares what evsvc's operations cost in this checkout and in another, back to back.

Usage: python -m bench.compare [--rounds N] [OTHER]

OTHER is the root of another checkout.  Each round measures both, in turn, on one core; the table
has the medians in microseconds of CPU time, and how often the other's holds ours: above 1 we are
better.  Without OTHER it shows what the operations cost here.  Speed decides nothing: the exit
status is 1 only when something could not be run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.tools import ROOT, BenchError, cores, find_program, pinned, positive

PROGRAM = ROOT / "bench" / "operations.py"

RUN_LIMIT_S = 300.0

Figures = dict[str, float]


def make_certificate(folder: Path) -> Path:
    """Return a PEM file with a certificate for localhost and its key.

    Raises BenchError without openssl, or when it fails.
    """
    path = folder / "localhost.pem"
    command = [find_program("openssl", "openssl"), "req", "-x509", "-nodes", "-newkey", "rsa:2048"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    done = subprocess.run([*command, "-keyout", "-"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"openssl failed: {done.stderr.rstrip()}")
    path.write_text(done.stdout)
    return path


def measure(checkout: Path, certificate: Path) -> Figures:
    """Return the microseconds of each row with the evsvc of a checkout, run alone on one core.

    Raises BenchError when that evsvc cannot be run, or another one was found.
    """
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, str(PROGRAM), str(certificate)]
    with pinned({min(cores()[0])}):
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=RUN_LIMIT_S,
        )
    if done.returncode != 0:
        raise BenchError(f"{checkout}: {done.stderr.rstrip()}")
    where, *rows = done.stdout.splitlines()
    if Path(where).resolve() != checkout.resolve():
        raise BenchError(f"there is no evsvc in {checkout}; {where} was measured")
    pairs = (row.split(" ", 1) for row in rows)
    return {name: float(figure) for figure, name in pairs}


def medians(rounds: Sequence[Figures]) -> Figures:
    """Return the median of each row."""
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def table(ours: Sequence[Figures], theirs: Sequence[Figures]) -> str:
    """Return the rows as a table of Markdown; `theirs` may be empty, or without some of them.

    The ratio is that of the medians, then that of the best of each, which a busy machine moves
    least, then the least and the greatest of a single round.
    """
    here = medians(ours)
    if not theirs:
        lines = ["| operation | CPU us |", "| --- | --- |"]
        return "\n".join([*lines, *(f"| {name} | {here[name]:.2f} |" for name in here)])
    there = medians(theirs)
    lines = [
        "| operation | other, CPU us | here, CPU us | ratio | of the best | in a round |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in here:
        if name not in there:
            lines.append(f"| {name} | - | {here[name]:.2f} | - | - | - |")
            continue
        ratios = [other[name] / own[name] for own, other in zip(ours, theirs, strict=True)]
        best = min(each[name] for each in theirs) / min(each[name] for each in ours)
        lines.append(
            f"| {name} | {there[name]:.2f} | {here[name]:.2f} | {there[name] / here[name]:.2f} "
            f"| {best:.2f} | {min(ratios):.2f}-{max(ratios):.2f} |"
        )
    return "\n".join(lines)


def run(other: Path | None, rounds: int) -> str:
    """Measure, and return the table.  Raises BenchError when something cannot be run."""
    ours: list[Figures] = []
    theirs: list[Figures] = []
    with tempfile.TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder))
        for number in range(rounds):
            turns = [(ROOT, ours)] if other is None else [(ROOT, ours), (other, theirs)]
            for checkout, figures in turns if number % 2 else reversed(turns):
                figures.append(measure(checkout, certificate))
    return table(ours, theirs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison and return the exit status: 0, or 1 when it could not be run rightly."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("other", type=Path, nargs="?", help="the root of another checkout")
    parser.add_argument("--rounds", type=positive, default=5, help="rounds (default: 5)")
    options = parser.parse_args(arguments)
    try:
        print(run(options.other, options.rounds))
    except BenchError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
