"""Options by name, resolv.conf and hosts files: what is read, what is refused, what is default."""

from __future__ import annotations

import dataclasses
import socket

import pytest

from evsvc.dns import (
    DNS_OPTION_HOSTSFILE,
    DNS_OPTION_MISC,
    DNS_OPTION_NAMESERVERS,
    DNS_OPTION_NAMESERVERS_NO_DEFAULT,
    DNS_OPTION_SEARCH,
    DNS_OPTIONS_ALL,
    EVDNS_BASE_INITIALIZE_NAMESERVERS,
    EVDNS_BASE_NAMESERVERS_NO_DEFAULT,
    DnsArgumentError,
    DnsFileError,
    DnsServerOptions,
    ForwardOptions,
    RateLimit,
    RegistryOptions,
    Resolver,
    ResolverOptions,
    ZoneOptions,
)
from evsvc.dns.options import _RATE_RANGES, _RESOLVER_RANGES, _SERVER_RANGES, _SETTINGS
from evsvc.dns.resolver.sysconfig import domain_of_host, parse_resolv_conf

OPTIONS = ResolverOptions()


def test_every_setting_and_range_is_of_a_field() -> None:
    resolver_fields = {field.name for field in dataclasses.fields(ResolverOptions)}
    assert {setting.field for setting in _SETTINGS.values()} <= resolver_fields
    assert set(_RESOLVER_RANGES) <= resolver_fields
    assert set(_SERVER_RANGES) <= {field.name for field in dataclasses.fields(DnsServerOptions)}


INTEGERS = [
    "ndots",
    "max-timeouts",
    "max-inflight",
    "attempts",
    "randomize-case",
    "so-rcvbuf",
    "so-sndbuf",
    "max-probe-timeout",
    "probe-backoff-factor",
    "edns-udp-size",
]
SECONDS = ["timeout", "getaddrinfo-allow-skew", "initial-probe-timeout", "tcp-idle-timeout"]


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_are_whole_decimal_numbers(name) -> None:
    for value in ("0", "1", "10000", 5):
        OPTIONS.with_setting(name, value)
    for value in ("foo", "3.14", "-1", "", "+1", " 1", "1e3", None, "٣", "9" * 30):
        with pytest.raises(DnsArgumentError, match=name):
            OPTIONS.with_setting(name, value)


@pytest.mark.parametrize("name", SECONDS)
def test_seconds_are_a_millisecond_or_more(name) -> None:
    for value in ("1", "0.001", "3.14", "10000", 2.5):
        OPTIONS.with_setting(name, value)
    for value in ("0", "foo", "0.0009", "-1", "", "nan", "inf", "1e3", None):
        with pytest.raises(DnsArgumentError, match=name):
            OPTIONS.with_setting(name, value)


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("timeout:", "1.5", "timeout_s", 1.5),
        ("max-timeouts", "0", "max_timeouts", 1),
        ("max-timeouts", "256", "max_timeouts", 255),
        ("max-inflight", "65001", "max_inflight", 65000),
        ("attempts", "256", "attempts", 255),
        ("randomize-case", "0", "randomize_case", False),
        ("initial-probe-timeout", "3601", "initial_probe_timeout_s", 3600),
        ("max-probe-timeout", "3601", "max_probe_timeout_s", 3600),
        ("max-probe-timeout", "2", "initial_probe_timeout_s", 2),
        ("probe-backoff-factor", "11", "probe_backoff_factor", 10),
        ("edns-udp-size", "1", "edns_udp_bytes", 512),
        ("edns-udp-size", "65536", "edns_udp_bytes", 65535),
        ("bind-to", "8.8.8.8:80", "bind_to", ("8.8.8.8", 80)),
        ("bind-to", "3::4", "bind_to", ("3::4", 53, 0, 0)),
        ("bind-to", "1.2.3.4", "bind_to", ("1.2.3.4", 53)),
        ("bind-to", "::1:82", "bind_to", ("::0.1.0.130", 53, 0, 0)),
        ("ndots", "0", "ndots", 0),
        ("max-inflight", "0", "max_inflight", 1),
        ("attempts", "0", "attempts", 1),
        ("max-probe-timeout", "0", "max_probe_timeout_s", 1),
        ("probe-backoff-factor", "0", "probe_backoff_factor", 1),
        ("initial-probe-timeout", "3600", "initial_probe_timeout_s", 3600),
        ("getaddrinfo-allow-skew", "3", "getaddrinfo_skew_s", 3.0),
        ("so-rcvbuf", "8192", "receive_buffer_bytes", 8192),
        ("so-sndbuf", "8192", "send_buffer_bytes", 8192),
        ("tcp-idle-timeout", "0.5", "tcp_idle_s", 0.5),
        ("edns-udp-size", "512", "edns_udp_bytes", 512),
        ("edns-udp-size", "65535", "edns_udp_bytes", 65535),
        ("edns0", None, "edns_udp_bytes", 1232),
        ("rotate", None, "rotate", True),
        ("no-aaaa", None, "no_aaaa", True),
        ("single-request", None, "single_request", True),
        ("trust-ad", None, "trust_ad", True),
        ("no-reload", None, "follow_files", False),
        ("use-vc", None, "use_vc", True),
        ("ignore-tc", "", "ignore_tc", True),
    ],
)
def test_settings_are_clipped_to_their_range(name, value, field, expected) -> None:
    assert getattr(OPTIONS.with_setting(name, value), field) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("use-vc", "1"),
        ("ignore-tc", "1"),
        ("edns0", "1"),
        ("rotate", "1"),
        ("no-aaaa", "1"),
        ("single-request", "1"),
        ("trust-ad", "1"),
        ("no-reload", "1"),
        ("bind-to", "3.14"),
        ("bind-to", "foo"),
        ("bind-to", None),
    ],
)
def test_settings_refuse_what_they_do_not_take(name, value) -> None:
    with pytest.raises(DnsArgumentError):
        OPTIONS.with_setting(name, value)


