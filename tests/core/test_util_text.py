"""Comparing, trimming and reading numbers, whatever the locale."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.core import ArgumentError
from evsvc.core.util import (
    ascii_strcasecmp,
    ascii_strncasecmp,
    rtrim_lws,
    strtoll,
)

Text = str | bytes


@pytest.mark.parametrize(
    ("one", "other", "sign"),
    [
        ("ABC", "ABC", 0),
        ("ABC", "abc", 0),
        ("ABC", "abcd", -1),
        ("ABC", "abb", 1),
        ("ABCd", "abc", 1),
        ("", "a", -1),
        (b"ABC", b"abc", 0),
        ("É", "é", -1),  # beyond ASCII a capital is another letter, and the lesser one
        (b"\xc9", b"\xe9", -1),
    ],
)
def test_case_does_not_count(one: Text, other: Text, sign: int) -> None:
    """Casecmp: ABC=abc, ABC<abcd, ABC>abb; bytes >127 compared as is."""
    assert ascii_strcasecmp(one, other) == sign
    assert ascii_strcasecmp(other, one) == -sign


@pytest.mark.parametrize(
    ("one", "other", "size", "sign"),
    [
        ("Libe", "LibEvEnT", 4, 0),
        ("Lib", "LibEvEnT", 4, -1),
        ("ABC", "LibEvEnT", 4, -1),
        ("LibEvEnT", "LibeX", 4, 0),
        ("a", "b", 0, 0),
    ],
)
def test_only_the_first_characters_count(one: str, other: str, size: int, sign: int) -> None:
    """strn: "Libe" = "LibEvEnT" for 4, "Lib" < for 4."""
    assert ascii_strncasecmp(one, other, size) == sign
    assert ascii_strncasecmp(other, one, size) == -sign


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ArgumentError, match="-1"):
        ascii_strncasecmp("a", "a", -1)


@pytest.mark.parametrize(
    ("text", "trimmed"),
    [
        ("", ""),
        (" ", ""),
        (" \t", ""),
        ("hello \t ", "hello"),
        ("  hello", "  hello"),
        ("hello\r\n", "hello\r\n"),
        ("hello \v", "hello \v"),
        ("hel lo", "hel lo"),
    ],
)
def test_rtrim_strips_space_and_tab_at_the_end(text: str, trimmed: str) -> None:
    """rtrim strips only trailing space and tab."""
    assert rtrim_lws(text) == trimmed


@pytest.mark.parametrize(
    ("text", "base", "number", "end"),
    [
        ("5000000000", 10, 5000000000, 10),
        ("-5000000000", 10, -5000000000, 11),
        ("  -99999stuff", 10, -99999, 8),
        ("\t\n+7", 10, 7, 4),
        ("0x1f", 10, 0, 1),
        ("0x1f", 16, 31, 4),
        ("ffG", 16, 255, 2),
        ("0x1f", 0, 31, 4),
        ("-0X1F", 0, -31, 5),
        ("0xg", 0, 0, 1),
        ("0x", 16, 0, 1),
        ("017", 0, 15, 3),
        ("089", 0, 0, 1),
        ("99", 0, 99, 2),
        ("178", 8, 15, 2),
        ("", 10, 0, 0),
        ("  -", 10, 0, 0),
        ("stuff", 10, 0, 0),
        ("٣", 10, 0, 0),
        ("000000000000000000000000000001", 10, 1, 30),
        ("9223372036854775807", 10, 2**63 - 1, 19),
        ("-9223372036854775808", 10, -(2**63), 20),
    ],
)
def test_strtoll_tells_where_it_stopped(text: str, base: int, number: int, end: int) -> None:
    """evutil_strtoll: 64-bit parse, skips blanks, accepts sign, base 0/10/16."""
    assert strtoll(text, base) == (number, end)


@pytest.mark.parametrize(
    "text", ["9223372036854775808", "-9223372036854775809", "0x8000000000000000", "9" * 5000]
)
def test_strtoll_refuses_more_than_64_bits(text: str) -> None:
    with pytest.raises(ArgumentError, match="64 bits"):
        strtoll(text, 0)


@pytest.mark.parametrize("base", [1, 2, 37, -10])
def test_strtoll_refuses_another_base(base: int) -> None:
    with pytest.raises(ArgumentError, match=str(base)):
        strtoll("1", base)


@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from([(8, "o"), (10, "d"), (16, "x")]))
def test_strtoll_reads_every_number(number: int, base: tuple[int, str]) -> None:
    text = format(number, base[1])
    assert strtoll(f" {text} ", base[0]) == (number, len(text) + 1)
