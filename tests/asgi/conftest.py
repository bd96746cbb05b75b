"""What the tests of ASGI share: an application that is served while the test asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.asgi.gateway import Gateway
from tests.hosted import served


@pytest.fixture
def serve() -> Iterator[Callable[..., Gateway]]:
    """Return `serve(application, **how)`, see Gateway."""
    yield from served(Gateway)