def test_unknown_settings_and_other_classes_are_ignored() -> None:
    assert OPTIONS.with_setting("no-such-option", "1") is OPTIONS
    assert OPTIONS.with_setting("ndots", "4", DNS_OPTION_MISC) is OPTIONS
    assert OPTIONS.with_setting("ndots", "4", DNS_OPTION_SEARCH).ndots == 4


@pytest.mark.parametrize("name", list(_RESOLVER_RANGES))
def test_resolver_options_have_both_limits(name) -> None:
    low, high = _RESOLVER_RANGES[name]
    ResolverOptions(**{name: low})
    with pytest.raises(DnsArgumentError, match=name):
        ResolverOptions(**{name: low - 1})
    with pytest.raises(DnsArgumentError, match=name):
        ResolverOptions(**{name: "1"})
    if high != float("inf"):
        ResolverOptions(**{name: high})
        with pytest.raises(DnsArgumentError, match=name):
            ResolverOptions(**{name: high + 1})


@pytest.mark.parametrize(
    ("make", "name"),
    [
        *((ResolverOptions, name) for name in (*_RESOLVER_RANGES, "lookup_timeout_s")),
        *((DnsServerOptions, name) for name in (*_SERVER_RANGES, "tcp_idle_s", "tls_handshake_s")),
        *((RateLimit, name) for name in _RATE_RANGES),
    ],
)
def test_a_limit_comes_to_an_end(make, name) -> None:
    with pytest.raises(DnsArgumentError, match=f"{name} must .*inf$"):
        make(**{name: float("inf")})


@pytest.mark.parametrize("name", list(_SERVER_RANGES))
def test_server_options_have_limits(name) -> None:
    low, high = _SERVER_RANGES[name]
    DnsServerOptions(**{name: low})
    with pytest.raises(DnsArgumentError, match=name):
        DnsServerOptions(**{name: low - 1})
    if high != float("inf"):
        DnsServerOptions(**{name: high})
        with pytest.raises(DnsArgumentError, match=name):
            DnsServerOptions(**{name: high + 1})


@pytest.mark.parametrize("name", list(_RATE_RANGES))
def test_a_rate_limit_has_limits(name) -> None:
    low, high = _RATE_RANGES[name]
    RateLimit(**{name: low})
    with pytest.raises(DnsArgumentError, match=name):
        RateLimit(**{name: low - 1})
    if high != float("inf"):
        RateLimit(**{name: high})
        with pytest.raises(DnsArgumentError, match=name):
            RateLimit(**{name: high + 1})


