"""What libevent's own suite, and RFC 3986, insist on of URIs, queries and headers, row by row.

What is taken apart as a whole is in test_uri.py, encoding in test_encoding.py, headers in
test_headers.py; here is what each part may be by itself, and what nobody does to it.
"""

from __future__ import annotations

import pytest

from evsvc.core.errors import ArgumentError
from evsvc.http import (
    EVHTTP_URI_HOST_STRIP_BRACKETS,
    EVHTTP_URI_NONCONFORMANT,
    EVHTTP_URI_QUERY_LAST_VAL,
    EVHTTP_URI_QUERY_NONCONFORMANT,
    EVHTTP_URI_UNIX_SOCKET,
    Headers,
    HttpUri,
    KeyValues,
    parse_query,
    parse_query_str,
    uridecode,
    uriencode,
)

BOTH = EVHTTP_URI_QUERY_NONCONFORMANT | EVHTTP_URI_QUERY_LAST_VAL


class TestParts:
    @pytest.mark.parametrize(
        "text",
        [
            "HTTP://WWW.Test.COM:80/%7euser/../a/./b?Q=%41#F",
            "http://%30%2a.example.com/",
            "http://@h/",
            "http://:@h:1/",
            "http://h/?a?b#c?d",
            "http://h//a//b",
            "http:",
            "http:?q",
            "h.t+t-p:path",
            "//",
            "?q",
            "../a;b=c,d",
            "./a:b",
            "urn:a:b:c",
            "http://[::]:1?",
            "http://[VF.a]/",
            "ftp://user%40h:pass@h/a!$&'()*+,;=:@",
        ],
    )
    def test_nothing_is_decoded_folded_or_normalised(self, text: str) -> None:
        for flags in (0, EVHTTP_URI_NONCONFORMANT, EVHTTP_URI_HOST_STRIP_BRACKETS):
            assert HttpUri.parse(text, flags).join() == text

    @pytest.mark.parametrize(
        ("text", "part", "value"),
        [
            ("HTTP://h/", "scheme", "HTTP"),
            ("http://H%41/", "host", "H%41"),
            ("http://@h/", "userinfo", ""),
            ("http://u:p:q@h/", "userinfo", "u:p:q"),
            ("http://u@h/a@b", "userinfo", "u"),
            ("http://h/a@b", "userinfo", None),
            ("http://h?a@b", "host", "h"),
            ("http://h#a@b:c", "host", "h"),
            ("//", "host", ""),
            ("http:/a", "host", None),
            ("http:a//b", "path", "a//b"),
            ("h:8000", "path", "8000"),
            ("http://h/?a?b#c?d", "query", "a?b"),
            ("http://h/?a?b#c?d", "fragment", "c?d"),
            ("http://h/#", "fragment", ""),
            ("http://h/", "fragment", None),
        ],
    )
    def test_where_a_part_begins_and_ends(self, text: str, part: str, value: object) -> None:
        assert getattr(HttpUri.parse(text), part) == value

    @pytest.mark.parametrize(
        ("digits", "port"),
        [
            ("0", 0),
            ("1", 1),
            ("65535", 65535),
            ("080", 80),
            ("0000000080", 80),
            ("00065535", 65535),
        ],
    )
    def test_a_port_is_any_digits_up_to_65535(self, digits: str, port: int) -> None:
        """RFC 3986 3.2.3; zeros before them are no more."""
        assert HttpUri.parse(f"http://h:{digits}/").port == port

    @pytest.mark.parametrize(
        "digits", ["65536", "00065536", "1" * 5000, "-1", "+1", "8 0", "\u0663", "0x50", "80:80"]
    )
    def test_anything_else_is_no_port(self, digits: str) -> None:
        for flags in (0, EVHTTP_URI_NONCONFORMANT):
            with pytest.raises(ArgumentError):
                HttpUri.parse(f"http://h:{digits}/", flags)

    @pytest.mark.parametrize(
        "text", [":hihi", ":", "://h/", "1http://h/", "-a:b", "a b:c", "\u00e9:b", "http ://h/"]
    )
    def test_what_is_before_a_colon_and_no_scheme_is_no_path_either(self, text: str) -> None:
        for flags in (0, EVHTTP_URI_NONCONFORMANT):
            with pytest.raises(ArgumentError):
                HttpUri.parse(text, flags)

    @pytest.mark.parametrize("where", ["http://{}/", "http://{}@h/", "http://u:{}@h/"])
    @pytest.mark.parametrize("bad", [" ", "\x01", "\x7f", "\u00e9", "%", "%7g", "[", "\\", "^"])
    def test_host_and_userinfo_stay_strict(self, where: str, bad: str) -> None:
        for flags in (0, EVHTTP_URI_NONCONFORMANT):
            with pytest.raises(ArgumentError):
                HttpUri.parse(where.format(f"a{bad}b"), flags)

    @pytest.mark.parametrize("where", ["http://h/{}", "http://h/?{}", "http://h/#{}", "/{}"])
    @pytest.mark.parametrize(
        "bad", [" ", "\x01", "\x7f", "\u00e9", "%", "%7", "%7g", "[", "\\", "\n"]
    )
    def test_the_others_are_strict_unless_that_is_asked_for(self, where: str, bad: str) -> None:
        text = where.format(f"a{bad}")
        with pytest.raises(ArgumentError):
            HttpUri.parse(text)
        assert HttpUri.parse(text, EVHTTP_URI_NONCONFORMANT).join() == text


