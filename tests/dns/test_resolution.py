"""The course of one lookup, without sockets: every reply in every state, and what names mean."""

from __future__ import annotations

import os

import dns.name
import dns.rdatatype
import pytest

from evsvc.dns import (
    DNS_ERR_FORMAT,
    DNS_ERR_NODATA,
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    DNS_ERR_NOTIMPL,
    DNS_ERR_REFUSED,
    DNS_ERR_SERVERFAILED,
    DNS_ERR_TIMEOUT,
    DNS_ERR_TRUNCATED,
    ResolverOptions,
)
from evsvc.dns.resolver.answer import Answer
from evsvc.dns.resolver.nameservers import Nameserver
from evsvc.dns.resolver.resolution import Resolution, Step
from evsvc.dns.resolver.search import list_candidates, rank
from evsvc.dns.wire.names import DomainName, domain_name, parse_name, randomize_case, wire_of
from evsvc.dns.wire.records import Record
from evsvc.dns.wire.replies import Query, Question, Reply, parse_reply

NAME = domain_name("www.example.com")
TARGET = parse_name("cdn.example.org")
FOUND = (Record("www.example.com", 1, 5, "10.0.0.1"),)


def make(servers: int = 1, **options: object) -> Resolution:
    ways = {name: options.pop(name) for name in ("use_vc", "ignore_tc") if name in options}
    line = [Nameserver((f"10.0.0.{index}", 53)) for index in range(servers)]
    question = Question(NAME, dns.rdatatype.A)
    return Resolution(question, ResolverOptions(**options), lambda number: line, **ways)


def take(resolution: Resolution, result: int, had_edns: bool = False, **fields: object) -> Step:
    server = resolution.server
    assert server is not None
    return resolution.take_reply(server, Reply(result, **fields), had_edns=had_edns)


def asked(resolution: Resolution) -> list[str]:
    """Have each nameserver be silent, and return in which order they were asked."""
    order = []
    while resolution.next_server():
        order.append(resolution.server.address[0])
        assert resolution.take_loss() is Step.NEXT
    return order


def test_attempts_are_rounds_through_all_nameservers() -> None:
    resolution = make(3, attempts=2)
    assert asked(resolution) == ["10.0.0.0", "10.0.0.1", "10.0.0.2"] * 2
    assert resolution.answer.result == DNS_ERR_TIMEOUT


@pytest.mark.parametrize("result", [DNS_ERR_NOTIMPL, DNS_ERR_REFUSED, DNS_ERR_FORMAT, 66])
def test_a_nameserver_that_refuses_is_not_asked_for_it_again(result) -> None:
    resolution = make(2, attempts=2)
    assert resolution.next_server()
    assert take(resolution, result) is Step.NEXT
    assert asked(resolution) == ["10.0.0.1"] * 2
    assert resolution.answer.result == result


def test_servfail_is_asked_again_in_the_next_round_and_told() -> None:
    resolution = make(2, attempts=2)
    for _ in range(4):
        assert resolution.next_server()
        assert take(resolution, DNS_ERR_SERVERFAILED) is Step.NEXT
    assert not resolution.next_server()
    assert resolution.answer.result == DNS_ERR_SERVERFAILED


def test_a_late_failure_disturbs_nothing_and_a_late_answer_counts() -> None:
    resolution = make(2)
    assert resolution.next_server()
    first = resolution.server
    assert resolution.next_server()
    late = Reply(DNS_ERR_SERVERFAILED)
    assert resolution.take_reply(first, late, had_edns=False) is Step.WAIT
    good = Reply(DNS_ERR_NONE, FOUND, 5)
    assert resolution.take_reply(first, good, had_edns=False) is Step.DONE
    assert resolution.answer == Answer(DNS_ERR_NONE, FOUND, 5, "www.example.com")


@pytest.mark.parametrize("result", [DNS_ERR_NODATA, DNS_ERR_NOTEXIST])
def test_an_absence_is_an_answer(result) -> None:
    resolution = make(2)
    assert resolution.next_server()
    assert take(resolution, result, ttl_s=3) is Step.DONE
    assert (resolution.answer.result, resolution.answer.ttl_s) == (result, 3)


def test_a_cut_reply_turns_to_tcp_at_the_same_nameserver() -> None:
    resolution = make(2)
    assert resolution.next_server()
    assert take(resolution, DNS_ERR_TRUNCATED) is Step.SAME
    assert resolution.over_tcp
    assert resolution.server.address[0] == "10.0.0.0"
    assert take(resolution, DNS_ERR_TRUNCATED) is Step.NEXT
    assert resolution.next_server()
    assert not resolution.over_tcp


@pytest.mark.parametrize("ignore", ["flag", "option"])
def test_a_cut_reply_is_the_answer_where_cuts_are_ignored(ignore) -> None:
    resolution = make(2, ignore_tc=True)
    assert resolution.next_server()
    assert take(resolution, DNS_ERR_TRUNCATED) is Step.DONE
    assert resolution.answer.result == DNS_ERR_TRUNCATED


def test_tcp_may_be_wanted_from_the_start() -> None:
    resolution = make(use_vc=True)
    assert resolution.next_server()
    assert resolution.over_tcp
    assert take(resolution, DNS_ERR_TRUNCATED) is Step.NEXT


