"""Answers kept until their time to live is over, by question.  Does no I/O, reads no clock.

Invariants
    * Times are monotonic seconds, always passed in by the caller.
    * There are never more entries than the limit: the one not used for longest goes first.
    * An entry is gone at the very moment that its time to live is over.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from ..errors import DNS_ERR_NONE
from ..wire.replies import QuestionKey
from .answer import Answer


class AnswerCache:
    """A bounded map from questions to answers, good and bad.

    limit_entries: most entries, 0 keeps nothing;  max_ttl_s, max_negative_ttl_s: longest stay of
    an answer with records, and of one without (RFC 2308 section 5).
    """

    __slots__ = ("_entries", "_limit_entries", "_max_negative_ttl_s", "_max_ttl_s")

    def __init__(self, limit_entries: int, max_ttl_s: float, max_negative_ttl_s: float) -> None:
        self._entries: OrderedDict[QuestionKey, tuple[float, Answer]] = OrderedDict()
        self._limit_entries = limit_entries
        self._max_ttl_s = max_ttl_s
        self._max_negative_ttl_s = max_negative_ttl_s

    def __len__(self) -> int:
        """The number of entries, those included whose time is over but was not noticed yet."""
        return len(self._entries)

    def put(self, key: QuestionKey, answer: Answer, now: float) -> None:
        """Keep what is known of a question in place of an older answer.

        One with a time to live of zero only removes the older one; a failure does nothing.
        """
        if not answer.is_known:
            return
        self._entries.pop(key, None)
        longest = self._max_ttl_s if answer.result == DNS_ERR_NONE else self._max_negative_ttl_s
        stay = min(answer.ttl_s, longest)
        if stay <= 0 or self._limit_entries == 0:
            return
        if len(self._entries) >= self._limit_entries:
            self._entries.popitem(last=False)
        self._entries[key] = (now + stay, answer)

    def get(self, key: QuestionKey, now: float) -> Answer | None:
        """Return the answer that is still good, with the time that it has left, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires, answer = entry
        if expires <= now:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return replace(answer, ttl_s=int(expires - now))

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
