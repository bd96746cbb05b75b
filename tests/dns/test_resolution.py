"""The course of one lookup, without sockets: every reply in every state, and what names mean."""

from __future__ import annotations

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
    DNS_ERR_UNKNOWN,
    DNS_QUERY_USEVC,
    ResolverOptions,
)
from evsvc.dns.resolver.resolution import Resolution, Step, list_candidates
from evsvc.dns.wire.replies import Reply, parse_name, randomize_case

NAME = parse_name("www.example.com")
OTHER = parse_name("www.example.net")
TARGET = parse_name("cdn.example.org")


def make(*names: dns.name.Name, flags: int = 0, **options: object) -> Resolution:
    return Resolution(list(names or (NAME,)), dns.rdatatype.A, flags, ResolverOptions(**options))


def take(resolution: Resolution, result: int, other_server: bool = False, **fields) -> Step:
    return resolution.take_reply(Reply(result, **fields), other_server=other_server)


@pytest.mark.parametrize(
    "result",
    [
        DNS_ERR_NODATA,
        DNS_ERR_NOTEXIST,
        DNS_ERR_FORMAT,
        DNS_ERR_NOTIMPL,
        DNS_ERR_REFUSED,
        DNS_ERR_UNKNOWN,
    ],
)
def test_an_error_reply_leads_to_the_next_candidate(result) -> None:
    resolution = make(NAME, OTHER)
    resolution.note_sent()
    assert take(resolution, result, ttl_s=3) is Step.ASK
    assert resolution.question.name == OTHER
    assert take(resolution, result, ttl_s=7) is Step.DONE
    assert (resolution.answer.result, resolution.answer.ttl_s) == (result, 7)
    assert resolution.answer.addresses == ()


def test_a_timeout_ends_the_search() -> None:
    resolution = make(NAME, OTHER, attempts=2)
    resolution.note_sent()
    assert resolution.take_failure() is Step.RETRANSMIT
    resolution.note_sent()
    assert resolution.take_failure() is Step.DONE
    assert resolution.answer.result == DNS_ERR_TIMEOUT


def test_servfail_counts_as_a_failure() -> None:
    resolution = make(attempts=2)
    resolution.note_sent()
    assert take(resolution, DNS_ERR_SERVERFAILED) is Step.RETRANSMIT
    resolution.note_sent()
    assert take(resolution, DNS_ERR_SERVERFAILED) is Step.DONE
    assert resolution.answer.result == DNS_ERR_TIMEOUT


@pytest.mark.parametrize("result", [DNS_ERR_NOTIMPL, DNS_ERR_REFUSED])
def test_an_unwilling_server_is_replaced_once(result) -> None:
    resolution = make()
    assert take(resolution, result, other_server=True) is Step.RETRANSMIT
    assert take(resolution, result, other_server=True) is Step.DONE
    assert resolution.answer.result == result


def test_a_cut_reply_turns_to_tcp_with_all_attempts_and_only_for_this_candidate() -> None:
    resolution = make(NAME, OTHER, attempts=1)
    resolution.note_sent()
    assert take(resolution, DNS_ERR_TRUNCATED) is Step.ASK
    assert resolution.over_tcp
    assert resolution.question.name == NAME
    assert take(resolution, DNS_ERR_TRUNCATED) is Step.ASK
    assert not resolution.over_tcp
    assert resolution.question.name == OTHER


@pytest.mark.parametrize("way", [{"flags": DNS_QUERY_USEVC}, {"use_vc": True}])
def test_tcp_may_be_wanted_from_the_start(way) -> None:
    resolution = make(**way)
    assert resolution.over_tcp
    assert take(resolution, DNS_ERR_TRUNCATED) is Step.DONE


def test_formerr_to_edns_is_asked_again_without() -> None:
    resolution = make(edns_udp_bytes=1232)
    assert resolution.edns_udp_bytes == 1232
    assert take(resolution, DNS_ERR_FORMAT) is Step.ASK
    assert resolution.edns_udp_bytes == 512
    assert take(resolution, DNS_ERR_FORMAT) is Step.DONE


def dangling(target: dns.name.Name, links: int = 1) -> dict[str, object]:
    return {"canonical_name": target, "dangling": True, "links": links}


def test_an_open_alias_is_followed_and_named_in_the_answer() -> None:
    resolution = make()
    assert take(resolution, DNS_ERR_NODATA, **dangling(TARGET)) is Step.ASK
    assert resolution.question.name == TARGET
    assert take(resolution, DNS_ERR_NONE, addresses=("10.0.0.1",), ttl_s=5) is Step.DONE
    answer = resolution.answer
    assert (answer.addresses, answer.canonical_name) == (("10.0.0.1",), "cdn.example.org")


@pytest.mark.parametrize("links", [0, 1, 5])
def test_aliases_are_followed_up_to_cname_links(links) -> None:
    resolution = make(cname_links=links)
    for index in range(links):
        alias = parse_name(f"alias{index}.example")
        assert take(resolution, DNS_ERR_NODATA, **dangling(alias)) is Step.ASK
    assert take(resolution, DNS_ERR_NODATA, **dangling(TARGET)) is Step.DONE
    assert resolution.answer.result == DNS_ERR_NODATA


def test_the_random_case_is_taken_out_of_the_canonical_name() -> None:
    """A server that compresses gives the ending of our own question back."""
    resolution = make()
    labels = (b"cdn", *resolution.question.name.labels[1:])
    take(resolution, DNS_ERR_NONE, canonical_name=dns.name.Name(labels), links=1)
    assert resolution.answer.canonical_name == "cdn.example.com"


def test_the_case_of_a_canonical_name_that_is_not_ours_is_kept() -> None:
    resolution = make(parse_name("a.b"))
    take(resolution, DNS_ERR_NONE, canonical_name=parse_name("CDN.Example.ORG"), links=1)
    assert resolution.answer.canonical_name == "CDN.Example.ORG"


def test_restart_gives_all_attempts_back() -> None:
    resolution = make(attempts=1)
    resolution.note_sent()
    resolution.restart()
    assert resolution.take_failure() is Step.RETRANSMIT


def texts(names: list[dns.name.Name]) -> list[str]:
    return [name.to_text() for name in names]


SUFFIXES = [parse_name("a.example"), parse_name("b.example")]


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
    assert [len(name.to_wire()) for name in candidates] == lengths


def test_random_case_changes_letters_alone() -> None:
    name = parse_name("abcdefghijklmnopqrstuvwxyz0123456789-_.example.com")
    seen = {randomize_case(name).labels for _ in range(8)}
    assert len(seen) == 8
    assert {tuple(label.lower() for label in labels) for labels in seen} == {name.labels}
