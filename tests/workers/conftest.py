"""What the tests of workers share: services, none of which outlives its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.workers.service import Service


@pytest.fixture
def service() -> Iterator[Callable[..., Service]]:
    """Return `service(setup, ...)`, which starts a Service."""
    with ExitStack() as started:

        def start(*args: object, **options: object) -> Service:
            made = Service(*args, **options)  # type: ignore[arg-type]  # the test's
            started.callback(made.close)
            return made

        yield start
