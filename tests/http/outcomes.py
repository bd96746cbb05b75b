"""A client under test, and what its callbacks were told."""

from __future__ import annotations

from typing import Any

from evsvc.core import EVLOOP_NONBLOCK
from evsvc.http import HttpConnection, HttpRequest
from tests.http.peers import MOST_PASSES, QUIET_PASSES


class Outcomes(list[Any]):
    """Requests made, and what their callbacks said: (name, argument of the callback)."""

    def __init__(self, connection: HttpConnection) -> None:
        super().__init__()
        self.connection = connection
        self.made: dict[str, HttpRequest] = {}

    @property
    def given(self) -> list[tuple[str, object]]:
        """The same with the status in place of each response."""
        return [
            (name, result.response_code if isinstance(result, HttpRequest) else result)
            for name, result in self
        ]

    def make(
        self, name: str = "/", method: str = "GET", *fields: tuple[str, str], body: bytes = b""
    ) -> HttpRequest:
        """Make a request for `name`, which also names it in the outcomes."""
        request = HttpRequest(lambda response, arg: self.append((arg, response)), name)
        request.set_error_cb(lambda code, arg: self.append((arg, code)))
        for field in fields:
            request.output_headers.add(*field)
        if body:
            request.output_buffer.add(body)
        self.made[name] = request
        self.connection.make_request(request, method, name)
        return request

    def settle(self) -> None:
        """Run the loop until all that can be done without time passing is done."""
        for _ in range(QUIET_PASSES):
            self.connection.base.loop(EVLOOP_NONBLOCK)

    def wait(self, count: int = 1) -> None:
        """Run the loop until there are so many outcomes."""
        for _ in range(MOST_PASSES):
            if len(self) >= count:
                return
            self.connection.base.loop(EVLOOP_NONBLOCK)
        raise AssertionError(f"it stays at {list(self)}")
