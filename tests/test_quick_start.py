"""The quick start of docs/index.md does what it says, and README.zh.md has README.md's programs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "index.md").read_text("utf-8")
(FIRST,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```sh\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)
PATIENCE_S = 60


def blocks(text: str) -> list[str]:
    return re.findall(r"^```(?:python|sh|bash)\n.*?^```$", text, re.MULTILINE | re.DOTALL)


@contextmanager
def running(*command: str, folder: Path = ROOT) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()


def test_these_are_its_commands() -> None:
    """Another one wants a test, too.  `make demo` has tests/test_demo.py, and what is installed
    by `make venv` and pip tests/test_project.py and tests/test_packaging.py."""
    assert COMMANDS == [
        "make demo",
        "make venv",
        "python -m pip install .",
        ".venv/bin/python first.py",
        "curl http://127.0.0.1:8080/",
        ".venv/bin/evsvc serve . --bind 127.0.0.1:8080",
    ]


@pytest.mark.interop
def test_the_first_program_answers_curl(program: Callable[[str], str], tmp_path: Path) -> None:
    curl = program("curl")
    bind = 'server.bind_socket("127.0.0.1", 8080)'
    assert FIRST.count(bind) == 1
    code = FIRST.replace(bind, 'print(server.bind_socket("127.0.0.1", 0).port, flush=True)')
    with running(sys.executable, "-c", code) as process:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}/"
        done = subprocess.run(
            [curl, "-sS", url], capture_output=True, text=True, timeout=PATIENCE_S
        )
    assert done.stdout == "Thanks for the request!", done.stderr
    assert f"prints `{done.stdout}`" in PAGE


@pytest.mark.interop
def test_a_folder_is_served_without_a_program(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    curl = program("curl")
    (tmp_path / "page.txt").write_text("a page")
    command = [sys.executable, "-m", "evsvc", *COMMANDS[-1].replace(":8080", ":0").split()[1:]]
    with running(*command, folder=tmp_path) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        command = [curl, "-sS", f"{url}page.txt"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.stdout == "a page", done.stderr


def test_the_chinese_readme_has_the_same_programs_and_links_that_lead_somewhere() -> None:
    ours, theirs = ((ROOT / name).read_text("utf-8") for name in ("README.md", "README.zh.md"))
    assert blocks(theirs) == blocks(ours)
    links = re.findall(r"\]\(([^)]+)\)", theirs)
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []
