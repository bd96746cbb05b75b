"""Finished replies, kept by the question's wire form and sent again without asking the program."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple
from weakref import WeakSet

from ..wire.fast import PlainQuery
from ..wire.framing import HEADER_BYTES

_RD_CD = (0x01, 0x10)  # in the two bytes of a header's flags


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
    head: flags (RD and CD cleared) and counts;  query_counts: the counts of the query.
    """

    expires: float
    name_end: int
    tail: bytes
    query_counts: bytes
    head: tuple[int, int, bytes]
    rest: bytes
    groups: tuple[ReplyGroup, ...]


class FinishedReplies:
    """Replies by question, the least lately used of which goes when there are too many.

    The letters' case of a name, the id, and the flags RD, AD and CD make no other question; type,
    class and EDNS do.  hits: how many queries have been answered.
    """

    __slots__ = ("__weakref__", "_limit", "_replies", "hits")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._replies: OrderedDict[bytes, _Reply] = OrderedDict()
        self.hits = 0

    def __len__(self) -> int:
        return len(self._replies)

    def find(self, packet: bytes, now: float) -> bytes | None:
        """Return the reply to a query, None when there is none that still counts."""
        key = packet[HEADER_BYTES:].lower()
        found = self._replies.get(key)
        if found is None:
            return None
        expires, name_end, tail, counts, (high, low, reply_counts), rest, _ = found
        if expires <= now:
            del self._replies[key]
            return None
        # The key is lower case throughout, so it says nothing of the bytes behind the name.
        if packet[4:HEADER_BYTES] != counts or packet[name_end:] != tail:
            return None
        flags_high, flags_low = packet[2], packet[3]
        if flags_high & 0xFE or flags_low & 0xCF:  # more than RD, AD and CD
            return None
        self._replies.move_to_end(key)
        self.hits += 1
        return b"".join(
            (
                packet[:2],
                bytes((high | flags_high, low | flags_low & 0x10)),
                reply_counts,
                packet[HEADER_BYTES:name_end],
                rest,
            )
        )

    def keep(
        self, query: PlainQuery, reply: bytes, expires: float, groups: tuple[ReplyGroup, ...] = ()
    ) -> None:
        """Keep the whole reply to an ordinary query until a time of the loop's clock."""
        packet, name_end = query.packet, query.name_end
        key = packet[HEADER_BYTES:].lower()
        self._replies[key] = _Reply(
            expires,
            name_end,
            packet[name_end:],
            packet[4:HEADER_BYTES],
            (reply[2] & ~_RD_CD[0], reply[3] & ~_RD_CD[1], reply[4:HEADER_BYTES]),
            reply[name_end:],
            groups,
        )
        self._replies.move_to_end(key)
        for group in groups:
            group.note(self)
        while len(self._replies) > self._limit:
            self._replies.popitem(last=False)

    def flush(self, group: ReplyGroup | None = None) -> None:
        """Forget all, or those of a group."""
        if group is None:
            self._replies.clear()
            return
        for key in [key for key, reply in self._replies.items() if group in reply.groups]:
            del self._replies[key]