class TestSetters:
    @pytest.mark.parametrize(
        ("part", "value"),
        [
            ("scheme", "a1+-."),
            ("userinfo", ""),
            ("userinfo", "a:b%20;="),
            ("host", ""),
            ("host", "a_b~%41"),
            ("host", "[v1.a:b]"),
            ("port", 0),
            ("port", 65536),
            ("path", ""),
            ("path", "/a:b@c"),
            ("query", ""),
            ("query", "a?b/c"),
            ("fragment", "a?b/c"),
        ],
    )
    def test_a_value_that_fits_is_kept_as_it_is(self, part: str, value: object) -> None:
        uri = HttpUri.parse("http://h/p")
        setattr(uri, part, value)
        assert getattr(uri, part) == value

    @pytest.mark.parametrize("part", ["path", "query", "fragment"])
    def test_they_go_by_the_flags_as_they_are_then(self, part: str) -> None:
        uri = HttpUri()
        with pytest.raises(ArgumentError, match=part):
            setattr(uri, part, "a b")
        uri.flags = EVHTTP_URI_NONCONFORMANT
        setattr(uri, part, "/a b%")
        assert getattr(uri, part) == "/a b%"
        uri.flags = 0
        with pytest.raises(ArgumentError, match=part):
            setattr(uri, part, "/a b%")
        assert getattr(uri, part) == "/a b%"

    def test_brackets_are_stripped_by_the_flags_as_they_are_then(self) -> None:
        uri = HttpUri()
        uri.host = "[::1]"
        assert uri.host == "[::1]"
        uri.flags = EVHTTP_URI_HOST_STRIP_BRACKETS
        assert uri.host == "[::1]"
        uri.host = "[::1]"
        assert (uri.host, uri.join()) == ("::1", "//[::1]")
        uri.host = None
        assert (uri.host, uri.join()) == (None, "")

    def test_a_path_needs_its_slash_behind_a_host_alone(self) -> None:
        uri = HttpUri()
        uri.path = "hi_mom"
        assert uri.join() == "hi_mom"
        uri.host = ""
        with pytest.raises(ArgumentError, match="hi_mom"):
            uri.join()
        uri.path = ""
        assert uri.join() == "//"

    def test_a_uri_is_made_part_by_part(self) -> None:
        uri = HttpUri()
        uri.scheme, uri.userinfo, uri.host, uri.port = "http", "u:p", "h.test", 8080
        uri.path, uri.query, uri.fragment = "/a", "b=c", "d"
        assert uri.join() == "http://u:p@h.test:8080/a?b=c#d"


class TestUnix:
    @pytest.mark.parametrize(
        "text",
        [
            "http://unix:/run/x.sock:",
            "http://unix:/run/a b@c?d#e.sock:/",
            "http://unix:/x:?q#f",
            "http://@unix:x:/",
            "//unix:x:/p",
        ],
    )
    def test_the_path_of_a_socket_runs_to_the_next_colon(self, text: str) -> None:
        uri = HttpUri.parse(text, EVHTTP_URI_UNIX_SOCKET)
        path = text.partition("unix:")[2].partition(":")[0]
        assert (uri.unixsocket, uri.port, uri.join()) == (path, -1, text)

    def test_any_text_may_be_set(self) -> None:
        uri = HttpUri.parse("http://h:80/p", EVHTTP_URI_UNIX_SOCKET)
        uri.unixsocket = "/run/a b"
        assert uri.join() == "http://unix:/run/a b:/p"
        uri.unixsocket = None
        assert uri.join() == "http://h:80/p"


