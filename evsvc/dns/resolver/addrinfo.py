"""getaddrinfo(3) without blocking: what can be said at once, and a search for the rest.

An answer at once comes from a numeric host, no host, the hosts table or the cache.  Otherwise A
and AAAA are asked for together; when one has addresses, the other has `getaddrinfo_skew_s` more.
Addresses are in the order of RFC 6724.  Source: evdns_getaddrinfo, RFC 3493 section 6.1; the codes
are those of glibc.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

import dns.rdatatype

from ...core import (
    EVUTIL_EAI_ADDRFAMILY,
    EVUTIL_EAI_AGAIN,
    EVUTIL_EAI_BADFLAGS,
    EVUTIL_EAI_CANCEL,
    EVUTIL_EAI_FAIL,
    EVUTIL_EAI_FAMILY,
    EVUTIL_EAI_NODATA,
    EVUTIL_EAI_NONAME,
    EVUTIL_EAI_SYSTEM,
    AddrInfo,
    AddrInfoHints,
    EaiError,
    ResolveCallback,
)
from ...core.resolver import LateCallback, SocketAddress
from ...core.util import (
    AddrInfoError,
    getaddrinfo,
    ip_version,
    service_port,
    socket_kinds,
)
from ..errors import (
    DNS_ERR_CANCEL,
    DNS_ERR_NODATA,
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    DNS_ERR_NOTIMPL,
    DNS_ERR_REFUSED,
    DNS_ERR_SERVERFAILED,
    DNS_ERR_SYSTEM,
    DNS_ERR_TIMEOUT,
    DNS_ERR_TRUNCATED,
    DnsArgumentError,
    DnsResult,
)
from ..wire.replies import Question
from .hosts import HostsTable, is_family_wanted
from .lookup import Lookup
from .ordering import sort_addresses
from .search import Answers, Search, Wish, call_program, list_candidates, search_time

if TYPE_CHECKING:
    from ..wire.names import DomainName
    from .engine import LookupEngine

AF_INET, AF_INET6, AF_UNSPEC = socket.AF_INET, socket.AF_INET6, socket.AF_UNSPEC

_RECORD_TYPES: dict[int, dns.rdatatype.RdataType] = {
    AF_INET: dns.rdatatype.A,
    AF_INET6: dns.rdatatype.AAAA,
}
_OTHER_FAMILY: dict[int, int] = {AF_INET: AF_INET6, AF_INET6: AF_INET}

# Documentation addresses: connecting a UDP socket there asks the routing table and sends nothing.
_ROUTE_PROBES: dict[int, SocketAddress] = {
    AF_INET: ("192.0.2.1", 9),
    AF_INET6: ("2001:db8::1", 9, 0, 0),
}

# glibc's codes; what is not here cannot be mended by trying again.
_CODES: dict[DnsResult, EaiError] = {
    DNS_ERR_NOTEXIST: EVUTIL_EAI_NONAME,
    DNS_ERR_NODATA: EVUTIL_EAI_NODATA,
    DNS_ERR_TIMEOUT: EVUTIL_EAI_AGAIN,
    DNS_ERR_SERVERFAILED: EVUTIL_EAI_AGAIN,
    DNS_ERR_REFUSED: EVUTIL_EAI_AGAIN,
    DNS_ERR_NOTIMPL: EVUTIL_EAI_AGAIN,
    DNS_ERR_TRUNCATED: EVUTIL_EAI_AGAIN,
    DNS_ERR_SYSTEM: EVUTIL_EAI_SYSTEM,
    DNS_ERR_CANCEL: EVUTIL_EAI_CANCEL,
}


class _Failure(Exception):
    """Carries a resolution code to where the callback is called.  Never leaves this module."""

    def __init__(self, code: EaiError) -> None:
        super().__init__(code)
        self.code = code


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
    """Return the resolution code of a look-up that gave no address."""
    return _CODES.get(result, EVUTIL_EAI_FAIL)


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
        try:
            self.port = service_port(service, hints)
        except AddrInfoError as exc:
            raise _Failure(exc.code) from None

    def entries(self, addresses: Sequence[SocketAddress], canonical_name: str) -> list[AddrInfo]:
        """Return the entries for addresses; the canonical name, if wanted, is on the first."""
        name = canonical_name if self.flags & socket.AI_CANONNAME else ""
        found: list[AddrInfo] = []
        for address in addresses:
            family = AF_INET if len(address) == 2 else AF_INET6
            sockaddr = (address[0], self.port, *address[2:])
            for kind, proto in self.kinds:
                found.append(AddrInfo(family, kind, proto, "" if found else name, sockaddr))
        return found


def merge(answers: Answers, wanted: Wanted, *, sort: bool) -> tuple[int, list[AddrInfo]]:
    """Return the result of a getaddrinfo from the answers of a search."""
    found = [answer for answer in answers.values() if answer.result == DNS_ERR_NONE]
    if not found:
        worst = next(iter(answers.values()))
        return result_code(worst.result), []
    addresses: list[SocketAddress] = []
    for family in (AF_INET, AF_INET6):
        answer = answers.get(_RECORD_TYPES[family])
        for record in () if answer is None else answer.records:
            assert isinstance(record.data, str)
            more = () if family == AF_INET else (0, 0)
            addresses.append((record.data, 0, *more))
    if sort:
        addresses = sort_addresses(addresses)
    return EaiError.EVUTIL_EAI_SUCCESS, wanted.entries(addresses, found[0].name or "")


class AddrInfoResolver:
    """getaddrinfo over a lookup engine and a hosts table.

    search: the search list; its owner may change it, and the next call goes by that.
    running: the searches under way, which its owner may drop.
    """

    __slots__ = ("_engine", "_running", "_search", "hosts")

    def __init__(
        self,
        engine: LookupEngine,
        hosts: HostsTable,
        search: list[DomainName],
        running: set[Search],
    ) -> None:
        self.hosts = hosts
        self._engine = engine
        self._search = search
        self._running = running

    def getaddrinfo(
        self,
        host: str | None,
        port: int | str | None,
        hints: AddrInfoHints,
        cb: ResolveCallback,
        arg: object,
        timeout_s: float | None,
        late: LateCallback | None = None,
    ) -> Lookup | None:
        """Look up; see `Resolver.getaddrinfo` and `Resolver.getaddrinfo_late`."""
        try:
            answer = self._answer_or_ask(host, port, hints, cb, arg, timeout_s, late)
        except _Failure as failure:
            cb(failure.code, [], arg)
            return None
        if isinstance(answer, Lookup):
            return answer
        cb(EaiError.EVUTIL_EAI_SUCCESS, answer, arg)
        if late is not None:
            late([], arg)
        return None

    def _answer_or_ask(
        self,
        host: str | None,
        port: int | str | None,
        hints: AddrInfoHints,
        cb: ResolveCallback,
        arg: object,
        timeout_s: float | None,
        late: LateCallback | None,
    ) -> list[AddrInfo] | Lookup:
        wanted = Wanted(port, hints)
        if host is None and hints.flags & socket.AI_CANONNAME:
            raise _Failure(EVUTIL_EAI_BADFLAGS)
        if host is None or ip_version(host) is not None or hints.flags & socket.AI_NUMERICHOST:
            return _answer_numeric(host, port, hints)
        if wanted.flags & socket.AI_ADDRCONFIG:
            wanted.family = configured_family(wanted.family)
        answer = self._answer_from_hosts(host, wanted)
        return self._ask(host, wanted, cb, arg, timeout_s, late) if answer is None else answer

    def _answer_from_hosts(self, host: str, wanted: Wanted) -> list[AddrInfo] | None:
        known = self.hosts.lookup(host)
        if not known:
            return None
        fitting = [address for address in known if is_family_wanted(address, wanted.family)]
        if not fitting:
            raise _Failure(EVUTIL_EAI_ADDRFAMILY)
        if self._engine.options.sort_addresses:
            fitting = sort_addresses(fitting)
        return wanted.entries(fitting, self.hosts.canonical_name(host))

    def _ask(
        self,
        host: str,
        wanted: Wanted,
        cb: ResolveCallback,
        arg: object,
        timeout_s: float | None,
        late: LateCallback | None,
    ) -> list[AddrInfo] | Lookup:
        engine, options = self._engine, self._engine.options
        try:
            candidates = list_candidates(host, self._search, options.ndots)
        except DnsArgumentError:
            raise _Failure(EVUTIL_EAI_NONAME) from None
        types = tuple(
            _RECORD_TYPES[family]
            for family in families_of(wanted.family)
            if not (options.no_aaaa and family == AF_INET6)
        )
        if not types:
            raise _Failure(EVUTIL_EAI_NODATA)
        wish = Wish(
            types=types,
            one_by_one=options.single_request,
            grace_s=options.getaddrinfo_skew_s,
            timeout_s=search_time(timeout_s, options.lookup_timeout_s),
        )
        if engine.room < len(types):
            raise _Failure(EVUTIL_EAI_AGAIN)

        sort = options.sort_addresses

        def done(answers: Answers) -> None:
            call_program(engine.base, cb, *merge(answers, wanted, sort=sort), arg)

        def told_late(answers: Answers) -> None:
            entries = merge(answers, wanted, sort=sort)[1] if answers else []
            if late is not None:
                call_program(engine.base, late, entries, arg)

        search = Search(
            engine, candidates, wish, done, self._running, None if late is None else told_late
        )
        answers = search.start()
        if answers is None:
            return Lookup(search.cancel)
        code, entries = merge(answers, wanted, sort=sort)
        if not entries:
            raise _Failure(self._refine(EaiError(code), candidates[0], wanted))
        return entries

    def _refine(self, code: EaiError, name: DomainName, wanted: Wanted) -> EaiError:
        """Tell whether it is only the wanted family that is not there, as far as it is known."""
        if code != EVUTIL_EAI_NODATA or wanted.family == AF_UNSPEC:
            return code
        question = Question(name, _RECORD_TYPES[_OTHER_FAMILY[wanted.family]])
        other = self._engine.cache.get(question.key, self._engine.base.now)
        has_other = other is not None and other.result == DNS_ERR_NONE
        return EVUTIL_EAI_ADDRFAMILY if has_other else code


def _answer_numeric(
    host: str | None, port: int | str | None, hints: AddrInfoHints
) -> list[AddrInfo]:
    try:
        entries = getaddrinfo(host, port, hints)
    except AddrInfoError as exc:
        raise _Failure(exc.code) from None
    if host is not None and hints.flags & socket.AI_CANONNAME:
        entries[0] = entries[0]._replace(canonname=host)
    return entries