@pytest.mark.parametrize(
    ("make", "good", "bad"),
    [
        (ResolverOptions, {"lookup_timeout_s": 0.001}, {"lookup_timeout_s": 0.0009}),
        (DnsServerOptions, {"tcp_idle_s": 0.001}, {"tcp_idle_s": 0.0009}),
        (DnsServerOptions, {"tls_handshake_s": 0.001}, {"tls_handshake_s": 0.0009}),
        (ZoneOptions, {"keep_s": 0}, {"keep_s": -0.001}),
        (ZoneOptions, {"file_bytes": 0}, {"file_bytes": -1}),
        (ZoneOptions, {"message_bytes": 1}, {"message_bytes": 0}),
        (ZoneOptions, {"message_bytes": 32768}, {"message_bytes": 32769}),
        (ForwardOptions, {"timeout_s": 0.001}, {"timeout_s": 0}),
        (ForwardOptions, {"timeout_s": 1e9}, {"timeout_s": float("inf")}),
        (ForwardOptions, {"pending": 1}, {"pending": 0}),
        (ForwardOptions, {"keep_s": 0}, {"keep_s": -0.001}),
        (RegistryOptions, {"ttl_s": 0}, {"ttl_s": -1}),
        (RegistryOptions, {"ttl_s": 2**31 - 1}, {"ttl_s": 2**31}),
        (RegistryOptions, {"keep_s": 0}, {"keep_s": -0.001}),
        (RegistryOptions, {"endpoints": 1}, {"endpoints": 0}),
    ],
)
def test_options_are_taken_up_to_their_limit(make, good, bad) -> None:
    make(**good)
    with pytest.raises(DnsArgumentError, match=next(iter(bad)).partition("_")[0]):
        make(**bad)


def test_defaults_are_libevents_but_for_two() -> None:
    """Those are 50 ms of skew (RFC 8305), and datagrams of 1232 bytes by EDNS."""
    assert (OPTIONS.ndots, OPTIONS.timeout_s, OPTIONS.max_timeouts) == (1, 5, 3)
    assert (OPTIONS.max_inflight, OPTIONS.attempts, OPTIONS.randomize_case) == (64, 3, True)
    assert (OPTIONS.initial_probe_timeout_s, OPTIONS.max_probe_timeout_s) == (10, 3600)
    assert (OPTIONS.probe_backoff_factor, OPTIONS.tcp_idle_s) == (3, 5)
    assert (OPTIONS.receive_buffer_bytes, OPTIONS.send_buffer_bytes) == (0, 0)
    assert (OPTIONS.use_vc, OPTIONS.ignore_tc, OPTIONS.bind_to) == (False, False, None)
    assert (OPTIONS.getaddrinfo_skew_s, OPTIONS.edns_udp_bytes) == (0.05, 1232)


def test_the_idle_time_of_a_server_may_be_for_ever_but_not_zero() -> None:
    assert DnsServerOptions(tcp_idle_s=None).tcp_idle_s is None
    with pytest.raises(DnsArgumentError):
        DnsServerOptions(tcp_idle_s=0)


def test_resolv_conf_is_read_line_by_line() -> None:
    config = parse_resolv_conf(
        "# nameserver 9.9.9.9\n; comment\nnameserver 1.1.1.1\nnameserver\t1.1.1.1\n"
        "nameserver 2.2.2.2:5353 more\nnameserver foo\nnameserver\ndomain old.example\n"
        "search a.example b.example\noptions ndots:2 use-vc\noptions timeout:3\nunknown x\n"
    )
    assert config.nameservers == (("1.1.1.1", 53), ("2.2.2.2", 5353))
    assert config.search == ("a.example", "b.example")
    assert config.options == (("ndots", "2"), ("use-vc", None), ("timeout", "3"))
    assert config.ignored == ("nameserver foo",)


def test_the_last_of_domain_and_search_wins() -> None:
    assert parse_resolv_conf("search a b\ndomain c\n").search == ("c",)
    assert parse_resolv_conf("").search is None


def test_the_domain_of_a_host_name_is_what_follows_the_dot() -> None:
    assert domain_of_host("host.example.com") == ("example.com",)
    assert domain_of_host("host") == ()


