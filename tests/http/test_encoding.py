"""Percent-encoding, query strings, HTML escaping."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.core.errors import ArgumentError
from evsvc.http.query import (
    EVHTTP_URI_QUERY_LAST_VAL,
    EVHTTP_URI_QUERY_NONCONFORMANT,
    encode_uri,
    htmlescape,
    parse_query_str,
    uridecode,
    uriencode,
)


@pytest.mark.parametrize("plus", [False, True])
def test_a_plus_is_encoded_in_both_modes(plus: bool) -> None:
    assert uriencode("1+2=3", plus) == "1%2B2%3D3"


def test_only_unreserved_characters_stay() -> None:
    kept = "ABCXYZabcxyz0189-._~"
    assert encode_uri(kept) == kept
    assert encode_uri("/?#[]@!$&'()*+,;= %") == (
        "%2F%3F%23%5B%5D%40%21%24%26%27%28%29%2A%2B%2C%3B%3D%20%25"
    )


def test_bytes_and_nul_are_encoded_in_upper_case() -> None:
    assert encode_uri(b"\xff\xf0\xe0") == "%FF%F0%E0"
    assert uriencode(b"a\0b c", True) == "a%00b+c"
    assert encode_uri("\u00e9") == "%C3%A9"


def test_a_malformed_escape_is_copied() -> None:
    assert uridecode("%%xhello") == b"%%xhello"
    assert uridecode("hello%20%20"[:6]) == b"hello%"
    assert uridecode("%4") == b"%4"
    assert uridecode("%%41") == b"%A"


def test_a_plus_is_a_space_only_when_asked() -> None:
    assert uridecode("a+b%2B%00") == b"a+b+\0"
    assert uridecode("a+b%2B", plus_as_space=True) == b"a b+"


@given(st.binary(), st.booleans())
def test_decoding_undoes_encoding(data: bytes, plus: bool) -> None:
    assert uridecode(uriencode(data, plus), plus) == data


def test_html_characters_become_entities() -> None:
    assert htmlescape('<a href="x">\'&amp;') == "&lt;a href=&quot;x&quot;&gt;&#039;&amp;amp;"
    assert htmlescape("plain") == "plain"


def test_keys_and_values_are_decoded() -> None:
    pairs = parse_query_str("q=a%20b+c&k%20=%0d%0a&q=2&v=a=b")
    assert list(pairs) == [("q", "a b c"), ("k ", "\r\n"), ("q", "2"), ("v", "a=b")]
    assert pairs.find("Q") == "a b c"
    assert pairs.get_all("q") == ["a b c", "2"]


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    assert parse_query_str("q=%ff").find("q") == "\ufffd"
    assert parse_query_str("q=%C3%A9").find("q") == "\u00e9"


@pytest.mark.parametrize("text", ["q=test&&q2", "q&q2=foo", "q=foo&q2", "=1", "&", "&q=1", "q=1&&"])
def test_a_strict_query_has_key_and_equals_sign(text: str) -> None:
    with pytest.raises(ArgumentError):
        parse_query_str(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("q=&q2=", [("q", ""), ("q2", "")]),
        ("q=1&", [("q", "1")]),
    ],
)
def test_a_value_may_be_empty(text: str, expected: list[tuple[str, str]]) -> None:
    assert list(parse_query_str(text)) == expected


def test_nonconformant_skips_what_is_empty() -> None:
    pairs = parse_query_str("q=test&&q2&=1&q3=", EVHTTP_URI_QUERY_NONCONFORMANT)
    assert list(pairs) == [("q", "test"), ("q2", ""), ("q3", "")]


def test_a_flag_may_be_repeated_where_nonconformant_is_asked_for() -> None:
    pairs = parse_query_str("flag&flag&a=1&&b=2", EVHTTP_URI_QUERY_NONCONFORMANT)
    assert pairs.get_all("flag") == ["", ""]
    assert (pairs.find("a"), pairs.find("b")) == ("1", "2")


def test_last_val_keeps_the_last_of_equal_keys() -> None:
    pairs = parse_query_str("q=1&a=2&q=3", EVHTTP_URI_QUERY_LAST_VAL)
    assert list(pairs) == [("a", "2"), ("q", "3")]


def test_a_whole_url_is_no_query_string() -> None:
    pairs = parse_query_str("http://www.test.com/?q=test")
    assert pairs.find("q") is None
    assert pairs.find("http://www.test.com/?q") == "test"
