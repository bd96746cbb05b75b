"""The example project's own tests pass, and docs/testing.md's program prints what it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text("utf-8")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def run(*command: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )


def test_the_example_project_passes_its_own_tests() -> None:
    folder = ROOT / "examples" / "testing_project"
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_the_program_of_the_page_prints_what_it_shows() -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (printed,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    done = run(sys.executable, "-W", "error", "-c", program)
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")


def test_the_page_names_all_fixtures() -> None:
    plugin = (ROOT / "evsvc" / "testing" / "plugin.py").read_text("utf-8")
    fixtures = re.findall(r"@pytest\.fixture\ndef (\w+)", plugin)
    assert len(fixtures) == 9
    assert [name for name in fixtures if f"`{name}`" not in PAGE] == []
