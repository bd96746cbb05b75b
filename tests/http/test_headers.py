"""The multimap of header fields, and what it refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.core.errors import ArgumentError
from evsvc.http.wire.headers import (
    Headers,
    KeyValues,
    ReceivedHeaders,
    connection_options,
    wants_keep_alive,
)

TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~0aZ"


def test_look_up_ignores_case_and_gives_the_first() -> None:
    headers = Headers([("Set-Cookie", "a"), ("X-One", "1"), ("set-cookie", "b")])
    assert headers.find("SET-COOKIE") == "a"
    assert headers.get_all("Set-Cookie") == ["a", "b"]
    assert headers.find("absent") is None
    assert headers.get_all("absent") == []
    assert "x-one" in headers
    assert "absent" not in headers
    assert 1 not in headers


def test_order_and_spelling_are_kept() -> None:
    pairs = [("X-b", "1"), ("A", "2"), ("x-B", "3")]
    headers = Headers(pairs)
    assert list(headers) == pairs
    assert len(headers) == 3
    assert repr(headers) == f"Headers({pairs!r})"


def test_remove_takes_out_the_first_only() -> None:
    headers = Headers([("A", "1"), ("B", "2"), ("a", "3")])
    assert headers.remove("a")
    assert list(headers) == [("B", "2"), ("a", "3")]
    assert headers.remove("A")
    assert not headers.remove("A")
    assert list(headers) == [("B", "2")]


def test_replace_leaves_one_and_is_all_or_nothing() -> None:
    headers = Headers([("A", "1"), ("B", "2"), ("a", "3")])
    with pytest.raises(ArgumentError):
        headers.replace("a", "x\n")
    assert headers.get_all("a") == ["1", "3"]
    headers.replace("a", "4")
    assert list(headers) == [("B", "2"), ("a", "4")]
    headers.replace("New", "5")
    assert headers.find("new") == "5"


def test_clear_empties_and_copy_is_independent() -> None:
    headers = Headers([("A", "1")])
    twin = headers.copy()
    assert type(twin) is Headers
    headers.clear()
    assert (len(headers), list(headers), headers.find("a")) == (0, [], None)
    assert list(twin) == [("A", "1")]


def test_equality_compares_pairs_in_order_without_case_of_names() -> None:
    assert Headers([("A", "x")]) == Headers([("a", "x")])
    assert Headers([("A", "x")]) != Headers([("A", "X")])
    assert Headers([("A", "1"), ("B", "2")]) != Headers([("B", "2"), ("A", "1")])
    assert Headers() != []
    with pytest.raises(TypeError):
        hash(Headers())


@pytest.mark.parametrize("name", ["", "One\r", "One\n", "a b", "a:", "(a)", "\u00e9", "a\0", "a\t"])
def test_a_name_that_is_no_token_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="header name"):
        Headers().add(name, "x")


@pytest.mark.parametrize(
    "value", ["Two\r", "Two\n", "Two\r\n Three", "a\0b", "\x01", "\x0b", "\x7f", "\u20ac", "\ud800"]
)
@pytest.mark.parametrize("name", ["Content-Type", "X-Custom"])
def test_a_value_that_would_break_the_wire_is_refused(name: str, value: str) -> None:
    headers = Headers()
    with pytest.raises(ArgumentError) as caught:
        headers.add(name, value)
    assert repr(value) in str(caught.value)
    assert len(headers) == 0


@pytest.mark.parametrize("value", [5, None, b"x"])
def test_a_value_that_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(ArgumentError, match="not a str"):
        Headers().add("Content-Length", value)  # type: ignore[arg-type]


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(ArgumentError, match="b'A'"):
        Headers().add(b"A", "x")  # type: ignore[arg-type]


def test_blanks_around_a_value_are_dropped() -> None:
    headers = Headers([("A", " \tx \t y\t "), ("B", "  "), ("C", "\u00e9\u00ff")])
    assert list(headers) == [("A", "x \t y"), ("B", ""), ("C", "\u00e9\u00ff")]


@given(
    st.lists(
        st.tuples(
            st.text(TOKEN_CHARACTERS, min_size=1, max_size=8) | st.sampled_from(["Host", "date"]),
            st.text(st.characters(max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=12),
        )
    )
)
def test_a_block_gives_back_what_was_added(pairs: list[tuple[str, str]]) -> None:
    headers = Headers(pairs)
    assert list(Headers.from_block(headers.to_block())) == list(headers)
    assert Headers.from_block(headers.to_block()) == headers


def test_an_empty_block_has_no_fields() -> None:
    assert list(Headers.from_block(b"")) == []
    assert Headers().to_block() == b""


NAMES = ["Host", "host", "X-A", "x-a", "X", "x", "A-X", "Content-Type", "User-Agent"]
ASKED = [
    *NAMES,
    "",
    ":",
    "x:",
    "x: y",
    "X-A: x",
    "\r\nX",
    " x",
    "X ",
    "\u00e9",
    "\u212aey",
    "key",
    "\u0130",
]
VALUES = ["", "x", "x-a: 1", ": ", " \t y \t", "\u00e9\u00ff", "Host: x", "a\tb", "\u00c0"]
received_blocks = st.lists(
    st.tuples(
        st.sampled_from([*NAMES, "Key"]) | st.text(TOKEN_CHARACTERS, min_size=1, max_size=3),
        st.sampled_from([":", ": ", ":\t", ":  "]),
        st.sampled_from(VALUES)
        | st.text(st.characters(max_codepoint=0xFF, exclude_categories=["Cc"])),
        st.sampled_from(["", " ", "\t "]),
    ),
    max_size=6,
).map(lambda lines: "".join(f"{''.join(line)}\r\n" for line in lines).encode("latin-1"))


@given(received_blocks, st.lists(st.sampled_from(ASKED) | st.text(max_size=4), max_size=4))
def test_what_is_not_split_answers_as_what_is(block: bytes, asked: list[str]) -> None:
    split = Headers.from_block(block)
    received = ReceivedHeaders.from_block(block)
    for name in [*asked, *split.names, *(name.upper() for name, _ in split.pairs)]:
        assert received.find(name) == split.find(name)
        assert (name in received) == (name in split)
        assert ReceivedHeaders.from_block(block).get_all(name) == split.get_all(name)
    assert received == split
    assert list(received) == list(split)


def test_what_was_received_may_be_changed_after_a_look() -> None:
    received = ReceivedHeaders.from_block(b"A: 1\r\nB: 2\r\na: 3\r\n")
    assert received.find("a") == "1"
    assert None not in received
    received.add("C", "4")
    assert received.find("c") == "4"
    assert received.remove("A")
    assert received.find("a") == "3"
    twin = received.copy()
    received.clear()
    assert list(twin) == [("B", "2"), ("a", "3"), ("C", "4")]
    assert len(received) == 0
    assert list(ReceivedHeaders([("A", "1")])) == [("A", "1")]


def test_options_are_one_list_over_all_connection_lines() -> None:
    headers = Headers([("Connection", "Keep-Alive, ,Upgrade"), ("X", "y"), ("connection", "\tTE ")])
    assert connection_options(headers) == ["keep-alive", "upgrade", "te"]


@pytest.mark.parametrize(
    ("minor", "values", "expected"),
    [
        (1, [], True),
        (1, ["close"], False),
        (1, ["foo, CLOSE"], False),
        (1, ["keep-alive", "close"], False),
        (1, ["closed"], True),
        (0, [], False),
        (0, ["Keep-Alive"], True),
        (0, ["foo", "keep-alive"], True),
        (0, ["keep-alive, close"], False),
        (0, ["keep-alive-ish"], False),
    ],
)
def test_keep_alive_follows_version_and_options(
    minor: int, values: list[str], expected: bool
) -> None:
    headers = Headers([("Connection", value) for value in values])
    assert wants_keep_alive(headers, minor) is expected


def test_plain_pairs_hold_any_text() -> None:
    pairs = KeyValues([("q", "a\r\nb\u20ac")])
    assert pairs.find("Q") == "a\r\nb\u20ac"


@pytest.mark.parametrize("kind", [Headers, ReceivedHeaders])
def test_python_finds_its_own_protocols(kind: type[Headers]) -> None:
    """As a mapping it has the first value of each name; all pairs are there, too."""
    headers = kind([("A-b", "1"), ("C", "2"), ("a-B", "3")])
    assert dict(headers) == {"A-b": "1", "C": "2"}
    assert (headers.keys(), headers.values()) == (["A-b", "C"], ["1", "2", "3"])
    assert headers.items() == list(headers) == [("A-b", "1"), ("C", "2"), ("a-B", "3")]
    assert (headers["a-b"], headers.get("c"), headers.get("d"), headers.get("d", "x")) == (
        "1",
        "2",
        None,
        "x",
    )
    with pytest.raises(KeyError, match="d"):
        headers["d"]
