"""The programs of docs/workers.md run as they stand, and print what stands below them."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.workers.service import ENVIRONMENT, PATIENCE_S, ROOT

PAGE = (ROOT / "docs" / "workers.md").read_text("utf-8")
PROGRAM = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_program_of_the_page_has_what_it_prints_below() -> None:
    assert len(PROGRAM.findall(PAGE)) == PAGE.count("```python") > 0


@pytest.mark.parametrize(("code", "printed"), PROGRAM.findall(PAGE))
def test_the_program_prints_what_the_page_shows(code: str, printed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env=ENVIRONMENT,
    )
    assert (done.returncode, done.stdout) == (0, printed)
    assert "Traceback" not in done.stderr
