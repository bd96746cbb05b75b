"""What the tests of ASGI share: an application that is served while the test asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.asgi.gateway import Gateway


@pytest.fixture
def serve() -> Iterator[Callable[..., Gateway]]:
    """Return `serve(application, **how)`, see Gateway; what failed unseen fails the test."""
    made: list[Gateway] = []

    def start(application: Any, **how: Any) -> Gateway:
        made.append(Gateway(application, **how))
        return made[-1]

    yield start
    for gateway in made:
        gateway.close()
    assert [gateway.faults for gateway in made] == [[] for _ in made]
