"""When a call may go once more: how often, after how long, and out of what budget."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ...core.checks import check_limits

BUDGET_BURST = 10.0
"""How many retries may come together when all has gone well before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How calls of an idempotent `Rpc` are repeated.

    Raises ArgumentError for a negative number, ArgumentTypeError for what is none.

    max_attempts:  how often a call is sent at the most, the first time included.
    backoff_s:     the longest wait before the second attempt; it doubles with each one more, and
                   the wait itself is a random part of it, so that callers do not come in waves.
    max_backoff_s: where doubling ends.
    budget:        retries for each call that is made, on the long run: 0.1 is one in ten.  When
                   they are spent, failures are told at once, and no server is drowned in retries.
    """

    max_attempts: int = 3
    backoff_s: float = 0.05
    max_backoff_s: float = 1.0
    budget: float = 0.1

    def __post_init__(self) -> None:
        check_limits(self, endless=("max_attempts",), may_be_zero=True)

    def wait_s(self, attempts: int) -> float:
        """Return how long to wait before another attempt, when there were so many."""
        doubled = 2.0 ** min(attempts - 1, 62)  # a float has an end
        longest: float = min(self.backoff_s * doubled, self.max_backoff_s)
        return random.uniform(0.0, longest)


class RetryBudget:
    """What is left of a policy's budget."""

    __slots__ = ("_left", "policy")

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
        self._left = BUDGET_BURST

    def earn(self) -> None:
        """A call was made."""
        if self._left < BUDGET_BURST:
            self._left = min(self._left + self.policy.budget, BUDGET_BURST)

    def spend(self, attempts: int) -> bool:
        """Take one retry out, for a call that was sent so often; whether there was one."""
        if attempts >= self.policy.max_attempts or self._left < 1.0:
            return False
        self._left -= 1.0
        return True
