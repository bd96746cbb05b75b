"""A base with a server on it, and a client that waits for its answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from evsvc.core import EVLOOP_ONCE, EventBase
from evsvc.http import ClientResponse, HttpClient, HttpServer


class Site:
    """A server on the loopback, and `get`, which runs the loop until there is an answer."""

    def __init__(self, base: EventBase) -> None:
        self.base = base
        self.server = HttpServer(base)
        self.bound = self.server.bind_socket("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.bound.port}"
        self.client = HttpClient(base)

    def get(self, path: str, **options: Any) -> ClientResponse:
        answers: list[ClientResponse] = []
        self.client.get(self.url + path, lambda got, arg: answers.append(got), **options)
        while not answers:
            self.base.loop(EVLOOP_ONCE)
        return answers[0]

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase() as made:
        yield made


@pytest.fixture
def site(base: EventBase) -> Iterator[Site]:
    made = Site(base)
    yield made
    made.close()
