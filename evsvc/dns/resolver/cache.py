"""Answers kept until their time to live is over, by question.  Does no I/O, reads no clock.

Invariants
    * Times are monotonic seconds, always passed in by the caller.
    * There are never more entries than the limit: the one not used for longest goes first.
    * `get` never gives an answer whose time is over; `get_stale` may, for `stale_s` longer.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import dns.name

from ..errors import DNS_ERR_NONE
from ..wire.names import labels_of, name_to_text
from ..wire.replies import QuestionKey
from .answer import Answer

STALE_TTL_S = 30
"""How long an answer beyond its time is told without asking again (RFC 8767 section 5)."""

PREFETCH_PART = 0.1


class CachedAnswer(NamedTuple):
    """What a cache has of one question.

    name, type: what was asked, in lower case;  ttl_s: seconds left, less than 0 when it is stale.
    """

    name: str
    type: int
    ttl_s: float
    answer: Answer


class _Entry:
    __slots__ = ("answer", "expires", "gone_at", "stay_s")

    def __init__(self, answer: Answer, stay_s: float, now: float, stale_s: float) -> None:
        self.answer = answer
        self.stay_s = stay_s
        self.expires = now + stay_s
        self.gone_at = self.expires + stale_s


class AnswerCache:
    """A bounded map from questions to answers, good and bad.

    limit_entries: most entries, 0 keeps nothing;  max_ttl_s, max_negative_ttl_s: longest stay of
    an answer with records, and of one without (RFC 2308 section 5);  stale_s: how much longer it
    is there for `get_stale`.
    """

    __slots__ = ("_entries", "_limit_entries", "_max_negative_ttl_s", "_max_ttl_s", "_stale_s")

    def __init__(
        self,
        limit_entries: int,
        max_ttl_s: float,
        max_negative_ttl_s: float,
        stale_s: float = 0,
    ) -> None:
        self._entries: OrderedDict[QuestionKey, _Entry] = OrderedDict()
        self._limit_entries = limit_entries
        self._max_ttl_s = max_ttl_s
        self._max_negative_ttl_s = max_negative_ttl_s
        self._stale_s = stale_s

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
        stay_s = min(answer.ttl_s, longest)
        if stay_s <= 0 or self._limit_entries == 0:
            return
        if len(self._entries) >= self._limit_entries:
            self._entries.popitem(last=False)
        self._entries[key] = _Entry(answer, stay_s, now, self._stale_s)

    def get(self, key: QuestionKey, now: float) -> Answer | None:
        """Return the answer that is still good, with the time that it has left, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires <= now:
            if entry.gone_at <= now:
                del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry.answer._replace(ttl_s=int(entry.expires - now))

    def get_stale(self, key: QuestionKey, now: float) -> Answer | None:
        """Return an answer even if its time is over, None where there is none or it is too old.

        For STALE_TTL_S from then on `get` gives it, too.
        """
        entry = self._entries.get(key)
        if entry is None or entry.gone_at <= now:
            return None
        if entry.expires > now:
            return self.get(key, now)
        if not entry.answer.is_stale:
            entry.answer = entry.answer._replace(is_stale=True)
        entry.expires = min(now + STALE_TTL_S, entry.gone_at)
        return entry.answer._replace(ttl_s=int(entry.expires - now))

    def is_aging(self, key: QuestionKey, now: float) -> bool:
        """Tell whether an answer is in the last tenth of its time, or beyond it."""
        entry = self._entries.get(key)
        return entry is not None and entry.expires - now < entry.stay_s * PREFETCH_PART

    def entries(self, now: float) -> list[CachedAnswer]:
        """Return all that is there, the one not used for longest first."""
        return [
            CachedAnswer(
                name_to_text(dns.name.Name(labels_of(wire))),
                int(rdtype),
                entry.expires - now,
                entry.answer,
            )
            for (wire, rdtype), entry in self._entries.items()
            if entry.gone_at > now
        ]

    def forget(self, wire: bytes) -> int:
        """Forget all types of a name, given by its bytes in lower case; return how many."""
        known = [key for key in self._entries if key[0] == wire]
        for key in known:
            del self._entries[key]
        return len(known)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
