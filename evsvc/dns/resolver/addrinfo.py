"""getaddrinfo(3) without blocking: what can be said at once, and two lookups for the rest.

An answer at once comes from a numeric host, no host, the hosts table or the cache.  Otherwise A
and AAAA are asked for side by side; when one is answered, the other has `getaddrinfo_skew_s` more.
IPv4 addresses come before IPv6.  Source: evdns_getaddrinfo, RFC 3493 section 6.1.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

import dns.rdatatype

from ...core import (
    EVUTIL_EAI_ADDRFAMILY,
    EVUTIL_EAI_AGAIN,
    EVUTIL_EAI_CANCEL,
    EVUTIL_EAI_FAIL,
    EVUTIL_EAI_FAMILY,
    EVUTIL_EAI_NONAME,
    AddrInfo,
    AddrInfoHints,
    EaiError,
    ResolveCallback,
)
from ...core.util import AddrInfoError, service_port, socket_kinds
from ..addresses import (
    SocketAddress,
    check_port,
    family_of,
    make_sockaddr,
    parse_ip,
)
from ..errors import (
    DNS_ERR_NODATA,
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    DnsArgumentError,
    DnsResult,
)
from .cache import AnswerCache, CachedAnswer
from .hosts import HostsTable, is_family_wanted
from .resolution import Answer, Resolution, list_candidates

if TYPE_CHECKING:
    import dns.name

    from ...core import EventFlag
    from .engine import LookupEngine
    from .lookup import Lookup

AF_INET, AF_INET6, AF_UNSPEC = socket.AF_INET, socket.AF_INET6, socket.AF_UNSPEC

_RECORD_TYPES: dict[int, dns.rdatatype.RdataType] = {
    AF_INET: dns.rdatatype.A,
    AF_INET6: dns.rdatatype.AAAA,
}
_OTHER_FAMILY: dict[int, int] = {AF_INET: AF_INET6, AF_INET6: AF_INET}
_LOOPBACK: dict[int, str] = {AF_INET: "127.0.0.1", AF_INET6: "::1"}
_ANY: dict[int, str] = {AF_INET: "0.0.0.0", AF_INET6: "::"}

# Documentation addresses: connecting a UDP socket there asks the routing table and sends nothing.
_ROUTE_PROBES: dict[int, SocketAddress] = {
    AF_INET: ("192.0.2.1", 9),
    AF_INET6: ("2001:db8::1", 9, 0, 0),
}


class _Failure(Exception):
    """Carries a resolution code to where the callback is called.  Never leaves this module."""

    def __init__(self, code: EaiError) -> None:
        super().__init__(code)
        self.code = code


def port_of(service: int | str | None, hints: AddrInfoHints) -> int:
    """Return the port of a number or a service name, 0 for None.

    Raises DnsArgumentError for an int that is no port, _Failure for a text that names none.
    """
    if isinstance(service, int):
        check_port(service)
    try:
        return service_port(service, hints)
    except AddrInfoError as exc:
        raise _Failure(exc.code) from None


def families_of(family: int) -> tuple[int, ...]:
    """Return the families that a hint wants, IPv4 first."""
    return (AF_INET, AF_INET6) if family == AF_UNSPEC else (family,)


def configured_family(family: int) -> int:
    """Narrow AF_UNSPEC to the one family that the machine has an address for (AI_ADDRCONFIG)."""
    if family != AF_UNSPEC:
        return family
    usable = [known for known in (AF_INET, AF_INET6) if _has_route(known)]
    return usable[0] if len(usable) == 1 else AF_UNSPEC


def _has_route(family: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(_ROUTE_PROBES[family])
    except OSError:
        return False
    return True


def result_code(result: DnsResult) -> EaiError:
    """Return the resolution code of a lookup that gave no address."""
    return EVUTIL_EAI_NONAME if result == DNS_ERR_NOTEXIST else EVUTIL_EAI_FAIL


class Wanted:
    """What one call asks for, in the form that answers are made from.

    family: AF_*;  port: a number;  kinds: see `socket_kinds`;  flags: AI_* bits.
    """

    __slots__ = ("family", "flags", "kinds", "port")

    def __init__(self, service: int | str | None, hints: AddrInfoHints) -> None:
        if hints.family not in (AF_UNSPEC, AF_INET, AF_INET6):
            raise _Failure(EVUTIL_EAI_FAMILY)
        self.family = hints.family
        self.flags = hints.flags
        self.kinds = socket_kinds(hints)
        self.port = port_of(service, hints)

    def entries(
        self, addresses: Sequence[SocketAddress], canonical_name: str | None = None
    ) -> list[AddrInfo]:
        """Return the entries for addresses; the canonical name, if wanted, is on the first."""
        name = canonical_name or "" if self.flags & socket.AI_CANONNAME else ""
        found: list[AddrInfo] = []
        for address in addresses:
            sockaddr = (address[0], self.port, *address[2:])
            for kind, proto in self.kinds:
                entry_name = "" if found else name
                found.append(AddrInfo(family_of(address), kind, proto, entry_name, sockaddr))
        return found


class AddrInfoLookup:
    """A getaddrinfo under way: up to two lookups, and what they gave so far."""

    __slots__ = ("_answers", "_arg", "_cb", "_name", "_owner", "_skew_timer", "_wanted", "lookups")

    def __init__(
        self,
        owner: AddrInfoResolver,
        name: str,
        wanted: Wanted,
        cb: ResolveCallback,
        arg: object,
    ) -> None:
        self._owner: AddrInfoResolver | None = owner
        self._name = name
        self._wanted = wanted
        self._cb = cb
        self._arg = arg
        self._answers: dict[int, CachedAnswer] = {}
        self._skew_timer = owner.engine.base.timer(self._on_skew_over)
        self.lookups: dict[int, Lookup] = {}

    def start(self, cached: dict[int, CachedAnswer], candidates: list[dns.name.Name]) -> None:
        """Take what the cache has, and ask for the families that it has not."""
        assert self._owner is not None
        engine = self._owner.engine
        self._answers.update(cached)
        for family in families_of(self._wanted.family):
            if family not in cached:
                resolution = Resolution(candidates, _RECORD_TYPES[family], 0, engine.options)
                self.lookups[family] = engine.start(resolution, self._on_answer, family)
        if cached:
            self._skew_timer.add(engine.options.getaddrinfo_skew_s)

    def cancel(self) -> None:
        """Give up: the callback gets EVUTIL_EAI_CANCEL, from the loop.

        Does nothing once the callback was called.  Source: evdns_getaddrinfo_cancel.
        """
        if self._owner is not None:
            base = self._owner.engine.base
            self.drop()
            base.post(self._cb, EVUTIL_EAI_CANCEL, [], self._arg)

    def drop(self) -> None:
        """End it without a word to the callback."""
        if self._owner is None:
            return
        self._owner.running.discard(self)
        self._owner = None
        self._skew_timer.close()
        for lookup in self.lookups.values():
            lookup.cancel()
        self.lookups.clear()

    def _on_answer(self, answer: Answer, family: object) -> None:
        if self._owner is None:
            return  # cancelled, or the skew was over, while this answer was on its way
        assert isinstance(family, int)
        engine = self._owner.engine
        del self.lookups[family]
        kept = CachedAnswer(answer.result, answer.addresses, answer.canonical_name)
        self._answers[family] = kept
        if answer.result in (DNS_ERR_NONE, DNS_ERR_NOTEXIST, DNS_ERR_NODATA):
            self._owner.cache.put(self._name, family, kept, answer.ttl_s, engine.base.now)
        if not self.lookups:
            self._report()
        elif not engine.closed:
            self._skew_timer.add(engine.options.getaddrinfo_skew_s)

    def _on_skew_over(self, fd: int, what: EventFlag, arg: object) -> None:
        if self._owner is not None:
            self._report()

    def _report(self) -> None:
        self.drop()
        code, entries = merge(self._answers, self._wanted)
        self._cb(code, entries, self._arg)


def merge(answers: dict[int, CachedAnswer], wanted: Wanted) -> tuple[int, list[AddrInfo]]:
    """Return the result of a getaddrinfo from the answers by family, in the order they came.

    Any address is success; of two errors the later counts; no answer at all is "try again".
    """
    good = [
        (family, answers[family])
        for family in (AF_INET, AF_INET6)
        if family in answers and answers[family].result == DNS_ERR_NONE
    ]
    if good:
        addresses = [
            make_sockaddr(family, text, 0) for family, answer in good for text in answer.addresses
        ]
        names = (answer.canonical_name for _, answer in good if answer.canonical_name)
        return EaiError.EVUTIL_EAI_SUCCESS, wanted.entries(addresses, next(names, None))
    if not answers:
        return EVUTIL_EAI_AGAIN, []
    return result_code(list(answers.values())[-1].result), []


class AddrInfoResolver:
    """getaddrinfo over a lookup engine, a hosts table and a cache.

    search: the search list; its owner may change it, and the next call goes by that.
    """

    __slots__ = ("_search", "cache", "engine", "hosts", "running")

    def __init__(
        self,
        engine: LookupEngine,
        hosts: HostsTable,
        cache: AnswerCache,
        search: list[dns.name.Name],
    ) -> None:
        self.engine = engine
        self.hosts = hosts
        self.cache = cache
        self.running: set[AddrInfoLookup] = set()
        self._search = search

    def getaddrinfo(
        self,
        host: str | None,
        port: int | str | None,
        hints: AddrInfoHints | None,
        cb: ResolveCallback,
        arg: object,
    ) -> AddrInfoLookup | None:
        """Look up; see `Resolver.getaddrinfo`."""
        try:
            answer = self._answer_or_ask(host, port, hints or AddrInfoHints(), cb, arg)
        except _Failure as failure:
            cb(failure.code, [], arg)
            return None
        if isinstance(answer, AddrInfoLookup):
            return answer
        cb(EaiError.EVUTIL_EAI_SUCCESS, answer, arg)
        return None

    def drop_all(self) -> None:
        """End all that is under way without a word."""
        for lookup in list(self.running):
            lookup.drop()

    def _answer_or_ask(
        self,
        host: str | None,
        port: int | str | None,
        hints: AddrInfoHints,
        cb: ResolveCallback,
        arg: object,
    ) -> list[AddrInfo] | AddrInfoLookup:
        if host is None and port is None:
            raise _Failure(EVUTIL_EAI_NONAME)
        wanted = Wanted(port, hints)
        if host is None:
            return _answer_without_host(wanted)
        answer = _answer_numeric(host, wanted)
        if answer is None:
            if wanted.flags & socket.AI_ADDRCONFIG:
                wanted.family = configured_family(wanted.family)
            answer = self._answer_from_hosts(host, wanted)
        return self._ask(host, wanted, cb, arg) if answer is None else answer

    def _answer_from_hosts(self, host: str, wanted: Wanted) -> list[AddrInfo] | None:
        known = self.hosts.lookup(host)
        if not known:
            return None
        fitting = [address for address in known if is_family_wanted(address, wanted.family)]
        if not fitting:
            raise _Failure(EVUTIL_EAI_ADDRFAMILY)
        return wanted.entries(fitting)

    def _ask(
        self, host: str, wanted: Wanted, cb: ResolveCallback, arg: object
    ) -> list[AddrInfo] | AddrInfoLookup:
        try:
            candidates = list_candidates(host, self._search, self.engine.options.ndots)
        except DnsArgumentError:
            raise _Failure(EVUTIL_EAI_NONAME) from None
        families = families_of(wanted.family)
        cached = {family: found for family in families if (found := self._cached(host, family))}
        missing = len(families) - len(cached)
        if missing == 0:
            return self._answer_from_cache(host, cached, wanted)
        if self.engine.room < missing:
            raise _Failure(EVUTIL_EAI_AGAIN)
        lookup = AddrInfoLookup(self, host, wanted, cb, arg)
        lookup.start(cached, candidates)
        self.running.add(lookup)
        return lookup

    def _cached(self, host: str, family: int) -> CachedAnswer | None:
        return self.cache.get(host, family, self.engine.base.now)

    def _answer_from_cache(
        self, host: str, cached: dict[int, CachedAnswer], wanted: Wanted
    ) -> list[AddrInfo]:
        code, entries = merge(cached, wanted)
        if entries:
            return entries
        if wanted.family != AF_UNSPEC and cached[wanted.family].result == DNS_ERR_NODATA:
            other = self._cached(host, _OTHER_FAMILY[wanted.family])
            if other is not None and other.addresses:
                raise _Failure(EVUTIL_EAI_ADDRFAMILY)
        raise _Failure(EaiError(code))


def _answer_without_host(wanted: Wanted) -> list[AddrInfo]:
    hosts = _ANY if wanted.flags & socket.AI_PASSIVE else _LOOPBACK
    return wanted.entries(
        [make_sockaddr(family, hosts[family], 0) for family in families_of(wanted.family)]
    )


def _answer_numeric(host: str, wanted: Wanted) -> list[AddrInfo] | None:
    """Return the answer for a numeric host, None for a name.  A dotted quad is never asked for."""
    found = parse_ip(host)
    if found is None:
        if wanted.flags & socket.AI_NUMERICHOST:
            raise _Failure(EVUTIL_EAI_NONAME)
        return None
    family, text, scope_id = found
    if wanted.family not in (AF_UNSPEC, family):
        raise _Failure(EVUTIL_EAI_ADDRFAMILY)
    return wanted.entries([make_sockaddr(family, text, 0, scope_id)])
