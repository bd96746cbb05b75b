"""What a server has done with its queries, as figures."""

from __future__ import annotations

from typing import NamedTuple


class DnsServerCounters(NamedTuple):
    """How many queries a `DnsServer` has had since it was made, by what became of them.

    asked:    given to the program;  failed: those of them whose callback raised.
    finished: answered by a kept reply.
    refused:  not for the program: malformed, or what no server answers.
    ignored:  without an answer: replies, and what has no whole header.
    limited:  beyond the rate limit, without an answer;  slipped: with a cut one.
    """

    asked: int = 0
    failed: int = 0
    finished: int = 0
    refused: int = 0
    ignored: int = 0
    limited: int = 0
    slipped: int = 0

    @property
    def queries(self) -> int:
        """All of them."""
        return (
            self.asked + self.finished + self.refused + self.ignored + self.limited + self.slipped
        )
