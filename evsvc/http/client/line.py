"""The requests of one connection in their order: the one under way, those sent behind it, the rest.

It says what may be sent before the answers to others have come (pipelining, RFC 9112 9.3.2), and
what becomes of what was sent when the connection ends.  Does no I/O, and tells nobody.

Invariants
    * `requests[0]` is the one under way, if there is one; the next `behind` of them are sent, too.
      Only such are as can be answered whole, in their turn: see `HttpRequest.can_be_pipelined`.
    * Where one that was sent is given up, its answer will come all the same: a request of nobody's
      stands in its place, whose answer is thrown away.  So those behind it lose nothing.
    * Of what was sent, somebody waits for one answer at the least: else `give_up` and `advance`
      say that the connection is of no use.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .request import HttpRequest

# Asking for one of these twice is as asking once (RFC 9110 9.2.2).
IDEMPOTENT: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))


class Line:
    """The requests of one connection.

    requests: all, in their order.  behind: how many behind the first are sent.
    """

    __slots__ = ("behind", "requests")

    def __init__(self) -> None:
        self.requests: deque[HttpRequest] = deque()
        self.behind = 0

    def is_sent(self, request: HttpRequest) -> bool:
        """Whether it is the first, or was sent behind it."""
        return request in islice(self.requests, self.behind + 1)

    def next_to_send(self, most: int, takes_all: bool) -> HttpRequest | None:
        """Return what may be sent behind the rest now, None where nothing may.

        most: how many may be sent and unanswered.  takes_all: methods that are not idempotent, too.
        Nothing goes behind what ends the connection, or behind a first one whose answer nobody
        waits for any more, as that may take long.
        """
        requests, behind = self.requests, self.behind
        if behind + 1 >= most or behind + 1 >= len(requests):
            return None
        first, last, following = requests[0], requests[behind], requests[behind + 1]
        if first.connection is None or not (first.keep_alive and last.keep_alive):
            return None
        if not behind and not _may_go_with_others(first, takes_all):
            return None
        return following if _may_go_with_others(following, takes_all) else None

    def bytes_behind(self, first: int) -> int:
        """Return how many bytes those have that are sent behind; first: where they begin."""
        return sum(each.sent_bytes for each in islice(self.requests, first, first + self.behind))

    def advance(self) -> bool:
        """The first is answered, and taken out; whether somebody waits for one of the others."""
        self.behind -= 1
        return self._is_awaited()

    def give_up(self, request: HttpRequest) -> bool:
        """Have one that was sent be nobody's; whether somebody waits for one of the others."""
        requests = self.requests
        requests[requests.index(request)] = request.stand_in()
        return self._is_awaited()

    def _is_awaited(self) -> bool:
        """Whether somebody waits for the answers; where nobody does, those requests are gone."""
        sent = self.behind + 1
        if any(each.connection is not None for each in islice(self.requests, sent)):
            return True
        for _ in range(sent):
            self.requests.popleft()
        self.behind = 0
        return False

    def part(
        self, first: int, unsent_bytes: int, *, is_refused: bool, retry: bool
    ) -> list[HttpRequest]:
        """Sort out what was sent behind a request with which the connection ends.

        first: where they begin.  unsent_bytes: what has not left us.  is_refused: the server has
        said that it does no more (RFC 9112 9.6).  What it surely has not seen, or done, stays in
        line as if it had not been sent; what is idempotent goes again, once.  The others, of which
        nobody knows, are taken out and returned.
        """
        requests = self.requests
        kept = [requests.popleft() for _ in range(first)]
        sent = [requests.popleft() for _ in range(self.behind)]
        self.behind = 0
        lost: list[HttpRequest] = []
        for request in reversed(sent):
            unsent_bytes -= request.sent_bytes
            if request.connection is None:
                continue
            if not (is_refused or unsent_bytes >= 0):
                if not retry or request.went_again or request.method not in IDEMPOTENT:
                    lost.append(request)
                    continue
                request.went_again = True
            requests.appendleft(request)
        requests.extendleft(reversed(kept))
        lost.reverse()
        return lost

    def clear(self) -> list[HttpRequest]:
        """Take all out, and return those."""
        requests = list(self.requests)
        self.requests.clear()
        self.behind = 0
        return requests


def _may_go_with_others(request: HttpRequest, takes_all: bool) -> bool:
    return request.can_be_pipelined and (takes_all or request.method in IDEMPOTENT)
