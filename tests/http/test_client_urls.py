"""URLs, redirects, proxies and who we are: what the client makes of them, without a socket."""

from __future__ import annotations

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError
from evsvc.http import BasicAuth, BearerAuth, Proxies, RedirectPolicy, RedirectRefused
from evsvc.http.client.redirects import follow
from evsvc.http.client.target import Origin, parse_target

PLAIN = parse_target("http://a.example/dir/page?x=1#top")
SECURE = parse_target("https://a.example/dir/page")


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("http://a.example", ("http", "a.example", 80), "/"),
        ("HTTP://A.Example:8080/x", ("http", "a.example", 8080), "/x"),
        ("https://a.example?q", ("https", "a.example", 443), "/?q"),
        ("https://[::1]:4443/x#frag", ("https", "::1", 4443), "/x"),
        ("http://a/ü ö?é=ñ&b=%20", ("http", "a", 80), "/%C3%BC%20%C3%B6?%C3%A9=%C3%B1&b=%20"),
        ("http://a/100%", ("http", "a", 80), "/100%25"),
        ("http://a/{x}|y", ("http", "a", 80), "/%7Bx%7D%7Cy"),
    ],
)
def test_a_url_is_taken_apart(url: str, origin: tuple[str, str, int], path: str) -> None:
    target = parse_target(url)
    assert (tuple(target.origin), target.path) == (origin, path)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.example",
        "/path",
        "ftp://a.example/",
        "http://",
        "http://a:0/",
        "http://a:99999/",
        "http://ü.example/",
        "http://a b/",
        "http://a\r\nb/",
    ],
)
def test_what_is_no_http_url_raises_with_its_value(url: str) -> None:
    with pytest.raises(ArgumentError):
        parse_target(url)
    with pytest.raises(ArgumentTypeError):
        parse_target(url.encode())  # type: ignore[arg-type]


def test_user_and_password_are_taken_out_of_the_url() -> None:
    target = parse_target("http://us%20er:p%40ss@a.example/x")
    assert target.auth == BasicAuth("us er", "p@ss")
    assert target.url == "http://a.example/x"
    assert "p@ss" not in repr(target.auth)
    assert "secret" not in repr(BearerAuth("secret"))


def test_who_we_are_is_written_as_the_rfcs_have_it() -> None:
    assert BasicAuth("Aladdin", "open sesame").field_value() == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert BearerAuth("mF_9.B5f-4.1JqM").field_value() == "Bearer mF_9.B5f-4.1JqM"
    for bad in ("", "a\r\nb", "ü"):
        with pytest.raises(ArgumentError):
            BearerAuth(bad)
    with pytest.raises(ArgumentError, match="a:b"):
        BasicAuth("a:b")


@pytest.mark.parametrize(
    ("method", "status", "then", "keeps_body"),
    [
        ("GET", 301, "GET", True),
        ("POST", 301, "GET", False),
        ("PUT", 301, "PUT", True),
        ("POST", 302, "GET", False),
        ("HEAD", 302, "HEAD", True),
        ("POST", 303, "GET", False),
        ("PUT", 303, "GET", False),
        ("HEAD", 303, "HEAD", False),
        ("POST", 307, "POST", True),
        ("DELETE", 308, "DELETE", True),
    ],
)
def test_a_redirect_keeps_or_changes_the_method(
    method: str, status: int, then: str, keeps_body: bool
) -> None:
    redirect = follow(RedirectPolicy(), PLAIN, method, status, "/next", 0)
    assert redirect is not None
    assert (redirect.method, redirect.keeps_body) == (then, keeps_body)


@pytest.mark.parametrize("status", [200, 300, 304, 305, 306, 404])
def test_no_other_status_is_followed(status: int) -> None:
    assert follow(RedirectPolicy(), PLAIN, "GET", status, "/next", 0) is None


