"""What docs/asyncio.md says of CPython's tests; tests/test_docs.py runs its programs."""

from __future__ import annotations

from pathlib import Path

from tests.aio.test_cpython import DEVIATIONS

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "asyncio.md").read_text("utf-8")


def test_the_page_names_as_many_deviations_from_cpython_as_there_are() -> None:
    assert len(DEVIATIONS) == 1
    assert "with one deviation" in PAGE
