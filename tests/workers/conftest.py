"""What the tests of workers share: services, none of which outlives its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from evsvc.core import EventBase, FakeClock
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


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def base(clock: FakeClock) -> Iterator[EventBase]:
    with EventBase(clock=clock) as made:
        yield made