@pytest.fixture
def load(base, tmp_path):
    """Return `load(text, flags, classes=None)`: a resolver, and the result of the file."""
    made = []

    def make(text: str | None, classes: int, **options):
        path = tmp_path / "resolv.conf"
        if text is not None:
            path.write_text(text)
        made.append(Resolver(base, 0, options=ResolverOptions(**options), hosts="/nonexistent"))
        return made[-1], made[-1].resolv_conf_parse(classes, str(path))

    yield make
    for resolver in made:
        resolver.close()


def nameservers_of(resolver: Resolver) -> list[str]:
    return [resolver.nameserver_addr(index)[0] for index in range(resolver.count_nameservers())]


NO_DEFAULT = DNS_OPTIONS_ALL | DNS_OPTION_NAMESERVERS_NO_DEFAULT


@pytest.mark.parametrize(
    ("text", "classes", "result", "nameservers"),
    [
        (None, DNS_OPTIONS_ALL, 1, ["127.0.0.1"]),
        (None, NO_DEFAULT, 1, []),
        ("# nothing\n", DNS_OPTIONS_ALL, 6, ["127.0.0.1"]),
        ("# nothing\n", NO_DEFAULT, 0, []),
        ("nameserver 1.1.1.1\n", DNS_OPTIONS_ALL, 0, ["1.1.1.1"]),
        ("nameserver 1.1.1.1\n", DNS_OPTION_SEARCH, 0, []),
    ],
)
def test_missing_nameservers_have_a_default(load, text, classes, result, nameservers) -> None:
    resolver, found = load(text, classes)
    assert found == result
    assert nameservers_of(resolver) == nameservers


@pytest.mark.parametrize(("size", "result"), [(100, 0), (101, 3)])
def test_a_resolv_conf_that_is_too_large_is_not_read(load, size, result) -> None:
    text = "nameserver 1.1.1.1\n".ljust(size, "#")
    assert load(text, DNS_OPTIONS_ALL, resolv_conf_bytes=100)[1] == result


def test_ndots_before_search_is_not_lost(load) -> None:
    """libevent resets ndots at each search line."""
    text = "options ndots:3 timeout:2 attempts:foo\nsearch a.example .. b.example\n"
    resolver, _ = load(text, DNS_OPTIONS_ALL)
    assert (resolver.options.ndots, resolver.options.timeout_s) == (3, 2.0)
    assert resolver.options.attempts == 3
    assert [f"{suffix.text}." for suffix in resolver._search] == ["a.example.", "b.example."]


def test_classes_choose_the_directives(load) -> None:
    text = "options ndots:3 timeout:2\nsearch a.example\nnameserver 1.1.1.1\n"
    resolver, _ = load(text, DNS_OPTION_MISC)
    assert (resolver.options.ndots, resolver.options.timeout_s) == (1, 2.0)
    assert resolver._search == []
    assert resolver.count_nameservers() == 0


def test_without_a_domain_in_the_file_the_host_names_domain_is_searched(load, monkeypatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "host.example.org")
    resolver, _ = load("", DNS_OPTION_SEARCH | DNS_OPTION_NAMESERVERS)
    assert [f"{suffix.text}." for suffix in resolver._search] == ["example.org."]


def test_a_resolver_reads_its_files_when_made(base, tmp_path, results) -> None:
    conf, hosts = tmp_path / "resolv.conf", tmp_path / "hosts"
    conf.write_text("nameserver 1.1.1.1\nsearch a.example\n")
    hosts.write_bytes(b"10.0.0.1 \xff host\n")
    with Resolver(base, resolv_conf=str(conf), hosts=str(hosts)) as resolver:
        assert nameservers_of(resolver) == ["1.1.1.1"]
        resolver.getaddrinfo("host", 80, None, results)
        assert results[0][1][0].sockaddr == ("10.0.0.1", 80)


def test_a_resolver_without_files_has_localhost_and_the_default(base, tmp_path, results) -> None:
    missing = str(tmp_path / "none")
    with Resolver(base, resolv_conf=missing, hosts=missing) as resolver:
        assert nameservers_of(resolver) == ["127.0.0.1"]
        resolver.getaddrinfo("localhost", 80, None, results)
        assert {found.sockaddr[0] for found in results[0][1]} == {"127.0.0.1", "::1"}
    flags = EVDNS_BASE_INITIALIZE_NAMESERVERS | EVDNS_BASE_NAMESERVERS_NO_DEFAULT
    with Resolver(base, flags, resolv_conf=missing, hosts=missing) as resolver:
        assert resolver.count_nameservers() == 0


