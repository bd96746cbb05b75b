"""The programs of docs/guide.md run as they stand, and what they assert holds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "guide.md").read_text("utf-8")
PROGRAMS = re.findall(r"^## (.*?)\n.*?^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def test_the_guide_has_a_program_in_every_section() -> None:
    assert [title for title, _ in PROGRAMS] == re.findall(r"^## (.*)$", GUIDE, re.MULTILINE)
    assert len(PROGRAMS) == GUIDE.count("```python")


@pytest.mark.parametrize("program", [pytest.param(code, id=title) for title, code in PROGRAMS])
def test_the_program_runs_as_it_stands(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
