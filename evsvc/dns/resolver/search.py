"""Search: one look-up, from the name that the program gives to what it is told.

A search is over names, not over families: each candidate name (the name as it is, and with each
suffix of the search list) is asked for all wanted types together, and the first that has records
of one of them ends the search.  So never two names are mixed in one answer.

Of what the candidates said, the worst is told: a failure that a later try may mend before an
absence, and "there is no such record" before "there is no such name".  What is believed, is
believed for the shortest time to live of all candidates tried.  Silence ends a search, since the
other candidates would meet it, too; SERVFAIL and a refusal do not, as they can be of one zone.

Once one type has records, the others have `grace_s` more (RFC 8305 section 3); never from an
absence or a failure.

Source: evdns.c's search_try_next; glibc's res_search; resolv.conf(5) for `ndots`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import dns.rdatatype

from ...core import StateError
from ..errors import (
    DNS_ERR_CANCEL,
    DNS_ERR_NODATA,
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    DNS_ERR_SHUTDOWN,
    DNS_ERR_SYSTEM,
    DNS_ERR_TIMEOUT,
    DnsArgumentError,
)
from ..wire.names import MAX_NAME_BYTES, DomainName, domain_name, is_localhost
from ..wire.replies import Question
from .answer import Answer
from .flight import Ticket, Way

if TYPE_CHECKING:
    from ...core import Event, EventBase, EventFlag
    from .engine import LookupEngine

log = logging.getLogger("evsvc.dns")

Answers = dict[dns.rdatatype.RdataType, Answer]
"""Answers by the record type that was asked for."""

PLAIN_WAY = Way()
_ENDS_THE_SEARCH = (DNS_ERR_TIMEOUT, DNS_ERR_SHUTDOWN, DNS_ERR_SYSTEM, DNS_ERR_CANCEL)


def list_candidates(text: str, suffixes: Sequence[DomainName], ndots: int) -> list[DomainName]:
    """Return the absolute names to try for `text`, in order.

    With at least `ndots` dots the name itself comes first, otherwise last; a trailing dot makes
    it absolute, and localhost is.  Combinations longer than a name may be are left out.  Raises
    DnsArgumentError when `text` is no name.
    """
    name = domain_name(text)
    if not suffixes or text.endswith(".") or is_localhost(name.wire):
        return [name]
    searched = [
        DomainName(name.wire[:-1] + suffix.wire, f"{name.text}.{suffix.text}")
        for suffix in suffixes
        if len(name.wire) - 1 + len(suffix.wire) <= MAX_NAME_BYTES
    ]
    return [name, *searched] if name.dots >= ndots else [*searched, name]


def rank(answer: Answer) -> int:
    """Return how much an answer without records outranks others when a search has found none."""
    if answer.result in _ENDS_THE_SEARCH:
        return 3
    if answer.result not in (DNS_ERR_NODATA, DNS_ERR_NOTEXIST):
        return 2
    return 1 if answer.result == DNS_ERR_NODATA else 0


class Wish(NamedTuple):
    """What one search is for.

    types: asked together; with `one_by_one`, each after the last is answered.  grace_s: how long
    the other types are waited for when one has records.  timeout_s: seconds for the whole search,
    its waiting in line included, as `search_time` gives them.  fresh: do not look into the cache.
    """

    types: tuple[dns.rdatatype.RdataType, ...]
    grace_s: float
    timeout_s: float | None
    way: Way = PLAIN_WAY
    fresh: bool = False
    one_by_one: bool = False


def search_time(wanted_s: float | None, default_s: float | None) -> float | None:
    """Return how long a search may take, None is for ever.

    Raises DnsArgumentError for a time that is not positive.
    """
    if wanted_s is None:
        return default_s
    if not wanted_s > 0:
        raise DnsArgumentError(f"a look-up takes some time: {wanted_s!r}")
    return wanted_s


class Search:
    """One look-up under way.

    Calls `done(answers)` once from the loop, with what the last candidate gave if it has records,
    else with one answer, the worst of all, for each type.  late: called once after it, with the
    answers that were waited for no longer, if there are any.  Until then it is in `running`.
    """

    __slots__ = (
        "_answers",
        "_candidates",
        "_deadline",
        "_done",
        "_engine",
        "_is_late",
        "_late",
        "_name",
        "_running",
        "_tickets",
        "_timer",
        "_ttl_s",
        "_unasked",
        "_wish",
        "_worst",
    )

    def __init__(
        self,
        engine: LookupEngine,
        candidates: Sequence[DomainName],
        wish: Wish,
        done: Callable[[Answers], object],
        running: set[Search],
        late: Callable[[Answers], object] | None = None,
    ) -> None:
        self._engine = engine
        self._late = late
        self._is_late = False  # done was called, and an answer may still come
        self._candidates = iter(candidates)
        self._name: DomainName | None = None
        self._wish = wish
        self._done: Callable[[Answers], object] | None = done
        self._running = running
        self._answers: Answers = {}
        self._tickets: dict[int, Ticket] = {}
        self._unasked: Iterator[dns.rdatatype.RdataType] = iter(())
        self._worst: Answer | None = None
        self._ttl_s: int | None = None
        self._timer: Event | None = None
        self._deadline: float | None = None

    def start(self) -> Answers | None:
        """Return the answers if no nameserver need be asked, else begin to ask."""
        found = self._advance()
        if found is None:
            self._running.add(self)
            if self._wish.timeout_s is not None:
                self._deadline = self._engine.base.now + self._wish.timeout_s
            if self._deadline is not None or self._answers:
                self._set_timer()
        return found

    def start_from_loop(self) -> None:
        """Begin to ask; what is known at once is told from the loop, too."""
        found = self.start()
        if found is not None:
            self._running.add(self)
            self._engine.base.post(self._finish, found)

    def cancel(self) -> None:
        """Give up: `done` gets DNS_ERR_CANCEL for each type, from the loop."""
        done = self._done
        if self._is_late:
            self._end(finish=True)
        elif done is not None:
            self.drop()
            answers = self._all_alike(Answer(DNS_ERR_CANCEL))
            with contextlib.suppress(StateError):  # a closed base calls nobody
                self._engine.base.post(self._tell, done, answers)

    def drop(self) -> None:
        """End it without a word."""
        self._end(finish=False)

    def _end(self, *, finish: bool) -> None:
        self._done = self._late = None
        self._is_late = False
        self._running.discard(self)
        if self._tickets:
            tickets, self._tickets = self._tickets, {}
            for ticket in tickets.values():
                self._engine.leave(ticket, finish=finish)
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def _tell(self, done: Callable[[Answers], object], answers: Answers) -> None:
        if not self._engine.silent:
            done(answers)

    def _advance(self) -> Answers | None:
        """Try the next names while all is known at once; None when a nameserver is asked."""
        for name in self._candidates:
            self._name = name
            self._answers = {}
            self._unasked = iter(self._wish.types)
            self._ask()
            if self._tickets:
                return None
            found = self._judge()
            if found is not None:
                return found
        assert self._worst is not None
        return self._all_alike(self._worst._replace(ttl_s=self._ttl_s or 0))

    def _ask(self) -> None:
        """Ask for the types that are due."""
        name, wish = self._name, self._wish
        assert name is not None
        for rdtype in self._unasked:
            question = Question(name, rdtype)
            take = partial(self._take, rdtype)
            asked = self._engine.ask(question, wish.way, take, fresh=wish.fresh)
            if isinstance(asked, Answer):
                self._answers[rdtype] = asked
            else:
                self._tickets[rdtype] = asked
                if wish.one_by_one:
                    return

    def _take(self, kind: dns.rdatatype.RdataType, answer: Answer) -> None:
        """An answer came from the engine."""
        if self._is_late:
            self._tickets.pop(kind, None)
            self._answers = {kind: answer}
            if not self._tickets:
                self._finish_late(self._answers)
            return
        if self._done is None:
            return
        self._tickets.pop(kind, None)
        self._answers[kind] = answer
        if self._wish.one_by_one:
            self._ask()
        if self._tickets:
            self._set_timer()
            return
        found = self._judge() or self._advance()
        if found is not None:
            self._finish(found)

    def _judge(self) -> Answers | None:
        """Return what ends the search, None to try the next name."""
        if self._has_records():
            if self._ttl_s is None:
                return self._answers
            most = self._ttl_s
            return {
                kind: answer._replace(ttl_s=min(answer.ttl_s, most))
                for kind, answer in self._answers.items()
            }
        known = [answer.ttl_s for answer in self._answers.values() if answer.is_known]
        self._ttl_s = min([*known, *([] if self._ttl_s is None else [self._ttl_s])], default=None)
        worst = max(self._answers.values(), key=rank)
        if self._worst is None or rank(worst) > rank(self._worst):
            self._worst = worst
        return self._all_alike(worst) if rank(worst) == 3 else None

    def _has_records(self) -> bool:
        for answer in self._answers.values():  # noqa: SIM110  # `any` would make a generator each time
            if answer.result == DNS_ERR_NONE:
                return True
        return False

    def _all_alike(self, answer: Answer) -> Answers:
        return dict.fromkeys(self._wish.types, answer)

    def _finish(self, answers: Answers) -> None:
        done, late = self._done, self._late
        if done is not None:
            self._end(finish=True)
            self._tell(done, answers)
            if late is not None:
                self._tell(late, {})

    def _finish_late(self, answers: Answers) -> None:
        late = self._late
        self._end(finish=True)
        if late is not None:
            self._tell(late, answers)

    def _set_timer(self) -> None:
        """Wait for the end of the grace time or of the whole, whichever is first."""
        base = self._engine.base
        due_at = self._deadline
        if self._has_records():
            grace_over = base.now + self._wish.grace_s
            due_at = grace_over if due_at is None else min(due_at, grace_over)
        if due_at is not None:
            if self._timer is None:
                self._timer = base.timer(self._on_timer)
            self._timer.add(max(due_at - base.now, 0.0))

    def _on_timer(self, fd: int, what: EventFlag, arg: object) -> None:
        if self._is_late:
            self._finish_late({})
            return
        found = self._answers if self._has_records() else None
        done = self._done
        if found is None or done is None or self._late is None or not self._tickets:
            self._finish(found or self._all_alike(Answer(DNS_ERR_TIMEOUT)))
            return
        self._is_late = True
        self._done = None
        if self._deadline is not None and self._timer is not None:
            self._timer.add(max(self._deadline - self._engine.base.now, 0.0))
        self._tell(done, dict(found))


def call_program(base: EventBase, cb: Callable[..., object], *args: object) -> None:
    """Call what the program gave us; what it raises is logged and told, and the loop goes on."""
    try:
        cb(*args)
    except Exception as exc:
        log.exception("the callback of a look-up raised")
        if base.exception_handler is not None:
            base.exception_handler(exc)
