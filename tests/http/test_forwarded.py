"""Who a client behind proxies is, and that nobody else can say so."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.core import ArgumentError
from evsvc.http import Client, Headers, TrustedProxies
from evsvc.http.server.forwarded import MAX_HOPS, parse_forwarded, parse_node
from tests.http.peers import Peer, request

INSIDE = ["127.0.0.1", "10.0.0.0/8", "2001:db8:aaaa::/48"]


class Asked:
    """As much of a request as the walk looks at."""

    def __init__(self, *fields):
        self.input_headers = Headers(fields)


def client(*fields, peer="10.0.0.1", networks=INSIDE, takes=("for", "proto", "host"), **how):
    seen = Client(peer, 1234, "http", "inside:8080")
    return TrustedProxies(networks, takes=takes, **how).client_of(Asked(*fields), seen)


def by_for(*values, **how):
    return client(*(("X-Forwarded-For", value) for value in values), **how).address


def by_forwarded(*values, **how):
    return client(*(("Forwarded", value) for value in values), family="forwarded", **how)


class TestTheWalk:
    @pytest.mark.parametrize(
        ("values", "address"),
        [
            ([], "10.0.0.1"),
            (["192.0.2.1"], "192.0.2.1"),
            (["192.0.2.9, 192.0.2.1"], "192.0.2.1"),
            (["192.0.2.9", "192.0.2.1"], "192.0.2.1"),
            (["192.0.2.9, 192.0.2.1, 10.0.0.7"], "192.0.2.1"),
            (["192.0.2.1", "10.0.0.7, 2001:db8:aaaa::1"], "192.0.2.1"),
            (["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
            (["192.0.2.1, nonsense, 10.0.0.8"], "10.0.0.8"),
            (["192.0.2.1, 10.0.0.300"], "10.0.0.1"),
            (["192.0.2.1, ,10.0.0.8,"], "192.0.2.1"),
            (["192.0.2.1, unknown"], "unknown"),
            (["192.0.2.1, _hidden"], "_hidden"),
            (["192.0.2.1:8080"], "192.0.2.1"),
            (["[2001:db8::1]:8080"], "2001:db8::1"),
            (["2001:DB8::1"], "2001:db8::1"),
            (["::ffff:192.0.2.1"], "192.0.2.1"),
            (["192.0.2.1, ::ffff:10.0.0.3"], "192.0.2.1"),
        ],
    )
    def test_it_ends_at_the_first_that_is_not_trusted(self, values, address) -> None:
        assert by_for(*values) == address

    @pytest.mark.parametrize("peer", ["192.0.2.5", "11.0.0.1", "::1", ""])
    def test_who_is_not_trusted_is_not_believed(self, peer) -> None:
        seen = Client(peer, 1234, "http", "inside:8080")
        fields = (
            ("X-Forwarded-For", "192.0.2.1"),
            ("X-Forwarded-Proto", "https"),
            ("Forwarded", "for=192.0.2.1"),
        )
        assert client(*fields, peer=peer) == seen
        assert client(*fields, peer=peer, family="forwarded") == seen

    def test_the_family_that_the_proxy_does_not_write_is_not_looked_at(self) -> None:
        fields = (("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.9"))
        assert client(*fields).address == "192.0.2.1"
        assert client(*fields, family="forwarded").address == "192.0.2.9"

    def test_hops_at_the_limit_and_beyond(self) -> None:
        trusted = [f"10.0.1.{number}" for number in range(MAX_HOPS - 1, 0, -1)]
        assert by_for(", ".join(["192.0.2.1", *trusted])) == "192.0.2.1"
        assert by_for(", ".join(["192.0.2.1", "10.0.2.2", *trusted])) == "10.0.2.2"

    @pytest.mark.parametrize("peer", ["::ffff:10.0.0.1", "2001:db8:aaaa::5%eth0"])
    def test_a_peer_is_known_in_its_other_form(self, peer) -> None:
        assert by_for("192.0.2.1", peer=peer) == "192.0.2.1"

    def test_a_unix_socket_is_trusted_by_its_name(self) -> None:
        assert by_for("192.0.2.1", peer="", networks=["unix"]) == "192.0.2.1"
        assert by_for("192.0.2.1", peer="10.0.0.1", networks=["unix"]) == "10.0.0.1"


class TestSchemeAndHost:
    @pytest.mark.parametrize(
        ("nodes", "schemes", "scheme"),
        [
            ("192.0.2.1", "https", "https"),
            ("192.0.2.1", "HTTPS", "https"),
            ("192.0.2.1, 10.0.0.2", "https", "https"),
            ("192.0.2.9, 192.0.2.1", "https, http", "http"),
            ("192.0.2.1, 10.0.0.2", "https, http", "https"),
            ("192.0.2.1", "https, http", "http"),
            ("192.0.2.1", "", "http"),
            ("192.0.2.1", "ht tp", "http"),
            ("192.0.2.1", "1https", "http"),
            ("nonsense", "https", "http"),
        ],
    )
    def test_the_scheme_is_of_the_hop_that_is_believed(self, nodes, schemes, scheme) -> None:
        fields = (("X-Forwarded-For", nodes), ("X-Forwarded-Proto", schemes))
        assert client(*fields).scheme == scheme

    def test_a_proxy_may_tell_the_scheme_alone(self) -> None:
        assert client(("X-Forwarded-Proto", "https")) == ("10.0.0.1", 1234, "https", "inside:8080")

    @pytest.mark.parametrize(
        ("told", "host"),
        [
            ("shop.example", "shop.example"),
            ("shop.example:8443", "shop.example:8443"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
            ("a b", "inside:8080"),
            ("user@shop", "inside:8080"),
            ("shop:99999", "inside:8080"),
            ("shop/path", "inside:8080"),
        ],
    )
    def test_a_host_is_one_or_is_not_taken(self, told, host) -> None:
        fields = (("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Host", told))
        assert client(*fields).host == host

    @pytest.mark.parametrize("takes", [("for",), ("proto",), ("host",), ()])
    def test_only_what_the_proxy_writes_is_taken(self, takes) -> None:
        found = client(
            ("X-Forwarded-For", "192.0.2.1"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "shop"),
            takes=takes,
        )
        assert (found.address == "192.0.2.1") == ("for" in takes)
        assert (found.scheme == "https") == ("proto" in takes)
        assert (found.host == "shop") == ("host" in takes)

    def test_the_host_is_not_taken_unless_it_is_said(self) -> None:
        fields = (("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Host", "shop"))
        seen = Client("10.0.0.1", 1, "http", "inside")
        assert TrustedProxies(INSIDE).client_of(Asked(*fields), seen).host == "inside"


class TestForwarded:
    def test_an_element_says_it_all(self) -> None:
        line = 'for="[2001:db8::17]:4711";proto=https;host="shop.example:443";by=_me'
        assert by_forwarded(line) == ("2001:db8::17", 4711, "https", "shop.example:443")

    @pytest.mark.parametrize(
        ("lines", "address"),
        [
            (["for=192.0.2.1"], "192.0.2.1"),
            (["For=192.0.2.9, FOR=192.0.2.1"], "192.0.2.1"),
            (["for=192.0.2.9", "for=192.0.2.1"], "192.0.2.1"),
            (["for=192.0.2.1,for=10.0.0.2;proto=http , for=10.0.0.3"], "192.0.2.1"),
            (['for="192.0.2.1:80"'], "192.0.2.1"),
            (["for=192.0.2.1:80"], "10.0.0.1"),
            (['for="_gazonk"'], "_gazonk"),
            (["for=UNKNOWN"], "unknown"),
            (["for=192.0.2.1, proto=https"], "10.0.0.1"),
            (['for="2001:db8::1"'], "2001:db8::1"),
            (["nonsense", "for=10.0.0.2"], "10.0.0.2"),
            (["for=192.0.2.1", "nonsense"], "10.0.0.1"),
        ],
    )
    def test_the_walk(self, lines, address) -> None:
        assert by_forwarded(*lines).address == address

    @pytest.mark.parametrize(
        "first",
        ['for="', 'for=10.0.0.2;x="', 'x="\\', 'for=10.0.0.2;x="a\\"', 'for="10.0.0.2', '"'],
    )
    @pytest.mark.parametrize(
        "appended",
        [
            "for=192.0.2.1",
            'for="192.0.2.1"',
            'for="[2001:db8::1]";proto=https',
            'for=192.0.2.1;by="_x"',
            'for=192.0.2.1;by="_x";host="a"',
        ],
    )
    def test_a_quote_that_is_left_open_hides_nothing(self, first, appended) -> None:
        """What a client sends, and a proxy extends: in no way is the client's word believed."""
        assert by_forwarded(f"{first}, {appended}").address == "10.0.0.1"

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("", []),
            (" , ,", []),
            ("for=a", [{"for": "a"}]),
            ("for=a;", [{"for": "a"}]),
            (";for=a ; proto=b,,host=c", [{"for": "a", "proto": "b"}, {"host": "c"}]),
            ('for="a,b;c=\\"d\\\\"', [{"for": 'a,b;c="d\\'}]),
            ('for=""', [{"for": ""}]),
            ("for=a;FOR=b", None),
            ("for", None),
            ("for=", None),
            ("for =a", None),
            ("for= a", None),
            ("for=a b", None),
            ('for="a"b', None),
            ('for="a', None),
            ("for=[::1]", None),
            ("=a", None),
            ("for=a\x00", None),
        ],
    )
    def test_the_parser(self, value, expected) -> None:
        assert parse_forwarded(value) == expected

    @given(st.text(alphabet='for=;," \\[]:_1a', max_size=60))
    def test_the_parser_never_raises(self, value) -> None:
        elements = parse_forwarded(value)
        assert elements is None or all(elements)

    @given(
        st.lists(
            st.dictionaries(
                st.from_regex(r"[a-z]{1,5}", fullmatch=True),
                st.text(st.characters(min_codepoint=32, max_codepoint=126)),
                min_size=1,
                max_size=4,
            ),
            max_size=4,
        )
    )
    def test_what_is_quoted_comes_back(self, elements) -> None:
        def quote(text: str) -> str:
            return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

        lines = [
            ";".join(f"{name}={quote(text)}" for name, text in each.items()) for each in elements
        ]
        assert parse_forwarded(", ".join(lines)) == elements


