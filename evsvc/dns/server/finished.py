"""Finished replies, kept by the question's wire form and sent again without asking the program."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from typing import NamedTuple
from weakref import WeakSet

import dns.flags

from ..wire.fast import PlainQuery
from ..wire.framing import HEADER_BYTES

_RD, _AD, _CD = int(dns.flags.RD), int(dns.flags.AD), int(dns.flags.CD)
_COUNTS_AT = 4  # in a header, after id and flags
KEPT_HEADS = 256
"""Of so many kinds of replies the heads are at hand: they differ in flags, rcode and counts."""


class ReplyGroup:
    """Kept replies that are forgotten together, on whichever servers they are.

    A handler makes one, has its requests `keep_with` it, and calls `flush` when what it knows has
    changed: the next query reaches it.
    """

    __slots__ = ("_where",)

    def __init__(self) -> None:
        self._where: WeakSet[FinishedReplies] = WeakSet()

    def flush(self) -> None:
        """Forget the replies of the group."""
        for finished in list(self._where):
            finished.flush(self)
        self._where.clear()

    def note(self, finished: FinishedReplies) -> None:
        """Know that there is a reply of the group."""
        self._where.add(finished)


class _Reply(NamedTuple):
    """A reply without its id and its question's name.

    tail: what follows the name in the query; rest: what follows it in the reply;
    heads: its flags and counts, by the flags of the query.
    """

    expires: float
    name_end: int
    tail: bytes
    heads: dict[bytes, bytes]
    rest: bytes
    groups: tuple[ReplyGroup, ...]


@lru_cache(KEPT_HEADS)
def heads_for(reply_head: bytes) -> dict[bytes, bytes]:
    """Return a reply's flags and counts by each flags that a query with the same answer may have.

    The query's RD and CD are copied; AD may be set, too.
    """
    flags, counts = int.from_bytes(reply_head[:2], "big") & ~(_RD | _CD), reply_head[2:]
    return {
        (rd | ad | cd).to_bytes(2, "big"): (flags | rd | cd).to_bytes(2, "big") + counts
        for rd in (0, _RD)
        for ad in (0, _AD)
        for cd in (0, _CD)
    }


class FinishedReplies:
    """Replies by question, the least lately used of which goes when there are too many.

    The letters' case of a name, the id, and the flags RD, AD and CD make no other question; type,
    class and EDNS do.  hits: how many queries have been answered;  replies: those that are kept.
    """

    __slots__ = ("__weakref__", "_limit", "hits", "replies")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.replies: OrderedDict[bytes, _Reply] = OrderedDict()
        self.hits = 0

    def find(self, packet: bytes, now: float) -> bytes | None:
        """Return the reply to a query, None when there is none that still counts."""
        key = packet[_COUNTS_AT:].lower()
        found = self.replies.get(key)
        if found is None:
            return None
        expires, name_end, tail, heads, rest, _ = found
        if expires <= now:
            del self.replies[key]
            return None
        head = heads.get(packet[2:_COUNTS_AT])
        # The key is lower case throughout, so it says nothing of the bytes behind the name.
        if head is None or packet[name_end:] != tail:
            return None
        self.replies.move_to_end(key)
        self.hits += 1
        return packet[:2] + head + packet[HEADER_BYTES:name_end] + rest

    def keep(
        self, query: PlainQuery, reply: bytes, expires: float, groups: tuple[ReplyGroup, ...] = ()
    ) -> None:
        """Keep the whole reply to an ordinary query until a time of the loop's clock."""
        name_end = query.name_end
        packet = reply[:2] + query.rest
        key = packet[_COUNTS_AT:].lower()
        self.replies[key] = _Reply(
            expires,
            name_end,
            packet[name_end:],
            heads_for(reply[2:HEADER_BYTES]),
            reply[name_end:],
            groups,
        )
        self.replies.move_to_end(key)
        for group in groups:
            group.note(self)
        while len(self.replies) > self._limit:
            self.replies.popitem(last=False)

    def flush(self, group: ReplyGroup | None = None) -> None:
        """Forget all, or those of a group."""
        if group is None:
            self.replies.clear()
            return
        for key in [key for key, reply in self.replies.items() if group in reply.groups]:
            del self.replies[key]
