"""Resolver: names to addresses and back, without blocking the loop (struct evdns_base)."""

from __future__ import annotations

import errno
import ipaddress
import logging
import math
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import dns.exception
import dns.rdatatype

from ...core import AddrInfoHints, ArgumentTypeError
from ...core.closing import Closing
from ...core.resolver import LateCallback, SocketAddress
from ...core.tls import client_context
from ...core.util import endpoint_of, format_sockaddr_port
from ..constants import (
    DNS_CNAME,
    DNS_OPTION_HOSTSFILE,
    DNS_OPTION_MISC,
    DNS_OPTION_NAMESERVERS,
    DNS_OPTION_NAMESERVERS_NO_DEFAULT,
    DNS_OPTION_SEARCH,
    DNS_OPTIONS_ALL,
    DNS_PTR,
    EVDNS_BASE_DISABLE_WHEN_INACTIVE,
    EVDNS_BASE_INITIALIZE_NAMESERVERS,
    EVDNS_BASE_NAMESERVERS_NO_DEFAULT,
    EVDNS_BASE_NO_CACHE,
    AnswerType,
    BaseFlag,
    ConfigResult,
    DNS_IPv4_A,
    DNS_IPv6_AAAA,
    QueryFlag,
)
from ..errors import (
    DNS_ERR_NONE,
    DnsArgumentError,
    DnsFileError,
    DnsResult,
    DnsStateError,
)
from ..options import DNS_PORT, TLS_PORT, ResolverOptions, parse_nameserver
from ..wire.names import DomainName, domain_name
from ..wire.replies import Question
from .addrinfo import AddrInfoResolver
from .answer import Answer, answers_of_addresses
from .cache import CachedAnswer
from .engine import LookupEngine
from .flight import Way
from .hosts import LOCALHOST_LINES, HostsTable
from .lookup import Lookup
from .nameservers import Nameserver, NameserverState
from .search import PLAIN_WAY, Answers, Search, Wish, call_program, list_candidates, search_time
from .sysconfig import (
    FollowedFiles,
    SystemConfig,
    domain_of_host,
    parse_resolv_conf,
    read_file,
)
from .transport import TcpTransport, TlsPeer, TransportMaker

if TYPE_CHECKING:
    from ...core import EventBase, ResolveCallback

log = logging.getLogger("evsvc.dns")

LookupCallback = Callable[[DnsResult, AnswerType, int, int, list[str] | None, Any], object]
"""Called as `cb(result, type, count, ttl, addresses, arg)`; `addresses` is None on errors, and
`ttl`, in seconds, then tells how long the absence may be believed."""

QueryCallback = Callable[[Answer, Any], object]
"""Called as `cb(answer, arg)`."""

_KNOWN_BASE_FLAGS = int(sum(BaseFlag))
_KNOWN_QUERY_FLAGS = int(sum(QueryFlag))
FILES_INTERVAL_S = 1.0
_DEFAULT_NAMESERVER: SocketAddress = ("127.0.0.1", 53)


