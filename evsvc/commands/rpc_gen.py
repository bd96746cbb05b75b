"""`evsvc rpc gen FILE`: the messages of a .rpc file as readable Python."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..rpc import idl


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evsvc rpc gen`."""
    parser.add_argument("file", metavar="FILE", help="a file in libevent's interface language")
    parser.add_argument("-o", "--output", metavar="FILE", help="write there, not to the output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the module; 1 when the file is none, with the line that says so."""
    try:
        document = idl.parse(Path(args.file).read_text("utf-8"))
    except (idl.IdlError, UnicodeDecodeError) as exc:
        print(f"evsvc: {args.file}: {exc}", file=sys.stderr)
        return 1
    source = idl.python_source(document, Path(args.file).name)
    if args.output is None:
        sys.stdout.write(source)
    else:
        Path(args.output).write_text(source, "utf-8")
    return 0
