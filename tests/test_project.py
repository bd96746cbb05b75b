"""The project's own promises: how one starts, what no test does."""

from __future__ import annotations

import ast
import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAKE_TARGETS = ("venv", "demo", "test", "lint", "format", "docs", "bench", "clean")


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def code_blocks(markdown: str, language: str) -> list[str]:
    """Return the text of each fenced block of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL)


def sleeps(text: str) -> Iterator[int]:
    """Yield the line of each use of `time.sleep` in a Python source."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep":
            yield node.lineno
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (node.lineno for alias in node.names if alias.name in ("sleep", "*"))


def test_readme_starts_with_the_two_set_up_commands() -> None:
    readme = read("README.md")
    first = code_blocks(readme, r"\w*")[0]
    assert first.splitlines() == ["make demo", "make test"]
    assert readme.index(first) < 600
    assert code_blocks(readme, "sh") == [first]


def test_readme_programs_are_python_and_import_what_exists() -> None:
    blocks = code_blocks(read("README.md"), "python")
    assert len(blocks) >= 4
    for node in (node for block in blocks for node in ast.walk(ast.parse(block))):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        if (ROOT / node.module.replace(".", "/") / "__init__.py").exists():
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_no_test_sleeps() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in (ROOT / "tests").rglob("*.py")
        for line in sleeps(path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("import time\ntime.sleep(1)", [2]),
        ("from time import monotonic, sleep", [1]),
        ("from time import monotonic\nprint('time.sleep')", []),
    ],
)
def test_a_sleep_is_found(text: str, lines: list[int]) -> None:
    assert list(sleeps(text)) == lines


@pytest.mark.parametrize("target", MAKE_TARGETS)
def test_makefile_has_the_target(target: str) -> None:
    makefile = read("Makefile")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert target in makefile.partition(".PHONY:")[2].splitlines()[0].split()


def test_changelog_has_an_unreleased_part() -> None:
    assert re.search(r"^## \[?Unreleased\]?$", read("CHANGELOG.md"), re.MULTILINE)


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """The same tests, all of them, and coverage on top of it."""
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    command = code_blocks(read("README.md"), "sh")[0].splitlines()[-1]
    assert read(".ci/run").splitlines()[-1] == f"{command} PYTEST_ARGS=--cov"
    assert re.search(r"^\t.*-m pytest \$\(PYTEST_ARGS\)$", read("Makefile"), re.MULTILINE)