class TestNodes:
    @pytest.mark.parametrize(
        ("node", "expected"),
        [
            ("192.0.2.1", ("192.0.2.1", 0)),
            ("192.0.2.1:65535", ("192.0.2.1", 65535)),
            ("192.0.2.1:65536", None),
            ("192.0.2.1:", None),
            ("192.0.2.1:x", None),
            ("192.0.2.1:_p", ("192.0.2.1", 0)),
            ("192.0.2", None),
            ("192.0.2.01", None),
            ("[2001:db8::1]", ("2001:db8::1", 0)),
            ("[2001:db8::1]:80", ("2001:db8::1", 80)),
            ("[2001:db8::1]80", None),
            ("[192.0.2.1]", None),
            ("[]", None),
            ("2001:db8::1", ("2001:db8::1", 0)),
            ("Unknown", ("unknown", 0)),
            ("unknown:80", ("unknown", 80)),
            ("_a.B-9", ("_a.B-9", 0)),
            ("_", None),
            ("_a b", None),
            ("host.example", None),
            ("", None),
            ("_" + "a" * 255, ("_" + "a" * 255, 0)),
            ("_" + "a" * 256, None),
        ],
    )
    def test_a_node(self, node, expected) -> None:
        assert parse_node(node) == expected

    @given(st.text(max_size=40))
    def test_no_text_raises(self, node) -> None:
        parse_node(node)