@pytest.mark.parametrize(
    ("location", "url", "fragment"),
    [
        ("next", "http://a.example/dir/next", "top"),
        ("../up?y#new", "http://a.example/up?y", "new"),
        ("//b.example/x", "http://b.example/x", "top"),
        ("?z=2", "http://a.example/dir/page?z=2", "top"),
        ("https://a.example/", "https://a.example/", "top"),
        ("/ü", "http://a.example/%C3%BC", "top"),
    ],
)
def test_a_location_is_read_beside_the_url_before(location: str, url: str, fragment: str) -> None:
    redirect = follow(RedirectPolicy(), PLAIN, "GET", 302, location, 0)
    assert redirect is not None
    assert (redirect.target.url, redirect.target.fragment) == (url, fragment)


@pytest.mark.parametrize(
    ("location", "keeps"),
    [
        ("/same", True),
        ("http://a.example:80/same", True),
        ("http://a.example:81/port", False),
        ("http://b.example/host", False),
        ("https://a.example/scheme", False),
    ],
)
def test_secrets_stay_with_their_origin(location: str, keeps: bool) -> None:
    redirect = follow(RedirectPolicy(), PLAIN, "GET", 302, location, 0)
    assert redirect is not None
    assert redirect.keeps_secrets is keeps


def test_another_server_gives_us_no_identity() -> None:
    redirect = follow(RedirectPolicy(), PLAIN, "GET", 302, "http://u:p@b.example/", 0)
    assert redirect is not None
    assert redirect.target.auth is None


def test_redirects_are_bounded_and_go_nowhere_bad() -> None:
    policy = RedirectPolicy(max_redirects=2)
    assert follow(policy, PLAIN, "GET", 302, "/", 1) is not None
    with pytest.raises(RedirectRefused, match="more than 2 redirects"):
        follow(policy, PLAIN, "GET", 302, "/", 2)
    for bad in ("ftp://a.example/", "http://a b/", "http://[::1", "javascript:alert(1)"):
        with pytest.raises(RedirectRefused, match="leads nowhere"):
            follow(policy, PLAIN, "GET", 302, bad, 0)
    with pytest.raises(RedirectRefused, match="from https to http"):
        follow(policy, SECURE, "GET", 302, "http://a.example/", 0)
    lax = RedirectPolicy(allow_downgrade=True)
    assert follow(lax, SECURE, "GET", 302, "http://a.example/", 0) is not None
    assert follow(RedirectPolicy(max_redirects=0), PLAIN, "GET", 302, "/", 0) is None
    with pytest.raises(ArgumentError):
        RedirectPolicy(max_redirects=-1)


def test_the_environment_names_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert Proxies.from_environment() == Proxies()
    monkeypatch.setenv("http_proxy", "http://user:pass@proxy.example:3128")
    monkeypatch.setenv("all_proxy", "other.example:8080")
    monkeypatch.setenv("no_proxy", "internal.example, .local.example,10.0.0.1,[::1]:99")
    proxies = Proxies.from_environment()
    found = proxies.find(Origin("http", "a.example", 80))
    assert found is not None
    assert tuple(found.origin) == ("http", "proxy.example", 3128)
    assert found.fields() == (("Proxy-Authorization", "Basic dXNlcjpwYXNz"),)
    secure = proxies.find(Origin("https", "a.example", 443))
    assert secure is not None
    assert (tuple(secure.origin), secure.fields()) == (("http", "other.example", 8080), ())
    for host, port, straight in (
        ("internal.example", 80, True),
        ("x.internal.example", 80, True),
        ("notinternal.example", 80, False),
        ("x.local.example", 80, True),
        ("10.0.0.1", 80, True),
        ("::1", 99, True),
        ("::1", 98, False),
    ):
        assert (proxies.find(Origin("http", host, port)) is None) is straight
    assert Proxies(http="p:1", no_proxy="*").find(Origin("http", "a", 80)) is None


@pytest.mark.parametrize("url", ["socks5://p:1080", "http://", "http://p/path", "p:0"])
def test_what_is_no_proxy_raises(url: str) -> None:
    with pytest.raises(ArgumentError):
        Proxies(http=url)