def test_a_resolver_refuses_a_huge_resolv_conf_and_unknown_flags(base, tmp_path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(bytes(70000))
    with pytest.raises(DnsFileError):
        Resolver(base, resolv_conf=str(path), hosts=str(path))
    with pytest.raises(DnsArgumentError, match="0x2"):
        Resolver(base, 2)


def test_a_hosts_file_that_cannot_be_read_leaves_localhost(make_resolver, results) -> None:
    resolver = make_resolver()
    with pytest.raises(DnsFileError) as caught:
        resolver.load_hosts("/nonexistent/hosts")
    assert caught.value.filename == "/nonexistent/hosts"
    resolver.getaddrinfo("localhost", 1, None, results)
    assert results[0][0] == 0
    resolver.clear_host_addresses()
    resolver.load_hosts(None)
    resolver.getaddrinfo("localhost", 1, None, results)
    assert results[1] == results[0]


@pytest.mark.parametrize(("size", "fits"), [(40, True), (41, False)])
def test_a_hosts_file_has_a_limit(make_resolver, tmp_path, size, fits) -> None:
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 host\n".ljust(size, "#"))
    resolver = make_resolver(hosts_bytes=40)
    if fits:
        resolver.load_hosts(str(path))
    else:
        with pytest.raises(DnsFileError):
            resolver.load_hosts(str(path))


def test_the_hosts_class_reads_the_hosts_file(base, tmp_path, results) -> None:
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 host\n")
    with Resolver(base, 0, hosts=str(path)) as resolver:
        resolver.resolv_conf_parse(DNS_OPTION_HOSTSFILE, None)
        resolver.getaddrinfo("host", 1, None, results)
        assert results[0][0] == 0


def test_nameservers_are_added_counted_and_read_back(make_resolver) -> None:
    resolver = make_resolver()
    resolver.nameserver_add("1.1.1.1")
    resolver.nameserver_ip_add("[::1]:5353")
    resolver.nameserver_sockaddr_add(("2.2.2.2", 54))
    assert [resolver.nameserver_addr(index) for index in range(3)] == [
        ("1.1.1.1", 53),
        ("::1", 5353, 0, 0),
        ("2.2.2.2", 54),
    ]
    for index in (-1, 3):
        with pytest.raises(DnsArgumentError):
            resolver.nameserver_addr(index)
    with pytest.raises(DnsArgumentError, match="there already"):
        resolver.nameserver_ip_add("2.2.2.2:54")


def test_search_clear_sets_ndots_to_one(make_resolver) -> None:
    resolver = make_resolver()
    resolver.search_add("a.example")
    resolver.search_ndots_set(5)
    resolver.search_clear()
    assert resolver._search == []
    assert resolver.options.ndots == 1
    with pytest.raises(DnsArgumentError):
        resolver.search_ndots_set(-1)


@pytest.mark.parametrize(("count", "fits"), [(2, True), (3, False)])
def test_the_search_list_has_a_limit(make_resolver, count, fits) -> None:
    resolver = make_resolver(search_domains=2)
    for _ in range(count - 1):
        resolver.search_add("a.example")
    if fits:
        resolver.search_add("b.example")
    else:
        with pytest.raises(DnsArgumentError, match="more than 2"):
            resolver.search_add("b.example")


def test_bind_to_is_not_used_for_a_loopback_nameserver(
    nameserver, make_resolver, make_reply, results
) -> None:
    server = nameserver(lambda packet: make_reply(packet, rcode=3).to_wire())
    resolver = make_resolver(server)
    resolver.set_option("bind-to", "192.0.2.77")
    resolver.set_option("so-rcvbuf", 8192)
    resolver.set_option("so-sndbuf", 8192)
    resolver.resolve_ipv4("h.example.com", 0, results)
    results.wait()
    assert results[0][0] == 3
    assert server.sources[0][0] == "127.0.0.1"
