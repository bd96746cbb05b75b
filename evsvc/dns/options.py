"""Options of the resolver and the server: frozen records with a name for every limit.

`ResolverOptions.with_setting` is the table of libevent's option names, as `set_option` and the
`options` lines of resolv.conf use them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

from ..core import ArgumentError
from ..core.resolver import SocketAddress
from ..core.util import parse_sockaddr_port
from .constants import (
    DNS_OPTION_MISC,
    DNS_OPTION_NAMESERVERS,
    DNS_OPTION_SEARCH,
    ConfigClass,
)
from .errors import DnsArgumentError
from .wire.names import parse_name

MIN_UDP_BYTES = 512
MAX_UDP_BYTES = 65507  # the most that fits into an IPv4 datagram
MAX_MESSAGE_BYTES = 65535
MIN_TIMEOUT_S = 0.001
MAX_PROBE_TIMEOUT_S = 3600.0
DNS_PORT = 53
TLS_PORT = 853
EDNS_UDP_BYTES = 1232  # passes every network unfragmented (DNS flag day 2020)


def parse_nameserver(text: str, default_port: int = DNS_PORT) -> SocketAddress:
    """Return the socket address of a nameserver, at `default_port` unless it says another.

    Raises DnsArgumentError for what `parse_sockaddr_port` refuses.
    """
    try:
        host, port, *more = parse_sockaddr_port(text)
    except ArgumentError as exc:
        raise DnsArgumentError(f"not an IP address with an optional port: {text!r}") from exc
    return (host, port or default_port, *more)


def _check_range(owner: object, name: str, low: float, high: float) -> None:
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise DnsArgumentError(f"{name} must be from {low} to {high}: {value!r}")
    if value == math.inf:  # no timer takes it
        raise DnsArgumentError(f"{name} must come to an end: {value!r}")


def _check_ranges(owner: object, ranges: dict[str, tuple[float, float]]) -> None:
    for name, (low, high) in ranges.items():
        _check_range(owner, name, low, high)


_RESOLVER_RANGES: dict[str, tuple[float, float]] = {
    "ndots": (0, math.inf),
    "timeout_s": (MIN_TIMEOUT_S, math.inf),
    "attempts": (1, 255),
    "max_timeouts": (1, 255),
    "max_inflight": (1, 65000),
    "max_waiting": (0, math.inf),
    "initial_probe_timeout_s": (MIN_TIMEOUT_S, MAX_PROBE_TIMEOUT_S),
    "max_probe_timeout_s": (1, MAX_PROBE_TIMEOUT_S),
    "probe_backoff_factor": (1, 10),
    "getaddrinfo_skew_s": (MIN_TIMEOUT_S, math.inf),
    "receive_buffer_bytes": (0, 2**31 - 1),
    "send_buffer_bytes": (0, 2**31 - 1),
    "udp_port_uses": (1, 65535),
    "tcp_idle_s": (MIN_TIMEOUT_S, math.inf),
    "edns_udp_bytes": (MIN_UDP_BYTES, MAX_MESSAGE_BYTES),
    "cname_links": (0, 64),
    "nameservers": (1, 1024),
    "search_domains": (0, 1024),
    "cache_entries": (0, math.inf),
    "max_ttl_s": (0, 2**31 - 1),
    "max_negative_ttl_s": (0, 2**31 - 1),
    "stale_s": (0, 2**31 - 1),
    "resolv_conf_bytes": (0, math.inf),
    "hosts_bytes": (0, math.inf),
    "hosts_entries": (0, math.inf),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolverOptions:
    """How a `Resolver` asks, and its limits.  Raises DnsArgumentError for a value out of range.

    ndots:         a name with at least this many dots is first tried as it is.
    timeout_s:     seconds to wait for the answer to one transmission.
    attempts:      most rounds in which one question goes through the nameservers.
    rotate:        begin each question's rounds at another nameserver.
    max_timeouts:  consecutive timeouts that a nameserver is forgiven; one more marks it down.
    max_inflight:  most lookups on the wire; the rest wait in line.
    max_waiting:   most lookups in that line; one more is refused.
    randomize_case: send the letters of a name in random case (0x20), which a forger must guess.
                   A reply in other letters is not believed; see docs/libevent-map.md.
    probe_name:    what a nameserver that is down is asked for: "." for the root's NS records, any
                   other name for its A records.
    initial_probe_timeout_s, probe_backoff_factor, max_probe_timeout_s: when a nameserver that is
                   down is probed: first after the first, then after each time the factor more.
    getaddrinfo_skew_s: how long the slower of the A and AAAA answers is waited for once the other
                   has addresses (RFC 8305 section 3).
    lookup_timeout_s: seconds for a whole look-up, its waiting in line included; None is for ever.
    no_aaaa:       have `getaddrinfo` look for no IPv6 address.
    single_request: have `getaddrinfo` ask for AAAA when A is answered, not beside it.
    sort_addresses: have `getaddrinfo` put the addresses that are reached best first (RFC 6724);
                   else IPv4 comes first, in the nameserver's order.
    trust_ad:      ask whether nameservers have validated what they say, and believe them.
    receive_buffer_bytes, send_buffer_bytes: SO_RCVBUF and SO_SNDBUF of UDP sockets; 0 leaves them.
    udp_port_uses: for how many queries, one after the other, a UDP port is used while more are on
                   the wire; 1 is a new random port for each.
    tcp_idle_s:    how long a TCP connection to a nameserver is kept unused.
    use_vc:        ask over TCP only.
    ignore_tc:     report a truncated answer rather than ask again over TCP.
    edns_udp_bytes: largest UDP answer; above 512 it is announced by EDNS, unless a nameserver has
                   refused that.
    bind_to:       the local IP address to ask from over UDP, except to loopback.  A port in it is
                   not used: RFC 5452 9.2 wants a random one for every query.
    cname_links:   most CNAME records followed from a name to its address.
    nameservers, search_domains: most of each.
    cache_entries: most answers kept for `getaddrinfo`; 0 keeps none.
    max_ttl_s, max_negative_ttl_s: longest time that an answer, or its absence, is kept.
    stale_s:       seconds beyond its time for which an answer is kept, and told when no nameserver
                   gives another (RFC 8767); 0 is never.  Such an answer `is_stale`.
    prefetch:      ask anew for what is asked in the last tenth of its time in the cache.
    follow_files:  read a resolv.conf and hosts files again when they have changed.
    resolv_conf_bytes, hosts_bytes, hosts_entries: largest files read, and most host names kept.
    """

    ndots: int = 1
    timeout_s: float = 5.0
    attempts: int = 3
    rotate: bool = False
    max_timeouts: int = 3
    max_inflight: int = 64
    max_waiting: int = 65536
    randomize_case: bool = True
    probe_name: str = "."
    initial_probe_timeout_s: float = 10.0
    max_probe_timeout_s: float = MAX_PROBE_TIMEOUT_S
    probe_backoff_factor: int = 3
    getaddrinfo_skew_s: float = 0.05
    lookup_timeout_s: float | None = None
    no_aaaa: bool = False
    single_request: bool = False
    sort_addresses: bool = True
    trust_ad: bool = False
    receive_buffer_bytes: int = 0
    send_buffer_bytes: int = 0
    udp_port_uses: int = 16
    tcp_idle_s: float = 5.0
    use_vc: bool = False
    ignore_tc: bool = False
    edns_udp_bytes: int = EDNS_UDP_BYTES
    bind_to: SocketAddress | None = None
    cname_links: int = 16
    nameservers: int = 64
    search_domains: int = 64
    cache_entries: int = 4096
    max_ttl_s: int = 86400
    max_negative_ttl_s: int = 10800
    stale_s: float = 0
    prefetch: bool = False
    follow_files: bool = True
    resolv_conf_bytes: int = 64 * 1024
    hosts_bytes: int = 8 * 1024 * 1024
    hosts_entries: int = 262144

    def __post_init__(self) -> None:
        _check_ranges(self, _RESOLVER_RANGES)
        parse_name(self.probe_name)
        if self.lookup_timeout_s is not None:
            _check_range(self, "lookup_timeout_s", MIN_TIMEOUT_S, math.inf)

    def with_setting(
        self, name: str, value: object = None, classes: int = ~0, *, from_file: bool = False
    ) -> Self:
        """Return the options with one of libevent's named options set (evdns_base_set_option).

        A colon after the name is ignored, and so are unknown names and names outside `classes`
        (DNS_OPTION_* bits).  from_file: a resolv.conf sets it, whose ndots is at most 15, timeout
        30 seconds, and attempts 5 (resolv.conf(5)); more is taken for that.  Raises
        DnsArgumentError for a value that the option does not take.
        """
        setting = _SETTINGS.get(name.removesuffix(":"))
        if setting is None or not setting.group & classes:
            return self
        text = None if value is None else str(value)
        try:
            parsed = setting.parse(text)
        except ValueError:
            raise DnsArgumentError(f"option {name!r} does not take {value!r}") from None
        if from_file and setting.most_in_file is not None:
            parsed = min(parsed, setting.most_in_file)
        changed = replace(self, **{setting.field: parsed})
        if changed.initial_probe_timeout_s > changed.max_probe_timeout_s:
            return replace(changed, initial_probe_timeout_s=changed.max_probe_timeout_s)
        return changed


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """How many UDP replies a network of clients gets.  Raises DnsArgumentError out of range.

    It keeps a server from being used against others by queries with forged addresses.  A client
    that has shown its address by a cookie is not limited, nor is TCP.

    replies_per_s:   replies a second to one network, on the long run.
    burst:           replies at once after a silence.
    ipv4_prefix_bits, ipv6_prefix_bits: how many bits of an address tell the network.
    slip:            of so many queries beyond the limit one gets a cut, empty reply, upon which
                     an honest client asks over TCP; the others get none.  0 answers none.
    networks:        most networks that are counted; then the one silent longest is forgotten.
    """

    replies_per_s: float = 100.0
    burst: int = 200
    ipv4_prefix_bits: int = 24
    ipv6_prefix_bits: int = 56
    slip: int = 2
    networks: int = 16384

    def __post_init__(self) -> None:
        _check_ranges(self, _RATE_RANGES)


_RATE_RANGES: dict[str, tuple[float, float]] = {
    "replies_per_s": (0.001, 1e9),
    "burst": (1, 2**31 - 1),
    "ipv4_prefix_bits": (1, 32),
    "ipv6_prefix_bits": (1, 128),
    "slip": (0, 2**31 - 1),
    "networks": (1, math.inf),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsServerOptions:
    """Limits of a `DnsServer`.  Raises DnsArgumentError for a value out of range.

    query_bytes:      longest query read; a longer one is answered FORMERR.
    udp_reply_bytes:  longest UDP reply, and the size announced by EDNS.  The client's own limit
                      counts when it is smaller; 1232 bytes pass every network unfragmented.
    udp_batch:        most datagrams read from a socket before other events have their turn.
    udp_queue:        most UDP replies kept while the socket is full; more are dropped.
    tcp_max_clients:  most TCP connections of a port.  One more takes the place of the one that
                      has been silent longest; if none has, it is closed at once.
    tcp_clients_per_address: most of them from one client address; one more takes a place of
                      that address in the same way.
    tcp_idle_s:       seconds without a complete query or a reply after which a connection is
                      closed, unless queries are still unanswered; None is for ever.  The time
                      shrinks while more than half of the connections are taken, to a tenth.
    tcp_pending:      most unanswered queries of one connection; then it is not read.
    tcp_output_bytes: most unsent reply bytes of one connection; then it is closed.
    tcp_stream_bytes: a reply of several messages goes on while fewer bytes of it are unsent.
    tls_handshake_s:  seconds for the handshake of a DNS-over-TLS client; None is for ever.
    finished_replies: most replies kept by `respond(code, cache_s=...)`; then the least lately
                      used one goes.
    rate_limit:       how many UDP replies a network of clients gets; None is no limit.
    cookies:          answer the cookies of clients (RFC 7873).
    log_queries:      write a line to the logger `evsvc.dns.query` for each query.
    any_class:        let the callback see questions of every class; else of IN alone, and the
                      others are answered REFUSED.
    any_type:         let the callback see questions of types that are no data: 0, OPT, TKEY and
                      TSIG, and AXFR and IXFR over UDP; else they are answered REFUSED.
    """

    query_bytes: int = 4096
    udp_reply_bytes: int = 1232
    udp_batch: int = 64
    udp_queue: int = 256
    tcp_max_clients: int = 256
    tcp_clients_per_address: int = 64
    tcp_idle_s: float | None = 10.0
    tcp_pending: int = 64
    tcp_output_bytes: int = 1024 * 1024
    tcp_stream_bytes: int = 64 * 1024
    tls_handshake_s: float | None = 10.0
    finished_replies: int = 10_000
    rate_limit: RateLimit | None = None
    cookies: bool = True
    log_queries: bool = False
    any_class: bool = False
    any_type: bool = False

    def __post_init__(self) -> None:
        _check_ranges(self, _SERVER_RANGES)
        for name in ("tcp_idle_s", "tls_handshake_s"):
            if getattr(self, name) is not None:
                _check_range(self, name, MIN_TIMEOUT_S, math.inf)


_SERVER_RANGES: dict[str, tuple[float, float]] = {
    "query_bytes": (MIN_UDP_BYTES, MAX_MESSAGE_BYTES),
    "udp_reply_bytes": (MIN_UDP_BYTES, MAX_UDP_BYTES),
    "udp_batch": (1, math.inf),
    "udp_queue": (0, math.inf),
    "tcp_max_clients": (0, math.inf),
    "finished_replies": (0, math.inf),
    "tcp_clients_per_address": (1, math.inf),
    "tcp_pending": (1, math.inf),
    "tcp_output_bytes": (MAX_MESSAGE_BYTES + 2, math.inf),
    "tcp_stream_bytes": (1, math.inf),
}


# How the values of `set_option` are read.  Each raises ValueError for what it does not take.


def _integer(low: int, high: int) -> Callable[[str | None], int]:
    """Return a reader of decimal numbers that clips them to `low`..`high`."""

    def parse(text: str | None) -> int:
        if text is None or not re.fullmatch(r"[0-9]{1,18}", text):
            raise ValueError(text)
        return min(max(int(text), low), high)

    return parse


def _seconds(high: float = math.inf) -> Callable[[str | None], float]:
    """Return a reader of seconds of at least a millisecond that clips them to `high`."""

    def parse(text: str | None) -> float:
        if text is None or not re.fullmatch(r"[0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18}", text):
            raise ValueError(text)
        seconds = float(text)
        if seconds < MIN_TIMEOUT_S:
            raise ValueError(text)
        return min(seconds, high)

    return parse


def _switch_on(text: str | None) -> bool:
    if text:
        raise ValueError(text)
    return True


def _switch_off(text: str | None) -> bool:
    return not _switch_on(text)


def _default_edns(text: str | None) -> int:
    _switch_on(text)
    return EDNS_UDP_BYTES


def _boolean(text: str | None) -> bool:
    return bool(_integer(0, 1)(text))


def _local_address(text: str | None) -> SocketAddress:
    if text is None:
        raise ValueError(text)
    try:
        return parse_nameserver(text)
    except ArgumentError:
        raise ValueError(text) from None


@dataclass(frozen=True, slots=True)
class _Setting:
    """A named option: the field that it sets, how its value is read, its class, and its cap."""

    field: str
    parse: Callable[[str | None], Any]
    group: ConfigClass = DNS_OPTION_MISC
    most_in_file: int | None = None


_ANY_NUMBER = 2**31 - 1

_SETTINGS: dict[str, _Setting] = {
    "ndots": _Setting("ndots", _integer(0, _ANY_NUMBER), DNS_OPTION_SEARCH, most_in_file=15),
    "timeout": _Setting("timeout_s", _seconds(), most_in_file=30),
    "max-timeouts": _Setting("max_timeouts", _integer(1, 255)),
    "max-inflight": _Setting("max_inflight", _integer(1, 65000)),
    "attempts": _Setting("attempts", _integer(1, 255), most_in_file=5),
    "randomize-case": _Setting("randomize_case", _boolean),
    "bind-to": _Setting("bind_to", _local_address, DNS_OPTION_NAMESERVERS),
    "initial-probe-timeout": _Setting("initial_probe_timeout_s", _seconds(MAX_PROBE_TIMEOUT_S)),
    "max-probe-timeout": _Setting("max_probe_timeout_s", _integer(1, int(MAX_PROBE_TIMEOUT_S))),
    "probe-backoff-factor": _Setting("probe_backoff_factor", _integer(1, 10)),
    "getaddrinfo-allow-skew": _Setting("getaddrinfo_skew_s", _seconds()),
    "so-rcvbuf": _Setting("receive_buffer_bytes", _integer(0, _ANY_NUMBER)),
    "so-sndbuf": _Setting("send_buffer_bytes", _integer(0, _ANY_NUMBER)),
    "tcp-idle-timeout": _Setting("tcp_idle_s", _seconds()),
    "use-vc": _Setting("use_vc", _switch_on),
    "ignore-tc": _Setting("ignore_tc", _switch_on),
    "rotate": _Setting("rotate", _switch_on),
    "no-aaaa": _Setting("no_aaaa", _switch_on),
    "single-request": _Setting("single_request", _switch_on),
    "trust-ad": _Setting("trust_ad", _switch_on),
    "no-reload": _Setting("follow_files", _switch_off),
    "edns0": _Setting("edns_udp_bytes", _default_edns),
    "edns-udp-size": _Setting("edns_udp_bytes", _integer(MIN_UDP_BYTES, MAX_MESSAGE_BYTES)),
}
