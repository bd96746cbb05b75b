"""URIs: what libevent's own suite insists on, and our limits beside it."""

import pytest

from evsvc.core.errors import ArgumentError
from evsvc.http.uri import (
    EVHTTP_URI_HOST_STRIP_BRACKETS,
    EVHTTP_URI_NONCONFORMANT,
    EVHTTP_URI_UNIX_SOCKET,
    HttpUri,
    parse_query,
)

MALFORMED = [
    "http://www.\x01.test.com/",
    "http://www.%7test.com/",
    "h%3ttp://example.com/",
    "99:99/foo",
    "http://www.example.com:999x/",
    "http://www.example.com:x/",
    "http://www.example.com:hihi/",
    "http://www.example.com:65536/",
    "http://www.example.com:" + "9" * 37 + "/",
    "http://[hello-there]/",
    "http://[::1]]/",
    "http://[::1/",
    "http://[",
    "http://[/",
    "http://[]/",
    "http://[" + ":".join(["ffff"] * 14) + "]/",
    "http://[vX.foo]/",
    "http://[v.foo]/",
    "http://[v5.fo%o]/",
    "http://[v5X]/",
    "http://[v5]/",
    "http://[fe80::1%25eth0]/",
    "http://f\x01red@www.example.com/",
    "http://f%0red@www.example.com/",
    "http://a@b@c/",
    "://www.example.com/",
]
LOOSE = [
    "http://www.example.com/a b",
    "http://www.example.com/\x01",
    "http://www.example.com/?\x01",
    "http://www.example.com/#\x01",
    "http://www.example.com/%",
    "http://www.example.com/%7",
    "http://www.example.com/%xy",
    "http://www.example.com/?%xy",
    "http://www.example.com/?q=%7",
    "http://www.example.com/#%7",
]
# text: scheme, userinfo, host, port, path, query, fragment
WELL_FORMED = {
    "http://www.test.com/": ("http", None, "www.test.com", -1, "/", None, None),
    "http://www.test.com?q=test": ("http", None, "www.test.com", -1, "", "q=test", None),
    "http://:8000/": ("http", None, "", 8000, "/", None, None),
    "http://8000/": ("http", None, "8000", -1, "/", None, None),
    "http://u:p%20w@h:65535/": ("http", "u:p%20w", "h", 65535, "/", None, None),
    "mailto:foo@bar": ("mailto", None, None, -1, "foo@bar", None, None),
    "///a/b": (None, None, "", -1, "/a/b", None, None),
    "//h/p": (None, None, "h", -1, "/p", None, None),
    "/s:ome/x": (None, None, None, -1, "/s:ome/x", None, None),
    "relative/path/co:lon": (None, None, None, -1, "relative/path/co:lon", None, None),
    "bob?q=99&q2=q?33#fr?ed": (None, None, None, -1, "bob", "q=99&q2=q?33", "fr?ed"),
    "#fr?ed": (None, None, None, -1, "", None, "fr?ed"),
    "": (None, None, None, -1, "", None, None),
    "http://h/?": ("http", None, "h", -1, "/", "", None),
    "ftp://[ff00::127.0.0.1]/": ("ftp", None, "[ff00::127.0.0.1]", -1, "/", None, None),
    "ftp://[v99.not_(any:time)_soon]/": (
        "ftp",
        None,
        "[v99.not_(any:time)_soon]",
        -1,
        "/",
        None,
        None,
    ),
}


def parts(uri: HttpUri) -> tuple[object, ...]:
    return uri.scheme, uri.userinfo, uri.host, uri.port, uri.path, uri.query, uri.fragment


@pytest.mark.parametrize("flags", [0, EVHTTP_URI_NONCONFORMANT])
@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_uri_is_refused_with_its_value(text: str, flags: int) -> None:
    with pytest.raises(ArgumentError, match="not "):
        HttpUri.parse(text, flags)


@pytest.mark.parametrize("text", LOOSE)
def test_nonconformant_loosens_path_query_and_fragment_only(text: str) -> None:
    with pytest.raises(ArgumentError):
        HttpUri.parse(text)
    assert HttpUri.parse(text, EVHTTP_URI_NONCONFORMANT).join() == text


@pytest.mark.parametrize("text", ["http://h/\0", "http://h/?\0", "http://h/#\0"])
def test_nul_is_never_part_of_a_uri(text: str) -> None:
    with pytest.raises(ArgumentError):
        HttpUri.parse(text, EVHTTP_URI_NONCONFORMANT)


@pytest.mark.parametrize(("text", "expected"), WELL_FORMED.items())
def test_a_uri_is_split_and_joined_unchanged(text: str, expected: tuple[object, ...]) -> None:
    uri = HttpUri.parse(text)
    assert parts(uri) == expected
    assert uri.join() == str(uri) == text


