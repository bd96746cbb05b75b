"""The programs of the pages of docs/ run as they stand, and print what stands below them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if "```python" in page.read_text("utf-8")]
ELSEWHERE = {
    "index.md": "tests/test_quick_start.py",
    "inspector.md": "tests/inspector/test_docs.py",
}
"""Pages whose programs serve until they are stopped, and who runs them."""

PROGRAM = re.compile(
    r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL
)


def programs() -> Iterator[object]:
    for page in PAGES:
        found = PROGRAM.findall(page.read_text("utf-8"))
        for number, (code, printed) in enumerate(found if page.name not in ELSEWHERE else (), 1):
            yield pytest.param(code, printed, id=f"{page.parent.name}/{page.stem}-{number}")


@pytest.mark.parametrize(("code", "printed"), list(programs()))
def test_a_program_prints_what_its_page_shows(
    code: str, printed: str, program: Callable[[str], str]
) -> None:
    if "openssl" in code:
        program("openssl")
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (0, printed), done.stderr
    assert not re.search("Traceback|Warning", done.stderr)  # some log what they do


def test_every_page_has_its_place_in_the_site() -> None:
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8")))
    assert {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} == listed


def test_what_is_run_elsewhere_is() -> None:
    for page, test in ELSEWHERE.items():
        assert page in {each.name for each in PAGES}
        assert page in (ROOT / test).read_text("utf-8")


@pytest.mark.parametrize("page", ["guide", "asyncio", "testing", "workers", "wsgi-asgi"])
def test_each_program_of_a_page_has_what_it_prints_below(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text("utf-8")
    assert all(printed for _, printed in PROGRAM.findall(text))
    assert len(PROGRAM.findall(text)) == text.count("```python") == text.count("```text")


def test_every_package_of_ours_has_its_reference() -> None:
    """But for the commands, and the demonstration."""
    packages = {path.parent.name for path in (ROOT / "evsvc").glob("*/__init__.py")} - {"commands"}
    pages = {page.stem for page in (ROOT / "docs" / "reference").glob("*.md")}
    assert packages | {"websocket", "rpc_websocket"} == pages


@pytest.mark.parametrize("folder", ["tutorial", "migrate"])
def test_no_page_of_these_is_without_a_program(folder: str) -> None:
    assert [page for page in (DOCS / folder).glob("*.md") if page not in PAGES] == []