class TestQuery:
    @pytest.mark.parametrize(
        ("text", "flags", "expected"),
        [
            ("q=test", 0, [("q", "test")]),
            ("q=test&foo=bar", 0, [("q", "test"), ("foo", "bar")]),
            ("q=test+foo", 0, [("q", "test foo")]),
            ("q=test%0Afoo", 0, [("q", "test\nfoo")]),
            ("q=test%0Dfoo", 0, [("q", "test\rfoo")]),
            ("q=&q2=", 0, [("q", ""), ("q2", "")]),
            ("q=a=b&r==", 0, [("q", "a=b"), ("r", "=")]),
            ("q=%zz%4&r=%", 0, [("q", "%zz%4"), ("r", "%")]),
            ("q&q2=foo", BOTH, [("q", ""), ("q2", "foo")]),
            ("q=foo&q2", BOTH, [("q", "foo"), ("q2", "")]),
            ("&&=1&q=1&&", BOTH, [("q", "1")]),
            ("q=1&Q=2&q=3", EVHTTP_URI_QUERY_LAST_VAL, [("q", "3")]),
            ("q=1&q&r=2", BOTH, [("q", ""), ("r", "2")]),
        ],
    )
    def test_a_query_string(self, text: str, flags: int, expected: list[tuple[str, str]]) -> None:
        assert list(parse_query_str(text, flags)) == expected

    def test_the_flags_are_for_the_query_of_a_whole_uri_too(self) -> None:
        text = "http://www.test.com/?q=1&&q=2&r#q=3"
        with pytest.raises(ArgumentError):
            parse_query(text)
        assert list(parse_query(text, BOTH)) == [("q", "2"), ("r", "")]
        assert list(parse_query("?q=1")) == [("q", "1")]

    def test_a_look_up_gives_the_first_and_ignores_case(self) -> None:
        pairs = parse_query_str("Q=1&q=2")
        assert (pairs.find("q"), pairs.get_all("q")) == ("1", ["1", "2"])


class TestText:
    @pytest.mark.parametrize("plus", [False, True])
    def test_each_byte_is_encoded_and_comes_back(self, plus: bool) -> None:
        every = bytes(range(256))
        text = uriencode(every, plus)
        assert uridecode(text, plus) == every
        kept = "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
        assert "".join(char for char in kept if uriencode(char, plus) == char) == kept
        assert len(text) == 66 + 3 * 190 - (2 if plus else 0)

    @pytest.mark.parametrize(
        ("text", "data"),
        [
            ("%", b"%"),
            ("%%", b"%%"),
            ("%a", b"%a"),
            ("%aG", b"%aG"),
            ("%Aa%aA", b"\xaa\xaa"),
            ("%00a", b"\0a"),
            ("%u0041", b"%u0041"),
            ("% 1", b"% 1"),
            ("%2", b"%2"),
            ("%252F", b"%2F"),
            ("", b""),
        ],
    )
    def test_an_escape_has_two_digits(self, text: str, data: bytes) -> None:
        assert uridecode(text) == data


class TestHeaders:
    """evkeyvalq, and what may not be in a header."""

    @pytest.mark.parametrize("kind", [Headers, KeyValues])
    def test_the_first_is_found_and_taken_out(self, kind: type[KeyValues]) -> None:
        headers = kind((("One", "1"), ("Two", "2"), ("one", "3")))
        assert headers.find("ONE") == "1"
        assert headers.remove("oNE")
        assert list(headers) == [("Two", "2"), ("one", "3")]
        assert headers.remove("one")
        assert not headers.remove("one")
        headers.clear()
        assert (len(headers), headers.find("Two")) == (0, None)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("", "a"), ("One\r", "a"), ("One\n", "a"), ("One", "Two\r"), ("One", "Two\n")],
    )
    def test_what_would_end_a_line_is_refused_and_nothing_is_changed(
        self, name: str, value: str
    ) -> None:
        headers = Headers((("One", "1"),))
        with pytest.raises(ArgumentError):
            headers.add(name, value)
        with pytest.raises(ArgumentError):
            headers.replace(name, value)
        assert list(headers) == [("One", "1")]

    def test_a_folded_value_is_refused(self) -> None:
        """libevent sends it; RFC 9112 5.2 wants nobody to."""
        with pytest.raises(ArgumentError, match="Three"):
            Headers().add("One", "Two\r\n Three")
