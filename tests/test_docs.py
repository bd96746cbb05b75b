"""The programs of the tutorial and of the migration pages run, and print what stands below them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [*(ROOT / "docs" / "tutorial").glob("*.md"), *(ROOT / "docs" / "migrate").glob("*.md")]
)
PROGRAM = re.compile(
    r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL
)


def programs() -> Iterator[object]:
    for page in PAGES:
        for number, (code, printed) in enumerate(PROGRAM.findall(page.read_text("utf-8")), 1):
            yield pytest.param(code, printed, id=f"{page.parent.name}/{page.stem}-{number}")


@pytest.mark.parametrize(("code", "printed"), list(programs()))
def test_a_program_prints_what_its_page_shows(code: str, printed: str) -> None:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")


def test_every_page_has_its_place_in_the_site() -> None:
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8")))
    assert {
        str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")
    } == listed


def test_every_page_with_a_program_has_a_test_that_runs_it() -> None:
    """tests/aio, test_guide, test_quick_start, tests/inspector, tests/testing, tests/workers and
    test_gateway_docs run those of the pages here; this module the other ones."""
    with_programs = [
        page for page in (ROOT / "docs").rglob("*.md") if "```python" in page.read_text("utf-8")
    ]
    assert {page.name for page in with_programs if page not in PAGES} == {
        "asyncio.md",
        "guide.md",
        "index.md",
        "inspector.md",
        "testing.md",
        "workers.md",
        "wsgi-asgi.md",
    }


def test_every_package_of_ours_has_its_reference() -> None:
    """But for the commands, and the demonstration."""
    packages = {path.parent.name for path in (ROOT / "evsvc").glob("*/__init__.py")} - {"commands"}
    pages = {page.stem for page in (ROOT / "docs" / "reference").glob("*.md")}
    assert packages | {"websocket", "rpc_websocket"} == pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_no_page_is_without_a_program(page: Path) -> None:
    assert PROGRAM.search(page.read_text("utf-8"))
