"""The example project's own tests pass, and docs/testing.md's program prints what it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import dns.message
import dns.query

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
    assert "7 passed" in done.stdout


def test_the_service_of_the_example_project_serves() -> None:
    app = ROOT / "examples" / "testing_project" / "app.py"
    command = [sys.executable, "-W", "error", str(app), "0", "0"]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            with urllib.request.urlopen(url, timeout=30) as response:
                assert response.read() == b"cake 4.20\ntea 2.50\n"
            port = int(process.stdout.readline().split()[3])
            query = dns.message.make_query("shop.example", "A")
            reply = dns.query.udp(query, "127.0.0.1", timeout=30, port=port)
            assert "192.0.2.80" in reply.answer[0].to_text()
        finally:
            process.kill()


def test_the_program_of_the_page_prints_what_it_shows() -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (printed,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    done = run(sys.executable, "-W", "error", "-c", program)
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")


def test_the_page_names_all_fixtures() -> None:
    plugin = (ROOT / "evsvc" / "testing" / "plugin.py").read_text("utf-8")
    fixtures = re.findall(r"@pytest\.fixture\ndef (\w+)", plugin)
    assert len(fixtures) == 10
    assert [name for name in fixtures if f"`{name}`" not in PAGE] == []