@pytest.mark.parametrize(
    ("text", "joined"), [("http://h:/", "http://h/"), ("http://h:", "http://h")]
)
def test_an_empty_port_is_none_and_its_colon_is_dropped(text: str, joined: str) -> None:
    uri = HttpUri.parse(text)
    assert (uri.host, uri.port) == ("h", -1)
    assert uri.join() == joined


def test_a_fresh_uri_is_empty() -> None:
    assert parts(HttpUri()) == (None, None, None, -1, "", None, None)
    assert HttpUri().join() == ""
    assert HttpUri().authority is None
    assert "HttpUri" in repr(HttpUri())


def test_strip_brackets_hides_them_and_join_restores_them() -> None:
    uri = HttpUri.parse("ftp://[ff00::127.0.0.1]:21/", EVHTTP_URI_HOST_STRIP_BRACKETS)
    assert uri.host == "ff00::127.0.0.1"
    assert uri.join() == "ftp://[ff00::127.0.0.1]:21/"
    uri.host = "foo"
    assert uri.join() == "ftp://foo:21/"
    uri.host = "[ff00::127.0.0.1]"
    assert uri.host == "ff00::127.0.0.1"
    assert uri.join() == "ftp://[ff00::127.0.0.1]:21/"


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("host", "[1.2.3.4]"),
        ("host", "["),
        ("host", "www.[foo].com"),
        ("port", -3),
        ("scheme", ""),
        ("scheme", "33"),
        ("scheme", "hi!"),
        ("userinfo", "hello@"),
        ("path", "a?b"),
        ("path", "a#b"),
        ("path", "a b"),
        ("query", "a#b"),
        ("fragment", "a#b"),
    ],
)
def test_a_setter_refuses_what_its_part_cannot_hold(part: str, value: object) -> None:
    uri = HttpUri.parse("http://h/p?q#f")
    with pytest.raises(ArgumentError, match="not "):
        setattr(uri, part, value)
    assert uri.join() == "http://h/p?q#f"


def test_none_clears_a_part() -> None:
    uri = HttpUri.parse("http://u@h:1/p?q#f")
    uri.scheme = uri.userinfo = uri.query = uri.fragment = None
    uri.port = -1
    assert uri.join() == "//h/p"
    uri.host = None
    assert uri.join() == "/p"


def test_join_wants_a_slash_between_host_and_path() -> None:
    uri = HttpUri()
    uri.host = "www.example.com"
    uri.path = "hi_mom"
    with pytest.raises(ArgumentError, match="hi_mom"):
        uri.join()
    uri.path = "/hi_mom"
    assert uri.join() == "//www.example.com/hi_mom"


def test_join_counts_the_nul_in_its_limit() -> None:
    uri = HttpUri.parse("http://h/")
    assert uri.join(max_bytes=10) == "http://h/"
    with pytest.raises(ArgumentError, match="9 bytes"):
        uri.join(max_bytes=9)


@pytest.mark.parametrize(
    ("text", "userinfo", "path", "tail"),
    [
        ("http://unix:/run/x.sock:/ctl", None, "/run/x.sock", "/ctl"),
        ("http://u:p@unix:/tmp/foobar/:/foo", "u:p", "/tmp/foobar/", "/foo"),
        ("http://unix:a:", None, "a", ""),
    ],
)
def test_the_unix_form_needs_its_flag(
    text: str, userinfo: str | None, path: str, tail: str
) -> None:
    uri = HttpUri.parse(text, EVHTTP_URI_UNIX_SOCKET)
    assert (uri.userinfo, uri.unixsocket, uri.host, uri.path) == (userinfo, path, "", tail)
    assert uri.join() == text
    assert _unixsocket_without_flag(text) is None
    uri.unixsocket = None
    assert "unix:" not in uri.join()


def _unixsocket_without_flag(text: str) -> str | None:
    try:
        return HttpUri.parse(text).unixsocket
    except ArgumentError:
        return None


@pytest.mark.parametrize(
    "text", ["http://unix:/run/x.sock/ctl", "http://unix:a", "http://unix:a:b", "http://unix:a://b"]
)
def test_the_unix_form_needs_its_closing_colon(text: str) -> None:
    with pytest.raises(ArgumentError):
        HttpUri.parse(text, EVHTTP_URI_UNIX_SOCKET)


def test_the_flag_leaves_other_uris_alone() -> None:
    uri = HttpUri.parse("http://u@h:8/p", EVHTTP_URI_UNIX_SOCKET)
    assert (uri.unixsocket, uri.host, uri.port) == (None, "h", 8)


def test_the_query_of_a_whole_uri_is_decoded() -> None:
    pairs = parse_query("http://www.test.com/?q=test+this%21&a=1#f")
    assert list(pairs) == [("q", "test this!"), ("a", "1")]
    assert list(parse_query("http://www.test.com/")) == []


@pytest.mark.parametrize("text", ["http://www.test.com/a b?q=1", "http://h/?q"])
def test_parse_query_wants_a_uri_and_a_strict_query(text: str) -> None:
    with pytest.raises(ArgumentError):
        parse_query(text)