class TestServer:
    def test_a_handler_sees_the_client(self, serve) -> None:
        site = serve()
        site.server.set_trusted_proxies(TrustedProxies(["127.0.0.0/8"]))
        peer = site.connect()
        lines = ("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https")
        peer.send(request("/", *lines))
        (got,) = site.requests
        assert got.client == ("192.0.2.1", 0, "https", "h")
        assert got.remote_host == "127.0.0.1"
        peer.reset()
        assert got.client.address == "192.0.2.1", "also when it has gone"

    def test_without_proxies_it_is_the_peer(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/", "X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1"))
        assert site.requests[0].client == (*peer.sock.getsockname(), "http", "h")
        site.server.set_trusted_proxies(TrustedProxies(["127.0.0.1"]))
        assert site.requests[0].client.address == "192.0.2.1"
        site.server.set_trusted_proxies(None)
        assert site.requests[0].client.address == "127.0.0.1"

    def test_a_unix_socket(self, base, serve, tmp_path) -> None:
        site = serve()
        path = os.path.relpath(tmp_path / "s")
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock,
        ):
            listening.bind(path if len(path) < 100 else str(tmp_path / "s"))
            listening.listen()
            site.server.accept_socket(listening)
            site.server.set_trusted_proxies(TrustedProxies(["unix"]))
            sock.connect(listening.getsockname())
            Peer(base, sock).send(request("/", "X-Forwarded-For: 192.0.2.1"))
            assert site.requests[0].client.address == "192.0.2.1"
            site.server.close()


@pytest.mark.parametrize(
    ("networks", "how", "said"),
    [
        ([], {}, "no proxy"),
        ("10.0.0.0/8", {}, "several"),
        (["proxy.example"], {}, "proxy.example"),
        (["10.0.0.1/8"], {}, "10.0.0.1/8"),
        (["10.0.0.1"], {"family": "via"}, "via"),
        (["10.0.0.1"], {"takes": ["by"]}, "by"),
    ],
)
def test_bad_arguments_are_refused(networks, how, said) -> None:
    with pytest.raises(ArgumentError, match=said):
        TrustedProxies(networks, **how)
