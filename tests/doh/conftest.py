"""What the tests of DNS over HTTPS share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evsvc.core import EventBase, FakeClock


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase(clock=FakeClock()) as made:
        yield made
