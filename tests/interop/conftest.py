"""What the tests with programs of others share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.hosted import PATIENCE_S


@pytest.fixture
def curl(program: Callable[[str], str]) -> Callable[..., bytes]:
    """Return `curl(*args)`: what it prints."""
    path = program("curl")

    def ask(*args: str, data: bytes = b"") -> bytes:
        command = [path, "--silent", "--show-error", "--max-time", "60", *args]
        return subprocess.run(
            command, input=data, capture_output=True, check=True, timeout=PATIENCE_S
        ).stdout

    return ask