@pytest.mark.parametrize("result", [DNS_ERR_FORMAT, DNS_ERR_NOTIMPL])
def test_an_error_to_edns_is_asked_again_without_and_remembered(result) -> None:
    resolution = make()
    assert resolution.next_server()
    assert take(resolution, result, had_edns=True) is Step.SAME
    assert not resolution.server.takes_edns
    assert take(resolution, result) is Step.NEXT


def test_doubted_letters_go_over_tcp_and_where_that_is_refused_in_plain_ones() -> None:
    resolution = make()
    assert resolution.next_server()
    server = resolution.server
    assert resolution.doubt(server) is Step.SAME
    assert resolution.over_tcp
    assert not server.changes_letters
    assert resolution.take_loss() is Step.SAME
    assert (resolution.over_tcp, server.changes_letters) == (False, True)
    assert resolution.take_loss() is Step.NEXT


def dangling(target: dns.name.Name, links: int = 1) -> dict[str, object]:
    return {"canonical_name": target, "dangling": True, "links": links}


def test_an_open_alias_is_followed_and_named_and_its_ttl_counts() -> None:
    resolution = make()
    assert resolution.next_server()
    assert take(resolution, DNS_ERR_NODATA, ttl_s=2, **dangling(TARGET)) is Step.AGAIN
    assert resolution.question.name.dnspython == TARGET
    assert resolution.next_server()
    assert take(resolution, DNS_ERR_NONE, records=FOUND, ttl_s=5) is Step.DONE
    answer = resolution.answer
    assert (answer.name, answer.is_alias, answer.ttl_s) == ("cdn.example.org", True, 2)


@pytest.mark.parametrize("links", [0, 1, 5])
def test_aliases_are_followed_up_to_cname_links(links) -> None:
    resolution = make(cname_links=links)
    for index in range(links):
        assert resolution.next_server()
        alias = parse_name(f"alias{index}.example")
        assert take(resolution, DNS_ERR_NODATA, **dangling(alias)) is Step.AGAIN
    assert resolution.next_server()
    assert take(resolution, DNS_ERR_NODATA, **dangling(TARGET)) is Step.DONE
    assert resolution.answer.result == DNS_ERR_NODATA


@pytest.mark.parametrize(
    ("target", "expected"),
    [("cdn.example.com.", "cdn.example.com"), ("CDN.Example.ORG.", "CDN.Example.ORG")],
)
def test_the_random_case_is_taken_out_of_names(make_reply, target, expected) -> None:
    """A server that compresses gives the ending of our own question back."""
    question = Question(NAME, dns.rdatatype.A)
    query = Query(question, 1, noise=os.urandom(len(NAME.wire)))
    packet = make_reply(query.packet, f"{query.asked} 5 CNAME {target}", f"{target} 5 A 10.0.0.1")
    reply = parse_reply(packet.to_wire(), query, 16)
    assert reply.canonical_name.to_text(True) == expected
    assert [record.name for record in reply.records] == [expected]


def test_restart_gives_all_rounds_back() -> None:
    resolution = make(attempts=1)
    assert len(asked(resolution)) == 1
    resolution.restart()
    assert len(asked(resolution)) == 1


def test_failures_outrank_absences() -> None:
    order = [DNS_ERR_NOTEXIST, DNS_ERR_NODATA, DNS_ERR_REFUSED, DNS_ERR_TIMEOUT]
    ranks = [rank(Answer(result)) for result in order]
    assert ranks == sorted(set(ranks))
    assert rank(Answer(DNS_ERR_REFUSED)) == rank(Answer(DNS_ERR_SERVERFAILED))


def texts(names: list[DomainName]) -> list[str]:
    return [f"{name.text}." for name in names]


SUFFIXES = [domain_name("a.example"), domain_name("b.example")]


@pytest.mark.parametrize(
    ("text", "ndots", "expected"),
    [
        ("host", 1, ["host.a.example.", "host.b.example.", "host."]),
        ("host.x", 1, ["host.x.", "host.x.a.example.", "host.x.b.example."]),
        ("host.x", 2, ["host.x.a.example.", "host.x.b.example.", "host.x."]),
        ("host", 0, ["host.", "host.a.example.", "host.b.example."]),
        ("host.", 1, ["host."]),
        ("bücher", 1, ["xn--bcher-kva.a.example.", "xn--bcher-kva.b.example.", "xn--bcher-kva."]),
    ],
)
def test_candidates_follow_ndots_and_the_search_list(text, ndots, expected) -> None:
    assert texts(list_candidates(text, SUFFIXES, ndots)) == expected


@pytest.mark.parametrize(("last", "lengths"), [(60, [245, 255]), (61, [246])])
def test_a_candidate_that_would_be_too_long_is_left_out(last, lengths) -> None:
    """The most are 255 bytes, RFC 1035 section 2.3.4; ".a.example" takes ten."""
    text = ".".join(["x" * 60, "x" * 60, "x" * 60, "x" * last])
    candidates = list_candidates(text, SUFFIXES[:1], 1)
    assert [len(name.wire) for name in candidates] == lengths


def test_random_case_changes_letters_alone() -> None:
    wire = wire_of(parse_name("abcdefghijklmnopqrstuvwxyz0123456789-_.@[`{.example.com"))
    seen = {randomize_case(wire, os.urandom(len(wire))) for _ in range(8)}
    assert len(seen) == 8
    assert {each.lower() for each in seen} == {wire}


def test_random_case_leaves_bytes_beyond_ascii_alone() -> None:
    wire = wire_of(dns.name.Name([bytes(range(0x80, 0xBF)), b""]))
    assert randomize_case(wire, os.urandom(len(wire))) == wire