class Resolver(Closing):
    """Looks names up on `base`, and is what `BufferEvent.connect_hostname` wants.

    flags: EVDNS_BASE_* bits.  With EVDNS_BASE_INITIALIZE_NAMESERVERS, the default, `resolv_conf`
    and `hosts` are read at once; with 0 there are no nameservers, no search list and no hosts.
    EVDNS_BASE_NAMESERVERS_NO_DEFAULT: do not fall back to 127.0.0.1 when none is configured.
    EVDNS_BASE_NO_CACHE: keep no answers.  EVDNS_BASE_DISABLE_WHEN_INACTIVE: do not probe dead
    nameservers while there are no lookups; an idle resolver then never keeps the loop alive.

    All callbacks run from the loop, one exception apart: see `getaddrinfo`.  Raises
    DnsArgumentError for unknown flags, DnsFileError when `resolv_conf` is too large.  A file that
    is missing is no error: defaults take its place.  Source: evdns_base_new.
    """

    __slots__ = (
        "_addrinfo",
        "_base",
        "_conf_files",
        "_engine",
        "_hosts_filename",
        "_hosts_files",
        "_look_at",
        "_own_options",
        "_resolv_conf",
        "_resolv_conf_classes",
        "_running",
        "_search",
    )

    def __init__(
        self,
        base: EventBase,
        flags: int = EVDNS_BASE_INITIALIZE_NAMESERVERS,
        *,
        options: ResolverOptions | None = None,
        resolv_conf: str = "/etc/resolv.conf",
        hosts: str = "/etc/hosts",
    ) -> None:
        if flags & ~_KNOWN_BASE_FLAGS:
            raise DnsArgumentError(f"unknown resolver flags: {flags:#x}")
        options = options or ResolverOptions()
        if flags & EVDNS_BASE_NO_CACHE:
            options = replace(options, cache_entries=0)
        self._base = base
        self._hosts_filename = hosts
        self._resolv_conf: str | None = None
        self._resolv_conf_classes = 0
        self._hosts_files = FollowedFiles()
        self._conf_files = FollowedFiles()
        self._look_at = -math.inf
        self._own_options = options
        self._search: list[DomainName] = []
        lazy = bool(flags & EVDNS_BASE_DISABLE_WHEN_INACTIVE)
        self._engine = LookupEngine(base, options, lazy=lazy)
        self._running: set[Search] = set()
        self._addrinfo = AddrInfoResolver(
            self._engine, HostsTable(options.hosts_entries), self._search, self._running
        )
        if flags & EVDNS_BASE_INITIALIZE_NAMESERVERS:
            self._read_system_files(flags, resolv_conf)

    def _read_system_files(self, flags: int, resolv_conf: str) -> None:
        classes = DNS_OPTIONS_ALL
        if flags & EVDNS_BASE_NAMESERVERS_NO_DEFAULT:
            classes |= DNS_OPTION_NAMESERVERS_NO_DEFAULT
        result = self.resolv_conf_parse(classes, resolv_conf)
        if result == ConfigResult.EVDNS_ERROR_FILE_TOO_LARGE:
            raise DnsFileError(errno.EFBIG, "too large to be a resolv.conf", resolv_conf)

    def nameserver_add(self, address: str | ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        """Add a nameserver at port 53 (evdns_base_nameserver_add); see `nameserver_ip_add`."""
        self.nameserver_ip_add(str(address))

    def nameserver_ip_add(
        self,
        text: str,
        *,
        tls: bool | ssl.SSLContext = False,
        server_hostname: str | None = None,
    ) -> None:
        """Add a nameserver from "ip", "ip:port", "[ip6]:port" or "ip6"; port 53 by default.

        tls: ask over TLS alone, and by default at port 853 (RFC 7858).  True trusts whom the system
        trusts; or give a context, as `core.tls.client_context` makes it.  server_hostname: the name
        that the certificate must have; without it, the address.  One connection serves all
        questions, and is kept for `tcp_idle_s`.

        Raises ArgumentError for what is none of these, for one that is there already, for one too
        many, and for a name without TLS; ArgumentTypeError for a `tls` that is none.
        Source: evdns_base_nameserver_ip_add.
        """
        address = parse_nameserver(text, TLS_PORT if tls else DNS_PORT)
        self.nameserver_sockaddr_add(address, tls=tls, server_hostname=server_hostname)

    def nameserver_sockaddr_add(
        self,
        address: SocketAddress,
        *,
        tls: bool | ssl.SSLContext = False,
        server_hostname: str | None = None,
    ) -> None:
        """Add a nameserver by socket address (evdns_base_nameserver_sockaddr_add).

        tls, server_hostname: as for `nameserver_ip_add`.  Raises as that, and ArgumentTypeError for
        what is no address.
        """
        self._require_open()
        endpoint = endpoint_of(address)
        if endpoint.family == socket.AF_UNIX or endpoint.sockaddr[1] == 0:
            raise DnsArgumentError(f"a nameserver has an IP address and a port: {address!r}")
        if tls is False:
            if server_hostname is not None:
                raise DnsArgumentError(f"without TLS nobody checks a name: {server_hostname!r}")
            self._engine.pool.add(Nameserver(endpoint.sockaddr))
            return
        if tls is True:
            tls = client_context(alpn=["dot"])
        elif not isinstance(tls, ssl.SSLContext):
            raise ArgumentTypeError(f"tls is True, False or an ssl.SSLContext, not {tls!r}")
        peer = TlsPeer(tls, server_hostname or endpoint.sockaddr[0])
        name = f"{format_sockaddr_port(endpoint.sockaddr)} ({peer.server_hostname})"
        self.nameserver_transport_add(endpoint.sockaddr, name, partial(TcpTransport, tls=peer))

    def nameserver_transport_add(
        self, address: SocketAddress, name: str, maker: TransportMaker
    ) -> None:
        """Add a nameserver that is asked in a way of your own.

        address: what `nameserver_addr` returns;  name: what it is called in messages;  maker: makes
        the `Transport` to it when there is something to ask.  Raises as `nameserver_ip_add`.
        """
        self._require_open()
        self._engine.pool.add(Nameserver(address, name, maker))

    def count_nameservers(self) -> int:
        """Return how many nameservers are configured, up or down."""
        return len(self._engine.pool.servers)

    def nameserver_addr(self, index: int) -> SocketAddress:
        """Return the socket address of a nameserver, in the order of adding.

        Raises DnsArgumentError out of range.  Source: evdns_base_get_nameserver_addr.
        """
        servers = self._engine.pool.servers
        if not 0 <= index < len(servers):
            raise DnsArgumentError(f"there are {len(servers)} nameservers, no index {index!r}")
        return servers[index].address

    def nameserver_states(self) -> list[NameserverState]:
        """Return how each nameserver is doing, in the order of adding."""
        return [
            NameserverState(each.name, each.address, each.up, each.timeouts)
            for each in self._engine.pool.servers
        ]

    def clear_nameservers_and_suspend(self) -> None:
        """Forget the nameservers, and hold all lookups until `resume`.

        Look-ups on the wire start anew then, and what the cache has of the old nameservers is
        forgotten.  A resolv.conf that was read gives no nameservers any more, even if it changes,
        until it is parsed again.  Source: evdns_base_clear_nameservers_and_suspend.
        """
        self._require_open()
        self._resolv_conf_classes &= ~DNS_OPTION_NAMESERVERS
        self._engine.suspend()

    def resume(self) -> None:
        """Go on after `clear_nameservers_and_suspend`; without a nameserver nothing happens."""
        self._require_open()
        self._engine.resume()

    @property
    def options(self) -> ResolverOptions:
        """The options in force."""
        return self._engine.options

    def set_option(self, name: str, value: object = None) -> None:
        """Set one of libevent's options, such as "timeout" or "max-inflight:", by its name.

        Unknown names are ignored, as in libevent.  Raises DnsArgumentError for a value that the
        option does not take.  Source: evdns_base_set_option.
        """
        options = self.options.with_setting(name, value)  # raises before anything has changed
        self._own_options = self._own_options.with_setting(name, value)
        self._set_options(options)

    def _set_options(self, options: ResolverOptions) -> None:
        self._engine.set_options(options)

    def resolv_conf_parse(self, flags: int, filename: str | None) -> ConfigResult:
        """Read a resolv.conf; `flags` (DNS_OPTION_*) tells which directives count.

        Its nameservers, search list and options replace those of another one read before; the
        nameservers that the program added itself stay.  When the file changes, it is read again on
        the next look-up, a second later at most.

        Returns EVDNS_ERROR_NONE; EVDNS_ERROR_NO_NAMESERVERS_CONFIGURED when there was none, and
        127.0.0.1 was taken; EVDNS_ERROR_FAILED_TO_OPEN_FILE or EVDNS_ERROR_FILE_TOO_LARGE when
        it could not be read, and defaults were taken.  Source: evdns_base_resolv_conf_parse.
        """
        self._require_open()
        if flags & DNS_OPTION_HOSTSFILE:
            self._load_hosts_or_warn(self._hosts_filename)
        config = SystemConfig()
        result = ConfigResult.EVDNS_ERROR_FAILED_TO_OPEN_FILE
        if filename is not None:
            self._conf_files = FollowedFiles()
            self._conf_files.follow(filename)
            self._resolv_conf, self._resolv_conf_classes = filename, flags & ~DNS_OPTION_HOSTSFILE
            try:
                config = parse_resolv_conf(read_file(filename, self.options.resolv_conf_bytes))
                result = ConfigResult.EVDNS_ERROR_NONE
            except DnsFileError as exc:
                log.warning("using defaults for resolv.conf: %s", exc)
                if exc.errno == errno.EFBIG:
                    result = ConfigResult.EVDNS_ERROR_FILE_TOO_LARGE
        return self._configure(config, flags, result)

    def _configure(self, config: SystemConfig, flags: int, result: ConfigResult) -> ConfigResult:
        for line in config.ignored:
            log.warning("ignored a line of resolv.conf: %r", line)
        if flags & (DNS_OPTION_SEARCH | DNS_OPTION_MISC):
            self._set_options(self._own_options)
        for name, value in config.options:
            self._set_option_or_warn(name, value, flags)
        if flags & DNS_OPTION_SEARCH:
            self._set_search(config.search)
        if not flags & DNS_OPTION_NAMESERVERS:
            return result
        pool = self._engine.pool
        if config.nameservers:
            wanted = pool.with_file(config.nameservers)
            names = [server.name for server in wanted]
            if names != [server.name for server in pool.servers]:
                self._engine.replace_nameservers(wanted)
            for address in config.nameservers:
                if not any(server.address == address for server in pool.servers):
                    most = self.options.nameservers
                    log.warning("ignored: more than %d nameservers, with %s", most, address)
        if self.count_nameservers() or flags & DNS_OPTION_NAMESERVERS_NO_DEFAULT:
            return result
        pool.add(Nameserver(_DEFAULT_NAMESERVER, from_file=True))
        return result or ConfigResult.EVDNS_ERROR_NO_NAMESERVERS_CONFIGURED

    def _set_option_or_warn(self, name: str, value: str | None, classes: int) -> None:
        try:
            self._set_options(self.options.with_setting(name, value, classes, from_file=True))
        except DnsArgumentError as exc:
            log.warning("ignored in resolv.conf: %s", exc)

    def _follow_files(self) -> None:
        """Read the files again that have changed, looked at on use, once a second at most."""
        now = self._base.now
        if now < self._look_at or not self.options.follow_files:
            return
        self._look_at = now + FILES_INTERVAL_S
        if self._resolv_conf is not None and self._conf_files.changed():
            log.info("%s has changed", self._resolv_conf)
            self.resolv_conf_parse(self._resolv_conf_classes, self._resolv_conf)
        if self._hosts_files.changed():
            self._addrinfo.hosts.clear()
            for filename in self._hosts_files:
                self._load_hosts_or_warn(filename)

    def load_hosts(self, filename: str | None) -> None:
        """Add the entries of a hosts file; None adds localhost alone.

        Raises DnsFileError when it cannot be read; localhost is added all the same.
        Source: evdns_base_load_hosts.
        """
        hosts = self._addrinfo.hosts
        if filename is not None:
            self._hosts_files.follow(filename)
        if filename is None:
            hosts.add_text(LOCALHOST_LINES)
            return
        try:
            text = read_file(filename, self.options.hosts_bytes)
        except DnsFileError:
            hosts.add_text(LOCALHOST_LINES)
            raise
        if not hosts.add_text(text):
            log.warning("%s has more than %d entries", filename, self.options.hosts_entries)

    def _load_hosts_or_warn(self, filename: str) -> None:
        try:
            self.load_hosts(filename)
        except DnsFileError as exc:
            log.warning("using localhost alone as hosts: %s", exc)

    def clear_host_addresses(self) -> None:
        """Forget the entries of hosts files (evdns_base_clear_host_addresses)."""
        self._hosts_files = FollowedFiles()
        self._addrinfo.hosts.clear()

    def search_add(self, domain: str) -> None:
        """Add a suffix to the end of the search list; leading dots do not count.

        libevent adds at the front, and so tries them in reverse.  Raises DnsArgumentError for
        what is no domain name, or one too many.  Source: evdns_base_search_add.
        """
        suffix = domain_name(domain.lstrip("."))
        if len(self._search) >= self.options.search_domains:
            raise DnsArgumentError(
                f"more than {self.options.search_domains} search domains, with {domain!r}"
            )
        self._search.append(suffix)

    def search_clear(self) -> None:
        """Empty the search list and set ndots to 1 (evdns_base_search_clear)."""
        self._search.clear()
        self.search_ndots_set(1)

    def search_ndots_set(self, ndots: int) -> None:
        """Have names with at least `ndots` dots tried as they are first.

        Source: evdns_base_search_ndots_set.
        """
        self._own_options = replace(self._own_options, ndots=ndots)
        self._set_options(replace(self.options, ndots=ndots))

    def _set_search(self, domains: tuple[str, ...] | None) -> None:
        """Replace the search list by that of a resolv.conf; ndots stays as it is."""
        if domains is None:
            domains = domain_of_host(socket.gethostname())
        self._search.clear()
        for domain in domains:
            try:
                self.search_add(domain)
            except DnsArgumentError as exc:
                log.warning("ignored a search domain: %s", exc)

    def resolve_ipv4(self, name: str, flags: int, cb: LookupCallback, arg: object = None) -> Lookup:
        """Look up the IPv4 addresses of a name: cb(result, type, count, ttl, addresses, arg).

        flags: DNS_QUERY_NO_SEARCH, DNS_QUERY_USEVC, DNS_QUERY_IGNTC, DNS_CNAME_CALLBACK; the
        last adds a second call, with type DNS_CNAME, when the name is an alias.  The hosts table
        plays no part, and the cache is filled but not asked; equal look-ups under way are asked
        once.  What the callback raises is logged, and told to the base's `exception_handler`.

        Raises DnsArgumentError for what is no name, DnsStateError when the resolver is closed or
        too many look-ups wait.  Source: evdns_base_resolve_ipv4.
        """
        return self._resolve(self._candidates(name, flags), DNS_IPv4_A, flags, cb, arg)

    def resolve_ipv6(self, name: str, flags: int, cb: LookupCallback, arg: object = None) -> Lookup:
        """Look up the IPv6 addresses of a name; see `resolve_ipv4` (evdns_base_resolve_ipv6)."""
        return self._resolve(self._candidates(name, flags), DNS_IPv6_AAAA, flags, cb, arg)

    def resolve_reverse(
        self,
        address: str | bytes | ipaddress.IPv4Address,
        flags: int,
        cb: LookupCallback,
        arg: object = None,
    ) -> Lookup:
        """Look up the host names of an IPv4 address; see `resolve_ipv4`.

        Raises DnsArgumentError also for what is no IPv4 address.
        Source: evdns_base_resolve_reverse.
        """
        try:
            name = ipaddress.IPv4Address(address).reverse_pointer
        except ValueError:
            raise DnsArgumentError(f"not an IPv4 address: {address!r}") from None
        return self._resolve([domain_name(name)], DNS_PTR, flags, cb, arg)

    def resolve_reverse_ipv6(
        self,
        address: str | bytes | ipaddress.IPv6Address,
        flags: int,
        cb: LookupCallback,
        arg: object = None,
    ) -> Lookup:
        """Look up the host names of an IPv6 address (evdns_base_resolve_reverse_ipv6)."""
        try:
            name = ipaddress.IPv6Address(address).reverse_pointer
        except ValueError:
            raise DnsArgumentError(f"not an IPv6 address: {address!r}") from None
        return self._resolve([domain_name(name)], DNS_PTR, flags, cb, arg)

    def cancel_request(self, lookup: Lookup) -> None:
        """Cancel a lookup, as `lookup.cancel()` does (evdns_cancel_request)."""
        lookup.cancel()

    def getaddrinfo(
        self,
        host: str | None,
        port: int | str | None,
        hints: AddrInfoHints | None,
        cb: ResolveCallback,
        arg: object = None,
        *,
        timeout_s: float | None = None,
    ) -> Lookup | None:
        """Look a host and a service up: cb(result, addresses, arg), once.

        What needs no nameserver (a numeric host, the hosts table, the cache, a refused argument)
        is answered before the return, which is None.  Otherwise the answer comes from the loop,
        and the returned handle can `cancel()`.  localhost and what is below it is the loopback
        address (RFC 6761).  timeout_s: in place of the option `lookup_timeout_s`.

        Raises ArgumentError for an int that is no port, DnsStateError when closed.
        Source: evdns_getaddrinfo.
        """
        self._require_open()
        self._follow_files()
        return self._addrinfo.getaddrinfo(host, port, hints or AddrInfoHints(), cb, arg, timeout_s)

    def getaddrinfo_late(
        self,
        host: str | None,
        port: int | str | None,
        hints: AddrInfoHints | None,
        cb: ResolveCallback,
        late: LateCallback,
        arg: object = None,
    ) -> Lookup | None:
        """Look up as `getaddrinfo` does, and tell what comes after the answer, too.

        When one family has addresses the other is waited for no longer than `getaddrinfo_skew_s`.
        What it gives then is told by `late(addresses, arg)`, which is called once after a `cb` with
        addresses, with an empty list when no more will come.  Until then the handle can `cancel()`:
        `late` is not called any more.  Raises as `getaddrinfo`.  Source: RFC 8305 section 3.
        """
        self._require_open()
        self._follow_files()
        hints = hints or AddrInfoHints()
        return self._addrinfo.getaddrinfo(host, port, hints, cb, arg, None, late)

    def query(
        self,
        name: str,
        rdtype: int | str,
        cb: QueryCallback,
        arg: object = None,
        *,
        flags: int = 0,
        timeout_s: float | None = None,
    ) -> Lookup:
        """Look up the records of any type: cb(answer, arg), once, from the loop.

        rdtype: a number, or its name ("SRV").  flags: as for `resolve_ipv4`, but for
        DNS_CNAME_CALLBACK; the search list counts.  timeout_s: in place of the option
        `lookup_timeout_s`.  The cache is asked.  Raises DnsArgumentError for what is no name or no
        type of records (ANY and AXFR are none), DnsStateError when the resolver is closed or too
        many look-ups wait.
        """
        report = partial(self._report_query, cb, arg)
        return self._start(
            self._candidates(name, flags), _record_type(rdtype), flags, report, timeout_s
        )

    def _candidates(self, name: str, flags: int) -> list[DomainName]:
        self._require_open()
        self._follow_files()
        if not self._search or (flags and flags & QueryFlag.DNS_QUERY_NO_SEARCH):
            return [domain_name(name)]
        return list_candidates(name, self._search, self._engine.options.ndots)

    def _resolve(
        self,
        candidates: list[DomainName],
        answer_type: AnswerType,
        flags: int,
        cb: LookupCallback,
        arg: object,
    ) -> Lookup:
        self._require_open()
        wants_cname = bool(flags and flags & QueryFlag.DNS_CNAME_CALLBACK)
        report = partial(self._report, answer_type, wants_cname, cb, arg)
        return self._start(candidates, _RECORD_TYPES[answer_type], flags, report, None, fresh=True)

    def _start(
        self,
        candidates: list[DomainName],
        rdtype: dns.rdatatype.RdataType,
        flags: int,
        report: Callable[[Answer], object],
        timeout_s: float | None,
        *,
        fresh: bool = False,
    ) -> Lookup:
        """Look one type up; where that is one question, it takes no search."""
        engine = self._engine
        options = engine.options
        way = _way_of(flags) if flags else PLAIN_WAY
        timeout_s = search_time(timeout_s, options.lookup_timeout_s)
        if engine.room <= 0:
            raise DnsStateError(f"{options.max_waiting} look-ups are waiting already")
        if len(candidates) == 1 and timeout_s is None:
            question = Question(candidates[0], rdtype)
            ticket = engine.ask_from_loop(question, way, report, fresh=fresh)
            return Lookup(partial(engine.cancel, ticket))
        wish = Wish((rdtype,), options.getaddrinfo_skew_s, timeout_s, way, fresh)
        search = Search(engine, candidates, wish, partial(_report_only, report), self._running)
        search.start_from_loop()
        return Lookup(search.cancel)

    def _report_query(self, cb: QueryCallback, arg: object, answer: Answer) -> None:
        call_program(self._base, cb, answer, arg)

    def _report(
        self,
        answer_type: AnswerType,
        wants_cname: bool,
        cb: LookupCallback,
        arg: object,
        answer: Answer,
    ) -> None:
        found = [record.data for record in answer.records]
        addresses = found if answer.result == DNS_ERR_NONE else None
        call_program(
            self._base, cb, answer.result, answer_type, len(found), answer.ttl_s, addresses, arg
        )
        if wants_cname and answer.result == DNS_ERR_NONE and answer.is_alias:
            call_program(
                self._base, cb, DNS_ERR_NONE, DNS_CNAME, 1, answer.ttl_s, [answer.name], arg
            )

    def cached_answers(self) -> list[CachedAnswer]:
        """Return what the cache has, the answer not used for longest first."""
        return self._engine.cache.entries(self._base.now)

    def cache_write(
        self,
        name: str,
        addresses: Iterable[str | ipaddress.IPv4Address | ipaddress.IPv6Address],
        ttl_s: int,
    ) -> None:
        """Have `getaddrinfo` give these addresses for a name, and no others, for `ttl_s` seconds.

        name: the whole name, as the search list plays no part.  What was known of it goes; without
        addresses that is all.  The option `max_ttl_s` counts, and `max_negative_ttl_s` for a family
        that has none.  Raises DnsArgumentError for what is no name, no address or no time to live,
        and changes nothing then.  Source: evdns_cache_write.
        """
        if isinstance(ttl_s, bool) or not isinstance(ttl_s, int) or not 0 <= ttl_s < 2**31:
            raise DnsArgumentError(f"ttl_s is an int from 0 to {2**31 - 1}: {ttl_s!r}")
        answers = answers_of_addresses(domain_name(name), addresses, ttl_s)
        self.flush_cache(name)
        if any(answer.records for answer in answers.values()):
            for question, answer in answers.items():
                self._engine.cache.put(question.key, answer, self._base.now)

    def flush_cache(self, name: str | None = None) -> int:
        """Forget the cached answers of all types for a name, or with None all of them; how many.

        Raises DnsArgumentError for what is no name.
        """
        cache = self._engine.cache
        if name is not None:
            return cache.forget(domain_name(name).wire.lower())
        count = len(cache)
        cache.clear()
        return count

    def close(self, fail_requests: bool = True) -> None:
        """End all lookups and forget the nameservers.  Safe to repeat, and inside callbacks.

        With `fail_requests` each callback gets DNS_ERR_SHUTDOWN (or EVUTIL_EAI_FAIL) from the
        loop; without, they are not called.  Source: evdns_base_free.
        """
        if not fail_requests:
            for search in list(self._running):
                search.drop()
        self._engine.close(fail_requests)

    def _require_open(self) -> None:
        if self._engine.closed:
            raise DnsStateError("the resolver is closed")


_RECORD_TYPES = {
    DNS_IPv4_A: dns.rdatatype.A,
    DNS_IPv6_AAAA: dns.rdatatype.AAAA,
    DNS_PTR: dns.rdatatype.PTR,
}


def _report_only(report: Callable[[Answer], object], answers: Answers) -> None:
    (answer,) = answers.values()
    report(answer)


def _way_of(flags: int) -> Way:
    if flags & ~_KNOWN_QUERY_FLAGS:
        raise DnsArgumentError(f"unknown query flags: {flags:#x}")
    return Way(
        use_vc=bool(flags & QueryFlag.DNS_QUERY_USEVC),
        ignore_tc=bool(flags & QueryFlag.DNS_QUERY_IGNTC),
    )


_TYPES_BY_NAME: dict[str, dns.rdatatype.RdataType] = {
    rdtype.name: rdtype
    for rdtype in dns.rdatatype.RdataType
    if rdtype != dns.rdatatype.NONE and not dns.rdatatype.is_metatype(rdtype)
}


def _record_type(given: int | str) -> dns.rdatatype.RdataType:
    if isinstance(given, str) and (known := _TYPES_BY_NAME.get(given)) is not None:
        return known
    try:
        rdtype = dns.rdatatype.RdataType.make(given)
    except (ValueError, dns.exception.DNSException) as exc:
        raise DnsArgumentError(f"not a type of records: {given!r}") from exc
    if rdtype == dns.rdatatype.NONE or dns.rdatatype.is_metatype(rdtype):
        raise DnsArgumentError(f"records have no type {given!r}")
    return rdtype
