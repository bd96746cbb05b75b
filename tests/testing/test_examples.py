"""The example project's own tests pass, and what docs/testing.md shows is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import dns.message
import dns.query
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text("utf-8")
CONFTEST = re.findall(r"\n\n```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ASKING = """
def test_it(http_server, http_client):
    http_server.set_cb("/", lambda request, arg: request.send_reply(200, None, b"hello"))
    assert http_client.get("/").body == b"hello"
"""
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


@pytest.mark.parametrize("blocks", [CONFTEST[:1], CONFTEST])
def test_the_conftest_of_the_page_brings_the_fixtures(tmp_path: Path, blocks: list[str]) -> None:
    assert blocks
    (tmp_path / "conftest.py").write_text("".join(blocks))
    (tmp_path / "test_it.py").write_text(ASKING)
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_what_the_page_shows_of_a_conftest_is_one(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    line, fixture = [text for language, text in blocks if not language]
    imports = "import pytest\nfrom evsvc import EventBase\nfrom evsvc.testing import leftovers\n"
    (tmp_path / "conftest.py").write_text(f"{imports}{line}\n{fixture}")
    (tmp_path / "test_it.py").write_text("""
import signal, threading, time

def test_the_clock_is_the_real_one(event_base, http_server, http_client):
    def hand_over(request, arg):
        work = lambda: event_base.post(request.send_reply, 204)
        threading.Thread(target=work).start()
    http_server.set_gencb(hand_over)
    assert http_client.get("/").status == 204
    assert abs(event_base.gettime_monotonic() - time.monotonic()) < 60

def test_what_is_left_fails(event_base, http_server):
    http_server.bind_socket("127.0.0.1", 0)
    kept.append(event_base.signal(signal.SIGUSR2, print))
    kept[0].add()

kept = []
""")
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=tmp_path)
    assert "2 passed, 1 error" in done.stdout, done.stdout + done.stderr


def test_the_page_names_all_fixtures() -> None:
    plugin = (ROOT / "evsvc" / "testing" / "plugin.py").read_text("utf-8")
    fixtures = re.findall(r"@pytest\.fixture\ndef (\w+)", plugin)
    assert len(fixtures) == 10
    assert [name for name in fixtures if f"`{name}`" not in PAGE] == []
