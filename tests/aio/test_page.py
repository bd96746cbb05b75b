"""The programs of docs/asyncio.md run as they stand, and print what stands below them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.aio.test_cpython import DEVIATIONS

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "asyncio.md").read_text("utf-8")
PROGRAM = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = PROGRAM.findall(PAGE)


def test_each_program_has_what_it_prints_below() -> None:
    assert len(PROGRAMS) == PAGE.count("```python") == PAGE.count("```text") > 0


def test_the_page_names_as_many_deviations_from_cpython_as_there_are() -> None:
    assert len(DEVIATIONS) == 1
    assert "with one deviation" in PAGE


@pytest.mark.parametrize(("code", "printed"), PROGRAMS)
def test_the_program_prints_what_the_page_shows(code: str, printed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")
