"""The programs of docs/wsgi-asgi.md run as they stand, and print what stands below them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "wsgi-asgi.md").read_text("utf-8")
PROGRAM = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = PROGRAM.findall(PAGE)


def test_every_program_of_the_page_is_tested() -> None:
    assert len(PROGRAMS) == PAGE.count("```python") == PAGE.count("```text") > 0


@pytest.mark.parametrize(("code", "printed"), PROGRAMS)
def test_the_program_prints_what_the_page_shows(code: str, printed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")
