"""What the tests of WSGI share: an application that is served while the test asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.hosted import served
from tests.wsgi.gateway import Gateway


@pytest.fixture
def serve() -> Iterator[Callable[..., Gateway]]:
    """Return `serve(application, **how)`, see Gateway."""
    yield from served(Gateway)
