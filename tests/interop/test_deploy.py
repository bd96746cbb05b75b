"""The set-up of deploy/: what its drill promises holds, with real unbound and HAProxy."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.interop

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 110
STEPS = 6
WAYS = 4


def test_nothing_fails_in_the_drill_but_what_was_in_flight_on_a_killed_node(
    program: Callable[[str], str],
) -> None:
    program("unbound")
    program("haproxy")
    command = [sys.executable, str(ROOT / "deploy" / "drill.py"), "--settle-s", "2"]
    drill = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert drill.returncode == 0, drill.stdout + drill.stderr
    rows = [line for line in drill.stdout.splitlines() if " of " in line and line[0].islower()]
    cells = [re.findall(r"(\d+) of (\d+)", row) for row in rows[1:]]  # the first is the head
    assert len(cells) == STEPS
    assert all(len(row) == WAYS and all(int(asked) for _, asked in row) for row in cells)
