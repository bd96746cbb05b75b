"""A resolv.conf that changes, beside the nameservers that the program added itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evsvc.core import EVLOOP_NONBLOCK
from evsvc.dns import DNS_OPTIONS_ALL, Resolver, ResolverOptions
from evsvc.doh import add_doh_nameserver


@pytest.fixture
def conf(base, tmp_path, clock):
    """The path of a resolv.conf, and `look(resolver)`: its nameservers once it has followed."""
    path = tmp_path / "resolv.conf"

    def look(resolver: Resolver) -> list[tuple[str, int]]:
        clock.advance(1)
        base.loop(EVLOOP_NONBLOCK)  # the loop's time is that of its last pass
        resolver.getaddrinfo("127.0.0.1", 80, None, lambda *args: None)
        count = resolver.count_nameservers()
        return [resolver.nameserver_addr(index)[:2] for index in range(count)]

    return path, look


def test_a_changed_resolv_conf_leaves_the_nameservers_of_the_program(base, conf) -> None:
    path, look = conf
    path.write_text("nameserver 127.0.0.2\nnameserver 127.0.0.3\n")
    with Resolver(base, 0, hosts="/dev/null") as resolver:
        resolver.nameserver_ip_add("127.0.0.9")
        resolver.resolv_conf_parse(DNS_OPTIONS_ALL, str(path))
        resolver.nameserver_ip_add("127.0.0.1", tls=True, server_hostname="dns.test")
        add_doh_nameserver(resolver, "https://127.0.0.1/dns-query")
        path.write_text("nameserver 127.0.0.4\nnameserver 127.0.0.9\n")
        expected = [
            ("127.0.0.9", 53),
            ("127.0.0.4", 53),
            ("127.0.0.1", 853),
            ("127.0.0.1", 443),
        ]
        assert look(resolver) == expected


def test_a_changed_resolv_conf_that_names_none_leaves_the_nameservers(base, conf) -> None:
    path, look = conf
    path.write_text("nameserver 127.0.0.2\n")
    with Resolver(base, resolv_conf=str(path), hosts="/dev/null") as resolver:
        path.write_text("# about to be written\n")
        assert look(resolver) == [("127.0.0.2", 53)]


def test_the_default_nameserver_gives_way_to_those_of_the_file(base, conf) -> None:
    path, look = conf
    with Resolver(base, resolv_conf=str(path), hosts="/dev/null") as resolver:
        assert look(resolver) == [("127.0.0.1", 53)]
        path.write_text("nameserver 127.0.0.2\n")
        assert look(resolver) == [("127.0.0.2", 53)]


def test_cleared_nameservers_do_not_come_back_with_a_changed_resolv_conf(base, conf) -> None:
    """Else a program that asks over TLS alone would ask in the clear one day."""
    path, look = conf
    path.write_text("nameserver 127.0.0.2\n")
    with Resolver(base, resolv_conf=str(path), hosts="/dev/null") as resolver:
        resolver.clear_nameservers_and_suspend()
        resolver.nameserver_ip_add("127.0.0.1", tls=True)
        resolver.resume()
        path.write_text("nameserver 127.0.0.3\nnameserver 127.0.0.4\noptions ndots:2\n")
        assert look(resolver) == [("127.0.0.1", 853)]
        assert resolver.options.ndots == 2
        resolver.resolv_conf_parse(DNS_OPTIONS_ALL, str(path))
        assert resolver.count_nameservers() == 3


@pytest.mark.parametrize(("limit", "count"), [(3, 3), (2, 2)])
def test_the_nameservers_of_a_file_have_the_room_that_the_programs_leave(
    base, conf, limit, count, caplog
) -> None:
    path, _ = conf
    path.write_text("nameserver 127.0.0.2\nnameserver 127.0.0.3\n")
    options = ResolverOptions(nameservers=limit)
    with Resolver(base, 0, options=options, hosts="/dev/null") as resolver:
        resolver.nameserver_ip_add("127.0.0.1", tls=True)
        resolver.resolv_conf_parse(DNS_OPTIONS_ALL, str(path))
        assert resolver.count_nameservers() == count
    assert ("more than" in caplog.text) == (count == 2)


@pytest.mark.parametrize("way", ["option", "file"])
def test_files_are_not_followed_where_that_is_not_wanted(base, conf, way) -> None:
    path, look = conf
    path.write_text("nameserver 127.0.0.2\n" + "options no-reload\n" * (way == "file"))
    options = ResolverOptions(follow_files=way == "file")
    with Resolver(base, resolv_conf=str(path), hosts="/dev/null", options=options) as resolver:
        path.write_text("nameserver 127.0.0.3\n")
        assert look(resolver) == [("127.0.0.2", 53)]
        resolver.resolv_conf_parse(DNS_OPTIONS_ALL, str(path))
        path.write_text("nameserver 127.0.0.4\nsearch test\n")
        assert look(resolver) == [("127.0.0.4" if way == "file" else "127.0.0.3", 53)]


def test_every_option_may_stand_in_the_file(base, conf) -> None:
    path, _ = conf
    path.write_text(
        "nameserver 127.0.0.2\n"
        "options ndots:2 timeout:1.5 attempts:2 max-timeouts:4 max-inflight:5 randomize-case:0\n"
        "options bind-to:192.0.2.9 initial-probe-timeout:6 max-probe-timeout:70\n"
        "options probe-backoff-factor:8 getaddrinfo-allow-skew:9 so-rcvbuf:10 so-sndbuf:11\n"
        "options\ttcp-idle-timeout:12 use-vc ignore-tc edns-udp-size:4096 rotate no-aaaa\n"
        "options single-request trust-ad no-reload debug inet6 no-such:1 attempts:x\n"
    )
    with Resolver(base, resolv_conf=str(path), hosts="/dev/null") as resolver:
        assert resolver.options == ResolverOptions(
            ndots=2,
            timeout_s=1.5,
            attempts=2,
            max_timeouts=4,
            max_inflight=5,
            randomize_case=False,
            bind_to=("192.0.2.9", 53),
            initial_probe_timeout_s=6,
            max_probe_timeout_s=70,
            probe_backoff_factor=8,
            getaddrinfo_skew_s=9,
            receive_buffer_bytes=10,
            send_buffer_bytes=11,
            tcp_idle_s=12,
            use_vc=True,
            ignore_tc=True,
            edns_udp_bytes=4096,
            rotate=True,
            no_aaaa=True,
            single_request=True,
            trust_ad=True,
            follow_files=False,
        )


@pytest.mark.parametrize(
    ("option", "field", "most"),
    [("ndots", "ndots", 15), ("timeout", "timeout_s", 30), ("attempts", "attempts", 5)],
)
@pytest.mark.parametrize("beyond", [0, 1])
def test_a_file_has_the_caps_of_glibc_and_the_program_has_not(
    base, conf, option, field, most, beyond
) -> None:
    """resolv.conf(5): more is silently taken for the cap."""
    path, _ = conf
    path.write_text(f"options {option}:{most + beyond}\n")
    with Resolver(base, resolv_conf=str(path), hosts="/dev/null") as resolver:
        assert getattr(resolver.options, field) == most
        resolver.set_option(option, str(most + beyond))
        assert getattr(resolver.options, field) == most + beyond


def test_a_file_that_sets_another_option_leaves_what_the_program_has_beyond_the_caps(
    base, conf
) -> None:
    path, _ = conf
    path.write_text("options rotate\n")
    options = ResolverOptions(ndots=16, timeout_s=31, attempts=6)
    with Resolver(base, resolv_conf=str(path), hosts="/dev/null", options=options) as resolver:
        assert resolver.options == replace(options, rotate=True)
